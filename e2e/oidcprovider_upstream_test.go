// This file shows that a signed-in client cannot change what the upstream is
// told, nor the gateway what the client and the upstream say to each other.
package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

func TestUpstream(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: lenient(deviceAuth("", manyStarts))})
	key := s.signIn(t)
	t.Run("headers", func(t *testing.T) { s.forgedHeaders(t, key) })
	t.Run("trailers", func(t *testing.T) { s.forgedTrailers(t, key) })
	t.Run("cookies", func(t *testing.T) { s.otherCookies(t, key) })
	t.Run("answers", func(t *testing.T) { s.upstreamAnswers(t, key) })
	t.Run("origins", s.origins)
}

func (s *stage) forgedHeaders(t *testing.T, key string) {
	for _, lines := range [][]string{
		{"Connection: Remote-User"},
		{"Connection: close, Remote-User, Remote-Groups"},
		{"Connection: remote_user", "Remote_User: mallory"},
		{"Connection: X-Mine", "Connection: Remote-User", "X-Mine: 1"},
		{"Remote-User: mallory"},
		{"Remote-User;"}, // curl's way to send an empty one
		{"Remote-User: mallory", "Remote-User: eve"},
		{"Remote_User: mallory", "Remote.User: mallory", "REMOTE_USER: mallory", "rEmOtE-gRoUpS: wheel"},
		{"Connection: Remote-User", "Remote-User: mallory", "Remote-Groups: wheel", "Remote.Groups: wheel"},
	} {
		args := []string{"-H", bearer(key)}
		for _, line := range lines {
			args = append(args, "-H", line)
		}
		for _, server := range s.bothServers() {
			got := s.curl(t, append(args, server+"/forged")...)
			wantStatus(t, got, 200)
			seen := echo(t, got.Body)
			wantAlice(t, seen)
			if all := strings.Join(seen.RawHeader, "\n"); strings.Contains(all, "mallory") || strings.Contains(all, "wheel") {
				t.Errorf("%q: the upstream saw %q", lines, seen.RawHeader)
			}
		}
	}
}

// forgedTrailers sends trailers of our names, announced and not.
func (s *stage) forgedTrailers(t *testing.T, key string) {
	for name, announced := range map[string]string{
		"announced":   "Trailer: Remote-User, Remote_User, X-Checksum\r\n",
		"unannounced": "",
		"in part":     "Trailer: X-Checksum\r\nTE: trailers\r\n",
	} {
		before := len(s.upstreamSaw("/trailer"))
		got, _ := s.raw(t, s.gate.Port(), "POST /trailer HTTP/1.1\r\nHost: localhost:"+s.gate.Port()+"\r\n"+bearer(key)+"\r\n"+announced+
			"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Checksum: abc\r\nRemote-User: mallory\r\nRemote_User: mallory\r\n\r\n")
		saw := s.upstreamSaw("/trailer")[before:]
		if got.StatusCode != http.StatusOK || len(saw) != 1 || saw[0].BodyLength != 4 {
			t.Fatalf("%s: status %d, the upstream saw %+v", name, got.StatusCode, saw)
		}
		wantAlice(t, saw[0])
		for field := range saw[0].Trailer {
			if field != "X-Checksum" {
				t.Errorf("%s: the upstream saw the trailer %s", name, field)
			}
		}
	}
}

// raw sends what no client program would to a port of the gateway's.
func (s *stage) raw(t *testing.T, port, request string) (answer *http.Response, body string) {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(s.ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if deadline, ok := s.ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(content)
}

func (s *stage) otherCookies(t *testing.T, key string) {
	const odd = `a=1; quoted="x y"; empty=; device_auth_theme=dark; b=2`
	for _, sent := range []string{odd, odd + "; " + cookie(key), cookie(key) + "; " + odd} {
		got := s.get(t, "/cookies", "-H", bearer(key), "-H", "Cookie: "+sent)
		wantStatus(t, got, 200)
		if seen := echo(t, got.Body); seen.Header.Get("Cookie") != odd {
			t.Errorf("the upstream saw %q, want %q", seen.Header.Get("Cookie"), odd)
		}
	}
	// Our cookie alone leaves no empty field behind.
	got := s.get(t, "/cookies", "-b", cookie(key))
	wantStatus(t, got, 200)
	if seen := echo(t, got.Body); seen.Header["Cookie"] != nil {
		t.Errorf("the upstream saw %q", seen.Header["Cookie"])
	}
}

// upstreamAnswers: an answer comes through as it is, its own 401 too.
func (s *stage) upstreamAnswers(t *testing.T, key string) {
	s.up.AnswerWith(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="upstream"`)
		w.Header().Add("Set-Cookie", "theirs=1")
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "theirs") //nolint:errcheck // the client may have gone away
	})
	defer s.up.AnswerWith(nil)
	got := s.get(t, "/answer", "-H", bearer(key))
	if got.Status != 401 || got.Body != "theirs" || got.Header.Get("WWW-Authenticate") != `Basic realm="upstream"` ||
		len(got.Header["Set-Cookie"]) != 1 || got.Header.Get("Cache-Control") != "max-age=60" {
		t.Errorf("%d %v %s", got.Status, got.Header, got.Body)
	}
}

// origins: a page of another site can use a browser's cookie for nothing.
func (s *stage) origins(t *testing.T) {
	w := s.signedInWindow(t, "/window")
	foreign := http.Header{"Origin": {"https://evil.example"}}
	upgrade := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
	for _, tt := range []struct {
		name, method string
		fetch        browser.Fetch
		header       []http.Header
		status       int
	}{
		{"a form of another site", "POST", browser.Fetch{Site: "cross-site", Mode: "navigate", Dest: "document"}, []http.Header{foreign}, 403},
		{"the same without Sec-Fetch", "POST", browser.Old, []http.Header{foreign}, 403},
		{"no origin at all", "DELETE", browser.Fetch{Site: "cross-site", Mode: "cors", Dest: "empty"}, nil, 403},
		{"another host of the same site", "PUT", browser.Fetch{Site: "same-site", Mode: "cors", Dest: "empty"}, []http.Header{{"Origin": {"http://app.localhost"}}}, 403},
		{"our own page", "POST", browser.Script, []http.Header{{"Origin": {s.gate.URL()}}}, 200},
		{"our own page, without Sec-Fetch", "POST", browser.Old, []http.Header{{"Origin": {s.gate.URL()}}}, 200},
		{"a link from another site", "GET", browser.Foreign, nil, 200},
		{"a WebSocket of another site", "GET", browser.Old, []http.Header{upgrade, foreign}, 403},
		{"a WebSocket of our own", "GET", browser.Old, []http.Header{upgrade, {"Origin": {s.gate.URL()}}}, 200},
	} {
		before := len(s.up.Requests())
		req := w.NewRequest(s.ctx, t, tt.method, s.gate.URL()+"/origins", "", tt.fetch)
		for _, h := range tt.header {
			for name, values := range h {
				req.Header[name] = values
			}
		}
		got := w.Do(t, req)
		if reached := len(s.up.Requests()) - before; got.Status != tt.status || reached != map[bool]int{true: 1}[tt.status == 200] {
			t.Errorf("%s: status %d, want %d; %d requests reached the upstream\n%s", tt.name, got.Status, tt.status, reached, got.Body)
		}
	}
	// A bearer is never sent by a browser on its own, so it may come from anywhere.
	key := s.signIn(t)
	got := s.get(t, "/origins", "-X", "POST", "-H", bearer(key), "-H", "Origin: https://evil.example", "-H", "Sec-Fetch-Site: cross-site")
	wantStatus(t, got, 200)
}

// TestUpgradeToOther: an upstream that switched to another protocol would take
// requests past the gateway.
func TestUpgradeToOther(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	key := s.signIn(t)
	got := s.get(t, "/h2c", "-H", bearer(key), "-H", "Connection: Upgrade, HTTP2-Settings", "-H", "Upgrade: h2c", "-H", "HTTP2-Settings: AAMAAABkAAQAAP__")
	wantStatus(t, got, 200)
	if seen := echo(t, got.Body); seen.Header.Get("Upgrade") != "" || seen.Header.Get("Http2-Settings") != "" {
		t.Errorf("the upstream saw %v", seen.Header)
	}
}
