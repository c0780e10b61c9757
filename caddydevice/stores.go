// This file holds what a store module is.

package caddydevice

import "github.com/caddydevice/device-auth/caddydevice/store"

// StoreOpener is what a module in the namespace device_auth.stores implements.
type StoreOpener interface {
	// StoreKey tells stores apart: modules with the same key share one store,
	// also over a reload. It is for logs too, and holds no secret.
	StoreKey() string

	// OpenStore returns the store. It must not block, nor fail for what may
	// pass: it is called while a configuration is loaded, also by `caddy
	// validate` beside a running server.
	OpenStore() (store.Store, error)
}
