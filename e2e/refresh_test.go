// This file shows that a session outlives its access token: one refresh serves
// all requests, and the identity provider's troubles sign nobody out.
package e2e

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/record"
)

const (
	// many is how many requests come at the moment of expiry.
	many = 1000
	// hangsUpWithin is when a client loses its patience, after the refresh was
	// let go or before.
	hangsUpWithin = 2 * time.Second
)

func TestRefreshByMany(t *testing.T) {
	t.Parallel()
	for name, hangUp := range map[string]bool{"all stay": false, "every second one hangs up": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, plan{tokenLife: 10 * time.Second, caddyfile: oneSite(deviceAuth("", manyStarts, "idp_timeout 50s"))})
			goOn := s.holdRefreshes()
			r := s.signInShort(t)
			r.awaitExpiry()
			c := r.rush(t, hangUp)
			if hangUp {
				r.letPass(hangsUpWithin / 2)
			}
			goOn()
			c.done.Wait()
			if c.passed.Load()+c.hungUp.Load() != many || (c.hungUp.Load() > 0) != hangUp {
				t.Errorf("%d of %d were let in, and %d hung up; the first other answer is %v", c.passed.Load(), many, c.hungUp.Load(), c.wrong.Load())
			}
			r.wantGoesOn(t)
			r.wantPresented(t, 1)
		})
	}
}

// holdRefreshes keeps them from the provider until goOn.
func (s *stage) holdRefreshes() (goOn func()) {
	held := make(chan struct{})
	s.rec.RewriteWith(func(r *http.Request) *record.Answer {
		if isRefresh(r) {
			select {
			case <-held:
			case <-r.Context().Done():
			}
		}
		return nil
	})
	return func() { close(held) }
}

// rush are many requests of one session at once.
type rush struct {
	done           sync.WaitGroup
	passed, hungUp atomic.Int64
	wrong          atomic.Value
}

// rush returns when all requests have been sent, each on a connection of its
// own.
func (r *refreshed) rush(t *testing.T, hangUp bool) *rush {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	c := &rush{}
	sent := make(chan struct{}, many)
	for i := range many {
		ctx := httptrace.WithClientTrace(r.ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent <- struct{}{} }})
		cancel := func() {}
		if hangUp && i%2 == 1 {
			ctx, cancel = context.WithTimeout(ctx, rand.N(hangsUpWithin))
		}
		c.done.Go(func() {
			defer cancel()
			c.one(ctx, transport, r)
		})
	}
	for n := 0; n < many; n++ {
		select {
		case <-sent:
		case <-r.ctx.Done():
			t.Fatal(r.ctx.Err())
		case <-time.After(hangsUpWithin): // who hung up before it was connected
			n = many
		}
	}
	return c
}

func (c *rush) one(ctx context.Context, transport http.RoundTripper, r *refreshed) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/rush", nil)
	if err != nil {
		c.wrong.CompareAndSwap(nil, err.Error())
		return
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	resp, err := transport.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded) && r.ctx.Err() == nil:
		c.hungUp.Add(1)
	case err != nil:
		c.wrong.CompareAndSwap(nil, err.Error())
	case resp.StatusCode != http.StatusOK:
		c.wrong.CompareAndSwap(nil, resp.Status)
	default:
		c.passed.Add(1)
	}
}

// TestRefreshSlow: the provider takes twice as long as a request waits for it.
func TestRefreshSlow(t *testing.T) {
	t.Parallel()
	const answerTime = 20 * time.Second
	s := newStage(t, plan{tokenLife: 5 * time.Second})
	goOn := s.holdRefreshes()
	r := s.signInShort(t)
	slow := time.AfterFunc(time.Until(r.expires)+answerTime, goOn)
	defer slow.Stop()
	r.awaitExpiry()
	var clients sync.WaitGroup
	var passed, later atomic.Int64
	for range 20 {
		clients.Go(func() {
			p, l := r.askUntil(t, func(curl.Result) bool { return len(r.rec.PresentationsOf(r.token)) > 0 })
			passed.Add(int64(p))
			later.Add(int64(l))
		})
	}
	clients.Wait()
	if later.Load() == 0 {
		t.Errorf("nobody was told to come again, and %d were let in", passed.Load())
	}
	r.wantGoesOn(t)
	r.wantPresented(t, 1)
}

// refreshTrouble is what a provider does to the nth refresh, from 1, in words:
// nil is what it should.
type refreshTrouble struct {
	name   string
	answer func(s *stage, n int, r *http.Request) *record.Answer
	lose   bool   // the provider's first answer, to which it has rotated the token
	reason string // why the session is over; empty where it goes on
	// presented is how often the first refresh token comes; the second time no
	// sooner than after.
	presented int
	after     time.Duration
}

// answerFirst answers the first refresh in place of the provider.
func answerFirst(status int, body string, header ...string) func(*stage, int, *http.Request) *record.Answer {
	return func(_ *stage, n int, _ *http.Request) *record.Answer {
		if n > 1 {
			return nil
		}
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &record.Answer{Status: status, Header: h, Body: []byte(body)}
	}
}

// resetFirst cuts the connection of the first so many refreshes before the provider
// has seen them.
func resetFirst(times int) func(*stage, int, *http.Request) *record.Answer {
	return func(s *stage, n int, r *http.Request) *record.Answer {
		if n > times {
			return nil
		}
		s.rec.Down(true)
		s.rec.Down(false)
		<-r.Context().Done()
		return &record.Answer{}
	}
}

// silentFirst leaves the first refresh without an answer.
func silentFirst(_ *stage, n int, r *http.Request) *record.Answer {
	if n > 1 {
		return nil
	}
	<-r.Context().Done()
	return &record.Answer{}
}

const sorry = "<!DOCTYPE html><title>Sorry</title><p>We will be back"

var refreshTroubles = []refreshTrouble{
	{name: "invalid_grant", answer: answerFirst(400, `{"error":"invalid_grant"}`), reason: "refused", presented: 1},
	{name: "500", answer: answerFirst(500, `{"error":"server_error"}`), presented: 2},
	{name: "429", answer: answerFirst(429, `{}`, "Retry-After", "3"), presented: 2, after: 3 * time.Second},
	{name: "HTML with 200", answer: answerFirst(200, sorry, "Content-Type", "text/html"), presented: 2},
	{name: "HTML with 502", answer: answerFirst(502, sorry, "Content-Type", "text/html"), presented: 2},
	{name: "no answer", answer: silentFirst, presented: 2},
	{name: "a reset", answer: resetFirst(1), presented: 2},
	{name: "two resets", answer: resetFirst(2), reason: "refresh_lost", presented: 2},
	{name: "a lost answer", lose: true, reason: "refresh_lost", presented: 2},
}

func TestRefreshTroubles(t *testing.T) {
	t.Parallel()
	for _, row := range refreshTroubles {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, plan{tokenLife: 4 * time.Second})
			var n, lost atomic.Int32
			if row.answer != nil {
				s.rec.RewriteWith(func(r *http.Request) *record.Answer {
					if !isRefresh(r) {
						return nil
					}
					return row.answer(s, int(n.Add(1)), r)
				})
			}
			s.rec.LoseAnswers(func(r *http.Request) bool { return row.lose && isRefresh(r) && lost.Add(1) == 1 })
			row.check(t, s.signInShort(t))
		})
	}
}

func (row refreshTrouble) check(t *testing.T, r *refreshed) {
	if row.reason == "" {
		r.askUntil(t, func(curl.Result) bool { return len(r.rec.PresentationsOf(r.token)) == row.presented })
		r.wantGoesOn(t)
	} else {
		r.askUntil(t, func(got curl.Result) bool { return got.Status == http.StatusUnauthorized })
		r.wantOver(t, r.key, row.reason)
	}
	r.wantPresented(t, row.presented)
	if row.after == 0 {
		return
	}
	if p := r.rec.PresentationsOf(r.token); p[1].Start.Sub(p[0].End) < row.after {
		t.Errorf("the second refresh came after %v", p[1].Start.Sub(p[0].End))
	}
}

// TestRefreshProviderAway: nothing can be sent until the access token is over;
// then the provider is back.
func TestRefreshProviderAway(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{tokenLife: 5 * time.Second, caddyfile: oneSite(deviceAuth("", manyStarts, "idp_timeout 3s"))})
	r := s.signInShort(t)
	s.rec.Refuse(t, true)
	if passed, _ := r.askUntil(t, func(got curl.Result) bool { return got.Status == http.StatusServiceUnavailable }); passed == 0 || time.Now().Before(r.expires) {
		t.Errorf("%d requests were let in, %v before the access token's end", passed, time.Until(r.expires))
	}
	wantComeAgain(t, r.ask(t))
	got := s.get(t, "/", "-b", cookie(r.key), "-H", asJSON)
	wantComeAgain(t, got)
	s.rec.Refuse(t, false)
	r.askUntil(t, func(got curl.Result) bool { return got.Status == http.StatusOK })
	r.wantGoesOn(t)
	r.wantPresented(t, 1)
}

// TestRefreshWithoutNewToken: a refresh token that the provider does not replace
// is kept (RFC 6749 §6), and no refresh asks for scopes.
func TestRefreshWithoutNewToken(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{tokenLife: 3 * time.Second, keepToken: true, refresh: func(answer map[string]any) { delete(answer, "refresh_token") }})
	var scoped atomic.Bool
	s.rec.RewriteWith(func(r *http.Request) *record.Answer {
		if isRefresh(r) && r.PostForm.Has("scope") {
			scoped.Store(true)
		}
		return nil
	})
	r := s.signInShort(t)
	s.await(t, "three refreshes", func() bool { return len(r.rec.PresentationsOf(r.token)) == 3 })
	wantStatus(t, r.ask(t), 200)
	if scoped.Load() {
		t.Error("a refresh asked for scopes")
	}
}

// TestRefreshForSomebodyElse puts the ID token of one person, with the
// provider's signature, into the answer for another.
func TestRefreshForSomebodyElse(t *testing.T) {
	t.Parallel()
	swap := &swap{}
	s := newStage(t, plan{tokenLife: 5 * time.Second, refresh: swap.answer})
	keys := map[string]*refreshed{}
	starts := map[string]answer{}
	for _, user := range []string{idpserver.Alice, idpserver.Bob} {
		a := s.startJSON(t, "/")
		s.approveWith(t, idpserver.NewPerson(t), user, a.Complete)
		starts["id-of-"+user] = a
	}
	for subject, a := range starts {
		readJSON(t, s.wait(t, a.Session), 200)
		keys[subject] = s.refreshedBy(t, a)
	}
	s.await(t, "a swapped ID token", func() bool { return swap.of() != "" })
	for subject, r := range keys {
		if subject != swap.of() {
			next := r.awaitAnswer(t, r.token)
			r.awaitAnswer(t, next.NewRefreshToken)
			wantStatus(t, r.ask(t), 200)
			continue
		}
		answered := r.awaitAnswer(t, r.token)
		r.askUntil(t, func(got curl.Result) bool { return got.Status == http.StatusUnauthorized })
		r.wantOver(t, r.key, "other_identity")
		r.wantRevoked(t, r.token, answered.NewRefreshToken)
	}
}

// swap gives the second session that is refreshed the ID token of the first.
type swap struct {
	mu      sync.Mutex
	first   string
	subject string // whose session has got the other's
}

func (s *swap) answer(answer map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine, _ := answer["id_token"].(string)
	if s.first == "" {
		s.first = mine
	} else if s.subject == "" && subjectOf(mine) != subjectOf(s.first) {
		s.subject = subjectOf(mine)
		answer["id_token"] = s.first
	}
}

func subjectOf(idToken string) string {
	parsed, err := jwt.ParseSigned(idToken, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return ""
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return ""
	}
	return claims.Subject
}

// of is the subject whose session was given another one.
func (s *swap) of() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subject
}

// wantRevoked waits until all these refresh tokens were revoked at the provider.
func (s *stage) wantRevoked(t *testing.T, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		s.await(t, "a revocation", func() bool {
			for _, e := range s.rec.Revocations() {
				if e.RefreshToken == token && e.Status == http.StatusOK {
					return true
				}
			}
			return false
		})
	}
}
