// This file holds the identity provider's signing keys: fetched when a token
// names one that is not known and when they are old, at most once per cooldown,
// and kept through an outage. Nothing here locks.

package idp

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
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
	// have taken back: from then on its set is fetched again, before use for a
	// sign-in, beside it for a token that its client brings.
	keyMaxAge = 10 * time.Minute
	// keyIdleAge is from when on those tokens wait as well: nobody has used the
	// keys for so long that one taken back would open the gate.
	keyIdleAge = 2 * keyMaxAge
	// keyMaxStale is for how long the last good set serves where that fails.
	keyMaxStale = 24 * time.Hour
	minRSABits  = 2048
)

// Algorithms are the signature algorithms that are accepted: the asymmetric
// ones. A MAC algorithm would make a public key a signing key (RFC 8725 §2.1).
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// keySet implements oidc.KeySet.
type keySet struct {
	url      string
	http     *http.Client
	anyKeyID bool // a token's key id says nothing

	good atomic.Pointer[fetchedKeys] // the last set that could be used
	last atomic.Pointer[keyFetch]    // the last fetch that was begun
}

// fetchedKeys are the keys of one fetch. A nil one has none.
type fetchedKeys struct {
	keys    []jose.JSONWebKey
	asked   time.Time // when they were asked for
	print   [sha256.Size]byte
	version uint64 // another one than that of any set with other keys
}

// keySetVersions counts the sets of all clients, so that a verdict by the keys
// of one is never taken for a verdict by those of another.
var keySetVersions atomic.Uint64

func (f *fetchedKeys) old() bool { return f != nil && time.Since(f.asked) >= keyMaxAge }

// usable are the keys, none where they are older than any outage should last.
func (f *fetchedKeys) usable() []jose.JSONWebKey {
	if f == nil || time.Since(f.asked) >= keyMaxStale {
		return nil
	}
	return f.keys
}

// names reports whether a key has this id. A token without one names no key.
func (f *fetchedKeys) names(kid string) bool {
	return kid != "" && slices.ContainsFunc(f.usable(), func(k jose.JSONWebKey) bool { return k.KeyID == kid })
}

// keyFetch is one request for the keys; err is there once done is closed. all is
// whether everybody waits for it, since nobody had asked for so long.
type keyFetch struct {
	begun time.Time
	all   bool
	done  chan struct{}
	err   error
}

// spent reports whether a new fetch may follow this one.
func (f *keyFetch) spent() bool {
	return f == nil || (f.ended() && time.Since(f.begun) >= keyCooldown)
}

// wait returns how the fetch went, or that the caller has had enough.
func (f *keyFetch) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
	}
}

func newKeySet(url string, client *http.Client, anyKeyID bool) *keySet {
	return &keySet{url: url, http: client, anyKeyID: anyKeyID}
}

var errNoKey = errors.New("no key of the identity provider made this signature")

// VerifySignature implements oidc.KeySet, for sign-ins: it waits for newer keys
// where those at hand are old. It fails with [ErrTemporary] where the key may
// exist, but could not be fetched.
func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	jws, err := parseSigned(jwt, Algorithms)
	if err != nil {
		return nil, errors.New("malformed token")
	}
	begun := time.Now()
	known := k.current(ctx)
	if payload, ok := k.verifyWith(known.usable(), jws); ok {
		return payload, nil
	}
	fresh, err := k.newest(ctx)
	if err != nil {
		return nil, err
	}
	if payload, ok := k.verifyWith(fresh.usable(), jws); ok {
		return payload, nil
	}
	if fresh == known || fresh.asked.Before(begun) {
		return nil, fmt.Errorf("%w: they may have changed since they were asked for", ErrTemporary)
	}
	return nil, errNoKey
}

// verifyOwn is VerifySignature for a token that its client brings with each
// request. A token whose key is known waits for nobody while tokens come
// steadily, however old the keys are. One that no key verifies is refused for good, also where a newer set
// may not be asked for yet: anyone can send such tokens, and the client of a
// key that was published a moment ago tries again. [ErrTemporary] is left for
// keys that could not be fetched.
func (k *keySet) verifyOwn(ctx context.Context, jws *jose.JSONWebSignature) ([]byte, error) {
	known := k.good.Load()
	switch {
	case known.old() && k.neglected():
		fetch, _ := k.fetch(ctx)
		_ = fetch.wait(ctx) // an outage, or a caller that has had enough
		known = k.good.Load()
	case known.old():
		k.fetch(ctx)
	}
	if payload, ok := k.verifyWith(known.usable(), jws); ok {
		return payload, nil
	}
	if known.names(keyID(jws)) {
		k.fetch(ctx) // in case the identity provider gave an old id to a new key
		return nil, errNoKey
	}
	fresh, err := k.newest(ctx)
	if err != nil {
		return nil, err
	}
	if payload, ok := k.verifyWith(fresh.usable(), jws); ok {
		return payload, nil
	}
	return nil, errNoKey
}

// neglected reports whether nobody has used the keys for so long that they were
// not even asked for in vain, or whether that first fetch is still under way.
func (k *keySet) neglected() bool {
	last := k.last.Load()
	return last.idle() || (last != nil && last.all && !last.ended())
}

func (f *keyFetch) idle() bool { return f != nil && time.Since(f.begun) >= keyIdleAge }

func (f *keyFetch) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// version tells sets of different keys apart, and whether there is one that
// counts. An old one is fetched again in the background.
func (k *keySet) version() (uint64, bool) {
	known := k.good.Load()
	if k.neglected() {
		return 0, false
	}
	if known.old() {
		k.fetch(context.Background())
	}
	if len(known.usable()) == 0 {
		return 0, false
	}
	return known.version, true
}

func parseSigned(jwt string, algorithms []string) (*jose.JSONWebSignature, error) {
	algs := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		algs[i] = jose.SignatureAlgorithm(a)
	}
	return jose.ParseSignedCompact(jwt, algs)
}

// keyID is the kid of a token in compact form, which has one signature.
func keyID(jws *jose.JSONWebSignature) string { return jws.Signatures[0].Header.KeyID }

func (k *keySet) verifyWith(keys []jose.JSONWebKey, jws *jose.JSONWebSignature) ([]byte, bool) {
	header := jws.Signatures[0].Header
	for i := range keys {
		key := &keys[i]
		if (header.KeyID != "" && !k.anyKeyID && key.KeyID != header.KeyID) || !fits(key, header.Algorithm) {
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
	if fetch, mine := k.fetch(ctx); mine {
		_ = fetch.wait(ctx) // an outage, or a caller that has had enough
	}
	return k.good.Load()
}

// newest returns the set of the fetch under way, of a new one or, within the
// cooldown, of the last one. A failed fetch leaves the last good set in place.
func (k *keySet) newest(ctx context.Context) (*fetchedKeys, error) {
	fetch, _ := k.fetch(ctx)
	if err := fetch.wait(ctx); err != nil {
		return nil, err
	}
	return k.good.Load(), nil
}

// fetch begins to ask for the keys, in the background: whoever asks may give
// up, and what is learned is for all. It returns the fetch that is the last
// one then, and whether this call began it: none begins while one is under way
// or within the cooldown, be the last one good or not. It never blocks.
func (k *keySet) fetch(ctx context.Context) (fetch *keyFetch, mine bool) {
	last := k.last.Load()
	if !last.spent() {
		return last, false
	}
	fetch = &keyFetch{begun: time.Now(), all: last.idle(), done: make(chan struct{})}
	if !k.last.CompareAndSwap(last, fetch) {
		return k.last.Load(), false
	}
	go k.run(context.WithoutCancel(ctx), fetch)
	return fetch, true
}

// run ends by itself: the client bounds every request.
func (k *keySet) run(ctx context.Context, fetch *keyFetch) {
	defer close(fetch.done)
	keys, err := k.ask(ctx)
	if err != nil {
		fetch.err = fmt.Errorf("%w: %s", ErrTemporary, words(withoutURL(err).Error()))
		return
	}
	k.good.Store(k.good.Load().replacedBy(keys, fetch.begun))
}

// replacedBy is the next set. The same keys in another order are the same.
func (f *fetchedKeys) replacedBy(keys []jose.JSONWebKey, asked time.Time) *fetchedKeys {
	next := &fetchedKeys{keys: keys, asked: asked, print: fingerprint(keys)}
	if f != nil && f.print == next.print {
		next.version = f.version
	} else {
		next.version = keySetVersions.Add(1)
	}
	return next
}

func fingerprint(keys []jose.JSONWebKey) [sha256.Size]byte {
	texts := make([]string, len(keys))
	for i, key := range keys {
		text, _ := key.MarshalJSON() // it was read from JSON
		texts[i] = string(text)
	}
	slices.Sort(texts)
	return sha256.Sum256([]byte(strings.Join(texts, "\n")))
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
