// This file holds the tokens of a replay, and how its texts are filled in.

package idptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// handOut makes new tokens for a grant.
func (r *Replay) handOut(g *grant, answer string) Reply {
	r.issued++
	values := map[string]string{"scope": g.scope, "nonce": g.nonce, "auth_time": strconv.FormatInt(g.since.Unix(), 10)}
	g.access = r.accessToken(g, values)
	values["access_token"] = g.access
	values["at_hash"] = r.hashOf(g.access)
	if r.mayRefresh(g) && g.refresh == "" {
		g.refresh = fmt.Sprintf("refresh-canary-%d", r.issued)
	}
	values["refresh_token"] = g.refresh
	if r.Tokens.IDClaims != "" && (r.Tokens.IDAlways || slices.Contains(strings.Fields(g.scope), "openid")) {
		values["id_token"] = r.sign(r.claims(r.Tokens.IDClaims, g, values), "JWT")
	}
	reply := Raw(http.StatusOK, r.expand(answer, values))
	maps.Copy(reply.Header, r.Tokens.Header)
	return reply
}

// hashOf is at_hash (OpenID Connect Core §3.1.3.6).
func (r *Replay) hashOf(token string) string {
	if r.algorithm() == jose.ES384 {
		sum := sha512.Sum384([]byte(token))
		return base64.RawURLEncoding.EncodeToString(sum[:24])
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func (r *Replay) mayRefresh(g *grant) bool {
	if r.Tokens.NoRefresh {
		return false
	}
	scopes := strings.Fields(g.scope)
	return r.Tokens.RefreshScopes == nil || slices.ContainsFunc(r.Tokens.RefreshScopes, func(s string) bool { return slices.Contains(scopes, s) })
}

func (r *Replay) accessToken(g *grant, values map[string]string) string {
	if r.Tokens.AccessClaims == "" {
		return fmt.Sprintf("%saccess-canary-%d", r.Tokens.Access, r.issued)
	}
	typ := r.Tokens.AccessType
	if typ == "" {
		typ = "JWT"
	}
	return r.sign(r.claims(r.Tokens.AccessClaims, g, values), typ)
}

// claims are those of a token, and those that its scopes bring.
func (r *Replay) claims(text string, g *grant, values map[string]string) string {
	for scope := range strings.FieldsSeq(g.scope) {
		text = strings.TrimSuffix(text, "}") + r.Tokens.ByScope[scope] + "}"
	}
	return r.expand(text, values)
}

// empty are members that come out as nothing.
var empty = regexp.MustCompile(`,"[a-zA-Z_]+":""`)

// expand fills a text in.
func (r *Replay) expand(text string, values map[string]string) string {
	now := time.Now()
	filled := os.Expand(text, func(name string) string {
		switch name {
		case "now":
			return strconv.FormatInt(now.Unix(), 10)
		case "exp":
			return strconv.FormatInt(now.Add(r.Tokens.Life).Unix(), 10)
		case "expDate":
			return now.Add(r.Tokens.Life).UTC().Format(time.RFC3339)
		case "client_id":
			return r.ClientID
		}
		quoted, _ := json.Marshal(values[name]) // a string is always JSON
		return string(quoted[1 : len(quoted)-1])
	})
	return empty.ReplaceAllString(filled, "")
}

// sign makes a token of claims, as the product's key does.
func (r *Replay) sign(claims, typ string) string {
	alg := r.algorithm()
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(typ))
	if id := r.Tokens.Key.TokenID; id != "" {
		opts = opts.WithHeader("kid", r.rotated(id))
	}
	var key any = r.signingKey()
	if alg == jose.HS256 {
		key = []byte(r.ClientSecret)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	must(err)
	jws, err := signer.Sign([]byte(claims))
	must(err)
	token, err := jws.CompactSerialize()
	must(err)
	if r.Tokens.Key.Encrypts {
		return r.encrypt(token)
	}
	return token
}

// encrypt wraps a signed token (RFC 7516), for a key that only the client has.
func (r *Replay) encrypt(token string) string {
	recipient := jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: &rsaKeys[1]().PublicKey}
	encrypter, err := jose.NewEncrypter(jose.A256CBC_HS512, recipient, (&jose.EncrypterOptions{}).WithContentType("JWT"))
	must(err)
	jwe, err := encrypter.Encrypt([]byte(token))
	must(err)
	text, err := jwe.CompactSerialize()
	must(err)
	return text
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// keySet is the published key set (RFC 7517 §5).
func (r *Replay) keySet() Reply {
	key := r.Tokens.Key
	if key.Document != "" {
		return Raw(http.StatusOK, key.Document)
	}
	public := jose.JSONWebKey{
		Key: r.signingKey().Public(), KeyID: r.rotated(key.PublishedID), Use: "sig", Algorithm: string(r.algorithm()),
	}
	return JSON(http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
}

func (r *Replay) algorithm() jose.SignatureAlgorithm {
	if r.Tokens.Key.Algorithm == "" {
		return jose.RS256
	}
	return r.Tokens.Key.Algorithm
}

// rotated is a key id of the present key.
func (r *Replay) rotated(id string) string {
	if r.rotations == 0 || id == "" {
		return id
	}
	return fmt.Sprintf("%s-%d", id, r.rotations+1)
}

func (r *Replay) signingKey() crypto.Signer {
	if r.algorithm() == jose.ES384 {
		return ecKeys[r.rotations%2]()
	}
	return rsaKeys[r.rotations%2]()
}

// The keys of all replays: making one takes long.
var (
	rsaKeys = [2]func() *rsa.PrivateKey{sync.OnceValue(newRSAKey), sync.OnceValue(newRSAKey)}
	ecKeys  = [2]func() *ecdsa.PrivateKey{sync.OnceValue(newECKey), sync.OnceValue(newECKey)}
)

func newRSAKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	return key
}

func newECKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	return key
}
