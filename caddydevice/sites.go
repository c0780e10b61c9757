// This file holds the rules for several gates on one site, checked once all of
// them are provisioned.

package caddydevice

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// checkSites refuses gates of one site that would take each other's sign-ins
// away. Top-level routes of a server are of one site where they are for a host
// in common, or for any host.
func checkSites(httpApp *caddyhttp.App) error {
	type placed struct {
		gate  *Handler
		hosts []string // nil: any
	}
	for name, server := range httpApp.Servers {
		var all []placed
		for _, route := range server.Routes {
			hosts := hostsOf(route.MatcherSets)
			for _, gate := range gatesIn(caddyhttp.RouteList{route}) {
				for _, other := range all {
					if !oneSite(hosts, other.hosts) {
						continue
					}
					if err := other.gate.besides(gate); err != nil {
						return fmt.Errorf("server %s: device_auth: %w", name, err)
					}
				}
				all = append(all, placed{gate, hosts})
			}
		}
	}
	return nil
}

func oneSite(a, b []string) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return slices.ContainsFunc(a, func(host string) bool { return slices.Contains(b, host) })
}

// gatesIn finds the handlers of a route and of the routes inside it.
func gatesIn(routes caddyhttp.RouteList) []*Handler {
	var found []*Handler
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *Handler:
				found = append(found, h)
			case *caddyhttp.Subroute:
				found = append(found, gatesIn(h.Routes)...)
			}
		}
	}
	return found
}

// besides reports why two gates cannot be on one site. Those of the same
// issuer and client are one gate: the first that matches a request identifies,
// so they must agree on how. Those of different ones need cookies and paths of
// their own.
func (h *Handler) besides(other *Handler) error {
	if h.engine != other.engine {
		switch {
		case h.cookie.name == other.cookie.name:
			return fmt.Errorf("two gates for different identity providers share the cookie %s: give one of them another name (session cookie)", h.cookie.name)
		case h.PathPrefix == other.PathPrefix:
			return fmt.Errorf("two gates for different identity providers share the path %s: give one of them another (path_prefix)", h.PathPrefix)
		}
		return nil
	}
	for _, setting := range []struct {
		name      string
		one, both any
	}{
		{"path_prefix", h.PathPrefix, other.PathPrefix},
		{"session", h.Session, other.Session},
		{"limits", h.Limits, other.Limits},
		{"public_url", h.PublicURL, other.PublicURL},
		{"insecure_cookie", h.InsecureCookie, other.InsecureCookie},
		{"start", h.StartRaw, other.StartRaw},
	} {
		if !reflect.DeepEqual(setting.one, setting.both) {
			return fmt.Errorf("two gates with the same issuer and client_id on one site differ in %s: they are one gate, so make that equal", setting.name)
		}
	}
	return nil
}
