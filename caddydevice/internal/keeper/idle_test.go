// This file holds the tests of idle time beside refreshes.

package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// TestRefreshIsNoUse: a session whose client is gone runs idle, however many
// nodes still hold its key and take turns in refreshing it.
func TestRefreshIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, key := renewing(t, nil)
		other := newNode(t, r.idp, r.st)
		other.lookup(key).Use()
		time.Sleep(12*time.Hour + 12*time.Hour/10 + 2*time.Minute)
		synctest.Wait()
		r.want(r.lookup(key), session.Ended, session.IdleTooLong)
	})
}
