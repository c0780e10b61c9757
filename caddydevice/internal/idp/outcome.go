// This file holds the closed set of outcomes of a token request, and the table
// that the words of RFC 6749 §5.2, RFC 8628 §3.5 and their deviants map to.

package idp

import (
	"errors"
	"fmt"
	"time"
)

// Outcome is what one poll came to. The set is closed: nothing above this
// package interprets an identity provider's own words.
type Outcome int

// The outcomes of a poll. Pending, SlowDown and Transient go on; the others
// are terminal: the device code must not be presented again.
const (
	// Transient is no answer, or one that says nothing about the sign-in:
	// a timeout, a 5xx, a body that cannot be read.
	Transient Outcome = iota
	// Pending is authorization_pending.
	Pending
	// SlowDown is slow_down: five seconds more between polls from now on.
	SlowDown
	// Approved comes with tokens.
	Approved
	// Denied is the person's no.
	Denied
	// Expired is expired_token.
	Expired
	// Invalid is invalid_grant: the code is unknown, used or, on many
	// identity providers, expired; the caller's clock tells which.
	Invalid
	// Failed is every other answer: the identity provider or its
	// configuration for this client is not as it should be.
	Failed
)

var outcomeNames = [...]string{"transient", "pending", "slow_down", "approved", "denied", "expired", "invalid_grant", "failed"}

func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return "unknown"
	}
	return outcomeNames[o]
}

// outcomeOf maps the error member of a token answer (RFC 8628 §3.5, RFC 6749
// §5.2, and the spellings that deployed servers use). A word that is not here
// is Failed: RFC 8628 §3.5 lets no other error be retried.
var outcomeOf = map[string]Outcome{
	"authorization_pending":   Pending,
	"slow_down":               SlowDown,
	"access_denied":           Denied,
	"authorization_declined":  Denied,
	"expired_token":           Expired,
	"token_expired":           Expired,
	"invalid_grant":           Invalid,
	"server_error":            Transient,
	"temporarily_unavailable": Transient,
}

// Answer is one poll's result.
type Answer struct {
	Outcome Outcome
	// Interval is the gap that a slow_down asked for, 0 where it named none.
	Interval time.Duration
	// RetryAfter is the Retry-After of the answer, 0 where it had none.
	RetryAfter time.Duration
	// Tokens are there exactly when Outcome is Approved.
	Tokens Tokens
	// Err says for the log what happened. It never holds a secret, nor more
	// than a short, printable piece of the identity provider's words.
	Err error
}

// UnavailableError says that the identity provider cannot be asked now.
type UnavailableError struct {
	// RetryAfter is when asking again makes sense.
	RetryAfter time.Duration
	// Busy is set where the identity provider itself asked to be left alone
	// (429 or 503), not just could not be reached.
	Busy bool
	Err  error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("identity provider unavailable: %v", e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// RefusedError is an identity provider's answer that no retry will change:
// this client may not do what it asked for, or the answer breaks the protocol.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "identity provider: " + e.Reason }

// ErrTemporary marks a verification that could not be made yet, because the
// identity provider's keys could not be had. The token may still be good.
var ErrTemporary = errors.New("signing keys not available")
