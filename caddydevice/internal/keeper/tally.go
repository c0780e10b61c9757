// This file holds the tally of a refresh token: how often it was sent. The
// record has it too, for whoever goes on after a crash, but says one too many
// where a token was recorded and then not sent.

package keeper

import (
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// tally counts for one token at a time.
type tally struct {
	token secret.String
	// sent is how often it was sent, as far as this node knows.
	sent int
	// recorded is the most that this node has, or may have, written down.
	recorded int
}

// of returns how often the session's refresh token was sent. What is in the
// record beyond what this node wrote is another node's doing.
func (t *tally) of(snap *session.Snapshot) int {
	if token := snap.Identity.RefreshToken; t.token != token {
		*t = tally{token: token, sent: snap.Presented, recorded: snap.Presented}
	}
	if snap.Presented > t.recorded {
		t.sent, t.recorded = snap.Presented, snap.Presented
	}
	return t.sent
}
