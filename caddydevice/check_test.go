// This file tests what `check` finds out about each identity provider, as it
// should be and with a client that is not known there.

package caddydevice

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

// findings are what check prints about the replayed identity provider.
func (g *replayed) findings() (text string, good bool) {
	g.t.Helper()
	cfg := g.resolved
	cfg.Transport = g.idp
	client, err := idp.New(cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	defer client.Close()
	good = true
	var b strings.Builder
	for _, f := range client.Check(g.t.Context()) {
		fmt.Fprintf(&b, "%-5s  %s: %s\n", f.Level, f.About, f.Text)
		good = good && f.Level != idp.Wrong
	}
	return b.String(), good
}

// notForFiles is what a file's name is made without.
var notForFiles = regexp.MustCompile(`[^a-z0-9]+`)

// TestChecks: whatever lets people in is found good, and whoever is not known
// there is told what to do about it.
func TestChecks(t *testing.T) {
	for _, d := range slices.Concat(documented(), others(), hosted()) {
		t.Run(d.name, func(t *testing.T) {
			var text strings.Builder
			for _, c := range []struct {
				title    string
				stranger bool
			}{{"as it should be", false}, {"another client", true}} {
				synctest.Test(t, func(t *testing.T) {
					g := newReplayed(t, d.idp(), d.lines)
					if c.stranger {
						g.estrange()
					}
					found, good := g.findings()
					if !c.stranger && !good {
						t.Errorf("%s", found)
					}
					for _, secret := range []string{g.resolved.ClientSecret.Reveal(), "quite-another-secret"} {
						if secret != "" && strings.Contains(found, secret) {
							t.Errorf("it tells a secret: %s", found)
						}
					}
					fmt.Fprintf(&text, "# %s\n\n%s\n", c.title, found)
				})
			}
			checkGolden(t, notForFiles.ReplaceAllString(strings.ToLower(d.name), "_"), text.String())
		})
	}
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "check", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got {
		t.Errorf("%s: %v\n%s\nwant\n%s", file, err, got, want)
	}
}
