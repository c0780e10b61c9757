// This file holds the states of a session, and the one table of transitions.

package session

import (
	"errors"
	"fmt"
	"slices"
)

// State is where a session is in its life.
type State string

const (
	// Pending: a code is shown and nobody has decided yet.
	Pending State = "pending"
	// Approved: a person approved, and is to confirm it on the device.
	Approved State = "approved"
	// Active: a person approved, and the tokens are good.
	Active State = "active"
	// Denied: the person said no.
	Denied State = "denied"
	// Expired: the code ran out.
	Expired State = "expired"
	// Failed: the identity provider, or this gateway's place there, is not as
	// it should be.
	Failed State = "failed"
	// Ended: it was active, or was given up while pending, and is over.
	Ended State = "ended"
	// Superseded: the claim has replaced its key.
	Superseded State = "superseded"
)

// transitions are all that a session can do. A state that leads to itself can
// be written anew: a longer interval, another code, refreshed tokens. What leads
// nowhere is over.
var transitions = map[State][]State{
	"":         {Pending, Active}, // Active: made by the claim
	Pending:    {Pending, Approved, Active, Denied, Expired, Failed, Ended},
	Approved:   {Active, Ended},
	Active:     {Active, Ended, Superseded},
	Denied:     {},
	Expired:    {},
	Failed:     {},
	Ended:      {},
	Superseded: {},
}

// ErrTransition is the error of a change that the table does not have. It is
// wrapped with the two states.
var ErrTransition = errors.New("no such transition")

func (s State) to(next State) error {
	if !slices.Contains(transitions[s], next) {
		return fmt.Errorf("%w: %q to %q", ErrTransition, s, next)
	}
	return nil
}

// Over reports whether the session can never be active again.
func (s State) Over() bool {
	return s != Pending && s != Approved && s != Active
}

// Reason says why a session is over. The set is closed; what a person reads
// is made from it elsewhere.
type Reason string

const (
	Declined      Reason = "declined"       // the person said no
	WrongAccount  Reason = "wrong_account"  // somebody approved who is not meant
	CodeExpired   Reason = "code_expired"   // nobody decided in time
	Unrenewed     Reason = "unrenewed"      // nor could its code be renewed, though somebody watched
	Unconfirmed   Reason = "unconfirmed"    // nobody confirmed the approval in time
	ProviderError Reason = "provider"       // the identity provider refused the sign-in
	Forgotten     Reason = "forgotten"      // it knows nothing of the code any more, before its time
	BadTokens     Reason = "tokens"         // its tokens sign nobody in
	TokenExpired  Reason = "token_expired"  // and there is no refresh token
	Refused       Reason = "refused"        // the identity provider did not refresh its tokens
	RefreshLost   Reason = "refresh_lost"   // nor could, since its answer to an earlier refresh did not arrive
	OtherIdentity Reason = "other_identity" // refreshed tokens were somebody else's
	LoggedOut     Reason = "logged_out"     // at the identity provider
	Revoked       Reason = "revoked"        // an operator's doing
	IdleTooLong   Reason = "idle"
	LifetimeOver  Reason = "lifetime"
	SignedOut     Reason = "signed_out"
	Replaced      Reason = "replaced" // the client asked for another code
	CrowdedOut    Reason = "crowded"  // nobody asked about it, and others waited for its place
	Claimed       Reason = "claimed"  // the browser has a new key
)
