package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// process is the program as a process of its own, which can be killed.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	err    output
	waited func() error
}

// TestProcess is not a test but the program, in a process that a test started.
func TestProcess(t *testing.T) {
	if os.Getenv("LATCHKEY_TEST_PROCESS") == "" {
		t.Skip("other tests start this one")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if !slices.Contains(flag.Args(), "--stdin") && flag.Arg(0) != "bounce" {
		go func() { // it must not outlive a test that died without a word
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	code := run(ctx, flag.Args(), streams{out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// spawn starts the program; env is added to what the test has.
func spawn(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t}
	p.cmd = exec.Command(os.Args[0], append([]string{"-test.run=^TestProcess$", "--"}, args...)...)
	p.cmd.Env = append(append(os.Environ(), "LATCHKEY_TEST_PROCESS=1"), env...)
	p.cmd.Stderr = &p.err
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.waited = sync.OnceValue(p.cmd.Wait)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("latchkey %s, but for requests that went well\n%s", strings.Join(args[:min(2, len(args))], " "), withoutRequests(p.err.String()))
		}
	})
	return p
}

func withoutRequests(log string) string {
	lines := strings.SplitAfter(log, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return strings.Contains(line, `"msg":"request"`) && strings.Contains(line, `"status":200`)
	}), "")
}

// ask writes a line and gives the answer; empty if the process was gone.
func (p *process) ask(line string) string {
	_, _ = io.WriteString(p.in, line+"\n")
	answer, _ := p.out.ReadString('\n')
	return strings.TrimSpace(answer)
}

// said waits until the process has written something to its log.
func (p *process) said(text string) {
	p.t.Helper()
	await(p.t, text, func() bool { return strings.Contains(p.err.String(), text) })
}

// stop ends the process as an init system does.
func (p *process) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.waited(); err != nil {
		p.t.Errorf("it ended with %v", err)
	}
}

// kill ends the process as a power cut does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.waited()
}

// sockets are those on which the process can be reached from a network, and how many
// connections it has.
func (p *process) sockets() (listening []string, connections int) {
	p.t.Helper()
	if runtime.GOOS != "linux" {
		p.t.Skip("looks into /proc")
	}
	own := map[string]bool{} // by inode
	descriptors := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	entries, err := os.ReadDir(descriptors)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(descriptors, e.Name())); err == nil && strings.HasPrefix(target, "socket:[") {
			own[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.cmd.Process.Pid, table))
		if err != nil {
			p.t.Fatal(err)
		}
		for _, line := range strings.Split(string(content), "\n")[1:] {
			f := strings.Fields(line) // sl local remote st ... inode
			switch {
			case len(f) < 10 || !own[f[9]]:
			case strings.HasPrefix(table, "tcp") && f[3] != "0A": // 0A: LISTEN
				connections++
			default:
				listening = append(listening, table+" "+line)
			}
		}
	}
	return listening, connections
}
