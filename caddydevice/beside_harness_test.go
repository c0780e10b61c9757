// This file holds a running Caddy for the tests of the gate beside Caddy's own
// directives, and the clients that ask it.

package caddydevice

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// beside is a running Caddy with what its sites of these tests refer to.
type beside struct {
	*running
	names *strings.Replacer // in the lines of a site
}

func startBeside(t *testing.T) *beside {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "upstream %s user=%s cookie=%s auth=%s", r.URL.RequestURI(), r.Header.Get("Remote-User"), r.Header.Get("Cookie"), r.Header.Get("Authorization"))
	}))
	t.Cleanup(upstream.Close)
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Remote-User", "mallory") }))
	t.Cleanup(auth.Close)
	files := t.TempDir()
	for name, text := range map[string]string{"index.html": "the index", "asset.txt": "an asset", "page.html": `hello {{placeholder "http.auth.user.id"}}`} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := startCaddy(t)
	return &beside{running: r, names: strings.NewReplacer("UPSTREAM", upstream.URL, "AUTH", auth.URL, "FILES", files,
		"https://idp.example.com", r.idp.Issuer, "client_id gate", "client_id gate\nlimits {\nstarts 1000 1m\n}")}
}

// loadSite loads a site with these lines in its block, on an address of its
// own: for a moment after a reload the one before may still answer.
func (b *beside) loadSite(global, lines string) {
	b.t.Helper()
	b.addr = freeAddress(b.t)
	text := fmt.Sprintf("{\nadmin off\npersist_config off\nlog {\noutput discard\n}\ndevice_auth {\nstore memory\n}\n%s\n}\nhttp://%s {\n%s\n}\n", global, b.addr, withGates(lines))
	cfg, err := adapt(b.names.Replace(text))
	if err == nil {
		err = caddy.Load([]byte(cfg), true)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// noRedirects shows each answer as it is, and what of it is there at once.
var noRedirects = &http.Client{
	Transport: client.Transport, Timeout: progressEvery / 3,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// send sends a request and leaves the answer open.
func (b *beside) send(target string, headers ...map[string]string) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://"+b.addr+target, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, header := range headers {
		for name, value := range header {
			req.Header.Set(name, value)
		}
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

// besideClients are who asks. The first three are not signed in; approved is a
// browser that has not claimed its session yet, kiosk one that has; a terminal
// sends its key as bearer, a jar in the cookie.
var besideClients = map[string]map[string]string{
	"curl": curlHeaders, "json": jsonHeaders, "browser": browserHeaders,
	"approved": browserHeaders, "kiosk": browserHeaders, "terminal": curlHeaders, "jar": curlHeaders,
}

// ask sends a client's request, after it has signed in where it is one that
// does.
func (b *beside) ask(signIn string, a besideAsk) (*http.Response, string) {
	b.t.Helper()
	own := map[string]string{}
	switch a.who {
	case "terminal":
		own["Authorization"] = "Bearer " + b.approved(signIn, curlHeaders, a.header)
	case "jar":
		own["Cookie"] = "device_auth=" + b.approved(signIn, curlHeaders, a.header)
	case "approved":
		own["Cookie"] = "device_auth=" + b.approved(signIn, browserHeaders, a.header)
	case "kiosk":
		resp := b.send(signIn, browserHeaders, a.header, map[string]string{"Cookie": "device_auth=" + b.approved(signIn, browserHeaders, a.header)})
		resp.Body.Close()
		own["Cookie"] = "device_auth=" + cookieIn(resp)
	}
	resp := b.send(a.target, besideClients[a.who], a.header, own)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(body)
}

func cookieIn(resp *http.Response) string {
	for _, c := range resp.Cookies() {
		if c.Name == "device_auth" {
			return c.Value
		}
	}
	return ""
}

// approved starts a sign-in, signs its client in, and returns its key.
func (b *beside) approved(signIn string, headers ...map[string]string) string {
	b.t.Helper()
	resp := b.send(signIn, headers...)
	resp.Body.Close()
	text := cookieIn(resp)
	key, ok := session.ParseKey(text)
	if !ok {
		b.t.Fatalf("%s: %d starts no sign-in", signIn, resp.StatusCode)
	}
	var s *session.Session
	engines.Range(func(_, val any) bool {
		if found, err := val.(*engine).table.Lookup(b.t.Context(), key, "127.0.0.1"); err == nil {
			s = found
		}
		return true
	})
	claims := map[string]any{"sub": "sub-alice", "preferred_username": "alice"}
	err := s.Activate(b.t.Context(), session.Identity{
		Issuer: b.idp.Issuer, Subject: "sub-alice", Claims: claims, Since: time.Now(), TokensUntil: time.Now().Add(time.Hour),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}
