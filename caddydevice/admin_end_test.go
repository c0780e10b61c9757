// This file tests how an operator ends sessions at Caddy's admin endpoint, and
// that nobody ends more than was meant.

package caddydevice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// wantLet checks which of the keys still open the gate.
func (g *gate) wantLet(step string, keys map[string]bool) {
	g.t.Helper()
	for key, want := range keys {
		header := bearer(key)
		if g.session(key).Kind() == session.Browser {
			header = g.cookieOf(fetchHeaders, key) // a navigation would start anew
		}
		if resp := g.do(request{target: "/", header: header}); (resp.StatusCode == http.StatusOK) != want {
			g.t.Errorf("%s: the session that should be let in: %t gets %d %s", step, want, resp.StatusCode, g.body)
		}
	}
}

// end asks for an end and wants an answer.
func (a *admin) end(uri string, status int, words string) {
	a.t.Helper()
	resp, body := a.do(http.MethodDelete, adminPath+uri, nil)
	if resp.StatusCode != status || !strings.Contains(body, words) {
		a.t.Errorf("DELETE %s: %d %s, want %d and %q", uri, resp.StatusCode, body, status, words)
	}
	if status >= 400 && (resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("X-Content-Type-Options") != "nosniff") {
		a.t.Errorf("DELETE %s: %v", uri, resp.Header)
	}
}

func TestAdminEndsOne(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	whole, part, other, kiosk, waiting := g.terminal(), g.terminal(), g.terminal(), g.kiosk(), g.begun(curlHeaders)
	a.end("/"+idOf(t, whole), http.StatusNoContent, "")
	a.end("/"+idOf(t, part)[:8], http.StatusNoContent, "")
	a.end("/"+idOf(t, kiosk), http.StatusNoContent, "")
	a.end("/"+idOf(t, waiting), http.StatusNoContent, "")
	g.wantLet("ends", map[string]bool{whole: false, part: false, other: true, kiosk: false, waiting: false})
	for _, key := range []string{whole, kiosk, waiting} {
		if snap := g.session(key).Now(); snap.State != session.Ended || snap.Reason != session.Revoked {
			t.Errorf("it is %s, %s", snap.State, snap.Reason)
		}
	}
	a.end("/"+idOf(t, whole), http.StatusNotFound, "is over already")
	a.end("/"+strings.Repeat("0", 64), http.StatusNotFound, "no session's id begins with 0")
	a.end("/00000000", http.StatusNotFound, "no session's id begins with 0")

	orphan := strings.Repeat("a", 64)
	putOrphan(t, sharedStore(t), orphan)
	putOrphan(t, sharedStore(t), strings.Repeat("a", 63)+"b")
	a.end("/"+orphan[:63], http.StatusConflict, "give more of the one that is meant")
	a.end("/"+orphan, http.StatusNoContent, "")
	if rec, err := sharedStore(t).Get(t.Context(), orphan); err != nil || rec.State != "ended" || rec.Reason != "revoked" || rec.Body != nil {
		t.Errorf("a session of a provider that is gone: %+v, %v", rec, err)
	}
	ranOut := store.Record{ID: strings.Repeat("b", 64), Provider: g.Issuer + " " + g.ClientID, Version: 1, State: "active", Until: time.Now().Add(time.Hour)}
	if err := sharedStore(t).Put(t.Context(), ranOut); err != nil {
		t.Fatal(err)
	}
	a.end("/"+ranOut.ID, http.StatusNoContent, "") // for all that is known it is in use
	g.wantLet("ends of others", map[string]bool{other: true})
}

// TestAdminEndsMany: a person's sessions or everybody's, at one provider or all.
func TestAdminEndsMany(t *testing.T) {
	for _, row := range []struct {
		query string
		ended int
		// which remain: Alice's at each gate, Bob's at the first, the sign-in
		// under way at the second
		one, two, bob, waiting, orphan bool
	}{
		{query: "?subject=sub-alice", ended: 3, bob: true, waiting: true, orphan: true},
		{query: "?subject=sub-alice&provider=ONE", ended: 2, two: true, bob: true, waiting: true, orphan: true},
		{query: "?subject=sub-alice&provider=TWO+gate", ended: 1, one: true, bob: true, waiting: true, orphan: true},
		{query: "?subject=sub-alice&provider=TWO+other", ended: 0, one: true, two: true, bob: true, waiting: true, orphan: true},
		{query: "?subject=SUB-ALICE", ended: 0, one: true, two: true, bob: true, waiting: true, orphan: true},
		{query: "?subject=%3Cb%3Ezo%C3%AB%3C/b%3E", ended: 1, one: true, two: true, bob: true, waiting: true},
		{query: "?all=true&provider=ONE", ended: 3, two: true, waiting: true, orphan: true},
		{query: "?all=true&provider=https://gone.example.com", ended: 1, one: true, two: true, bob: true, waiting: true},
		{query: "?all=true", ended: 6},
	} {
		t.Run(row.query, func(t *testing.T) {
			a, one, two := startAdmin(t), newGate(t, map[string]any{"client_id": "gate"}), newGate(t, map[string]any{"client_id": "gate"})
			alice, kiosk, elsewhere, bob, waiting := one.terminal(), one.kiosk(), two.terminal(), one.begun(curlHeaders), two.begun(curlHeaders)
			one.approveWith(bob, nil, func(id *session.Identity) { id.Subject = "sub-bob" })
			orphan := strings.Repeat("0", 64)
			putOrphan(t, sharedStore(t), orphan)
			query := strings.NewReplacer("ONE", one.Issuer, "TWO", two.Issuer).Replace(row.query)
			a.end(query, http.StatusOK, fmt.Sprintf(`{"ended":%d}`, row.ended))
			one.wantLet("one", map[string]bool{alice: row.one, kiosk: row.one, bob: row.bob})
			two.wantLet("two", map[string]bool{elsewhere: row.two})
			if got := two.session(waiting).Now().State == session.Pending; got != row.waiting {
				t.Errorf("the sign-in goes on: %t", got)
			}
			if rec, err := sharedStore(t).Get(t.Context(), orphan); err != nil || rec.State == "active" != row.orphan {
				t.Errorf("%+v, %v", rec, err)
			}
			// who signs in there now, at a node that has this provider, is overtaken as well
			at, err := sharedStore(t).Marked(t.Context(), store.NewIndex("end", "https://gone.example.com old client",
				string(store.NewIndex("all", "https://gone.example.com old client")), string(session.Revoked)))
			if marked := strings.HasPrefix(row.query, "?all") && !row.orphan; err != nil || at.IsZero() == marked {
				t.Errorf("the mark is of %v, %v", at, err)
			}
			a.end(query, http.StatusOK, `{"ended":0}`)
		})
	}
}

// TestAdminOvertakes what becomes a session only after the operator's word, and
// nothing else.
func TestAdminOvertakes(t *testing.T) {
	for _, row := range []struct {
		query, subject string
		one, two       bool
	}{
		{query: "?subject=sub-alice", subject: "sub-alice", one: true, two: true},
		{query: "?subject=sub-alice", subject: "sub-bob"},
		{query: "?subject=sub-alice&provider=ONE", subject: "sub-alice", one: true},
		{query: "?all=true", subject: "sub-bob", one: true, two: true},
		{query: "?all=true&provider=TWO+gate", subject: "sub-bob", two: true},
	} {
		t.Run(row.query+" "+row.subject, func(t *testing.T) {
			a, one, two := startAdmin(t), newGate(t, map[string]any{"client_id": "gate"}), newGate(t, map[string]any{"client_id": "gate"})
			asked := time.Now() // the approval is on its way
			a.end(strings.NewReplacer("ONE", one.Issuer, "TWO", two.Issuer).Replace(row.query), http.StatusOK, `{"ended":0}`)
			for g, want := range map[*gate]bool{one: row.one, two: row.two} {
				s := g.session(g.begun(curlHeaders))
				err := s.Activate(t.Context(), session.Identity{Issuer: g.Issuer, Subject: row.subject, AccessToken: "a", Asked: asked, TokensUntil: asked.Add(time.Hour)})
				if errors.Is(err, session.ErrOvertaken) != want || (s.Now().State == session.Active) == want {
					t.Errorf("overtaken: %v and %s, want %t", err, s.Now().State, want)
				}
			}
		})
	}
}

// TestAdminEndsWhatComesMeanwhile: however an approval and the operator's word
// meet, nobody is signed in by what was asked for before it.
func TestAdminEndsWhatComesMeanwhile(t *testing.T) {
	a, g := startAdmin(t), newGate(t, map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 100, "per": "1m"}}})
	keys := make([]string, 50)
	for i := range keys {
		keys[i] = g.begun(curlHeaders)
	}
	asked := time.Now()
	var approvals sync.WaitGroup
	approvals.Go(func() { // one after the other: some before the word, some after
		for _, key := range keys {
			s := g.session(key)
			_ = s.Activate(context.Background(), session.Identity{Issuer: g.Issuer, Subject: "sub-alice", AccessToken: "a", Asked: asked, TokensUntil: asked.Add(time.Hour)})
		}
	})
	a.end("?subject=sub-alice", http.StatusOK, "ended")
	approvals.Wait()
	for i, key := range keys {
		if state := g.session(key).Now().State; state != session.Ended {
			t.Errorf("sign-in %d is %s", i, state)
		}
	}
	if page := a.page("?state=active"); len(page.Sessions) > 0 {
		t.Errorf("%d are shown as active", len(page.Sessions))
	}
}

// slowStore takes writes only as many at once.
type slowStore struct {
	store.Store
	full sync.WaitGroup
}

func (s *slowStore) Put(ctx context.Context, rec store.Record) error {
	if rec.Version > 1 {
		s.full.Done()
		s.full.Wait()
	}
	return s.Store.Put(ctx, rec)
}

// TestAdminEndsSideBySide: many ends do not wait for each other's disk.
func TestAdminEndsSideBySide(t *testing.T) {
	a, st := startAdmin(t), &slowStore{Store: store.NewMemory()}
	pool(t, "slow", st)
	for i := range endsAtOnce {
		putOrphan(t, st, fmt.Sprintf("%064x", i))
		st.full.Add(1)
	}
	a.end("?all=true", http.StatusOK, fmt.Sprintf(`{"ended":%d}`, endsAtOnce))
}

// TestAdminMistakes end nothing and say what to do.
func TestAdminMistakes(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	key := g.terminal()
	id := idOf(t, key)
	for _, row := range []struct {
		method, uri string
		status      int
		words       string
	}{
		{"DELETE", adminPath, 400, "say which sessions are to end"},
		{"DELETE", adminPath + "?provider=" + g.Issuer, 400, "say which sessions are to end"},
		{"DELETE", adminPath + "?subject=", 400, "subject is empty"},
		{"DELETE", adminPath + "?subject=sub-alice&provider=", 400, "provider is empty"},
		{"DELETE", adminPath + "?subject=sub-alice&provider=%zz", 400, "cannot be read"},
		{"DELETE", adminPath + "?subject=sub-alice;x=y", 400, "cannot be read"},
		{"DELETE", adminPath + "?subject=sub-alice&issuer=x", 400, `unknown parameter "issuer": there are subject, all, provider`},
		{"DELETE", adminPath + "?subject=x&subject=sub-alice", 400, "subject is there twice"},
		{"DELETE", adminPath + "?subject=sub-alice&all=true", 400, "keep one"},
		{"DELETE", adminPath + "?all=1", 400, "all=true"},
		{"DELETE", adminPath + "?all", 400, "all is empty"},
		{"DELETE", adminPath + "/" + id + "?subject=sub-alice", 400, `unknown parameter "subject": there is none here`},
		{"DELETE", adminPath + "/" + id[:7], 404, "8 to 64"},
		{"DELETE", adminPath + "/" + strings.ToUpper(id), 404, "8 to 64"},
		{"DELETE", adminPath + "/" + id + "0", 404, "8 to 64"},
		{"DELETE", adminPath + "/" + key, 404, "8 to 64"},
		{"GET", adminPath + "/" + id, 405, "use DELETE"},
		{"POST", adminPath, 405, "use DELETE or GET"},
		{"HEAD", adminPath, 405, ""},
		{"OPTIONS", adminPath, 405, "use DELETE or GET"},
		{"GET", adminPath + "?limit=0", 400, "from 1 to 1000"},
		{"GET", adminPath + "?limit=1001", 400, "from 1 to 1000"},
		{"GET", adminPath + "?limit=many", 400, "from 1 to 1000"},
		{"GET", adminPath + "?state=alive", 400, "pending approved active"},
		{"GET", adminPath + "?id=" + id, 400, "unknown parameter"},
		{"GET", adminPath + "X", 404, "not found"},
		{"DELETE", adminPath + "/", 404, "not found"},
		{"DELETE", adminPath + "/?all=true", 404, "not found"},
		{"DELETE", adminPath + "/" + id + "/", 404, "not found"},
		{"DELETE", adminPath + "/" + id + "/x", 404, "not found"},
		{"DELETE", adminPath + "%2F" + id, 404, "not found"},
		{"DELETE", "/device_auth%2fsessions?all=true", 404, "not found"},
		{"DELETE", "/device_auth/Sessions?all=true", 404, "not found"},
		{"DELETE", "/device_auth/x/../sessions?all=true", 307, ""},
		{"DELETE", adminPath + "/%2e%2e?all=true", 400, "unknown parameter"},
		{"DELETE", adminPath + "/x%2f" + id, 404, "8 to 64"},
		{"GET", "/device_auth", 404, "not found"},
		{"GET", "/device_auth/", 404, "not found"},
	} {
		resp, body := a.do(row.method, row.uri, nil)
		if resp.StatusCode != row.status || !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), row.words) {
			t.Errorf("%s %s: %d %s, want %d and %q", row.method, row.uri, resp.StatusCode, body, row.status, row.words)
		}
		if row.status == 405 && resp.Header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", row.method, row.uri)
		}
		if row.status == 400 && resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %v", row.method, row.uri, resp.Header)
		}
	}
	g.wantLet("mistakes", map[string]bool{key: true})
}

// deafStore fails one call, after so many.
type deafStore struct {
	store.Store
	left int
}

func (d *deafStore) List(ctx context.Context, after string, limit int) ([]store.Record, error) {
	if d.left--; d.left == -1 {
		return nil, errBroken
	}
	return d.Store.List(ctx, after, limit)
}

func (d *deafStore) Get(ctx context.Context, id string) (store.Record, error) {
	if d.left--; d.left == -1 {
		return store.Record{}, errBroken
	}
	return d.Store.Get(ctx, id)
}

// TestAdminStoreFault: where nothing is known, nothing is said to be so, and the
// store's words are for the log.
func TestAdminStoreFault(t *testing.T) {
	a := startAdmin(t)
	st := &deafStore{Store: store.NewMemory()}
	pool(t, "deaf", st)
	id := strings.Repeat("0", 64)
	putOrphan(t, st, id)
	for _, row := range []struct {
		method, uri string
		asks        int // of the store, all of which have to be answered
	}{
		{"GET", "", 1},
		{"DELETE", "/" + id, 2},
		{"DELETE", "/" + id[:9], 3},
		{"DELETE", "?subject=x", 1},
		{"DELETE", "?all=true", 4},
	} {
		for left := range row.asks {
			st.left = left
			resp, body := a.do(row.method, adminPath+row.uri, nil)
			if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "try again") || strings.Contains(body, "canary") {
				t.Errorf("%s %s, %d answers in: %d %s", row.method, row.uri, left, resp.StatusCode, body)
			}
		}
	}
}

// TestAdminEndsAreLogged: each with who did it and enough of the id to find the
// session elsewhere in the log, and never with more.
func TestAdminEndsAreLogged(t *testing.T) {
	g := newGate(t, nil)
	keys := []string{g.terminal(), g.terminal()}
	core, logs := observer.New(zapcore.DebugLevel)
	actor := zap.New(core).With(zap.String("remote_addr", "192.0.2.7:9"))
	if n, err := endMatching(t.Context(), sessionFilter{subject: "sub-alice"}, actor); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	for _, key := range keys {
		id := idOf(t, key)
		found := logs.FilterField(zap.String("session", id[:8])).All()
		if len(found) != 1 || found[0].Level != zapcore.InfoLevel {
			t.Fatalf("%s is logged %d times", id[:8], len(found))
		}
		fields := found[0].ContextMap()
		if fields["sub"] != "sub-alice" || fields["provider"] != g.Issuer+" "+g.ClientID || fields["remote_addr"] != "192.0.2.7:9" {
			t.Errorf("%v", fields)
		}
		if text := fmt.Sprint(fields); strings.Contains(text, id[:9]) || strings.Contains(text, "dvc_") || strings.Contains(text, "canary") {
			t.Errorf("%v", fields)
		}
	}
}
