package main

import (
	"encoding/json"
	"fmt"

	"github.com/golang/protobuf/proto"
	"github.com/topfreegames/pitaya/v3/pkg/protos"
)

// What client and server agree on beyond the wire format. README.md is the prose of this file.

const (
	serverType    = "connector"
	componentName = "testsvc"

	pushNumber = "onNumber"
	pushRaw    = "onRaw"

	// A handshake that names this client version is refused by a validator.
	refusedVersion = "refused"
)

// One code needs both of its bytes, so that their order shows.
var dictionary = map[string]uint16{
	"connector.testsvc.echo":   1,
	"connector.testsvc.pushme": 2,
	"connector.testsvc.raw":    0x0203,
	"connector.testsvc.wave":   4,
	pushNumber:                 5,
}

func route(method string) string {
	return serverType + "." + componentName + "." + method
}

// Text, UID and Number are the payloads in JSON mode.
type (
	Text struct {
		Msg string `json:"msg"`
	}
	UID struct {
		UID string `json:"uid"`
	}
	Number struct {
		N int64 `json:"n"`
	}
)

// codec writes the payloads in one of the two serializers. Replies are compared with what it
// writes byte by byte, never parsed first.
type codec string

const (
	jsonCodec     codec = "json"
	protobufCodec codec = "protobuf"
)

func parseCodec(name string) (codec, error) {
	switch c := codec(name); c {
	case jsonCodec, protobufCodec:
		return c, nil
	default:
		return "", fmt.Errorf("serializer %q is neither json nor protobuf", name)
	}
}

func (c codec) text(msg string) []byte {
	return c.encode(Text{msg}, &protos.Doc{Doc: msg})
}

func (c codec) uid(uid string) []byte {
	return c.encode(UID{uid}, &protos.BindMsg{Uid: uid})
}

func (c codec) number(n int64) []byte {
	return c.encode(Number{n}, &protos.Msg{Id: uint64(n)})
}

func (c codec) failure(code, msg string, metadata map[string]string) []byte {
	e := &protos.Error{Code: code, Msg: msg, Metadata: metadata}
	return c.encode(e, e)
}

func (c codec) parseFailure(body []byte) (*protos.Error, error) {
	e := &protos.Error{}
	if c == protobufCodec {
		return e, proto.Unmarshal(body, e)
	}
	return e, json.Unmarshal(body, e)
}

func (c codec) encode(inJSON any, inProtobuf proto.Message) []byte {
	var body []byte
	var err error
	if c == protobufCodec {
		body, err = proto.Marshal(inProtobuf)
	} else {
		body, err = json.Marshal(inJSON)
	}
	if err != nil {
		exit(2, "cannot encode a payload of our own: %v", err)
	}
	return body
}
