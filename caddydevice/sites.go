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

// checkSites refuses gates that cannot work where they are, and gates of one
// site that would take each other's sign-ins away. Routes of a server are of
// one site where they are for a host in common, or for any host. Those of
// different servers share the cookies of such a host, since cookies know no
// ports (RFC 6265 §8.5).
func checkSites(all []placedGate) error {
	for i, one := range all {
		if err := one.check(all[:i], all); err != nil {
			return fmt.Errorf("device_auth%s: %w", one.at, err)
		}
	}
	return nil
}

func (g placedGate) check(before, all []placedGate) error {
	for _, other := range before {
		if err := other.besides(g); err != nil {
			return err
		}
	}
	if err := g.checkWay(); err != nil {
		return err
	}
	return g.checkReach(all)
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
	case other.isBehind(g.Handler): // whatever the hosts are called
	case !oneSite(g.hosts, other.hosts) || !sameServer && g.hosts == nil:
		return nil
	}
	switch {
	case g.engine != other.engine && g.cookie.name == other.cookie.name:
		return fmt.Errorf("it shares the cookie %s with the gate%s, which is for another identity provider: give one of them another name (session cookie)", g.cookie.name, g.at)
	case !sameServer && g.engine == other.engine && g.pages.confirm != other.pages.confirm:
		return fmt.Errorf("it shares its sign-ins with the gate%s, and only one of the two has them confirmed: make page confirm equal, or give one of them another client_id", g.at)
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
	routes := server.Routes
	if server.Errors != nil {
		routes = slices.Concat(routes, server.Errors.Routes)
	}
	for _, route := range routes {
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
