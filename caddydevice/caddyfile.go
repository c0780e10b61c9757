// This file holds the Caddyfile: the directive, the global option, and what of
// the grammar is not built yet.

package caddydevice

import (
	"fmt"
	"maps"
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
	directiveBlock.register()
	limitsBlock.register()
	sessionBlock.register()
	appBlock.register()
	appLimitsBlock.register()
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
	if err := checkProviderName(h); err != nil {
		return nil, err
	}
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, handler), nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Where there are
// several values, the first is the default; numbers shown are the defaults.
//
//	device_auth [<matcher>] [<provider>] {
//		# the identity provider; left out where a provider of the global
//		# option is named
//		issuer        <url>                  # required
//		discovery     <url>                  # <issuer>/.well-known/openid-configuration
//		client_id     <id>                   # required
//		client_secret <secret>               # none; best {env.NAME} or {file./path}
//		client_auth   auto|none|basic|post
//		endpoints {                          # each: what discovery tells
//			device_authorization <url>
//			token                <url>
//			jwks                 <url>
//		}
//		scopes        <scope...>             # openid, and profile, email, offline_access where listed
//		param         <name> <value>         # none; one line each, placeholders of the request allowed
//		pkce          auto|on|off
//		complete_uri  on|off
//		idp_timeout   10s
//
//		# who gets in
//		algorithms    <alg...>               # RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA
//		clock_skew    30s                    # at most 5m
//		start {                              # everybody
//			<matchers>
//		}
//		limits {
//			starts 10 1m                     # of one client
//			code   10m                       # 1m to 1h
//		}
//
//		# what the upstream sees: a header's name and a claim; an empty block
//		# for none
//		upstream_headers {
//			Remote-User   preferred_username
//			Remote-Groups groups
//		}
//
//		# how long, and how
//		session {
//			cookie   device_auth
//			idle     12h
//			lifetime 30d
//		}
//		public_url  <https url>              # what the request says
//		path_prefix /.device
//		insecure_cookie                      # off
//	}
//
// Durations are numbers with a unit: ms, s, m, h or d. Texts may hold
// {env.NAME} and {file./path}, which are resolved when the configuration is
// loaded. What each line means is at [Handler] and [Provider], whose keys in
// JSON have the same names; <matcher> is the key match, <provider> the key
// provider.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	table := directiveBlock
	if d.NextArg() {
		if d.Val() == "" {
			return d.Err("device_auth: the provider's name is empty (where it is {$NAME}, that variable is)")
		}
		h.ProviderName = d.Val()
		table.lines, table.moved = ownLines, movedToProvider(h.ProviderName)
	}
	if d.NextArg() {
		return d.Errf("device_auth: unexpected %q behind the provider %s: write device_auth [<matcher>] [<provider>] { … }; a matcher starts with @ or /", d.Val(), h.ProviderName)
	}
	if err := table.parse(d, h); err != nil {
		return err
	}
	if h.ProviderName != "" {
		return nil
	}
	return h.missing(d, "device_auth")
}

// ownLines are the directive's lines but for those of the identity provider.
var ownLines = map[string]line[*Handler]{
	"algorithms":       {usage: "algorithms RS256 ES256", min: 1, max: -1, parse: parseAlgorithms},
	"clock_skew":       durationLine("clock_skew 30s", func(h *Handler) *caddy.Duration { return &h.ClockSkew }),
	"start":            {usage: "start { … }", block: true, parse: parseStart},
	"limits":           {usage: "limits { … }", block: true, parse: parseLimits},
	"upstream_headers": {usage: "upstream_headers { … }", block: true, parse: parseUpstreamHeaders},
	"session":          {usage: "session { … }", block: true, parse: parseSession},
	"public_url":       urlLine("public_url https://api.example.com", func(h *Handler) *string { return &h.PublicURL }),
	"path_prefix":      textLine("path_prefix /.device", func(h *Handler) *string { return &h.PathPrefix }),
	"insecure_cookie":  {usage: "insecure_cookie", parse: func(_ input, h *Handler) error { h.InsecureCookie = true; return nil }},
}

var directiveBlock = block[*Handler]{
	title: "device_auth",
	lines: func() map[string]line[*Handler] {
		all := maps.Clone(ownLines)
		for name, l := range providerBlock.lines {
			all[name] = lift(l, func(h *Handler) *Provider { return &h.Provider })
		}
		return all
	}(),
	later: []string{
		"client_secret_file", "dialect", "transport", "identity", "bearer", "require", "expect", "upstream_token", "page",
		"trusted_origins", "protected_resource",
	},
}

var limitsBlock = block[*Limits]{
	title: "limits of the directive",
	lines: map[string]line[*Limits]{
		"starts": rateLine("starts 10 1m", func(l *Limits) **Rate { return &l.Starts }),
		"code":   durationLine("code 10m", func(l *Limits) *caddy.Duration { return &l.Code }),
	},
}

var sessionBlock = block[*SessionConfig]{
	title: "session",
	lines: map[string]line[*SessionConfig]{
		"cookie":   textLine("cookie device_auth", func(s *SessionConfig) *string { return &s.Cookie }),
		"idle":     durationLine("idle 12h", func(s *SessionConfig) *caddy.Duration { return &s.Idle }),
		"lifetime": durationLine("lifetime 30d", func(s *SessionConfig) *caddy.Duration { return &s.Lifetime }),
	},
	later: []string{"methods"},
}

// movedToProvider says of each line about the identity provider where it
// belongs once that is named.
func movedToProvider(name string) map[string]string {
	moved := map[string]string{}
	for line := range providerBlock.lines {
		moved[line] = "belongs into `provider " + name + " { … }` of the global option device_auth: move it there, or leave out the name and write all lines here"
	}
	return moved
}

func parseAlgorithms(in input, h *Handler) error {
	for _, alg := range in.args {
		if err := idp.CheckAlgorithm(alg); err != nil {
			return in.Errf("algorithms %w", err)
		}
	}
	h.Algorithms = in.args
	return nil
}

func parseStart(in input, h *Handler) error {
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(in.Dispenser)
	switch {
	case err != nil && strings.Contains(err.Error(), in.File()+":"):
		return fmt.Errorf("start can hold request matchers, like `remote_ip private_ranges`: %w", err) // it names the line
	case err != nil:
		return in.Errf("start can hold request matchers, like `remote_ip private_ranges`: %w", err)
	}
	if len(set) == 0 {
		return in.Err("start needs at least one matcher in its block, like: remote_ip private_ranges")
	}
	h.StartRaw = caddyhttp.RawMatcherSets{set}
	return nil
}

func parseLimits(in input, h *Handler) error {
	h.Limits = new(Limits)
	return limitsBlock.parse(in.Dispenser, h.Limits)
}

func parseUpstreamHeaders(in input, h *Handler) error {
	h.UpstreamHeaders = map[string]string{}
	for nesting := in.Nesting(); in.NextBlock(nesting); {
		name := in.Val()
		if _, twice := h.UpstreamHeaders[name]; twice {
			return in.Errf("upstream_headers: %s is there twice: keep one", name)
		}
		claim := textLine("Remote-User preferred_username", func(text *string) *string { return text })
		var path string
		if err := claim.read(in.Dispenser, &path); err != nil {
			return err
		}
		h.UpstreamHeaders[name] = path
	}
	return nil
}

func parseSession(in input, h *Handler) error {
	h.Session = new(SessionConfig)
	return sessionBlock.parse(in.Dispenser, h.Session)
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
//		provider <name> {                # any number of them
//			<the directive's lines about the identity provider>
//		}
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	if existing != nil {
		return nil, d.Err("device_auth is there twice among the global options: put all lines into one")
	}
	if d.NextArg() {
		return nil, d.Errf("device_auth: unexpected %q: as a global option it has a block and no arguments", d.Val())
	}
	app := new(App)
	if err := appBlock.parse(d, app); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "device_auth", Value: caddyconfig.JSON(app, nil)}, nil
}

var appBlock = block[*App]{
	title: "the global option device_auth",
	lines: map[string]line[*App]{
		"store":    {usage: "store bolt", raw: true, parse: func(in input, app *App) error { return parseStore(in.Dispenser, app) }},
		"limits":   {usage: "limits { … }", block: true, parse: parseAppLimits},
		"provider": {usage: "provider my-idp { … }", min: 1, max: 1, block: true, many: true, parse: parseProvider},
	},
}

var appLimitsBlock = block[*AppLimits]{
	title: "limits of the global option device_auth",
	lines: map[string]line[*AppLimits]{
		"pending": countLine("pending 10000", func(l *AppLimits) *int { return &l.Pending }),
		"starts":  rateLine("starts 50 1s", func(l *AppLimits) **Rate { return &l.Starts }),
		"waits":   countLine("waits 5000", func(l *AppLimits) *int { return &l.Waits }),
	},
}

func parseStore(d *caddyfile.Dispenser, app *App) error {
	if !d.NextArg() {
		return d.Err("store needs a name: bolt or memory")
	}
	name := d.Val()
	if name == "redis" {
		return d.Err("store redis is not supported yet: use bolt")
	}
	id := "device_auth.stores." + name
	if _, err := caddy.GetModule(id); err != nil {
		return d.Errf("store %s is none that this Caddy has: use bolt or memory, or build Caddy with the module %s", name, id)
	}
	mod, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	app.StoreRaw = caddyconfig.JSONModuleObject(mod, "store", name, nil)
	return nil
}

func parseAppLimits(in input, app *App) error {
	app.Limits = new(AppLimits)
	return appLimitsBlock.parse(in.Dispenser, app.Limits)
}
