// This file holds the parameters that a configuration adds to a device
// authorization request.

package idp

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Param is one additional parameter of a device authorization request
// (RFC 8628 §3.1).
type Param struct{ Name, Value string }

// ownParams are what the client sends itself in any request. Whoever could set
// them would sign in as another client, with other rights, or take the proof
// out of PKCE.
var ownParams = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "grant_type",
	"scope", "device_code", "code_challenge", "code_challenge_method", "code_verifier",
}

// settingOf is the setting that an own parameter has instead.
var settingOf = map[string]string{
	"client_id": "client_id", "client_secret": "client_secret", "scope": "scopes",
	"code_challenge": "pkce", "code_challenge_method": "pkce", "code_verifier": "pkce",
}

// CheckParamName says why a parameter cannot be added.
func CheckParamName(name string) error {
	lower := strings.ToLower(name)
	switch {
	case name == "":
		return errors.New("needs a name")
	case slices.Contains(ownParams, lower) && settingOf[lower] != "":
		return fmt.Errorf("%s: the gateway sends that itself: use the line %s", name, settingOf[lower])
	case slices.Contains(ownParams, lower):
		return fmt.Errorf("%s: the gateway sends that itself, as the device grant needs it: remove the line", name)
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("{}&=#", r) }):
		return fmt.Errorf("%q: a name is plain characters, without placeholders", name)
	}
	return nil
}

// paramForm begins the form of a request. A parameter without a value counts
// as omitted (RFC 6749 §3.1), so it is.
func paramForm(params []Param) url.Values {
	form := url.Values{}
	for _, p := range params {
		if p.Value != "" && CheckParamName(p.Name) == nil {
			form.Add(p.Name, p.Value)
		}
	}
	return form
}
