// This file holds what browsers say of where a request comes from: the
// origins that may use the cookie, and the preflights of those that may from
// elsewhere.

package caddydevice

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// origins are the origins besides the request's own that may use the cookie.
type origins struct {
	public  string // of public_url, "" without one
	trusted []string
	// own is for the gateway's own paths, all for what goes upstream.
	own, all *http.CrossOriginProtection
}

func newOrigins(public string, trusted []string) (*origins, error) {
	o := &origins{public: public, own: http.NewCrossOriginProtection(), all: http.NewCrossOriginProtection()}
	if public != "" {
		if err := o.own.AddTrustedOrigin(public); err != nil {
			return nil, err
		}
		if err := o.all.AddTrustedOrigin(public); err != nil {
			return nil, err
		}
	}
	for _, raw := range trusted {
		origin, err := parseOrigin(raw)
		if err != nil {
			return nil, fmt.Errorf("trusted_origins %q: %w", raw, err)
		}
		if err := o.all.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("trusted_origins %q: %w", raw, err)
		}
		o.trusted = append(o.trusted, origin)
	}
	return o, nil
}

var errNoOrigin = errors.New("must be https:// and a host, with nothing after it, like https://app.example.com")

// parseOrigin returns an origin as browsers write it (RFC 6454 §6.2), since it
// is compared with what they send.
func parseOrigin(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", errNoOrigin
	}
	host := strings.ToLower(u.Hostname())
	if !wellFormedHost(host) {
		return "", errors.New("the host must be a name in ASCII (xn--… for others) or an address, as browsers send it")
	}
	origin := u.Scheme + "://" + addressInURL(host)
	port := u.Port()
	if port == "" {
		return origin, nil
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return "", errors.New("the port must be between 1 and 65535")
	}
	if n == defaultPorts[u.Scheme] {
		return origin, nil
	}
	return fmt.Sprint(origin, ":", n), nil
}

// defaultPorts are those that browsers leave out.
var defaultPorts = map[string]int{"https": 443, "http": 80}

// addressInURL writes a host as browsers do (WHATWG URL, host serializing): an
// IPv6 address in its shortest form, without dots, and in brackets.
func addressInURL(host string) string {
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil || addr.Is4():
		return host
	case addr.Is4In6():
		b := addr.As16()
		return fmt.Sprintf("[::ffff:%x:%x]", int(b[12])<<8|int(b[13]), int(b[14])<<8|int(b[15]))
	}
	return "[" + addr.String() + "]"
}

// fromHere reports whether a request that a cookie speaks for was meant by
// this origin or one that is trusted: unsafe methods by the standard library's
// rules, a WebSocket by its Origin (RFC 6455 §10.2), over any version of HTTP.
func (o *origins) fromHere(r *http.Request) bool {
	if !isWebSocket(r) {
		return o.all.Check(r) == nil
	}
	if r.Header["Origin"] == nil && r.Header["Sec-Fetch-Site"] == nil {
		return true // not a browser
	}
	origin := r.Header.Get("Origin")
	return origin != "" && (origin == o.public || sameHost(origin, r.Host) || slices.Contains(o.trusted, origin))
}

// ownForm reports whether a POST to one of the gateway's own paths was meant
// by this origin.
func (o *origins) ownForm(r *http.Request) bool { return o.own.Check(r) == nil }

// trustedPreflight reports whether the request asks for a trusted origin what
// that may send (WHATWG Fetch §4.8).
func (o *origins) trustedPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header["Access-Control-Request-Method"] != nil &&
		len(r.Header["Origin"]) == 1 && slices.Contains(o.trusted, r.Header["Origin"][0])
}

// barePreflight keeps from the upstream what no browser sends with a preflight,
// since anybody can say that they are one: a body (over HTTP/3 it is not known
// beforehand whether there is one), credentials, and another method's name.
func barePreflight(r *http.Request) {
	keepArrived(r)
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer = http.NoBody, 0, nil, nil
	for _, field := range []string{"Content-Length", "Authorization", "Cookie"} {
		delete(r.Header, field)
	}
	dropOverrides(r)
}
