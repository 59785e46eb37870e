package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"

	"github.com/topfreegames/pitaya/v3/pkg/conn/packet"
	"github.com/topfreegames/pitaya/v3/pkg/util/compression"
)

// Cases about the connection: handshake, heartbeats, kick and close.

type handshakeReply struct {
	Code json.Number
	Sys  struct {
		Dict       map[string]uint16
		Heartbeat  json.Number
		Serializer string
	}
}

func handshake(r *run) {
	p := r.connectTapped()
	equal("connected", p.Connected, true)
	first := p.serverPackets()[0]
	equal("bytes of the first burst", p.tap.firstBurst, 4+len(first.Data))
	got := parseHandshake(first, first.Data)
	equal("code", got.Code, "200")
	equal("heartbeat as written", got.Sys.Heartbeat, "1")
	equal("serializer", got.Sys.Serializer, string(r.codec))
	equal("dict is an object", got.Sys.Dict != nil, true)
	equal("entries of dict", len(got.Sys.Dict), 0)
	p.expectEcho("after the handshake")
}

func parseHandshake(p *packet.Packet, body []byte) handshakeReply {
	equal("type of the first packet", p.Type, packet.Handshake)
	var reply handshakeReply
	if err := json.Unmarshal(body, &reply); err != nil {
		fail("handshake: expected plain JSON, got %s (%v)", show(body), err)
	}
	return reply
}

func handshakeWithoutUser(r *run) {
	r.newClient().version("2.1").dial(r.addr).expectEcho("no user in the handshake")
}

func handshakeRefused(r *run) {
	// The client does not look at the code, so the close is what protects the server.
	p := r.newClient().version(refusedVersion).tapped().dial("")
	p.expectTapClosed()
	packets := p.serverPackets()
	equal("code", parseHandshake(packets[0], packets[0].Data).Code, "400")
	equal("packets of the server", len(packets), 1)
	p.expectDisconnect(patience)
	r.connect().expectEcho("the next client is welcome")
}

func handshakeDictionaryPlain(r *run) {
	first := r.connectTapped().serverPackets()[0]
	equal("handshake is compressed", compression.IsCompressed(first.Data), false)
	expectDictionary(parseHandshake(first, first.Data))
}

func expectDictionary(reply handshakeReply) {
	if !maps.Equal(reply.Sys.Dict, dictionary) {
		fail("dict: expected %v, got %v", dictionary, reply.Sys.Dict)
	}
}

// probing is what Pitaya's command line client does: it tries one transport after the other on
// one port, and hangs if the server does not hang up on the wrong ones.
func probing(r *run) {
	start := time.Now()
	for _, t := range [...]transport{wss, ws, tlsOverTCP, tcp} {
		if t == r.transport {
			break
		}
		if t.connect(r.newClient().Client, r.addr, trustNobody) == nil {
			fail("%s: expected a refusal, got a connection", t)
		}
	}
	if took := time.Since(start); took > time.Second {
		fail("refusals: expected at most 1s, got %v", took)
	}
	r.connect().expectEcho("the right one at last")
}

func reconnect(r *run) {
	first := r.connect()
	first.expectReply("bind", r.codec.uid("reconnect"), r.codec.uid("reconnect"))
	first.Disconnect()
	second := r.connect()
	second.expectReply("whoami", nil, r.codec.uid(""))
	second.expectReply("bind", r.codec.uid("reconnect"), r.codec.uid("reconnect"))
}

func kick(r *run) {
	p := r.connectTapped()
	p.expectEcho("before the kick")
	askToBeKicked(p)
	p.expectTapClosed()
	expectKickLast(p)
	p.expectDisconnect(patience)
}

// askToBeKicked asks again where Go's server stumbled: it writes a kick past the queue of all else
// that it writes, and its WebSocket panics if a beat or an answer is being written.
func askToBeKicked(p *player) {
	collided := p.run.codec.failure("PIT-000", "concurrent write to websocket connection", nil)
	for range kicksMax {
		p.send("kickme", nil)
		select {
		case <-p.tap.serverClosed:
			return
		case m := <-p.inbox:
			if !m.Err || !bytes.Equal(m.Data, collided) {
				return
			}
		case <-time.After(patience):
			return
		}
	}
}

const kicksMax = 10

func expectKickLast(p *player) {
	packets := p.serverPackets()
	last := packets[len(packets)-1]
	if last.Type != packet.Kick {
		fail("last packet before the end: expected a kick, got %v", last)
	}
	logged := "got kick packet from the server! disconnecting..."
	for end := time.Now().Add(patience); !p.run.log.has(logged); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			fail("client log: expected %q, got none", logged)
		}
	}
}

func loginReplaced(r *run) {
	older, newer := r.connectTapped(), r.connect()
	uid := r.codec.uid("login-replaced")
	older.expectReply("bind", uid, uid)
	newer.expectReply("bind", uid, uid)
	older.expectTapClosed()
	expectKickLast(older)
	older.expectDisconnect(patience)
	newer.expectReply("whoami", nil, uid)
}

// heartbeat stays idle for more than four intervals of one second.
func heartbeat(r *run) {
	p := r.connectTapped()
	time.Sleep(4500 * time.Millisecond)
	equal("connected after the idle time", p.Connected, true)
	expectBeats("server", p.serverPackets())
	expectBeats("client", p.clientPackets())
	p.expectEcho("still here")
}

func expectBeats(whose string, packets []*packet.Packet) {
	beats := 0
	for _, p := range packets {
		if p.Type == packet.Heartbeat {
			sameBytes("heartbeat of the "+whose, p.Data, nil)
			beats++
		}
	}
	if beats < 3 || beats > 5 {
		fail("heartbeats of the %s in 4.5s: expected 3 to 5, got %d", whose, beats)
	}
	if packets[0].Type != packet.Handshake {
		fail("first packet of the %s: expected a handshake, got %v", whose, packets[0])
	}
}
