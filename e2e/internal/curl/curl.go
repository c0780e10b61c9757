// Package curl runs the real curl program for a test.
package curl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Result is what a run of curl brought.
type Result struct {
	ExitCode int
	Stderr   string
	Proto    string // "HTTP/1.1", "HTTP/2"
	Status   int    // 0 where there was no answer
	Header   http.Header
	Body     string
	Out      string // standard output: what -w asked for, or what a command line printed
}

// Run calls curl with the arguments, silent and without settings of the
// machine, until it ends or ctx does. With redirects followed, the last answer
// counts.
func Run(ctx context.Context, t testing.TB, args ...string) Result {
	t.Helper()
	dir := t.TempDir()
	head, body := filepath.Join(dir, "head"), filepath.Join(dir, "body")
	result := run(ctx, t, dir, "curl", append([]string{"-q", "-sS", "--noproxy", "*", "-D", head, "-o", body}, args...)...)
	result.Body = readFile(t, body)
	result.parseHead(t, readFile(t, head))
	return result
}

// Shell runs one command line through sh, as a person who pasted it would, and
// returns what it printed. It knows nothing of status, header or body.
func Shell(ctx context.Context, t testing.TB, line string) Result {
	t.Helper()
	return run(ctx, t, t.TempDir(), "sh", "-c", line)
}

func run(ctx context.Context, t testing.TB, home, program string, args ...string) Result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := command(ctx, home, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running %s: %v", program, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("running %s: %v", program, ctx.Err())
	}
	return Result{ExitCode: cmd.ProcessState.ExitCode(), Stderr: errs.String(), Out: out.String()}
}

// command has a home of its own, so that no .curlrc or .netrc of the machine
// counts, and no proxy.
func command(ctx context.Context, home, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "NO_PROXY=*", "LC_ALL=C.UTF-8"}
	return cmd
}

// Stream is a running curl whose body is read as it comes.
type Stream struct {
	cancel context.CancelFunc
	lines  chan string
	done   chan struct{}
	cmd    *exec.Cmd
}

// Open starts curl and returns at once; the program ends with ctx or the test.
func Open(ctx context.Context, t testing.TB, args ...string) *Stream {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	s := &Stream{cancel: cancel, lines: make(chan string), done: make(chan struct{})}
	cmd := command(ctx, t.TempDir(), "curl", append([]string{"-q", "-sSN", "--noproxy", "*"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("running curl: %v", err)
	}
	s.cmd = cmd
	go func() {
		defer close(s.done)
		defer cmd.Wait() //nolint:errcheck // the test asks for lines, not for the exit code
		s.pump(ctx, out)
	}()
	t.Cleanup(s.Close)
	return s
}

func (s *Stream) pump(ctx context.Context, out io.Reader) {
	defer close(s.lines)
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			select {
			case s.lines <- strings.TrimRight(line, "\r\n"):
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Line is the next line of the body. io.EOF says that the answer is complete.
func (s *Stream) Line(ctx context.Context) (string, error) {
	select {
	case line, more := <-s.lines:
		if !more {
			return "", io.EOF
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Until reads on to the first line that holds the text, and returns all lines
// read.
func (s *Stream) Until(ctx context.Context, text string) ([]string, error) {
	var read []string
	for {
		line, err := s.Line(ctx)
		if err != nil {
			return read, err
		}
		read = append(read, line)
		if strings.Contains(line, text) {
			return read, nil
		}
	}
}

// Interrupt is Ctrl-C: it waits until the program has ended by itself.
func (s *Stream) Interrupt(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatalf("interrupting curl: %v", err)
	}
	for range s.lines { // nobody wants them any more
	}
	<-s.done
}

// Close hangs up and waits for the program.
func (s *Stream) Close() {
	s.cancel()
	<-s.done
}

// parseHead reads the last header block: earlier ones are redirects and 1xx.
func (r *Result) parseHead(t testing.TB, head string) {
	t.Helper()
	r.Header = http.Header{}
	blocks := strings.Split(strings.TrimSpace(strings.ReplaceAll(head, "\r\n", "\n")), "\n\n")
	last := strings.TrimSpace(blocks[len(blocks)-1])
	status, fields, _ := strings.Cut(last, "\n")
	if status == "" {
		return
	}
	parts := strings.SplitN(status, " ", 3)
	if len(parts) < 2 {
		t.Fatalf("curl: unreadable status line %q", status)
	}
	code, err := strconv.Atoi(parts[1])
	if err != nil {
		t.Fatalf("curl: unreadable status line %q", status)
	}
	r.Proto, r.Status = parts[0], code
	lines := textproto.NewReader(bufio.NewReader(strings.NewReader(fields + "\n\n")))
	header, err := lines.ReadMIMEHeader()
	if err != nil {
		t.Fatalf("curl: unreadable header: %v", err)
	}
	r.Header = http.Header(header)
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(content)
}
