// This file tests the browser's cookies, headers, forms and refreshes.
package browser_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve listens on loopback and returns the address by the name localhost.
func serve(t *testing.T, h http.HandlerFunc) (context.Context, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
}

func TestCookieOverPlainLocalhost(t *testing.T) {
	ctx, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("device_auth"); err == nil {
			io.WriteString(w, c.Value)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "device_auth", Value: "v", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 60})
		w.Header().Set("Location", "/next?x=1")
		w.WriteHeader(http.StatusSeeOther)
	})
	b := browser.New(t)
	page := b.Open(ctx, t, address+"/deep/path", browser.Typed)
	if page.Status != http.StatusSeeOther {
		t.Fatalf("a redirect was followed unasked: status %d", page.Status)
	}
	if page = b.FollowRedirect(ctx, t, page); page.Body != "v" || page.URL.RequestURI() != "/next?x=1" {
		t.Errorf("%q at %s", page.Body, page.URL)
	}
	if b.Cookie(t, address, "device_auth") != "v" || b.Cookie(t, address, "other") != "" {
		t.Error("the jar does not show its cookie")
	}
	b.SetCookies(t, address, &http.Cookie{Name: "device_auth", Path: "/", MaxAge: -1})
	if b.Cookie(t, address, "device_auth") != "" {
		t.Error("the cookie is still there")
	}
}

func TestFetchHeaders(t *testing.T) {
	var got http.Header
	ctx, address := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	b := browser.New(t)
	b.Extra.Set("X-Extra", "1")
	b.Open(ctx, t, address, browser.Typed)
	if got.Get("Sec-Fetch-Mode") != "navigate" || got.Get("Sec-Fetch-Dest") != "document" || got.Get("Sec-Fetch-Site") != "none" {
		t.Errorf("%v", got)
	}
	if !strings.HasPrefix(got.Get("Accept"), "text/html") || got.Get("X-Extra") != "1" {
		t.Errorf("%v", got)
	}
	b.Open(ctx, t, address, browser.Script)
	if got.Get("Accept") != "*/*" || got.Get("Sec-Fetch-Dest") != "empty" || got.Get("Sec-Fetch-User") != "" {
		t.Errorf("%v", got)
	}
	b.Open(ctx, t, address, browser.Old)
	for name := range got {
		if strings.HasPrefix(name, "Sec-Fetch") {
			t.Errorf("an old browser sent %s", name)
		}
	}
}

func TestRefreshAndForms(t *testing.T) {
	pages := map[string]string{
		"/":     `<noscript><meta http-equiv="refresh" content="0; url=/wait?n=1"></noscript>`,
		"/wait": `<meta http-equiv=refresh content="0;URL='/form'">`,
		"/form": `<form id=f method=post action="done"><input type=hidden name=h value="&lt;x&gt;"><input name=user></form><button form=f name=press value=yes>Go</button>`,
	}
	var form url.Values
	var header http.Header
	ctx, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.Method == http.MethodPost {
			r.ParseForm()
			form, header = r.PostForm, r.Header
		}
		io.WriteString(w, pages[r.URL.Path])
	})
	b := browser.New(t)
	page := b.Settle(ctx, t, b.Open(ctx, t, address+"/", browser.Typed), func(p *browser.Page) bool { return len(p.HTML.Forms) > 0 })
	f := page.HTML.Forms[0]
	if len(f.Buttons) != 1 {
		t.Fatalf("%+v", f)
	}
	page = b.Submit(ctx, t, page, f, &f.Buttons[0], url.Values{"user": {"alice"}})
	if page.URL.Path != "/done" || form.Encode() != "h=%3Cx%3E&press=yes&user=alice" {
		t.Errorf("%s to %s", form.Encode(), page.URL.Path)
	}
	if header.Get("Origin") != address || header.Get("Referer") != address+"/form" || header.Get("Sec-Fetch-Site") != "same-origin" {
		t.Errorf("%v", header)
	}
}
