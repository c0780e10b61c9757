// Package deviceauth lets xcaddy name this module by its root: it only pulls
// in the Caddy module, which registers itself.
package deviceauth

import _ "github.com/caddydevice/device-auth/caddydevice"
