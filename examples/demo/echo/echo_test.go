// Tests of what the upstream shows, and what it does not.

package echo

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswer(t *testing.T) {
	tests := map[string]struct {
		accept      string
		header      map[string]string
		contentType string
		want        []string
		not         []string
	}{
		"text by default": {
			header:      map[string]string{"Remote-User": "alice", "Remote-Groups": "staff,admins", "X-B": "2", "X-A": "1"},
			contentType: "text/plain; charset=utf-8",
			want: []string{
				"Hello, alice.", "PUT /a?b=c\n",
				"Identity headers\n  Remote-Groups: staff,admins\n  Remote-User: alice\n",
				"Other headers\n  Host: example.com\n  X-A: 1\n  X-B: 2\n",
			},
		},
		"nobody": {
			contentType: "text/plain; charset=utf-8",
			want:        []string{"nobody told me", "Identity headers\n  (none)\n"},
		},
		"a page for a browser": {
			accept:      "text/html,*/*;q=0.8",
			header:      map[string]string{"Remote-Name": "<b>Alice</b>"},
			contentType: "text/html; charset=utf-8",
			want:        []string{"Hello, &lt;b&gt;Alice&lt;/b&gt;.", "<th scope=\"row\">Remote-Name</th>"},
			not:         []string{"<b>"},
		},
		"no secrets": {
			header:      map[string]string{"Authorization": "Bearer topsecret", "Cookie": "a=topsecret; b=topsecret"},
			contentType: "text/plain; charset=utf-8",
			want:        []string{"Authorization: Bearer … (16 characters, not shown)", "Cookie: a=…; b=…"},
			not:         []string{"topsecret"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("PUT", "/a?b=c", nil)
			if tt.accept != "" {
				r.Header.Set("Accept", tt.accept)
			}
			for k, v := range tt.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			New().ServeHTTP(w, r)
			if got := w.Header().Get("Content-Type"); got != tt.contentType {
				t.Errorf("Content-Type: %q, want %q", got, tt.contentType)
			}
			check(t, w.Body.String(), tt.want, true)
			check(t, w.Body.String(), tt.not, false)
		})
	}
}

func check(t *testing.T, body string, words []string, there bool) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(body, w) != there {
			t.Errorf("%q: want it there: %v, in\n%s", w, there, body)
		}
	}
}

func TestPagePolicy(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", "text/html")
	w := httptest.NewRecorder()
	New().ServeHTTP(w, r)
	_, rest, _ := strings.Cut(w.Header().Get("Content-Security-Policy"), "'nonce-")
	nonce, _, _ := strings.Cut(rest, "'")
	if nonce == "" || !strings.Contains(w.Body.String(), `<style nonce="`+nonce+`">`) {
		t.Errorf("the style is not allowed by its own policy: nonce %q", nonce)
	}
}
