// This file holds what the tests of this package share: a store that can be
// made to fail, and sessions full of canaries.

package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("store is down")

const (
	site     = "a.example"
	provider = "https://idp.example gate"
	canary   = "canary-"
)

// hooked is a memory store whose calls a test can see, fail and change.
type hooked struct {
	store.Store
	gets, puts atomic.Int32

	mu     sync.Mutex
	onGet  func(store.Record, error) (store.Record, error) // changes an answer
	onPut  func(store.Record) error                        // refuses a write
	answer func(error) error                               // changes what a write that was made is answered with
}

func (h *hooked) set(change func(*hooked)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

func (h *hooked) Get(ctx context.Context, id string) (store.Record, error) {
	h.gets.Add(1)
	rec, err := h.Store.Get(ctx, id)
	h.mu.Lock()
	onGet := h.onGet
	h.mu.Unlock()
	if onGet != nil {
		return onGet(rec, err)
	}
	return rec, err
}

func (h *hooked) Put(ctx context.Context, rec store.Record) error {
	h.puts.Add(1)
	h.mu.Lock()
	onPut, answer := h.onPut, h.answer
	h.mu.Unlock()
	if onPut != nil {
		if err := onPut(rec); err != nil {
			return err
		}
	}
	err := h.Store.Put(ctx, rec)
	if answer != nil {
		return answer(err)
	}
	return err
}

// rig is a table on a hooked store.
type rig struct {
	*testing.T
	*Table
	st *hooked
}

func newRig(t *testing.T) rig {
	st := &hooked{Store: store.NewMemory()}
	tab := NewTable(st, provider)
	t.Cleanup(tab.Close)
	return rig{t, tab, st}
}

// node is another node on the same store.
func (r rig) node() rig {
	tab := NewTable(r.st, provider)
	r.Cleanup(tab.Close)
	return rig{r.T, tab, r.st}
}

const deviceCode = canary + "device"

func newLogin(kind Kind) New {
	return New{
		Kind: kind, Site: site, Params: []Param{{"audience", canary + "param"}}, Idle: 12 * time.Hour, Lifetime: 30 * 24 * time.Hour,
		Login: Login{
			DeviceCode: deviceCode, CodeVerifier: canary + "verifier", UserCode: canary + "user", VerificationURI: "https://idp.example/" + canary + "uri",
			VerificationURIComplete: "https://idp.example/" + canary + "complete", Interval: 5 * time.Second,
			Issued: time.Now(), Expires: time.Now().Add(10 * time.Minute),
		},
	}
}

func newIdentity() Identity {
	return Identity{
		Issuer: "https://idp.example", Subject: "sub-alice", SessionID: canary + "sid",
		Claims:      map[string]any{"name": canary + "claim"},
		AccessToken: canary + "access", RefreshToken: canary + "refresh", IDToken: secret.String(canary + "id"),
		Since: time.Now(), Asked: time.Now(), TokensSince: time.Now(), TokensUntil: time.Now().Add(time.Hour),
	}
}

// lasting is an identity whose tokens live that long, and cannot be refreshed.
func lasting(life time.Duration) Identity {
	id := newIdentity()
	id.RefreshToken, id.TokensUntil = "", time.Now().Add(life)
	return id
}

func (r rig) pending(kind Kind) (*Session, Key) {
	r.Helper()
	s, key, err := r.Create(context.Background(), newLogin(kind))
	if err != nil {
		r.Fatal(err)
	}
	return s, key
}

func (r rig) active(kind Kind) (*Session, Key) {
	r.Helper()
	s, key := r.pending(kind)
	if err := s.Activate(context.Background(), lasting(time.Hour)); err != nil {
		r.Fatal(err)
	}
	return s, key
}

func (r rig) end(s *Session, state State, reason Reason) {
	r.Helper()
	if err := s.End(context.Background(), state, reason); err != nil {
		r.Fatal(err)
	}
}

func (r rig) lookup(key Key) *Session {
	r.Helper()
	s, err := r.Lookup(context.Background(), key, site)
	if err != nil {
		r.Fatal(err)
	}
	return s
}

func (r rig) claim(s *Session) Key {
	r.Helper()
	key, err := r.Claim(context.Background(), s)
	if err != nil {
		r.Fatal(err)
	}
	return key
}

func (r rig) want(s *Session, state State, reason Reason) {
	r.Helper()
	if got := s.Now(); got.State != state || got.Reason != reason {
		r.Errorf("session is %s %q, want %s %q", got.State, got.Reason, state, reason)
	}
}

func (r rig) wantUnknown(key Key) {
	r.Helper()
	if _, err := r.Lookup(context.Background(), key, site); err != ErrUnknown {
		r.Errorf("look-up: %v, want ErrUnknown", err)
	}
}

func (r rig) record(key Key) store.Record {
	r.Helper()
	rec, err := r.st.Store.Get(context.Background(), key.ID().String())
	if err != nil {
		r.Fatal(err)
	}
	return rec
}

// wantNoSecrets looks for everything secret in what the store holds of a key.
func (r rig) wantNoSecrets(step string, key Key, keys ...Key) {
	r.Helper()
	rec := r.record(key)
	parts := append([]string{rec.ID, rec.Kind, rec.Site, rec.Provider, rec.State, rec.Reason, rec.Subject}, string(rec.Body))
	for _, ix := range rec.Indexes {
		parts = append(parts, string(ix))
	}
	all := strings.Join(parts, "\n")
	secrets := []string{canary, "name", "device_code"}
	for _, k := range append(keys, key) {
		secrets = append(secrets, k.Reveal(), strings.TrimPrefix(k.Reveal(), KeyPrefix))
	}
	for _, word := range secrets {
		if strings.Contains(all, word) {
			r.Errorf("%s: the stored record holds %q", step, word)
		}
	}
}
