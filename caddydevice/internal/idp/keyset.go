// This file holds the identity provider's signing keys: fetched when a token
// names one that is not known and when they are old, at most once per cooldown,
// and kept through an outage.

package idp

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keyCooldown is the least time between two fetches, failed ones
	// included: tokens with made-up key ids cost the identity provider no
	// more than this (go-oidc's own key set asks for each of them).
	keyCooldown = 30 * time.Second
	// keyMaxAge is for how long a key counts that the identity provider may
	// have taken back: from then on its set is fetched again before use.
	keyMaxAge = 10 * time.Minute
	// keyMaxStale is for how long the last good set serves where that fails.
	keyMaxStale = 24 * time.Hour
	minRSABits  = 2048
)

// Algorithms are the signature algorithms that are accepted: the asymmetric
// ones. A MAC algorithm would make a public key a signing key (RFC 8725 §2.1).
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// keySet implements oidc.KeySet.
type keySet struct {
	url  string
	http *http.Client

	good atomic.Pointer[fetchedKeys] // the last set that could be used
	turn chan struct{}               // one fetches at a time

	// held while turn is
	nextFetch time.Time
}

// fetchedKeys are the keys of one fetch. A nil one has none.
type fetchedKeys struct {
	keys  []jose.JSONWebKey
	asked time.Time // when they were asked for
}

func (f *fetchedKeys) old() bool { return f != nil && time.Since(f.asked) >= keyMaxAge }

// usable are the keys, none where they are older than any outage should last.
func (f *fetchedKeys) usable() []jose.JSONWebKey {
	if f == nil || time.Since(f.asked) >= keyMaxStale {
		return nil
	}
	return f.keys
}

func newKeySet(url string, client *http.Client) *keySet {
	return &keySet{url: url, http: client, turn: make(chan struct{}, 1)}
}

// VerifySignature implements oidc.KeySet. It fails with [ErrTemporary] where
// the key may exist, but could not be fetched.
func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(jwt, signatureAlgorithms())
	if err != nil {
		return nil, errors.New("malformed token")
	}
	begun := time.Now()
	known := k.current(ctx)
	if payload, ok := verifyWith(known.usable(), jws); ok {
		return payload, nil
	}
	fresh, err := k.fetchAfter(ctx, known)
	if err != nil {
		return nil, err
	}
	if payload, ok := verifyWith(fresh.usable(), jws); ok {
		return payload, nil
	}
	if fresh.asked.Before(begun) {
		return nil, fmt.Errorf("%w: they may have changed since they were asked for", ErrTemporary)
	}
	return nil, errors.New("no key of the identity provider made this signature")
}

func signatureAlgorithms() []jose.SignatureAlgorithm {
	algs := make([]jose.SignatureAlgorithm, len(Algorithms))
	for i, a := range Algorithms {
		algs[i] = jose.SignatureAlgorithm(a)
	}
	return algs
}

func verifyWith(keys []jose.JSONWebKey, jws *jose.JSONWebSignature) ([]byte, bool) {
	if len(jws.Signatures) != 1 {
		return nil, false
	}
	header := jws.Signatures[0].Header
	for i := range keys {
		key := &keys[i]
		if (header.KeyID != "" && key.KeyID != header.KeyID) || !fits(key, header.Algorithm) {
			continue
		}
		if payload, err := jws.Verify(key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// curves says which curve an ECDSA algorithm is for (RFC 7518 §3.4).
var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}

// fits reports whether a key may verify that algorithm (RFC 8725 §3.1): a key
// that names an algorithm is for that one only.
func fits(key *jose.JSONWebKey, alg string) bool {
	if key.Algorithm != "" && key.Algorithm != alg {
		return false
	}
	switch pub := key.Key.(type) {
	case *rsa.PublicKey:
		return (alg[:2] == "RS" || alg[:2] == "PS") && pub.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey:
		return curves[alg] == pub.Curve
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// current returns the set in use. One that is old is fetched again first, by
// one call at a time: the others, and that one where it fails, go on with the
// last good one.
func (k *keySet) current(ctx context.Context) *fetchedKeys {
	if known := k.good.Load(); !known.old() {
		return known
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
		if known := k.good.Load(); known.old() {
			_ = k.fetch(ctx) // an outage, or the cooldown
		}
	default:
	}
	return k.good.Load()
}

// fetchAfter returns a set newer than seen: one that another call has fetched
// meanwhile, or its own. A failed fetch leaves the last good set in place.
func (k *keySet) fetchAfter(ctx context.Context, seen *fetchedKeys) (*fetchedKeys, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
	}
	if now := k.good.Load(); now != seen {
		return now, nil
	}
	if err := k.fetch(ctx); err != nil {
		return nil, err
	}
	return k.good.Load(), nil
}

// fetch replaces the set, unless the last fetch, good or not, was a moment ago.
// The caller has the turn.
func (k *keySet) fetch(ctx context.Context) error {
	if time.Now().Before(k.nextFetch) {
		return fmt.Errorf("%w: they were asked for less than %s ago", ErrTemporary, keyCooldown)
	}
	asked := time.Now()
	k.nextFetch = asked.Add(keyCooldown)
	// for all who wait, whoever asks
	keys, err := k.ask(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("%w: %s", ErrTemporary, words(withoutURL(err).Error()))
	}
	k.good.Store(&fetchedKeys{keys: keys, asked: asked})
	return nil
}

func (k *keySet) ask(ctx context.Context) ([]jose.JSONWebKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("key set: status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return parseKeys(body)
}

// parseKeys reads a JWK set (RFC 7517 §5) and keeps what can verify a
// signature. Keys of unknown kinds are skipped, as that section asks; a set
// without a usable key is an error, so that it does not replace a good one.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("decoding the key set: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var use struct {
			Ops []string `json:"key_ops"`
		}
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &use) != nil || json.Unmarshal(raw, &key) != nil {
			continue
		}
		// a private or symmetric key in a public set is nobody's to use
		if !key.Valid() || !key.IsPublic() || (key.Use != "" && key.Use != "sig") ||
			(len(use.Ops) > 0 && !slices.Contains(use.Ops, "verify")) {
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no key that can verify a signature")
	}
	return keys, nil
}
