// Package idptest is a scriptable identity provider for tests: it serves
// discovery, keys, device authorization, token and revocation requests from
// memory, over HTTP or as an http.RoundTripper that needs no socket, and so runs
// inside a testing/synctest bubble.
package idptest

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Reply is one scripted answer. Err, where set, is a connection that broke.
type Reply struct {
	Status int
	Body   string
	Header http.Header
	Delay  time.Duration
	Err    error
}

// JSON makes a reply from a value.
func JSON(status int, v any) Reply {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return Reply{Status: status, Body: string(b), Header: http.Header{"Content-Type": {"application/json"}}}
}

// Error makes an OAuth error reply (RFC 6749 §5.2).
func Error(status int, word string) Reply {
	return JSON(status, map[string]string{"error": word, "error_description": "as scripted"})
}

// Pending is the usual answer to a poll.
func Pending() Reply { return Error(http.StatusBadRequest, "authorization_pending") }

// Call is one request that the provider got. Code is the device code of a
// poll.
type Call struct {
	Path       string
	Form       url.Values
	User, Pass string
	Basic      bool
	Start, End time.Time
}

// Provider is the identity provider. Its fields may be set before it is first
// asked; later changes go through its methods.
type Provider struct {
	Issuer   string
	ClientID string
	Claims   map[string]any // beside iss, aud, sub, exp, iat
	Subject  string
	// DeviceCode answers a device authorization request; nil means a usual one.
	Device func(n int) Reply
	// Poll answers the nth poll (from 1) of a device code; nil means pending.
	Poll func(n int, code string) Reply
	// Refresh answers the nth refresh (from 1), of this refresh token; nil
	// means a usual new pair.
	Refresh func(n int, token string) Reply
	// Metadata changes the discovery document.
	Metadata func(map[string]any)

	mu        sync.Mutex
	key       *ecdsa.PrivateKey
	keyID     string
	calls     []Call
	polls     map[string]int
	devices   int
	refreshes int
	replies   map[string]func() (Reply, bool)
	allow     map[string]Reply
	cut       map[string]error
}

// New returns a provider with the issuer, for the client id "gate".
func New(issuer string) *Provider {
	p := &Provider{
		Issuer: issuer, ClientID: "gate", Subject: "sub-alice", polls: map[string]int{},
		replies: map[string]func() (Reply, bool){}, allow: map[string]Reply{}, cut: map[string]error{},
	}
	p.Rotate("key-1")
	return p
}

// Answer scripts a path ("/jwks", "/token", …): while f answers true, its reply
// is sent in place of the usual one. nil takes that back.
func (p *Provider) Answer(path string, f func() (Reply, bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replies[path] = f
}

// Always answers a path with one reply.
func (p *Provider) Always(path string, r Reply) {
	p.Answer(path, func() (Reply, bool) { return r, true })
}

// Unreachable fails every following request for a path before anything is sent,
// as where nobody can be dialled; nil takes that back. It is for RoundTrip only.
func (p *Provider) Unreachable(path string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut[path] = err
}

// Approve lets every following poll of the device code succeed; "" stands for
// every code.
func (p *Provider) Approve(code string) { p.Decide(code, p.Tokens(nil)) }

// Deny lets every following poll of the device code be refused.
func (p *Provider) Deny(code string) { p.Decide(code, Error(http.StatusBadRequest, "access_denied")) }

// Decide answers every following poll of the device code.
func (p *Provider) Decide(code string, r Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allow[code] = r
}

// Calls returns what was asked of a path so far, "" for all.
func (p *Provider) Calls(path string) []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var calls []Call
	for _, c := range p.calls {
		if path == "" || c.Path == path {
			calls = append(calls, c)
		}
	}
	return calls
}

// RoundTrip implements http.RoundTripper, so that a client needs no socket. As
// net/http does, it tells a client that traces its request once there is a
// connection.
func (p *Provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	err := p.cut[r.URL.Path]
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	done := make(chan struct{})
	rec := httptest.NewRecorder()
	go func() {
		defer close(done)
		err = p.serve(rec, r)
	}()
	select {
	case <-done:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

// ServeHTTP implements http.Handler. A scripted broken connection is one.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.serve(w, r) != nil {
		panic(http.ErrAbortHandler)
	}
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) error {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	form, _ := url.ParseQuery(string(body))
	call := Call{Path: r.URL.Path, Form: form, Start: time.Now()}
	call.User, call.Pass, call.Basic = r.BasicAuth()
	reply := p.reply(call)
	if reply.Delay > 0 {
		select {
		case <-time.After(reply.Delay):
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	call.End = time.Now()
	p.mu.Lock()
	p.calls = append(p.calls, call)
	p.mu.Unlock()
	if reply.Err != nil {
		return reply.Err
	}
	maps.Copy(w.Header(), reply.Header)
	w.WriteHeader(reply.Status)
	_, err := io.Copy(w, bytes.NewReader([]byte(reply.Body)))
	return err
}

func (p *Provider) reply(call Call) Reply {
	p.mu.Lock()
	scripted := p.replies[call.Path]
	p.mu.Unlock()
	if scripted != nil {
		if r, ok := scripted(); ok {
			return r
		}
	}
	switch call.Path {
	case "/.well-known/openid-configuration":
		return p.discovery()
	case "/jwks":
		return p.Keys()
	case "/device":
		return p.device()
	case "/token":
		return p.token(call.Form)
	case "/revoke":
		return Reply{Status: http.StatusOK}
	}
	return Reply{Status: http.StatusNotFound}
}

func (p *Provider) discovery() Reply {
	md := map[string]any{
		"issuer": p.Issuer, "jwks_uri": p.Issuer + "/jwks", "token_endpoint": p.Issuer + "/token",
		"device_authorization_endpoint": p.Issuer + "/device", "authorization_endpoint": p.Issuer + "/auth",
		"revocation_endpoint": p.Issuer + "/revoke", "end_session_endpoint": p.Issuer + "/logout",
		"scopes_supported": []string{"openid", "profile", "email", "offline_access", "phone"},
	}
	if p.Metadata != nil {
		p.Metadata(md)
	}
	return JSON(http.StatusOK, md)
}

func (p *Provider) device() Reply {
	p.mu.Lock()
	p.devices++
	n := p.devices
	p.mu.Unlock()
	if p.Device != nil {
		return p.Device(n)
	}
	return JSON(http.StatusOK, Device(p.Issuer, n))
}

// Device is a usual device authorization answer: the nth has the device code
// "device-canary-n".
func Device(issuer string, n int) map[string]any {
	code := fmt.Sprintf("WDJB-%04d", n)
	return map[string]any{
		"device_code": fmt.Sprintf("device-canary-%d", n), "user_code": code,
		"verification_uri": issuer + "/activate", "verification_uri_complete": issuer + "/activate?user_code=" + code,
		"expires_in": 600, "interval": 5,
	}
}

func (p *Provider) token(form url.Values) Reply {
	if form.Get("grant_type") == "refresh_token" {
		return p.refresh(form.Get("refresh_token"))
	}
	return p.poll(form.Get("device_code"))
}

func (p *Provider) refresh(token string) Reply {
	p.mu.Lock()
	p.refreshes++
	n := p.refreshes
	p.mu.Unlock()
	if p.Refresh != nil {
		return p.Refresh(n, token)
	}
	return p.Tokens(nil)
}

func (p *Provider) poll(code string) Reply {
	p.mu.Lock()
	p.polls[code]++
	n := p.polls[code]
	decided, ok := p.allow[code]
	if !ok {
		decided, ok = p.allow[""]
	}
	p.mu.Unlock()
	switch {
	case ok:
		return decided
	case !strings.HasPrefix(code, "device-canary-") && p.Poll == nil:
		return Error(http.StatusBadRequest, "invalid_grant")
	case p.Poll != nil:
		return p.Poll(n, code)
	}
	return Pending()
}
