// Package idp speaks to one identity provider: discovery, the device
// authorization request (RFC 8628 §3.1), one poll at a time (§3.4), and the
// verification of what comes back. Everything that differs between identity
// providers ends here: callers see [Outcome], [Tokens] and [Identity] only.
package idp
