// This file shows what people see while the place where sessions are kept is of
// no use: 503 that says so, nothing half done, and all as before once the
// ground is good again. TestProviderAway is the same for the provider.
package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/gate"
)

// ground is one way in which the database cannot be used.
type ground struct {
	// spoil makes it so while no gateway runs, and returns what undoes it.
	spoil func(t *testing.T, database string) (heal func())
	words string // what the log tells the operator to do
}

var grounds = map[string]ground{
	"a file where its directory should be": {fileForDirectory, "see that there is space and that Caddy's user may write there, or give another path (store bolt <path>)"},
	"in use by another process":            {locked, "only one Caddy can use it; stop the other one, or give this one its own path (store bolt <path>)"},
	"damaged":                              {garbage, "is damaged: move it away, and everybody signs in anew"},
}

// fileForDirectory: the tests run as root, whom no permission keeps out.
func fileForDirectory(t *testing.T, database string) func() {
	t.Helper()
	dir, aside := filepath.Dir(database), filepath.Join(t.TempDir(), "aside")
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.Rename(dir, aside))
	must(t, os.WriteFile(dir, []byte("no directory"), 0o600))
	return func() {
		must(t, os.Remove(dir))
		must(t, os.Rename(aside, dir))
	}
}

func locked(t *testing.T, database string) func() {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(database), 0o700))
	db, err := bbolt.Open(database, 0o600, &bbolt.Options{Timeout: time.Second})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return func() { must(t, db.Close()) }
}

func garbage(t *testing.T, database string) func() {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(database), 0o700))
	whole, err := os.ReadFile(database)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	must(t, os.WriteFile(database, []byte(strings.Repeat("no database ", 4096)), 0o600))
	return func() {
		must(t, os.Remove(database))
		if whole != nil {
			must(t, os.WriteFile(database, whole, 0o600))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBadGroundAtFirst is a gateway that never had a good one.
func TestBadGroundAtFirst(t *testing.T) {
	t.Parallel()
	for name, g := range grounds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			heal := g.spoil(t, filepath.Join(home, "data", "caddy", "device_auth", "sessions.db"))
			s := newStage(t, plan{caddyfile: twoSites(), home: home})
			s.wantStoreAway(t, g.words)
			heal()
			s.await(t, "a sign-in", func() bool { return s.get(t, "/").Status == 401 })
			s.signIn(t)
			s.wantPrivate(t)
		})
	}
}

// TestBadGroundLater is one whose sessions are there, and out of reach.
func TestBadGroundLater(t *testing.T) {
	t.Parallel()
	for name, g := range grounds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, plan{caddyfile: twoSites()})
			active, pending, w := s.signIn(t), s.startJSON(t, "/pending"), s.signedInWindow(t, "/page")
			key := w.key(t)
			s.gate.Kill()
			heal := g.spoil(t, s.databaseOf())
			s.gate.StartAgain(t)

			s.wantStoreAway(t, g.words)
			for _, credential := range [][]string{{"-H", bearer(active)}, {"-b", cookie(active)}, {"-H", bearer(pending.Session)}} {
				s.wantWait(t, s.get(t, "/", credential...))
			}
			// What cannot be written down must not be said to have happened.
			s.wantWait(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(active)))
			w.open(t, "/page", browser.Typed)
			w.wantReload(t, "/page")
			if w.key(t) != key {
				t.Error("the window's cookie was touched")
			}

			heal()
			s.await(t, "the sessions of before", func() bool { return s.get(t, "/", "-H", bearer(active)).Status == 200 })
			w.page = w.FollowRefresh(s.ctx, t, w.page)
			w.want(t, 200)
			s.wantLiving(t, active, pending, w)
		})
	}
}

// wantStoreAway fails unless whoever is not signed in is told to wait, in every
// form, nothing is begun, the other site serves, and the log says what to do.
func (s *stage) wantStoreAway(t *testing.T, words string) {
	t.Helper()
	before, since := len(s.rec.Starts()), time.Now()
	for range 20 {
		got := s.get(t, "/")
		s.wantWait(t, got)
		if !strings.Contains(strings.Join(strings.Fields(got.Body), " "), "Nobody is signed out by this.") || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/plain") {
			t.Fatalf("the text says\n%s", got.Body)
		}
	}
	s.wantUnavailable(t) // JSON, and the other site
	s.wantWait(t, s.get(t, "/.device/login"))
	w := s.newWindow(t)
	w.open(t, "/page?x=1", browser.Typed)
	w.wantReload(t, "/page?x=1")
	if n := len(s.rec.Starts()) - before; n != 0 {
		t.Errorf("%d sign-ins were started that nobody is shown", n)
	}
	s.wantSaidOnce(t, "request cannot be decided", words, since)
}

// wantSaidOnce fails unless the log says the words, and not for every request.
func (s *stage) wantSaidOnce(t *testing.T, message, words string, since time.Time) {
	t.Helper()
	// the first three, to show that it stays so, and one every ten seconds
	most := 3 + int(time.Since(since)/(10*time.Second)) + 1
	said := 0
	for _, r := range s.gate.Log() {
		if r["msg"] != message {
			continue
		}
		said++
		if text, _ := r["error"].(string); !strings.Contains(text, words) {
			t.Errorf("the log says %q, without %q", text, words)
		}
	}
	if said == 0 || said > most {
		t.Errorf("the log says it %d times, at most %d are of use", said, most)
	}
}

// wantWait fails unless the answer is 503, says when to come back, and touches
// no cookie.
func (s *stage) wantWait(t *testing.T, got curl.Result) {
	t.Helper()
	wantStatus(t, got, 503)
	if got.Header.Get("Retry-After") == "" || got.Header.Get("Set-Cookie") != "" {
		t.Errorf("%v", got.Header)
	}
	wantOurs(t, got.Header)
}

// wantReload fails unless the page is the same for a person, and loads itself.
func (w *window) wantReload(t *testing.T, path string) {
	t.Helper()
	w.want(t, 503)
	refresh := w.page.HTML.Refresh
	if refresh == nil || refresh.URL.RequestURI() != path || refresh.After > time.Minute {
		t.Errorf("the page loads itself %+v", refresh)
	}
	if w.page.Header.Get("Retry-After") == "" || w.page.Header.Get("Set-Cookie") != "" {
		t.Errorf("%v", w.page.Header)
	}
}

// TestTwoGatesOneDatabase: the second says that there is a first, and takes over
// when that is gone.
func TestTwoGatesOneDatabase(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: twoSites()})
	active, pending, w := s.signIn(t), s.startJSON(t, "/pending"), s.signedInWindow(t, "/page")
	second := *s
	second.gate = gate.Start(t, gate.Options{Caddyfile: twoSites(), Home: s.gate.Home, Env: map[string]string{
		"ISSUER": s.rec.URL(), "UPSTREAM": s.up.Addr(),
	}})
	second.url = second.gate.URL()
	second.wantStoreAway(t, grounds["in use by another process"].words)
	second.wantWait(t, second.get(t, "/", "-H", bearer(active)))
	s.wantLiving(t, active, pending, w)

	s.gate.Stop(t)
	second.await(t, "the second gateway", func() bool { return second.get(t, "/", "-H", bearer(active)).Status == 200 })
	second.signIn(t)
	s.canaries.Check(t, "the second gateway", second.gate.LogText())
}

// TestValidateBesideServer: an operator checks the next configuration while the
// present one serves.
func TestValidateBesideServer(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	active := s.signIn(t)
	// Who opens the file takes wider permissions back: so an opening is seen,
	// be it one that then fails for the lock.
	must(t, os.Chmod(s.databaseOf(), 0o640))
	before, err := os.Stat(s.databaseOf())
	must(t, err)
	env := map[string]string{"ISSUER": s.rec.URL(), "UPSTREAM": s.up.Addr()}
	out, err := gate.Validate(t, gate.Options{Caddyfile: oneSite(deviceAuth("", manyStarts)), Env: env, Home: s.gate.Home})
	if err != nil || !strings.Contains(out, "Valid configuration") {
		t.Errorf("%v\n%s", err, out)
	}
	after, err := os.Stat(s.databaseOf())
	must(t, err)
	if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) || after.Mode() != before.Mode() {
		t.Errorf("the database was opened: mode %v", after.Mode())
	}
	wantStatus(t, s.get(t, "/", "-H", bearer(active)), 200)
	s.signIn(t)

	// A place that could not be opened is none of validate's business: it
	// opens nothing.
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	env["DB"] = filepath.Join(file, "sessions.db")
	if out, err := gate.Validate(t, gate.Options{Caddyfile: storeAt() + oneSite(deviceAuth("")), Env: env}); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// storeAt is the global option that puts the database at {$DB}.
func storeAt() string { return "{\ndevice_auth {\nstore bolt {$DB}\n}\n}\n" }
