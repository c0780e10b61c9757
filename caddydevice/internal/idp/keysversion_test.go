// This file holds the tests of the version of the signing keys, by which kept
// verdicts live and die.

package idp

import (
	"crypto/elliptic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func TestKeysVersion(t *testing.T) {
	a, b := newECDSA(elliptic.P256()), newECDSA(elliptic.P256())
	one, two := jwk(a.Public(), "a", nil), jwk(b.Public(), "b", nil)
	for name, c := range map[string]struct {
		before, after idptest.Reply
		same          bool
	}{
		"equal":                    {keySetReply(one, two), keySetReply(one, two), true},
		"in another order":         {keySetReply(one, two), keySetReply(two, one), true},
		"beside a key of no use":   {keySetReply(one), keySetReply(one, map[string]any{"kty": "XYZ"}), true},
		"a failed fetch":           {keySetReply(one), idptest.Reply{Status: 500}, true},
		"an empty set":             {keySetReply(one), keySetReply(), true},
		"a key more":               {keySetReply(one), keySetReply(one, two), false},
		"a key taken back":         {keySetReply(one, two), keySetReply(one), false},
		"another key":              {keySetReply(one), keySetReply(two), false},
		"another key, the same id": {keySetReply(one), keySetReply(jwk(b.Public(), "a", nil)), false},
		"the same key, another id": {keySetReply(one), keySetReply(jwk(a.Public(), "b", nil)), false},
		"for one algorithm only":   {keySetReply(one), keySetReply(jwk(a.Public(), "a", map[string]any{"alg": "ES256"})), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				p.Always("/jwks", c.before)
				client := newClient(t, p)
				if _, ok := client.KeysVersion(); ok || len(p.Calls("")) != 0 {
					t.Errorf("before any use: %v, %d requests", ok, len(p.Calls("")))
				}
				who, err := verifyAccess(client, signed("ES256", a, "a", atJWT), forGate)
				wantVerdict(t, "token", true, who, err)
				before, ok := client.KeysVersion()
				if !ok {
					t.Fatal("the keys do not count")
				}
				p.Always("/jwks", c.after)
				time.Sleep(keyMaxAge)
				for range 3 { // the first has them fetched, and does not wait
					if v, ok := client.KeysVersion(); !ok || v != before {
						t.Errorf("meanwhile: %d, %v, want %d", v, ok, before)
					}
				}
				synctest.Wait()
				after, ok := client.KeysVersion()
				if !ok || (after == before) != c.same {
					t.Errorf("%d, %v after %d", after, ok, before)
				}
				if n := fetches(p); n != 2 {
					t.Errorf("%d fetches, want 2", n)
				}
			})
		})
	}
}

// TestKeysVersionsOfOthers: a client that takes another's place, or another
// address of the keys, is not taken for the one before.
func TestKeysVersionsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		version := func(c *Client) uint64 {
			t.Helper()
			wantAtOnce(t, "token", c, lasting(p), true)
			v, ok := c.KeysVersion()
			if !ok {
				t.Fatal("the keys do not count")
			}
			return v
		}
		c := newClient(t, p)
		first, second := version(c), version(newClient(t, p))
		p.Answer("/moved", func() (idptest.Reply, bool) { return p.Keys(), true })
		p.Metadata = func(md map[string]any) { md["jwks_uri"] = issuer + "/moved" }
		time.Sleep(discoveryMaxAge)
		wantAtOnce(t, "token", c, lasting(p), true) // has discovery asked again
		synctest.Wait()
		if _, ok := c.KeysVersion(); ok {
			t.Error("keys count that were not asked for")
		}
		if third := version(c); first == second || second == third || first == third {
			t.Errorf("versions %d, %d, %d", first, second, third)
		}
	})
}

// TestKeysVersionDoesNotWait: not for keys that never come, and it leaves
// nothing for the garbage collector.
func TestKeysVersionDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		wantAtOnce(t, "first", c, lasting(p), true)
		silent(p)
		time.Sleep(keyMaxAge)
		begin := time.Now()
		c.KeysVersion()
		synctest.Wait() // what it began allocates, but not for its caller
		if n := testing.AllocsPerRun(100, func() { c.KeysVersion() }); n != 0 || time.Since(begin) != 0 {
			t.Errorf("%v allocations, %v", n, time.Since(begin))
		}
		time.Sleep(time.Minute)
	})
}

// TestNeglectedKeys: a key that was taken back while nobody used the keys opens
// nothing once somebody does. In an outage nobody waits again and again.
func TestNeglectedKeys(t *testing.T) {
	a, b := newECDSA(elliptic.P256()), newECDSA(elliptic.P256())
	token := func() string { return signed("ES256", a, "a", atJWT) }
	for _, row := range []struct {
		name  string
		idle  time.Duration
		after idptest.Reply
		good  bool
	}{
		{"used a while ago", keyIdleAge - time.Second, keySetReply(jwk(b.Public(), "b", nil)), true},
		{"taken back", keyIdleAge, keySetReply(jwk(b.Public(), "b", nil)), false},
		{"still there", keyIdleAge, keySetReply(jwk(a.Public(), "a", nil)), true},
		{"out of reach", keyIdleAge, idptest.Reply{Status: 500}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				p.Always("/jwks", keySetReply(jwk(a.Public(), "a", nil)))
				client := newClient(t, p)
				who, err := verifyAccess(client, token(), forGate)
				wantVerdict(t, "token", true, who, err)
				row.after.Delay = time.Second
				p.Always("/jwks", row.after)
				time.Sleep(row.idle)
				if _, ok := client.KeysVersion(); ok != (row.idle < keyIdleAge) {
					t.Errorf("the version of neglected keys counts: %t", ok)
				}
				who, err = verifyAccess(client, token(), forGate)
				wantVerdict(t, "after a while", row.good, who, err)
				if row.idle < keyIdleAge {
					time.Sleep(time.Minute) // the keys are asked for beside it
					return
				}
				asked := fetches(p)
				if _, ok := client.KeysVersion(); !ok {
					t.Error("once they were asked for they do not count")
				}
				who, err = verifyAccess(client, token(), forGate)
				wantVerdict(t, "right after", row.good, who, err)
				synctest.Wait()
				if fetches(p) != asked {
					t.Errorf("asked %d times more", fetches(p)-asked)
				}
			})
		})
	}
}

// TestNeglectedKeysOfAll: everybody waits for the first fetch after a long
// while, not only who began it; and once, not again and again in an outage.
func TestNeglectedKeysOfAll(t *testing.T) {
	for name, after := range map[string]idptest.Reply{"taken back": keySetReply(jwk(newECDSA(elliptic.P256()).Public(), "b", nil)), "out of reach": {Status: 500}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newECDSA(elliptic.P256())
				token := signed("ES256", a, "a", atJWT)
				p := newProvider()
				p.Always("/jwks", keySetReply(jwk(a.Public(), "a", nil)))
				client := newClient(t, p)
				who, err := verifyAccess(client, token, forGate)
				wantVerdict(t, "token", true, who, err)
				after.Delay = time.Second
				p.Always("/jwks", after)
				time.Sleep(keyIdleAge)
				token = signed("ES256", a, "a", atJWT)
				verdicts := make(chan bool, 3)
				for range cap(verdicts) {
					go func() {
						who, _ := verifyAccess(client, token, forGate)
						verdicts <- who != nil
					}()
				}
				synctest.Wait()
				if _, ok := client.KeysVersion(); ok || len(verdicts) > 0 {
					t.Errorf("meanwhile the old keys count: %t, %d verdicts", ok, len(verdicts))
				}
				for range cap(verdicts) {
					if good := <-verdicts; good != (after.Status == 500) {
						t.Errorf("let in: %t", good)
					}
				}
				if _, ok := client.KeysVersion(); !ok {
					t.Error("they still wait")
				}
			})
		})
	}
}
