// This file shows what a sign-out leaves at the provider, and that a session
// which is not used ends, but not under an open request.
package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/record"
)

// signOutTrouble is what keeps the provider from revoking at once, until it is
// over.
type signOutTrouble struct {
	name  string
	begin func(t *testing.T, s *stage) (over func())
}

var signOutTroubles = []signOutTrouble{
	{"none", func(*testing.T, *stage) func() { return func() {} }},
	{"the provider is away", func(t *testing.T, s *stage) func() {
		s.rec.Refuse(t, true)
		return func() { s.rec.Refuse(t, false) }
	}},
	{"the provider does not answer", func(_ *testing.T, s *stage) func() {
		held := make(chan struct{})
		s.rec.RewriteWith(func(r *http.Request) *record.Answer {
			if r.PostForm.Has("token") {
				select {
				case <-held:
				case <-r.Context().Done():
				}
			}
			return nil
		})
		return func() { close(held) }
	}},
	{"the provider has an error", func(_ *testing.T, s *stage) func() {
		s.rec.RewriteWith(func(r *http.Request) *record.Answer {
			if r.PostForm.Has("token") {
				return &record.Answer{Status: http.StatusServiceUnavailable}
			}
			return nil
		})
		return func() { s.rec.RewriteWith(nil) }
	}},
}

// TestSignOutRevokes: the session is over here at once, and at the provider as
// soon as that can be told: its present refresh token is good for nothing.
func TestSignOutRevokes(t *testing.T) {
	t.Parallel()
	for _, trouble := range signOutTroubles {
		t.Run(trouble.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, plan{tokenLife: 8 * time.Second})
			r := s.signInShort(t)
			token := r.awaitAnswer(t, r.token).NewRefreshToken
			over := trouble.begin(t, s)
			asked := time.Now()
			wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(r.key)), 204)
			if took := time.Since(asked); took > cutWithin {
				t.Errorf("the sign-out took %v", took)
			}
			wantInvalidToken(t, s.get(t, "/over", "-H", bearer(r.key), "-H", asJSON), "signed_out")
			over()
			s.wantRevoked(t, token)
			if word := s.refreshWith(t, token); word != "invalid_grant" {
				t.Errorf("the provider says %q to the token that was revoked", word)
			}
			r.wantPresented(t, 1)
		})
	}
}

// refreshWith presents a refresh token at the provider, and returns the error.
func (s *stage) refreshWith(t *testing.T, hash string) string {
	t.Helper()
	all := s.rec.Secrets()["refresh token"]
	i := slices.IndexFunc(all, func(token string) bool { return record.Hash(token) == hash })
	if i < 0 {
		t.Fatal("the provider never gave that refresh token")
	}
	resp, err := http.PostForm(s.idp.URL()+"/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {idpserver.PublicClient}, "refresh_token": {all[i]}})
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a.Error
}

// idle is after how long without a request a session ends in TestIdle.
const idle = 4 * time.Second

// TestIdle: an open request is use of the session, for as long as it is open.
func TestIdle(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{tokenLife: 3 * time.Second, caddyfile: oneSite(deviceAuth("", manyStarts, "session {\nidle "+idle.String()+"\n}"))})
	s.up.AnswerWith(func(w http.ResponseWriter, r *http.Request) { grow(w, r, "more\n") })
	r := s.signInShort(t)
	ctx, hangUp := context.WithCancel(s.ctx)
	defer hangUp()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	resp := do(t, transport, req)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		io.Copy(io.Discard, resp.Body) //nolint:errcheck // that it ends is what counts
	}()
	s.letPass(3 * idle)
	select {
	case <-closed:
		t.Fatal("the session ended under an open request")
	default:
	}
	hangUp()
	<-closed
	s.up.AnswerWith(nil)
	wantStatus(t, r.ask(t), 200)
	s.letPass(idle + cutWithin)
	s.wantOver(t, r.key, "idle")
}
