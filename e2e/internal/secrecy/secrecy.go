// Package secrecy searches logs for secrets that were seen during a run.
package secrecy

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/record"
)

// minLength keeps short values from being found by chance.
const minLength = 8

// sessionKey is what a session key looks like, whether a test has seen it or not.
var sessionKey = regexp.MustCompile(`dvc_[A-Za-z0-9_-]{43}`)

// Canaries are the secrets of one run. The values are never printed.
type Canaries struct {
	mu    sync.Mutex
	kinds map[string]string // secret to kind
}

// New returns an empty collection.
func New() *Canaries { return &Canaries{kinds: map[string]string{}} }

// Add takes secrets of one kind; an empty one is left out, and one too short
// to search for is a mistake of the test.
func (c *Canaries) Add(t testing.TB, kind string, secrets ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range secrets {
		if s == "" {
			continue
		}
		if len(s) < minLength {
			t.Fatalf("a %s of %d characters is too short to search for", kind, len(s))
		}
		c.kinds[s] = kind
	}
}

// AddText takes all session keys that stand in a text: a body, a header, a
// cookie.
func (c *Canaries) AddText(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		c.Add(t, "session key", sessionKey.FindAllString(text, -1)...)
	}
}

// AddRecord takes what the recorder has seen: client secrets, device codes,
// user codes, tokens.
func (c *Canaries) AddRecord(t testing.TB, r *record.Recorder) {
	t.Helper()
	for kind, secrets := range r.Secrets() {
		c.Add(t, kind, secrets...)
	}
}

// Len is the number of secrets: a test that has collected none has searched
// for nothing.
func (c *Canaries) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.kinds)
}

// Check fails the test for each secret that stands in the log, plainly or in a
// usual encoding, and for anything that looks like a session key. The name
// says whose log it is.
func (c *Canaries) Check(t testing.TB, name, log string) {
	t.Helper()
	if c.Len() == 0 {
		t.Error("no secrets were collected: the search would prove nothing")
	}
	for _, found := range c.Search(log) {
		t.Errorf("the log of %s holds %s", name, found)
	}
}

// Search describes the first finding of each secret, by line and kind.
func (c *Canaries) Search(log string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for secret, kind := range c.kinds {
		for form, written := range Forms(secret) {
			if at := strings.Index(log, written); at >= 0 {
				found = append(found, fmt.Sprintf("a %s (%s) in line %d", kind, form, lineOf(log, at)))
				break
			}
		}
	}
	for _, at := range sessionKey.FindAllStringIndex(log, -1) {
		if c.kinds[log[at[0]:at[1]]] == "" {
			found = append(found, fmt.Sprintf("what looks like a session key in line %d", lineOf(log, at[0])))
		}
	}
	return found
}

func lineOf(log string, at int) int { return strings.Count(log[:at], "\n") + 1 }

// Forms are the ways in which a secret may be written.
func Forms(secret string) map[string]string {
	quoted, err := json.Marshal(secret)
	if err != nil {
		quoted = []byte(secret) // strings always marshal
	}
	return map[string]string{
		"plain":       secret,
		"URL-encoded": url.QueryEscape(secret),
		"JSON":        strings.Trim(string(quoted), `"`),
		"base64":      base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64url":   base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"hex":         hex.EncodeToString([]byte(secret)),
	}
}
