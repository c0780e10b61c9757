// Package idp speaks to one identity provider: discovery, the device
// authorization request (RFC 8628 §3.1), one poll (§3.4) or refresh (RFC 6749
// §6) at a time, revocation (RFC 7009), and the verification of what comes
// back. Everything that differs between identity providers ends here: callers
// see [Outcome], [Tokens], [Identity] and [Logout] only.
package idp
