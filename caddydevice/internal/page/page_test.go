// This file tests what people and programs read, against golden files.

package page

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.UTC // clock times are the server's
	goleak.VerifyTestMain(m)
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func pending() *Answer {
	return &Answer{
		Status: Pending, Site: "api.example.com",
		Login: &Login{
			UserCode: "WDJB-MJHT", VerificationURI: "https://idp.example.com/device", VerificationURIComplete: "https://idp.example.com/device?user_code=WDJB-MJHT",
			Expires: time.Now().Add(10 * time.Minute), Interval: 5 * time.Second, Session: "dvc_KEY", Command: "curl -H 'Authorization: Bearer dvc_KEY' 'https://api.example.com/x'",
			WaitURI: "https://api.example.com/.device/wait", QRURI: "https://api.example.com/.device/qr.svg",
		},
		LoginPath: "/.device/login", LogoutPath: "/.device/logout", WaitPath: "/.device/wait", To: "/x?a=b", Reload: "/.device/login?again=1&to=%2Fx", ReloadAfter: 10 * time.Second,
	}
}

func signedIn() *Answer {
	return &Answer{
		Status: Active, Site: "api.example.com", LogoutPath: "/.device/logout",
		User: &User{Name: "alice", Subject: "u-1", Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)},
	}
}

func TestForms(t *testing.T) {
	after := func(a *Answer) *Answer {
		a.Before, a.BeforeDetail = Ended, "token_expired"
		return a
	}
	for name, make := range map[string]func() *Answer{
		"pending":       pending,
		"pending_after": func() *Answer { return after(pending()) },
		"signed_in":     signedIn,
		"denied": func() *Answer {
			return &Answer{Status: Denied, Site: "api.example.com", Detail: "declined", Button: true, LoginPath: "/.device/login", LoginURI: "https://api.example.com/.device/login", To: "/x"}
		},
		"unavailable": func() *Answer {
			return &Answer{Status: Unavailable, Site: "api.example.com", Reload: "/x", ReloadAfter: 5 * time.Second}
		},
		"pending_plain": func() *Answer {
			a := pending()
			a.Login.VerificationURIComplete, a.Login.Session, a.Login.Command, a.Login.NoQR = "", "", "", true
			return a
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := make()
				asJSON, err := a.json()
				if err != nil || !json.Valid(asJSON) {
					t.Fatalf("%v: %s", err, asJSON)
				}
				golden(t, name+".txt", a.text())
				golden(t, name+".json", asJSON)
			})
		})
	}
}

// TestMessages writes down every sentence, and wants each outcome to say what
// happened and what to do.
func TestMessages(t *testing.T) {
	var b strings.Builder
	for _, s := range slices.Sorted(maps.Keys(english.words.Messages)) {
		for _, detail := range slices.Sorted(maps.Keys(english.words.Messages[s])) {
			m := english.words.Messages[s][detail]
			fmt.Fprintf(&b, "%s %s [%s] %s: %s %s\n", s, detail, errorWords[s], m.Title, m.Text, m.Next)
			if m.Title == "" || m.Text == "" || (m.Next == "" && s != Active) {
				t.Errorf("%s %s: a part is missing", s, detail)
			}
		}
		if _, ok := english.words.Messages[s][""]; !ok {
			t.Errorf("%s has no message for other details", s)
		}
		if errorWords[s] == "" && s != Active {
			t.Errorf("%s has no error word", s)
		}
	}
	golden(t, "messages.txt", []byte(b.String()))
}

func TestNegotiate(t *testing.T) {
	for accept, want := range map[string]Format{
		"":    Text,
		"*/*": Text,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": HTML,
		"application/json":                        JSON,
		"application/json, text/plain, */*":       JSON,
		"text/plain":                              Text,
		"text/html;q=0.5, application/json":       JSON,
		"application/json;q=0.5, text/html;q=0.6": HTML,
		"text/html;q=0, */*":                      Text,
		"text/*":                                  Text,
		"image/png":                               Text,
		"TEXT/HTML":                               HTML,
		"text/html ; q=0.1":                       HTML,
		"application/json;q=junk":                 JSON,
		"application/json;q=2":                    JSON,
		"application/problem+json":                Text,
		"text/htmlx":                              Text,
		";;;,,,":                                  Text,
		"application/json;charset=utf-8;q=0.2,text/html;q=.1": JSON,
	} {
		if got := Negotiate([]string{accept}); got != want {
			t.Errorf("%q: %d, want %d", accept, got, want)
		}
	}
	if got := Negotiate([]string{"text/plain;q=0.1", "application/json"}); got != JSON {
		t.Errorf("two fields: %d", got)
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add("text/html;q=0.5, */*")
	f.Fuzz(func(t *testing.T, accept string) {
		if got := Negotiate([]string{accept}); got != Text && !Names([]string{accept}, got) {
			t.Errorf("%q: %d is chosen, but not named", accept, got)
		}
	})
}

// TestTextIsPlain: a terminal gets printable characters and line breaks, and
// no colours but the QR code's.
func TestTextIsPlain(t *testing.T) {
	text := strings.NewReplacer(blackOnWhite, "", reset, "").Replace(string(pending().text()))
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%q in the text", r)
		}
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	lines := strings.Split(string(pending().text()), "\n")
	for _, alone := range []string{"https://idp.example.com/device", "WDJB-MJHT", "curl -H 'Authorization: Bearer dvc_KEY' 'https://api.example.com/x'"} {
		if !slices.Contains(lines, alone) {
			t.Errorf("%q is not alone on a line", alone)
		}
	}
}

func TestWrite(t *testing.T) {
	for _, row := range []struct {
		name, method, accept, media, referrer string
		body                                  bool
	}{
		{"text", "GET", "*/*", "text/plain; charset=utf-8", "no-referrer", true},
		{"JSON", "GET", "application/json", "application/json", "no-referrer", true},
		{"HTML", "GET", "text/html", "text/html; charset=utf-8", "same-origin", true},
		{"HEAD", "HEAD", "text/html", "text/html; charset=utf-8", "same-origin", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), row.method, "/", nil)
			if err := pending().Write(w, r, http.StatusUnauthorized, Negotiate([]string{row.accept})); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{
				"Content-Type": row.media, "Referrer-Policy": row.referrer, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Vary": "Accept, Accept-Language",
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if (w.Body.Len() > 0) != row.body || w.Code != http.StatusUnauthorized {
				t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
			}
			policy := w.Header().Get("Content-Security-Policy")
			nonce := regexp.MustCompile(`'nonce-([A-Z2-7]{26})'`).FindStringSubmatch(policy)
			if row.media != contentTypes[HTML] {
				return
			}
			if nonce == nil || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
				t.Fatalf("policy: %s", policy)
			}
			if row.body && strings.Count(w.Body.String(), `nonce="`+nonce[1]+`"`) != 2 {
				t.Error("style and script do not carry the nonce")
			}
		})
	}
}

func TestProgressLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expires := time.Now().Add(8 * time.Minute)
		for away, want := range map[bool]string{
			false: "waiting, 8 minutes left\n",
			true:  "waiting, 8 minutes left; the identity provider does not answer at the moment\n",
		} {
			if got := english.ProgressLine(expires, away); got != want {
				t.Errorf("away %t: %q", away, got)
			}
		}
	})
}

// TestApprovedJSON: who approved has no times yet.
func TestApprovedJSON(t *testing.T) {
	got, err := (&Answer{Status: Approved, User: &User{Name: "alice"}}).json()
	if err != nil || !bytes.Contains(got, []byte(`"user":"alice"`)) || bytes.Contains(got, []byte("until")) || bytes.Contains(got, []byte("since")) {
		t.Errorf("%v: %s", err, got)
	}
}
