// This file tests the browser against pages of its own: what a person does,
// with and without JavaScript, and what they see.
package chrome_test

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// qrCode holds qrText.
//
//go:embed testdata/qr.svg
var qrCode string

const qrText = "https://idp.example.com/device?user_code=WDJB-MJHT"

// pages are what the test's server has; each is put into a whole page.
var pages = map[string]string{
	"/form": `<form action="/answer" method="post"><input name="user" value="somebody"><input name="password" type="password">
		<p id="gone" style="display:none">not to be seen</p><button>Sign in</button></form>`,
	"/script":  `<p id="says">before</p><script>document.getElementById("says").textContent = "after"</script>`,
	"/replace": `<script>location.replace("/next")</script>`,
	"/refresh": `<noscript><meta http-equiv="refresh" content="0.5;url=/next"></noscript><p>it goes on</p>`,
	"/next":    `<p id="next">you are there</p>`,
	"/fetch":   `<p id="type"></p><script>document.getElementById("type").textContent = typeof fetch</script>`,
	"/qr":      `<div style="width:180px;margin:40px">` + qrCode + `</div>`,
	"/colours": `<style>body { background: #fff } @media (prefers-color-scheme: dark) { body { background: #000 } }</style>`,
	"/covered": `<button style="position:absolute;left:0;top:0">below</button><div style="position:absolute;left:0;top:0;width:99%;height:99%"></div>`,
	"/late":    `<p style="height:3000px">far down</p><script>setTimeout(() => document.body.insertAdjacentHTML("beforeend", "<a href=/next id=late>go on</a>"), 300)</script>`,
}

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, found := pages[r.URL.Path]
		switch {
		case r.URL.Path == "/answer":
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "abc", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 3600})
			body = fmt.Sprintf(`<p id="answer">%s, %s</p>`, r.PostFormValue("user"), r.PostFormValue("password"))
		case !found:
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!DOCTYPE html><title>a page</title>%s", body)
	}))
	t.Cleanup(server.Close)
	return server
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func open(ctx context.Context, t *testing.T, o chrome.Options, address string) *chrome.Browser {
	t.Helper()
	b := chrome.Start(t, o)
	check(t, b.Open(ctx, address))
	return b
}

func ends(with string) func(string) bool {
	return func(address string) bool { return strings.HasSuffix(address, with) }
}

// TestPerson signs in on a form.
func TestPerson(t *testing.T) {
	for _, row := range []struct {
		name     string
		noScript bool
	}{{"with JavaScript", false}, {"without JavaScript", true}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx, server := limited(t), serve(t)
			b := open(ctx, t, chrome.Options{NoScript: row.noScript}, server.URL+"/form")
			check(t,
				b.Type(ctx, "[name=user]", "Grüße 1!"),
				b.Type(ctx, "[name=password]", "secret"),
				b.Click(ctx, "button"),
				b.WaitURL(ctx, ends("/answer")))
			if text, err := b.Text(ctx, "#answer"); err != nil || text != "Grüße 1!, secret" {
				t.Errorf("%q, %v", text, err)
			}
			cookies, err := b.Cookies(ctx)
			if err != nil || len(cookies) != 1 {
				t.Fatalf("%v, %v", cookies, err)
			}
			c := cookies[0]
			life := time.Until(c.Expires).Round(time.Hour)
			if c.Name != "session" || c.Value != "abc" || !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteLaxMode || life != time.Hour {
				t.Errorf("the cookie is %v", c)
			}
			// Enter sends a form, too.
			check(t, b.Open(ctx, server.URL+"/form"), b.Type(ctx, "[name=user]", "enter\r"), b.WaitURL(ctx, ends("/answer")))
		})
	}
}

// TestScripts opens pages that tell whether JavaScript runs, on a second site:
// the switch must hold there, too.
func TestScripts(t *testing.T) {
	for _, row := range []struct {
		name, page string
		noScript   bool
		says       string // of a page that stays
	}{
		{"a script", "/script", false, "after"},
		{"a script that may not", "/script", true, "before"},
		{"going on by script", "/replace", false, ""},
		{"a refresh for others", "/refresh", false, "it goes on"},
		{"a refresh without JavaScript", "/refresh", true, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx, server := limited(t), serve(t)
			other := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
			b := open(ctx, t, chrome.Options{NoScript: row.noScript}, server.URL+"/form")
			check(t, b.Open(ctx, other+row.page))
			says, want := row.says, other+row.page
			if says == "" {
				says, want = "you are there", other+"/next"
				check(t, b.WaitURL(ctx, ends("/next")), b.Wait(ctx, "#next"))
			} else {
				time.Sleep(time.Second) // longer than any page takes to go on
			}
			if text, err := b.Text(ctx, "p"); err != nil || text != says {
				t.Errorf("%q, %v", text, err)
			}
			if html, err := b.HTML(ctx); err != nil || !strings.Contains(html, says+"</p>") {
				t.Errorf("%s, %v", html, err)
			}
			if b.URL() != want {
				t.Errorf("it is at %s, want %s", b.URL(), want)
			}
			if problems := b.Problems(); len(problems) > 0 {
				t.Errorf("problems: %q", problems)
			}
		})
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	ctx, server := limited(t), serve(t)
	b := chrome.Start(t, chrome.Options{})
	soon := func(do func(context.Context, string) error, selector string) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return do(ctx, selector)
	}
	for _, row := range []struct {
		name, page string
		do         func(context.Context, string) error
		selector   string
		want       string
	}{
		{"what is not there", "/form", b.Wait, "#nothing", "it is not there"},
		{"what cannot be seen", "/form", b.Wait, "#gone", "it cannot be seen"},
		{"what is covered", "/covered", b.Click, "button", "something covers it"},
		{"no selector", "/form", b.Wait, "!", "script error"},
	} {
		t.Run(row.name, func(t *testing.T) {
			check(t, b.Open(ctx, server.URL+row.page))
			if err := soon(row.do, row.selector); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
	t.Run("what comes late, far down", func(t *testing.T) {
		check(t, b.Open(ctx, server.URL+"/late"), b.Click(ctx, "#late"), b.WaitURL(ctx, ends("/next")))
	})
	t.Run("nobody answers", func(t *testing.T) {
		server.Close()
		if err := b.Open(ctx, server.URL); err == nil || !strings.Contains(err.Error(), "ERR_CONNECTION_REFUSED") {
			t.Errorf("%v", err)
		}
	})
}

// TestPreferences: what a page can ask of its reader, and a script before its
// own; both hold on the next page, too.
func TestPreferences(t *testing.T) {
	t.Parallel()
	ctx, server := limited(t), serve(t)
	b := open(ctx, t, chrome.Options{
		Dark: true, Media: map[string]string{"prefers-contrast": "more"},
		Before: "delete window.fetch",
	}, server.URL+"/form")
	for _, address := range []string{"/next", "/fetch"} {
		check(t, b.Open(ctx, server.URL+address))
		var missing []string
		check(t, b.Call(ctx, `asked => asked.filter(q => !matchMedia(q).matches)`,
			[]string{"(prefers-color-scheme: dark)", "(prefers-contrast: more)", "(prefers-reduced-motion: no-preference)"}, &missing))
		if len(missing) > 0 {
			t.Errorf("%s: %q does not hold", address, missing)
		}
	}
	if text, err := b.Text(ctx, "#type"); err != nil || text != "undefined" {
		t.Errorf("the page's script has a fetch of type %q, %v", text, err)
	}
}

func TestScreenshot(t *testing.T) {
	for _, row := range []struct {
		name          string
		options       chrome.Options
		width, height int
		brightness    uint32
	}{
		{"as it comes", chrome.Options{}, 1024, 600, 0xffff},
		{"another size, dark", chrome.Options{Width: 480, Height: 800, Dark: true}, 480, 800, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx := limited(t)
			b := open(ctx, t, row.options, serve(t).URL+"/colours")
			shot, err := b.Screenshot(ctx)
			check(t, err)
			picture, err := png.Decode(bytes.NewReader(shot))
			check(t, err)
			if size := picture.Bounds().Size(); size.X != row.width || size.Y != row.height {
				t.Errorf("it is %v", size)
			}
			if r, _, _, _ := picture.At(5, 5).RGBA(); r != row.brightness {
				t.Errorf("the brightness is %d", r)
			}
		})
	}
}

func TestScanQR(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	b := open(ctx, t, chrome.Options{Width: 800, Height: 480}, serve(t).URL+"/qr")
	shot, err := b.Screenshot(ctx)
	check(t, err)
	if got := chrome.ScanQR(t, shot); got != qrText {
		t.Errorf("%q", got)
	}
}

// TestProblems opens pages that ask for what they may not have, and others
// that cannot have it.
func TestProblems(t *testing.T) {
	const policy = "default-src 'none'; script-src 'nonce-a'; connect-src 'self'"
	for _, row := range []struct {
		name, policy, body string
		want               []string // each is in some problem; none is no problem at all
		asked              []string // besides the page
	}{
		{"nothing wrong", policy, `<script nonce="a">fetch("/there"); console.warn("only a warning")</script>`, nil, []string{"/there"}},
		{"a script without the nonce", policy, `<script>alert(1)</script>`, []string{"security: Executing inline script"}, nil},
		{"an attribute that styles", policy, `<p style="color:red">red</p>`, []string{"security: Applying inline style"}, nil},
		{"a foreign picture", policy, `<img src="http://foreign.example/x.png">`,
			[]string{"security: Loading the image", "request: blocked, csp: http://foreign.example/x.png"}, []string{"http://foreign.example/x.png"}},
		{"a foreign picture without a policy", "", `<img src="http://foreign.example/x.png">`,
			[]string{"request: net::ERR_NAME_NOT_RESOLVED: http://foreign.example/x.png (Image)"}, []string{"http://foreign.example/x.png"}},
		{"a picture that is missing", "", `<img src="/missing">`, []string{"request: status 404"}, []string{"/missing"}},
		{"an exception", policy, `<script nonce="a">null.x</script>`, []string{"exception: Uncaught TypeError: Cannot read properties of null"}, nil},
		{"a promise", policy, `<script nonce="a">Promise.reject("no")</script>`, []string{`exception: Uncaught (in promise) "no"`}, nil},
		{"an error in the console", policy, `<script nonce="a">console.error("oh", new Error("no"))</script>`, []string{`console: "oh" Error: no`}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx := limited(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/missing" {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Security-Policy", row.policy)
				fmt.Fprintf(w, "<!DOCTYPE html><title>a page</title>%s<p id=end>end</p>", row.body)
			}))
			t.Cleanup(server.Close)
			b := open(ctx, t, chrome.Options{}, server.URL+"/")
			check(t, b.Wait(ctx, "#end"))
			wanted := []string{server.URL + "/"}
			for _, address := range row.asked {
				if strings.HasPrefix(address, "/") {
					address = server.URL + address
				}
				wanted = append(wanted, address)
			}
			if got := b.Requests(); !slices.Equal(got, wanted) {
				t.Errorf("it asked for %q, want %q", got, wanted)
			}
			problems := b.Problems()
			for _, want := range row.want {
				if !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, want) }) {
					t.Errorf("no problem %q in %q", want, problems)
				}
			}
			if row.want == nil && len(problems) > 0 {
				t.Errorf("problems: %q", problems)
			}
		})
	}
}

// TestCall: what the function sees and returns, and what it throws.
func TestCall(t *testing.T) {
	ctx, server := limited(t), serve(t)
	b := open(ctx, t, chrome.Options{}, server.URL+"/next")
	var got []string
	check(t, b.Call(ctx, `names => names.map(n => document.getElementById(n).textContent)`, []string{"next"}, &got))
	if len(got) != 1 || got[0] != "you are there" {
		t.Errorf("%q", got)
	}
	if err := b.Call(ctx, `n => document.getElementById(n).textContent`, "nothing", &got); err == nil {
		t.Error("what the function throws is lost")
	}
}
