// This file holds ends that come from elsewhere, without the session's key: a
// logout at the identity provider, and an operator's word.

package session

import (
	"context"
	"errors"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

const (
	// markLife is for how long a logout counts for sign-ins that it has
	// overtaken. It is longer than any sign-in can be under way.
	markLife = 2 * time.Hour
	// markSlack is how far the clocks of two nodes may be apart.
	markSlack = 2 * time.Second
	// listPage is how many records are read at a time.
	listPage = 500
)

// ErrOvertaken is the error of a sign-in that a logout has overtaken.
var ErrOvertaken = errors.New("a logout has overtaken the sign-in")

// Everybody is the index of all sessions of a provider, for [Table.EndAll].
func (t *Table) Everybody() store.Index { return store.NewIndex("all", t.provider) }

// markOf is what an end for that reason marks for the index: one client's logout
// says nothing of another's sign-ins, though their sessions share the index.
func (t *Table) markOf(index store.Index, reason Reason) store.Index {
	return store.NewIndex("end", t.provider, string(index), string(reason))
}

// SubjectIndex is the index of all sessions of one person at an issuer.
func SubjectIndex(issuer, subject string) store.Index {
	return store.NewIndex("sub", issuer, subject)
}

// ProviderSessionIndex is the index of the sessions that came of one session
// at the identity provider, by its sid.
func ProviderSessionIndex(issuer, sid string) store.Index {
	return store.NewIndex("sid", issuer, sid)
}

// UnnamedIndex is the index of those sessions of one person of which it is not
// known from which session at the identity provider they came: its ID token had
// no sid, though its logout tokens may have one.
func UnnamedIndex(issuer, subject string) store.Index {
	return store.NewIndex("no sid", issuer, subject)
}

// endIfOvertaken ends the session where a logout was for it: by its sid, or, if
// its tokens were asked for before that, by its subject or with all others.
func (s *Session) endIfOvertaken(ctx context.Context, id *Identity) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	bySession := ProviderSessionIndex(id.Issuer, id.SessionID)
	if id.SessionID == "" {
		bySession = UnnamedIndex(id.Issuer, id.Subject)
	}
	for _, mark := range []struct {
		index  store.Index
		always bool
		reason Reason
	}{
		{bySession, id.SessionID != "", LoggedOut},
		{SubjectIndex(id.Issuer, id.Subject), false, LoggedOut},
		{SubjectIndex(id.Issuer, id.Subject), false, Revoked},
		{s.table.Everybody(), false, Revoked},
	} {
		at, err := s.table.store.Marked(ctx, s.table.markOf(mark.index, mark.reason))
		switch {
		case err != nil:
			return err
		case at.IsZero() || !mark.always && id.Asked.After(at.Add(markSlack)):
			continue
		}
		if err := s.End(ctx, Ended, mark.reason); err != nil {
			return err
		}
		return ErrOvertaken
	}
	return nil
}

// EndAll ends every session of this provider that has the index, whoever holds
// its key, and also those that a sign-in under way is about to make. It
// returns how many there were; where it fails, some may have ended.
func (t *Table) EndAll(ctx context.Context, index store.Index, reason Reason) (int, error) {
	if err := t.store.Mark(ctx, t.markOf(index, reason), markLife); err != nil {
		return 0, err
	}
	if index == t.Everybody() {
		return t.endEveryone(ctx, reason)
	}
	ids, err := t.store.Find(ctx, index)
	if err != nil {
		return 0, err
	}
	return t.endRecords(ctx, ids, reason)
}

func (t *Table) endEveryone(ctx context.Context, reason Reason) (int, error) {
	ended := 0
	for after := ""; ; {
		page, err := t.store.List(ctx, after, listPage)
		if err != nil {
			return ended, err
		}
		ids := make([]string, len(page))
		for i, rec := range page {
			ids[i] = rec.ID
		}
		n, err := t.endRecords(ctx, ids, reason)
		ended += n
		if err != nil || len(page) < listPage {
			return ended, err
		}
		after = page[len(page)-1].ID
	}
}

func (t *Table) endRecords(ctx context.Context, ids []string, reason Reason) (int, error) {
	ended := 0
	for _, id := range ids {
		ok, err := t.EndRecord(ctx, id, reason)
		if err != nil {
			return ended, err
		}
		if ok {
			ended++
		}
	}
	return ended, nil
}

// EndRecord ends one session of this provider by its id, whoever holds its
// key, and the one that a claim is making of it. ended is false where there is
// none, or it was over.
func (t *Table) EndRecord(ctx context.Context, id string, reason Reason) (ended bool, err error) {
	if s := t.held(id); s != nil && !s.now.Load().settled() {
		return t.endWithHeir(ctx, s, reason)
	}
	rec, err := t.store.Get(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case rec.Provider != t.provider:
		return false, nil
	}
	return EndRecord(ctx, t.store, rec, reason)
}

// held returns the session of the id, if the table holds it.
func (t *Table) held(id string) *Session {
	sid, ok := parseID(id)
	if !ok {
		return nil
	}
	sh := t.shard(sid)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.sessions[sid]
}

// EndRecord writes the tombstone of a record that was read from the store: it
// is not sealed, and so needs no key. Who holds the session open hears of the
// write and drops it. ended is false where it is over, but what a superseded
// record has left to give is taken from it.
func EndRecord(ctx context.Context, st store.Store, rec store.Record, reason Reason) (ended bool, err error) {
	for try := 1; ; try++ {
		over := State(rec.State).Over()
		if over && len(rec.Body) == 0 {
			return false, nil
		}
		life := tombstoneLife
		if isAttempt(rec) {
			life = attemptLife
		}
		rec.Version++
		rec.Body, rec.Subject, rec.Indexes = nil, "", nil
		if !over {
			rec.State, rec.Reason = string(Ended), string(reason)
			rec.Changed = time.Now()
			rec.Until = rec.Changed.Add(life)
		}
		err := st.Put(ctx, rec)
		if !errors.Is(err, store.ErrConflict) || try == changeTries {
			return err == nil && !over, err
		}
		rec, err = st.Get(ctx, rec.ID)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
