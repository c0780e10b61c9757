// This file tests the rules about claims.

package caddydevice

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// claimsOf reads claims as they arrive: numbers keep their text.
func claimsOf(t testing.TB, text string) map[string]any {
	t.Helper()
	var claims map[string]any
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestRules(t *testing.T) {
	const token = `{
		"sub": "248289761001", "level": 3, "big": 12345678901234567890, "half": 0.5, "admin": true, "guest": false,
		"groups": ["staff", "/ops/eu"], "mixed": ["a", 7, true, null, ["deep"]], "empty": "", "none": null, "nobody": [],
		"realm_access": {"roles": ["viewer", "editor"]},
		"resource_access": {"my.client": {"roles": ["deploy"]}},
		"https://example.com/roles": ["lead"], "https://example.com/org": {"unit": "north"},
		"urn:zitadel:iam:org:project:roles": {"auditor": {"1": "example.com"}, "gone": {}},
		"a.b": "dotted", "a": {"b": "nested", "c": "inner"},
		"scope": "openid api.read", "scp": "mail.send user.read", "words": "one two",
		"ends": "%", "stars": "a*b"
	}`
	claims := claimsOf(t, token)
	for _, row := range []struct {
		name string
		rule string
		want bool
	}{
		{"text", "sub 248289761001", true},
		{"another text", "sub 248289761002", false},
		{"a part of it", "sub 24828976", false},
		{"more than it", "sub 2482897610010", false},
		{"letter case", "groups Staff", false},
		{"absent", "missing x", false},
		{"absent, any value", "missing *", false},
		{"empty, any value", "empty *", false},
		{"null, any value", "none *", false},
		{"empty list, any value", "nobody *", false},
		{"one of several values", "groups admins staff", true},
		{"element of a list", "groups /ops/eu", true},
		{"glob over slashes", "groups /ops/*", true},
		{"glob in the middle", "groups /o*s/e*", true},
		{"glob that does not end there", "groups /ops", false},
		{"glob at the start", "groups *aff", true},
		{"glob that matches too early", "sub *1002", false},
		{"glob that has to try again", "sub *10*1", true},
		{"many stars", "groups s*t*a*f*f*", true},
		{"a star that is nothing", "groups st*aff", true},
		{"number", "level 3", true},
		{"another number", "level 30", false},
		{"large number, every digit", "big 12345678901234567890", true},
		{"large number, last digit", "big 12345678901234567891", false},
		{"fraction", "half 0.5", true},
		{"true", "admin true", true},
		{"true is not any value", "admin *", false},
		{"false", "guest false", true},
		{"false is not true", "guest true", false},
		{"mixed list, number", "mixed 7", true},
		{"mixed list, boolean", "mixed true", true},
		{"list in a list", "mixed deep", false},
		{"nested", "realm_access.roles editor", true},
		{"nested, another", "realm_access.roles admin", false},
		{"object is no value", "realm_access roles", false},
		{"dots in a name", "resource_access.my.client.roles deploy", true},
		{"dots and slashes in a name", "https://example.com/roles lead", true},
		{"into a name with dots", "https://example.com/org.unit north", true},
		{"object, any", "urn:zitadel:iam:org:project:roles.auditor *", true},
		{"object, absent key", "urn:zitadel:iam:org:project:roles.admin *", false},
		{"object, empty", "urn:zitadel:iam:org:project:roles.gone *", false},
		{"object, not its text", "urn:zitadel:iam:org:project:roles.auditor a*", false},
		{"the longest name", "a.b dotted", true},
		{"not the nested one", "a.b nested", false},
		{"beside it", "a.c inner", true},
		{"a word of scope", "scope api.read", true},
		{"not two words", "scope openid?api.read", false},
		{"glob within a word of scope", "scope api.*", true},
		{"glob over words of scope", "scope openid*read", false},
		{"a word of scp", "scp user.read", true},
		{"words elsewhere are one text", "words one", false},
		{"percent sign", "ends %", true},
		{"everyone", "any", true},
		{"a claim called any", "any x", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			fields := strings.Fields(row.rule)
			rule := ClaimRule{Claim: fields[0], Values: fields[1:]}
			if got := rule.holds(claims); got != row.want {
				t.Errorf("%s: %t, want %t", rule, got, row.want)
			}
		})
	}
}

// TestEmailRules: an address counts where it is verified, and its domain is
// where every reader finds it (CVE-2026-40574).
func TestEmailRules(t *testing.T) {
	for _, row := range []struct {
		name, email, verified string
		want                  bool
	}{
		{"plain", "ann@corp.test", "true", true},
		{"plus and dots", "a.b+c@corp.test", "true", true},
		{"not verified", "ann@corp.test", "false", false},
		{"verified in words", "ann@corp.test", `"true"`, false},
		{"verified by a number", "ann@corp.test", "1", false},
		{"nothing said of it", "ann@corp.test", "null", false},
		{"two ats", "ann@evil.test@corp.test", "true", false},
		{"quoted", `\"ann@evil.test\"@corp.test`, "true", false},
		{"quoted, one at", `\"ann\"@corp.test`, "true", false},
		{"dot at the end", "ann@corp.test.", "true", false},
		{"longer domain", "ann@corp.test.evil.test", "true", false},
		{"subdomain", "ann@sub.corp.test", "true", false},
		{"other start", "ann@evilcorp.test", "true", false},
		{"full-width at", "ann\uff20corp.test", "true", false},
		{"full-width at before", "evil\uff20x@corp.test", "true", false},
		{"nobody", "@corp.test", "true", false},
		{"blank", "ann @corp.test", "true", false},
		{"line break", `ann\n@corp.test`, "true", false},
		{"comment", "ann(@evil.test)@corp.test", "true", false},
		{"list", "ann,bob@corp.test", "true", false},
		{"capitals", "ann@CORP.test", "true", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			claims := claimsOf(t, `{"email": "`+row.email+`", "email_verified": `+row.verified+`}`)
			if got := (ClaimRule{Claim: "email", Values: []string{"*@corp.test"}}).holds(claims); got != row.want {
				t.Errorf("%q: %t, want %t", row.email, got, row.want)
			}
		})
	}
	exact := ClaimRule{Claim: "email", Values: []string{"ann@corp.test"}}
	if exact.holds(claimsOf(t, `{"email": "ann@corp.test"}`)) || !exact.holds(claimsOf(t, `{"email": "ann@corp.test", "email_verified": true}`)) {
		t.Error("an address without a star needs to be verified as well")
	}
	over := ClaimRule{Claim: "email", Values: []string{"*corp.test", "ann*"}}
	if over.holds(claimsOf(t, `{"email": "ann@corp.test", "email_verified": true}`)) {
		t.Error("a star reaches over the @")
	}
	if exact.holds(claimsOf(t, `{"email": ["ann@corp.test"], "email_verified": true}`)) {
		t.Error("a list of addresses is not what is verified")
	}
}

func TestLacking(t *testing.T) {
	claims := claimsOf(t, `{"groups": ["staff"], "level": 2}`)
	staff, high := ClaimRule{Claim: "groups", Values: []string{"staff"}}, ClaimRule{Claim: "level", Values: []string{"3"}}
	if lacking(nil, claims) != nil || lacking([]ClaimRule{staff}, claims) != nil {
		t.Error("something is lacking")
	}
	if got := lacking([]ClaimRule{staff, high}, claims); got == nil || got.String() != "level 3" {
		t.Errorf("lacking: %v", got)
	}
}

// TestRuleMistakes are those of JSON; the Caddyfile's are fixtures.
func TestRuleMistakes(t *testing.T) {
	for name, row := range map[string]struct {
		line  string
		rules []ClaimRule
		want  string
	}{
		"no claim":        {"require", []ClaimRule{{Values: []string{"x"}}}, "require needs a claim"},
		"no values":       {"require", []ClaimRule{{Claim: "sub"}}, "require sub needs at least one value"},
		"empty value":     {"expect", []ClaimRule{{Claim: "sub", Values: []string{""}}}, "expect sub has an empty value"},
		"any and another": {"require", []ClaimRule{{Claim: "any"}, {Claim: "sub", Values: []string{"x"}}}, "keep it or them"},
		"any address":     {"require", []ClaimRule{{Claim: "email", Values: []string{"*"}}}, "write *@example.com"},
		"expect any":      {"expect", []ClaimRule{{Claim: "any"}}, "leave it out"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkRules(row.line, row.rules); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// FuzzGlob: a glob agrees with trying every way to place its stars.
func FuzzGlob(f *testing.F) {
	f.Add("*@corp.test", "ann@corp.test")
	f.Add("a**b*", "aabb")
	f.Add("*a*a*a*", "aaaaab")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 8 || len(text) > 12 {
			return
		}
		for _, never := range []byte{0, '@'} {
			if got, want := glob(pattern, text, never), slowGlob(pattern, text, never); got != want {
				t.Errorf("glob(%q, %q, %q) = %t", pattern, text, never, got)
			}
		}
	})
}

func slowGlob(pattern, text string, never byte) bool {
	switch {
	case pattern == "":
		return text == ""
	case pattern[0] != '*':
		return text != "" && pattern[0] == text[0] && slowGlob(pattern[1:], text[1:], never)
	case slowGlob(pattern[1:], text, never):
		return true
	}
	return text != "" && (never == 0 || text[0] != never) && slowGlob(pattern, text[1:], never)
}
