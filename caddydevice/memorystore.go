// This file holds the store module that needs nothing at all.

package caddydevice

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

func init() {
	caddy.RegisterModule(MemoryStore{})
}

// MemoryStore keeps sessions in the process. They survive a reload, but not
// the end of Caddy.
type MemoryStore struct{}

// CaddyModule returns the Caddy module information.
func (MemoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "device_auth.stores.memory",
		New: func() caddy.Module { return new(MemoryStore) },
	}
}

// StoreKey implements StoreOpener.
func (MemoryStore) StoreKey() string { return "memory" }

// OpenStore implements StoreOpener.
func (MemoryStore) OpenStore() (store.Store, error) { return store.NewMemory(), nil }

// UnmarshalCaddyfile takes no arguments.
//
//	store memory
func (*MemoryStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the store's name
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Errf("store memory: unexpected %q: it takes nothing", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ StoreOpener           = (*MemoryStore)(nil)
	_ caddyfile.Unmarshaler = (*MemoryStore)(nil)
)
