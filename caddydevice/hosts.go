// This file holds hosts and links: which site a request is for, and the
// addresses that answers carry.

package caddydevice

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// hostPolicy says which hosts a server answers for.
type hostPolicy struct {
	public string   // origin of public_url, "" without one
	site   string   // its host
	named  []string // by the server's host matchers, lower case
	any    bool     // some route of the server is for any host
	local  bool     // all of them are this machine
}

func newHostPolicy(server *caddyhttp.Server, publicURL string) (hostPolicy, error) {
	var p hostPolicy
	if publicURL != "" {
		var err error
		if p.public, p.site, err = parsePublicURL(publicURL); err != nil {
			return p, err
		}
	}
	if server == nil {
		return p, nil
	}
	for _, route := range server.Routes {
		hosts := hostsOf(route.MatcherSets)
		p.any = p.any || hosts == nil
		p.named = append(p.named, hosts...)
	}
	p.local = !p.any && len(p.named) > 0
	for _, host := range p.named {
		p.local = p.local && isLocalHost(host)
	}
	return p, nil
}

// parsePublicURL returns the origin of public_url, and its host.
func parsePublicURL(raw string) (origin, host string, err error) {
	origin, err = parseOrigin(raw)
	if err == nil && !strings.HasPrefix(origin, "https:") {
		err = errNoOrigin
	}
	if err != nil {
		return "", "", fmt.Errorf("public_url %q: %w", raw, err)
	}
	u, err := url.Parse(origin)
	return origin, u.Hostname(), err
}

// hostsOf returns the hosts that a route is for, nil where it is for any.
func hostsOf(sets caddyhttp.MatcherSets) []string {
	var hosts []string
	repl := caddy.NewReplacer()
	for _, set := range sets {
		named := false
		for _, m := range set {
			var list []string
			switch host := m.(type) {
			case *caddyhttp.MatchHost:
				list = *host
			case caddyhttp.MatchHost:
				list = host
			default:
				continue
			}
			named = true
			for _, name := range list {
				name = repl.ReplaceKnown(name, "")
				if strings.Contains(name, "{") {
					return nil // only a request can tell
				}
				hosts = append(hosts, strings.ToLower(name))
			}
		}
		if !named {
			return nil
		}
	}
	return hosts
}

// siteOf returns the site of a request, "" where its host is not one that this
// server answers for: then no link can be made and no session exists.
func (p *hostPolicy) siteOf(r *http.Request) string {
	if p.site != "" {
		return p.site
	}
	host := strings.ToLower(hostname(r.Host))
	if !wellFormedHost(host) || !p.answersFor(host) {
		return ""
	}
	return host
}

// hostname takes the port and the brackets of an IPv6 address off a Host field
// (RFC 9110 §7.2); "" where it is not well formed.
func hostname(field string) string {
	if !strings.ContainsAny(field, ":[]") {
		return field
	}
	host, port, err := net.SplitHostPort(field)
	if err != nil {
		host, port, err = net.SplitHostPort(field + ":0")
	}
	if err != nil || strings.Trim(port, "0123456789") != "" || port == "" {
		return ""
	}
	return host
}

func (p *hostPolicy) answersFor(host string) bool {
	if p.any || len(p.named) == 0 {
		return true
	}
	for _, name := range p.named {
		if name == host || certmagicMatch(host, name) {
			return true
		}
	}
	return false
}

// certmagicMatch is Caddy's rule for wildcards in host matchers: each label
// may be one, and stands for one.
func certmagicMatch(host, pattern string) bool {
	if !strings.Contains(pattern, "*") {
		return false
	}
	want, have := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if want[i] != "*" && want[i] != have[i] {
			return false
		}
	}
	return true
}

// wellFormedHost accepts a host name or an IP address, and nothing that could
// mean something else in a URL, a page or a terminal.
func wellFormedHost(host string) bool {
	if strings.Contains(host, ":") {
		addr, err := netip.ParseAddr(host)
		return err == nil && addr.Zone() == ""
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
		}) {
			return false
		}
	}
	return true
}

// links are the addresses of one answer.
type links struct {
	origin string // scheme://host
	path   string // of the gateway's own paths, as the client sees them
}

// linksFor makes the links of an answer to r, whose site is known to be good.
// They carry what handle_path or uri strip_prefix took off the path.
func (h *Handler) linksFor(r *http.Request) links {
	l := links{origin: h.hosts.public}
	if l.origin == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		l.origin = scheme + "://" + strings.ToLower(r.Host)
	}
	cut, _ := h.stripped(r)
	l.path = (&url.URL{Path: cut}).EscapedPath() + h.PathPrefix
	return l
}

// login is the login path with a destination, and how often a page has loaded
// itself.
func (l links) login(to string, again int) string {
	q := url.Values{}
	if to != "" && to != "/" {
		q.Set("to", to)
	}
	if again > 0 {
		q.Set("again", fmt.Sprint(again))
	}
	if len(q) == 0 {
		return l.path + "/login"
	}
	return l.path + "/login?" + q.Encode()
}

// welcome is the page that says who is signed in, on the way to a destination.
func (l links) welcome(to string) string {
	q := url.Values{welcomed: {"1"}}
	if to != "" && to != "/" {
		q.Set("to", to)
	}
	return l.path + "/login?" + q.Encode()
}

// arrivedURI is the request's own address as a path of this origin.
func arrivedURI(r *http.Request) string {
	u := original(r)
	uri := "/" + strings.TrimLeft(u.EscapedPath(), `/\`)
	if u.RawQuery != "" {
		uri += "?" + u.RawQuery
	}
	if !validDestination(uri) {
		return "/"
	}
	return uri
}

// validDestination accepts a path of this origin that every browser reads as
// one: no second slash at its start, no backslash, which browsers take for a
// slash, and nothing that they drop before they parse (WHATWG URL §4.4).
func validDestination(to string) bool {
	if len(to) > 4096 || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") {
		return false
	}
	for i := range len(to) {
		if to[i] <= ' ' || to[i] >= 0x7f || to[i] == '\\' {
			return false
		}
	}
	u, err := url.Parse(to)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil
}

var _ caddyhttp.RequestMatcherWithError = (*caddyhttp.MatchHost)(nil) // hostsOf relies on its being a list
