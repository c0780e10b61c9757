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
	if matched || err != nil || plainPath(r.URL) {
		return matched, err
	}
	paths, clear := readings(r.URL)
	if !clear {
		return true, nil
	}
	for _, path := range paths {
		// a shallow copy: a matcher looks, and changes nothing
		other := *r
		other.URL = &url.URL{Path: path, RawQuery: r.URL.RawQuery}
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
// layers of percent-encoding taken off, backslashes taken for slashes or not,
// and parameters cut off each segment (Tomcat: /a;x=y/b is /a/b), before
// decoding or after, or not. clear is false where the path has dot segments,
// or an encoded NUL, ? or # in any reading: some servers resolve or cut there
// and others do not, and no client that means well sends them.
func readings(u *url.URL) (paths []string, clear bool) {
	seen := map[string]bool{}
	for _, layer := range []string{u.EscapedPath(), cutParameters(u.EscapedPath())} {
		for range decodings + 1 {
			for _, slashed := range []string{layer, strings.ReplaceAll(layer, `\`, "/")} {
				for _, p := range []string{slashed, cutParameters(slashed)} {
					if !hasNoTricks(p) {
						return nil, false
					}
					if p = path.Clean("/" + p); !seen[p] {
						seen[p] = true
						paths = append(paths, p, p+"/")
					}
				}
			}
			decoded, err := url.PathUnescape(layer)
			if err != nil || decoded == layer {
				break
			}
			layer = decoded
		}
	}
	return paths, true
}

func hasNoTricks(p string) bool {
	if strings.ContainsAny(p, "?#\x00") {
		return false
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
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
