// This file holds sessions as an operator sees and ends them: by their records,
// over all stores of the process, without any key.

package caddydevice

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// shownStates are the states that a session can be listed in.
var shownStates = []session.State{
	session.Pending, session.Approved, session.Active, session.Denied, session.Expired, session.Failed, session.Ended, session.Superseded,
}

// shownSession is a session as an operator sees it. Nothing in it opens
// anything.
type shownSession struct {
	ID       string         `json:"id"`
	State    session.State  `json:"state"`
	Reason   session.Reason `json:"reason,omitempty"`
	Kind     session.Kind   `json:"kind"`
	Site     string         `json:"site"`
	Issuer   string         `json:"issuer"`
	ClientID string         `json:"client_id"`
	// Subject is there while it is active.
	Subject string    `json:"subject,omitempty"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	// Until is when it runs out at the latest if its client makes no further
	// request; not there where it is over.
	Until time.Time `json:"until,omitzero"`
}

// sessionPage is a part of a listing. Next is the id that the next part comes
// after; "" where there is none.
type sessionPage struct {
	Sessions []shownSession `json:"sessions"`
	Next     string         `json:"next,omitempty"`
}

// sessionFilter is which sessions are meant; "" is any.
type sessionFilter struct {
	state   session.State
	subject string
	// provider is an issuer, or an issuer, a space and a client id.
	provider string
}

func (f sessionFilter) matches(s shownSession) bool {
	return (f.state == "" || f.state == s.State) && (f.subject == "" || f.subject == s.Subject) &&
		f.matchesProvider(engineKey{issuer: s.Issuer, clientID: s.ClientID}.provider())
}

func (f sessionFilter) matchesProvider(provider string) bool {
	issuer, _, _ := strings.Cut(provider, " ")
	return f.provider == "" || f.provider == provider || f.provider == issuer
}

// openStore is a store of the process, with the session tables on it.
type openStore struct {
	key string
	store.Store
	tables map[string]*session.Table // by provider
}

// openStores are all that a configuration in use has. One that goes away
// meanwhile fails with [store.ErrClosed].
func openStores() []openStore {
	byKey := map[string]openStore{}
	stores.Range(func(key, val any) bool {
		byKey[key.(string)] = openStore{key.(string), val.(pooledStore).Store, map[string]*session.Table{}}
		return true
	})
	engines.Range(func(key, val any) bool {
		k := key.(engineKey)
		if st, ok := byKey[k.store]; ok {
			st.tables[k.provider()] = val.(*engine).table
		}
		return true
	})
	return slices.SortedFunc(maps.Values(byKey), func(a, b openStore) int { return cmp.Compare(a.key, b.key) })
}

// table returns a provider's table. Where no configuration has that provider
// any more, it is one for this use.
func (st openStore) table(provider string) (t *session.Table, done func()) {
	if t, ok := st.tables[provider]; ok {
		return t, func() {}
	}
	t = session.NewTable(st, provider)
	return t, t.Close
}

// storedSession is a record and where it is.
type storedSession struct {
	store.Record
	in openStore
}

// scanPage is how many records are read at a time.
const scanPage = 500

// recordsAfter are the living records of the stores whose ids come after one, in
// the order of their ids. It ends with the first error.
func recordsAfter(ctx context.Context, all []openStore, after string) iter.Seq2[storedSession, error] {
	return func(yield func(storedSession, error) bool) {
		for more := true; more; {
			var page []storedSession
			var err error
			if page, more, err = readPage(ctx, all, after); err != nil {
				yield(storedSession{}, err)
				return
			}
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
				after = rec.ID
			}
		}
	}
}

// readPage merges a page of each store into one. more is false where that is
// the last one.
func readPage(ctx context.Context, all []openStore, after string) (page []storedSession, more bool, err error) {
	for _, st := range all {
		records, err := st.List(ctx, after, scanPage)
		if err != nil {
			return nil, false, err
		}
		more = more || len(records) == scanPage
		for _, rec := range records {
			page = append(page, storedSession{rec, st})
		}
	}
	slices.SortStableFunc(page, func(a, b storedSession) int { return cmp.Compare(a.ID, b.ID) })
	if len(page) > scanPage {
		page, more = page[:scanPage], true
	}
	return page, more, nil
}

// pageOf lists the sessions after an id that match, at most limit, and looks
// through a bounded number of records for them.
func pageOf(ctx context.Context, filter sessionFilter, after string, limit int) (sessionPage, error) {
	page := sessionPage{Sessions: []shownSession{}}
	scanned := 0
	for rec, err := range recordsAfter(ctx, openStores(), after) {
		if err != nil {
			return sessionPage{}, err
		}
		if len(page.Sessions) == limit || scanned == mostScanned {
			page.Next = after
			break
		}
		scanned++
		after = rec.ID
		if s := rec.shown(); filter.matches(s) {
			page.Sessions = append(page.Sessions, s)
		}
	}
	return page, nil
}

// shown is the session as it is now, as far as a record tells without its key.
// What has run out is so whether or not that was written down yet; why an active
// session has run out is not known here, nor that one was idle for too long
// before Until.
func (rec storedSession) shown() shownSession {
	issuer, clientID, _ := strings.Cut(rec.Provider, " ")
	s := shownSession{
		ID: rec.ID, State: session.State(rec.State), Reason: session.Reason(rec.Reason),
		Kind: session.Kind(rec.Kind), Site: rec.Site, Issuer: issuer, ClientID: clientID,
		Subject: rec.Subject, Created: rec.Created.UTC(), Changed: rec.Changed.UTC(),
	}
	if s.State.Over() {
		return s
	}
	end := session.RunsOut(rec.Record)
	if time.Now().Before(end) {
		s.Until = end.UTC()
		return s
	}
	s.Changed, s.Subject = end.UTC(), ""
	ran := ranOut[s.State]
	s.State, s.Reason = ran.state, ran.reason
	return s
}

// ranOut is what becomes of a state with the time alone, as far as a record says
// without its key.
var ranOut = map[session.State]struct {
	state  session.State
	reason session.Reason
}{
	session.Pending:  {session.Expired, session.CodeExpired},
	session.Approved: {session.Ended, session.Unconfirmed},
	session.Active:   {session.Ended, ""},
}

// leastID is how much of an id names a session: what is in the log.
const leastID = 8

// isID reports whether a text is an id or enough of its beginning.
func isID(text string) bool {
	return len(text) >= leastID && len(text) <= len(session.ID{}.String()) && strings.Trim(text, "0123456789abcdef") == ""
}

// recordsNamed are those whose ids begin with one, two where there are more.
func recordsNamed(ctx context.Context, id string) ([]storedSession, error) {
	var named []storedSession
	for _, st := range openStores() {
		rec, err := st.Get(ctx, id)
		if err == nil {
			return []storedSession{{rec, st}}, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		page, err := st.List(ctx, id, 2)
		if err != nil {
			return nil, err
		}
		for _, rec := range page {
			if strings.HasPrefix(rec.ID, id) {
				named = append(named, storedSession{rec, st})
			}
		}
	}
	return named, nil
}

// end ends the session, and logs it. It reports false where it was over. One
// that has run out by its record may be in use all the same, where that could
// not be written down: it is ended like any other.
func (rec storedSession) end(ctx context.Context, actor *zap.Logger) (bool, error) {
	t, done := rec.in.table(rec.Provider)
	defer done()
	ended, err := t.EndRecord(ctx, rec.ID, session.Revoked)
	if err != nil || !ended {
		return false, err
	}
	actor.Info("session ended by an operator",
		zap.String("session", rec.ID[:leastID]), zap.String("site", rec.Site), zap.String("provider", rec.Provider), zap.String("sub", rec.Subject))
	return true, nil
}

// endsAtOnce is how many sessions are ended side by side: a store may make one
// write to the disk of them.
const endsAtOnce = 32

// ends are the ends that one request brings about.
type ends struct {
	actor *zap.Logger
	slots chan struct{}
	going sync.WaitGroup

	mu   sync.Mutex
	done int
	err  error // the first
}

// begin ends a session soon.
func (e *ends) begin(ctx context.Context, rec storedSession) {
	e.slots <- struct{}{}
	e.going.Go(func() {
		ended, err := rec.end(ctx, e.actor)
		e.mu.Lock()
		defer e.mu.Unlock()
		if ended {
			e.done++
		}
		e.err = cmp.Or(e.err, err)
		<-e.slots
	})
}

// soFar is how many have ended, and what went wrong.
func (e *ends) soFar() (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.done, e.err
}

// endMatching ends all sessions that match, and those that sign-ins under way
// are about to make. It returns how many there were, also where it fails.
//
// Those that are there are ended one by one, for the log. A sign-in that
// becomes a session meanwhile is marked after that, and ended with the mark or
// by it.
func endMatching(ctx context.Context, filter sessionFilter, actor *zap.Logger) (int, error) {
	all := openStores()
	providers := map[string]map[string]bool{} // by store
	for _, st := range all {
		providers[st.key] = map[string]bool{}
		for provider := range st.tables {
			providers[st.key][provider] = true
		}
	}
	ended, err := endThere(ctx, all, filter, actor, func(rec storedSession) {
		providers[rec.in.key][rec.Provider] = true
	})
	if err != nil {
		return ended, err
	}
	for _, st := range all {
		for provider := range providers[st.key] {
			if !filter.matchesProvider(provider) {
				continue
			}
			n, err := st.endLate(ctx, provider, filter.subject, actor)
			ended += n
			if err != nil {
				return ended, err
			}
		}
	}
	return ended, nil
}

// endThere ends the sessions that are there and match; seen is told of all.
func endThere(ctx context.Context, all []openStore, filter sessionFilter, actor *zap.Logger, seen func(storedSession)) (int, error) {
	e := &ends{actor: actor, slots: make(chan struct{}, endsAtOnce)}
	var err error
	for rec, failed := range recordsAfter(ctx, all, "") {
		if _, err = e.soFar(); err != nil || failed != nil {
			err = cmp.Or(err, failed)
			break
		}
		seen(rec)
		if filter.matches(rec.shown()) {
			e.begin(ctx, rec)
		}
	}
	e.going.Wait()
	ended, late := e.soFar()
	return ended, cmp.Or(err, late)
}

// endLate marks a provider's sign-ins under way, a person's or everybody's, and
// ends what they have made since.
func (st openStore) endLate(ctx context.Context, provider, subject string, actor *zap.Logger) (int, error) {
	t, done := st.table(provider)
	defer done()
	index := t.Everybody()
	if subject != "" {
		issuer, _, _ := strings.Cut(provider, " ")
		index = session.SubjectIndex(issuer, subject)
	}
	n, err := t.EndAll(ctx, index, session.Revoked)
	actor.Info("sign-ins under way are overtaken by an operator",
		zap.String("provider", provider), zap.String("sub", subject), zap.Int("sessions_ended", n))
	return n, err
}
