// This file holds `check --try`: a sign-in for real, in the terminal, and what the
// identity provider says of who signed in.

package caddydevice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// trialLife bounds the code of a trial, and its session, which ends as soon as it
// is shown.
const trialLife = time.Hour

// try signs somebody in with what the gates themselves do it with, kept nowhere
// but in this process.
func (c *checked) try(ctx context.Context, out io.Writer) error {
	client, err := idp.New(c.cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	st := store.NewMemory()
	defer st.Close()
	table := session.NewTable(st, c.cfg.Issuer)
	defer table.Close()
	var result keeper.Result
	settled := make(chan struct{})
	k := keeper.New(client, keeper.Config{
		Table: table, Store: st,
		Polled:  func(*session.Session, idp.Outcome, time.Duration) {},
		Settled: func(_ *session.Session, r keeper.Result) { result = r; close(settled) },
	})
	defer k.Close() //nolint:contextcheck // it ends what is under way, whoever gives up
	s, err := c.begin(ctx, client, table, out)
	if err != nil {
		return err
	}
	unwatch, _ := s.Watch(1) // polled as fast as it may be
	defer unwatch()
	k.Add(s, nil)
	select {
	case <-settled:
	case <-ctx.Done():
		return errors.New("stopped; the code runs out by itself")
	}
	snap := s.Now()
	if snap.State != session.Active {
		text := (&page.Answer{Status: statusOf(snap), Detail: string(snap.Reason)}).Words()
		return errors.Join(errors.New(strings.Join(strings.Fields(text), " ")), result.Err)
	}
	c.report(out, snap.Identity, snap.Changed)
	for hint, token := range map[string]secret.String{"refresh_token": snap.Identity.RefreshToken, "access_token": snap.Identity.AccessToken} {
		if token == "" {
			continue
		}
		if err := client.Revoke(ctx, token, hint); err != nil && !errors.Is(err, idp.ErrNoRevocation) {
			fmt.Fprintf(out, "The %s could not be revoked and lives on until it expires: %s\n", hint, printable(err.Error()))
		}
	}
	return nil
}

// fixed are the parameters that do not depend on a request.
func (c *checked) fixed() (params []idp.Param) {
	for _, p := range c.params {
		if len(p.parts) == 1 {
			params = append(params, idp.Param{Name: p.name, Value: p.parts[0]})
		}
	}
	return params
}

// begin starts the sign-in and shows where to go.
func (c *checked) begin(ctx context.Context, client *idp.Client, table *session.Table, out io.Writer) (*session.Session, error) {
	da, err := client.Authorize(ctx, c.fixed()...)
	if err != nil {
		return nil, err
	}
	login := loginOf(da, trialLife)
	s, _, err := table.Create(ctx, session.New{Kind: session.Terminal, Site: "check", Login: login, Idle: trialLife, Lifetime: trialLife})
	if err != nil {
		return nil, err
	}
	shown := &page.Answer{Status: page.Pending, Site: "device-auth check", Login: &page.Login{
		UserCode: da.UserCode, VerificationURI: da.VerificationURI, VerificationURIComplete: da.VerificationURIComplete,
		Expires: login.Expires, Interval: da.Interval,
	}}
	fmt.Fprintln(out, shown.Words())
	return s, nil
}

// report prints who signed in, and what that would mean at the gates.
func (c *checked) report(out io.Writer, who *session.Identity, received time.Time) {
	fmt.Fprintf(out, "Signed in as %s (sub %s). Claims:\n\n", printable(displayName(who)), printable(who.Subject))
	for _, name := range slices.Sorted(maps.Keys(who.Claims)) {
		value, err := json.Marshal(who.Claims[name])
		if err != nil {
			continue // they were read from JSON
		}
		fmt.Fprintf(out, "  %s: %s\n", printable(name), printable(string(value)))
	}
	fmt.Fprintln(out)
	if made := dateOf(who.Claims["iat"]); !made.IsZero() {
		// a fault of more than clock_skew would have kept the token from counting
		fmt.Fprintf(out, "The token says that it was made %s before it came, by the two clocks.\n\n", received.Sub(made).Round(time.Second))
	}
	groups := groupsIn(who.Claims, "")
	if len(groups) == 0 {
		fmt.Fprintln(out, "There are no groups or roles among them: have the identity provider add such a claim to the ID token, if you want to go by them.")
	}
	for _, rule := range groups {
		fmt.Fprintf(out, "%s: %s\n", printable(rule.Claim), printable(strings.Join(rule.Values, ", ")))
	}
	for _, rule := range groups {
		if rule, ok := suggested(rule, who.Claims); ok {
			fmt.Fprintf(out, "  let only those in who have one of them:  %s\n", requireLine(rule))
		}
	}
	fmt.Fprintln(out)
	for _, g := range c.gates {
		lacks := lacking(g.Require, who.Claims)
		if wrong := lacking(g.Expect, who.Claims); lacks == nil && wrong != nil {
			lacks = wrong
		}
		if lacks == nil {
			fmt.Fprintf(out, "The gate%s lets them in.\n", g.at)
			continue
		}
		fmt.Fprintf(out, "The gate%s does not let them in: %s does not hold.\n", g.at, printable(lacks.String()))
	}
}

// groupClaim tells what is about groups or roles, by its name: there is no
// standard for one.
var groupClaim = regexp.MustCompile(`(?i)(^|[^a-z])(groups?|roles?|member_?of|entitlements|wids)$`)

// groupsIn finds lists of names, and objects that have a role for each key
// (ZITADEL), also inside other objects (Keycloak's realm_access.roles).
func groupsIn(claims map[string]any, inside string) (rules []ClaimRule) {
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		path := inside + name
		inner, isObject := claims[name].(map[string]any)
		switch values := namesIn(claims[name]); {
		case groupClaim.MatchString(name) && len(values) > 0:
			rules = append(rules, ClaimRule{Claim: path, Values: values})
		case groupClaim.MatchString(name) && isObject:
			for _, key := range slices.Sorted(maps.Keys(inner)) {
				rule := ClaimRule{Claim: path + "." + key, Values: []string{"*"}}
				if rule.matches(inner[key]) {
					rules = append(rules, rule)
				}
			}
		case isObject:
			rules = append(rules, groupsIn(inner, path+".")...)
		}
	}
	return rules
}

// namesIn are the strings of a list, or the string itself.
func namesIn(claim any) (names []string) {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		for _, element := range v {
			if name, ok := element.(string); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// suggested is a rule as it can be copied from a terminal into a Caddyfile. What
// could not be written there as it is, is left out, and so is a name with a star:
// anyone who may make a group could have everybody let in.
func suggested(rule ClaimRule, claims map[string]any) (ClaimRule, bool) {
	claim, _ := claimAt(claims, rule.Claim)
	_, isObject := claim.(map[string]any)
	plain := func(name string) bool { return printable(name) == name && !strings.ContainsAny(name, "*`{}") }
	var values []string
	for _, value := range rule.Values {
		if plain(value) || isObject { // whose value is a star, of our own making
			values = append(values, value)
		}
	}
	return ClaimRule{Claim: rule.Claim, Values: values}, plain(rule.Claim) && len(values) > 0
}

// requireLine writes a rule as a Caddyfile has it.
func requireLine(rule ClaimRule) string {
	words := slices.Concat([]string{rule.Claim}, rule.Values)
	for i, word := range words {
		words[i] = quoted(word)
	}
	return "require " + strings.Join(words, " ")
}

// quoted puts a word into quotes where the Caddyfile would make several of it,
// or something else.
func quoted(word string) string {
	if strings.ContainsAny(word, " \t\"{}#<") {
		return "`" + word + "`"
	}
	return word
}
