// This file holds what is written down of a request, and the questions that a
// test asks of the record.
package record

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Entry is one request to a recorded endpoint and its answer.
type Entry struct {
	Start      time.Time // when the request had come in
	End        time.Time // when the answer was complete, just before it was handed over
	Endpoint   Endpoint
	Path       string
	GrantType  string // of a token request
	DeviceCode string // hash of the device code, sent or answered; empty where there is none
	Status     int    // 0: no answer, the connection was cut
	Error      string // the member `error` of the answer
	InPlace    bool   // answered by the test, not by the provider

	RefreshToken    string // hash of the one presented, to be used or to be revoked
	NewRefreshToken string // hash of the one answered
}

// Terminal tells whether no poll may follow: a success, or an error other than
// "not yet". An answer that only says that the provider is in trouble is none.
func (e Entry) Terminal() bool {
	switch e.Error {
	case "authorization_pending", "slow_down", "temporarily_unavailable", "server_error":
		return false
	case "":
		return e.Status == http.StatusOK
	}
	return true
}

// Hash is how a secret stands in an Entry: its SHA-256, and nothing for none.
func Hash(secret string) string {
	if secret == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Entries are all requests that were answered so far, by their start.
func (r *Recorder) Entries() []Entry {
	r.mu.Lock()
	entries := slices.Clone(r.entries)
	r.mu.Unlock()
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Start.Compare(b.Start) })
	return entries
}

// Polls are the device access token requests (RFC 8628 §3.4).
func (r *Recorder) Polls() []Entry {
	return r.filter(func(e Entry) bool { return e.Endpoint == Token && e.DeviceCode != "" })
}

// PollsOf are the polls with one device code, named by its hash.
func (r *Recorder) PollsOf(deviceCodeHash string) []Entry {
	return r.filter(func(e Entry) bool { return e.Endpoint == Token && e.DeviceCode == deviceCodeHash })
}

// Starts are the device authorization requests.
func (r *Recorder) Starts() []Entry {
	return r.filter(func(e Entry) bool { return e.Endpoint == Device })
}

// Refreshes are the token requests with a refresh token.
func (r *Recorder) Refreshes() []Entry {
	return r.filter(isRefresh)
}

// PresentationsOf are the refreshes with one refresh token, named by its hash.
func (r *Recorder) PresentationsOf(refreshTokenHash string) []Entry {
	return r.filter(func(e Entry) bool { return isRefresh(e) && e.RefreshToken == refreshTokenHash })
}

// Revocations are the requests to revoke a token (RFC 7009).
func (r *Recorder) Revocations() []Entry {
	return r.filter(func(e Entry) bool { return e.Endpoint == Revocation })
}

func isRefresh(e Entry) bool { return e.Endpoint == Token && e.GrantType == "refresh_token" }

func (r *Recorder) filter(keep func(Entry) bool) []Entry {
	var kept []Entry
	for _, e := range r.Entries() {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// MinGap is the shortest time from the end of one answer to the start of the
// next poll with that code, and the number of gaps; negative where two polls
// overlapped. The way to the first poll counts too, from the end of the answer
// that brought the code.
func (r *Recorder) MinGap(deviceCodeHash string) (shortest time.Duration, gaps int) {
	var last time.Time
	for _, e := range r.Entries() {
		if e.DeviceCode != deviceCodeHash {
			continue
		}
		if gap := e.Start.Sub(last); !last.IsZero() {
			if gaps == 0 || gap < shortest {
				shortest = gap
			}
			gaps++
		}
		if e.End.After(last) {
			last = e.End
		}
	}
	return shortest, gaps
}

// AfterTerminal counts the polls that came after a terminal answer for the
// same device code.
func (r *Recorder) AfterTerminal() int {
	n, over := 0, map[string]time.Time{}
	for _, e := range r.Polls() {
		if end, isOver := over[e.DeviceCode]; isOver && e.Start.After(end) {
			n++
		}
		if _, isOver := over[e.DeviceCode]; !isOver && e.Terminal() {
			over[e.DeviceCode] = e.End
		}
	}
	return n
}

// Secrets are the secret values seen so far, by kind: client secrets, device
// codes, code verifiers, user codes and tokens. They are for a search in logs and must not be
// printed.
func (r *Recorder) Secrets() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string][]string{}
	for kind, values := range r.secrets {
		all[kind] = slices.Clone(values)
	}
	return all
}

// note is an entry in the making; it travels in the request's context.
type note struct {
	start   time.Time
	entry   Entry
	inPlace bool
}

type noteKey struct{}

func withNote(ctx context.Context, n *note) context.Context {
	return context.WithValue(ctx, noteKey{}, n)
}

func noteOf(ctx context.Context) *note {
	n, _ := ctx.Value(noteKey{}).(*note)
	return n
}

func (n *note) take(req *http.Request, form url.Values, endpoint Endpoint) {
	n.entry = Entry{
		Start: n.start, Endpoint: endpoint, Path: req.URL.Path, GrantType: form.Get("grant_type"),
		DeviceCode: Hash(form.Get("device_code")), RefreshToken: Hash(form.Get("refresh_token")),
	}
	if endpoint == Revocation {
		n.entry.RefreshToken = Hash(form.Get("token"))
	}
}

// complete adds the entry before the answer leaves, so that whoever has the
// answer finds it in the record.
func (r *Recorder) complete(n *note, status int, answer map[string]any) {
	if n == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for member, kind := range answerSecrets {
		r.keep(kind, text(answer, member))
	}
	if n.entry.Endpoint == "" {
		return
	}
	e := &n.entry
	e.Status, e.Error, e.InPlace = status, text(answer, "error"), n.inPlace
	switch e.Endpoint {
	case Device:
		e.DeviceCode = Hash(text(answer, "device_code"))
	case Token:
		e.NewRefreshToken = Hash(text(answer, "refresh_token"))
	case Revocation:
	}
	e.End = time.Now()
	r.entries = append(r.entries, *e)
}

// requestSecrets and answerSecrets name the members that hold a secret.
var (
	requestSecrets = map[string]string{
		"client_secret": "client secret", "device_code": "device code", "refresh_token": "refresh token",
		"token": "token", "client_assertion": "client assertion", "code_verifier": "code verifier",
	}
	answerSecrets = map[string]string{
		"device_code": "device code", "user_code": "user code", "access_token": "access token",
		"refresh_token": "refresh token", "id_token": "ID token",
	}
)

func (r *Recorder) keepRequestSecrets(req *http.Request, form url.Values) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for member, kind := range requestSecrets {
		r.keep(kind, form.Get(member))
	}
	if scheme, credential, _ := strings.Cut(req.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		r.keep("access token", credential)
	} else if strings.EqualFold(scheme, "Basic") {
		r.keep("basic credential", credential)
		r.keepPassword(credential)
	}
}

// keepPassword takes the client secret out of Basic (RFC 6749 §2.3.1: form-encoded).
func (r *Recorder) keepPassword(credential string) {
	plain, err := base64.StdEncoding.DecodeString(credential)
	if err != nil {
		return
	}
	_, password, _ := strings.Cut(string(plain), ":")
	if decoded, err := url.QueryUnescape(password); err == nil {
		password = decoded
	}
	r.keep("client secret", password)
}

// keep is called with the lock held.
func (r *Recorder) keep(kind, secret string) {
	if secret != "" && !slices.Contains(r.secrets[kind], secret) {
		r.secrets[kind] = append(r.secrets[kind], secret)
	}
}

func text(answer map[string]any, member string) string {
	s, _ := answer[member].(string)
	return s
}
