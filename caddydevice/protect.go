// This file holds the decision which requests are protected.

package caddydevice

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

// protects reports whether the request needs a sign-in: where the user's
// matcher matches it, or would match it the way some upstream may read its
// path. A path that servers read in different ways is never open by accident.
func (h *Handler) protects(r *http.Request) (bool, error) {
	if h.matchers == nil {
		return true, nil
	}
	matched, err := h.matchers.AnyMatchWithError(r)
	if matched || err != nil {
		return matched, err
	}
	plain, differs := plainPath(r.URL)
	if !differs {
		return false, nil
	}
	// a shallow copy: a matcher looks, and changes nothing
	other := *r
	other.URL = &url.URL{Path: plain, RawQuery: r.URL.RawQuery}
	other.RequestURI = other.URL.RequestURI()
	return h.matchers.AnyMatchWithError(&other)
}

// plainPath is the shortest path that any server could make of a URL's: every
// layer of percent-encoding taken off, backslashes taken for slashes,
// parameters off each segment (Tomcat: /pub/..;/admin), cut where a NUL, ? or
// # was encoded, dot segments resolved. differs is false where it is the path
// that is there, as it nearly always is.
func plainPath(u *url.URL) (plain string, differs bool) {
	if u.RawPath == "" && !strings.ContainsAny(u.Path, "%\\;?#\x00") && !strings.Contains(u.Path, "//") && !strings.Contains(u.Path, "/.") {
		return u.Path, false
	}
	p := u.Path
	for range 3 {
		decoded, err := url.PathUnescape(p)
		if err != nil || decoded == p {
			break
		}
		p = decoded
	}
	p = strings.ReplaceAll(p, `\`, "/")
	if i := strings.IndexAny(p, "?#\x00"); i >= 0 {
		p = p[:i]
	}
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	plain = path.Clean("/" + strings.Join(segments, "/"))
	if strings.HasSuffix(p, "/") && plain != "/" {
		plain += "/"
	}
	return plain, plain != u.Path || u.RawPath != ""
}

// dropForeignUpgrade takes an Upgrade to anything but a WebSocket off the
// request: an upstream that switches to h2c would take further requests past
// this gate.
func dropForeignUpgrade(r *http.Request) {
	if r.Header["Upgrade"] == nil || isWebSocket(r) {
		return
	}
	delete(r.Header, "Upgrade")
	delete(r.Header, "Http2-Settings")
	filterTokens(r.Header, "Connection", func(token string) bool {
		return !strings.EqualFold(token, "upgrade") && !strings.EqualFold(token, "http2-settings")
	})
}

// filterTokens keeps of a list-valued field (RFC 9110 §5.6.1) the tokens that
// keep wants, and the field itself only where one is left. What needs no
// change is not touched.
func filterTokens(h http.Header, field string, keep func(string) bool) {
	values := h[field]
	if values == nil {
		return
	}
	var kept []string
	dropped := false
	for _, value := range values {
		for token := range strings.SplitSeq(value, ",") {
			token = strings.TrimSpace(token)
			switch {
			case token == "":
			case keep(token):
				kept = append(kept, token)
			default:
				dropped = true
			}
		}
	}
	switch {
	case !dropped:
	case len(kept) == 0:
		delete(h, field)
	default:
		h[field] = []string{strings.Join(kept, ", ")}
	}
}
