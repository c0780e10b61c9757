// This file tests the Caddyfile: every line that is served, every mistake that
// a person can make, and the lines that are not built yet.

package caddydevice

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"      // the adapter
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy" // the directive
)

var update = flag.Bool("update", false, "write the golden parts of testdata anew")

const separator = "----------\n"

// TestAdapt runs each fixture of testdata: a Caddyfile, a line of hyphens, and
// the JSON that it becomes, or (busted_*, later_*) a part of the error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(raw), separator)
			if !ok {
				t.Fatal("no line of hyphens")
			}
			got, err := adapt(input)
			name := filepath.Base(file)
			if strings.HasPrefix(name, "busted_") || strings.HasPrefix(name, "later_") {
				checkError(t, err, strings.TrimSpace(want))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(input+separator+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func adapt(input string) (string, error) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	out, _, err := adapter.Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = json.Indent(&b, out, "", "\t")
	return b.String() + "\n", err
}

// checkError wants the text, and the file and line that it is about.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "":
		t.Error("the fixture names no error")
	case err == nil:
		t.Errorf("accepted, want %q", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("%q is not in %q", want, err)
	case !strings.Contains(err.Error(), "Caddyfile:"):
		t.Errorf("%q names no file and line", err)
	}
}

// TestEveryLineHasFixtures: a line that is served has a good fixture and a
// mistake.
func TestEveryLineHasFixtures(t *testing.T) {
	words := map[string]map[string]bool{"good": {}, "busted": {}, "later": {}}
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, want, _ := strings.Cut(string(raw), separator)
		kind, _, _ := strings.Cut(filepath.Base(file), "_")
		switch kind {
		case "busted", "later":
			input = want // what the mistake is about, not what is there as well
		default:
			kind = "good"
		}
		for word := range strings.FieldsFuncSeq(input, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
			words[kind][word] = true
		}
	}
	for name, blocks := range homes {
		if !words["good"][name] || !words["busted"][name] {
			t.Errorf("%s of %v has no fixture that is good, or none that is busted", name, blocks)
		}
	}
}

// TestKeysAreLines: JSON mirrors the Caddyfile, key for key.
func TestKeysAreLines(t *testing.T) {
	for _, row := range []struct {
		of    any
		lines []string
		more  []string // keys of what the Caddyfile has before the block
	}{
		{Handler{}, slices.Sorted(maps.Keys(directiveBlock.lines)), []string{"match", "provider"}},
		{Provider{}, slices.Sorted(maps.Keys(providerBlock.lines)), nil},
		{Transport{}, slices.Sorted(maps.Keys(transportBlock.lines)), nil},
		{Endpoints{}, slices.Sorted(maps.Keys(endpointsBlock.lines)), nil},
		{Limits{}, slices.Sorted(maps.Keys(limitsBlock.lines)), nil},
		{BearerConfig{}, slices.Sorted(maps.Keys(bearerBlock.lines)), nil},
		{PageConfig{}, slices.Sorted(maps.Keys(pageBlock.lines)), nil},
		{ColorsConfig{}, slices.Sorted(maps.Keys(colorsBlock.lines)), nil},
		{SessionConfig{}, slices.Sorted(maps.Keys(sessionBlock.lines)), nil},
		{App{}, []string{"limits", "providers", "store"}, nil}, // each provider is one line
		{AppLimits{}, slices.Sorted(maps.Keys(appLimitsBlock.lines)), nil},
	} {
		keys := jsonKeys(reflect.TypeOf(row.of))
		want := slices.Sorted(slices.Values(slices.Concat(row.lines, row.more)))
		if slices.Sort(keys); !slices.Equal(keys, want) {
			t.Errorf("%T has the keys %v, want %v", row.of, keys, want)
		}
	}
}

func jsonKeys(typ reflect.Type) []string {
	var keys []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			keys = append(keys, jsonKeys(f.Type)...)
		case f.IsExported():
			keys = append(keys, key)
		}
	}
	return keys
}

func TestNearest(t *testing.T) {
	names := []string{"issuer", "client_id", "client_secret_file", "client_secret", "client_auth", "scopes", "session", "start"}
	for name, want := range map[string]string{
		"isuer": "issuer", "Issuer": "issuer", "client-id": "client_id", "clientid": "client_id", "scope": "scopes", "secret": "client_secret",
		"client": "", "x": "", "": "", "frobnicate": "", "sessions": "session", "starts": "start",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// FuzzCaddyfile: whatever is written, there is an answer, and no panic.
func FuzzCaddyfile(f *testing.F) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(raw), separator)
		f.Add(input)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		if !strings.Contains(text, "import") { // of files, which are not ours to read
			_, _ = adapt(text)
		}
	})
}
