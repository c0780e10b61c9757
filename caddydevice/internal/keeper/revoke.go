// This file holds what becomes of tokens that nobody needs any more: they are
// revoked at the identity provider (RFC 7009), in the background.

package keeper

import (
	"context"
	"errors"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// mostRevoking bounds the revocations under way or due: beyond, tokens are
	// left to run out.
	mostRevoking = 1000
	// revokeTries and revokeGap bound how often, and how closely, a revocation
	// is tried; the gap doubles each time.
	revokeTries = 6
	revokeGap   = 2 * time.Second
)

// ErrNotRevoked is given to [Config.Revoked] where there was no room for more.
var ErrNotRevoked = errors.New("too many revocations are under way")

// revocation is the revocation of a session's tokens. A worker owns it.
type revocation struct {
	job
	keeper *Keeper
	left   []presented
	tries  int
}

// presented is a token and its kind, by RFC 7009 §2.1.
type presented struct {
	token secret.String
	hint  string
}

// noRevoke are the ends that leave nothing to revoke: the identity provider has
// put an end to the tokens itself.
var noRevoke = map[session.Reason]bool{session.Refused: true, session.RefreshLost: true}

// ended hears of each active session that this node has ended.
func (k *Keeper) ended(s *session.Session, was, now *session.Snapshot) {
	if !noRevoke[now.Reason] {
		k.revokeTokens(was.Identity.RefreshToken, was.Identity.AccessToken)
	}
	if k.cfg.Ended != nil {
		k.cfg.Ended(s, was, now)
	}
}

// revoke is for tokens that have become nobody's session.
func (k *Keeper) revoke(t idp.Tokens) { k.revokeTokens(t.Refresh, t.Access) }

// revokeTokens begins to revoke: first the refresh token, with which many
// identity providers end the access token too (RFC 7009 §2.1).
func (k *Keeper) revokeTokens(refresh, access secret.String) {
	r := &revocation{keeper: k}
	r.job = job{index: -1, task: r}
	for _, p := range []presented{{refresh, "refresh_token"}, {access, "access_token"}} {
		if p.token != "" {
			r.left = append(r.left, p)
		}
	}
	if len(r.left) == 0 || k.closed() {
		return
	}
	k.mu.Lock()
	room := k.revoking < mostRevoking
	if room {
		k.revoking++
		k.revokes.put(&r.job, time.Now())
	}
	k.mu.Unlock()
	if !room {
		k.revoked(ErrNotRevoked)
	}
}

func (k *Keeper) revoked(err error) {
	if k.cfg.Revoked != nil {
		k.cfg.Revoked(err)
	}
}

func (r *revocation) turn() { r.keeper.runRevocation(r) }

// runRevocation makes the requests that are left, and comes back later where
// the identity provider cannot be asked.
func (k *Keeper) runRevocation(r *revocation) {
	for len(r.left) > 0 {
		err := k.client.Load().Revoke(k.calls, r.left[0].token, r.left[0].hint)
		var away *idp.UnavailableError
		if errors.As(err, &away) && r.tries+1 < revokeTries && !errors.Is(err, context.Canceled) {
			r.tries++
			k.mu.Lock()
			defer k.mu.Unlock()
			k.revokes.put(&r.job, time.Now().Add(max(revokeGap<<(r.tries-1), min(away.RetryAfter, widest))))
			return
		}
		r.left = r.left[1:]
		if !errors.Is(err, idp.ErrNoRevocation) {
			k.revoked(err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoking--
}
