// This file holds the tests of the signing keys as access tokens of clients use
// them: nobody waits for keys that are known, and made-up ones cost nothing.

package idp

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// forGate is what the tokens of signed are for.
var forGate = Bearer{Audiences: []string{"gate"}}

// lasting is a good access token for days.
func lasting(p *idptest.Provider) string {
	return p.Sign(payload(changed(usualAccess(), map[string]any{"exp": time.Now().Add(72 * time.Hour).Unix()})), atJWT)
}

func madeUp(kid string) string { return signed("ES256", newECDSA(elliptic.P256()), kid, atJWT) }

// fetches counts the requests for keys.
func fetches(p *idptest.Provider) int { return len(p.Calls("/jwks")) }

// wantAtOnce verifies a token and expects that it takes no time.
func wantAtOnce(t *testing.T, name string, c *Client, token string, good bool) {
	t.Helper()
	begin := time.Now()
	who, err := verifyAccess(c, token, Bearer{Audiences: []string{"api", "gate"}})
	wantVerdict(t, name, good, who, err)
	if waited := time.Since(begin); waited != 0 {
		t.Errorf("%s: waited for %v", name, waited)
	}
}

func wantTemporary(t *testing.T, name string, who *Identity, err error) {
	t.Helper()
	if !errors.Is(err, ErrTemporary) || who != nil {
		t.Errorf("%s: %+v, %v, want ErrTemporary", name, who, err)
	}
}

// silent lets the keys never be answered.
func silent(p *idptest.Provider) { p.Always("/jwks", idptest.Reply{Delay: time.Hour}) }

func TestBearersUnknownKeyFlood(t *testing.T) {
	for name, down := range map[string]bool{"keys up": false, "keys down": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				c := newClient(t, p)
				good := lasting(p)
				wantAtOnce(t, "first", c, good, true)
				if down {
					p.Always("/jwks", idptest.Reply{Status: 500})
				}
				for i := range 600 { // a minute: two cooldowns
					who, err := verifyAccess(c, madeUp(fmt.Sprint("kid-", i)), forGate)
					switch past := time.Duration(i) * 100 * time.Millisecond; {
					case down && past >= keyCooldown:
						wantTemporary(t, "made-up key while the last fetch failed", who, err)
					default:
						wantInvalid(t, "made-up key", who, err)
					}
					wantAtOnce(t, "known key", c, good, true)
					time.Sleep(100 * time.Millisecond)
				}
				if n := fetches(p); n != 2 {
					t.Errorf("%d fetches, want 2", n)
				}
			})
		})
	}
}

// TestBearersWaitForOneFetch: who waits is released by the keys or by its own
// client's end, and not by anybody else's.
func TestBearersWaitForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		wantAtOnce(t, "first", c, lasting(p), true)
		time.Sleep(keyCooldown)
		p.Rotate("key-2")
		fresh := p.Keys()
		fresh.Delay = 5 * time.Second
		p.Always("/jwks", fresh)
		token, begin := lasting(p), time.Now()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				gone, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if i%2 == 0 { // the first of all among them: the fetch goes on without it
					who, err := c.VerifyAccess(gone, token, forAPI)
					if wantTemporary(t, "client that has gone", who, err); time.Since(begin) != time.Second {
						t.Errorf("released after %v", time.Since(begin))
					}
					return
				}
				who, err := verifyAccess(c, token, forAPI)
				if wantVerdict(t, "client that waits", true, who, err); time.Since(begin) != 5*time.Second {
					t.Errorf("waited for %v", time.Since(begin))
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if n := fetches(p); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

// TestBearersWaitNoLongerThanTheTimeout: keys that never come are a fault.
func TestBearersWaitNoLongerThanTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		silent(p)
		begin := time.Now()
		who, err := verifyAccess(c, lasting(p), forAPI)
		if wantTemporary(t, "token", who, err); time.Since(begin) != c.Timeout() {
			t.Errorf("after %v, want %v", time.Since(begin), c.Timeout())
		}
	})
}

func TestBearersKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		old := lasting(p)
		wantAtOnce(t, "first", c, old, true)
		p.Rotate("key-2")
		wantAtOnce(t, "new key within the cooldown", c, lasting(p), false)
		time.Sleep(keyCooldown)
		wantAtOnce(t, "old key while nothing else is known", c, old, true)
		wantAtOnce(t, "first token of the new key", c, lasting(p), true)
		if n := fetches(p); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		wantAtOnce(t, "key that was taken back", c, old, false)
	})
}

// TestBearersKeysWithoutID: a token that names no key may be of one that is not
// known yet, also where the keys that are have no id either.
func TestBearersKeysWithoutID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		before, after := newECDSA(elliptic.P256()), newECDSA(elliptic.P256())
		p.Always("/jwks", keySetReply(jwk(before.Public(), "", nil)))
		wantAtOnce(t, "first", c, signed("ES256", before, "", atJWT), true)
		time.Sleep(keyCooldown)
		p.Always("/jwks", keySetReply(jwk(after.Public(), "", nil)))
		wantAtOnce(t, "first token of the new key", c, signed("ES256", after, "", atJWT), true)
	})
}

// TestFirstBearersAskOnce: those who come while nothing is known yet share what
// the first of them asks for.
func TestFirstBearersAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		slow := roundTrip(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return p.RoundTrip(r)
		})
		c := newClient(t, slow)
		token := lasting(p)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				who, err := verifyAccess(c, token, forAPI)
				wantVerdict(t, "token", true, who, err)
			})
		}
		wg.Wait()
		if n := len(p.Calls("")); n != 2 {
			t.Errorf("%d requests, want one for discovery and one for the keys", n)
		}
	})
}

// TestBearersKeyTakenBack: without a token of another key a removed one counts
// until the set is old and the next request had it fetched again.
func TestBearersKeyTakenBack(t *testing.T) {
	for name, ask := range map[string]func(*Client, string){
		"by the next token":          func(c *Client, token string) { _, _ = verifyAccess(c, token, forAPI) },
		"by the next cached verdict": func(c *Client, _ string) { c.KeysVersion() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				c := newClient(t, p)
				old := lasting(p)
				wantAtOnce(t, "first", c, old, true)
				before, _ := c.KeysVersion()
				p.Rotate("key-2")
				time.Sleep(keyMaxAge - time.Second)
				wantAtOnce(t, "before the set is old", c, old, true)
				if n := fetches(p); n != 1 {
					t.Errorf("%d fetches, want 1", n)
				}
				time.Sleep(time.Second)
				ask(c, old)
				synctest.Wait()
				if after, ok := c.KeysVersion(); !ok || after == before {
					t.Errorf("version %d, %v after %d", after, ok, before)
				}
				wantAtOnce(t, "after the fetch", c, old, false)
				if n := fetches(p); n != 2 {
					t.Errorf("%d fetches, want 2", n)
				}
			})
		})
	}
}

func TestBearersKeysOutage(t *testing.T) {
	for name, r := range map[string]idptest.Reply{
		"500": {Status: 500}, "HTML": {Status: 200, Body: "<html>"}, "empty object": {Status: 200, Body: "{}"}, "no keys": {Status: 200, Body: `{"keys":[]}`},
		"only an oct key": keySetReply(jwk([]byte("0123456789abcdef"), "key-1", nil)), "broken": {Err: errors.New("reset")}, "timeout": {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				c := newClient(t, p)
				good := lasting(p)
				p.Always("/jwks", r)
				who, err := verifyAccess(c, good, forAPI)
				wantTemporary(t, "without keys", who, err)
				if _, ok := c.KeysVersion(); ok {
					t.Error("there are no keys, but they have a version")
				}
				p.Answer("/jwks", nil)
				time.Sleep(keyCooldown)
				wantAtOnce(t, "after the outage", c, good, true)
				before, _ := c.KeysVersion()

				p.Always("/jwks", r)
				time.Sleep(keyCooldown)
				who, err = verifyAccess(c, madeUp("unknown"), forGate)
				wantTemporary(t, "unknown key in the outage", who, err)
				wantAtOnce(t, "forgery of a known key in the outage", c, madeUp("key-1"), false)
				for range 3 {
					time.Sleep(keyMaxAge)
					wantAtOnce(t, "known key, old set", c, good, true)
					if after, ok := c.KeysVersion(); !ok || after != before {
						t.Errorf("version %d, %v, want %d", after, ok, before)
					}
				}
				time.Sleep(keyMaxStale)
				if _, ok := c.KeysVersion(); ok {
					t.Error("keys count that are too old")
				}
				who, err = verifyAccess(c, good, forAPI)
				wantTemporary(t, "keys that are too old", who, err)
			})
		})
	}
}

// TestForgeriesOfAKnownKey: they wait for nothing, and cost one fetch a
// cooldown; an identity provider that gave an old id to a new key is noticed.
func TestForgeriesOfAKnownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		wantAtOnce(t, "first", c, lasting(p), true)
		var asked atomic.Int32
		p.Answer("/jwks", func() (idptest.Reply, bool) {
			asked.Add(1)
			return idptest.Reply{Delay: time.Hour}, true
		})
		for range 60 { // seconds: two cooldowns, the first of which the first token began
			wantAtOnce(t, "forgery", c, madeUp("key-1"), false)
			time.Sleep(time.Second)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked for %d times, want 1", n)
		}
		p.Rotate("key-1")
		p.Answer("/jwks", nil)
		token := lasting(p)
		wantAtOnce(t, "new key, old id", c, token, false)
		synctest.Wait()
		wantAtOnce(t, "and again", c, token, true)
	})
}

func TestBearersHeaderKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{Provider: newProvider()}
		c := newClient(t, g)
		evil := newECDSA(elliptic.P256())
		for name, header := range map[string]map[jose.HeaderKey]any{
			"jwk": {"jwk": jose.JSONWebKey{Key: evil.Public(), KeyID: "key-1"}}, "jku": {"jku": "https://canary.example/jwks"},
			"x5u": {"x5u": "https://canary.example/cert"}, "x5c": {"x5c": []string{"AAAA"}}, "kid as a URL": {"kid": "https://canary.example/"},
		} {
			for _, kid := range []string{"key-1", "", "unknown"} {
				time.Sleep(keyCooldown)
				who, err := verifyAccess(c, signed("ES256", evil, kid, changedHeader(header, "typ", "at+jwt")), forGate)
				wantInvalid(t, name+" "+kid, who, err)
			}
		}
		if n := g.strays.Load(); n != 0 {
			t.Errorf("%d requests to where the token pointed", n)
		}
	})
}

// TestBearersDoNotWaitForDiscovery: an old document serves while it is renewed,
// and one renews it.
func TestBearersDoNotWaitForDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const path = "/.well-known/openid-configuration"
		p := newProvider()
		c := newClient(t, p)
		good := lasting(p)
		wantAtOnce(t, "first", c, good, true)
		var asked atomic.Int32
		p.Answer(path, func() (idptest.Reply, bool) {
			asked.Add(1)
			return idptest.Reply{Delay: time.Hour}, true
		})
		time.Sleep(discoveryMaxAge)
		for range 5 {
			wantAtOnce(t, "while discovery hangs", c, good, true)
			synctest.Wait()
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked for %d times, want 1", n)
		}
		time.Sleep(time.Minute)
		p.Answer(path, nil)
		wantAtOnce(t, "after the outage", c, good, true)
		synctest.Wait()
		if md := c.discovery.good.Load(); !md.fresh() {
			t.Error("the document is not renewed")
		}
	})
}

// TestBearersUnderLoad: a key that stays listed while others come and go is
// never refused.
func TestBearersUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		stays, round := newECDSA(elliptic.P256()), atomic.Int32{}
		p.Answer("/jwks", func() (idptest.Reply, bool) {
			other := jwk(newECDSA(elliptic.P256()).Public(), fmt.Sprint("other-", round.Add(1)), nil)
			r := keySetReply(other, jwk(stays.Public(), "stays", nil))
			r.Delay = time.Second
			return r, true
		})
		c := newClient(t, p)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range 60 {
					time.Sleep(time.Minute + time.Duration(i)*time.Millisecond)
					who, err := verifyAccess(c, signed("ES256", stays, "stays", atJWT), forGate)
					wantVerdict(t, "listed key", true, who, err)
					c.KeysVersion()
					_, _ = verifyAccess(c, madeUp("unknown"), forGate)
				}
			})
		}
		wg.Wait()
		if round.Load() < 6 {
			t.Errorf("%d fetches in an hour: nothing was tested", round.Load())
		}
	})
}
