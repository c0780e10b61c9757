// This file holds the test of the table of transitions.

package session

import (
	"errors"
	"strings"
	"testing"
)

func TestTransitions(t *testing.T) {
	all := []State{"", Pending, Approved, Active, Denied, Expired, Failed, Ended, Superseded, "other"}
	allowed := map[State]map[State]bool{
		"":       {Pending: true, Active: true},
		Pending:  {Pending: true, Approved: true, Active: true, Denied: true, Expired: true, Failed: true, Ended: true},
		Approved: {Active: true, Ended: true},
		Active:   {Active: true, Ended: true, Superseded: true},
	}
	for _, from := range all {
		for _, to := range all {
			err := from.to(to)
			if (err == nil) != allowed[from][to] {
				t.Errorf("%q to %q: %v", from, to, err)
			}
			if err != nil && (!errors.Is(err, ErrTransition) || !strings.Contains(err.Error(), string(to))) {
				t.Errorf("%q to %q: %v does not name the transition", from, to, err)
			}
		}
		if over := from != Pending && from != Approved && from != Active; from.Over() != over {
			t.Errorf("%q: over is %v", from, from.Over())
		}
	}
	for s, leads := range transitions {
		if s.Over() && s != "" && len(leads) > 0 {
			t.Errorf("%q is over and leads to %v", s, leads)
		}
	}
}
