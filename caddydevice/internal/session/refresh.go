// This file holds how a session's tokens are replaced: that they are about to
// be, and by which.

package session

import (
	"context"
	"errors"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// errTokensReplaced ends a change that was meant for other tokens.
var errTokensReplaced = errors.New("tokens were replaced meanwhile")

// Presenting writes down how often the refresh token has been sent, this time
// included, with nothing known of what became of it: whoever goes on after a
// crash knows then that the identity provider may have taken it. It fails
// where the session has other tokens by now.
func (s *Session) Presenting(ctx context.Context, token secret.String, times int) error {
	return s.withTokens(ctx, token, func(snap *Snapshot) { snap.Presented = times })
}

// Renew replaces the tokens, and who they are of, if token is still the one to
// replace.
func (s *Session) Renew(ctx context.Context, token secret.String, id Identity) error {
	return s.withTokens(ctx, token, func(snap *Snapshot) { snap.Identity, snap.Presented = &id, 0 })
}

// ErrNotRenewed is the error of a refresh that came too late: the session is
// over, or has other tokens by now.
var ErrNotRenewed = errors.New("session was renewed or ended meanwhile")

func (s *Session) withTokens(ctx context.Context, token secret.String, change func(*Snapshot)) error {
	err := s.become(ctx, Active, func(snap *Snapshot) error {
		if snap.Identity == nil || snap.Identity.RefreshToken != token {
			return errTokensReplaced
		}
		change(snap)
		return nil
	})
	if errors.Is(err, errTokensReplaced) || errors.Is(err, ErrTransition) {
		return ErrNotRenewed
	}
	return err
}

// LastIdentity is whom this object last knew the session to be of, also where
// others have ended it since; nil where it was never active.
func (s *Session) LastIdentity() *Identity { return s.now.Load().Identity }
