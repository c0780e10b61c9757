// This file holds the tests of access tokens that nobody signed, or somebody
// else, and of those that cannot be one.

package idp

import (
	"crypto/elliptic"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-jose/go-jose/v4"
)

// TestAccessForgeries takes a good token apart. None of it may pass.
func TestAccessForgeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{Provider: newProvider()}
		c := newClient(t, g)
		good := g.Sign(payload(usualAccess()), atJWT)
		if _, err := verifyAccess(c, good, forAPI); err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(good, ".")
		admin := b64(string(payload(changed(usualAccess(), map[string]any{"sub": "admin"}))))
		forged := map[string]string{
			"empty": "", "changed payload": parts[0] + "." + admin + "." + parts[2], "two parts": parts[0] + "." + parts[1], "one part": parts[0],
			"four parts": good + ".x", "five parts": parts[0] + "...." + parts[2], "empty parts": "..", "not a token": "opaque",
			"JSON form":   `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
			"header null": b64("null") + "." + parts[1] + "." + parts[2], "header not JSON": b64("x") + "." + parts[1] + "." + parts[2],
			"JWE": b64(`{"alg":"dir","enc":"A256GCM","typ":"at+jwt"}`) + "..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA", "nested": g.Sign([]byte(good), atJWT),
			"payload not an object": g.Sign([]byte(`["x"]`), atJWT), "payload null": g.Sign([]byte("null"), atJWT), "payload not JSON": g.Sign([]byte("x"), atJWT),
		}
		for name, sig := range edgeSignatures(t, parts[2]) {
			forged["signature "+name] = parts[0] + "." + parts[1] + "." + sig
		}
		for _, alg := range []string{`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `""`, `null`, `5`, `"HS256"`, `"es256"`, `"ES256K"`, `"RS256"`, `"ES384"`, `"dir"`, `"PBES2-HS256+A128KW"`} {
			head := b64(`{"alg":` + alg + `,"kid":"key-1","typ":"at+jwt"}`)
			forged["alg "+alg+" kept signature"] = head + "." + parts[1] + "." + parts[2]
			forged["alg "+alg+" no signature"] = head + "." + admin + "."
			forged["alg "+alg+" two parts"] = head + "." + admin
		}
		forged["no alg"] = b64(`{"kid":"key-1","typ":"at+jwt"}`) + "." + admin + "." + parts[2]
		for name, token := range forged {
			who, err := verifyAccess(c, token, forAPI)
			wantInvalid(t, name, who, err)
		}
		if g.strays.Load() != 0 {
			t.Error("somebody else was asked")
		}
	})
}

// edgeSignatures are what an ECDSA signature must not be (RFC 7518 §3.4).
func edgeSignatures(t *testing.T, good string) map[string]string {
	t.Helper()
	r, s := make([]byte, 32), make([]byte, 32)
	raw, err := jose.ParseSignedCompact(b64(`{"alg":"ES256"}`)+"."+b64("{}")+"."+good, []jose.SignatureAlgorithm{"ES256"})
	if err != nil {
		t.Fatal(err)
	}
	copy(r, raw.Signatures[0].Signature[:32])
	copy(s, raw.Signatures[0].Signature[32:])
	n, zero, one := elliptic.P256().Params().N, make([]byte, 32), append(make([]byte, 31), 1)
	beyond := new(big.Int).Add(n, big.NewInt(1)).Bytes()
	of := func(parts ...[]byte) string {
		var sig string
		for _, p := range parts {
			sig += string(p)
		}
		return b64(sig)
	}
	return map[string]string{
		"none": "", "zeros": of(zero, zero), "r 0": of(zero, s), "s 0": of(r, zero), "r n": of(n.Bytes(), s), "s n": of(r, n.Bytes()), "r and s n": of(n.Bytes(), n.Bytes()),
		"r n+1": of(beyond, s), "s n+1": of(r, beyond), "ones": of(one, one), "all bits": b64(strings.Repeat("\xff", 64)),
		"DER": b64("\x30\x44\x02\x20" + string(r) + "\x02\x20" + string(s)), "short": of(r, s[:31]), "half": of(r), "long": of(r, s, zero), "padded": of(zero, r, zero, s), "swapped": of(s, r),
	}
}

func TestAccessAlgorithmsAreAsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		token := p.Sign(payload(usualAccess()), atJWT)
		for alg, good := range map[string]bool{"ES256": true, "RS256": false} {
			who, err := verifyAccess(newClient(t, p, func(cfg *Config) { cfg.Algorithms = []string{alg} }), token, forAPI)
			wantVerdict(t, alg, good, who, err)
		}
	})
}

// TestBombs: a token that cannot be one costs nothing, however long it is.
func TestBombs(t *testing.T) {
	c := newClient(t, newProvider())
	for name, token := range map[string]string{
		"dots": strings.Repeat(".", 15_000), "one part": strings.Repeat("A", 15_000), "two parts": strings.Repeat("A", 15_000) + ".A", "larger than allowed": strings.Repeat("A", 10<<20) + ".A.A",
		"dots at the end": b64(`{"alg":"ES256","typ":"at+jwt"}`) + strings.Repeat(".", 15_000),
	} {
		const rounds, most = 50, 2 << 10
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			who, err := verifyAccess(c, token, forAPI)
			wantInvalid(t, name, who, err)
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > most {
			t.Errorf("%s: %d bytes a token, want at most %d", name, each, most)
		}
	}
	who, err := verifyAccess(c, b64(`{"alg":"ES256","typ":"at+jwt"}`)+".A."+strings.Repeat("A", maxToken), forAPI)
	wantInvalid(t, "larger than allowed, else well formed", who, err)
	if !strings.Contains(err.Error(), "larger than") {
		t.Errorf("it was read: %v", err)
	}
}

// TestAccessOfAnotherIssuer: the keys of one issuer verify nothing of another,
// whatever they are called.
func TestAccessOfAnotherIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newProvider(), newProvider()
		ofA, ofB := newClient(t, a), newClient(t, b)
		token := a.Sign(payload(usualAccess()), atJWT)
		who, err := verifyAccess(ofA, token, forAPI)
		wantVerdict(t, "its own", true, who, err)
		who, err = verifyAccess(ofB, token, forAPI)
		wantInvalid(t, "the same kid and iss, another's key", who, err)
		who, err = verifyAccess(ofA, a.Sign(payload(changed(usualAccess(), map[string]any{"iss": "https://b.example"})), atJWT), forAPI)
		wantInvalid(t, "another's iss, the own key", who, err)
	})
}

func TestAccessWithoutDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		token := p.Sign(payload(usualAccess()), atJWT)
		p.Metadata = func(md map[string]any) { md["issuer"] = "https://other.example" }
		who, err := verifyAccess(newClient(t, p), token, forAPI)
		if !errors.Is(err, ErrTemporary) || who != nil {
			t.Errorf("%+v, %v, want ErrTemporary", who, err)
		}
		who, err = verifyAccess(newClient(t, p), "opaque", forAPI)
		wantInvalid(t, "what is no token at all", who, err)
	})
}

// TestOneSpelling: of the ways to write one token (RFC 4648 §3.5) the one that
// every encoder writes is taken.
func TestOneSpelling(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	p := newProvider()
	c, good := newClient(t, p), lasting(p)
	taken := 0
	for _, last := range alphabet {
		if who, _ := verifyAccess(c, good[:len(good)-1]+string(last), forAPI); who != nil {
			taken++
		}
	}
	for name, token := range map[string]string{"line break": good + "\n", "line break inside": good[:len(good)-4] + "\n" + good[len(good)-4:], "padding": good + "=="} {
		if who, _ := verifyAccess(c, token, forAPI); who != nil {
			t.Errorf("%s: let in", name)
		}
	}
	if taken != 1 {
		t.Errorf("%d of the last characters are taken", taken)
	}
}
