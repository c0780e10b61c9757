// This file holds the session cookie: its name and attributes, where it may be
// used at all, and how it is read and taken off a request.

package caddydevice

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// hostPrefix makes a browser refuse the cookie unless it is Secure, for this
// host alone and for every path: no other host can plant one.
const hostPrefix = "__Host-"

// cookiePolicy is the cookie as one handler uses it.
type cookiePolicy struct {
	name     string
	secure   bool
	lifetime time.Duration
}

// newCookiePolicy decides whether the cookie can be used on the server, and
// how. Without TLS it would cross a network in the clear, so that is refused
// but for loopback, for TLS that ends in front of Caddy, and on request.
func (h *Handler) newCookiePolicy(server *caddyhttp.Server) (cookiePolicy, error) {
	name := strings.TrimPrefix(h.Session.Cookie, hostPrefix)
	if !httpguts.ValidHeaderFieldName(name) {
		return cookiePolicy{}, fmt.Errorf("session cookie %q: not a cookie name", h.Session.Cookie)
	}
	policy := cookiePolicy{name: name, lifetime: time.Duration(h.Session.Lifetime)}
	if server == nil || len(server.TLSConnPolicies) > 0 || h.PublicURL != "" {
		policy.name, policy.secure = hostPrefix+name, true
		return policy, nil
	}
	if !h.InsecureCookie && !listensOnLoopback(server) && !h.hosts.local {
		return cookiePolicy{}, errors.New("this server has no TLS, so the session cookie would cross the network in the clear: " +
			"serve the site over https; or set public_url, where TLS ends in front of Caddy; or bind to loopback; or set insecure_cookie, if nobody can read the traffic")
	}
	h.logger.Warn("the session cookie is not Secure: this server has no TLS", zap.Strings("listen", server.Listen))
	return policy, nil
}

func listensOnLoopback(server *caddyhttp.Server) bool {
	for _, listen := range server.Listen {
		addr, err := caddy.ParseNetworkAddress(listen)
		if err != nil || !isLocalHost(addr.Host) {
			return false
		}
	}
	return len(server.Listen) > 0
}

// isLocalHost reports whether a name is this machine for everybody (RFC 6761
// §6.3), or a loopback address.
func isLocalHost(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// set gives the client its key. The server alone decides what the key is still
// worth; the cookie just lives as long as the longest session.
func (c cookiePolicy) set(w http.ResponseWriter, key session.Key) {
	c.write(w, key.Reveal(), int(c.lifetime/time.Second))
}

// clear takes the key away.
func (c cookiePolicy) clear(w http.ResponseWriter) { c.write(w, "", -1) }

func (c cookiePolicy) write(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: without Secure only where newCookiePolicy allows that
		Name: c.name, Value: value, Path: "/", MaxAge: maxAge,
		Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// key reads the key from the Cookie fields. Two cookies that hold different keys are
// none: one of them was planted, and it is not known which.
func (c cookiePolicy) key(fields []string) (session.Key, bool) {
	var found session.Key
	for _, field := range fields {
		for pair := range strings.SplitSeq(field, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if name != c.name {
				continue
			}
			key, ok := session.ParseKey(value)
			if !ok {
				continue
			}
			if found != (session.Key{}) && key != found {
				return session.Key{}, false
			}
			found = key
		}
	}
	return found, found != (session.Key{})
}

// hide takes our cookie, and any that holds a session key, out of the Cookie
// fields; the others stay as they are. changed is whether there was one.
func (c cookiePolicy) hide(h http.Header) (changed bool) {
	fields := h["Cookie"]
	kept := fields[:0:0]
	for _, field := range fields {
		if !strings.Contains(field, c.name) && !strings.Contains(field, session.KeyPrefix) {
			kept = append(kept, field)
			continue
		}
		rest := c.without(field)
		changed = changed || rest != field
		if rest != "" {
			kept = append(kept, rest)
		}
	}
	switch {
	case !changed:
	case len(kept) == 0:
		delete(h, "Cookie")
	default:
		h["Cookie"] = kept
	}
	return changed
}

func (c cookiePolicy) without(field string) string {
	pairs := strings.Split(field, ";")
	kept := pairs[:0]
	for _, pair := range pairs {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if name != c.name && !strings.Contains(value, session.KeyPrefix) {
			kept = append(kept, pair)
		}
	}
	return strings.TrimSpace(strings.Join(kept, ";"))
}
