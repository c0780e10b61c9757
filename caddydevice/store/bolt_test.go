// This file holds the bolt store's tests: the contract, and what a file adds
// to it.

package store_test

import (
	"path/filepath"
	"testing"

	"github.com/caddydevice/device-auth/caddydevice/store"
	"github.com/caddydevice/device-auth/caddydevice/store/storetest"
)

func TestBolt(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		b := store.NewBolt(filepath.Join(t.TempDir(), "sessions.db"))
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		return b
	})
}
