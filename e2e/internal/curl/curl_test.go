// This file tests what is read from the real curl.
package curl_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestRun(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/from" {
			http.Redirect(w, r, "/to", http.StatusFound)
			return
		}
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "body of "+r.URL.Path+" for "+r.Header.Get("Accept"))
	})
	got := curl.Run(bounded(t), t, "-L", "-w", "%{num_redirects}", address+"/from")
	if got.Status != 401 || got.Body != "body of /to for */*" || got.Out != "1" || got.ExitCode != 0 || got.Proto != "HTTP/1.1" {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(got.Header["Set-Cookie"], []string{"a=1", "b=2"}) {
		t.Errorf("header %v", got.Header)
	}
	if got := curl.Run(bounded(t), t, "--fail", address); got.ExitCode != 22 {
		t.Errorf("exit code %d", got.ExitCode)
	}
	if got := curl.Run(bounded(t), t, "http://127.0.0.1:1/"); got.ExitCode != 7 || got.Status != 0 || got.Stderr == "" {
		t.Errorf("%+v", got)
	}
}

func TestShell(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Authorization")) })
	got := curl.Shell(bounded(t), t, "curl -s -H 'Authorization: Bearer two words' "+address)
	if got.Out != "Bearer two words" || got.ExitCode != 0 {
		t.Errorf("%+v", got)
	}
}

func TestStream(t *testing.T) {
	more := make(chan struct{})
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "first\nsecond\n")
		w.(http.Flusher).Flush()
		<-more
		io.WriteString(w, "last")
	})
	ctx := bounded(t)
	s := curl.Open(ctx, t, address)
	lines, err := s.Until(ctx, "sec")
	if err != nil || !slices.Equal(lines, []string{"first", "second"}) {
		t.Fatalf("%q, %v", lines, err)
	}
	close(more)
	if line, err := s.Line(ctx); err != nil || line != "last" {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := s.Line(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

func TestStreamHangsUp(t *testing.T) {
	gone := make(chan struct{})
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		io.WriteString(w, "line\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx := bounded(t)
	s := curl.Open(ctx, t, address)
	if _, err := s.Line(ctx); err != nil {
		t.Fatal(err)
	}
	s.Close()
	select {
	case <-gone:
	case <-ctx.Done():
		t.Error("the server was not told")
	}
}
