package main

import (
	"strings"

	"github.com/topfreegames/pitaya/v3/pkg/protos"
)

// Cases about errors. Codes and texts are compared as whole bodies wherever Pitaya fixes them.
// Each ends with a call that succeeds: an error costs one reply, not the connection.

func expectFailureThenEcho(
	r *run, fullRoute string, body []byte, code, msg string, metadata map[string]string,
) {
	p := r.connect()
	p.expectFailure(fullRoute, body, code, msg, metadata)
	p.expectEcho("after the error")
}

func errorWithMetadata(r *run) {
	some := map[string]string{"some": "meta"}
	expectFailureThenEcho(r, route("fail"), nil, "PIT-433", "test error", some)
}

func errorCode(r *run) {
	expectFailureThenEcho(r, route("failcode"), nil, "PIT-555", "somerror", nil)
}

func errorPlain(r *run) {
	expectFailureThenEcho(r, route("failplain"), nil, "PIT-000", "plain error", nil)
}

func unknownRoute(r *run) {
	expectFailureThenEcho(r, route("nonexistenthandler"), nil, "PIT-404",
		"pitaya/handler: connector.testsvc.nonexistenthandler not found", nil)
}

func unknownShortRoute(r *run) {
	expectFailureThenEcho(r, "testsvc.nonexistenthandler", nil, "PIT-404",
		"pitaya/handler: connector.testsvc.nonexistenthandler not found", nil)
}

func unknownType(r *run) {
	expectFailureThenEcho(r, "elsewhere.testsvc.echo", r.codec.text("anyone there"), "PIT-500",
		"no servers available of this type", nil)
}

func invalidRoute(r *run) {
	expectFailureThenEcho(r, "a.b.c.d", nil, "PIT-400", "invalid route", nil)
}

func emptyRouteField(r *run) {
	text := "route field can not be empty"
	expectFailureThenEcho(r, "connector..echo", nil, "PIT-400", text, nil)
}

func requestOnNotifyRoute(r *run) {
	text := "tried to request a notify route"
	expectFailureThenEcho(r, route("wave"), nil, "PIT-400", text, nil)
}

// The text of a bad argument is the parser's own, so only the code is fixed.
func badArgument(r *run) {
	for _, body := range []string{``, `{`, `{"msg":`, `{"msg":5}`, `[]`, `"text"`, "\xff"} {
		expectBadArgument(r, []byte(body))
	}
}

func badArgumentProtobuf(r *run) {
	expectBadArgument(r, []byte{0xff})
	expectBadArgument(r, []byte{0x0a, 0x05, 'c', 'u', 't'})
}

func expectBadArgument(r *run, body []byte) {
	p := r.connect()
	got := p.failureOf("echo", body)
	equal("code for the argument "+show(body), got.Code, "PIT-400")
	equal("text is there", got.Msg != "", true)
	p.expectEcho("after the error")
}

func (p *player) failureOf(method string, body []byte) *protos.Error {
	reply := p.reply(p.send(method, body))
	if !reply.Err {
		fail("reply of %s: expected an error, got %s", method, show(reply.Data))
	}
	got, err := p.run.codec.parseFailure(reply.Data)
	must("error body", err)
	return got
}

// What follows the text is Go's panic value or our route.
func handlerPanic(r *run) {
	p := r.connect()
	got := p.failureOf("panics", nil)
	equal("code", got.Code, "PIT-000")
	if !strings.HasPrefix(got.Msg, "rpc call internal error - ") {
		fail("text: expected it to begin with \"rpc call internal error - \", got %q", got.Msg)
	}
	p.expectEcho("after the panic")
}

func deadline(r *run) {
	p := r.connect()
	got := p.failureOf("stuck", nil)
	equal("code", got.Code, "PIT-408")
	equal("text", got.Msg, "request timeout")
	for _, key := range []string{"route", "timeout"} {
		if got.Metadata[key] == "" {
			fail("metadata: expected %q in it, got %v", key, got.Metadata)
		}
	}
	p.expectEcho("after the deadline")
}
