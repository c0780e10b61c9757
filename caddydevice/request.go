// This file holds what is told from a request's shape: whether it is a
// browser's, a navigation, and whether it may start a sign-in.

package caddydevice

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
)

// isBrowser reports whether a browser made the request. Fetch metadata says
// so (Sec-Fetch-Mode alone is a program: Node sends it), and what browsers
// without it send.
func isBrowser(r *http.Request) bool {
	h := r.Header
	return h["Sec-Fetch-Site"] != nil || h["Sec-Fetch-Dest"] != nil || h["Origin"] != nil || h["Referer"] != nil ||
		page.Names(h["Accept"], page.HTML)
}

// isNavigation reports whether the answer becomes the content of a browser's
// window: nothing else may start a browser's sign-in or claim one. Without
// fetch metadata (old WebKit, plain HTTP) the Accept header has to do.
func isNavigation(r *http.Request) bool {
	h := r.Header
	if r.Method != http.MethodGet || isPrefetch(r) {
		return false
	}
	if h["Sec-Fetch-Site"] != nil || h["Sec-Fetch-Dest"] != nil {
		return h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Sec-Fetch-Dest") == "document"
	}
	return page.Names(h["Accept"], page.HTML) && h["Origin"] == nil && h["X-Requested-With"] == nil
}

// neverStart are paths that browsers and crawlers ask for by themselves.
var neverStart = map[string]bool{"/favicon.ico": true, "/robots.txt": true}

// noStartMethods ask about a resource, or for a tunnel, and nobody reads the
// answer's body.
var noStartMethods = map[string]bool{http.MethodHead: true, http.MethodOptions: true, http.MethodConnect: true, http.MethodTrace: true}

// mayStart reports whether the request's shape lets it start a sign-in. login
// is whether it asks for the login path.
func (h *Handler) mayStart(r *http.Request, login bool) bool {
	if isUnattended(r) || isUpgrade(r) {
		return false
	}
	if isBrowser(r) {
		return isNavigation(r) || (login && isFetchOrForm(r) && h.isSameOrigin(r))
	}
	return !noStartMethods[r.Method] && !isGRPC(r) && !neverStart[r.URL.Path] && !isPrefetch(r) &&
		!strings.EqualFold(r.Header.Get("X-Requested-With"), "XMLHttpRequest")
}

// isPrefetch reports whether the answer may never be looked at.
func isPrefetch(r *http.Request) bool {
	return r.Header["Purpose"] != nil || r.Header["Sec-Purpose"] != nil || r.Header["X-Moz"] != nil
}

// isFetchOrForm reports whether a page's script, or a button of it, made the
// request: an image or a frame that points to the login path is neither.
func isFetchOrForm(r *http.Request) bool {
	switch dest := r.Header.Get("Sec-Fetch-Dest"); r.Method {
	case http.MethodGet:
		return (dest == "" || dest == "empty") && !isPrefetch(r)
	case http.MethodPost:
		return dest == "" || dest == "empty" || dest == "document"
	}
	return false
}

// isSameOrigin reports whether a page of this origin made the request: by
// fetch metadata, else by Origin, else by Referer.
func (h *Handler) isSameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	from := r.Header.Get("Origin")
	if from == "" {
		from = r.Header.Get("Referer")
	}
	return sameHost(from, r.Host) || (h.hosts.public != "" && (from == h.hosts.public || strings.HasPrefix(from, h.hosts.public+"/")))
}

// sameHost reports whether a URL or origin is of the host, port included.
func sameHost(from, host string) bool {
	u, err := url.Parse(from)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// isUpgrade reports whether the request wants its connection, or its stream
// (RFC 8441, RFC 9220), for another protocol.
func isUpgrade(r *http.Request) bool {
	return r.Header["Upgrade"] != nil || r.Method == http.MethodConnect
}

// isWebSocket reports whether an upgrade is to a WebSocket, over any version
// of HTTP: of HTTP/1.1 only a GET can be one (RFC 6455 §4.1). Caddy makes such
// an upgrade of the later ones' CONNECT.
func isWebSocket(r *http.Request) bool {
	switch {
	case r.Method != http.MethodConnect:
		up := r.Header["Upgrade"]
		return r.Method == http.MethodGet && len(up) == 1 && strings.EqualFold(up[0], "websocket")
	case r.ProtoMajor == 2:
		return r.Header.Get(":protocol") == "websocket"
	default:
		return r.ProtoMajor == 3 && r.Proto == "websocket"
	}
}

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// original is the request as it arrived, before any rewrite.
func original(r *http.Request) *url.URL {
	if or, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && or.URL != nil {
		return or.URL
	}
	return r.URL
}

// pathsOf are the paths by which a request may be for the gateway itself: as it
// is now, as it arrived, and as it arrived without what was stripped, since a
// rewrite may have come after that.
func (h *Handler) pathsOf(r *http.Request) [3]string {
	_, rest := h.stripped(r)
	return [...]string{r.URL.Path, original(r).Path, rest}
}

// reserved returns the name of the gateway's own path that the request is for.
func (h *Handler) reserved(r *http.Request) (string, bool) {
	for _, path := range h.pathsOf(r) {
		if name, ok := under(path, h.PathPrefix); ok {
			return name, true
		}
	}
	return "", false
}

func under(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return "", false
	}
	if rest == "" {
		return "", true
	}
	return strings.CutPrefix(rest, "/")
}

// validPrefix accepts a clean path of unreserved characters (RFC 3986 §2.3),
// so that it is spelled the same however it is encoded.
func validPrefix(p string) bool {
	if len(p) < 2 || p[0] != '/' {
		return false
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		if seg == "" || seg == "." || seg == ".." || strings.ContainsFunc(seg, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~", c))
		}) {
			return false
		}
	}
	return true
}
