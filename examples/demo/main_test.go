// Tests of the program: it starts, says what to type, lets a person sign in,
// stops cleanly, and says what is wrong where it cannot start.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// openGate is the demo's Caddyfile without the sign-in.
var openGate = regexp.MustCompile(`(?s)\tdevice_auth \{.*?\n\t\}\n`).ReplaceAllString(caddyfileText, "")

// freePorts asks the system for three ports that nobody uses.
func freePorts(t *testing.T) ports {
	t.Helper()
	var got [3]int
	for i := range got {
		ln, err := net.Listen("tcp", address(0))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		got[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports{gate: got[0], idp: got[1], upstream: got[2]}
}

func (p ports) args() []string {
	return []string{
		"-gate", strconv.Itoa(p.gate), "-idp", strconv.Itoa(p.idp), "-upstream", strconv.Itoa(p.upstream),
	}
}

// A running demo: what it printed up to the end of its welcome, a way to press
// Ctrl-C, and its exit code.
type running struct {
	welcome string
	ctrlC   context.CancelFunc
	exit    chan int
}

func runDemo(t *testing.T, caddyfile string, p ports) running {
	t.Helper()
	// The program points Caddy at its own data directory; put that back.
	t.Setenv("XDG_DATA_HOME", os.Getenv("XDG_DATA_HOME"))
	ctx, cancel := context.WithCancel(t.Context())
	r := running{ctrlC: cancel, exit: make(chan int, 1)}
	said, out := io.Pipe()
	var errs strings.Builder // read after run has ended only
	go func() {
		r.exit <- run(ctx, caddyfile, p.args(), out, &errs)
		out.CloseWithError(io.EOF)
	}()
	var b strings.Builder
	for buf := make([]byte, 512); !strings.Contains(b.String(), "Ctrl-C"); {
		n, err := said.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			t.Fatalf("the demo ended with %d: %s", <-r.exit, errs.String())
		}
	}
	go io.Copy(io.Discard, said)
	r.welcome = b.String()
	return r
}

func TestStartAndStop(t *testing.T) {
	p := freePorts(t)
	r := runDemo(t, openGate, p)
	gate := fmt.Sprintf("http://localhost:%d/", p.gate)
	for _, words := range []string{"curl " + gate, "alice-demo", "bob-demo", "Ctrl-C stops"} {
		if !strings.Contains(r.welcome, words) {
			t.Errorf("%q is not in\n%s", words, r.welcome)
		}
	}
	wantAnswer(t, gate, "This is the upstream")
	wantAnswer(t, "http://"+address(p.idp)+"/.well-known/openid-configuration", "device_authorization_endpoint")

	r.ctrlC()
	if code := <-r.exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, port := range []int{p.gate, p.idp, p.upstream} {
		ln, err := net.Listen("tcp", address(port))
		if err != nil {
			t.Errorf("after the end: %v", err)
			continue
		}
		ln.Close()
	}
	if _, err := os.Stat(os.Getenv("XDG_DATA_HOME")); !os.IsNotExist(err) {
		t.Errorf("the data directory is still there: %v", err)
	}
}

func wantAnswer(t *testing.T, address, words string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), words) {
		t.Errorf("%s: %d, want %q in\n%s", address, resp.StatusCode, words, body)
	}
}

func TestCannotStart(t *testing.T) {
	args := func(args ...string) func(ports) []string { return func(ports) []string { return args } }
	tests := map[string]struct {
		taken     func(ports) int
		caddyfile string
		args      func(ports) []string
		code      int
		says      string
	}{
		"gate in use":     {func(p ports) int { return p.gate }, openGate, ports.args, 1, "is in use by another program: end that one, or choose another port with -gate <port>"},
		"idp in use":      {func(p ports) int { return p.idp }, openGate, ports.args, 1, "is in use by another program: end that one, or choose another port with -idp <port>"},
		"upstream in use": {func(p ports) int { return p.upstream }, openGate, ports.args, 1, "is in use by another program: end that one, or choose another port with -upstream <port>"},
		"one port twice":  {nil, openGate, func(p ports) []string { return append(p.args(), "-idp", strconv.Itoa(p.gate)) }, 1, "-idp <port>"},
		"bad Caddyfile":   {nil, "nonsense {", ports.args, 1, "gate: "},
		"no port":         {nil, openGate, args("-gate", "0"), 2, "from 1 to 65535"},
		"unknown flag":    {nil, openGate, args("-gat", "1"), 2, "-gate"},
		"help":            {nil, openGate, args("-h"), 0, "default 9080"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_DATA_HOME", os.Getenv("XDG_DATA_HOME"))
			p := freePorts(t) // right before use: a connection may take one by chance
			if tt.taken != nil {
				taken := tt.taken(p)
				ln, err := net.Listen("tcp", address(taken))
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				tt.says = fmt.Sprintf("port %d %s", taken, tt.says)
			}
			var out, errs strings.Builder
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // should it start after all, it ends at once
			code := run(ctx, tt.caddyfile, tt.args(p), &out, &errs)
			if code != tt.code || !strings.Contains(errs.String(), tt.says) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, tt.code, tt.says, errs.String())
			}
			if tt.code == 1 && strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("more than one line:\n%s", errs.String())
			}
		})
	}
}

func TestCaddyfile(t *testing.T) {
	if got := string(caddyfile.Format([]byte(caddyfileText))); got != caddyfileText {
		t.Errorf("the Caddyfile is not as `caddy fmt` writes it:\n%s", got)
	}
	if got := withPorts(caddyfileText, defaultPorts); got != caddyfileText {
		t.Errorf("changed without a flag:\n%s", got)
	}
	swapped := withPorts(caddyfileText, ports{gate: 9082, idp: 1, upstream: 9080})
	for _, line := range []string{"http://localhost:9082, http://127.0.0.1:9082 {", "issuer http://127.0.0.1:1\n", "reverse_proxy 127.0.0.1:9080\n"} {
		if !strings.Contains(swapped, line) {
			t.Errorf("%q is not in\n%s", line, swapped)
		}
	}
}

// TestSignIn is the demo itself: a program asks, a person approves, and the
// program's next request goes through under that person's name.
func TestSignIn(t *testing.T) {
	p := freePorts(t)
	r := runDemo(t, caddyfileText, p)
	gate := fmt.Sprintf("http://localhost:%d/hello?a=b", p.gate)

	var asked struct {
		Session  string `json:"session"`
		Complete string `json:"verification_uri_complete"`
		Wait     string `json:"wait_uri"`
	}
	status, body := ask(t, gate, http.Header{"Accept": {"application/json"}})
	if err := json.Unmarshal([]byte(body), &asked); err != nil || status != http.StatusUnauthorized {
		t.Fatalf("first request: %d %s (%v)", status, body, err)
	}

	approve(t, asked.Complete)
	key := http.Header{"Authorization": {"Bearer " + asked.Session}}
	if status, body = ask(t, asked.Wait+"?timeout=60", key); status != http.StatusOK {
		t.Fatalf("waiting for the approval: %d %s", status, body)
	}
	status, body = ask(t, gate, key)
	if status != http.StatusOK {
		t.Fatalf("after approval: %d %s", status, body)
	}
	for _, words := range []string{"GET /hello?a=b", "Remote-User: alice"} {
		if !strings.Contains(body, words) {
			t.Errorf("%q is not in\n%s", words, body)
		}
	}
	if strings.Contains(body, asked.Session) {
		t.Error("the upstream saw the session key")
	}
	r.ctrlC()
	if code := <-r.exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func ask(t *testing.T, address string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)">`)

// approve follows the link with the code and says yes as alice.
func approve(t *testing.T, link string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	person := &http.Client{Jar: jar}
	page := ""
	read := func(resp *http.Response, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %v\n%s", resp.Request.URL, resp.StatusCode, err, body)
		}
		page = string(body)
	}
	at, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	read(person.Get(link))
	for _, step := range []struct {
		path   string
		fields url.Values
	}{
		{"/device", nil},
		{"/device/sign-in", url.Values{"username": {"alice"}, "password": {"alice-demo"}}},
		{"/device/approve", url.Values{"decision": {"approve"}}},
	} {
		form := url.Values{}
		for _, m := range hidden.FindAllStringSubmatch(page, -1) {
			form.Set(m[1], html.UnescapeString(m[2]))
		}
		for k, v := range step.fields {
			form[k] = v
		}
		read(person.PostForm(at.Scheme+"://"+at.Host+step.path, form))
	}
}
