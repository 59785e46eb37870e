package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// listed is one line of cases.txt.
type listed struct {
	name    string
	options map[string]string
}

// runSelftest plays every case against the Go server of this program. A case marked go=differs
// must fail there, or its mark is out of date.
func runSelftest(args []string) {
	flags := flag.NewFlagSet("selftest", flag.ExitOnError)
	file := flags.String("cases", "cases.txt", "the list of cases")
	way := flags.String("transport", "tcp", "tcp, tls, ws or wss")
	_ = flags.Parse(args) // ExitOnError leaves on its own

	list, err := readCases(*file)
	t, errT := parseTransport(*way)
	folder, errF := os.MkdirTemp("", "interop")
	if err = errors.Join(err, errT, errF); err == nil {
		err = writeSelfSigned(folder)
	}
	if err != nil {
		exit(2, "%v", err)
	}
	defer os.RemoveAll(folder)
	results := make([]string, len(list))
	var group sync.WaitGroup
	free := make(chan struct{}, atOnceMax)
	for i, c := range list {
		group.Add(1)
		free <- struct{}{}
		go func() {
			defer group.Done()
			results[i] = judge(c, t, folder)
			<-free
		}()
	}
	group.Wait()
	if failed := report(list, results); failed > 0 {
		os.RemoveAll(folder)
		os.Exit(1)
	}
}

func report(list []listed, results []string) int {
	failed := 0
	for i, c := range list {
		if results[i] == "" {
			fmt.Printf("ok   %s (go=%s)\n", c.name, c.options["go"])
		} else {
			failed++
			fmt.Printf("FAIL %s: %s\n", c.name, results[i])
		}
	}
	fmt.Printf("%d passed, %d failed\n", len(list)-failed, failed)
	return failed
}

// judge gives an empty text if the case went as its line says.
func judge(c listed, t transport, folder string) string {
	output, err := play(c, t, folder)
	switch differs := c.options["go"] == "differs"; {
	case differs && err == nil:
		return "marked go=differs, but Go's server passes"
	case !differs && err != nil:
		return fmt.Sprintf("%v: %s", err, strings.TrimSpace(output))
	default:
		return ""
	}
}

func play(c listed, t transport, folder string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cert, key := filepath.Join(folder, certFile), filepath.Join(folder, keyFile)
	server := exec.Command(self, "server", "--serializer", c.options["serializer"],
		"--compression", c.options["compression"], "--dictionary", c.options["dictionary"],
		"--transport", string(t), "--cert", cert, "--key", key)
	stdin, errIn := server.StdinPipe()
	stdout, errOut := server.StdoutPipe()
	if errIn != nil || errOut != nil {
		return "", fmt.Errorf("pipes: %v, %v", errIn, errOut)
	}
	if err := server.Start(); err != nil {
		return "", err
	}
	defer server.Wait() //nolint:errcheck // it is only told to leave
	defer stdin.Close()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ready := strings.CutPrefix(strings.TrimSpace(line), "LISTENING ")
	if err != nil || !ready {
		return line, fmt.Errorf("server is not ready: %v", err)
	}
	output, err := exec.Command(self, "client", "--case", c.name, "--addr", addr,
		"--serializer", c.options["serializer"],
		"--transport", string(t), "--ca", cert).CombinedOutput()
	return string(output), err
}

func readCases(file string) ([]listed, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []listed
	seen := map[string]bool{}
	for line := range bytes.Lines(text) {
		fields := strings.Fields(strings.SplitN(string(line), "#", 2)[0])
		if len(fields) == 0 {
			continue
		}
		c := listed{name: fields[0], options: map[string]string{}}
		for _, option := range fields[1:] {
			key, value, _ := strings.Cut(option, "=")
			c.options[key] = value
		}
		if cases[c.name] == nil || seen[c.name] {
			return nil, fmt.Errorf("%s: %q is unknown or twice there", file, c.name)
		}
		seen[c.name] = true
		list = append(list, c)
	}
	for _, name := range caseNames() {
		if !seen[name] {
			return nil, fmt.Errorf("%s: %q is missing", file, name)
		}
	}
	return list, nil
}

const atOnceMax = 4
