package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	pitaya "github.com/topfreegames/pitaya/v3/pkg"
	"github.com/topfreegames/pitaya/v3/pkg/acceptor"
	"github.com/topfreegames/pitaya/v3/pkg/component"
	"github.com/topfreegames/pitaya/v3/pkg/config"
	logruswrapper "github.com/topfreegames/pitaya/v3/pkg/logger/logrus"
	"github.com/topfreegames/pitaya/v3/pkg/serialize"
)

// runBench is the Go side of the bench: a server with the handlers that every server measured
// there has, and Pitaya's defaults but for what is asked for.
func runBench(args []string) {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	compression := flags.String("compression", "on", "on or off")
	role := flags.String("role", "alone", "alone, gate or room; the last two need a broker")
	broker := flags.String("broker", "", "host:port of the NATS server")
	_ = flags.Parse(args) // ExitOnError leaves on its own
	compresses, err := parseSwitch("compression", *compression)
	if err != nil {
		exit(2, "%v", err)
	}
	// Nobody should have to pay for a log that nobody reads.
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.PanicLevel)
	pitaya.SetLogger(logruswrapper.NewWithFieldLogger(log))
	go leaveWithStdin()
	conf := config.NewDefaultPitayaConfig()
	conf.Handler.Messages.Compression = compresses
	conf.SerializerType = uint16(serialize.JSON)
	switch *role {
	case "alone":
		serveBench(conf)
	case "gate":
		serveCluster(gate, *broker, conf)
	case "room":
		serveCluster(room, *broker, conf)
	default:
		exit(2, "unknown role %q", *role)
	}
}

func serveBench(conf *config.PitayaConfig) {
	listener := acceptor.NewTCPAcceptor("127.0.0.1:0")
	builder := pitaya.NewDefaultBuilder(true, serverType, pitaya.Standalone, nil, *conf)
	builder.AddAcceptor(listener)
	app := builder.Build()
	app.Register(&Benchmarks{app: app},
		component.WithName("benchmarks"), component.WithNameFunc(strings.ToLower))
	go func() {
		for !listener.IsRunning() {
			time.Sleep(time.Millisecond)
		}
		fmt.Fprintln(os.Stdout, listener.GetAddr())
	}()
	app.Start()
}

// Msg is the body of every request.
type Msg struct {
	Seq  int64  `json:"seq"`
	Name string `json:"name"`
	X    int32  `json:"x"`
	Y    int32  `json:"y"`
	Text string `json:"text"`
}

// Benchmarks has what the load asks for.
type Benchmarks struct {
	component.Base
	app pitaya.Pitaya
}

// Echo returns the body as it came.
func (b *Benchmarks) Echo(_ context.Context, body []byte) ([]byte, error) { return body, nil }

// Json parses the body and serialises it again.
func (b *Benchmarks) Json(_ context.Context, in *Msg) (*Msg, error) { return in, nil }

// Bind makes the session that of a user, with a little data of its own.
func (b *Benchmarks) Bind(ctx context.Context, in *Msg) (*Msg, error) {
	session := b.app.GetSessionFromCtx(ctx)
	if err := session.Bind(ctx, fmt.Sprintf("player-%d", in.Seq)); err != nil {
		return nil, err
	}
	if err := session.Set("level", in.Seq%100); err != nil {
		return nil, err
	}
	return in, session.Set("name", in.Name)
}
