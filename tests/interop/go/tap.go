package main

import (
	"bytes"
	"net"
	"sync"
	"time"

	packetcodec "github.com/topfreegames/pitaya/v3/pkg/conn/codec"
	"github.com/topfreegames/pitaya/v3/pkg/conn/message"
	"github.com/topfreegames/pitaya/v3/pkg/conn/packet"
)

// tap is a relay between client and server that keeps what passed. Pitaya's client hides flag
// bits, route codes, heartbeats and kicks; here they can be seen.
type tap struct {
	addr string

	mutex        sync.Mutex
	firstBurst   int // bytes of the server's first write, as far as they came together
	fromServer   bytes.Buffer
	fromClient   bytes.Buffer
	serverClosed chan struct{}
}

// The client panics when the end of the stream arrives while it is still setting itself up or
// handling a kick, so the end is passed on a little later than the bytes before it.
const endDelay = 100 * time.Millisecond

func newTap(r *run) (*tap, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tap{addr: listener.Addr().String(), serverClosed: make(chan struct{})}
	go func() {
		defer listener.Close()
		client, err := r.transport.accept(listener)
		if err != nil {
			return
		}
		upstream, err := r.transport.dial(r.addr, r.trust)
		if err != nil {
			client.Close()
			return
		}
		go t.relayToServer(client, upstream)
		t.relayToClient(client, upstream)
	}()
	return t, nil
}

func (t *tap) relayToServer(client, server link) {
	for {
		chunk, err := client.read()
		t.mutex.Lock()
		t.fromClient.Write(chunk)
		t.mutex.Unlock()
		if err != nil || server.write(chunk) != nil {
			server.Close()
			return
		}
	}
}

func (t *tap) relayToClient(client, server link) {
	defer client.Close()
	for {
		chunk, err := server.read()
		t.mutex.Lock()
		if t.fromServer.Len() == 0 {
			t.firstBurst = len(chunk)
		}
		t.fromServer.Write(chunk)
		t.mutex.Unlock()
		if err != nil {
			close(t.serverClosed)
			time.Sleep(endDelay)
			return
		}
		if client.write(chunk) != nil {
			return
		}
	}
}

func (t *tap) packetsFromServer() ([]*packet.Packet, error) { return t.packets(&t.fromServer) }
func (t *tap) packetsFromClient() ([]*packet.Packet, error) { return t.packets(&t.fromClient) }

func (t *tap) packets(seen *bytes.Buffer) ([]*packet.Packet, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return packetcodec.NewPomeloPacketDecoder().Decode(bytes.Clone(seen.Bytes()))
}

// messages are the bodies of the data packets of one type, still as they were on the wire.
func messages(packets []*packet.Packet, kind message.Type) [][]byte {
	var found [][]byte
	for _, p := range packets {
		if p.Type == packet.Data && len(p.Data) > 0 && p.Data[0]&flagType == byte(kind)<<1 {
			found = append(found, p.Data)
		}
	}
	return found
}

// The bits of a message's first byte.
const (
	flagCoded      = 0x01
	flagType       = 0x0e
	flagCompressed = 0x10
)
