// This file holds the Caddyfile: the directive, the global option, and what of
// the grammar is not built yet.

package caddydevice

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

func init() {
	httpcaddyfile.RegisterDirective("device_auth", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("device_auth", httpcaddyfile.After, "forward_auth")
	httpcaddyfile.RegisterGlobalOption("device_auth", parseGlobalOption)
}

// parseDirective makes one route without a matcher: the gateway's own paths
// and the cleaning of headers are for every request of the block. The user's
// matcher goes into the handler.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler := new(Handler)
	if matcher != nil {
		handler.MatcherSetsRaw = caddyhttp.RawMatcherSets{matcher}
	}
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, handler), nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Numbers shown
// are the defaults.
//
//	device_auth [<matcher>] {
//		issuer        <url>
//		client_id     <id>
//		client_secret <secret>
//		client_auth   auto|none|basic|post
//		scopes        <scope...>
//		pkce          auto|on|off
//		idp_timeout   10s
//		clock_skew    30s
//		start {
//			<matchers>
//		}
//		limits {
//			starts 10 1m
//			code   10m
//		}
//		upstream_headers {
//			Remote-User   preferred_username
//			Remote-Groups groups
//		}
//		session {
//			cookie   device_auth
//			idle     12h
//			lifetime 30d
//		}
//		public_url  <https url>
//		path_prefix /.device
//		insecure_cookie
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("device_auth: named providers are not supported yet (%q): write issuer and client_id into the block", d.Val())
	}
	if err := parseBlock(d, "device_auth", directiveLines, h); err != nil {
		return err
	}
	switch {
	case h.Issuer == "":
		return d.Err("device_auth: issuer is missing: add a line like: issuer https://idp.example.com")
	case h.ClientID == "":
		return d.Err("device_auth: client_id is missing: add a line with the name under which this gateway is registered at the identity provider")
	}
	return nil
}

// lines are the subdirectives of a block, each with what reads it; later holds
// those of the grammar that are not built yet.
type lines[T any] struct {
	parse map[string]func(*caddyfile.Dispenser, T) error
	later []string
}

var directiveLines = lines[*Handler]{
	parse: map[string]func(*caddyfile.Dispenser, *Handler) error{
		"issuer":           func(d *caddyfile.Dispenser, h *Handler) error { return parseURL(d, &h.Issuer) },
		"client_id":        func(d *caddyfile.Dispenser, h *Handler) error { return parseArg(d, &h.ClientID) },
		"client_secret":    func(d *caddyfile.Dispenser, h *Handler) error { return parseArg(d, &h.ClientSecret) },
		"client_auth":      parseClientAuth,
		"scopes":           parseScopes,
		"pkce":             parsePKCE,
		"idp_timeout":      func(d *caddyfile.Dispenser, h *Handler) error { return parseDuration(d, &h.IdPTimeout) },
		"clock_skew":       func(d *caddyfile.Dispenser, h *Handler) error { return parseDuration(d, &h.ClockSkew) },
		"start":            parseStart,
		"limits":           parseLimits,
		"upstream_headers": parseUpstreamHeaders,
		"session":          parseSession,
		"public_url":       func(d *caddyfile.Dispenser, h *Handler) error { return parseURL(d, &h.PublicURL) },
		"path_prefix":      func(d *caddyfile.Dispenser, h *Handler) error { return parseArg(d, &h.PathPrefix) },
		"insecure_cookie":  func(d *caddyfile.Dispenser, h *Handler) error { return parseFlag(d, &h.InsecureCookie) },
	},
	later: []string{
		"discovery", "client_secret_file", "dialect", "endpoints", "param", "complete_uri", "transport", "identity",
		"algorithms", "bearer", "require", "expect", "upstream_token", "page", "trusted_origins", "protected_resource",
	},
}

// parseBlock reads a block, line by line. A line that is not in the table is a
// mistake, and so is one that is there twice.
func parseBlock[T any](d *caddyfile.Dispenser, block string, table lines[T], into T) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, ok := table.parse[name]
		switch {
		case !ok && slices.Contains(table.later, name):
			return d.Errf("%s: %s is not supported yet: remove the line", block, name)
		case !ok:
			return d.Errf("%s: unrecognized subdirective %q", block, name)
		case seen[name]:
			return d.Errf("%s: %s is there twice: keep one", block, name)
		}
		seen[name] = true
		if err := parse(d, into); err != nil {
			return err
		}
	}
	return nil
}

// parseArg reads exactly one argument.
func parseArg(d *caddyfile.Dispenser, into *string) error {
	name := d.Val()
	if !d.NextArg() || d.Val() == "" {
		return d.Errf("%s needs a value", name)
	}
	*into = d.Val()
	return noMore(d, name)
}

func noMore(d *caddyfile.Dispenser, name string) error {
	if d.NextArg() {
		return d.Errf("%s: unexpected %q: it has too many arguments", name, d.Val())
	}
	return nil
}

func parseFlag(d *caddyfile.Dispenser, into *bool) error {
	*into = true
	return noMore(d, d.Val())
}

// parseURL reads an absolute URL; one with a placeholder is checked when that
// is resolved.
func parseURL(d *caddyfile.Dispenser, into *string) error {
	name := d.Val()
	if err := parseArg(d, into); err != nil {
		return err
	}
	if strings.Contains(*into, "{") {
		return nil
	}
	if u, err := url.Parse(*into); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return d.Errf("%s %q is not a URL: it must start with https:// and a host", name, *into)
	}
	return nil
}

func parseDuration(d *caddyfile.Dispenser, into *caddy.Duration) error {
	name := d.Val()
	var text string
	if err := parseArg(d, &text); err != nil {
		return err
	}
	dur, err := caddy.ParseDuration(text)
	if err != nil || dur <= 0 {
		return d.Errf("%s %q is not a positive duration, like 90s, 10m, 12h or 30d", name, text)
	}
	*into = caddy.Duration(dur)
	return nil
}

// parseRate reads a number and a time: starts 10 1m.
func parseRate(d *caddyfile.Dispenser, into **Rate) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("%s needs a number and a time, like: %s 10 1m", name, name)
	}
	count, err := strconv.Atoi(args[0])
	per, err2 := caddy.ParseDuration(args[1])
	if err != nil || err2 != nil || count < 1 || per <= 0 {
		return d.Errf("%s %s %s: must be a number of at least 1 and a positive time, like: %s 10 1m", name, args[0], args[1], name)
	}
	*into = &Rate{Count: count, Per: caddy.Duration(per)}
	return nil
}

func parseCount(d *caddyfile.Dispenser, into *int) error {
	name := d.Val()
	var text string
	if err := parseArg(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return d.Errf("%s %q is not a number of at least 1", name, text)
	}
	*into = n
	return nil
}

func parseClientAuth(d *caddyfile.Dispenser, h *Handler) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 0:
		return d.Err("client_auth needs a value")
	case args[0] == "private_key_jwt" || args[0] == "tls":
		return d.Errf("client_auth %s is not supported yet: use basic or post", args[0])
	case len(args) > 1:
		return d.Errf("client_auth: unexpected %q: it has too many arguments", args[1])
	case !slices.Contains(idp.ClientAuthMethods, args[0]):
		return d.Errf("client_auth %q is none of %s", args[0], strings.Join(idp.ClientAuthMethods, ", "))
	}
	h.ClientAuth = args[0]
	return nil
}

func parsePKCE(d *caddyfile.Dispenser, h *Handler) error {
	if err := parseArg(d, &h.PKCE); err != nil {
		return err
	}
	if !slices.Contains(idp.PKCEModes, h.PKCE) {
		return d.Errf("pkce %q is none of %s", h.PKCE, strings.Join(idp.PKCEModes, ", "))
	}
	return nil
}

func parseScopes(d *caddyfile.Dispenser, h *Handler) error {
	h.Scopes = d.RemainingArgs()
	if len(h.Scopes) == 0 {
		return d.Err("scopes needs at least one scope, like: scopes openid profile email")
	}
	return nil
}

func parseStart(d *caddyfile.Dispenser, h *Handler) error {
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		return err
	}
	if len(set) == 0 {
		return d.Err("start needs at least one matcher in its block, like: remote_ip private_ranges")
	}
	h.StartRaw = caddyhttp.RawMatcherSets{set}
	return nil
}

func parseLimits(d *caddyfile.Dispenser, h *Handler) error {
	if err := noMore(d, "limits"); err != nil {
		return err
	}
	h.Limits = new(Limits)
	return parseBlock(d, "limits", lines[*Limits]{parse: map[string]func(*caddyfile.Dispenser, *Limits) error{
		"starts": func(d *caddyfile.Dispenser, l *Limits) error { return parseRate(d, &l.Starts) },
		"code":   func(d *caddyfile.Dispenser, l *Limits) error { return parseDuration(d, &l.Code) },
	}}, h.Limits)
}

func parseUpstreamHeaders(d *caddyfile.Dispenser, h *Handler) error {
	if err := noMore(d, "upstream_headers"); err != nil {
		return err
	}
	h.UpstreamHeaders = map[string]string{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if _, twice := h.UpstreamHeaders[name]; twice {
			return d.Errf("upstream_headers: %s is there twice: keep one", name)
		}
		var path string
		if err := parseArg(d, &path); err != nil {
			return err
		}
		h.UpstreamHeaders[name] = path
	}
	return nil
}

func parseSession(d *caddyfile.Dispenser, h *Handler) error {
	if err := noMore(d, "session"); err != nil {
		return err
	}
	h.Session = new(SessionConfig)
	return parseBlock(d, "session", lines[*SessionConfig]{
		parse: map[string]func(*caddyfile.Dispenser, *SessionConfig) error{
			"cookie":   func(d *caddyfile.Dispenser, s *SessionConfig) error { return parseArg(d, &s.Cookie) },
			"idle":     func(d *caddyfile.Dispenser, s *SessionConfig) error { return parseDuration(d, &s.Idle) },
			"lifetime": func(d *caddyfile.Dispenser, s *SessionConfig) error { return parseDuration(d, &s.Lifetime) },
		},
		later: []string{"methods"},
	}, h.Session)
}

// parseGlobalOption reads what sites share.
//
//	device_auth {
//		store bolt [<path>]
//		limits {
//			pending 10000
//			starts  50 1s
//			waits   5000
//		}
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	if existing != nil {
		return nil, d.Err("device_auth is there twice among the global options: keep one")
	}
	if err := noMore(d, "device_auth"); err != nil {
		return nil, err
	}
	app := new(App)
	err := parseBlock(d, "device_auth", lines[*App]{
		parse: map[string]func(*caddyfile.Dispenser, *App) error{"store": parseStore, "limits": parseAppLimits},
		later: []string{"provider"},
	}, app)
	if err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "device_auth", Value: caddyconfig.JSON(app, nil)}, nil
}

func parseStore(d *caddyfile.Dispenser, app *App) error {
	if !d.NextArg() {
		return d.Err("store needs a name: bolt or memory")
	}
	name := d.Val()
	if name == "redis" {
		return d.Err("store redis is not supported yet: use bolt")
	}
	mod, err := caddyfile.UnmarshalModule(d, "device_auth.stores."+name)
	if err != nil {
		return err
	}
	app.StoreRaw = caddyconfig.JSONModuleObject(mod, "store", name, nil)
	return nil
}

func parseAppLimits(d *caddyfile.Dispenser, app *App) error {
	if err := noMore(d, "limits"); err != nil {
		return err
	}
	app.Limits = new(AppLimits)
	return parseBlock(d, "limits", lines[*AppLimits]{parse: map[string]func(*caddyfile.Dispenser, *AppLimits) error{
		"pending": func(d *caddyfile.Dispenser, l *AppLimits) error { return parseCount(d, &l.Pending) },
		"starts":  func(d *caddyfile.Dispenser, l *AppLimits) error { return parseRate(d, &l.Starts) },
		"waits":   func(d *caddyfile.Dispenser, l *AppLimits) error { return parseCount(d, &l.Waits) },
	}}, app.Limits)
}
