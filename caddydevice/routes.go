// This file holds the walk over a server's routes: where the gates are, and what
// a request may have met before it comes to each.

package caddydevice

import (
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// placedGate is a gate, the hosts that it is for, nil for any, its server, and
// what a request may have met before it.
type placedGate struct {
	*Handler
	hosts  []string
	server string
	at     string
	way    []stop
}

// isBehind reports whether a request may have passed the other gate before.
func (g placedGate) isBehind(other *Handler) bool {
	return slices.ContainsFunc(g.way, func(s stop) bool { return s.handler == other })
}

// stop is one thing on a request's way: a handler that it passes, or the
// matchers of a route that it goes into.
type stop struct {
	handler caddyhttp.MiddlewareHandler // nil where it is matchers
	match   caddyhttp.MatcherSets
	hosts   []string                // that it is for, nil for any
	group   string                  // of its route: a request takes one route of a group
	maybe   bool                    // a request may come past without meeting it
	last    bool                    // in a terminal route: nothing comes after that
	inside  []caddyhttp.MatcherSets // of the routes that a handler is in
}

// allGates finds the gates of all servers.
func allGates(httpApp *caddyhttp.App) []placedGate {
	var all []placedGate
	for _, name := range slices.Sorted(maps.Keys(httpApp.Servers)) {
		server := httpApp.Servers[name]
		for _, gate := range gatesOf(server) {
			gate.server, gate.at = name, place(name, server.Listen, gate.hosts)
			all = append(all, gate)
		}
	}
	return all
}

// gatesOf finds the gates of a server, in its error routes (handle_errors) too.
// A request that comes there has the path with which it arrived.
func gatesOf(server *caddyhttp.Server) []placedGate {
	w := walk{server: server, open: map[string]bool{}}
	passed := w.list(server.Routes, where{})
	if server.Errors != nil {
		w.list(server.Errors.Routes, where{way: outlasting(passed, false)})
	}
	return w.gates
}

// walk goes over routes as a request does.
type walk struct {
	server *caddyhttp.Server
	open   map[string]bool // named routes that it is in: they can invoke themselves
	gates  []placedGate
}

// where is a place in the walk: the hosts it is for, and the way to it.
type where struct {
	hosts []string
	way   []stop
}

// list goes over a list of routes and the routes inside them, and returns what
// a request may have met that comes out of it. A route without hosts of its
// own is for those of the one around it. A request may take one route of a list
// after the other, those of the server itself too, but only one of a group, and
// none after a terminal one, which the sites of a Caddyfile are.
func (w *walk) list(routes caddyhttp.RouteList, around where) (passed []stop) {
	for _, route := range routes {
		here := where{hosts: around.hosts, way: slices.Clone(around.way)}
		if hosts := hostsOf(route.MatcherSets); hosts != nil {
			here.hosts = hosts
		}
		for _, s := range passed {
			if s.goesOn() && (route.Group == "" || s.group != route.Group) {
				here.way = append(here.way, s)
			}
		}
		here.way = append(here.way, stop{match: route.MatcherSets, hosts: here.hosts})
		for _, s := range w.chain(route.Handlers, here) {
			s.group = route.Group
			s.maybe = s.maybe || route.Group != "" || len(route.MatcherSets) > 0
			s.last = s.last || route.Terminal
			s.inside = append(slices.Clone(s.inside), route.MatcherSets)
			passed = append(passed, s)
		}
	}
	return passed
}

// goesOn reports whether it matters to what comes after.
func (s stop) goesOn() bool { return !s.last || s.answersAll() }

// chain goes over the handlers of one route, in their order.
func (w *walk) chain(handlers []caddyhttp.MiddlewareHandler, around where) (passed []stop) {
	for _, handler := range handlers {
		here := where{hosts: around.hosts, way: slices.Clone(around.way)}
		for _, s := range passed {
			if s.goesOn() {
				here.way = append(here.way, s)
			}
		}
		switch h := handler.(type) {
		case *Handler:
			w.found(h, here)
			passed = append(passed, stop{handler: h, hosts: here.hosts})
		case *caddyhttp.Subroute:
			passed = append(passed, w.subroute(h, here)...)
		case *caddyhttp.Invoke:
			passed = append(passed, w.named(h.Name, here)...)
		default:
			passed = append(passed, stop{handler: h, hosts: here.hosts})
		}
	}
	return passed
}

// found notes a gate. What is for other hosts is not on its way.
func (w *walk) found(h *Handler, here where) {
	way := slices.DeleteFunc(here.way, func(s stop) bool { return !mayMeet(s.hosts, here.hosts) })
	w.gates = append(w.gates, placedGate{Handler: h, hosts: here.hosts, way: way})
}

// subroute goes over the routes inside a route. Where they have error routes, a
// request goes on after those too.
func (w *walk) subroute(h *caddyhttp.Subroute, here where) []stop {
	passed := w.list(h.Routes, here)
	if h.Errors == nil {
		return passed
	}
	here.way = append(here.way, outlasting(passed, true)...)
	passed = append(passed, w.list(h.Errors.Routes, here)...)
	for i := range passed {
		passed[i].maybe, passed[i].last = true, false
	}
	return passed
}

func (w *walk) named(name string, here where) []stop {
	route := w.server.NamedRoutes[name]
	if route == nil || w.open[name] {
		return nil
	}
	w.open[name] = true
	defer delete(w.open, name)
	return w.list(caddyhttp.RouteList{*route}, here)
}

// outlasting is what of a way an error leaves as it is: gates that were passed
// and, within a subroute, changes of the path.
func outlasting(passed []stop, path bool) []stop {
	var left []stop
	for _, s := range passed {
		_, isGate := s.handler.(*Handler)
		_, isRewrite := s.handler.(*rewrite.Rewrite)
		if isGate || (isRewrite && path) {
			s.maybe = true
			left = append(left, s)
		}
	}
	return left
}
