package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/topfreegames/pitaya/v3/pkg/conn/message"
)

// Cases about requests, notifies, sessions and pushes.

func request(r *run) {
	p := r.connect()
	p.expectEcho("good")
	p.expectEcho("")
	p.expectEcho("good again")
}

func requestUnicode(r *run) {
	r.connect().expectEcho("ação, 你好, \U0001F3AE, \"quoted\", tab\t, line\n")
}

func rawBytes(r *run) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	p := r.connect()
	p.expectReply("raw", every, every)
	p.expectReply("raw", []byte{0}, []byte{0})
}

func rawEmpty(r *run) {
	r.connect().expectReply("raw", nil, nil)
}

func shortRoute(r *run) {
	p := r.connect()
	body := r.codec.text("no server type")
	reply := p.reply(p.sendTo(componentName+".echo", body))
	sameBytes("reply", reply.Data, body)
}

// largeBody does not compress, and none of its packets is a multiple of 1024 bytes long: that
// is what the client reads at a time, and after a full read it waits for more.
func largeBody(r *run) {
	body := make([]byte, 60_001)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	p := r.connect()
	p.expectReply("raw", body, body)
	p.expectEcho("small again")
}

func largeText(r *run) {
	random := rand.New(rand.NewPCG(3, 4))
	var text strings.Builder
	for text.Len() < 50_001 {
		text.WriteByte("abcdefghijklmnopqrstuvwxyz012345"[random.IntN(32)])
	}
	r.connect().expectEcho(text.String())
}

func manyRequests(r *run) {
	p := r.connect()
	waiting := map[uint]string{}
	for i := range 100 {
		msg := fmt.Sprintf("request %d", i)
		waiting[p.send("echo", r.codec.text(msg))] = msg
	}
	for range 100 {
		m := p.next()
		msg, known := waiting[m.ID]
		equal(fmt.Sprintf("id %d is waiting", m.ID), known, true)
		equal("error flag", m.Err, false)
		sameBytes(fmt.Sprintf("reply %d", m.ID), m.Data, r.codec.text(msg))
		delete(waiting, m.ID)
	}
}

func callsInOrder(r *run) {
	p := r.connect()
	slow := p.send("slow", r.codec.number(300))
	quick := p.send("echo", r.codec.text("quick"))
	sameBytes("first reply", p.reply(slow).Data, r.codec.number(300))
	sameBytes("second reply", p.reply(quick).Data, r.codec.text("quick"))
}

func slowThenOk(r *run) {
	p := r.connect()
	start := time.Now()
	p.expectReply("slow", r.codec.number(300), r.codec.number(300))
	if took := time.Since(start); took < 300*time.Millisecond {
		fail("slow call: expected at least 300ms, got %v", took)
	}
	p.expectEcho("ok")
}

func slowElsewhere(r *run) {
	slow, quick := r.connect(), r.connect()
	id := slow.send("slow", r.codec.number(2000))
	start := time.Now()
	quick.expectEcho("not held up")
	if took := time.Since(start); took > time.Second {
		fail("call beside a slow one: expected at most 1s, got %v", took)
	}
	sameBytes("slow reply", slow.reply(id).Data, r.codec.number(2000))
}

func notify(r *run) {
	p := r.connect()
	p.expectReply("waves", nil, r.codec.number(0))
	for range 3 {
		p.notify("wave", nil)
	}
	// Pitaya for Go runs the calls of a session side by side, so the third may take a while.
	three := r.codec.number(3)
	for end := time.Now().Add(patience); string(p.call("waves", nil)) != string(three); {
		if time.Now().After(end) {
			fail("waves: expected 3, got %s", show(p.call("waves", nil)))
		}
	}
	p.expectNothing(100 * time.Millisecond)
	p.expectReply("waves", nil, three)
	r.connect().expectReply("waves", nil, r.codec.number(0))
}

func notifyOnRequestRoute(r *run) {
	p := r.connectTapped()
	p.notify("echo", r.codec.text("nobody waits"))
	expectNoAnswer(p)
}

func notifyUnknownRoute(r *run) {
	p := r.connectTapped()
	p.notify("nonexistenthandler", nil)
	expectNoAnswer(p)
}

// expectNoAnswer looks at the wire, because the client drops replies that it did not ask for.
func expectNoAnswer(p *player) {
	p.expectEcho("after the notify")
	p.expectNothing(100 * time.Millisecond)
	equal("responses", len(messages(p.serverPackets(), message.Response)), 1)
}

func bind(r *run) {
	p := r.connect()
	p.expectReply("whoami", nil, r.codec.uid(""))
	uid := r.codec.uid("bind " + string(r.codec))
	p.expectReply("bind", uid, uid)
	p.expectReply("whoami", nil, uid)
}

func bindTwice(r *run) {
	p := r.connect()
	uid := r.codec.uid("bind-twice")
	p.expectReply("bind", uid, uid)
	text := "session is already bound to an uid"
	p.expectFailure(route("bind"), r.codec.uid("someone else"), "PIT-000", text, nil)
	p.expectFailure(route("bind"), uid, "PIT-000", text, nil)
	p.expectReply("whoami", nil, uid)
}

func bindEmpty(r *run) {
	p := r.connect()
	p.expectFailure(route("bind"), r.codec.uid(""), "PIT-000", "illegal uid", nil)
	p.expectReply("whoami", nil, r.codec.uid(""))
}

func push(r *run) {
	p := r.connect()
	id := p.send("pushme", r.codec.number(1))
	p.expectPush(pushNumber, r.codec.number(1))
	sameBytes("reply of pushme", p.reply(id).Data, r.codec.number(1))
}

func pushRawBytes(r *run) {
	p := r.connect()
	body := []byte{0, 0xff, 0x78, 0x9c, '{'}
	id := p.send("pushraw", body)
	p.expectPush(pushRaw, body)
	sameBytes("reply of pushraw", p.reply(id).Data, body)
}

func pushesInOrder(r *run) {
	p := r.connect()
	id := p.send("pushme", r.codec.number(100))
	for n := int64(1); n <= 100; n++ {
		p.expectPush(pushNumber, r.codec.number(n))
	}
	sameBytes("reply of pushme", p.reply(id).Data, r.codec.number(100))
	p.expectNothing(100 * time.Millisecond)
}

func pushesToTheRightSession(r *run) {
	one, other := r.connect(), r.connect()
	id := one.send("pushraw", []byte("for one"))
	one.expectPush(pushRaw, []byte("for one"))
	sameBytes("reply of pushraw", one.reply(id).Data, []byte("for one"))
	other.expectNothing(200 * time.Millisecond)
	other.expectEcho("nothing came")
}
