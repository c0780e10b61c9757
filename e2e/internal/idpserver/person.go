// This file plays the person at the provider: enters the code, signs in, and
// allows or declines, by filling whatever form comes.
package idpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/htmlform"
	"github.com/caddydevice/device-auth/e2e/internal/pki"
)

// maxPages bounds a walk through the forms: more than that is a circle.
const maxPages = 12

// declining are the words on buttons that say no.
var declining = regexp.MustCompile(`(?i)abort|cancel|deny|decline|reject|refuse|^no$`)

// Person is somebody with a browser of their own; the cookies stay between
// calls, so a second approval may find the sign-in still standing.
type Person struct{ client *http.Client }

// NewPerson returns somebody who is signed in nowhere, and trusts a provider with
// TLS by trusted.
func NewPerson(t testing.TB, trusted ...*pki.Pair) *Person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{} // none of the environment's proxies
	for _, pair := range trusted {
		transport.TLSClientConfig = &tls.Config{RootCAs: pair.Pool()}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &Person{client: &http.Client{Jar: jar, Transport: transport}}
}

// Device is what a device shows. Complete alone is enough (a scanned QR code);
// without it the person opens URI and types Code.
type Device struct{ Complete, URI, Code string }

// Approve signs in and allows.
func (p *Person) Approve(ctx context.Context, d Device, user, password string) error {
	return p.walk(ctx, &visit{device: d, user: user, password: password})
}

// Deny declines at the first form that lets one say no.
func (p *Person) Deny(ctx context.Context, d Device, user, password string) error {
	return p.walk(ctx, &visit{device: d, user: user, password: password, decline: true})
}

// DenyAfterSignIn says who it is first, and declines only then.
func (p *Person) DenyAfterSignIn(ctx context.Context, d Device, user, password string) error {
	return p.walk(ctx, &visit{device: d, user: user, password: password, decline: true, signInFirst: true})
}

// SignOut ends the person's sign-in at the provider, by its end-session page
// (OpenID Connect RP-Initiated Logout 1.0 §2).
func (p *Person) SignOut(ctx context.Context, endSession string) error {
	page, err := p.get(ctx, endSession)
	if err != nil {
		return err
	}
	if len(page.Forms) != 1 {
		return fmt.Errorf("%d forms on the page to sign out: %q", len(page.Forms), page.Text)
	}
	yes, _ := buttons(page.Forms[0])
	_, err = p.send(ctx, page.Forms[0], page.Forms[0].Values(yes))
	return err
}

// visit is one walk through the forms, with what was done so far.
type visit struct {
	device         Device
	user, password string
	decline        bool
	signInFirst    bool

	codeEntered, signedIn, declined bool
}

func (p *Person) walk(ctx context.Context, v *visit) error {
	start := v.device.Complete
	if start == "" {
		start = v.device.URI
	}
	page, err := p.get(ctx, start)
	for range maxPages {
		if err != nil {
			return err
		}
		if v.declined {
			return nil
		}
		if len(page.Forms) == 0 {
			return v.ended(page)
		}
		form, values, stepErr := v.fill(page)
		if stepErr != nil {
			return stepErr
		}
		page, err = p.send(ctx, form, values)
	}
	return fmt.Errorf("still forms after %d pages, the last one is %q", maxPages, page.Title)
}

func (v *visit) ended(page *htmlform.Page) error {
	if v.decline {
		return fmt.Errorf("no form let the person decline; the last page says %q", page.Text)
	}
	return nil
}

// fill answers one page. The order of the forms is the provider's business:
// each is known by its fields.
func (v *visit) fill(page *htmlform.Page) (*htmlform.Form, url.Values, error) {
	form := page.Forms[0]
	for _, f := range page.Forms {
		if f.Has("password") {
			form = f
		}
	}
	signIn := form.Has("password")
	yes, no := buttons(form)
	if v.decline && no != nil && (v.signedIn || !v.signInFirst) {
		v.declined = true
		return form, form.Values(no), nil
	}
	values := form.Values(yes)
	switch name := textField(form); {
	case signIn && v.signedIn:
		return nil, nil, fmt.Errorf("the provider refused the sign-in: %q", page.Text)
	case signIn:
		v.signedIn = true
		values.Set(name, v.user)
		values.Set(passwordField(form), v.password)
	case name != "" && (v.codeEntered || v.device.Code == ""):
		return nil, nil, fmt.Errorf("the provider refused the code: %q", page.Text)
	case name != "":
		v.codeEntered = true
		values.Set(name, v.device.Code)
	}
	return form, values, nil
}

func buttons(form *htmlform.Form) (yes, no *htmlform.Button) {
	for i := range form.Buttons {
		b := &form.Buttons[i]
		says := declining.MatchString(b.Name) || declining.MatchString(b.Value) || declining.MatchString(b.Label)
		if says && no == nil {
			no = b
		}
		if !says && yes == nil {
			yes = b
		}
	}
	return yes, no
}

func textField(form *htmlform.Form) string {
	for _, f := range form.Fields {
		if f.Type == "text" || f.Type == "email" || f.Type == "" {
			return f.Name
		}
	}
	return ""
}

func passwordField(form *htmlform.Form) string {
	for _, f := range form.Fields {
		if f.Type == "password" {
			return f.Name
		}
	}
	return ""
}

func (p *Person) get(ctx context.Context, address string) (*htmlform.Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return p.do(req)
}

func (p *Person) send(ctx context.Context, form *htmlform.Form, values url.Values) (*htmlform.Page, error) {
	if form.Method == http.MethodGet {
		u := *form.Action
		u.RawQuery = values.Encode()
		return p.get(ctx, u.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, form.Action.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.do(req)
}

var errNoPage = errors.New("the provider answered without a page")

func (p *Person) do(req *http.Request) (*htmlform.Page, error) {
	req.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the person's browser: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("the person's browser: %w", err)
	}
	page, err := htmlform.Parse(resp.Request.URL, string(body))
	if err != nil {
		return nil, err
	}
	// A refused sign-in comes with 401 and the form again; that is still a page.
	if resp.StatusCode >= 400 && len(page.Forms) == 0 {
		return nil, fmt.Errorf("%w: status %d at %s: %s", errNoPage, resp.StatusCode, resp.Request.URL.Path, page.Text)
	}
	return page, nil
}
