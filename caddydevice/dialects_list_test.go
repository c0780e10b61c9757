// This file tests that nothing of the list of wire behaviour is without a test:
// its rows about each identity provider, and its items about all of them.

package caddydevice

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"
)

// listedRows are the rows of the list's tables: 1a is where things are, 1b the
// answer to a device authorization request, 1c the answers to polls.
var listedRows = map[string][]string{
	"Keycloak":                    {"1a", "1b", "1c"},
	"authentik":                   {"1a", "1b", "1c"},
	"TokenIDP":                    {"1a", "1b", "1c"},
	"WSO2 Identity Server":        {"1a", "1b", "1c"},
	"Dex":                         {"1a", "1b", "1c"},
	"Ory Hydra":                   {"1a", "1b", "1c"},
	"ZITADEL":                     {"1a", "1b", "1c"},
	"node oidc-provider":          {"1a", "1b", "1c"},
	"Logto":                       {"1a", "1b"},
	"Microsoft Entra ID":          {"1a", "1b", "1c"},
	"Okta":                        {"1a", "1b", "1c"},
	"Auth0":                       {"1a", "1b", "1c"},
	"Google":                      {"1a", "1b", "1c"},
	"GitHub":                      {"1a", "1b", "1c"},
	"Authelia":                    {"1a", "1b", "1c"},
	"Kanidm":                      {"1a"},
	"Casdoor":                     {"1a", "1b", "1c"},
	"GitLab":                      {"1a", "1b", "1c"},
	"Spring Authorization Server": {"1a", "1b", "1c"},
	"Duende IdentityServer":       {"1a", "1b", "1c"},
	"PingFederate":                {"1a", "1b", "1c"},
	"PingOne":                     {"1a", "1b", "1c"},
	"Amazon Cognito":              {"1a"},
	"AWS IAM Identity Center":     {"1a"},
}

// listedItems is how many items there are of what an implementer would get
// wrong.
const listedItems = 17

var tag = regexp.MustCompile(`§0\.\d+|\b1[abc]\b`)

// TestDialectsCoverTheList looks for each row and item in the names of the
// stories.
func TestDialectsCoverTheList(t *testing.T) {
	items := map[string]bool{}
	told := map[string]map[string]bool{}
	for _, d := range slices.Concat(documented(), others(), hosted(), unable()) {
		stories := d.stories
		if d.code != "" {
			stories = d.usual()
		}
		told[d.name] = map[string]bool{}
		names := map[string]bool{}
		for _, s := range stories {
			if names[s.name] {
				t.Errorf("%s: two stories are called %q", d.name, s.name)
			}
			names[s.name] = true
			for _, name := range tag.FindAllString(s.name, -1) {
				items[name], told[d.name][name] = true, true
			}
		}
	}
	for name, rows := range listedRows {
		for _, row := range rows {
			if !told[name][row] {
				t.Errorf("%s: no story of row %s", name, row)
			}
		}
	}
	for n := range listedItems {
		if item := fmt.Sprintf("§0.%d", n+1); !items[item] {
			t.Errorf("no story of %s", item)
		}
	}
	if got, want := slices.Sorted(maps.Keys(told)), slices.Sorted(maps.Keys(listedRows)); !slices.Equal(got, want) {
		t.Errorf("replayed are %q, listed %q", got, want)
	}
}
