// This file shows that bodies pass through as they are, without being held:
// large ones, those that wait to be asked for, and parts.
package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	uploadSize = 64 << 20
	// uploadMemory is what the gateway may take for it: buffers of the
	// connections, HTTP/3's windows most of all.
	uploadMemory = 24 << 20
)

func (p *passage) upload(t *testing.T) {
	p.backend.mux.HandleFunc("/app/upload", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, hex.EncodeToString(sum.Sum(nil))+" "+r.Trailer.Get("X-Checksum")) //nolint:errcheck // the client may have gone away
	})
	for name, length := range map[string]int64{"length": uploadSize, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			p.each(t, func(t *testing.T, client http.RoundTripper) {
				before := p.gate.Heap(p.ctx, t)
				sum := sha256.New()
				req := p.request(t, http.MethodPut, "/app/upload", nil, p.key)
				req.Body, req.ContentLength = io.NopCloser(hashed(sum)), length
				resp := do(t, client, req)
				got := strings.TrimSpace(bodyOf(t, resp.Body))
				if want := hex.EncodeToString(sum.Sum(nil)); resp.StatusCode != 200 || got != want {
					t.Errorf("status %d, %s, want %s", resp.StatusCode, got, want)
				}
				if more := p.gate.Heap(p.ctx, t) - before; more > uploadMemory {
					t.Errorf("it took %d MiB", more>>20)
				}
			})
		})
	}
}

// hashed is a body that is hashed while it is read.
func hashed(sum hash.Hash) io.Reader {
	return io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), uploadSize), sum)
}

// expect: the client is told to go on, and only where somebody is signed in
// (RFC 9110 §10.1.1).
func (p *passage) expect(t *testing.T) {
	p.backend.mux.HandleFunc("/app/expected", func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the client may have gone away
	})
	for name, key := range map[string]string{"signed in": p.key, "nobody": ""} {
		t.Run(name, func(t *testing.T) {
			asked, body := false, &watched{Reader: strings.NewReader("x")}
			trace := &httptrace.ClientTrace{Got100Continue: func() { asked = true }}
			req := p.request(t, http.MethodPost, "/app/expected", nil, key)
			req = req.WithContext(httptrace.WithClientTrace(p.ctx, trace))
			req.Body, req.ContentLength = io.NopCloser(body), 1
			req.Header.Set("Expect", "100-continue")
			patient := p.clients["HTTP/1.1"].(*http.Transport).Clone()
			patient.ExpectContinueTimeout = sceneTime
			defer patient.CloseIdleConnections()
			resp := do(t, patient, req)
			bodyOf(t, resp.Body)
			if want := key != ""; asked != want || body.read.Load() != want || (resp.StatusCode == 200) != want {
				t.Errorf("status %d; the client was told to go on: %v, and did: %v", resp.StatusCode, asked, body.read.Load())
			}
		})
	}
}

// watched is a body that notes whether it is read.
type watched struct {
	io.Reader
	read atomic.Bool
}

func (w *watched) Read(b []byte) (int, error) {
	w.read.Store(true)
	return w.Reader.Read(b)
}

func (p *passage) ranges(t *testing.T) {
	const text = "0123456789"
	p.backend.mux.HandleFunc("/app/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file.txt", time.Time{}, strings.NewReader(text))
	})
	p.each(t, func(t *testing.T, client http.RoundTripper) {
		for asked, want := range map[string]struct {
			status           int
			of, body, length string
		}{
			"bytes=2-5": {206, "bytes 2-5/10", "2345", "4"},
			"bytes=-3":  {206, "bytes 7-9/10", "789", "3"},
			"bytes=10-": {416, "bytes */10", "", ""},
			"":          {200, "", text, "10"},
		} {
			req := p.request(t, http.MethodGet, "/app/file", nil, p.key)
			if asked != "" {
				req.Header.Set("Range", asked)
			}
			resp := do(t, client, req)
			body := bodyOf(t, resp.Body)
			if resp.StatusCode != want.status || resp.Header.Get("Content-Range") != want.of || (want.body != "" && (body != want.body || resp.Header.Get("Content-Length") != want.length)) {
				t.Errorf("%q: status %d, %v, %q", asked, resp.StatusCode, resp.Header, body)
			}
		}
	})
}
