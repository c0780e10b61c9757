// This file holds what the tests of this package share: a keeper, a scripted
// identity provider and a store that can fail, for use in a bubble.

package keeper

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	site   = "a.example"
	issuer = "https://idp.example"
)

var errDown = errors.New("store is down")

// flaky is a store whose writes a test can refuse.
type flaky struct {
	store.Store
	mu    sync.Mutex
	onPut func(store.Record) error
	// answer changes what a write that was made is answered with.
	answer func(error) error
	// onMarked is called before it is told whether a logout was.
	onMarked func()
}

func (f *flaky) Marked(ctx context.Context, index store.Index) (time.Time, error) {
	f.mu.Lock()
	onMarked := f.onMarked
	f.mu.Unlock()
	if onMarked != nil {
		onMarked()
	}
	return f.Store.Marked(ctx, index)
}

func (f *flaky) onLookingForLogouts(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onMarked = do
}

func (f *flaky) answerWith(answer func(error) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *flaky) refuse(onPut func(store.Record) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onPut = onPut
}

func (f *flaky) Put(ctx context.Context, rec store.Record) error {
	f.mu.Lock()
	onPut, answer := f.onPut, f.answer
	f.mu.Unlock()
	if onPut != nil {
		if err := onPut(rec); err != nil {
			return err
		}
	}
	err := f.Store.Put(ctx, rec)
	if answer != nil {
		return answer(err)
	}
	return err
}

// told is a poll that the keeper has told of.
type told struct {
	session *session.Session
	outcome idp.Outcome
	took    time.Duration
}

// rig is one node: a keeper with its table.
type rig struct {
	*testing.T
	*Keeper
	idp *idptest.Provider
	st  *flaky
	tab *session.Table

	mu      sync.Mutex
	results []Result
	told    []told
	tries   []Refresh
	once    sync.Once
}

func newRig(t *testing.T, poll func(n int, code string) idptest.Reply) *rig {
	p := idptest.New(issuer)
	p.Poll = poll
	return newNode(t, p, &flaky{Store: store.NewMemory()})
}

func newNode(t *testing.T, p *idptest.Provider, st *flaky) *rig {
	t.Helper()
	r := &rig{T: t, idp: p, st: st, tab: session.NewTable(st, issuer+" gate")}
	r.Keeper = New(newClient(t, p), Config{
		Table: r.tab, Store: st,
		Polled: func(s *session.Session, outcome idp.Outcome, took time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, told{s, outcome, took})
		},
		Settled: func(_ *session.Session, res Result) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results = append(r.results, res)
		},
		Refreshed: func(_ *session.Session, try Refresh) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tries = append(r.tries, try)
		},
	})
	t.Cleanup(r.stop)
	return r
}

func newClient(t *testing.T, transport http.RoundTripper) *idp.Client {
	t.Helper()
	c, err := idp.New(idp.Config{Issuer: issuer, ClientID: "gate", Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stop ends the node, once.
func (r *rig) stop() {
	r.once.Do(func() {
		r.Close()
		r.tab.Close()
	})
}

// signIn starts a sign-in that polls every interval for life.
func (r *rig) signIn(interval, life time.Duration) (*session.Session, session.Key) {
	r.Helper()
	return r.signInAs(session.Terminal, interval, life)
}

func (r *rig) signInAs(kind session.Kind, interval, life time.Duration) (*session.Session, session.Key) {
	r.Helper()
	return r.signInFor(session.New{Kind: kind}, interval, life)
}

func (r *rig) signInFor(n session.New, interval, life time.Duration) (*session.Session, session.Key) {
	r.Helper()
	n.Site, n.Idle, n.Lifetime = site, 12*time.Hour, 30*24*time.Hour
	n.Login = session.Login{
		DeviceCode: secret.String("device-canary-1"), CodeVerifier: secret.String("verifier-canary-1"), UserCode: "WDJB-0001", VerificationURI: issuer + "/activate",
		Interval: interval, Issued: time.Now(), Expires: time.Now().Add(life),
	}
	s, key, err := r.tab.Create(context.Background(), n)
	if err != nil {
		r.Fatal(err)
	}
	r.Add(s, nil)
	return s, key
}

// watched starts a sign-in that somebody watches to its end.
func (r *rig) watched(interval, life time.Duration) (*session.Session, session.Key) {
	r.Helper()
	s, key := r.signIn(interval, life)
	if _, ok := s.Watch(1); !ok {
		r.Fatal("cannot watch")
	}
	return s, key
}

func (r *rig) lookup(key session.Key) *session.Session {
	r.Helper()
	s, err := r.tab.Lookup(context.Background(), key, site)
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// current is the session as the table has it now.
func (r *rig) current(s *session.Session) *session.Session {
	r.Helper()
	current, err := r.tab.Current(context.Background(), s)
	if err != nil {
		r.Fatal(err)
	}
	return current
}

func (r *rig) want(s *session.Session, state session.State, reason session.Reason) {
	r.Helper()
	if got := s.Now(); got.State != state || got.Reason != reason {
		r.Errorf("session is %s %q, want %s %q", got.State, got.Reason, state, reason)
	}
}

// wantResult expects that exactly one sign-in was settled, like this.
func (r *rig) wantResult(outcome idp.Outcome, polls int) {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.results) != 1 || r.results[0].Outcome != outcome || r.results[0].Polls != polls {
		r.Errorf("settled: %+v, want one, %v after %d polls", r.results, outcome, polls)
	}
	if r.Pending() != 0 {
		r.Errorf("%d still pending", r.Pending())
	}
}

// gaps are the times from the end of one poll's answer to the start of the
// next poll.
func (r *rig) gaps() []time.Duration {
	calls := r.idp.Calls("/token")
	var gaps []time.Duration
	for i := 1; i < len(calls); i++ {
		gaps = append(gaps, calls[i].Start.Sub(calls[i-1].End))
	}
	return gaps
}

func (r *rig) polls() int { return len(r.idp.Calls("/token")) }

func (r *rig) wantGaps(want ...time.Duration) {
	r.Helper()
	got := r.gaps()
	if len(got) < len(want) {
		r.Fatalf("gaps %v, want %v", got, want)
	}
	for i, w := range want {
		// a retry's jitter adds a tenth at most, and never takes away
		if got[i] < w || got[i] > w+w/10 {
			r.Errorf("gaps %v, want %v", got[:len(want)], want)
			return
		}
	}
}

// script answers the nth poll with the nth reply, the last one for ever.
func script(replies ...idptest.Reply) func(int, string) idptest.Reply {
	return func(n int, _ string) idptest.Reply { return replies[min(n, len(replies))-1] }
}

func delayed(r idptest.Reply, d time.Duration) idptest.Reply {
	r.Delay = d
	return r
}
