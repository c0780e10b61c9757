// This file holds the dialects: what some identity providers do in their own
// way, where neither their discovery document nor their answers tell.

package idp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// dialect is one way of differing. The zero value is RFC 8628 with OpenID
// Connect.
type dialect struct {
	// issuer and endpoints are those of a server without a discovery document.
	// They belong together: another server that speaks the dialect has its own.
	issuer    string
	endpoints Endpoints
	// noOpenID: there are no ID tokens, and no keys. The scope openid is not
	// asked for, and who signed in is what the userinfo endpoint says.
	noOpenID bool
	// claims are that endpoint's names, and OpenID Connect's for them.
	claims map[string]string
	// jsonDevice: a device authorization request is a JSON object.
	jsonDevice bool
	// camelCase: members of answers may be deviceCode for device_code, and so on.
	camelCase bool
	// post: the secret goes by post rather than by Basic, which is not decoded
	// there (RFC 6749 §2.3.1).
	post bool
	// envelope is the member that an answer of the token endpoint is in, where
	// there is one, and errorMember what its error is called in there.
	envelope, errorMember string
	// outcomes and statuses are what the words and the statuses of answers to
	// polls mean here. A status counts only where no known word is with it.
	outcomes map[string]Outcome
	statuses map[int]Outcome
	// noExpiresIn: the expires_in of tokens is in some other unit than seconds.
	noExpiresIn bool
	// anyKeyID: the key id of a token is none of the key set's. Every key of
	// the issuer that fits the algorithm is tried.
	anyKeyID bool
}

// dialects are all of them, by the name that a configuration gives. What is not
// here needs none: see the examples for the settings of each provider.
var dialects = map[string]dialect{
	// GitHub is OAuth 2.0 alone: no discovery, no ID token, an id that is a
	// number.
	"github": {
		issuer: "https://github.com",
		endpoints: Endpoints{ //nolint:gosec // G101: addresses
			DeviceAuthorization: "https://github.com/login/device/code",
			Token:               "https://github.com/login/oauth/access_token",
			Userinfo:            "https://api.github.com/user",
		},
		noOpenID: true,
		claims:   map[string]string{"id": "sub", "login": "preferred_username"},
	},
	// TokenIDP, as its alpha of 2026 is: pending, denied and expired are the same
	// 500, and expires_in is in minutes.
	"tokenidp": {
		jsonDevice:  true,
		camelCase:   true,
		post:        true,
		envelope:    "value",
		errorMember: "errorCode",
		statuses:    map[int]Outcome{http.StatusInternalServerError: Pending},
		noExpiresIn: true,
		anyKeyID:    true,
	},
	// WSO2 Identity Server 5.10 and 5.11 answer invalid_grant while a sign-in is
	// pending.
	"wso2_old": {
		outcomes: map[string]Outcome{"invalid_grant": Pending},
	},
}

// Dialects are the values of Config.Dialect.
func Dialects() []string { return slices.Sorted(maps.Keys(dialects)) }

// Opaque reports whether the dialect has no tokens that can be verified.
func (cfg *Config) Opaque() bool { return dialects[cfg.Dialect].noOpenID }

// checkDialect says why a dialect does not go with the rest.
func (cfg *Config) checkDialect() error {
	d, known := dialects[cfg.Dialect]
	switch {
	case cfg.Dialect != "" && !known:
		return fmt.Errorf("dialect %q is none of %s: an identity provider that is not among them needs none", cfg.Dialect, strings.Join(Dialects(), ", "))
	case d.noOpenID && cfg.Identity != "auto" && cfg.Identity != "userinfo":
		return fmt.Errorf("identity %s: there are only opaque access tokens in dialect %s: remove one of the lines", cfg.Identity, cfg.Dialect)
	case d.noOpenID && cfg.Discovery != "":
		return fmt.Errorf("discovery: there is none in dialect %s: remove one of the lines", cfg.Dialect)
	case d.noOpenID && !cfg.Endpoints.complete(d):
		return fmt.Errorf("dialect %s knows the endpoints of %s alone, and there is no discovery: set endpoints device_authorization, token and userinfo", cfg.Dialect, d.issuer)
	}
	return nil
}

// withDialect puts the dialect's endpoints where none are configured.
func (e Endpoints) withDialect(d dialect, issuer string) Endpoints {
	if d.issuer == "" || issuer != d.issuer {
		return e
	}
	for _, pair := range []struct{ to, from *string }{
		{&e.DeviceAuthorization, &d.endpoints.DeviceAuthorization},
		{&e.Token, &d.endpoints.Token},
		{&e.Userinfo, &d.endpoints.Userinfo},
	} {
		if *pair.to == "" {
			*pair.to = *pair.from
		}
	}
	return e
}

// meaningOfPolls is polled with the dialect's own words.
func (d dialect) meaningOfPolls() meaning {
	as := polled
	as.outcomes = maps.Clone(outcomeOf)
	maps.Copy(as.outcomes, d.outcomes)
	as.statuses = d.statuses
	return as
}

// plain makes an answer what others send. One without an envelope is taken as it
// is: older versions had none.
func (d dialect) plain(body []byte) []byte {
	var members map[string]json.RawMessage
	if d.envelope == "" && !d.camelCase || json.Unmarshal(body, &members) != nil {
		return body
	}
	var inner map[string]json.RawMessage
	if json.Unmarshal(members[d.envelope], &inner) == nil && inner != nil {
		members = inner
	}
	var word string
	if json.Unmarshal(members[d.errorMember], &word) == nil && word != "" && members["error"] == nil {
		members["error"] = members[d.errorMember]
	}
	if d.camelCase {
		for name, value := range members {
			if snake := snakeCase(name); members[snake] == nil {
				members[snake] = value
			}
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return body
	}
	return text
}

// snakeCase writes deviceCode as device_code.
func snakeCase(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// encode writes a form as the endpoint wants it, and says in which media type.
func (c *Client) encode(md *metadata, endpoint string, form url.Values) (body, mediaType string) {
	if !c.dialect.jsonDevice || endpoint != md.DeviceEndpoint {
		return form.Encode(), "application/x-www-form-urlencoded"
	}
	object := make(map[string]any, len(form))
	for name, values := range form {
		object[name] = values[0]
		if len(values) > 1 {
			object[name] = values
		}
	}
	text, _ := json.Marshal(object) // strings alone
	return string(text), "application/json"
}

// rename gives claims OpenID Connect's names. A number that takes the place of
// sub is written out.
func (d dialect) rename(claims map[string]any) error {
	for from, to := range d.claims {
		value, there := claims[from]
		switch number, isNumber := value.(json.Number); {
		case !there:
			continue
		case isNumber && strings.ContainsAny(number.String(), ".eE-"):
			return errors.New(from + " is no plain number")
		case isNumber:
			value = number.String()
		}
		claims[to] = value
	}
	return nil
}
