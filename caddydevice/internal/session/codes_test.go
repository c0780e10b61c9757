// This file holds the tests of the codes of a sign-in, and of an approval that
// waits to be confirmed.

package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// nextLogin is another code, which lives for a time.
func nextLogin(n int, life time.Duration) Login {
	return Login{
		DeviceCode: secret.String(fmt.Sprint(canary, "device-", n)), UserCode: fmt.Sprint(canary, "user-", n), VerificationURI: "https://idp.example/" + canary + "uri",
		Interval: 5 * time.Second, Issued: time.Now(), Expires: time.Now().Add(life),
	}
}

func (r rig) nextCode(s *Session, l Login) {
	r.Helper()
	if err := s.NextCode(context.Background(), l); err != nil {
		r.Fatal(err)
	}
}

func TestNextCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.pending(Browser)
		heard := s.Now().Next()
		time.Sleep(8 * time.Minute)
		r.nextCode(s, nextLogin(1, 10*time.Minute))
		select {
		case <-heard:
		default:
			t.Error("nobody is told")
		}
		r.wantNoSecrets("renewed", key)
		snap := s.Now()
		if snap.Renewals != 1 || snap.Login.DeviceCode != canary+"device-1" || len(snap.Earlier) != 1 || snap.Earlier[0].DeviceCode != deviceCode {
			t.Fatalf("shows %+v, after %+v", snap.Login, snap.Earlier)
		}
		if got := snap.Expires.Sub(time.Now()); got != 10*time.Minute {
			t.Errorf("it runs out in %v", got)
		}
		wantSame(t, s, r.node().lookup(key))
		time.Sleep(2 * time.Minute) // the end of the first
		if codes := s.Now().Codes(); len(codes) != 1 || codes[0].DeviceCode != canary+"device-1" {
			t.Errorf("of %d codes that work, the first is %+v", len(codes), codes)
		}
		time.Sleep(8 * time.Minute)
		r.want(s, Expired, CodeExpired)
		r.end(s, Ended, Replaced)
		if err := s.NextCode(context.Background(), nextLogin(3, time.Minute)); !errors.Is(err, ErrTransition) {
			t.Errorf("another code after the end: %v", err)
		}
	})
}

// TestEarlierCodesAreBounded: only the latest are kept.
func TestEarlierCodesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, _ := r.pending(Browser)
		for n := range 10 {
			r.nextCode(s, nextLogin(n, 10*time.Minute))
		}
		snap := s.Now()
		if len(snap.Earlier) != mostEarlier || snap.Earlier[0].DeviceCode != canary+"device-8" || snap.Renewals != 10 {
			t.Errorf("%d earlier ones, after %d renewals", len(snap.Earlier), snap.Renewals)
		}
	})
}

// TestShorterLife: a code works to its own end, also where the next one's is
// before that.
func TestShorterLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, _ := r.pending(Browser)
		r.nextCode(s, nextLogin(1, time.Minute))
		time.Sleep(5 * time.Minute)
		r.want(s, Pending, "")
		if codes := s.Now().Codes(); len(codes) != 1 || codes[0].DeviceCode != deviceCode {
			t.Errorf("codes that work: %+v", codes)
		}
		if err := s.DropCode(context.Background(), deviceCode); err != nil {
			t.Fatal(err)
		}
		r.want(s, Expired, CodeExpired)
	})
}

func TestRenewAt(t *testing.T) {
	now := time.Now()
	for life, want := range map[time.Duration]time.Duration{
		time.Minute: 45 * time.Second, 8 * time.Minute: 6 * time.Minute, 10 * time.Minute: 8 * time.Minute, time.Hour: 58 * time.Minute,
	} {
		snap := &Snapshot{Login: &Login{Issued: now, Expires: now.Add(life)}}
		if got := snap.RenewAt().Sub(now); got != want {
			t.Errorf("of %v: after %v, want %v", life, got, want)
		}
	}
}

func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.pending(Browser)
		version := s.Now().Version
		if err := s.Alive(context.Background()); err != nil || s.Now().Version != version {
			t.Errorf("%v, version %d: nothing had to be written", err, s.Now().Version)
		}
		r.nextCode(s, nextLogin(1, 10*time.Minute))
		if err := s.Alive(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := r.node().lookup(key).Now().Renewals; n != 0 {
			t.Errorf("%d renewals are counted", n)
		}
		r.end(s, Ended, Replaced)
		if err := s.Alive(context.Background()); err != nil {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestBeginRenewal: one at a time, over all nodes, and not for a code that was
// renewed already.
func TestBeginRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.pending(Browser)
		other := r.node()
		theirs := other.lookup(key)
		snap := s.Now()
		end, ok, err := r.Table.BeginRenewal(context.Background(), s, snap)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if _, ok, err := other.Table.BeginRenewal(context.Background(), theirs, theirs.Now()); ok || err != nil {
			t.Errorf("two at a time: %t, %v", ok, err)
		}
		if _, ok, err := r.Table.BeginRenewal(context.Background(), s, snap); ok || err != nil {
			t.Errorf("two at a time of one node: %t, %v", ok, err)
		}
		r.nextCode(s, nextLogin(1, 10*time.Minute))
		end()
		if _, ok, err := other.Table.BeginRenewal(context.Background(), theirs, theirs.Now()); ok || err != nil {
			t.Errorf("of a code that was renewed: %t, %v", ok, err)
		}
		theirs = other.lookup(key)
		if end, ok, err = other.Table.BeginRenewal(context.Background(), theirs, theirs.Now()); !ok || err != nil {
			t.Fatalf("the next one: %t, %v", ok, err)
		}
		end()
	})
}

// TestUnrenewed: the reason says that somebody watched, and the next code could
// not be had.
func TestUnrenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.pending(Browser)
		s.Unrenewed()
		r.nextCode(s, nextLogin(1, 10*time.Minute))
		time.Sleep(10 * time.Minute)
		r.want(s, Expired, CodeExpired)
		s, key = r.pending(Browser)
		s.Unrenewed()
		time.Sleep(10 * time.Minute)
		r.want(s, Expired, Unrenewed)
		r.end(s, Expired, CodeExpired)
		r.want(r.node().lookup(key), Expired, Unrenewed)
	})
}

// TestRecordOfBefore: a sign-in that was under way while this program was
// replaced goes on.
func TestRecordOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, key := r.pending(Terminal)
		rec := r.record(key)
		plain, err := unseal(key, rec)
		if err != nil {
			t.Fatal(err)
		}
		var before map[string]any
		if err := json.Unmarshal(plain, &before); err != nil {
			t.Fatal(err)
		}
		login := before["login"].(map[string]any)
		delete(login, "issued")
		delete(login, "expires")
		delete(before, "params")
		if plain, err = json.Marshal(before); err != nil {
			t.Fatal(err)
		}
		rec.Version++
		if rec.Body, err = seal(key, rec, plain); err != nil {
			t.Fatal(err)
		}
		if err := r.st.Put(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
		snap := r.node().lookup(key).Now()
		if len(snap.Codes()) != 1 || !snap.Login.Expires.Equal(snap.Expires) || time.Until(snap.RenewAt()) != 8*time.Minute {
			t.Errorf("came back as %+v", snap.Login)
		}
	})
}

// approved is a session that waits to be confirmed.
func (r rig) approved(kind Kind) (*Session, Key) {
	r.Helper()
	n := newLogin(kind)
	n.Confirm = true
	s, key, err := r.Table.Create(context.Background(), n)
	if err != nil {
		r.Fatal(err)
	}
	if err := s.Activate(context.Background(), newIdentity()); err != nil {
		r.Fatal(err)
	}
	r.want(s, Approved, "")
	return s, key
}

func TestApproved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.approved(Browser)
		r.wantNoSecrets("approved", key)
		wantSame(t, s, r.node().lookup(key))
		if s.Claimable(s.Now()) || s.Now().Stale() || r.Table.Active() != 0 || s.Open(new(OpenRequest), nil) != nil {
			t.Error("it opens something")
		}
		if RunsOut(r.record(key)).Sub(time.Now()) != confirmLife {
			t.Error("an operator sees another end")
		}
		opened := 0
		r.Table.Notify(Hooks{Opened: func(*Session) { opened++ }})
		time.Sleep(confirmLife - time.Second)
		if err := s.Confirm(context.Background()); err != nil {
			t.Fatal(err)
		}
		r.want(s, Active, "")
		if !s.Claimable(s.Now()) || opened != 1 || time.Until(s.Now().Expires) < 29*24*time.Hour {
			t.Errorf("confirmed: opened %d times, until %v", opened, s.Now().Expires)
		}
		if err := s.Confirm(context.Background()); !errors.Is(err, ErrTransition) {
			t.Errorf("a second time: %v", err)
		}
	})
}

// TestUnconfirmed: what becomes of an approval that nobody confirms.
func TestUnconfirmed(t *testing.T) {
	identity := newIdentity()
	for name, c := range map[string]struct {
		act    func(rig, *Session, Key) error
		reason Reason
	}{
		"nobody does": {func(r rig, _ *Session, _ Key) error {
			time.Sleep(confirmLife)
			r.Table.Sweep(context.Background())
			return nil
		}, Unconfirmed},
		"signed out": {func(r rig, s *Session, _ Key) error { return r.Table.SignOut(context.Background(), s) }, SignedOut},
		"logged out by sid": {func(r rig, _ *Session, _ Key) error {
			_, err := r.Table.EndAll(context.Background(), ProviderSessionIndex(identity.Issuer, identity.SessionID), LoggedOut)
			return err
		}, LoggedOut},
		"logged out by sub, on another node": {func(r rig, _ *Session, _ Key) error {
			_, err := r.node().Table.EndAll(context.Background(), SubjectIndex(identity.Issuer, identity.Subject), LoggedOut)
			return err
		}, LoggedOut},
		"an operator": {func(r rig, _ *Session, _ Key) error {
			_, err := r.Table.EndAll(context.Background(), r.Table.Everybody(), Revoked)
			return err
		}, Revoked},
		"overtaken by a logout": {func(r rig, s *Session, _ Key) error {
			if err := r.st.Mark(context.Background(), r.Table.markOf(SubjectIndex(identity.Issuer, identity.Subject), LoggedOut), time.Hour); err != nil {
				return err
			}
			if err := s.Confirm(context.Background()); !errors.Is(err, ErrOvertaken) {
				return fmt.Errorf("confirmed: %v", err)
			}
			return nil
		}, LoggedOut},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, key := r.approved(Terminal)
				if err := c.act(r, s, key); err != nil {
					t.Fatal(err)
				}
				now := r.lookup(key)
				r.want(now, Ended, c.reason)
				if err := now.Confirm(context.Background()); !errors.Is(err, ErrTransition) {
					t.Errorf("confirmed after that: %v", err)
				}
				if rec := r.record(key); len(rec.Body) != 0 || rec.Subject != "" || rec.Until.Sub(rec.Changed) > attemptLife {
					t.Errorf("of the record is left: %+v", rec)
				}
			})
		})
	}
}
