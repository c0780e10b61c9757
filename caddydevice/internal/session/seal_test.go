// This file holds the tests of sealing: what a store holds gives nothing away,
// and a record that was changed opens nothing.

package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

func TestStoredRecordsHoldNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx := context.Background()

		s, key := r.pending(Terminal)
		r.wantNoSecrets("pending", key)
		if err := s.Slower(ctx, deviceCode, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		r.wantNoSecrets("slower", key)
		for _, end := range []State{Denied, Expired, Failed, Ended} {
			s, key := r.pending(Terminal)
			r.end(s, end, Declined)
			r.wantNoSecrets(string(end), key)
			if rec := r.record(key); len(rec.Body) != 0 || rec.Subject != "" || len(rec.Indexes) != 0 {
				t.Errorf("%s: more than a tombstone is left: %+v", end, rec)
			}
		}

		s, key = r.active(Browser)
		r.wantNoSecrets("active", key)
		rec := r.record(key)
		if want := newIdentity(); rec.Subject != want.Subject || !slices.Equal(rec.Indexes, []store.Index{
			store.NewIndex("sub", want.Issuer, want.Subject), store.NewIndex("sid", want.Issuer, want.SessionID),
		}) {
			t.Errorf("an active record is found by %v, subject %q", rec.Indexes, rec.Subject)
		}
		heir := r.claim(s)
		r.wantNoSecrets("superseded", key, heir)
		r.wantNoSecrets("claimed", heir, key)
		next := r.lookup(heir)
		r.wantNoSecrets("superseded, the new key in use", key, heir)
		if rec := r.record(key); len(rec.Body) != 0 || rec.Subject != "" || len(rec.Indexes) != 0 {
			t.Errorf("the new key is in use, and of the old record is left: %+v", rec)
		}
		r.end(next, Ended, SignedOut)
		r.wantNoSecrets("ended", heir, key)
	})
}

func TestRecordsComeBackWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx := context.Background()
		for _, kind := range []Kind{Browser, Terminal} {
			s, key := r.pending(kind)
			if err := s.Slower(ctx, deviceCode, 12*time.Second); err != nil {
				t.Fatal(err)
			}
			wantSame(t, s, r.node().lookup(key))

			id := newIdentity()
			id.Claims["n"] = json.Number("12345678901234567890")
			if err := s.Activate(ctx, id); err != nil {
				t.Fatal(err)
			}
			wantSame(t, s, r.node().lookup(key))
		}
	})
}

func wantSame(t *testing.T, a, b *Session) {
	t.Helper()
	if a == b {
		t.Fatal("it is the same session")
	}
	x, y := *a.Now(), *b.Now()
	for _, at := range []*time.Time{&x.Changed, &x.Expires, &y.Changed, &y.Expires} {
		*at = at.UTC().Round(0)
	}
	for _, snap := range []*Snapshot{&x, &y} {
		if snap.Login != nil {
			login := *snap.Login
			snap.Login, snap.Earlier = &login, slices.Clone(snap.Earlier)
			for _, l := range append([]*Login{snap.Login}, pointers(snap.Earlier)...) {
				l.Issued, l.Expires = l.Issued.UTC().Round(0), l.Expires.UTC().Round(0)
			}
		}
	}
	for _, id := range []*Identity{x.Identity, y.Identity} {
		if id != nil {
			for _, at := range []*time.Time{&id.Since, &id.Asked, &id.TokensSince, &id.TokensUntil} {
				*at = at.UTC().Round(0)
			}
		}
	}
	x.next, y.next = nil, nil
	if !reflect.DeepEqual(x, y) || a.Kind() != b.Kind() || a.ID() != b.ID() || !a.Created().Equal(b.Created()) {
		t.Errorf("came back as\n%+v\nwas\n%+v", y, x)
	}
}

// TestChangedRecordsOpenNothing changes a record between the store and a node
// that does not know the session yet.
func TestChangedRecordsOpenNothing(t *testing.T) {
	other := func(r rig) store.Record { _, key := r.active(Terminal); return r.record(key) }
	type change func(r rig, rec *store.Record)
	changes := map[string]change{
		"another session's record":        func(r rig, rec *store.Record) { *rec = other(r) },
		"another session's body":          func(r rig, rec *store.Record) { rec.Body = other(r).Body },
		"another session's under this id": func(r rig, rec *store.Record) { id := rec.ID; *rec = other(r); rec.ID = id },
		"id":                              func(_ rig, rec *store.Record) { rec.ID = "0" + rec.ID[1:] + "0" },
		"kind":                            func(_ rig, rec *store.Record) { rec.Kind = string(Browser) },
		"site":                            func(_ rig, rec *store.Record) { rec.Site = "b.example" },
		"created":                         func(_ rig, rec *store.Record) { rec.Created = rec.Created.Add(time.Nanosecond) },
		"created later":                   func(_ rig, rec *store.Record) { rec.Created = rec.Created.Add(time.Hour) },
		"version":                         func(_ rig, rec *store.Record) { rec.Version++ },
		"an older version":                func(_ rig, rec *store.Record) { rec.Version-- },
		"active made pending":             func(_ rig, rec *store.Record) { rec.State = string(Pending) },
		"active made superseded":          func(_ rig, rec *store.Record) { rec.State = string(Superseded) },
		"an unknown state":                func(_ rig, rec *store.Record) { rec.State = "admin" },
		"no state":                        func(_ rig, rec *store.Record) { rec.State = "" },
		"no body":                         func(_ rig, rec *store.Record) { rec.Body = nil },
		"a pending one without a body":    func(_ rig, rec *store.Record) { rec.Body, rec.State = nil, string(Pending) },
		"plain JSON": func(_ rig, rec *store.Record) {
			rec.Body, _ = json.Marshal(body{State: Active, Expires: time.Now().Add(time.Hour), Identity: &identityBody{Subject: "mallory", Claims: []byte("{}")}})
		},
		"sealed with another key": func(_ rig, rec *store.Record) {
			plain, _ := json.Marshal(body{State: Active, Expires: time.Now().Add(time.Hour), Identity: &identityBody{Claims: []byte("{}")}})
			rec.Body, _ = seal(NewKey(), *rec, plain)
		},
		"something added":         func(_ rig, rec *store.Record) { rec.Body = append(rec.Body, 0) },
		"another one's tombstone": func(r rig, rec *store.Record) { *rec = tombstone(r) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				_, key := r.active(Terminal)
				rec := r.record(key)
				change(r, &rec)
				if rec.Provider != provider {
					t.Fatal("the test changes more than it says")
				}
				r.st.set(func(h *hooked) { h.onGet = func(store.Record, error) (store.Record, error) { return rec, nil } })
				n := r.node()
				n.wantUnknown(key)
				if n.Damaged() != 1 {
					t.Errorf("%d damaged records counted, want 1", n.Damaged())
				}
				if n.Len() != 0 {
					t.Error("the session is kept")
				}
			})
		})
	}
}

func TestPendingIsNotMadeActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, state := range []State{Active, Superseded, Denied, Ended} {
			r := newRig(t)
			_, key := r.pending(Terminal)
			r.st.set(func(h *hooked) {
				h.onGet = func(rec store.Record, err error) (store.Record, error) { rec.State = string(state); return rec, err }
			})
			r.node().wantUnknown(key)
		}
	})
}

func tombstone(r rig) store.Record {
	s, key := r.active(Terminal)
	r.end(s, Ended, SignedOut)
	return r.record(key)
}

func TestEveryByteOfABodyCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, key := r.active(Terminal)
		rec := r.record(key)
		if _, err := openRecord(key, rec); err != nil {
			t.Fatal(err)
		}
		for i := range rec.Body {
			for _, bit := range []byte{1, 0x80} {
				changed := rec
				changed.Body = slices.Clone(rec.Body)
				changed.Body[i] ^= bit
				if _, err := openRecord(key, changed); !errors.Is(err, ErrSealed) {
					t.Fatalf("byte %d changed: %v", i, err)
				}
			}
			cut := rec
			cut.Body = rec.Body[:i]
			if _, err := openRecord(key, cut); !errors.Is(err, ErrSealed) {
				t.Fatalf("cut to %d bytes: %v", i, err)
			}
		}
	})
}

func TestAssociatedPartsDoNotRunTogether(t *testing.T) {
	base := store.Record{ID: "id", Kind: "k", Site: "ab", Provider: "cd", Created: time.Unix(0, 1), Version: 1}
	seen := map[string]bool{}
	for _, rec := range []store.Record{
		base,
		{ID: "idk", Kind: "", Site: "ab", Provider: "cd", Created: base.Created, Version: 1},
		{ID: "id", Kind: "ka", Site: "b", Provider: "cd", Created: base.Created, Version: 1},
		{ID: "id", Kind: "k", Site: "abc", Provider: "d", Created: base.Created, Version: 1},
		{ID: "id", Kind: "k", Site: "", Provider: "abcd", Created: base.Created, Version: 1},
		{ID: "id", Kind: "k", Site: "ab", Provider: "cd", Created: time.Unix(0, 2), Version: 1},
		{ID: "id", Kind: "k", Site: "ab", Provider: "cd", Created: time.Unix(0, 1), Version: 2},
		{ID: "id", Kind: "k", Site: "ab", Provider: "cd", Created: time.Unix(0, 2), Version: 2},
	} {
		ad := string(associated(rec))
		if seen[ad] {
			t.Errorf("%+v is sealed like another", rec)
		}
		seen[ad] = true
	}
	// the rest may be changed by who tends the store, but signs nobody in
	base.Subject, base.Reason = "s", "r"
	if !seen[string(associated(base))] {
		t.Error("subject or reason is bound")
	}
}

func TestBodiesOfOneSessionDiffer(t *testing.T) {
	key, rec := NewKey(), store.Record{ID: "a"}
	one, err := seal(key, rec, []byte("same"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := seal(key, rec, []byte("same"))
	if err != nil || string(one) == string(two) {
		t.Error("the same plain text twice seals to the same")
	}
}

func TestTombstoneNeedsNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for state, reason := range map[State]Reason{Denied: Declined, Expired: CodeExpired, Failed: ProviderError, Ended: SignedOut} {
			s, key := r.pending(Terminal)
			r.end(s, state, reason)
			snap, err := openRecord(NewKey(), r.record(key))
			if err != nil || snap.State != state || snap.Reason != reason || snap.Identity != nil || snap.Login != nil {
				t.Errorf("%s: %+v, %v", state, snap, err)
			}
		}
	})
}

// FuzzOpenRecord opens whatever a key could have sealed: nothing of it may
// panic, and what opens is whole.
func FuzzOpenRecord(f *testing.F) {
	for _, plain := range []string{
		`{"state":"active","expires":"2030-01-01T00:00:00Z","identity":{"iss":"i","sub":"s","claims":{}}}`,
		`{"state":"pending","expires":"2030-01-01T00:00:00Z","login":{"device_code":"d","user_code":"u","interval":5}}`,
		`{"state":"active"}`, `{"state":"pending","identity":{"claims":null}}`, `[]`, `null`, ``,
		`{"state":"superseded","successor":"x","identity":{"claims":{"a":1e400}}}`,
	} {
		for _, state := range []State{Pending, Active, Superseded, Ended} {
			f.Add(string(state), []byte(plain), true)
			f.Add(string(state), []byte(plain), false)
		}
	}
	key := NewKey()
	f.Fuzz(func(t *testing.T, state string, data []byte, sealed bool) {
		rec := store.Record{ID: key.ID().String(), State: state, Body: data, Version: 1}
		if sealed {
			var err error
			if rec.Body, err = seal(key, rec, data); err != nil {
				t.Fatal(err)
			}
		}
		snap, err := openRecord(key, rec)
		switch {
		case err != nil && !errors.Is(err, ErrSealed):
			t.Errorf("unexpected error %v", err)
		case err != nil:
		case !sealed && len(data) > 0:
			t.Errorf("what nobody sealed opens: %q", data)
		case snap.State == Pending && snap.Login == nil, snap.State == Active && snap.Identity == nil:
			t.Errorf("half a session: %s", fmt.Sprint(snap.State))
		}
	})
}
