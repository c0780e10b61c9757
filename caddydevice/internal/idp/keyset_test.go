// This file holds the tests of the signing keys: which are used, when they are
// fetched, and what survives an outage.

package idp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func newRSA(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newECDSA(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// signed signs the usual claims; kid "" leaves it out.
func signed(alg jose.SignatureAlgorithm, key any, kid string, header map[jose.HeaderKey]any) string {
	opts := &jose.SignerOptions{ExtraHeaders: maps.Clone(header)} // WithHeader would add to it
	if kid != "" {
		opts = opts.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		panic(err)
	}
	jws, err := signer.Sign(payload(usual()))
	if err != nil {
		panic(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

// jwk encodes a key for a key set; change may alter its members.
func jwk(key any, kid string, change map[string]any) map[string]any {
	raw, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: kid})
	if err != nil {
		panic(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(raw, &m); err != nil {
		panic(err)
	}
	for k, v := range change {
		m[k] = v
	}
	return m
}

func keySetReply(keys ...map[string]any) idptest.Reply {
	return idptest.JSON(200, map[string]any{"keys": keys})
}

// TestKeysInTheHeader: no key comes from the token itself (RFC 8725 §3.10).
func TestKeysInTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{Provider: newProvider()}
		c := newClient(t, g)
		evil := newECDSA(elliptic.P256())
		for name, header := range map[string]map[jose.HeaderKey]any{
			"jwk": {"jwk": jose.JSONWebKey{Key: evil.Public(), KeyID: "key-1"}}, "jku": {"jku": "https://canary.example/jwks"},
			"x5u": {"x5u": "https://canary.example/cert"}, "x5c": {"x5c": []string{"AAAA"}}, "kid as a path": {"kid": "../../etc/passwd"}, "kid as a URL": {"kid": "https://canary.example/"},
		} {
			time.Sleep(keyCooldown)
			for _, kid := range []string{"key-1", "", "unknown"} {
				if _, ok := header["kid"]; ok && kid != "" {
					continue
				}
				time.Sleep(keyCooldown)
				who, err := verify(c, signed("ES256", evil, kid, header))
				wantInvalid(t, name+" "+kid, who, err)
			}
		}
		if n := g.strays.Load(); n != 0 {
			t.Errorf("%d requests to where the token pointed", n)
		}
	})
}

func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		old := p.IDToken(nil)
		for range 20 {
			if _, err := verify(c, old); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(p.Calls("/jwks")); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		time.Sleep(keyCooldown)
		p.Rotate("key-2")
		if _, err := verify(c, p.IDToken(nil)); err != nil {
			t.Errorf("the first token of the new key: %v", err)
		}
		if n := len(p.Calls("/jwks")); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		if _, err := verify(c, old); !errors.Is(err, ErrTemporary) {
			t.Errorf("a token of the old key, within the cooldown: %v", err)
		}
		time.Sleep(keyCooldown)
		who, err := verify(c, old)
		wantInvalid(t, "a token of a key that was taken back", who, err)
	})
}

// TestUnknownKeyFlood: made-up key ids cost the identity provider one fetch
// per cooldown, and those who are known nothing.
func TestUnknownKeyFlood(t *testing.T) {
	for name, down := range map[string]bool{"keys up": false, "keys down": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				c := newClient(t, p)
				good := p.IDToken(func(m map[string]any) { m["exp"] = time.Now().Add(24 * time.Hour).Unix() })
				if _, err := verify(c, good); err != nil {
					t.Fatal(err)
				}
				if down {
					p.Always("/jwks", idptest.Reply{Status: 500})
				}
				evil := newECDSA(elliptic.P256())
				begin := time.Now()
				for i := range 600 {
					if _, err := verify(c, signed("ES256", evil, fmt.Sprint("kid-", i), nil)); err == nil {
						t.Fatal("a made-up key passes")
					}
					before := time.Now()
					if _, err := verify(c, good); err != nil || !time.Now().Equal(before) {
						t.Fatalf("a known token after %d made-up ones: %v", i, err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				most := int(time.Since(begin)/keyCooldown) + 2
				if n := len(p.Calls("/jwks")); n > most {
					t.Errorf("%d fetches in %v", n, time.Since(begin))
				}
			})
		})
	}
}

func TestKeysOutage(t *testing.T) {
	for name, r := range map[string]idptest.Reply{
		"500": {Status: 500}, "HTML": {Status: 200, Body: "<html>"}, "empty object": {Status: 200, Body: "{}"}, "no keys": {Status: 200, Body: `{"keys":[]}`},
		"array": {Status: 200, Body: "[]"}, "keys of odd type": {Status: 200, Body: `{"keys":"x"}`}, "empty": {Status: 200}, "404": {Status: 404},
		"only an oct key": keySetReply(jwk([]byte("0123456789abcdef"), "key-1", nil)), "broken": {Err: errors.New("reset")}, "timeout": {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				c := newClient(t, p)
				good := p.IDToken(nil)
				p.Always("/jwks", r)
				if _, err := verify(c, good); !errors.Is(err, ErrTemporary) {
					t.Errorf("without keys: %v, want ErrTemporary", err)
				}
				p.Answer("/jwks", nil)
				time.Sleep(keyCooldown)
				if _, err := verify(c, good); err != nil {
					t.Errorf("does not recover: %v", err)
				}
				p.Always("/jwks", r)
				time.Sleep(keyCooldown)
				if _, err := verify(c, signed("ES256", newECDSA(elliptic.P256()), "unknown", nil)); !errors.Is(err, ErrTemporary) {
					t.Errorf("an unknown key in the outage: %v, want ErrTemporary", err)
				}
				if _, err := verify(c, good); err != nil {
					t.Errorf("the last good keys are gone: %v", err)
				}
			})
		})
	}
}

// TestKeysSurviveDiscovery: a new document with the same jwks_uri keeps the
// keys, which the identity provider may not be able to give again.
func TestKeysSurviveDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		if _, err := verify(c, p.IDToken(nil)); err != nil {
			t.Fatal(err)
		}
		p.Always("/jwks", idptest.Reply{Status: 500})
		time.Sleep(discoveryMaxAge)
		if _, err := verify(c, p.IDToken(nil)); err != nil {
			t.Errorf("the keys are gone with the old document: %v", err)
		}
		if n := len(p.Calls("/.well-known/openid-configuration")); n != 2 {
			t.Errorf("discovery was asked for %d times, want 2", n)
		}
	})
}

// TestKeysTakenBack: a key that the identity provider no longer lists counts
// for keyMaxAge at most, also where no token with another key comes along.
func TestKeysTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		old := p.IDToken(func(m map[string]any) { m["exp"] = time.Now().Add(24 * time.Hour).Unix() })
		if _, err := verify(c, old); err != nil {
			t.Fatal(err)
		}
		p.Rotate("key-2")
		time.Sleep(keyMaxAge - time.Second)
		if _, err := verify(c, old); err != nil {
			t.Errorf("before the set is old: %v", err)
		}
		time.Sleep(time.Second)
		who, err := verify(c, old)
		if errors.Is(err, ErrTemporary) {
			time.Sleep(keyCooldown) // the set that was just fetched lacks the key
			who, err = verify(c, old)
		}
		wantInvalid(t, "a key that was taken back", who, err)
		if n := len(p.Calls("/jwks")); n > 3 {
			t.Errorf("%d fetches", n)
		}
	})
}

// TestKeysInALongOutage: the last good keys serve for a bounded time, and the
// identity provider is not asked for each token.
func TestKeysInALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		good := p.IDToken(func(m map[string]any) { m["exp"] = time.Now().Add(72 * time.Hour).Unix() })
		if _, err := verify(c, good); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		p.Always("/jwks", idptest.Reply{Status: 500})
		for time.Since(begin) < keyMaxStale {
			for range 3 {
				if _, err := verify(c, good); err != nil {
					t.Fatalf("after %v: %v", time.Since(begin), err)
				}
			}
			time.Sleep(keyMaxAge / 2)
		}
		if _, err := verify(c, good); !errors.Is(err, ErrTemporary) {
			t.Errorf("after %v: %v, want ErrTemporary", time.Since(begin), err)
		}
		if n := len(p.Calls("/jwks")); n > int(keyMaxStale/(keyMaxAge/2))+2 {
			t.Errorf("%d fetches in %v", n, time.Since(begin))
		}
		p.Answer("/jwks", nil)
		time.Sleep(keyCooldown)
		if _, err := verify(c, good); err != nil {
			t.Errorf("does not recover: %v", err)
		}
	})
}

// TestRotationDuringAFetch: a set that was asked for before a key was published
// says nothing about that key.
func TestRotationDuringAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		if _, err := verify(c, p.IDToken(nil)); err != nil {
			t.Fatal(err)
		}
		old := p.Keys() // as it is before the rotation
		old.Delay = 5 * time.Second
		p.Always("/jwks", old)
		time.Sleep(keyMaxAge)
		go func() { _, _ = verify(c, p.IDToken(nil)) }()
		synctest.Wait()
		time.Sleep(time.Second)
		p.Rotate("key-2")
		fresh := p.IDToken(nil)
		if _, err := verify(c, fresh); !errors.Is(err, ErrTemporary) {
			t.Errorf("while the old set is on its way: %v", err)
		}
		p.Answer("/jwks", nil)
		time.Sleep(keyCooldown)
		if _, err := verify(c, fresh); err != nil {
			t.Errorf("and later: %v", err)
		}
	})
}

// TestOldKeysDoNotBlock: while one call asks for newer keys, the others go on
// with those that are there.
func TestOldKeysDoNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		tok := approved(p, nil)
		if _, err := c.Verify(context.Background(), tok); err != nil {
			t.Fatal(err)
		}
		p.Always("/jwks", idptest.Reply{Delay: time.Hour})
		time.Sleep(keyMaxAge)
		go func() { _, _ = c.Verify(context.Background(), tok) }()
		synctest.Wait()
		begin := time.Now()
		if _, err := c.Verify(context.Background(), tok); err != nil || time.Since(begin) != 0 {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		time.Sleep(time.Minute)
	})
}

func TestWaitingForKeysEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.Always("/jwks", idptest.Reply{Delay: time.Hour})
		c := newClient(t, p)
		tok := approved(p, nil)
		go func() { _, _ = c.Verify(context.Background(), tok) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := c.Verify(ctx, tok); !errors.Is(err, ErrTemporary) || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		time.Sleep(time.Minute)
	})
}
