// This file shows that a copy of the session database gives nothing: no byte
// string in it is a credential, and no secret of anybody can be read there.
package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/secrecy"
)

// databaseOf is the gateway's session database.
func (s *stage) databaseOf() string {
	return filepath.Join(s.gate.Home, "data", "caddy", "device_auth", "sessions.db")
}

// copyDatabase kills the gateway, as a crash would, keeps the file as it is
// then, and starts the gateway again.
func (s *stage) copyDatabase(t *testing.T) string {
	t.Helper()
	s.gate.Kill()
	raw, err := os.ReadFile(s.databaseOf())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s.gate.StartAgain(t)
	return file
}

// stolen is one entry of the copy.
type stolen struct {
	bucket     string
	key, value []byte
}

// readAll walks all buckets of a database, and those within them.
func readAll(t *testing.T, file string) []stolen {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all []stolen
	var walk func(name string, b *bbolt.Bucket) error
	walk = func(name string, b *bbolt.Bucket) error {
		return b.ForEach(func(key, value []byte) error {
			if inner := b.Bucket(key); value == nil && inner != nil {
				return walk(name+"/"+string(key), inner)
			}
			all = append(all, stolen{name, slices.Clone(key), slices.Clone(value)})
			return nil
		})
	}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return walk(string(name), b) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// household are sessions in every state that there is.
type household struct {
	pending, active, other, signedOut, declined, expired string // terminal keys
	windowPending, windowOld                             string // browser keys; the old one was claimed
	window                                               *window
}

// keepHouse has all of them made.
func (s *stage) keepHouse(t *testing.T) household {
	t.Helper()
	var h household
	h.expired = s.startJSON(t, "/").Session // the plan gives this one a short life
	if got := s.wait(t, h.expired); got.Status != 410 {
		t.Fatalf("the first sign-in ended with status %d", got.Status)
	}
	h.active, h.signedOut, h.other = s.signIn(t), s.signIn(t), s.signInBob(t)
	wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(h.signedOut)), 204)
	declined := s.startJSON(t, "/")
	if err := idpserver.NewPerson(t).Deny(s.ctx, idpserver.Device{Complete: declined.Complete}, idpserver.Alice, idpserver.AlicePassword); err != nil {
		t.Fatal(err)
	}
	if got := s.wait(t, declined.Session); got.Status != 403 {
		t.Fatalf("a declined sign-in ended with status %d", got.Status)
	}
	h.declined = declined.Session
	h.window = s.newWindow(t)
	h.window.open(t, "/page", browser.Typed)
	h.windowOld = h.window.key(t)
	s.approve(t, s.code(t, h.window.code(t)).complete)
	h.window.awaitEnd(t, browser.Script)
	h.window.goTo(t, "/page", browser.Reload)
	h.window.want(t, 303)
	h.window.follow(t)
	h.window.want(t, 200)
	waiting := s.newWindow(t)
	waiting.open(t, "/page", browser.Typed)
	h.windowPending = waiting.key(t)
	last := s.startJSON(t, "/")
	h.pending = last.Session
	s.awaitPolls(t, last.UserCode, 1)
	return h
}

func (s *stage) signInBob(t *testing.T) string {
	t.Helper()
	a := s.startJSON(t, "/")
	if err := idpserver.NewPerson(t).Approve(s.ctx, idpserver.Device{Complete: a.Complete}, idpserver.Bob, idpserver.BobPassword); err != nil {
		t.Fatal(err)
	}
	if got := readJSON(t, s.wait(t, a.Session), 200); got.User != "bob" {
		t.Fatalf("%+v", got)
	}
	return a.Session
}

// confidential is a site whose client has a secret.
func confidential() string {
	return strings.Replace(oneSite(deviceAuth("", "client_secret {env.SECRET}", manyStarts)), idpserver.PublicClient, idpserver.BasicClient, 1)
}

// firstExpires gives the first sign-in a life of seconds.
func firstExpires(n int, answer map[string]any) {
	if n == 1 {
		answer["expires_in"] = 3
	}
}

func TestDatabaseCopy(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: confidential(), answer: firstExpires})
	h := s.keepHouse(t)
	file := s.copyDatabase(t)
	t.Run("is for its owner alone", func(t *testing.T) { s.wantPrivate(t) })
	t.Run("holds no secret", func(t *testing.T) { s.wantNoSecrets(t, file) })
	t.Run("opens nothing", func(t *testing.T) { s.wantNoCredentials(t, readAll(t, file), h) })
	// Those whom the keys belong to were not disturbed, by the crash or since.
	wantAlice(t, echo(t, s.get(t, "/", "-H", bearer(h.active)).Body))
	h.window.open(t, "/page", browser.Typed)
	h.window.want(t, 200)
	if a := s.json(t, 401, "/", "-H", bearer(h.pending)); a.Status != "pending" {
		t.Errorf("%+v", a)
	}
}

// wantPrivate fails unless only the gateway's user can read the database.
func (s *stage) wantPrivate(t *testing.T) {
	t.Helper()
	for path, mode := range map[string]fs.FileMode{s.databaseOf(): 0o600, filepath.Dir(s.databaseOf()): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode().Perm(), mode)
		}
	}
}

// wantNoSecrets searches the whole file, pages that are free again included,
// and whatever in it can be decoded.
func (s *stage) wantNoSecrets(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, run := range printable(raw) {
		for _, decoded := range decodings(run) {
			text += "\n" + string(decoded)
		}
	}
	// Back-channel logout finds a session by it, and an operator a person: it
	// is in the clear on purpose, and "alice" must not be found in it.
	const subject = "id-of-alice"
	if !strings.Contains(text, subject) {
		t.Error("the subject is not there: this is not the database of these sessions")
	}
	text = strings.NewReplacer(subject, "", "id-of-bob", "").Replace(text)
	s.canaries.AddRecord(t, s.rec)
	s.canaries.Add(t, "client secret", s.idp.Secret)
	for kind, least := range map[string]int{
		"client secret": 1, "device code": 6, "code verifier": 6, "user code": 6, "access token": 4, "ID token": 4, "refresh token": 4,
	} {
		if n := len(s.rec.Secrets()[kind]); n < least {
			t.Errorf("only %d of kind %s were seen: the search would prove too little", n, kind)
		}
	}
	for _, found := range s.canaries.Search(text) {
		t.Errorf("the database holds %s", found)
	}
	for name, values := range s.claims(t) {
		for _, value := range values {
			for form, written := range secrecy.Forms(value) {
				if strings.Contains(text, written) {
					t.Errorf("the database holds the claim %s (%s)", name, form)
				}
			}
		}
	}
}

// inTheClear are claims that say who, where the record is to be found by them,
// or nothing about anybody.
var inTheClear = []string{"sub", "iss", "aud", "azp", "acr"}

// claims are the texts in the ID tokens that the provider issued, and what it
// knows of the accounts besides.
func (s *stage) claims(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{"password": {idpserver.AlicePassword, idpserver.BobPassword}}
	for _, token := range s.rec.Secrets()["ID token"] {
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			continue
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(claims, func(name string, _ any) bool { return slices.Contains(inTheClear, name) })
		for name, value := range claims {
			all[name] = append(all[name], texts(value)...)
		}
	}
	for _, name := range []string{"name", "email", "preferred_username", "groups"} {
		if len(all[name]) < 2 {
			t.Errorf("the ID tokens have no %s: the search would prove too little", name)
		}
	}
	return all
}

// texts are the strings in a JSON value.
func texts(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, inner := range v {
			all = append(all, texts(inner)...)
		}
		return all
	case map[string]any:
		return texts(slices.Collect(maps.Values(v)))
	case float64, bool, nil:
		return nil // times are in the clear, and a truth value tells nothing
	}
	return []string{fmt.Sprint(value)}
}
