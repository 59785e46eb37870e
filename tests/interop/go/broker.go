package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// runBroker is a NATS server for the bench, with its defaults, on the loopback interface only. It
// prints its address and ends with its standard input.
func runBroker(args []string) {
	flags := flag.NewFlagSet("broker", flag.ExitOnError)
	_ = flags.Parse(args) // ExitOnError leaves on its own
	go leaveWithStdin()
	// It has neither a log that nobody reads nor signals of its own.
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true}
	broker, err := server.NewServer(options)
	if err != nil {
		exit(1, "broker: %v", err)
	}
	broker.Start()
	if !broker.ReadyForConnections(brokerStartMax) {
		exit(1, "the broker does not start")
	}
	fmt.Fprintln(os.Stdout, broker.Addr())
	broker.WaitForShutdown()
}

const brokerStartMax = 10 * time.Second
