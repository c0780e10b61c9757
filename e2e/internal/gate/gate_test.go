// This file tests the life of a gateway, with a Caddyfile that uses nothing of
// this project's module.
package gate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/gate"
	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

func TestMain(m *testing.M) { gate.Main(m) }

const plainSite = `
http://localhost:{$GATE_PORT} {
	header X-Gate {$ANSWER}
	reverse_proxy {$UPSTREAM}
}
`

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestGate(t *testing.T) {
	ctx := bounded(t)
	up := upstream.Start(t)
	g := gate.Start(t, gate.Options{
		Caddyfile: plainSite,
		Env:       map[string]string{"UPSTREAM": up.Addr(), "ANSWER": "one"},
	})
	got := curl.Run(ctx, t, "-H", "X-Twice: a", "-H", "X-Twice: b", g.URL()+"/x")
	if got.Status != 200 || got.Header.Get("X-Gate") != "one" {
		t.Fatalf("%+v", got)
	}
	if last := up.Last(t); last.URI != "/x" || len(last.Header["X-Twice"]) != 2 {
		t.Errorf("%+v", last)
	}

	g.Reload(t, strings.Replace(plainSite, "{$ANSWER}", "two", 1))
	if page := browser.New(t).Open(ctx, t, g.URL(), browser.Typed); page.Header.Get("X-Gate") != "two" {
		t.Errorf("after the reload: %v", page.Header)
	}
	if err := g.TryReload(t, "http://localhost:{$GATE_PORT} {\n\tno_such_directive\n}\n"); err == nil || !strings.Contains(err.Error(), "no_such_directive") {
		t.Errorf("a broken Caddyfile was loaded: %v", err)
	}

	g.Kill()
	g.StartAgain(t)
	if got := curl.Run(ctx, t, g.URL()); got.Header.Get("X-Gate") != "two" {
		t.Errorf("after the crash: %+v", got)
	}
	g.Stop(t)
	if got := curl.Run(ctx, t, g.URL()); got.ExitCode != 7 {
		t.Errorf("a stopped gateway answers: %+v", got)
	}
	debug, runs := false, 0
	for _, record := range g.Log() {
		debug = debug || record["level"] == "debug"
		if record["msg"] == "serving initial configuration" {
			runs++
		}
	}
	if !debug || runs != 2 {
		t.Errorf("the log has debug lines: %v, runs: %d", debug, runs)
	}
}

func TestTLS(t *testing.T) {
	ctx := bounded(t)
	g := gate.Start(t, gate.Options{Caddyfile: "localhost:{$GATE_PORT} {\n\ttls internal\n\trespond hello\n}\n"})
	address := "https://localhost:" + g.Port()
	if got := curl.Run(ctx, t, "--cacert", g.RootCA(), address); got.Body != "hello" || got.Proto != "HTTP/2" {
		t.Errorf("%+v", got)
	}
	if page := browser.New(t, g.RootCA()).Open(ctx, t, address, browser.Typed); page.Body != "hello" {
		t.Errorf("%+v", page)
	}
}

func TestTwoGatesAndSharedHome(t *testing.T) {
	ctx := bounded(t)
	site := "http://localhost:{$GATE_PORT} {\n\trespond {$NAME}\n}\n"
	a := gate.Start(t, gate.Options{Caddyfile: site, Env: map[string]string{"NAME": "a"}})
	b := gate.Start(t, gate.Options{Caddyfile: site, Env: map[string]string{"NAME": "b"}, Home: a.Home})
	if got := curl.Run(ctx, t, a.URL()).Body + curl.Run(ctx, t, b.URL()).Body; got != "ab" {
		t.Errorf("%q", got)
	}
}

func TestValidate(t *testing.T) {
	if out, err := gate.Validate(t, gate.Options{Caddyfile: "http://localhost:{$GATE_PORT} {\n\trespond ok\n}\n"}); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := gate.Validate(t, gate.Options{Caddyfile: "http://localhost {\n\tnope\n}\n"}); err == nil || !strings.Contains(out, "nope") {
		t.Errorf("%v\n%s", err, out)
	}
}
