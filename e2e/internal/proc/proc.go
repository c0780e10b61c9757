// Package proc runs one program for a test: it keeps what the program writes,
// waits for a line of it, and ends it with the test.
package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopTime is how long a program may take to end after SIGTERM.
const stopTime = 20 * time.Second

// shownLines bounds what of a program's output goes into the log of a failed test.
const shownLines = 200

// Process is one running program.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and all its output is read

	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced at each new line
}

// Start runs the command. The program is ended when the test ends; if the test
// failed by then, its last output is logged.
func Start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{name: name, cmd: cmd, done: make(chan struct{}), changed: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		r.Close()
		w.Close()
		t.Fatalf("starting %s: %v", name, err)
	}
	w.Close() // ours; the program has its own
	go p.read(r)
	t.Cleanup(func() {
		p.Stop(t)
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.tail(shownLines))
		}
	})
	return p
}

func (p *Process) read(r io.ReadCloser) {
	defer close(p.done)
	defer r.Close()
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			p.add(strings.TrimRight(line, "\r\n"))
		}
		if err != nil {
			break
		}
	}
	p.cmd.Wait() //nolint:errcheck // the exit code is asked for by ExitCode
}

func (p *Process) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	close(p.changed)
	p.changed = make(chan struct{})
}

// ErrEnded says that the program ended before it wrote what was waited for.
var ErrEnded = errors.New("the program has ended")

// WaitFor returns the first line that holds the text, also if it was written
// before the call.
func (p *Process) WaitFor(ctx context.Context, text string) (string, error) {
	seen := 0
	for {
		p.mu.Lock()
		lines, changed := p.lines[seen:], p.changed
		seen = len(p.lines)
		p.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return line, nil
			}
		}
		if len(lines) > 0 {
			continue // more may have come meanwhile, before the end was noticed
		}
		select {
		case <-changed:
		case <-p.done:
			if p.count() > seen {
				continue
			}
			return "", fmt.Errorf("waiting for %q from %s: %w with code %d", text, p.name, ErrEnded, p.ExitCode())
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %q from %s: %w", text, p.name, ctx.Err())
		}
	}
}

func (p *Process) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// Lines is all that the program wrote so far, standard output and error
// together.
func (p *Process) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

func (p *Process) tail(n int) string {
	lines := p.Lines()
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// Stop asks the program to end and waits for it. A program that does not obey
// is killed, and the test fails. It may be called again.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		t.Errorf("%s did not end within %v after SIGTERM", p.name, stopTime)
		p.Kill()
	}
}

// Kill ends the program without asking, as a crash would, and waits for it.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *Process) signal(s os.Signal) {
	// The only error is that the program has ended already.
	p.cmd.Process.Signal(s) //nolint:errcheck // see above
}

// ID is the number of the process.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the code that the program ended with, -1 for a signal; it waits
// for the end.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}
