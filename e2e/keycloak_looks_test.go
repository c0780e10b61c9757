// This file looks at the pages with a real Keycloak behind them, on a screen of
// each size.
package e2e

import (
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
)

func keycloakLooks(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{change: func(caddyfile string) string {
		return strings.ReplaceAll(caddyfile, "device_auth {\n", "device_auth {\n"+manyStarts+"\n")
	}})
	for _, on := range []screen{screens[0], screens[3], screens[4], screens[7]} {
		t.Run(on.name, func(t *testing.T) {
			l := s.newLooker(t, on)
			wall := s.url + "/wall/keycloak"
			l.open(wall)
			l.shows("pending", "code of Keycloak")
			l.speaks(wall)
			s.newPhone(t).decline(t, s.code(t, l.userCode()).complete, keycloak.Alice)
			l.shows("denied", "declined at Keycloak")
			l.must(l.Click(l.ctx, "#new-code"))
			l.shows("pending", "another code of Keycloak")
			s.newPhone(t).approve(t, s.code(t, l.userCode()).complete, keycloak.Alice)
			l.shows("active", "welcome from Keycloak")
			l.must(l.WaitURL(l.ctx, func(at string) bool { return at == wall }))
			l.wantNoScriptErrors()
		})
	}
}
