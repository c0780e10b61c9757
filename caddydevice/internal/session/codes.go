// This file holds the codes of a sign-in: the one that is shown can be renewed,
// and those before it work to their own end, for whoever types slowly.

package session

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

const (
	// overlapPart is the part of a code's life, at its end, in which the next
	// one is to come; mostOverlap bounds that.
	overlapPart = 4
	mostOverlap = 2 * time.Minute
	// mostEarlier bounds the codes that are kept beside the one that is shown.
	mostEarlier = 3
	// renewalLease is longer than a renewal takes.
	renewalLease = time.Minute
)

// Codes are those that work, the latest first.
func (snap *Snapshot) Codes() []Login {
	if snap.Login == nil {
		return nil
	}
	return living(append([]Login{*snap.Login}, snap.Earlier...))
}

// living leaves out those that have run out.
func living(codes []Login) []Login {
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(codes), func(l Login) bool { return !now.Before(l.Expires) })
}

// RenewAt is when the next code is to be fetched, if somebody watches: in the
// last quarter of the shown one's life, at most two minutes before its end.
func (snap *Snapshot) RenewAt() time.Time {
	l := snap.Login
	return l.Expires.Add(-min(l.Expires.Sub(l.Issued)/overlapPart, mostOverlap))
}

// BeginRenewal makes sure that nobody else, on any node, is about to renew the
// code of this snapshot. ok is false where somebody is, or has done it. end lets
// others. The lease is the caller's alone: two requests of one node must not
// share it.
func (t *Table) BeginRenewal(ctx context.Context, s *Session, snap *Snapshot) (end func(), ok bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	name, holder := "renew/"+s.id.String(), rand.Text()
	if ok, err = t.store.Lease(ctx, name, holder, renewalLease); err != nil || !ok {
		return nil, false, err
	}
	end = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		_ = t.store.Release(ctx, name, holder) // else it lapses by itself
	}
	current, err := t.Current(ctx, s)
	if err == nil {
		now := current.Now()
		ok = now.State == Pending && now.Login.DeviceCode == snap.Login.DeviceCode
	}
	if err != nil || !ok {
		end()
		return nil, false, err
	}
	return end, true, nil
}

// NextCode shows another code. The one before works to its own end. It fails
// with [ErrTransition] where the sign-in is decided.
func (s *Session) NextCode(ctx context.Context, next Login) error {
	err := s.become(ctx, Pending, func(snap *Snapshot) error {
		earlier := living(append([]Login{*snap.Login}, snap.Earlier...))
		snap.Earlier = earlier[:min(len(earlier), mostEarlier)]
		snap.Login = &next
		snap.Renewals++
		snap.Expires = lastEnd(snap)
		return nil
	})
	if err == nil {
		s.missed.Store(false)
	}
	return err
}

// lastEnd is when the last of the codes runs out.
func lastEnd(snap *Snapshot) time.Time {
	end := snap.Login.Expires
	for _, l := range snap.Earlier {
		if l.Expires.After(end) {
			end = l.Expires
		}
	}
	return end
}

// DropCode forgets an earlier code, of which the identity provider knows
// nothing any more.
func (s *Session) DropCode(ctx context.Context, code secret.String) error {
	return s.become(ctx, Pending, func(snap *Snapshot) error {
		snap.Earlier = slices.DeleteFunc(slices.Clone(snap.Earlier), func(l Login) bool { return l.DeviceCode == code })
		snap.Expires = lastEnd(snap)
		return nil
	})
}

// Slower notes a longer interval between the polls of a code, for good.
func (s *Session) Slower(ctx context.Context, code secret.String, interval time.Duration) error {
	return s.become(ctx, Pending, func(snap *Snapshot) error {
		login := *snap.Login
		snap.Login, snap.Earlier = &login, slices.Clone(snap.Earlier)
		for _, l := range append([]*Login{snap.Login}, pointers(snap.Earlier)...) {
			if l.DeviceCode == code {
				l.Interval = max(l.Interval, interval) // another node may have been told more
			}
		}
		return nil
	})
}

func pointers(codes []Login) []*Login {
	all := make([]*Login, len(codes))
	for i := range codes {
		all[i] = &codes[i]
	}
	return all
}

// Alive notes a person's sign of life: renewals are counted from here.
func (s *Session) Alive(ctx context.Context) error {
	if s.now.Load().Renewals == 0 {
		return nil
	}
	return s.become(ctx, Pending, func(snap *Snapshot) error {
		snap.Renewals = 0
		return nil
	})
}

// TryRenewal notes that a renewal is tried now. It is false where one was within
// the gap: those are not to follow each other more closely.
func (s *Session) TryRenewal(gap time.Duration) bool {
	last := s.tried.Load()
	return time.Since(time.Unix(0, last)) >= gap && s.tried.CompareAndSwap(last, time.Now().UnixNano())
}

// RenewalTried is when a renewal was tried last.
func (s *Session) RenewalTried() time.Time { return time.Unix(0, s.tried.Load()) }

// Unrenewed notes that the next code could not be had, though somebody watches:
// that is why the sign-in runs out then, unless there is one after all.
func (s *Session) Unrenewed() { s.missed.Store(true) }

// expiry is why a sign-in is over that nobody has decided in time.
func (s *Session) expiry() Reason {
	if s.missed.Load() {
		return Unrenewed
	}
	return CodeExpired
}
