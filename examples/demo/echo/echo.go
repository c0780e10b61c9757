// Package echo is the upstream of the demo: it answers every request with what
// it saw of it, as text or as a page.
package echo

import (
	"bytes"
	"crypto/rand"
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strings"
)

//go:embed page.html
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

// A seen is a request as the answer shows it.
type seen struct {
	Nonce    string
	Method   string
	URI      string
	Who      string
	Identity []field // what the gate says about the person
	Headers  []field // everything else
}

type field struct{ Name, Value string }

// New returns the handler.
func New() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	s := look(r)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		s.writeText(w)
		return
	}
	s.Nonce = rand.Text()
	var body bytes.Buffer
	if err := page.Execute(&body, s); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'nonce-"+s.Nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = body.WriteTo(w)
}

func look(r *http.Request) seen {
	s := seen{Method: r.Method, URI: r.RequestURI}
	all := r.Header.Clone()
	all.Set("Host", r.Host) // net/http keeps it beside the others
	for name, values := range all {
		f := field{Name: name, Value: shown(name, values)}
		if isIdentity(name) {
			s.Identity = append(s.Identity, f)
		} else {
			s.Headers = append(s.Headers, f)
		}
	}
	for _, fields := range [][]field{s.Identity, s.Headers} {
		slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	}
	for _, name := range []string{"Remote-Name", "Remote-User", "Remote-Email"} {
		if s.Who == "" {
			s.Who = r.Header.Get(name)
		}
	}
	return s
}

// isIdentity reports whether a header is one that gates use to name a person.
func isIdentity(name string) bool {
	switch name {
	case "X-Forwarded-User", "X-Forwarded-Groups", "X-Forwarded-Email", "X-Forwarded-Preferred-Username":
		return true
	}
	return strings.HasPrefix(name, "Remote-") || strings.HasPrefix(name, "X-Auth-Request-")
}

// shown is a header's value, without the secrets: an answer ends up in terminals
// and screenshots.
func shown(name string, values []string) string {
	all := strings.Join(values, ", ")
	switch name {
	case "Authorization", "Proxy-Authorization":
		scheme, _, _ := strings.Cut(all, " ")
		return fmt.Sprintf("%s … (%d characters, not shown)", scheme, len(all))
	case "Cookie":
		cookies, err := http.ParseCookie(strings.Join(values, "; "))
		if err != nil {
			return fmt.Sprintf("(%d characters, not shown)", len(all))
		}
		names := make([]string, len(cookies))
		for i, c := range cookies {
			names[i] = c.Name + "=…"
		}
		return strings.Join(names, "; ")
	}
	return all
}

func (s seen) writeText(w io.Writer) {
	var b strings.Builder
	if s.Who != "" {
		fmt.Fprintf(&b, "Hello, %s. This is the upstream behind the gate.\n\n", s.Who)
	} else {
		b.WriteString("Hello. This is the upstream; nobody told me who you are.\n\n")
	}
	fmt.Fprintf(&b, "%s %s\n", s.Method, s.URI)
	writeFields(&b, "Identity headers", s.Identity)
	writeFields(&b, "Other headers", s.Headers)
	_, _ = io.WriteString(w, b.String())
}

func writeFields(b *strings.Builder, title string, fields []field) {
	fmt.Fprintf(b, "\n%s\n", title)
	if len(fields) == 0 {
		b.WriteString("  (none)\n")
	}
	for _, f := range fields {
		fmt.Fprintf(b, "  %s: %s\n", f.Name, f.Value)
	}
}
