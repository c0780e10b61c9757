// This file holds the check of an identity provider: whether people can sign in
// there through this gateway, found out by asking it.

package idp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Level says what a finding means.
type Level string

// The levels of findings. Only with Wrong nobody can sign in.
const (
	OK    Level = "ok"
	Note  Level = "note"
	Wrong Level = "wrong"
)

// Finding is one thing that a check found out. Text never holds a secret; what
// it quotes of the identity provider is short and printable.
type Finding struct {
	Level Level
	// About is what was looked at, in a word or two.
	About string
	// Text is what was found, and what to do where something is to be done.
	Text string
}

// checking gathers findings.
type checking struct {
	*Client
	params   []Param
	md       *metadata
	findings []Finding
}

// Check asks the identity provider for all that a sign-in needs. It starts a
// sign-in that nobody is told of, asks once what has become of it, and lets it
// run out; that takes as long as its polling interval. params go with it.
func (c *Client) Check(ctx context.Context, params ...Param) []Finding {
	k := &checking{Client: c, params: params}
	if k.checkDiscovery(ctx) {
		k.checkClock()
		k.checkKeys(ctx)
		k.checkSignIn(ctx)
		k.checkPKCE()
		k.checkRefresh()
		k.checkRevocation()
	}
	return k.findings
}

func (k *checking) found(level Level, about, format string, args ...any) {
	k.findings = append(k.findings, Finding{level, about, fmt.Sprintf(format, args...)})
}

// wrong is a finding with what to do about it.
func (k *checking) wrong(about string, p problem, err error) {
	endpoint := ""
	if k.md != nil {
		endpoint = k.md.DeviceEndpoint
		if p == clientRefused {
			p = cmp.Or(refusedBy[k.authMethod(k.md)], p)
		}
	}
	k.found(Wrong, about, "%s. %s", plainly(about, err), k.adviceOn(p, endpoint))
}

// refusedBy is what a refused client's problem is, by its method; "" where it
// may be anything.
var refusedBy = map[string]problem{"none": secretRequired, "private_key_jwt": keyRefused, "tls": certRefused}

// plainly is an error without the words that say where it is from.
func plainly(about string, err error) string {
	text := err.Error()
	for _, prefix := range []string{"identity provider: ", "identity provider unavailable: ", about + ": "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return strings.TrimRight(text, ". :")
}

func (k *checking) note(about string, p problem, text string) {
	k.found(Note, about, "%s. %s", text, k.adviceOn(p, k.md.DeviceEndpoint))
}

// checkDiscovery reports whether there is anything to go on with.
func (k *checking) checkDiscovery(ctx context.Context) bool {
	if md := k.discovery.good.Load(); md != nil && md.settled {
		k.md = md
		k.found(OK, "discovery", "not needed: the endpoints are known without")
		return true
	}
	md, err := k.discover(ctx)
	if err != nil {
		p := problemOf(err)
		if p == noDocument {
			err = fmt.Errorf("there is none at %s: %s", words(k.cfg.discoveryURL()), plainly("discovery", err))
		}
		k.wrong("discovery", p, err)
		return false
	}
	k.md = md
	k.Client.discovery.good.Store(md)
	k.found(OK, "discovery", "%s calls itself what is configured", words(k.cfg.discoveryURL()))
	return true
}

// problemOf tells why there is no answer, or none that can be used.
func problemOf(err error) problem {
	if t, ok := errors.AsType[*trouble](err); ok {
		return t.problem
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return untrusted
	}
	return unreachable
}

func (k *checking) checkClock() {
	apart := k.md.apart.Round(time.Second)
	switch {
	case !k.md.dated:
		k.found(Note, "clock", "its answers have no date, so the clocks are only compared at a sign-in (--try)")
	case apart.Abs() > k.cfg.ClockSkew:
		k.wrong("clock", clockAside, fmt.Errorf("the two clocks are %s apart, and clock_skew allows %s", apart.Abs(), k.cfg.ClockSkew))
	default:
		k.found(OK, "clock", "the two clocks are %s apart", apart.Abs())
	}
}

func (k *checking) checkKeys(ctx context.Context) {
	if k.dialect.noOpenID {
		k.found(OK, "keys", "none are needed: the userinfo endpoint tells who signs in")
		return
	}
	if listed := k.md.IDTokenAlgs; len(listed) > 0 && !slices.ContainsFunc(listed, func(alg string) bool { return slices.Contains(k.cfg.Algorithms, alg) }) {
		k.wrong("keys", macOnly, fmt.Errorf("its ID tokens are signed with %s, which is none of %s", words(strings.Join(listed, ", ")), strings.Join(k.cfg.Algorithms, ", ")))
		return
	}
	set, err := k.md.keys.newest(ctx)
	if err != nil {
		k.wrong("keys", noKeys, err)
		return
	}
	keys := set.usable()
	kinds := slices.DeleteFunc(slices.Clone(k.cfg.Algorithms), func(alg string) bool {
		return !slices.ContainsFunc(keys, func(key jose.JSONWebKey) bool { return fits(&key, alg) })
	})
	if len(kinds) == 0 {
		k.wrong("keys", noKeys, fmt.Errorf("none of its %d keys is for %s", len(keys), strings.Join(k.cfg.Algorithms, ", ")))
		return
	}
	k.found(OK, "keys", "%d, for %s", len(keys), strings.Join(kinds, ", "))
}

// checkSignIn starts a sign-in and asks once what has become of it.
func (k *checking) checkSignIn(ctx context.Context) {
	da, err := k.Authorize(ctx, k.params...)
	if err != nil {
		k.wrong("sign-in", refusalOf(err), err)
		return
	}
	k.found(OK, "sign-in", "a code like %s, for %s, asked about every %s", da.UserCode, da.ExpiresIn, da.Interval)
	if da.ExpiresIn < shortLife {
		k.note("sign-in", shortCodes, "a code works for "+da.ExpiresIn.String()+" only")
	}
	switch {
	case k.cfg.NoCompleteURI:
		k.found(OK, "QR code", "leads to %s without the code: complete_uri is off", da.VerificationURI)
	case da.VerificationURIComplete == "":
		k.found(Note, "QR code", "leads to %s without the code, which people have to type: it sends no verification_uri_complete", da.VerificationURI)
	default:
		k.found(OK, "QR code", "leads to %s with the code in it", da.VerificationURI)
	}
	if err := pause(ctx, da.Interval+PollMargin); err != nil {
		k.wrong("client", refused, err)
		return
	}
	k.checkPoll(k.Poll(ctx, da.DeviceCode, da.CodeVerifier))
}

// shortLife is how long a code has to work for somebody who looks for their phone
// first.
const shortLife = 2 * time.Minute

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkPoll reads what a code that nobody knows of has come to.
func (k *checking) checkPoll(ans Answer) {
	_, unanswered := errors.AsType[*noAnswerError](ans.Err)
	switch {
	case ans.Outcome == Pending, ans.Outcome == SlowDown:
		k.found(OK, "client", "%s is let in (client_auth %s)", words(k.cfg.ClientID), k.authMethod(k.md))
	case unanswered:
		k.wrong("client", unreachable, ans.Err)
	case ans.Outcome == Failed:
		k.wrong("client", refusalOf(ans.Err), ans.Err)
	case ans.Outcome == Approved:
		k.wrong("client", refused, errors.New("a sign-in that nobody has decided is answered with tokens"))
	default:
		k.wrong("client", notPending, fmt.Errorf("a sign-in that nobody has decided is answered with %w", ans.Err))
	}
}

func (k *checking) checkPKCE() {
	switch {
	case k.usesPKCE(k.md):
		k.found(OK, "PKCE", "a code challenge (S256) is sent")
	case k.cfg.PKCE == "off":
		k.found(OK, "PKCE", "none is sent: pkce is off")
	default:
		k.found(OK, "PKCE", "none is sent: it does not list S256")
	}
}

func (k *checking) checkRefresh() {
	scopes := k.scopes(k.md)
	switch {
	case slices.Contains(scopes, "offline_access"):
		k.found(OK, "refresh", "offline_access is asked for, so sessions can outlive their access token")
	case slices.Contains(k.md.GrantTypes, "refresh_token"):
		k.found(OK, "refresh", "it has refresh tokens; whether this client gets one shows at a sign-in (--try)")
	case k.dialect.noOpenID:
		k.found(OK, "refresh", "not needed where access tokens do not run out; else sessions end with them")
	default:
		k.note("refresh", noRefresh, "it lists neither offline_access nor the grant refresh_token")
	}
}

func (k *checking) checkRevocation() {
	if k.md.RevocationEndpoint == "" {
		k.found(Note, "sign-out", "it has no revocation endpoint: tokens live on there until they expire")
		return
	}
	k.found(OK, "sign-out", "tokens are revoked")
}

// refusals are what the words of an answer say about this client. The first
// that fits counts; an empty field fits all.
var refusals = []struct {
	status      int
	word, holds string // holds is in the description, in lower case
	problem     problem
}{
	{holds: "code_challenge", problem: pkceMissing},
	{holds: "pkce", problem: pkceMissing},
	{word: "invalid_scope", problem: scopeRefused},
	{word: "device_flow_disabled", problem: grantOff},
	{word: "unsupported_grant_type", problem: grantOff},
	{holds: "device authorization grant", problem: grantOff},
	{holds: "grant type", problem: grantOff},
	{word: "invalid_grant", problem: grantOff},
	{word: "unauthorized_client", status: http.StatusBadRequest, problem: grantOff},
	{word: "unauthorized_client", problem: clientRefused},
	{word: "invalid_client", problem: clientRefused},
	{word: "incorrect_client_credentials", problem: clientRefused},
	{status: http.StatusUnauthorized, problem: clientRefused},
	{status: http.StatusNotFound, problem: noDeviceGrant},
	{status: http.StatusTooManyRequests, problem: starved},
}

// refusalOf tells what a refusal is about.
func refusalOf(err error) problem {
	if away, ok := errors.AsType[*UnavailableError](err); ok && away.Busy {
		return starved
	}
	no, ok := errors.AsType[*RefusedError](err)
	if !ok {
		return problemOf(err)
	}
	said := strings.ToLower(no.Reason)
	for _, r := range refusals {
		if (r.status == 0 || r.status == no.Status) && (r.word == "" || r.word == no.Word) && strings.Contains(said, r.holds) {
			return r.problem
		}
	}
	return refused
}
