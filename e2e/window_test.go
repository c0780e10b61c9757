// This file is the browser's side: the page with the code, and what its script
// and its refresh would do.
package e2e

import (
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

// window is a browser with one page open.
type window struct {
	*browser.Browser
	s    *stage
	page *browser.Page
}

func (s *stage) newWindow(t *testing.T, trustFiles ...string) *window {
	t.Helper()
	return &window{Browser: browser.New(t, trustFiles...), s: s}
}

// open goes to a path of the first site, or to a whole address.
func (w *window) open(t *testing.T, address string, f browser.Fetch) *browser.Page {
	t.Helper()
	if strings.HasPrefix(address, "/") {
		address = w.s.url + address
	}
	w.page = w.Open(w.s.ctx, t, address, f)
	w.note(t)
	return w.page
}

// follow goes where the page's redirect leads.
func (w *window) follow(t *testing.T) *browser.Page {
	t.Helper()
	w.page = w.FollowRedirect(w.s.ctx, t, w.page)
	w.note(t)
	return w.page
}

func (w *window) note(t *testing.T) {
	t.Helper()
	w.s.canaries.AddText(t, w.page.Header.Get("Set-Cookie"))
}

// key is what the browser would send to the page.
func (w *window) key(t *testing.T) string {
	t.Helper()
	return w.Cookie(t, w.page.URL.String(), ourCookie)
}

// want fails unless the page has that status.
func (w *window) want(t *testing.T, status int) {
	t.Helper()
	if w.page.Status != status {
		t.Fatalf("%s: status %d, want %d\n%v\n%s", w.page.URL, w.page.Status, status, w.page.Header, w.page.Body)
	}
}

var pageCode = regexp.MustCompile(`<span class="code [^>]*>([A-Z-]+)</span>`)

// code is the user code that the page shows; the test fails where it shows
// none, or is not made as every page of ours.
func (w *window) code(t *testing.T) string {
	t.Helper()
	found := pageCode.FindStringSubmatch(w.page.Body)
	if found == nil {
		t.Fatalf("no code at %s: status %d\n%s", w.page.URL, w.page.Status, w.page.Body)
	}
	wantOurs(t, w.page.Header)
	policy := w.page.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "nonce-"} {
		if !strings.Contains(policy, part) {
			t.Errorf("Content-Security-Policy %q has no %s", policy, part)
		}
	}
	if strings.Contains(w.page.Body, "dvc_") {
		t.Error("the page holds a session key")
	}
	return found[1]
}

var (
	mainTag  = regexp.MustCompile(`<main [^>]*>`)
	toField  = regexp.MustCompile(`name="to" value="([^"]*)"`)
	mainData = regexp.MustCompile(` data-(wait-url|reload-url)="([^"]*)"`)
)

// script returns what the page's script is given, and where the page's form
// says that the person was going.
func (w *window) script(t *testing.T) (wait, to, reload string) {
	t.Helper()
	given := map[string]string{}
	for _, found := range mainData.FindAllStringSubmatch(mainTag.FindString(w.page.Body), -1) {
		given[found[1]] = html.UnescapeString(found[2])
	}
	going := toField.FindStringSubmatch(w.page.Body)
	if len(given) != 2 || going == nil {
		t.Fatalf("the page's script is not as it was:\n%s", w.page.Body)
	}
	return given["wait-url"], html.UnescapeString(going[1]), given["reload-url"]
}

// askWait does what the page's script does: GET wait with the cookie.
func (w *window) askWait(t *testing.T, timeout string, f browser.Fetch) (*browser.Page, answer) {
	t.Helper()
	path, _, _ := w.script(t)
	address, err := w.page.URL.Parse(path + "?timeout=" + timeout)
	if err != nil {
		t.Fatal(err)
	}
	req := w.NewRequest(w.s.ctx, t, "GET", address.String(), "", f)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Referer", w.page.URL.String())
	got := w.Do(t, req)
	var a answer
	if err := json.Unmarshal([]byte(got.Body), &a); err != nil {
		t.Fatalf("%v: %s", err, got.Body)
	}
	return got, a
}

// awaitEnd asks until the sign-in is decided.
func (w *window) awaitEnd(t *testing.T, f browser.Fetch) (*browser.Page, answer) {
	t.Helper()
	for {
		if got, a := w.askWait(t, "25", f); got.Status != 202 {
			return got, a
		}
	}
}

// goTo loads a path as the script's location.replace does.
func (w *window) goTo(t *testing.T, path string, f browser.Fetch) *browser.Page {
	t.Helper()
	address, err := w.page.URL.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	return w.open(t, address.String(), f)
}

// approvedWindow is a browser whose sign-in was approved, and not claimed yet.
func (s *stage) approvedWindow(t *testing.T, path string, trustFiles ...string) *window {
	t.Helper()
	w := s.newWindow(t, trustFiles...)
	w.open(t, path, browser.Typed)
	s.approve(t, s.code(t, w.code(t)).complete)
	if got, a := w.awaitEnd(t, browser.Script); got.Status != 200 {
		t.Fatalf("%d %+v", got.Status, a)
	}
	return w
}

// signedInWindow is a browser that has signed in and claimed its session.
func (s *stage) signedInWindow(t *testing.T, path string, trustFiles ...string) *window {
	t.Helper()
	w := s.approvedWindow(t, path, trustFiles...)
	w.goTo(t, path, browser.Reload)
	w.want(t, 303)
	w.follow(t)
	w.want(t, 200)
	return w
}
