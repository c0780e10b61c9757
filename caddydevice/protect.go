// This file holds the decision which requests are protected.

package caddydevice

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// protects reports whether the request needs a sign-in: where the user's
// matcher matches it, or would match it the way some upstream may read its
// path.
func (h *Handler) protects(r *http.Request) (bool, error) {
	if h.matchers == nil || !strings.HasPrefix(r.URL.Path, "/") {
		return true, nil
	}
	matched, err := h.matchers.AnyMatchWithError(r)
	if matched || err != nil || plainPath(r.URL) {
		return matched, err
	}
	paths, ok := readings(r.URL)
	if !ok {
		return true, nil
	}
	for _, reading := range paths {
		// a shallow copy: a matcher looks, and changes nothing
		other := *r
		other.URL = &url.URL{Path: reading, RawQuery: r.URL.RawQuery}
		if matched, err := h.matchers.AnyMatchWithError(&other); matched || err != nil {
			return matched, err
		}
	}
	return false, nil
}

// plainPath reports whether every server reads the path the same, as is so of
// nearly all.
func plainPath(u *url.URL) bool {
	return u.RawPath == "" && !strings.ContainsAny(u.Path, "%\\;?#\x00") && !strings.Contains(u.Path, "//") && !strings.Contains(u.Path, "/.")
}

// decodings is how many layers of percent-encoding are taken off: one is the
// rule, two a known mistake, three for good measure.
const decodings = 3

// readings are the paths that servers may make of a URL's: with more or fewer
// layers of percent-encoding taken off; backslashes taken for slashes or not;
// parameters cut off each segment (Tomcat: /a;x=y/b is /a/b), before decoding
// or after, or not; what follows an encoded ? or # cut off or not; and what
// follows // taken for a host or not. ok is false where any of them has dot
// segments or a NUL: some servers resolve or cut there and others do not, and
// clients resolve dots before they ask.
func readings(u *url.URL) (paths []string, ok bool) {
	seen := map[string]bool{}
	add := func(reading string) {
		slash := strings.HasSuffix(reading, "/")
		reading = path.Clean("/" + reading)
		if slash && reading != "/" {
			reading += "/"
		}
		if !seen[reading] {
			seen[reading] = true
			paths = append(paths, reading)
		}
	}
	for _, layer := range []string{u.EscapedPath(), cutParameters(u.EscapedPath())} {
		for range decodings + 1 {
			for _, slashed := range []string{layer, strings.ReplaceAll(layer, `\`, "/")} {
				for _, reading := range []string{slashed, cutParameters(slashed)} {
					if hasDots(reading) || strings.Contains(reading, "\x00") {
						return nil, false
					}
					add(reading)
					add(afterHost(reading))
					if i := strings.IndexAny(reading, "?#"); i >= 0 {
						add(reading[:i])
					}
				}
			}
			layer = decodeOnce(layer)
		}
	}
	return paths, true
}

// hasDots reports whether a segment is . or .., also where a ? or # that was
// encoded ends it.
func hasDots(p string) bool {
	for segment := range strings.FieldsFuncSeq(p, func(c rune) bool { return c == '/' || c == '?' || c == '#' }) {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// afterHost is what is left of a path that begins with two slashes for a
// server that takes it for a reference with a host (RFC 3986 §4.2).
func afterHost(p string) string {
	rest, ok := strings.CutPrefix(p, "//")
	if !ok {
		return p
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return "/"
}

// decodeOnce takes one layer of percent-encoding off. What is no encoding
// stays as it is, as lenient servers leave it.
func decodeOnce(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			if c, err := hex.DecodeString(p[i+1 : i+3]); err == nil {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// cutParameters takes the parameters off each segment (RFC 3986 §3.3).
func cutParameters(p string) string {
	if !strings.Contains(p, ";") {
		return p
	}
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
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
