// The browsers that have a page of ours open: who is signed in there, and the
// token that their forms carry.

package idp

import (
	"crypto/subtle"
	"net/http"
	"sync"
	"time"
)

const (
	// Cookies do not know ports: the gate of the demo runs on the same host, so
	// the name and the path keep this one away from it (RFC 6265 §8.5).
	browserCookie = "demo_idp"
	browserLife   = time.Hour
)

// A browser is one browser's session at this server.
type browser struct {
	id       string
	csrf     string
	user     *user // nil before sign-in
	signedIn time.Time
	expires  time.Time
}

type browsers struct {
	now func() time.Time

	mu   sync.Mutex
	byID map[string]browser
}

func newBrowsers(set settings) *browsers {
	return &browsers{now: set.now, byID: make(map[string]browser)}
}

// of returns the session that r's cookie names; ok is false where there is none.
func (b *browsers) of(r *http.Request) (br browser, ok bool) {
	cookie, err := r.Cookie(browserCookie)
	if err != nil {
		return browser{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	br, ok = b.byID[cookie.Value]
	if !ok || expired(b.now(), br.expires) {
		return browser{}, false
	}
	return br, true
}

// start makes a new session with u signed in, or nobody where u is nil, and
// ends the one that was. A new id at each change of user means that an id
// planted before sign-in is worth nothing after it.
func (b *browsers) start(w http.ResponseWriter, old browser, u *user) browser {
	now := b.now()
	br := browser{id: secret(), csrf: secret(), user: u, signedIn: now, expires: now.Add(browserLife)}

	b.mu.Lock()
	delete(b.byID, old.id)
	for id, other := range b.byID {
		if expired(now, other.expires) {
			delete(b.byID, id)
		}
	}
	b.byID[br.id] = br
	b.mu.Unlock()

	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: plain HTTP on loopback, where Secure cannot be
		Name: browserCookie, Value: br.id, Path: pathPages, MaxAge: int(browserLife / time.Second),
		// Lax and not Strict: the person comes here by a link on the gate's page.
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return br
}

// owns reports whether a posted form came from a page of this session.
func (br browser) owns(formToken string) bool {
	return subtle.ConstantTimeCompare([]byte(br.csrf), []byte(formToken)) == 1
}
