// This file holds the rules for one gate among Caddy's other handlers: what must
// not come before it, what is taken off its paths, and whether these can be
// reached.

package caddydevice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// responder is a handler that answers every request.
type responder struct {
	directives string
	// goesOn reports that this one calls the next handler after all.
	goesOn func(handler any) bool
}

// responders are Caddy's, by module id.
var responders = map[caddy.ModuleID]responder{
	"http.handlers.reverse_proxy": {"reverse_proxy", func(handler any) bool {
		h, ok := handler.(*reverseproxy.Handler)
		return ok && len(h.HandleResponse) > 0 // forward_auth
	}},
	"http.handlers.file_server": {"file_server", func(handler any) bool {
		h, ok := handler.(*fileserver.FileServer)
		return ok && h.PassThru
	}},
	"http.handlers.static_response": {"respond, redir or abort", func(handler any) bool {
		h, ok := handler.(*caddyhttp.StaticResponse)
		return ok && (h.StatusCode == "103" || strings.Contains(string(h.StatusCode), "{")) // Early Hints (RFC 8297)
	}},
	"http.handlers.error": {"error", nil},
}

func moduleID(handler any) caddy.ModuleID {
	module, ok := handler.(caddy.Module)
	if !ok {
		return ""
	}
	return module.CaddyModule().ID
}

// answersAll reports whether no request comes past it.
func (s stop) answersAll() bool {
	r, ok := responders[moduleID(s.handler)]
	return ok && !s.maybe && (r.goesOn == nil || !r.goesOn(s.handler))
}

// checkWay refuses a gate behind what makes it useless, or runs its pages.
func (g placedGate) checkWay() error {
	for _, s := range g.way {
		switch id := moduleID(s.handler); {
		case s.answersAll():
			return fmt.Errorf("%s comes before it and answers every request, so nobody is asked to sign in: put device_auth first, in a route block if need be", responders[id].directives)
		case id == "http.handlers.templates" && g.mayMeet(s):
			return errors.New("templates comes before it, and would run its pages, which hold text from requests, as templates: put device_auth before templates, or templates after it into the same block")
		}
	}
	return nil
}

// mayMeet reports whether one request may meet both: path matchers around them
// can be for different paths, as long as nothing changes those in between.
func (g placedGate) mayMeet(s stop) bool {
	if slices.ContainsFunc(g.way, func(s stop) bool { _, changes := s.handler.(*rewrite.Rewrite); return changes }) {
		return true
	}
	for _, one := range s.inside {
		for _, around := range g.way {
			if around.handler == nil && apart(one, around.match) {
				return false
			}
		}
	}
	return true
}

// apart reports whether no path is for both.
func apart(one, other caddyhttp.MatcherSets) bool {
	ones, ok := onlyPaths(one)
	others, ok2 := onlyPaths(other)
	return ok && ok2 && !slices.ContainsFunc(ones, func(a string) bool {
		return slices.ContainsFunc(others, func(b string) bool { return overlap(a, b) })
	})
}

// onlyPaths are the patterns that a path has to match one of; ok is false where
// there is another way in.
func onlyPaths(sets caddyhttp.MatcherSets) (patterns []string, ok bool) {
	for _, set := range sets {
		i := slices.IndexFunc(set, func(m any) bool { _, is := pathMatcher(m); return is })
		if i < 0 {
			return nil, false
		}
		these, _ := pathMatcher(set[i])
		patterns = append(patterns, these...)
	}
	return patterns, len(patterns) > 0
}

// overlap reports whether a path may match both patterns, by what each begins
// with.
func overlap(a, b string) bool {
	if strings.ContainsAny(a+b, "{%") {
		return true
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	startA, _, openA := strings.Cut(a, "*")
	startB, _, openB := strings.Cut(b, "*")
	return (strings.HasPrefix(startA, startB) && (openB || a == b)) || (strings.HasPrefix(startB, startA) && openA)
}

// strippedOn are the prefixes that handle_path and uri strip_prefix may take
// off a path on the way, in their order. ok is false where one of them is known
// only during a request.
func strippedOn(way []stop) (prefixes []string, ok bool) {
	for _, s := range way {
		h, isRewrite := s.handler.(*rewrite.Rewrite)
		if !isRewrite || strings.Trim(h.StripPathPrefix, "/") == "" {
			continue
		}
		prefix := "/" + strings.TrimRight(strings.TrimPrefix(h.StripPathPrefix, "/"), "/")
		if strings.ContainsAny(prefix, `{%\`) || strings.Contains(prefix, "//") {
			return nil, false
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, true
}

// changesPath reports whether a handler changes the path by more than taking a
// prefix off.
func changesPath(h *rewrite.Rewrite) bool {
	return (h.URI != "" && h.URI[0] != '?') || h.StripPathSuffix != "" || len(h.URISubstring) > 0 || len(h.PathRegexp) > 0
}

// cutPrefix takes a prefix off a path as Caddy does: whatever its case, and not
// only at the end of a segment.
func cutPrefix(path, prefix string) (rest string, ok bool) {
	if len(path) < len(prefix) || !strings.EqualFold(path[:len(prefix)], prefix) {
		return path, false
	}
	return "/" + strings.TrimLeft(path[len(prefix):], "/"), true
}

// cutPrefixes takes off one after the other, as far as they are there.
func cutPrefixes(path string, prefixes []string) (cut, rest string) {
	for _, prefix := range prefixes {
		var ok bool
		if path, ok = cutPrefix(path, prefix); ok {
			cut += prefix
		}
	}
	return cut, path
}

// learnStripped tells each gate what may be taken off its paths, for each of
// its places: a named route can have many. A gate where that is not known goes
// on comparing paths.
func learnStripped(all []placedGate) {
	places := map[*Handler][][]string{}
	unknown := map[*Handler]bool{}
	for _, g := range all {
		prefixes, ok := strippedOn(g.way)
		unknown[g.Handler] = unknown[g.Handler] || !ok
		places[g.Handler] = append(places[g.Handler], prefixes)
	}
	for h, prefixes := range places {
		if !unknown[h] {
			h.strips.Store(&prefixes)
		}
	}
}

// stripped returns what was taken off the path with which the request arrived,
// as the configuration spells it, and what that has left.
func (h *Handler) stripped(r *http.Request) (cut, rest string) {
	arrived := original(r).Path
	places := h.strips.Load()
	if places == nil {
		if cut, ok := strings.CutSuffix(arrived, r.URL.Path); ok && validPrefix(cut) {
			return cut, r.URL.Path
		}
		return "", arrived
	}
	rest = arrived
	for _, prefixes := range *places {
		if len(prefixes) == 0 {
			continue // as is so of nearly all: nothing to clean
		}
		if more, left := cutPrefixes(caddyhttp.CleanPath(arrived, true), prefixes); len(more) > len(cut) {
			cut, rest = more, left
		}
	}
	return cut, rest
}

// mostStrips is for how many prefixes all ways to have them or not are tried:
// each doubles them.
const mostStrips = 6

// ownPaths are the paths with which a request for the login may arrive: with
// each prefix that may be taken off, or without. The last has all of them.
func (g placedGate) ownPaths() (paths []string, ok bool) {
	prefixes, ok := strippedOn(g.way)
	if !ok || len(prefixes) > mostStrips {
		return nil, false
	}
	paths = []string{g.PathPrefix + "/login"}
	for _, prefix := range slices.Backward(prefixes) {
		for _, path := range slices.Clone(paths) {
			paths = append(paths, prefix+path)
		}
	}
	return paths, true
}

// checkReach refuses a gate whose own paths the routes around it keep out, so
// that nobody could sign in, unless another gate that is one with it has them.
func (g placedGate) checkReach(all []placedGate) error {
	paths, ok := g.ownPaths()
	if !ok {
		return nil
	}
	var barrier caddyhttp.MatcherSets
	for _, path := range paths {
		for _, other := range all {
			if other.server == g.server && other.engine == g.engine && mayMeet(other.hosts, g.hosts) && other.serves(path) {
				return nil
			}
		}
		barrier = g.barrier(path)
	}
	remedy := fmt.Sprintf("let that block be for %s/* as well", g.PathPrefix)
	if inside := prefixInside(barrier); inside != "" {
		remedy = fmt.Sprintf("write path_prefix %s, or use handle_path", inside)
	}
	return fmt.Errorf("path_prefix %s cannot be reached: the block around it is only for %s, so nobody could sign in: %s", g.PathPrefix, patternsOf(barrier), remedy)
}

// serves reports whether a request with the path may be answered by the gate
// as one for its own paths.
func (g placedGate) serves(path string) bool {
	prefixes, ok := strippedOn(g.way)
	if !ok {
		return true
	}
	_, rest := cutPrefixes(path, prefixes)
	_, isOwn := under(rest, g.PathPrefix)
	_, arrivedOwn := under(path, g.PathPrefix)
	return (isOwn || arrivedOwn) && g.barrier(path) == nil
}

// barrier returns the matchers that keep a request out that arrives with the
// path; nil where it may come to the gate.
func (g placedGate) barrier(path string) caddyhttp.MatcherSets {
	paths := []string{path} // that it may have by now
	for _, s := range g.way {
		h, isRewrite := s.handler.(*rewrite.Rewrite)
		switch {
		case isRewrite && changesPath(h):
			return nil // it may be any
		case isRewrite:
			paths = afterStrip(paths, s)
		case s.handler == nil:
			if paths = slices.DeleteFunc(paths, func(p string) bool { return keepsOut(s.match, p) }); len(paths) == 0 {
				return s.match
			}
		}
	}
	return nil
}

// afterStrip are the paths that a prefix may have been taken off.
func afterStrip(paths []string, s stop) []string {
	prefixes, _ := strippedOn([]stop{s})
	var after []string
	for _, path := range paths {
		_, rest := cutPrefixes(path, prefixes)
		after = append(after, rest)
		if s.maybe && rest != path {
			after = append(after, path)
		}
	}
	return after
}

// keepsOut reports whether the matchers of a route cannot match a path. Only
// path matchers tell: what any other matches is not known before a request.
func keepsOut(sets caddyhttp.MatcherSets, path string) bool {
	for _, set := range sets {
		if !slices.ContainsFunc(set, func(m any) bool { return refusesPath(m, path) }) {
			return false
		}
	}
	return len(sets) > 0
}

func refusesPath(matcher any, path string) bool {
	patterns, ok := pathMatcher(matcher)
	if !ok || slices.ContainsFunc(patterns, func(p string) bool { return strings.Contains(p, "{") }) {
		return false
	}
	ctx := context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	matched, err := patterns.MatchWithError((&http.Request{URL: &url.URL{Path: path}}).WithContext(ctx))
	return !matched && err == nil
}

func pathMatcher(matcher any) (patterns caddyhttp.MatchPath, ok bool) {
	switch m := matcher.(type) {
	case *caddyhttp.MatchPath:
		return *m, true
	case caddyhttp.MatchPath:
		return m, true
	}
	return nil, false
}

// patternsOf are the paths that matchers are for, as a person writes them.
func patternsOf(sets caddyhttp.MatcherSets) string {
	var all []string
	for _, set := range sets {
		for _, m := range set {
			patterns, _ := pathMatcher(m)
			all = append(all, patterns...)
		}
	}
	return strings.Join(all, ", ")
}

// prefixInside is a path_prefix that the matchers let in, "" where none is at
// hand.
func prefixInside(sets caddyhttp.MatcherSets) string {
	pattern, _, _ := strings.Cut(patternsOf(sets), ",")
	prefix := strings.TrimRight(strings.TrimSuffix(pattern, "*"), "/") + "/.device"
	if !validPrefix(prefix) || keepsOut(sets, prefix+"/login") {
		return ""
	}
	return prefix
}
