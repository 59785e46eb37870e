package main

import (
	"flag"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// silence stops this very process with SIGSTOP, so that no heartbeat leaves while the socket
// stays open, and lets a child wake it. By then the server must have hung up.
func silence(r *run) {
	p := r.connect()
	p.expectEcho("before the silence")
	stopped := stopFor(silentTime)
	if stopped < silentTime/2 {
		fail("this process: expected a stop of %v, got %v", silentTime, stopped)
	}
	// A client that was not hung up on beats again at once and stays connected for good.
	p.expectDisconnect(500 * time.Millisecond)
	r.connect().expectEcho("the next client is welcome")
}

// stopFor gives how long the process really stood still.
func stopFor(pause time.Duration) time.Duration {
	self, err := os.Executable()
	must("find this program", err)
	waker := exec.Command(self, wakeCommand,
		"--pid", strconv.Itoa(os.Getpid()), "--after", pause.String())
	must("start the waker", waker.Start())
	start := time.Now()
	must("stop this process", syscall.Kill(os.Getpid(), syscall.SIGSTOP))
	// A signal sent to oneself may take effect a little later than the call returns.
	for time.Since(start) < pause/2 {
		time.Sleep(time.Millisecond)
	}
	stopped := time.Since(start)
	must("end of the waker", waker.Wait())
	return stopped
}

func wake(args []string) {
	flags := flag.NewFlagSet(wakeCommand, flag.ExitOnError)
	pid := flags.Int("pid", 0, "process to wake")
	after := flags.Duration("after", 0, "how long to wait")
	_ = flags.Parse(args) // ExitOnError leaves on its own
	time.Sleep(*after)
	if err := syscall.Kill(*pid, syscall.SIGCONT); err != nil {
		exit(1, "wake %d: %v", *pid, err)
	}
}

const (
	wakeCommand = "wake"
	// Six intervals: Pitaya closes at the third, and a busy machine gets as many again.
	silentTime = 6 * time.Second
)
