// This file holds the tests of discovery, and of the bounds on every answer.

package idp

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

const wellKnown = "/.well-known/openid-configuration"

func TestDiscoveryIsLazyAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		if n := len(p.Calls("")); n != 0 {
			t.Fatalf("%d requests before the first use", n)
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := ready(c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(p.Calls(wellKnown)); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		time.Sleep(discoveryMaxAge)
		p.Always(wellKnown, idptest.Reply{Status: 500})
		for range 100 {
			if err := ready(c); err != nil {
				t.Fatalf("the last good answer is gone: %v", err)
			}
		}
		if n := len(p.Calls(wellKnown)); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		if ans := poll(c); ans.Outcome != Pending {
			t.Errorf("poll: %v", ans)
		}
	})
}

func TestDiscoveryBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.Always(wellKnown, idptest.Reply{Status: 502, Body: "<html>canary-body"})
		c := newClient(t, p)
		begin := time.Now()
		for time.Since(begin) < 2*time.Minute {
			u := wantUnavailable(t, ready(c))
			if u.RetryAfter <= 0 || u.RetryAfter > discoveryMostBackoff {
				t.Fatalf("retry after %v", u.RetryAfter)
			}
			time.Sleep(100 * time.Millisecond)
		}
		calls := p.Calls(wellKnown)
		for i, want := range []int{1, 2, 4, 8, 15, 15, 15} {
			got := calls[i+1].Start.Sub(calls[i].Start)
			if w := time.Duration(want) * time.Second; got < w || got > w+200*time.Millisecond {
				t.Errorf("try %d after %v, want %v", i+1, got, w)
			}
		}
		p.Answer(wellKnown, nil)
		time.Sleep(discoveryMostBackoff)
		if err := ready(c); err != nil {
			t.Errorf("does not recover: %v", err)
		}
	})
}

func TestDiscoveryRefuses(t *testing.T) {
	set := func(member string, value any) func(map[string]any) {
		return func(md map[string]any) { md[member] = value }
	}
	drop := func(member string) func(map[string]any) {
		return func(md map[string]any) { delete(md, member) }
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		words  string
	}{
		"issuer with a slash":         {set("issuer", issuer+"/"), "https://idp.example/"},
		"issuer in capitals":          {set("issuer", "https://IDP.example"), "IDP.example"},
		"issuer with a port":          {set("issuer", issuer+":443"), ":443"},
		"issuer of another tenant":    {set("issuer", issuer+"/t2"), "/t2"},
		"issuer as http":              {set("issuer", "http://idp.example"), "http://idp"},
		"no issuer":                   {drop("issuer"), "the same"},
		"no device endpoint":          {drop("device_authorization_endpoint"), "device_authorization_endpoint"},
		"no token endpoint":           {drop("token_endpoint"), "token_endpoint"},
		"no jwks_uri":                 {drop("jwks_uri"), "jwks_uri"},
		"http device endpoint":        {set("device_authorization_endpoint", "http://idp.example/device"), "https"},
		"http token endpoint":         {set("token_endpoint", "http://idp.example/token"), "https"},
		"http loopback endpoint":      {set("token_endpoint", "http://127.0.0.1/token"), "https"},
		"http keys":                   {set("jwks_uri", "http://idp.example/jwks"), "https"},
		"endpoint without a host":     {set("token_endpoint", "/token"), "absolute"},
		"endpoint with a user":        {set("token_endpoint", "https://u:p@idp.example/token"), "user"},
		"endpoint of another scheme":  {set("token_endpoint", "file:///etc/passwd"), "token_endpoint"},
		"endpoint that is no string":  {set("token_endpoint", 42), ""},
		"endpoint that is no URL":     {set("token_endpoint", "https://idp.example/%zz"), "URL"},
		"scopes that are not strings": {set("scopes_supported", "openid"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &guarded{Provider: newProvider(func(p *idptest.Provider) { p.Metadata = c.change })}
				client := newClient(t, g)
				if u := wantUnavailable(t, ready(client)); !strings.Contains(u.Error(), c.words) {
					t.Errorf("%q does not name the remedy (%s)", u, c.words)
				}
				if _, err := client.Authorize(context.Background()); err == nil {
					t.Error("a device authorization request was made")
				}
				if ans := poll(client); ans.Outcome != Transient {
					t.Errorf("poll: %v", ans.Outcome)
				}
				if g.strays.Load() != 0 || len(g.Calls("")) != len(g.Calls(wellKnown)) {
					t.Error("a refused document was used")
				}
			})
		})
	}
}

func TestRedirectsAreNotFollowedElsewhere(t *testing.T) {
	for name, to := range redirects() {
		for _, path := range []string{wellKnown, "/jwks", "/device", "/token", "/revoke"} {
			for _, status := range []int{301, 302, 303, 307, 308} {
				synctest.Test(t, func(t *testing.T) {
					g := &guarded{Provider: newProvider()}
					tokens := approved(g.Provider, nil)
					g.Always(path, redirect(status, to))
					c := newClient(t, g, func(cfg *Config) { cfg.ClientSecret = "secret-canary" })
					ready := ready(c)
					_, authorize := c.Authorize(context.Background())
					asked := poll(c).Outcome == Transient && refresh(c).Outcome == Transient
					revoke := c.Revoke(context.Background(), refreshToken, "refresh_token")
					_, verify := c.Verify(context.Background(), tokens)
					failed := map[string]bool{wellKnown: ready != nil, "/jwks": verify != nil, "/device": authorize != nil, "/token": asked, "/revoke": revoke != nil}
					if !failed[path] {
						t.Errorf("%s: a %d to %s passes", path, status, name)
					}
					if g.strays.Load() != 0 {
						t.Errorf("%s: followed a %d to %s", path, status, name)
					}
				})
			}
		}
	}
}

// TestPostsAreNeverRedirected: a secret is not even carried within the origin.
func TestPostsAreNeverRedirected(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider()
			p.Always("/token", redirect(status, "/elsewhere"))
			p.Always("/device", redirect(status, "/elsewhere"))
			p.Always("/revoke", redirect(status, "/elsewhere"))
			c := newClient(t, p)
			poll(c)
			refresh(c)
			_, err := c.Authorize(context.Background())
			wantRefused(t, "revocation", c.Revoke(context.Background(), refreshToken, "refresh_token"))
			if err == nil || len(p.Calls("/elsewhere")) != 0 {
				t.Errorf("%d: followed", status)
			}
		})
	}
}

func TestEndlessBodiesAreCutOff(t *testing.T) {
	for path, try := range everyRequest() {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var read atomic.Int64
				p := newProvider()
				if err := try(newClient(t, endless(p, path, &read)), p); err == nil {
					t.Error("passes")
				}
				if n := read.Load(); n == 0 || n > maxBody+1 {
					t.Errorf("%d bytes read, want at most %d", n, maxBody)
				}
			})
		})
	}
}

func TestSlowAnswersEnd(t *testing.T) {
	for path, try := range everyRequest() {
		for name, silent := range map[string]bool{"dripping": false, "silent": true} {
			t.Run(name+path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newProvider()
					c := newClient(t, slowFor(p, path, silent), func(cfg *Config) { cfg.Timeout = 7 * time.Second })
					begin := time.Now()
					if err := try(c, p); err == nil {
						t.Error("passes")
					}
					if d := time.Since(begin); d != 7*time.Second {
						t.Errorf("took %v, want the timeout", d)
					}
				})
			})
		}
	}
}

// everyRequest makes each request that goes to a path.
func everyRequest() map[string]func(*Client, *idptest.Provider) error {
	return map[string]func(*Client, *idptest.Provider) error{
		wellKnown: func(c *Client, _ *idptest.Provider) error { return ready(c) },
		"/device": func(c *Client, _ *idptest.Provider) error { _, err := c.Authorize(context.Background()); return err },
		"/token":  func(c *Client, _ *idptest.Provider) error { return poll(c).Err },
		"/revoke": func(c *Client, _ *idptest.Provider) error {
			return c.Revoke(context.Background(), refreshToken, "refresh_token")
		},
		"/jwks": func(c *Client, p *idptest.Provider) error {
			_, err := c.Verify(context.Background(), approved(p, nil))
			return err
		},
	}
}

func TestBodyAtTheLimit(t *testing.T) {
	for _, size := range []int{maxBody, maxBody + 1} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider()
			reply := idptest.Pending()
			reply.Body += strings.Repeat(" ", size-len(reply.Body))
			p.Always("/token", reply)
			want := Pending
			if size > maxBody {
				want = Transient
			}
			if ans := poll(newClient(t, p)); ans.Outcome != want {
				t.Errorf("%d bytes: %v", size, ans.Outcome)
			}
		})
	}
}

// TestGzipBomb: the bound counts what comes out of the inflation.
func TestGzipBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(bytes.Repeat([]byte{' '}, 64<<20)); err != nil {
		t.Fatal(err)
	}
	z.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	}))
	defer server.Close()
	c := newClient(t, nil, func(cfg *Config) { cfg.Issuer = server.URL })
	if err := ready(c); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("64 MiB of spaces: %v", err)
	}
}

// TestOverTheWire runs a sign-in over real HTTP, with the transport that is
// used in earnest.
func TestOverTheWire(t *testing.T) {
	p := idptest.New("")
	server := httptest.NewServer(p)
	defer server.Close()
	p.Issuer = server.URL
	c := newClient(t, nil, func(cfg *Config) { cfg.Issuer = server.URL })
	defer c.Close()
	if _, err := c.Authorize(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.Approve("")
	ans := poll(c)
	if ans.Outcome != Approved {
		t.Fatal(ans.Err)
	}
	if who, err := c.Verify(context.Background(), ans.Tokens); err != nil || who.Subject != "sub-alice" {
		t.Errorf("%+v, %v", who, err)
	}
}
