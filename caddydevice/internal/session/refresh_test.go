// This file holds the tests of tokens that are replaced.

package session

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
)

// TestTokensAreReplacedOnce: a refresh that comes too late changes nothing.
func TestTokensAreReplacedOnce(t *testing.T) {
	ctx := context.Background()
	for name, meanwhile := range map[string]func(r rig, s *Session){
		"renewed": func(_ rig, s *Session) {
			id := newIdentity()
			id.RefreshToken = canary + "newer"
			if err := s.Renew(ctx, canary+"refresh", id); err != nil {
				t.Error(err)
			}
		},
		"ended": func(r rig, s *Session) { r.end(s, Ended, SignedOut) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, _ := r.renewable(Terminal)
				if err := s.Presenting(ctx, canary+"refresh", 0, 1); err != nil || s.Now().Presented != 1 {
					t.Fatalf("%v, presented %d times", err, s.Now().Presented)
				}
				meanwhile(r, s)
				was := *s.Now()
				if err := s.Presenting(ctx, canary+"refresh", 0, 1); !errors.Is(err, ErrNotRenewed) {
					t.Errorf("presenting: %v", err)
				}
				if err := s.Renew(ctx, canary+"refresh", newIdentity()); !errors.Is(err, ErrNotRenewed) {
					t.Errorf("renewing: %v", err)
				}
				if now := *s.Now(); !reflect.DeepEqual(now, was) || now.Presented != 0 {
					t.Errorf("became %+v, was %+v", now, was)
				}
			})
		})
	}
}
