// This file is what a person does with the page, and what they see of it.
package chrome

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp/kb"
)

// Open goes to an address, as if it was typed, and waits until the page, or
// another one that it leads on to, is loaded.
func (b *Browser) Open(ctx context.Context, address string) error {
	went, err := cdp.Call(ctx, b.page, page.Navigate, page.NavigateParams{URL: address, TransitionType: page.TransitionTypeTyped})
	if err != nil {
		return fmt.Errorf("opening %s: %w", address, err)
	}
	if went.ErrorText != "" {
		return fmt.Errorf("opening %s: %s", address, went.ErrorText)
	}
	if went.LoaderID == "" {
		return nil // another place on the same page
	}
	return b.follow(ctx, "the page at "+address, func() bool {
		at := slices.Index(b.pages, went.LoaderID)
		return at >= 0 && slices.ContainsFunc(b.pages[at:], func(id cdp.LoaderID) bool { return b.loaded[id] })
	})
}

// WaitURL waits until the browser is at an address that satisfies the function.
func (b *Browser) WaitURL(ctx context.Context, is func(address string) bool) error {
	return b.follow(ctx, "another address", func() bool { return is(b.at) })
}

// follow waits until what the events say satisfies the function, which is
// called with the lock held.
func (b *Browser) follow(ctx context.Context, what string, done func() bool) error {
	for {
		b.mu.Lock()
		ok, changed := done(), b.changed
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s, being at %s: %w", what, b.URL(), ctx.Err())
		}
	}
}

// Languages makes the browser ask for pages in other languages, as its
// Accept-Language header says them.
func (b *Browser) Languages(ctx context.Context, accept string) error {
	_, err := cdp.Call(ctx, b.page, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{
		Headers: network.Headers{"Accept-Language": accept},
	})
	return err
}

// Wait waits until an element can be seen.
func (b *Browser) Wait(ctx context.Context, selector string) error {
	_, err := b.find(ctx, selector, func(p place) bool { return p.Visible })
	return err
}

// Click presses the mouse button on an element, once it can be seen, stands
// still and nothing covers it.
func (b *Browser) Click(ctx context.Context, selector string) error {
	var before place
	at, err := b.find(ctx, selector, func(p place) bool {
		still := p == before
		before = p
		return still && p.Visible && p.OnTop
	})
	if err != nil {
		return err
	}
	for _, kind := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
		_, err := cdp.Call(ctx, b.page, input.DispatchMouseEvent, input.DispatchMouseEventParams{
			Type: kind, X: at.X, Y: at.Y, Button: input.MouseButtonLeft, ClickCount: 1,
		})
		if err != nil {
			return fmt.Errorf("clicking on %s: %w", selector, err)
		}
	}
	return nil
}

// Type clicks into a field and types, in place of what the field holds. "\r"
// is the Enter key.
func (b *Browser) Type(ctx context.Context, selector, text string) error {
	if err := b.Click(ctx, selector); err != nil {
		return err
	}
	if err := b.evaluate(ctx, call("e => e.select()", selector), nil); err != nil {
		return fmt.Errorf("typing into %s: %w", selector, err)
	}
	for _, char := range text {
		for _, key := range kb.Encode(char) {
			if _, err := cdp.Call(ctx, b.page, input.DispatchKeyEvent, *key); err != nil {
				return fmt.Errorf("typing into %s: %w", selector, err)
			}
		}
	}
	return nil
}

// Text is the text of an element, as it can be seen; it waits until there is
// such an element.
func (b *Browser) Text(ctx context.Context, selector string) (string, error) {
	text, err := look(ctx, b, call("e => e.innerText", selector), func(text *string) bool { return text != nil })
	if err != nil {
		return "", fmt.Errorf("reading %s at %s: %w", selector, b.URL(), err)
	}
	return *text, nil
}

// HTML is the whole page as it is now.
func (b *Browser) HTML(ctx context.Context) (string, error) {
	html, err := look(ctx, b, "document.documentElement.outerHTML", func(string) bool { return true })
	if err != nil {
		return "", fmt.Errorf("reading the page at %s: %w", b.URL(), err)
	}
	return html, nil
}

// Screenshot is a PNG of what fits into the window.
func (b *Browser) Screenshot(ctx context.Context) ([]byte, error) {
	shot, err := again(ctx, b, func() (page.CaptureScreenshotResult, bool, error) {
		shot, err := cdp.Call(ctx, b.page, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng})
		return shot, err == nil, err // there is none while one page gives way to another
	})
	if err != nil {
		return nil, fmt.Errorf("taking a screenshot at %s: %w", b.URL(), err)
	}
	return shot.Data, nil
}

// Cookies are all that the profile holds, whatever site they belong to.
func (b *Browser) Cookies(ctx context.Context) ([]*http.Cookie, error) {
	got, err := cdp.Call(ctx, b.page, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil {
		return nil, fmt.Errorf("reading the cookies: %w", err)
	}
	cookies := make([]*http.Cookie, 0, len(got.Cookies))
	for _, c := range got.Cookies {
		cookie := &http.Cookie{
			Name: c.Name, Value: c.Value, Domain: c.Domain, Path: c.Path, Secure: c.Secure, HttpOnly: c.HTTPOnly,
			SameSite: sameSite[c.SameSite],
		}
		if !c.Session {
			cookie.Expires = time.Unix(int64(c.Expires), 0)
		}
		cookies = append(cookies, cookie)
	}
	return cookies, nil
}

var sameSite = map[network.CookieSameSite]http.SameSite{
	network.CookieSameSiteStrict: http.SameSiteStrictMode,
	network.CookieSameSiteLax:    http.SameSiteLaxMode,
	network.CookieSameSiteNone:   http.SameSiteNoneMode,
}

var errEnded = errors.New("chromium has ended")
