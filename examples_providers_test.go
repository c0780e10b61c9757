// This file tests the examples for identity providers: that they say what the
// README says, and that what they have for the providers can be read.

package deviceauth

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// otherExamples are those that are not about one identity provider.
var otherExamples = []string{"demo", "kiosk", "observability", "terminal"}

var worksWithRow = regexp.MustCompile(`(?m)^\| \[[^\]]+\]\(examples/([a-z0-9-]+)\)[^|]* \| ([^|]+) \| ([^|]+) \|$`)

// TestWorksWith holds the README's table and the examples together: each
// identity provider has a row and a folder, both say how far it was tested, and
// in the same words.
func TestWorksWith(t *testing.T) {
	folders, err := filepath.Glob("examples/*")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, folder := range folders {
		missing[filepath.Base(folder)] = !slices.Contains(otherExamples, filepath.Base(folder))
	}
	levels := regexp.MustCompile(`^(real server, \d+\.\S+.*|read in its (source|documentation), replayed)$`)
	for _, row := range worksWithRow.FindAllStringSubmatch(read(t, "README.md"), -1) {
		name, level, know := row[1], row[2], row[3]
		delete(missing, name)
		t.Run(name, func(t *testing.T) {
			if !levels.MatchString(level) {
				t.Errorf("%q is no level", level)
			}
			if n := len(strings.Fields(know)); n > 12 {
				t.Errorf("%d words: %s", n, know)
			}
			_, text, _ := strings.Cut(read(t, "examples/"+name+"/README.md"), "\n\n")
			if first, _, _ := strings.Cut(text, "\n"); !strings.HasPrefix(strings.ToLower(first), strings.ToLower(level)+". ") {
				t.Errorf("the README says %q, and its own begins with %q", level, first)
			}
		})
	}
	for name, is := range missing {
		if is {
			t.Errorf("examples/%s is not in the README's table", name)
		}
	}
}

// TestProviderFiles reads what the examples have for the identity providers'
// own configuration, and finds there what the Caddyfiles say of it.
func TestProviderFiles(t *testing.T) {
	for file, lines := range map[string][]string{
		"authelia/configuration.yml":                {"client_id"},
		"dex/config.yaml":                           {"client_id", "issuer"},
		"duende/appsettings.json":                   {"client_id"},
		"hydra/client.json":                         {"client_id"},
		"hydra/hydra.yml":                           {"issuer"},
		"keycloak/realm.json":                       {"client_id"},
		"spring/src/main/resources/application.yml": {"client_id"},
	} {
		t.Run(file, func(t *testing.T) {
			var content any
			text := []byte(read(t, "examples/"+file))
			unmarshal := yaml.Unmarshal
			if strings.HasSuffix(file, ".json") {
				unmarshal = func(in []byte, out any) error { return json.Unmarshal(in, out) }
			}
			if err := unmarshal(text, &content); err != nil {
				t.Fatal(err)
			}
			folder, _, _ := strings.Cut(file, "/")
			caddyfile := read(t, "examples/"+folder+"/Caddyfile")
			for _, line := range lines {
				value := regexp.MustCompile(`(?m)^\s+` + line + ` (\S+)$`).FindStringSubmatch(caddyfile)
				if value == nil {
					t.Fatalf("no %s in the Caddyfile", line)
				}
				if !holds(content, value[1]) {
					t.Errorf("%s %s is not in the file", line, value[1])
				}
			}
		})
	}
}

// holds tells whether a value is somewhere in what was read.
func holds(content any, value string) bool {
	in := func(inner any) bool { return holds(inner, value) }
	switch c := content.(type) {
	case map[string]any:
		for _, inner := range c {
			if in(inner) {
				return true
			}
		}
		return false
	case []any:
		return slices.ContainsFunc(c, in)
	}
	return fmt.Sprint(content) == value
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
