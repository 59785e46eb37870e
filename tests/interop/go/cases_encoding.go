package main

import (
	"strings"

	"github.com/topfreegames/pitaya/v3/pkg/conn/message"
	"github.com/topfreegames/pitaya/v3/pkg/util/compression"
)

// Cases about what only the wire shows: route codes and compressed bodies.

func dictionaryRoutes(r *run) {
	p := r.connectTapped()
	first := p.serverPackets()[0]
	body := first.Data
	if compression.IsCompressed(body) {
		var err error
		body, err = compression.InflateData(body)
		must("inflate the handshake", err)
	}
	expectDictionary(parseHandshake(first, body))

	p.expectEcho("coded")
	p.expectReply("raw", []byte("two bytes"), []byte("two bytes"))
	p.notify("wave", nil)
	id := p.send("pushme", r.codec.number(1))
	p.expectPush(pushNumber, r.codec.number(1))
	p.reply(id)
	p.expectReply("whoami", nil, r.codec.uid(""))
	expectCodes(p)
}

// expectCodes makes sure that the client did code its routes, or the case shows nothing.
func expectCodes(p *player) {
	sent := p.clientPackets()
	requests := messages(sent, message.Request)
	equal("requests", len(requests), 4)
	sameBytes("head of echo", requests[0][:4], []byte{flagCoded, 1, 0x00, 0x01})
	sameBytes("head of raw", requests[1][:4], []byte{flagCoded, 2, 0x02, 0x03})
	equal("flag of whoami, which has no code", requests[3][0], 0)
	notifies := messages(sent, message.Notify)
	equal("notifies", len(notifies), 1)
	sameBytes("head of wave", notifies[0], []byte{byte(message.Notify)<<1 | flagCoded, 0x00, 0x04})
}

func compressionOn(r *run) {
	expectCompression(r, true)
}

func compressionOff(r *run) {
	expectCompression(r, false)
}

// expectCompression calls for a reply and a push that shrink a great deal.
func expectCompression(r *run, want bool) {
	p := r.connectTapped()
	text := strings.Repeat("again and ", 200)
	p.expectEcho(text)
	id := p.send("pushraw", []byte(text))
	p.expectPush(pushRaw, []byte(text))
	sameBytes("reply of pushraw", p.reply(id).Data, []byte(text))

	packets := p.serverPackets()
	equal("responses", len(messages(packets, message.Response)), 2)
	equal("pushes", len(messages(packets, message.Push)), 1)
	seen := append(messages(packets, message.Response), messages(packets, message.Push)...)
	for _, wire := range seen {
		equal("zlib flag", wire[0]&flagCompressed != 0, want)
		equal("is shorter than its text", len(wire) < len(text), want)
	}
}

func compressionOnlyIfShorter(r *run) {
	p := r.connectTapped()
	p.expectEcho("short")
	id := p.send("pushme", r.codec.number(1))
	p.expectPush(pushNumber, r.codec.number(1))
	p.reply(id)
	packets := p.serverPackets()
	seen := append(messages(packets, message.Response), messages(packets, message.Push)...)
	equal("messages", len(seen), 3)
	for _, wire := range seen {
		equal("zlib flag", wire[0]&flagCompressed != 0, false)
	}
}
