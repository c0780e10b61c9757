// This file holds what a gate asks of claims: how one is found, and when a
// rule about it holds.

package caddydevice

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ClaimRule is a condition on a claim of the person who signed in. A claim
// that is absent, null or empty holds for none.
type ClaimRule struct {
	// The claim, with dots into objects: realm_access.roles. A name that has
	// dots or slashes itself is written as it is. Required.
	Claim string `json:"claim"`

	// What the claim may be: one of these does. A * stands for any characters
	// in text and in a number; true and false stand for booleans. Of a list
	// one element has to match; so does one word of scope and scp (RFC 9068
	// §2.2.3). An object is matched by a lone * only. For email, the token has
	// to say that it is verified, and no * reaches over the @. Letter case
	// counts. Required.
	Values []string `json:"values,omitempty"`
}

// anybody is the rule that `require any` writes: it holds for everybody, on
// purpose.
const anybody = "any"

func (r ClaimRule) isAnybody() bool { return r.Claim == anybody && len(r.Values) == 0 }

// String writes the rule as the Caddyfile does, for the log.
func (r ClaimRule) String() string { return strings.Join(append([]string{r.Claim}, r.Values...), " ") }

// checkRules reports what is wrong with the rules of require or expect.
func checkRules(line string, rules []ClaimRule) error {
	for _, r := range rules {
		switch {
		case r.isAnybody() && line == "expect":
			return errors.New("expect any would expect nobody in particular: leave it out")
		case r.isAnybody() && len(rules) > 1:
			return fmt.Errorf("%s any lets everybody in, and there are other %s lines: keep it or them", line, line)
		case r.isAnybody():
		case r.Claim == "":
			return fmt.Errorf("%s needs a claim, like realm_access.roles", line)
		case len(r.Values) == 0:
			return fmt.Errorf("%s %s needs at least one value that the claim may have; * stands for any", line, r.Claim)
		case r.Claim == "email" && slices.Contains(r.Values, "*"):
			return fmt.Errorf("%s email *: no * reaches over the @, so nobody would get in: write *@example.com, or *@* for any address that is verified", line)
		case slices.Contains(r.Values, ""):
			return fmt.Errorf("%s %s has an empty value, which no claim can have: remove it", line, r.Claim)
		}
	}
	return nil
}

// lacking returns the first rule that does not hold, nil where all do.
func lacking(rules []ClaimRule, claims map[string]any) *ClaimRule {
	for i := range rules {
		if !rules[i].holds(claims) {
			return &rules[i]
		}
	}
	return nil
}

// wordClaims are lists that are written as words with blanks between (RFC 8693
// §4.2; scp is Entra's name for it).
var wordClaims = map[string]bool{"scope": true, "scp": true}

func (r ClaimRule) holds(claims map[string]any) bool {
	if r.isAnybody() {
		return true
	}
	claim, ok := claimAt(claims, r.Claim)
	if !ok {
		return false
	}
	text, isText := claim.(string)
	switch {
	case r.Claim == "email":
		return isText && claims["email_verified"] == true && plainEmail(text) && r.anyMatches(text, '@')
	case wordClaims[r.Claim] && isText:
		return slices.ContainsFunc(strings.Fields(text), func(word string) bool { return r.anyMatches(word, 0) })
	}
	return r.matches(claim)
}

func (r ClaimRule) matches(claim any) bool {
	switch v := claim.(type) {
	case string:
		return v != "" && r.anyMatches(v, 0)
	case json.Number:
		return r.anyMatches(v.String(), 0)
	case bool:
		return slices.Contains(r.Values, strconv.FormatBool(v))
	case []any:
		return slices.ContainsFunc(v, func(element any) bool {
			_, isList := element.([]any)
			return !isList && r.matches(element)
		})
	case map[string]any:
		return len(v) > 0 && slices.Contains(r.Values, "*")
	}
	return false
}

func (r ClaimRule) anyMatches(text string, never byte) bool {
	return slices.ContainsFunc(r.Values, func(pattern string) bool { return glob(pattern, text, never) })
}

// glob reports whether the pattern describes the whole text. A * stands for
// any characters but never.
func glob(pattern, text string, never byte) bool {
	star, from := -1, 0 // the last star, and where what it stands for ends
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0 && (never == 0 || text[from] != never):
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// plainEmail accepts an address that every reader splits at the same place:
// one @, and neither quotes nor comments (RFC 5322 §3.4.1), nor anything beyond
// ASCII, where other characters look like an @.
func plainEmail(text string) bool {
	local, domain, _ := strings.Cut(text, "@")
	return local != "" && domain != "" && !strings.ContainsFunc(text, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"\(),:;<>[]`, c)
	}) && !strings.Contains(domain, "@")
}

// claimAt follows a path into claims. A name that has dots itself is found
// too: the longest name that is there wins.
func claimAt(claims map[string]any, path string) (any, bool) {
	if v, ok := claims[path]; ok {
		return v, true
	}
	for i := len(path) - 1; i > 0; i-- {
		if path[i] != '.' {
			continue
		}
		if inner, ok := claims[path[:i]].(map[string]any); ok {
			if v, ok := claimAt(inner, path[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}
