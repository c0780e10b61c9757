// This file tests the Caddyfile: every line that is served, every mistake that
// a person can make, and the lines that are not built yet.

package caddydevice

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
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

// TestProvisionMistakes are those that the adapter cannot see.
func TestProvisionMistakes(t *testing.T) {
	good := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
	for _, row := range []struct {
		name string
		cfg  map[string]any
		app  map[string]any
		want string
	}{
		{"no issuer", map[string]any{"issuer": nil}, nil, "issuer is missing"},
		{"no client_id", map[string]any{"client_id": nil}, nil, "client_id is missing"},
		{"plain issuer", map[string]any{"issuer": "http://idp.example.com"}, nil, "must start with https://"},
		{"issuer with a fragment", map[string]any{"issuer": "https://idp.example.com#x"}, nil, "fragment"},
		{"unset variable", map[string]any{"client_secret": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}, nil, "client_secret"},
		{"request placeholder", map[string]any{"client_id": "{http.request.host}"}, nil, "client_id"},
		{"missing file", map[string]any{"client_secret": "{file./no/such/file}"}, nil, "client_secret"},
		{"basic without a secret", map[string]any{"client_auth": "basic"}, nil, "needs client_secret"},
		{"none with a secret", map[string]any{"client_auth": "none", "client_secret": "x"}, nil, "remove one"},
		{"unknown client_auth", map[string]any{"client_auth": "magic"}, nil, "is none of"},
		{"unknown pkce", map[string]any{"pkce": "S256"}, nil, "is none of auto, on, off"},
		{"scopes without openid", map[string]any{"scopes": []string{"profile"}}, nil, "openid"},
		{"clock_skew", map[string]any{"clock_skew": "1h"}, nil, "between 0 and 5m"},
		{"limits code, long", map[string]any{"limits": map[string]any{"code": "2h"}}, nil, "between 1m and 1h"},
		{"limits code, short", map[string]any{"limits": map[string]any{"code": "1s"}}, nil, "between 1m and 1h"},
		{"limits starts", map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 0, "per": "1m"}}}, nil, "limits starts"},
		{"cookie name", map[string]any{"session": map[string]any{"cookie": "a b"}}, nil, "not a cookie name"},
		{"path_prefix", map[string]any{"path_prefix": "/a/../b"}, nil, "path_prefix"},
		{"public_url, http", map[string]any{"public_url": "http://api.example.com"}, nil, "must be https://"},
		{"public_url, path", map[string]any{"public_url": "https://api.example.com/x"}, nil, "must be https://"},
		{"header", map[string]any{"upstream_headers": map[string]string{"Host": "sub"}}, nil, "meaning of its own"},
		{"unknown key", map[string]any{"issuers": "x"}, nil, "issuers"},
		{"limits for all", nil, map[string]any{"limits": map[string]any{"pending": -1}}, "must be positive"},
		{"store path, unset variable", nil, map[string]any{"store": map[string]any{"store": "bolt", "path": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}/x"}}, "store bolt: path"},
		{"store path, request placeholder", nil, map[string]any{"store": map[string]any{"store": "bolt", "path": "{http.request.host}"}}, "store bolt: path"},
		{"unknown store", nil, map[string]any{"store": map[string]any{"store": "no_such"}}, "no_such"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := map[string]any{}
			for _, from := range []map[string]any{good, row.cfg} {
				for k, v := range from {
					if cfg[k] = v; v == nil {
						delete(cfg, k)
					}
				}
			}
			if _, err := tryProvision(t, cfg, row.app); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}
