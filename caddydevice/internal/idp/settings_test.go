// This file holds the tests of what a configuration says in place of
// discovery: where the document is, endpoints, parameters and algorithms.

package idp

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

const elsewhere = "https://meta.example/tenant/config.json"

// elsewhereTo answers at elsewhere's host with the provider's document, or as
// scripted, and sends all else to the identity provider.
func elsewhereTo(g *guarded, answer func() idptest.Reply) roundTrip {
	doc := idptest.New("https://meta.example")
	doc.Answer("/tenant/config.json", func() (idptest.Reply, bool) { return answer(), true })
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "meta.example" && r.URL.Scheme == "https" {
			return doc.RoundTrip(r)
		}
		return g.RoundTrip(r)
	}
}

func document(change map[string]any) func() idptest.Reply {
	md := map[string]any{"issuer": issuer, "jwks_uri": issuer + "/jwks", "token_endpoint": issuer + "/token", "device_authorization_endpoint": issuer + "/device"}
	for k, v := range change {
		md[k] = v
	}
	return func() idptest.Reply { return idptest.JSON(http.StatusOK, md) }
}

// TestDiscoveryElsewhere: the document may be anywhere that the operator says,
// but not be another issuer's, nor lead from there to another place.
func TestDiscoveryElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		answer func() idptest.Reply
		words  string // "" where it serves
	}{
		"good":                     {document(nil), ""},
		"issuer of that address":   {document(map[string]any{"issuer": "https://meta.example/tenant"}), "calls itself"},
		"issuer with a slash":      {document(map[string]any{"issuer": issuer + "/"}), "calls itself"},
		"issuer in capitals":       {document(map[string]any{"issuer": "https://IDP.example"}), "calls itself"},
		"no issuer":                {document(map[string]any{"issuer": ""}), "calls itself"},
		"plain http endpoint":      {document(map[string]any{"token_endpoint": "http://idp.example/token"}), "https"},
		"status 404":               {func() idptest.Reply { return idptest.Reply{Status: 404} }, "status 404"},
		"no JSON":                  {func() idptest.Reply { return idptest.Reply{Status: 200, Body: "<html>"} }, "not a JSON object"},
		"redirect to the metadata": {func() idptest.Reply { return redirect(302, "http://169.254.169.254/latest") }, "status 302"},
		"redirect to the issuer":   {func() idptest.Reply { return redirect(307, issuer+wellKnown) }, "status 307"},
		"redirect to plain http":   {func() idptest.Reply { return redirect(301, "http://meta.example/tenant/config.json") }, "status 301"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &guarded{Provider: newProvider()}
				client := newClient(t, elsewhereTo(g, c.answer), func(cfg *Config) { cfg.Discovery = elsewhere })
				_, err := client.Authorize(context.Background())
				if c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
					t.Errorf("%v, want %q", err, c.words)
				}
				if n := len(g.Calls("/device")); (n == 1) != (c.words == "") {
					t.Errorf("%d device authorization requests", n)
				}
				if g.strays.Load() != 0 || len(g.Calls(wellKnown)) != 0 {
					t.Error("something else was asked than the configured address")
				}
			})
		})
	}
}

// TestEndpoints: those that are configured count, and with all of them nothing
// has to be discovered.
func TestEndpoints(t *testing.T) {
	all := Endpoints{DeviceAuthorization: issuer + "/d2", Token: issuer + "/t2", JWKS: issuer + "/j2"}
	for name, c := range map[string]struct {
		endpoints  Endpoints
		discovery  string
		metadata   func(map[string]any)
		discovered int
		words      string // of the failure
		want       []string
	}{
		"none":                       {discovered: 1, want: []string{"/device", "/token", "/jwks"}},
		"all":                        {endpoints: all, want: []string{"/d2", "/t2", "/j2"}},
		"all, and discovery":         {endpoints: all, discovery: issuer + wellKnown, discovered: 1, want: []string{"/d2", "/t2", "/j2"}},
		"device only":                {endpoints: Endpoints{DeviceAuthorization: issuer + "/d2"}, discovered: 1, want: []string{"/d2", "/token", "/jwks"}},
		"token only":                 {endpoints: Endpoints{Token: issuer + "/t2"}, discovered: 1, want: []string{"/device", "/t2", "/jwks"}},
		"jwks only":                  {endpoints: Endpoints{JWKS: issuer + "/j2"}, discovered: 1, want: []string{"/device", "/token", "/j2"}},
		"in place of a missing one":  {endpoints: Endpoints{DeviceAuthorization: issuer + "/d2"}, metadata: func(md map[string]any) { delete(md, "device_authorization_endpoint") }, discovered: 1, want: []string{"/d2", "/token", "/jwks"}},
		"in place of a bad one":      {endpoints: Endpoints{Token: issuer + "/t2"}, metadata: func(md map[string]any) { md["token_endpoint"] = "http://idp.example/token" }, discovered: 1, want: []string{"/device", "/t2", "/jwks"}},
		"another one is missing":     {endpoints: Endpoints{Token: issuer + "/t2"}, metadata: func(md map[string]any) { delete(md, "jwks_uri") }, discovered: 1, words: "endpoints jwks"},
		"the document is of another": {endpoints: Endpoints{Token: issuer + "/t2"}, metadata: func(md map[string]any) { md["issuer"] = issuer + "/" }, discovered: 1, words: "calls itself"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) { p.Metadata = c.metadata })
				p.Always("/d2", idptest.JSON(http.StatusOK, idptest.Device(issuer, 1)))
				p.Always("/t2", p.Tokens(nil))
				p.Always("/j2", fetchReply(t, p, "/jwks"))
				p.Approve("")
				before := len(p.Calls("/jwks"))
				client := newClient(t, p, func(cfg *Config) { cfg.Endpoints, cfg.Discovery = c.endpoints, c.discovery })
				_, err := client.Authorize(context.Background())
				if c.words != "" {
					if err == nil || !strings.Contains(err.Error(), c.words) {
						t.Errorf("%v, want %q", err, c.words)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, err := client.Verify(context.Background(), poll(client).Tokens); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * discoveryMaxAge)
				_ = poll(client)
				asked := map[string]int{"/jwks": -before}
				for _, call := range p.Calls("") {
					asked[call.Path]++
				}
				for _, path := range c.want {
					if asked[path] < 1 {
						t.Errorf("%s was not asked: %v", path, asked)
					}
				}
				if got := asked[wellKnown]; (got > 0) != (c.discovered > 0) || asked["/device"]+asked["/d2"] != 1 || asked["/jwks"]+asked["/j2"] != 1 {
					t.Errorf("%v", asked)
				}
			})
		})
	}
}

// fetchReply is the provider's own answer at a path.
func fetchReply(t *testing.T, p *idptest.Provider, path string) idptest.Reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, issuer+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return idptest.Reply{Status: http.StatusOK, Body: string(body)}
}

func TestSettingMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		words  string // "" where the configuration is good
	}{
		"discovery, plain http":    {func(c *Config) { c.Discovery = "http://idp.example/x" }, "discovery"},
		"discovery, relative":      {func(c *Config) { c.Discovery = "/x" }, "discovery"},
		"discovery with a user":    {func(c *Config) { c.Discovery = "https://u:p@idp.example/" }, "discovery"},
		"discovery on loopback":    {func(c *Config) { c.Discovery = "http://127.0.0.1:1/x" }, ""},
		"device, plain http":       {func(c *Config) { c.Endpoints.DeviceAuthorization = "http://idp.example/x" }, "endpoints device_authorization"},
		"token, plain http":        {func(c *Config) { c.Endpoints.Token = "http://idp.example/x" }, "endpoints token"},
		"jwks, plain http":         {func(c *Config) { c.Endpoints.JWKS = "http://idp.example/x" }, "endpoints jwks"},
		"jwks of a file":           {func(c *Config) { c.Endpoints.JWKS = "file:///etc/passwd" }, "endpoints jwks"},
		"token on loopback":        {func(c *Config) { c.Endpoints.Token = "http://[::1]:1/x" }, ""},
		"algorithm none":           {func(c *Config) { c.Algorithms = []string{"RS256", "none"} }, "without a signature"},
		"algorithm None":           {func(c *Config) { c.Algorithms = []string{"None"} }, "without a signature"},
		"algorithm HS256":          {func(c *Config) { c.Algorithms = []string{"HS256"} }, "can make one"},
		"algorithm hs512":          {func(c *Config) { c.Algorithms = []string{"hs512"} }, "can make one"},
		"unknown algorithm":        {func(c *Config) { c.Algorithms = []string{"RS1"} }, "is none of RS256"},
		"algorithm in small print": {func(c *Config) { c.Algorithms = []string{"rs256"} }, "is none of RS256"},
		"algorithms":               {func(c *Config) { c.Algorithms = []string{"RS256", "EdDSA"} }, ""},
	} {
		cfg := Config{Issuer: issuer, ClientID: "gate"}
		c.change(&cfg)
		if _, err := New(cfg); c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v, want a word on %s", name, err, c.words)
		}
	}
}

// TestAlgorithms: the identity provider of these tests signs with ES256.
func TestAlgorithms(t *testing.T) {
	for name, c := range map[string]struct {
		algs []string
		ok   bool
	}{"all": {nil, true}, "that one": {[]string{"ES256"}, true}, "another": {[]string{"RS256", "ES384"}, false}} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider()
			client := newClient(t, p, func(cfg *Config) { cfg.Algorithms = c.algs })
			if _, err := client.Verify(context.Background(), approved(p, nil)); (err == nil) != c.ok {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestCompleteURI: where it is off it is not even looked at.
func TestCompleteURI(t *testing.T) {
	for _, complete := range []string{issuer + "/activate?user_code=x", "javascript:alert(1)"} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider()
			p.Always("/device", device(func(m map[string]any) { m["verification_uri_complete"] = complete }))
			client := newClient(t, p, func(cfg *Config) { cfg.NoCompleteURI = true })
			if da, err := client.Authorize(context.Background()); err != nil || da.VerificationURIComplete != "" || da.VerificationURI == "" {
				t.Errorf("%+v, %v", da, err)
			}
		})
	}
}

// TestParams: what is added is sent, and never in place of what is the
// client's own.
func TestParams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		client := newClient(t, p, func(cfg *Config) { cfg.PKCE, cfg.ClientAuth, cfg.ClientSecret = "on", "post", "own-secret" })
		params := []Param{{"audience", "https://api.example.com/?a=b&c"}, {"resource", "one"}, {"resource", "two"}, {"acr_values", ""}, {"Client_ID", "evil"}}
		for _, name := range ownParams {
			params = append(params, Param{name, "evil"})
		}
		if _, err := client.Authorize(context.Background(), params...); err != nil {
			t.Fatal(err)
		}
		form := p.Calls("/device")[0].Form
		if form.Get("audience") != "https://api.example.com/?a=b&c" || len(form["resource"]) != 2 || form.Has("acr_values") {
			t.Errorf("%v", form)
		}
		for name, values := range form {
			for _, v := range values {
				if v == "evil" {
					t.Errorf("%s was replaced", name)
				}
			}
		}
		if form.Get("client_id") != "gate" || form.Get("client_secret") != "own-secret" || form.Get("code_challenge_method") != "S256" || form.Get("scope") == "" {
			t.Errorf("%v", form)
		}
		poll(client)
		if form := p.Calls("/token")[0].Form; form.Has("audience") || form.Has("resource") {
			t.Errorf("the token request has them too: %v", form)
		}
	})
}

func TestCheckParamName(t *testing.T) {
	for name, words := range map[string]string{
		"audience": "", "acr_values": "", "x-y.z": "", "": "a name", "client_id": "client_id", "CLIENT_ID": "client_id", "scope": "line scopes",
		"code_challenge": "line pkce", "client_assertion": "remove the line", "grant_type": "remove the line", "a b": "plain", "{http.request.host}": "plain", "a=b": "plain", "ä": "plain",
	} {
		if err := CheckParamName(name); words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
			t.Errorf("%q: %v, want %q", name, err, words)
		}
	}
}
