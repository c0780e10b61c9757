// This file follows a session's refresh tokens through the record, and asks
// with it while its refreshes are in trouble.
package e2e

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/record"
)

// past is how long after an access token's end nobody can think that it is
// still good.
const past = 300 * time.Millisecond

func isRefresh(r *http.Request) bool { return r.PostForm.Get("grant_type") == "refresh_token" }

// refreshed is a signed-in terminal whose tokens are soon to be refreshed.
type refreshed struct {
	*stage
	key     string
	token   string    // hash of its first refresh token
	expires time.Time // of its first access token
}

// signInShort signs in where access tokens live for a short time.
func (s *stage) signInShort(t *testing.T) *refreshed {
	t.Helper()
	a := s.startJSON(t, "/")
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	return s.refreshedBy(t, a)
}

// refreshedBy is the session of a sign-in that was approved.
func (s *stage) refreshedBy(t *testing.T, a answer) *refreshed {
	t.Helper()
	polls := s.polls(t, a.UserCode)
	last := polls[len(polls)-1]
	if last.NewRefreshToken == "" {
		t.Fatal("the provider gave no refresh token")
	}
	return &refreshed{stage: s, key: a.Session, token: last.NewRefreshToken, expires: last.End.Add(s.tokenLife)}
}

// awaitExpiry waits until the first access token is over.
func (r *refreshed) awaitExpiry() { r.letPass(time.Until(r.expires) + past) }

// awaitAnswer waits for an answer with tokens to a refresh with that refresh
// token.
func (s *stage) awaitAnswer(t *testing.T, token string) record.Entry {
	t.Helper()
	var answered record.Entry
	s.await(t, "a refresh", func() bool {
		for _, e := range s.rec.PresentationsOf(token) {
			if e.Status == http.StatusOK && e.NewRefreshToken != "" {
				answered = e
				return true
			}
		}
		return false
	})
	return answered
}

// wantPresented fails unless the session's first refresh token was presented
// that many times.
func (r *refreshed) wantPresented(t *testing.T, n int) {
	t.Helper()
	if got := r.rec.PresentationsOf(r.token); len(got) != n {
		t.Errorf("a refresh token was presented %d times, want %d: %+v", len(got), n, got)
	}
}

// ask is one request of the session's.
func (r *refreshed) ask(t *testing.T) curl.Result {
	t.Helper()
	return r.get(t, "/", "-H", bearer(r.key), "-H", asJSON)
}

// wantGoesOn fails unless the session lives through the refresh after the next
// one, too.
func (r *refreshed) wantGoesOn(t *testing.T) {
	t.Helper()
	next := r.awaitAnswer(t, r.token)
	r.awaitAnswer(t, next.NewRefreshToken)
	got := r.ask(t)
	wantStatus(t, got, 200)
	wantAlice(t, echo(t, got.Body))
}

// askUntil asks as a client does that has nothing better to do, until done. In
// between it is let in, or told to come again.
func (r *refreshed) askUntil(t *testing.T, done func(curl.Result) bool) (passed, later int) {
	t.Helper()
	for {
		got := r.ask(t)
		if done(got) {
			return passed, later
		}
		switch got.Status {
		case http.StatusOK:
			passed++
		case http.StatusServiceUnavailable:
			later++
			wantComeAgain(t, got)
		default:
			t.Fatalf("status %d: %v\n%s", got.Status, got.Header, got.Body)
		}
		r.letPass(10 * look)
		if r.ctx.Err() != nil {
			t.Fatal(r.ctx.Err())
		}
	}
}

// wantComeAgain fails unless an answer is 503, says when to come again, and
// leaves the cookie alone.
func wantComeAgain(t *testing.T, got curl.Result) {
	t.Helper()
	if a := readJSON(t, got, 503); a.Status != "unavailable" || a.UserCode != "" {
		t.Errorf("%+v", a)
	}
	if n, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || n < 1 {
		t.Errorf("Retry-After: %q", got.Header.Get("Retry-After"))
	}
	if got.Header.Get("Set-Cookie") != "" {
		t.Error("the cookie was touched")
	}
}

// wantOver fails unless the session is over for that reason: a bearer is
// refused, and who has the key in a jar gets a new code.
func (s *stage) wantOver(t *testing.T, key, reason string) {
	t.Helper()
	got := s.get(t, "/over", "-H", bearer(key), "-H", asJSON)
	wantInvalidToken(t, got, reason)
	if a := readJSON(t, got, 401); a.Status != "ended" || a.Error != "session_ended" {
		t.Errorf("%+v", a)
	}
	next := s.json(t, 401, "/over", "-b", cookie(key))
	if next.Reason != reason || next.UserCode == "" {
		t.Errorf("the client with a jar is told %+v", next)
	}
	if n := len(s.upstreamSaw("/over")); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
