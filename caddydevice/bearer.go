// This file holds the access tokens that clients bring themselves: which are
// taken, and the verdicts that are remembered.

package caddydevice

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// verdictTable is how many tokens are remembered at a time. One that was
	// pushed out is verified anew.
	verdictTable = 4096
	// maxRemembered is the longest token that is remembered: with all of its
	// claims it takes about four times as much memory.
	maxRemembered = 8 << 10
)

// BearerConfig says which access tokens of clients are taken. They must be
// JWTs that say of themselves that they are access tokens (RFC 9068 §2.1, or
// the mark of an identity provider that is known for one). At least one of
// audience and authorized_party is required; each that is there must hold.
type BearerConfig struct {
	// The names of this API: aud must have one of them, to the letter.
	Audience []string `json:"audience,omitempty"`

	// The clients whose tokens are taken: azp and client_id, whichever are
	// there, must be one of them.
	AuthorizedParty []string `json:"authorized_party,omitempty"`

	// Whose tokens are taken. Each issuer's keys come from its own discovery
	// document. Default: the gate's issuer.
	Issuer []string `json:"issuer,omitempty"`
}

func (b *BearerConfig) check() error {
	for _, list := range []struct {
		key    string
		values []string
	}{{"audience", b.Audience}, {"authorized_party", b.AuthorizedParty}, {"issuer", b.Issuer}} {
		if slices.Contains(list.values, "") {
			return fmt.Errorf("bearer %s has an empty value: remove it", list.key)
		}
	}
	if len(b.Audience) == 0 && len(b.AuthorizedParty) == 0 {
		return errors.New("bearer needs audience, the name of this API in its tokens, or authorized_party, the clients whose tokens are taken: " +
			"without either, a token that somebody got for another API would do")
	}
	return nil
}

// bearerGate verifies the tokens of one gate.
type bearerGate struct {
	rules    idp.Bearer
	own      *engine                // whose client verifies the tokens of the gate's issuer; nil where they are not taken
	others   map[string]*idp.Client // by issuer
	verdicts *lru.Cache[[sha256.Size]byte, *verdict]
}

// verdict is a token that was found good, and for how long that holds.
type verdict struct {
	who    *session.Identity
	until  time.Time
	client *idp.Client
	keys   uint64 // version of the client's key set
}

// newBearerGate prepares what `bearer on` asks for; it asks nobody.
func (h *Handler) newBearerGate() (*bearerGate, error) {
	verdicts, err := lru.New[[sha256.Size]byte, *verdict](verdictTable)
	if err != nil {
		return nil, err
	}
	g := &bearerGate{
		rules:  idp.Bearer{Audiences: h.Bearer.Audience, AuthorizedParties: h.Bearer.AuthorizedParty},
		others: map[string]*idp.Client{}, verdicts: verdicts,
	}
	if len(h.Bearer.Issuer) == 0 {
		g.own = h.engine
	}
	for _, issuer := range h.Bearer.Issuer {
		if issuer == h.resolved.Issuer {
			g.own = h.engine
			continue
		}
		cfg := idp.Config{
			Issuer: issuer, ClientID: h.resolved.ClientID, KeysOnly: true,
			Algorithms: h.resolved.Algorithms, ClockSkew: h.resolved.ClockSkew, Timeout: h.resolved.Timeout,
			Network: h.resolved.Network.ForOthers(),
		}
		if g.others[issuer], err = idp.New(cfg); err != nil {
			return nil, fmt.Errorf("bearer %w", err)
		}
	}
	return g, nil
}

// close lets go of connections. Requests under way go on.
func (g *bearerGate) close() {
	for _, client := range g.others {
		client.Close()
	}
}

// issuers are whose tokens are taken.
func (h *Handler) bearerIssuers() []string {
	if h.Bearer == nil || len(h.Bearer.Issuer) == 0 {
		return []string{h.resolved.Issuer}
	}
	return h.Bearer.Issuer
}

// identify returns whose token it is. An error that is [idp.ErrTemporary] says
// nothing about the token.
func (g *bearerGate) identify(ctx context.Context, token string) (*session.Identity, error) {
	sum := sha256.Sum256([]byte(token))
	if v, ok := g.verdicts.Get(sum); ok && v.stands(g) { //nolint:contextcheck // the keys are for all, not for this request
		return v.who, nil
	}
	client := g.clientFor(token)
	if client == nil {
		return nil, errors.New("its issuer is none of those whose tokens are taken")
	}
	// before the keys are used: a change in between must not go unnoticed
	keys, _ := client.KeysVersion() //nolint:contextcheck // as above
	who, err := client.VerifyAccess(ctx, token, g.rules)
	if err != nil {
		return nil, err
	}
	v := &verdict{
		who: &session.Identity{
			Issuer: who.Issuer, Subject: who.Subject, SessionID: who.SessionID, Claims: who.Claims,
			AccessToken: secret.String(token), Since: time.Now(),
		},
		until: who.Expiry, client: client, keys: keys,
	}
	if len(token) <= maxRemembered {
		g.verdicts.Add(sum, v)
	}
	return v.who, nil
}

// stands reports whether a verdict still counts: the token has not run out,
// and neither the provider's keys nor its settings have changed since.
func (v *verdict) stands(g *bearerGate) bool {
	keys, ok := v.client.KeysVersion()
	current := g.own != nil && g.own.keeper.Client() == v.client || g.others[v.who.Issuer] == v.client
	return ok && current && keys == v.keys && time.Now().Before(v.until)
}

// clientFor returns the client of the issuer that the token says it is from;
// whether that is true is for the client to find out.
func (g *bearerGate) clientFor(token string) *idp.Client {
	if len(g.others) == 0 {
		return g.own.keeper.Client()
	}
	if client := g.others[idp.UnverifiedIssuer(token)]; client != nil {
		return client
	}
	if g.own == nil {
		return nil
	}
	return g.own.keeper.Client()
}

// bearerToken reads the token of an Authorization field (RFC 6750 §2.1). meant
// is whether the field is for `bearer on` at all; token is "" where it is, but
// not of the one strict form.
func bearerToken(field string) (token string, meant bool) {
	scheme, rest := field, ""
	if i := strings.IndexAny(field, " \t,"); i >= 0 {
		scheme, rest = field[:i], field[i:]
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	token, _ = strings.CutPrefix(rest, " ")
	if strings.ContainsFunc(strings.TrimRight(token, "="), func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~+/", c))
	}) {
		return "", true
	}
	return token, true
}

// bearerOf verifies the request's own access token. done means that the answer
// is written.
func (h *Handler) bearerOf(w http.ResponseWriter, r *http.Request, token string) (who *session.Identity, done bool, err error) {
	who, err = h.bearer.identify(r.Context(), token)
	switch {
	case err == nil:
		return who, false, nil
	case r.Context().Err() != nil, errors.Is(err, idp.ErrTemporary):
		h.faults.Do(func() { h.logger.Warn("an access token cannot be checked", zap.Error(err)) })
		return nil, true, h.unavailable(w, r, "keys", 0)
	}
	if c := h.logger.Check(zap.DebugLevel, "access token refused"); c != nil {
		c.Write(zap.Error(err), zap.String("client_ip", clientIP(r)))
	}
	return nil, true, h.refuseBearer(w, r, nil, "token")
}

// dropBearer takes a client's own token off the request: what the upstream sees
// of it is for upstream_token to say.
func dropBearer(r *http.Request) {
	if !headersSet(r)["Authorization"] {
		keepArrived(r)
		delete(r.Header, "Authorization")
	}
}

// serveTokenEndpoint answers the gateway's own paths to a client that brings its
// own token: there is no session, and nothing to start or to end.
func (h *Handler) serveTokenEndpoint(w http.ResponseWriter, r *http.Request, name string, who *session.Identity) error {
	switch name {
	case "login", "session", "wait":
		return h.answer(w, r, http.StatusOK, &page.Answer{Status: page.Active, User: &page.User{
			Name: displayName(who), Subject: who.Subject, Since: dateOf(who.Claims["iat"]), Until: dateOf(who.Claims["exp"]),
		}})
	case "logout":
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "token_logout"})
	}
	return h.answer(w, r, http.StatusNotFound, &page.Answer{Status: page.Invalid, Detail: "no_login"})
}

// dateOf is the time of a claim (RFC 7519 §2), the zero one where there is none.
func dateOf(claim any) time.Time {
	number, _ := claim.(json.Number)
	seconds, err := number.Float64()
	if err != nil {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}
