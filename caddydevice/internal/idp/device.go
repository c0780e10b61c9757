// This file holds the device authorization request (RFC 8628 §3.1, §3.2) and
// one device access token request (§3.4). x/oauth2 has both, but sends
// no client secret with the first, ignores its context, and ends the second at
// the first bad gateway.

package idp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

const (
	// grantType is the device grant's (RFC 8628 §3.4).
	grantType = "urn:ietf:params:oauth:grant-type:device_code"
	// shortGrantType is that of servers which took it for a plain name.
	shortGrantType = "device_code"
)

// grantType is what the identity provider lists, if that is the short one alone.
func (md *metadata) grantType() string {
	if slices.Contains(md.GrantTypes, shortGrantType) && !slices.Contains(md.GrantTypes, grantType) {
		return shortGrantType
	}
	return grantType
}

const (
	// defaultInterval is RFC 8628 §3.2's for an answer without a usable one.
	defaultInterval = 5 * time.Second
	// PollMargin keeps a poll from arriving on the interval's edge: several
	// servers compare strictly, or count from when they answered.
	PollMargin  = 500 * time.Millisecond
	minInterval = time.Second
	// maxInterval is the longest that can be meant; Keycloak up to 18 asked
	// for ten minutes.
	maxInterval = time.Hour

	// What a person is to read or scan is short; what is longer is a mistake
	// or an attack. A device code is ours to send back only.
	maxUserCode   = 64
	maxURI        = 1024
	maxDeviceCode = 4096
)

// DeviceAuthorization is an identity provider's answer to a device
// authorization request, checked: whatever is in it is safe to show.
type DeviceAuthorization struct {
	DeviceCode secret.String
	// CodeVerifier goes with each poll; "" where PKCE is not used.
	CodeVerifier            secret.String
	UserCode                string
	VerificationURI         string
	VerificationURIComplete string // "" where the identity provider sends none
	ExpiresIn               time.Duration
	Interval                time.Duration
}

type deviceAnswer struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	VerificationURI string `json:"verification_uri"`
	// VerificationURL is the name of an early draft, which Google still sends.
	VerificationURL         string          `json:"verification_url"`
	VerificationURIComplete string          `json:"verification_uri_complete"`
	ExpiresIn               seconds         `json:"expires_in"`
	Interval                seconds         `json:"interval"`
	Error                   json.RawMessage `json:"error"`
	ErrorDescription        json.RawMessage `json:"error_description"`
}

// Authorize makes a device authorization request; params are sent with it, but
// never in place of what the client sends itself. It fails with an
// [UnavailableError] where trying again later makes sense, with a
// [RefusedError] where it does not.
func (c *Client) Authorize(ctx context.Context, params ...Param) (DeviceAuthorization, error) {
	md, err := c.metadata(ctx)
	if err != nil {
		return DeviceAuthorization{}, err
	}
	form := paramForm(params)
	if scopes := c.scopes(md); len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	verifier := c.challenge(md, form)
	rep, err := c.postForm(ctx, c.http, md, md.DeviceEndpoint, form)
	if err != nil {
		return DeviceAuthorization{}, &UnavailableError{RetryAfter: defaultInterval, Err: fmt.Errorf("device authorization: %w", err)}
	}
	rep.body = c.dialect.plain(rep.body)
	var ans deviceAnswer
	err = rep.object(&ans)
	if word := errorWord(ans.Error); err == nil && word != "" && !busy(rep.status) {
		return DeviceAuthorization{}, &RefusedError{
			Reason: fmt.Sprintf("device authorization: status %d: %s: %s", rep.status, rep.words(word), rep.words(string(ans.ErrorDescription))),
			Status: rep.status, Word: word,
		}
	}
	switch {
	case busy(rep.status):
		return DeviceAuthorization{}, rep.unavailable("device authorization")
	case !rep.ok():
		return DeviceAuthorization{}, &RefusedError{Reason: fmt.Sprintf("device authorization: status %d", rep.status), Status: rep.status}
	case err != nil:
		return DeviceAuthorization{}, &RefusedError{Reason: "device authorization: " + words(err.Error())}
	}
	if c.cfg.NoCompleteURI {
		ans.VerificationURIComplete = ""
	}
	da, err := ans.check()
	if err != nil {
		return DeviceAuthorization{}, &RefusedError{Reason: "device authorization: " + err.Error()}
	}
	da.CodeVerifier = verifier
	return da, nil
}

func (a *deviceAnswer) check() (DeviceAuthorization, error) {
	if a.VerificationURI == "" {
		a.VerificationURI = a.VerificationURL
	}
	da := DeviceAuthorization{
		DeviceCode:              secret.String(a.DeviceCode),
		UserCode:                a.UserCode,
		VerificationURI:         a.VerificationURI,
		VerificationURIComplete: a.VerificationURIComplete,
		ExpiresIn:               time.Duration(a.ExpiresIn),
		Interval:                max(time.Duration(a.Interval), minInterval),
	}
	if a.Interval == 0 || da.Interval > maxInterval {
		da.Interval = defaultInterval
	}
	switch {
	case a.DeviceCode == "" || len(a.DeviceCode) > maxDeviceCode:
		return da, errors.New("the answer has no device_code, or one that is too long")
	case a.UserCode == "" || len(a.UserCode) > maxUserCode || !showable(a.UserCode):
		return da, errors.New("the answer has no user_code, or one that cannot be shown")
	case a.ExpiresIn == 0:
		return da, errors.New("the answer has no usable expires_in")
	case checkVerificationURI(a.VerificationURI) != nil:
		return da, fmt.Errorf("verification_uri %w", checkVerificationURI(a.VerificationURI))
	case a.VerificationURIComplete != "" && checkVerificationURI(a.VerificationURIComplete) != nil:
		return da, fmt.Errorf("verification_uri_complete %w", checkVerificationURI(a.VerificationURIComplete))
	}
	return da, nil
}

// checkVerificationURI lets pass what may become a link, a QR code or a line
// in a terminal: an absolute http or https URL in plain characters.
func checkVerificationURI(raw string) error {
	if raw == "" {
		return errors.New("is missing")
	}
	if len(raw) > maxURI || !showable(raw) || strings.ContainsAny(raw, " \\\"<>`{}|^") {
		return errors.New("is too long or has characters that a URL cannot have")
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return errors.New("is not an absolute http or https URL")
	}
	return nil
}

// showable reports whether text holds only what prints as itself: no control,
// no format (bidi, zero-width) and no private characters, valid UTF-8.
func showable(text string) bool {
	if !utf8.ValidString(text) || strings.TrimSpace(text) != text {
		return false
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// Poll makes one device access token request; verifier is the code verifier of
// the device authorization, "" for none. It never fails: what happened is the
// answer's Outcome.
func (c *Client) Poll(ctx context.Context, deviceCode, verifier secret.String) Answer {
	md, err := c.metadata(ctx)
	if err != nil {
		return Answer{Outcome: Transient, Err: err}
	}
	form := url.Values{"grant_type": {md.grantType()}, "device_code": {deviceCode.Reveal()}}
	if verifier != "" {
		form.Set("code_verifier", verifier.Reveal())
	}
	return c.askForTokens(ctx, c.http, md, form, c.polled)
}
