package deviceauth

import (
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestModulesAreRegistered: a Caddy built with this module's root has all of
// it. A build that silently lacks the handler would leave a site open.
func TestModulesAreRegistered(t *testing.T) {
	for _, id := range []string{"http.handlers.device_auth", "device_auth", "device_auth.stores.bolt", "device_auth.stores.memory"} {
		if _, err := caddy.GetModule(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
