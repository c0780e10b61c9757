// Package caddydevice is a gate in front of an API for clients that have no
// keyboard or no browser: it lets people in by the OAuth 2.0 device
// authorization grant (RFC 8628). It registers the Caddy HTTP handler
// http.handlers.device_auth with its directive, and the app device_auth, which
// owns what handlers share.
//
// Everything that knows Caddy is here. What a sign-in is, where it is kept and
// how an identity provider is asked stands below, in store and internal.
package caddydevice
