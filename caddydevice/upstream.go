// This file holds what the upstream sees: the headers that only the gateway
// can set, and that neither key nor cookie of ours gets there.

package caddydevice

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// maxHeaderValue bounds a claim's value in a header: servers refuse a header
// section of more than 8 to 16 KiB.
const maxHeaderValue = 4 << 10

// ownHeaders are fields that a claim must not replace: they are how HTTP, and
// the way to the upstream, work.
var ownHeaders = []string{
	"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host",
	"Keep-Alive", "Origin", "Proxy-Authorization", "Proxy-Connection", "Referer", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
}

// upstreamHeaders are the configured headers, prepared.
type upstreamHeaders struct {
	headers []upstreamHeader
	lengths map[int]bool // of the names, to skip most fields at once
}

type upstreamHeader struct {
	name  string // canonical
	path  string // of the claim; "" for a token
	token func(*session.Identity) secret.String
}

// upstreamTokens are the values of upstream_token.
var upstreamTokens = []string{"none", "access_token", "id_token"}

// tokenOf are the tokens that the upstream may get.
var tokenOf = map[string]func(*session.Identity) secret.String{
	"access_token": func(who *session.Identity) secret.String { return who.AccessToken },
	"id_token":     func(who *session.Identity) secret.String { return who.IDToken },
}

func newUpstreamHeaders(cfg map[string]string, token string) (*upstreamHeaders, error) {
	u := &upstreamHeaders{lengths: map[int]bool{}}
	for name, path := range cfg {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name) || strings.ContainsAny(name, "_."):
			return nil, fmt.Errorf("upstream_headers: %q is not a header name: use letters, digits and hyphens", name)
		case slices.Contains(ownHeaders, canonical) || strings.HasPrefix(canonical, "Sec-"):
			return nil, fmt.Errorf("upstream_headers: %s cannot hold a claim: it has a meaning of its own; choose another name, like Remote-User", canonical)
		case path == "":
			return nil, fmt.Errorf("upstream_headers: %s needs a claim", canonical)
		case u.index(canonical) >= 0:
			return nil, fmt.Errorf("upstream_headers: %s is there twice", canonical)
		}
		u.headers = append(u.headers, upstreamHeader{name: canonical, path: path})
		u.lengths[len(canonical)] = true
	}
	if of := tokenOf[token]; of != nil {
		u.headers = append(u.headers, upstreamHeader{name: "Authorization", token: of})
		u.lengths[len("Authorization")] = true
	}
	slices.SortFunc(u.headers, func(a, b upstreamHeader) int { return strings.Compare(a.name, b.name) })
	return u, nil
}

// index returns the place of the header that a field name is, or is an alias
// of; -1 for none. Servers that make variables of field names (CGI, WSGI) do
// not tell - from _ or, some of them, from a dot.
func (u *upstreamHeaders) index(field string) int {
	for i := range u.headers {
		if sameVariable(field, u.headers[i].name) {
			return i
		}
	}
	return -1
}

func sameVariable(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if variableByte(a[i]) != variableByte(b[i]) {
			return false
		}
	}
	return true
}

func variableByte(c byte) byte {
	switch {
	case c == '_' || c == '.':
		return '-'
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	}
	return c
}

// clean takes what only the gateway may set off the request, however it is
// spelled, and out of the lists by which a client could have it removed again
// (Connection), and off its trailers. What an earlier gate of the same request has
// set stays.
func (u *upstreamHeaders) clean(r *http.Request) {
	set := headersSet(r)
	for field := range r.Header {
		if !u.lengths[len(field)] {
			continue
		}
		if i := u.index(field); i >= 0 && !(field == u.headers[i].name && set[field]) {
			if u.headers[i].token != nil {
				keepArrived(r) // the credential is in it
			}
			delete(r.Header, field)
		}
	}
	filterTokens(r.Header, "Connection", func(token string) bool { return u.index(token) < 0 })
	u.cleanTrailers(r)
}

// headersVar is the request variable that holds which fields a gate has set.
const headersVar = "device_auth.headers"

func headersSet(r *http.Request) map[string]bool {
	set, _ := caddyhttp.GetVar(r.Context(), headersVar).(map[string]bool)
	return set
}

// set puts the claims, and the token, into the request; false where a claim is
// too large.
func (u *upstreamHeaders) set(r *http.Request, who *session.Identity) bool {
	if len(u.headers) == 0 {
		return true
	}
	set := headersSet(r)
	if set == nil {
		set = make(map[string]bool, len(u.headers))
		caddyhttp.SetVar(r.Context(), headersVar, set)
	}
	for _, h := range u.headers {
		delete(r.Header, h.name) // what an earlier gate says of somebody else
		value, ok := h.valueOf(who)
		if h.token == nil && len(value) > maxHeaderValue {
			return false
		}
		if ok {
			r.Header[h.name] = []string{value}
			set[h.name] = true
		}
	}
	return true
}

// valueOf is what the header says of somebody; ok is false for nothing.
func (h upstreamHeader) valueOf(who *session.Identity) (value string, ok bool) {
	if h.token != nil {
		token := h.token(who).Reveal()
		return "Bearer " + token, token != ""
	}
	claim, ok := claimAt(who.Claims, h.path)
	if !ok {
		return "", false
	}
	return headerValue(claim)
}

// headerValue writes a claim as a header value; ok is false for what is not
// there (null) or has no one value (an object).
func headerValue(claim any) (value string, ok bool) {
	switch v := claim.(type) {
	case string:
		return encodeHeader(v, false), true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	case []any:
		parts := make([]string, 0, len(v))
		for _, e := range v {
			if s, isString := e.(string); isString {
				parts = append(parts, encodeHeader(s, true))
			} else if s, simple := headerValue(e); simple {
				parts = append(parts, s)
			}
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}

// encodeHeader writes text in printable ASCII, so that no server in the way
// reads anything else than was written: other bytes, a percent sign, blanks at
// the ends and, in a list, commas as %XX (RFC 3986 §2.1).
func encodeHeader(text string, inList bool) string {
	plain := func(i int) bool {
		c := text[i]
		atEnd := i == 0 || i == len(text)-1
		return c >= 0x20 && c < 0x7f && c != '%' && !(c == ' ' && atEnd) && !(c == ',' && inList)
	}
	first := 0
	for first < len(text) && plain(first) {
		first++
	}
	if first == len(text) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if plain(i) {
			b.WriteByte(text[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", text[i])
		}
	}
	return b.String()
}
