package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/topfreegames/pitaya/v3/pkg/client"
	"github.com/topfreegames/pitaya/v3/pkg/conn/message"
	"github.com/topfreegames/pitaya/v3/pkg/conn/packet"
	"github.com/topfreegames/pitaya/v3/pkg/logger"
	logruswrapper "github.com/topfreegames/pitaya/v3/pkg/logger/logrus"
	"github.com/topfreegames/pitaya/v3/pkg/session"
)

// run is one case in progress. Its checks end the case by panicking with a failure, so that a
// case reads as a straight list of what must happen.
type run struct {
	addr      string
	codec     codec
	transport transport
	trust     *tls.Config
	log       clientLog
}

type failure string

func fail(format string, args ...any) {
	panic(failure(fmt.Sprintf(format, args...)))
}

func must(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func equal[T comparable](what string, got, want T) {
	if got != want {
		fail("%s: expected %v, got %v", what, want, got)
	}
}

func sameBytes(what string, got, want []byte) {
	if !bytes.Equal(got, want) {
		fail("%s: expected %s, got %s", what, show(want), show(got))
	}
}

func show(body []byte) string {
	if len(body) > 300 {
		return fmt.Sprintf("%d bytes %q..", len(body), body[:300])
	}
	return fmt.Sprintf("%d bytes %q", len(body), body)
}

// player is one connection of Pitaya's own client.
type player struct {
	*client.Client
	run   *run
	tap   *tap // nil when connected directly
	inbox chan *message.Message
}

func (r *run) connect() *player {
	return r.newClient().dial(r.addr)
}

func (r *run) connectTapped() *player {
	return r.newClient().tapped().dial("")
}

func (r *run) newClient() *player {
	// The client's own timeout answers in the server's place, so it must never come first.
	c := client.New(logrus.WarnLevel, 2*patience)
	logger.Log = logruswrapper.NewWithFieldLogger(r.log.logger())
	return &player{Client: c, run: r, inbox: make(chan *message.Message, inboxMax)}
}

func (p *player) version(v string) *player {
	p.SetClientHandshakeData(&session.HandshakeData{Sys: session.HandshakeClientData{
		Platform: "mac", LibVersion: "0.3.5-release", BuildNumber: "20", Version: v,
	}})
	return p
}

func (p *player) tapped() *player {
	tap, err := newTap(p.run)
	must("listen for the tap", err)
	p.tap = tap
	return p
}

func (p *player) dial(addr string) *player {
	trust := p.run.trust
	if p.tap != nil {
		addr, trust = p.tap.addr, trustNobody
	}
	must("connect", p.run.transport.connect(p.Client, addr, trust))
	go func() {
		for m := range p.IncomingMsgChan {
			p.inbox <- m
		}
	}()
	return p
}

// send only writes the request; its reply comes through next.
func (p *player) send(method string, body []byte) uint {
	return p.sendTo(route(method), body)
}

func (p *player) sendTo(fullRoute string, body []byte) uint {
	id, err := p.SendRequest(fullRoute, body)
	must("send a request to "+fullRoute, err)
	return id
}

func (p *player) notify(method string, body []byte) {
	must("send a notify to "+method, p.SendNotify(route(method), body))
}

// call is a request whose reply must be the next message to come, and no error.
func (p *player) call(method string, body []byte) []byte {
	reply := p.reply(p.send(method, body))
	if reply.Err {
		fail("reply of %s: expected a success, got the error %s", method, show(reply.Data))
	}
	return reply.Data
}

func (p *player) expectReply(method string, body, want []byte) {
	sameBytes("reply of "+method, p.call(method, body), want)
}

func (p *player) expectEcho(msg string) {
	body := p.run.codec.text(msg)
	p.expectReply("echo", body, body)
}

func (p *player) expectFailure(
	fullRoute string, body []byte, code, msg string, metadata map[string]string,
) {
	reply := p.reply(p.sendTo(fullRoute, body))
	equal("error flag of the reply of "+fullRoute, reply.Err, true)
	want := p.run.codec.failure(code, msg, metadata)
	sameBytes("error of "+fullRoute, reply.Data, want)
}

func (p *player) reply(id uint) *message.Message {
	m := p.next()
	equal("type of the next message", m.Type, message.Response)
	equal("id of the reply", m.ID, id)
	return m
}

func (p *player) expectPush(route string, want []byte) {
	m := p.next()
	equal("type of the next message", m.Type, message.Push)
	equal("route of the push", m.Route, route)
	sameBytes("body of the push "+route, m.Data, want)
}

func (p *player) next() *message.Message {
	select {
	case m := <-p.inbox:
		return m
	case <-time.After(patience):
		fail("expected a message, got none within %v (connected: %v)", patience, p.Connected)
		return nil
	}
}

func (p *player) expectNothing(during time.Duration) {
	select {
	case m := <-p.inbox:
		fail("expected no message, got %v %q %s", m.Type, m.Route, show(m.Data))
	case <-time.After(during):
	}
}

func (p *player) expectDisconnect(within time.Duration) {
	for end := time.Now().Add(within); p.Connected; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			fail("expected the server to end the connection within %v, got none", within)
		}
	}
}

func (p *player) expectTapClosed() {
	select {
	case <-p.tap.serverClosed:
	case <-time.After(patience):
		fail("expected the server to close the connection, got none within %v", patience)
	}
}

func (p *player) serverPackets() []*packet.Packet {
	packets, err := p.tap.packetsFromServer()
	must("packets of the server", err)
	if len(packets) == 0 {
		fail("expected packets of the server, got none")
	}
	return packets
}

func (p *player) clientPackets() []*packet.Packet {
	packets, err := p.tap.packetsFromClient()
	must("packets of the client", err)
	return packets
}

// clientLog keeps what the client logs: a kick shows nowhere else.
type clientLog struct {
	mutex sync.Mutex
	lines []string
}

func (l *clientLog) logger() *logrus.Logger {
	log := quietLogger(false)
	log.AddHook(l)
	return log
}

func (l *clientLog) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

func (l *clientLog) Fire(entry *logrus.Entry) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.lines = append(l.lines, entry.Message)
	return nil
}

func (l *clientLog) has(line string) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, got := range l.lines {
		if got == line {
			return true
		}
	}
	return false
}

const (
	patience = 5 * time.Second
	inboxMax = 1024
)
