package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
	"github.com/topfreegames/pitaya/v3/pkg/acceptor"
	"github.com/topfreegames/pitaya/v3/pkg/client"
	packetcodec "github.com/topfreegames/pitaya/v3/pkg/conn/codec"
)

// transport is one of the four ways to a server.
type transport string

const (
	tcp        transport = "tcp"
	tlsOverTCP transport = "tls"
	ws         transport = "ws"
	wss        transport = "wss"
)

func parseTransport(name string) (transport, error) {
	switch t := transport(name); t {
	case tcp, tlsOverTCP, ws, wss:
		return t, nil
	default:
		return "", fmt.Errorf("transport %q is none of tcp, tls, ws and wss", name)
	}
}

// connect is what Pitaya's own client does.
func (t transport) connect(c *client.Client, addr string, trust *tls.Config) error {
	switch t {
	case tlsOverTCP:
		return c.ConnectTo(addr, trust)
	case ws:
		return c.ConnectToWS(addr, "")
	case wss:
		return c.ConnectToWS(addr, "", trust)
	default:
		return c.ConnectTo(addr)
	}
}

// acceptor is Pitaya's own.
func (t transport) acceptor(addr, cert, key string) acceptor.Acceptor {
	switch t {
	case tlsOverTCP:
		return acceptor.NewTCPAcceptor(addr, cert, key)
	case ws:
		return acceptor.NewWSAcceptor(addr)
	case wss:
		return wssAcceptor{acceptor.NewWSAcceptor(addr, cert, key)}
	default:
		return acceptor.NewTCPAcceptor(addr)
	}
}

// wssAcceptor says when it runs. Pitaya's never does with TLS, and its application waits for that.
type wssAcceptor struct{ *acceptor.WSAcceptor }

func (a wssAcceptor) IsRunning() bool { return a.GetAddr() != "" }

// link is an end of a connection that can be relayed: what one read gives, one write passes on.
type link interface {
	read() ([]byte, error)
	write(chunk []byte) error
	Close() error
}

func (t transport) dial(addr string, trust *tls.Config) (link, error) {
	switch t {
	case tlsOverTCP:
		conn, err := tls.Dial("tcp", addr, trust)
		return stream{conn}, err
	case ws, wss:
		dialer := websocket.Dialer{TLSClientConfig: trust}
		conn, _, err := dialer.Dial(string(t)+"://"+addr, nil)
		return packets{conn}, err
	default:
		conn, err := net.Dial("tcp", addr)
		return stream{conn}, err
	}
}

// accept takes one connection. With TLS it shows a certificate that nobody trusts.
func (t transport) accept(listener net.Listener) (link, error) {
	if t == tlsOverTCP || t == wss {
		cert, err := selfSigned()
		if err != nil {
			return nil, err
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	if t == tcp || t == tlsOverTCP {
		conn, err := listener.Accept()
		return stream{conn}, err
	}
	upgraded := make(chan link, 1)
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(listener, upgradeInto(upgraded)) }()
	select {
	case link := <-upgraded:
		return link, nil
	case err := <-failed:
		return nil, err
	}
}

func upgradeInto(upgraded chan<- link) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		upgrader := websocket.Upgrader{}
		if conn, err := upgrader.Upgrade(answer, request, nil); err == nil {
			upgraded <- packets{conn}
		}
	}
}

// stream is TCP, with TLS or without.
type stream struct{ net.Conn }

func (s stream) read() ([]byte, error) {
	chunk := make([]byte, 64*1024)
	n, err := s.Read(chunk)
	if n > 0 {
		err = nil // it comes again
	}
	return chunk[:n], err
}

func (s stream) write(chunk []byte) error {
	_, err := s.Write(chunk)
	return err
}

// packets is a WebSocket, on which Pitaya speaks in binary messages of one packet each.
type packets struct{ *websocket.Conn }

func (p packets) read() ([]byte, error) {
	kind, message, err := p.ReadMessage()
	if err != nil {
		return nil, err
	}
	if kind != websocket.BinaryMessage || len(message) < packetcodec.HeadLength {
		return nil, fmt.Errorf("a message of kind %d is no packet: %q", kind, message)
	}
	size, _, err := packetcodec.ParseHeader(message[:packetcodec.HeadLength])
	if err != nil || packetcodec.HeadLength+size != len(message) {
		return nil, fmt.Errorf("a message is not one whole packet: %q (%v)", message, err)
	}
	return message, nil
}

func (p packets) write(message []byte) error {
	return p.WriteMessage(websocket.BinaryMessage, message)
}
