// Package browser is a client that asks like a browser: with a cookie jar,
// with a browser's headers, and with redirects in the test's hands.
package browser

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/htmlform"
)

// acceptPage is what browsers send for a page.
const acceptPage = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

// Fetch are the Sec-Fetch-* headers; an empty field is not sent.
type Fetch struct{ Site, Mode, Dest, User string }

// The usual cases. Typed is an address that the person typed; Linked a click
// within the site; Foreign a link from another site; Reload what a page does
// by itself; Script a fetch of the page's own script; Image an <img> of it; Old
// a browser that sends none of these headers.
var (
	Typed   = Fetch{Site: "none", Mode: "navigate", Dest: "document", User: "?1"}
	Linked  = Fetch{Site: "same-origin", Mode: "navigate", Dest: "document", User: "?1"}
	Foreign = Fetch{Site: "cross-site", Mode: "navigate", Dest: "document", User: "?1"}
	Reload  = Fetch{Site: "same-origin", Mode: "navigate", Dest: "document"}
	Script  = Fetch{Site: "same-origin", Mode: "cors", Dest: "empty"}
	Image   = Fetch{Site: "same-origin", Mode: "no-cors", Dest: "image"}
	Old     = Fetch{}
)

// Browser is one browser profile. It never follows a redirect by itself.
type Browser struct {
	// Extra is sent with every request.
	Extra http.Header

	client *http.Client
	jar    http.CookieJar
}

// New returns a browser without cookies. The files hold certificates (PEM)
// that it trusts instead of the system's.
func New(t testing.TB, trustFiles ...string) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots(t, trustFiles)}}
	t.Cleanup(transport.CloseIdleConnections)
	return &Browser{
		Extra: http.Header{},
		jar:   jar,
		client: &http.Client{
			Jar: jar, Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func roots(t testing.TB, files []string) *x509.CertPool {
	t.Helper()
	if len(files) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !pool.AppendCertsFromPEM(content) {
			t.Fatalf("no certificate in %s", name)
		}
	}
	return pool
}

// Page is one answer.
type Page struct {
	URL    *url.URL
	Status int
	Header http.Header
	Body   string
	HTML   *htmlform.Page // nil where the answer is no HTML
}

// Open asks for a page.
func (b *Browser) Open(ctx context.Context, t testing.TB, address string, f Fetch) *Page {
	t.Helper()
	return b.Do(t, b.NewRequest(ctx, t, http.MethodGet, address, "", f))
}

// NewRequest makes a request with a browser's headers, for the test to change.
// Accept is a page's for a navigation and */* else.
func (b *Browser) NewRequest(ctx context.Context, t testing.TB, method, address, body string, f Fetch) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	req.Header.Set("Accept-Language", "en")
	req.Header.Set("Accept", "*/*")
	if f.Mode == "navigate" || f == Old {
		req.Header.Set("Accept", acceptPage)
	}
	for name, value := range map[string]string{
		"Sec-Fetch-Site": f.Site, "Sec-Fetch-Mode": f.Mode, "Sec-Fetch-Dest": f.Dest, "Sec-Fetch-User": f.User,
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	maps.Copy(req.Header, b.Extra)
	return req
}

// Do sends any request with the browser's cookies.
func (b *Browser) Do(t testing.TB, req *http.Request) *Page {
	t.Helper()
	page, err := b.Try(req)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// Try is Do for requests that may fail.
func (b *Browser) Try(req *http.Request) (*Page, error) {
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("browser: reading %s: %w", req.URL.Path, err)
	}
	page := &Page{URL: resp.Request.URL, Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		page.HTML, err = htmlform.Parse(page.URL, page.Body)
	}
	return page, err
}

// Submit presses a button of a form of the page; a nil button is Enter in a
// form without one. The values replace those of the form. Origin and Referer
// are the page's.
func (b *Browser) Submit(ctx context.Context, t testing.TB, p *Page, form *htmlform.Form, pressed *htmlform.Button, values url.Values) *Page {
	t.Helper()
	all := form.Values(pressed)
	maps.Copy(all, values)
	if form.Method == http.MethodGet {
		u := *form.Action
		u.RawQuery = all.Encode()
		return b.Open(ctx, t, u.String(), Linked)
	}
	req := b.NewRequest(ctx, t, http.MethodPost, form.Action.String(), all.Encode(), Linked)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", p.URL.Scheme+"://"+p.URL.Host)
	req.Header.Set("Referer", p.URL.String())
	return b.Do(t, req)
}

// FollowRedirect goes where a 3xx points, as a GET; the test fails where the
// page is none.
func (b *Browser) FollowRedirect(ctx context.Context, t testing.TB, p *Page) *Page {
	t.Helper()
	location := p.Header.Get("Location")
	if p.Status < 300 || p.Status > 399 || location == "" {
		t.Fatalf("status %d at %s is no redirect", p.Status, p.URL.Path)
	}
	to, err := p.URL.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	return b.Open(ctx, t, to.String(), Typed)
}

// FollowRefresh does what the page's <meta http-equiv="refresh"> asks for,
// after the time that it names; the test fails where there is none.
func (b *Browser) FollowRefresh(ctx context.Context, t testing.TB, p *Page) *Page {
	t.Helper()
	if p.HTML == nil || p.HTML.Refresh == nil {
		t.Fatalf("the page at %s asks for no refresh", p.URL.Path)
	}
	timer := time.NewTimer(p.HTML.Refresh.After)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		t.Fatalf("waiting for the refresh: %v", ctx.Err())
	}
	return b.Open(ctx, t, p.HTML.Refresh.URL.String(), Reload)
}

// Settle follows redirects and refreshes, as a page left open does, until one
// satisfies done.
func (b *Browser) Settle(ctx context.Context, t testing.TB, p *Page, done func(*Page) bool) *Page {
	t.Helper()
	for !done(p) {
		if p.Header.Get("Location") != "" {
			p = b.FollowRedirect(ctx, t, p)
			continue
		}
		p = b.FollowRefresh(ctx, t, p)
	}
	return p
}

// Cookie is the value that would be sent to the address; empty where none.
func (b *Browser) Cookie(t testing.TB, address, name string) string {
	t.Helper()
	for _, c := range b.jar.Cookies(parse(t, address)) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// SetCookies puts cookies into the jar as if the address had set them.
func (b *Browser) SetCookies(t testing.TB, address string, cookies ...*http.Cookie) {
	t.Helper()
	b.jar.SetCookies(parse(t, address), cookies)
}

func parse(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
