package deviceauth

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"      // the adapter
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy" // the directives
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/tracing"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"
)

// TestExamples adapts every Caddyfile that a reader may copy, those of the
// README included, and wants them as `caddy fmt` leaves them.
func TestExamples(t *testing.T) {
	examples := map[string][]byte{}
	files, err := filepath.Glob("examples/*/Caddyfile*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "Caddyfile.example") {
		if examples[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) == 0 || len(files) == 0 {
		t.Fatalf("%d blocks in the README, %d files", len(blocks), len(files))
	}
	for i, b := range blocks {
		examples[fmt.Sprintf("README, block %d", i+1)] = b[1]
	}
	for name, text := range examples {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, nil)
			if err != nil || len(warnings) > 0 {
				t.Errorf("%v %v", err, warnings)
			}
			if formatted := caddyfile.Format(text); string(formatted) != string(text) {
				t.Errorf("caddy fmt would make it\n%s", formatted)
			}
		})
	}
}
