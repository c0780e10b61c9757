// This file holds the Caddyfile's directive, and how its blocks are read.

package caddydevice

import (
	"fmt"
	"maps"
	"strings"

	"github.com/caddyserver/caddy/v2"
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
//		client_secret_file <path>            # in place of client_secret
//		client_auth   auto|none|basic|post|private_key_jwt <key file> [<key id>]|tls
//		endpoints {                          # each: what discovery tells
//			device_authorization <url>
//			token                <url>
//			jwks                 <url>
//			revocation           <url>
//		}
//		scopes        <scope...>             # openid, and profile, email, offline_access where listed
//		param         <name> <value>         # none; one line each, placeholders of the request allowed
//		pkce          auto|on|off
//		complete_uri  on|off
//		transport {                          # directly; as in reverse_proxy's `transport http`
//			tls_trust_pool  <source...>      # the system's
//			tls_server_name <name>           # the address's
//			tls_client_auth <cert file> <key file> | <name of a certificate of Caddy's>
//			tls_insecure_skip_verify         # off
//			network_proxy   url <url>        # none; no environment variable counts
//		}
//		idp_timeout   10s
//
//		# who gets in: every require and expect has to hold, by any of its
//		# values, where * stands for any characters
//		bearer off | on {                    # clients' own access tokens
//			audience         <name...>       # this API's; this or the next is required
//			authorized_party <client...>     # whose tokens
//			issuer           <url...>        # the one above
//		}
//		require <claim> <value...>           # of who passes; require any: everyone, on purpose
//		expect  <claim> <value...>           # of who approves a sign-in
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
//		upstream_token none|access_token|id_token  # as Authorization: Bearer
//
//		# how long, and how
//		session {
//			cookie   device_auth
//			idle     12h
//			lifetime 30d
//			methods  <method...>             # all; GET HEAD for sessions that only read
//		}
//
//		# the gateway's own pages
//		page {
//			title     <text>                 # none; the host is always shown
//			logo      <file>                 # none
//			template  <file>                 # the built-in page
//			languages <tag...>               # en de fr es pt ar zh-Hans ja
//			theme     auto|dark|light
//			colors {                         # the theme's
//				background "#rrggbb"
//				text       "#rrggbb"
//				accent     "#rrggbb"
//			}
//			renew     3                      # codes without a sign of life
//			confirm   auto|required          # on the device, after the approval
//		}
//		public_url  <https url>              # what the request says
//		trusted_origins <origin...>          # none: may use the cookie, too
//		protected_resource                   # off: says where tokens come from
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
	"identity":           choiceLine("identity auto|id_token|access_token|userinfo", idp.Identities, func(h *Handler) *string { return &h.Identity }),
	"algorithms":         {usage: "algorithms RS256 ES256", min: 1, max: -1, parse: parseAlgorithms},
	"clock_skew":         durationLine("clock_skew 30s", func(h *Handler) *caddy.Duration { return &h.ClockSkew }),
	"require":            {usage: "require realm_access.roles admin", min: 1, max: -1, many: true, parse: parseRequire},
	"expect":             {usage: "expect email lobby@example.com", min: 2, max: -1, many: true, parse: parseExpect},
	"bearer":             {usage: "bearer on { … }", raw: true, parse: parseBearer},
	"start":              {usage: "start { … }", block: true, parse: parseStart},
	"limits":             {usage: "limits { … }", block: true, parse: parseLimits},
	"upstream_headers":   {usage: "upstream_headers { … }", block: true, parse: parseUpstreamHeaders},
	"upstream_token":     choiceLine("upstream_token none|access_token|id_token", upstreamTokens, func(h *Handler) *string { return &h.UpstreamToken }),
	"session":            {usage: "session { … }", block: true, parse: parseSession},
	"page":               {usage: "page { … }", block: true, parse: parsePage},
	"public_url":         urlLine("public_url https://api.example.com", func(h *Handler) *string { return &h.PublicURL }),
	"trusted_origins":    {usage: "trusted_origins https://app.example.com", min: 1, max: -1, parse: parseTrustedOrigins},
	"path_prefix":        textLine("path_prefix /.device", func(h *Handler) *string { return &h.PathPrefix }),
	"insecure_cookie":    {usage: "insecure_cookie", parse: func(_ input, h *Handler) error { h.InsecureCookie = true; return nil }},
	"protected_resource": {usage: "protected_resource", parse: func(_ input, h *Handler) error { h.ProtectedResource = true; return nil }},
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
		"methods":  {usage: "methods GET HEAD", min: 1, max: -1, parse: parseMethods},
	},
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
