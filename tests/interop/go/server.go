package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	pitaya "github.com/topfreegames/pitaya/v3/pkg"
	"github.com/topfreegames/pitaya/v3/pkg/acceptor"
	"github.com/topfreegames/pitaya/v3/pkg/component"
	"github.com/topfreegames/pitaya/v3/pkg/config"
	logruswrapper "github.com/topfreegames/pitaya/v3/pkg/logger/logrus"
	"github.com/topfreegames/pitaya/v3/pkg/serialize"
	"github.com/topfreegames/pitaya/v3/pkg/session"
)

type serverOptions struct {
	addr        string
	transport   transport
	cert, key   string
	codec       codec
	compression bool
	dictionary  bool
	heartbeat   time.Duration
	verbose     bool
}

// runServer serves until its standard input ends or a SIGTERM comes.
func runServer(args []string) {
	options := parseServerOptions(args)
	pitaya.SetLogger(logruswrapper.NewWithFieldLogger(quietLogger(options.verbose)))
	listener := options.transport.acceptor(options.addr, options.cert, options.key)
	app := buildApp(options, listener)
	go announce(listener)
	go leaveWithStdin()
	go leaveOnSignal()
	app.Start()
}

func parseServerOptions(args []string) serverOptions {
	var o serverOptions
	flags := flag.NewFlagSet("server", flag.ExitOnError)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:0", "host:port to listen on, port 0 for any")
	way := flags.String("transport", "tcp", "tcp, tls, ws or wss")
	flags.StringVar(&o.cert, "cert", "", "PEM file with the certificate for TLS")
	flags.StringVar(&o.key, "key", "", "PEM file with its private key")
	serializer := flags.String("serializer", "json", "json or protobuf")
	compression := flags.String("compression", "on", "on or off")
	dictionary := flags.String("dictionary", "off", "on or off")
	flags.DurationVar(&o.heartbeat, "heartbeat", time.Second, "whole seconds")
	flags.BoolVar(&o.verbose, "verbose", false, "Pitaya's own log on standard error")
	_ = flags.Parse(args) // ExitOnError leaves on its own

	var err, errC, errD, errT error
	o.codec, err = parseCodec(*serializer)
	o.transport, errT = parseTransport(*way)
	o.compression, errC = parseSwitch("compression", *compression)
	o.dictionary, errD = parseSwitch("dictionary", *dictionary)
	if err = errors.Join(err, errC, errD, errT); err != nil {
		exit(2, "%v", err)
	}
	return o
}

func parseSwitch(name, value string) (bool, error) {
	if value != "on" && value != "off" {
		return false, fmt.Errorf("%s %q is neither on nor off", name, value)
	}
	return value == "on", nil
}

func buildApp(o serverOptions, listener acceptor.Acceptor) pitaya.Pitaya {
	conf := config.NewDefaultPitayaConfig()
	conf.Heartbeat.Interval = o.heartbeat
	conf.Handler.Messages.Compression = o.compression
	conf.SerializerType = uint16(serialize.JSON)
	if o.codec == protobufCodec {
		conf.SerializerType = uint16(serialize.PROTOBUF)
	}
	builder := pitaya.NewDefaultBuilder(true, serverType, pitaya.Standalone, nil, *conf)
	builder.AddAcceptor(listener)
	builder.SessionPool.AddHandshakeValidator("version", refuseVersion)
	app := builder.Build()
	if o.dictionary {
		if err := app.SetDictionary(dictionary); err != nil {
			exit(2, "dictionary: %v", err)
		}
	}
	app.Register(handlers(o.codec, app),
		component.WithName(componentName), component.WithNameFunc(strings.ToLower))
	return app
}

func handlers(c codec, app pitaya.Pitaya) component.Component {
	if c == protobufCodec {
		return &InProtobuf{Untyped{app: app, waves: map[int64]int64{}}}
	}
	return &InJSON{Untyped{app: app, waves: map[int64]int64{}}}
}

func refuseVersion(data *session.HandshakeData) error {
	if data.Sys.Version == refusedVersion {
		return errors.New("this version is refused")
	}
	return nil
}

func announce(listener acceptor.Acceptor) {
	for !listener.IsRunning() {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("LISTENING", listener.GetAddr())
}

// leaveWithStdin keeps a server from outliving the test that started it.
func leaveWithStdin() {
	_, _ = io.Copy(io.Discard, os.Stdin) // any end is the end
	os.Exit(0)
}

// leaveOnSignal is quicker than Pitaya's own shutdown, which waits for sessions.
func leaveOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	os.Exit(0)
}

func quietLogger(verbose bool) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(os.Stderr)
	log.SetLevel(logrus.DebugLevel)
	if !verbose {
		log.SetOutput(io.Discard)
	}
	return log
}
