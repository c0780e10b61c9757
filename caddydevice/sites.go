// This file holds the rules for several gates on one site, checked once all of
// them are provisioned.

package caddydevice

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// checkSites refuses gates of one site that would take each other's sign-ins
// away. Routes of a server are of one site where they are for a host in
// common, or for any host. Those of different servers share the cookies of
// such a host, since cookies know no ports (RFC 6265 §8.5).
func checkSites(httpApp *caddyhttp.App) error {
	var all []placedGate
	for _, name := range slices.Sorted(maps.Keys(httpApp.Servers)) {
		server := httpApp.Servers[name]
		for _, gate := range gatesIn(server, server.Routes, placedGate{}, 0) {
			gate.server, gate.at = name, place(name, server.Listen, gate.hosts)
			all = append(all, gate)
		}
	}
	for i, one := range all {
		for _, other := range all[:i] {
			if err := other.besides(one); err != nil {
				return fmt.Errorf("device_auth%s: %w", one.at, err)
			}
		}
	}
	return nil
}

// placedGate is a gate, the hosts that it is for, nil for any, its server, and
// the gates that a request may have passed before it.
type placedGate struct {
	*Handler
	hosts  []string
	server string
	at     string
	behind []*Handler
	last   bool // in a terminal route: nothing comes after that
}

func oneSite(a, b []string) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return slices.ContainsFunc(a, func(host string) bool { return slices.Contains(b, host) })
}

// mayMeet reports whether one request can be for hosts of both.
func mayMeet(a, b []string) bool {
	if a == nil || b == nil {
		return true
	}
	return slices.ContainsFunc(a, func(one string) bool {
		return slices.ContainsFunc(b, func(other string) bool { return hostsMeet(one, other) })
	})
}

// hostsMeet compares label by label, as certmagicMatch does, with wildcards on
// either side.
func hostsMeet(one, other string) bool {
	a, b := strings.Split(one, "."), strings.Split(other, ".")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != "*" && b[i] != "*" && a[i] != b[i] {
			return false
		}
	}
	return true
}

// maxDepth is how deep routes may lie in each other: named routes can invoke
// themselves.
const maxDepth = 32

// gatesIn finds the handlers of routes and of the routes inside them, named
// ones included. A route without hosts of its own is for those of the one
// around it. A request may pass one route of a list after the other, those of
// the server itself too, but only one of a group, and none after a terminal
// one, which the sites of a Caddyfile are.
func gatesIn(server *caddyhttp.Server, routes caddyhttp.RouteList, around placedGate, depth int) []placedGate {
	if depth > maxDepth {
		return nil
	}
	var found []placedGate
	var groups []string // of the route that each of found is in
	for _, route := range routes {
		way := around
		if hosts := hostsOf(route.MatcherSets); hosts != nil {
			way.hosts = hosts
		}
		way.behind = slices.Clone(around.behind)
		for i, gate := range found {
			if !gate.last && (route.Group == "" || groups[i] != route.Group) {
				way.behind = append(way.behind, gate.Handler)
			}
		}
		for _, gate := range gatesOn(server, route, way, depth) {
			gate.last = gate.last || route.Terminal
			found, groups = append(found, gate), append(groups, route.Group)
		}
	}
	return found
}

// gatesOn finds the handlers of one route, in their order.
func gatesOn(server *caddyhttp.Server, route caddyhttp.Route, way placedGate, depth int) []placedGate {
	var found []placedGate
	for _, handler := range route.Handlers {
		next := way
		next.behind = slices.Clone(way.behind)
		for _, gate := range found {
			if !gate.last {
				next.behind = append(next.behind, gate.Handler)
			}
		}
		switch h := handler.(type) {
		case *Handler:
			next.Handler = h
			found = append(found, next)
		case *caddyhttp.Subroute:
			found = append(found, gatesIn(server, h.Routes, next, depth+1)...)
		case *caddyhttp.Invoke:
			if named := server.NamedRoutes[h.Name]; named != nil {
				found = append(found, gatesIn(server, caddyhttp.RouteList{*named}, next, depth+1)...)
			}
		}
	}
	return found
}

// mayDiffer are the settings that each gate of one site has for itself. Those
// of the provider are compared where gates come to share it.
var mayDiffer = append([]string{"match", "require", "upstream_headers", "provider"}, providerKeys()...)

// settingsInCommon are all other settings, by their JSON keys: a new one is
// among them without further ado. They are taken before Caddy clears the
// matchers' source.
func (h *Handler) settingsInCommon() (map[string]any, error) {
	var settings map[string]any
	raw, err := json.Marshal(h)
	if err == nil {
		err = json.Unmarshal(raw, &settings)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the settings: %w", err)
	}
	for _, key := range mayDiffer {
		delete(settings, key)
	}
	if inner, ok := settings["session"].(map[string]any); ok {
		delete(inner, "methods")
	}
	return settings, nil
}

// besides reports why two gates cannot be side by side. On one site, those of
// the same issuer and client are one gate: the first that matches a request
// identifies, so they must agree on how. Those of different ones need cookies
// and paths of their own.
func (g placedGate) besides(other placedGate) error {
	sameServer := g.server == other.server
	_, inside := under(other.PathPrefix, g.PathPrefix)
	_, around := under(g.PathPrefix, other.PathPrefix)
	switch {
	case slices.Contains(other.behind, g.Handler) && mayMeet(g.hosts, other.hosts): // whatever the hosts are called
	case !oneSite(g.hosts, other.hosts) || !sameServer && g.hosts == nil:
		return nil
	}
	switch {
	case g.engine != other.engine && g.cookie.name == other.cookie.name:
		return fmt.Errorf("it shares the cookie %s with the gate%s, which is for another identity provider: give one of them another name (session cookie)", g.cookie.name, g.at)
	case !sameServer:
		return nil
	case g.engine != other.engine && g.PathPrefix == other.PathPrefix:
		return fmt.Errorf("it shares the path %s with the gate%s, which is for another identity provider: give one of them another (path_prefix)", g.PathPrefix, g.at)
	case g.engine != other.engine && (inside || around):
		return fmt.Errorf("its path %s and %s of the gate%s, which is for another identity provider, lie in each other: give one of them another (path_prefix)", other.PathPrefix, g.PathPrefix, g.at)
	case g.engine != other.engine:
		return nil
	}
	keys := maps.Clone(g.settings)
	maps.Copy(keys, other.settings)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !reflect.DeepEqual(g.settings[key], other.settings[key]) {
			return fmt.Errorf("two gates with the same issuer %q and client_id %q on one site differ in %s: they are one gate, so make that equal",
				g.resolved.Issuer, g.resolved.ClientID, key)
		}
	}
	return nil
}

// placeOf says where a gate is that is being provisioned.
func placeOf(server *caddyhttp.Server) string {
	if server == nil {
		return ""
	}
	for _, route := range server.Routes {
		// Caddy clears this once a route's handlers are loaded
		if route.HandlersRaw != nil {
			return place(server.Name(), server.Listen, hostsOf(route.MatcherSets))
		}
	}
	return place(server.Name(), server.Listen, nil)
}

// place names a site as an operator would look for it.
func place(name string, listen, hosts []string) string {
	at := strings.Join(listen, ", ")
	if len(hosts) == 0 {
		return fmt.Sprintf(" on server %s (listening on %s)", name, at)
	}
	return fmt.Sprintf(" on %s (server %s, listening on %s)", strings.Join(hosts, ", "), name, at)
}
