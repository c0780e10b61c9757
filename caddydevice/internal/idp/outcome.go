// This file holds the closed set of outcomes of a token request, and the table
// that the words of RFC 6749 §5.2, RFC 8628 §3.5 and their deviants map to.

package idp

import (
	"errors"
	"fmt"
	"time"
)

// Outcome is what one token request came to. The set is closed: nothing above this
// package interprets an identity provider's own words.
type Outcome int

// The outcomes of a token request. Pending, SlowDown and Transient go on; the
// others but Approved are terminal: the device code or the refresh token must
// not be presented again. A refresh is never Pending, SlowDown or Expired.
const (
	// Transient is no answer, or one that says nothing about the sign-in:
	// a timeout, a 5xx, a body that cannot be read.
	Transient Outcome = iota
	// Pending is authorization_pending.
	Pending
	// SlowDown is slow_down: five seconds more between polls from now on.
	SlowDown
	// Approved comes with tokens; a device code must not be presented again.
	Approved
	// Denied is the person's no.
	Denied
	// Expired is expired_token.
	Expired
	// Invalid is invalid_grant: the code or the refresh token is unknown,
	// used or, on many identity providers, expired; of a code the caller's
	// clock tells which.
	Invalid
	// Failed is every other answer to a poll: the identity provider or its
	// configuration for this client is not as it should be. Of a refresh it
	// is only what clearly says so.
	Failed
)

var outcomeNames = [...]string{"transient", "pending", "slow_down", "approved", "denied", "expired", "invalid_grant", "failed"}

func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return "unknown"
	}
	return outcomeNames[o]
}

// outcomeOf maps the error member of an answer to a poll (RFC 8628 §3.5, RFC 6749
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
	"bad_verification_code":   Invalid, // Entra
	"incorrect_device_code":   Invalid, // GitHub
	"server_error":            Transient,
	"temporarily_unavailable": Transient,
}

// refreshOutcomeOf maps the error member of an answer to a refresh (RFC 6749
// §5.2): what clearly says that it is over. All other words, known or not, may
// pass, and nobody is signed out for them.
var refreshOutcomeOf = map[string]Outcome{
	"invalid_grant":       Invalid,
	"expired_token":       Invalid,
	"token_expired":       Invalid,
	"access_denied":       Denied,
	"invalid_client":      Failed,
	"unauthorized_client": Failed,
}

// meaning says how the answers to one kind of token request are understood:
// its words, the statuses that mean something without one, and the outcome of a
// refusal that is in neither.
type meaning struct {
	outcomes map[string]Outcome
	statuses map[int]Outcome
	unclear  Outcome
}

var (
	polled    = meaning{outcomes: outcomeOf, unclear: Failed}
	refreshed = meaning{outcomes: refreshOutcomeOf, unclear: Transient}
)

func (m meaning) ofWord(word string, status int) Outcome {
	outcome, known := m.outcomes[word]
	if !known {
		outcome, known = m.statuses[status]
	}
	switch {
	case known:
		return outcome
	case busy(status):
		return Transient // something in between, in its own words
	}
	return m.unclear
}

// Answer is one token request's result.
type Answer struct {
	Outcome Outcome
	// Interval is the gap that a slow_down asked for, 0 where it named none.
	Interval time.Duration
	// RetryAfter is the Retry-After of the answer, 0 where it had none.
	RetryAfter time.Duration
	// Tokens are there exactly when Outcome is Approved.
	Tokens Tokens
	// Sent is set with Transient where the identity provider may have done
	// what it was asked for, and the answer was lost or cannot be read: then
	// it is not known whether the code or token is used up. It is not set
	// where no connection was made, nor by an answer that refuses.
	Sent bool
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
type RefusedError struct {
	Reason string
	// Status is the HTTP status, and Word the error member (RFC 6749 §5.2), where
	// there are such.
	Status int
	Word   string
}

func (e *RefusedError) Error() string { return "identity provider: " + e.Reason }

// ErrTemporary marks a verification that could not be made yet, because the
// identity provider's keys could not be had. The token may still be good.
var ErrTemporary = errors.New("signing keys not available")

// ErrOtherIdentity marks refreshed tokens that are somebody else's, or for
// somebody else, than those before them (OpenID Connect Core §12.2). Neither
// may be used with the other.
var ErrOtherIdentity = errors.New("the refreshed tokens are of another identity")
