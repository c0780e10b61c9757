// This file tests what a request brings into the parameters of a sign-in.

package caddydevice

import (
	"net/http"
	"strings"
	"testing"
)

// TestParamsThatCannotBeSent: what a client makes too long, or puts control
// characters into, reaches no identity provider, and counts against no limit.
func TestParamsThatCannotBeSent(t *testing.T) {
	g := newGate(t, map[string]any{"param": map[string]any{"login_hint": []string{"{http.request.header.X-User}"}}})
	for name, c := range map[string]struct {
		value string
		sent  bool
	}{
		"longest": {strings.Repeat("a", maxParam), true}, "too long": {strings.Repeat("a", maxParam+1), false}, "no UTF-8": {"a\xffb", false},
		"newline": {"a\nb", false}, "NUL": {"a\x00b", false}, "C1": {"a\u009bb", false}, "other letters": {"Zoë", true},
	} {
		before := g.starts()
		resp := g.do(request{target: "/", header: with(curlHeaders, "X-User", c.value)})
		if sent := g.starts() != before; sent != c.sent || !sent && (resp.StatusCode != http.StatusBadRequest || !strings.Contains(g.body, "passed on to the identity provider")) {
			t.Errorf("%s: status %d, sent %t: %s", name, resp.StatusCode, sent, g.body)
		}
	}
}

// TestBadParamCountsNothing: a client that sends one can sign in after that.
func TestBadParamCountsNothing(t *testing.T) {
	g := newGate(t, map[string]any{
		"param":  map[string]any{"login_hint": []string{"{http.request.header.X-User}"}},
		"limits": map[string]any{"starts": map[string]any{"count": 1, "per": "1h"}},
	})
	for _, c := range []struct {
		value string
		want  int
	}{{"a\nb", http.StatusBadRequest}, {"ann", http.StatusUnauthorized}, {"ann", http.StatusTooManyRequests}} {
		if resp := g.do(request{target: "/", header: with(curlHeaders, "X-User", c.value)}); resp.StatusCode != c.want {
			t.Errorf("%q: status %d, want %d", c.value, resp.StatusCode, c.want)
		}
	}
}
