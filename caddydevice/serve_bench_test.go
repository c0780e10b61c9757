// This file measures what the gate costs a signed-in request.

package caddydevice

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// BenchmarkSignedIn is the way of a signed-in request through the gate, to a
// next handler that does nothing, beside that handler alone.
func BenchmarkSignedIn(b *testing.B) {
	g := newGate(b, nil)
	key := g.terminal()
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"gate":  func(w http.ResponseWriter, r *http.Request) error { return g.ServeHTTP(w, r, next) },
		"alone": func(w http.ResponseWriter, r *http.Request) error { return next.ServeHTTP(w, r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "https://api.example.com/x", nil)
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
			vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
			for b.Loop() {
				r.Header = http.Header{"Authorization": {"Bearer " + key}, "Accept": {"*/*"}, "User-Agent": {"curl"}}
				delete(vars, admittedVar)
				delete(vars, headersVar)
				if err := serve(w, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
