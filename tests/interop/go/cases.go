package main

import (
	"errors"
	"flag"
	"fmt"
	"sort"
	"time"
)

// cases are all that this program can show, by the name used in cases.txt.
var cases = map[string]func(*run){
	"handshake-json":              handshake,
	"handshake-protobuf":          handshake,
	"handshake-without-user":      handshakeWithoutUser,
	"handshake-refused":           handshakeRefused,
	"handshake-dictionary-plain":  handshakeDictionaryPlain,
	"probing":                     probing,
	"reconnect":                   reconnect,
	"request-json":                request,
	"request-protobuf":            request,
	"request-unicode":             requestUnicode,
	"raw-bytes":                   rawBytes,
	"raw-empty":                   rawEmpty,
	"short-route":                 shortRoute,
	"large-body":                  largeBody,
	"large-text":                  largeText,
	"many-requests":               manyRequests,
	"calls-in-order":              callsInOrder,
	"slow-then-ok":                slowThenOk,
	"slow-elsewhere":              slowElsewhere,
	"notify":                      notify,
	"notify-on-request-route":     notifyOnRequestRoute,
	"notify-unknown-route":        notifyUnknownRoute,
	"bind":                        bind,
	"bind-protobuf":               bind,
	"bind-twice":                  bindTwice,
	"bind-empty":                  bindEmpty,
	"login-replaced":              loginReplaced,
	"push":                        push,
	"push-protobuf":               push,
	"push-raw":                    pushRawBytes,
	"pushes-in-order":             pushesInOrder,
	"pushes-to-the-right-session": pushesToTheRightSession,
	"kick":                        kick,
	"error-with-metadata":         errorWithMetadata,
	"error-protobuf":              errorWithMetadata,
	"error-code":                  errorCode,
	"error-plain":                 errorPlain,
	"handler-panic":               handlerPanic,
	"unknown-route":               unknownRoute,
	"unknown-route-protobuf":      unknownRoute,
	"unknown-short-route":         unknownShortRoute,
	"unknown-type":                unknownType,
	"invalid-route":               invalidRoute,
	"empty-route-field":           emptyRouteField,
	"bad-argument":                badArgument,
	"bad-argument-protobuf":       badArgumentProtobuf,
	"request-on-notify-route":     requestOnNotifyRoute,
	"deadline":                    deadline,
	"dictionary":                  dictionaryRoutes,
	"compression-on":              compressionOn,
	"compression-only-if-shorter": compressionOnlyIfShorter,
	"compression-off":             compressionOff,
	"heartbeat":                   heartbeat,
	"silence":                     silence,
}

func caseNames() []string {
	var names []string
	for name := range cases {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// runClient runs one case and leaves with 0 if it passed and 1 if not.
func runClient(args []string) {
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	name := flags.String("case", "", "a name from cases.txt")
	addr := flags.String("addr", "", "host:port of the server")
	serializer := flags.String("serializer", "json", "json or protobuf, as the server has it")
	way := flags.String("transport", "tcp", "tcp, tls, ws or wss, as the server has it")
	ca := flags.String("ca", "", "PEM file with the certificate of a server with TLS")
	_ = flags.Parse(args) // ExitOnError leaves on its own

	body, known := cases[*name]
	if !known {
		exit(2, "no case is named %q", *name)
	}
	c, err := parseCodec(*serializer)
	t, errT := parseTransport(*way)
	trust, errCA := trusting(*ca)
	if err = errors.Join(err, errT, errCA); err != nil {
		exit(2, "%v", err)
	}
	time.AfterFunc(caseLimit, func() {
		exit(1, "FAIL %s: expected it to end within %v, it goes on", *name, caseLimit)
	})
	if what := outcome(body, &run{addr: *addr, codec: c, transport: t, trust: trust}); what != nil {
		exit(1, "FAIL %s: %v", *name, what)
	}
	fmt.Println("PASS", *name)
}

// outcome is nil for a pass, else a failure or whatever the case panicked with.
func outcome(body func(*run), r *run) (what any) {
	defer func() { what = recover() }()
	body(r)
	return nil
}

const caseLimit = 30 * time.Second
