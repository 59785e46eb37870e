// Command interop is the Go side of the real-peer tests: Pitaya's own client, one case per
// process, and a standalone Pitaya server with the handlers that README.md promises.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		exit(2, "usage: interop client|server|bench|broker|selftest|cases [options]")
	}
	options := os.Args[2:]
	switch os.Args[1] {
	case "client":
		runClient(options)
	case "server":
		runServer(options)
	case "bench":
		runBench(options)
	case "broker":
		runBroker(options)
	case "selftest":
		runSelftest(options)
	case "cases":
		for _, name := range caseNames() {
			fmt.Println(name)
		}
	case wakeCommand:
		wake(options)
	default:
		exit(2, "unknown subcommand %q", os.Args[1])
	}
}

func exit(code int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(code)
}
