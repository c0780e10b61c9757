// This file holds the answers of the gate: what becomes of a session in words
// and links, and the header fields that go with a status.

package caddydevice

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// retrySoon is the Retry-After of what passes by itself.
	retrySoon = 5 * time.Second
	// pageReload is how often a page without JavaScript loads itself again.
	pageReload = 10 * time.Second
	// slowReload is the same for what a person has to change first.
	slowReload = time.Minute
)

// statuses maps a session's state to what an answer calls it.
var statuses = map[session.State]page.Status{
	session.Pending: page.Pending, session.Approved: page.Approved, session.Active: page.Active, session.Denied: page.Denied, session.Expired: page.Expired,
	session.Failed: page.Failed, session.Ended: page.Ended, session.Superseded: page.Superseded,
}

// offersLogin are the statuses after which signing in is what to do next.
var offersLogin = map[page.Status]bool{
	page.Required: true, page.Denied: true, page.Expired: true, page.Failed: true, page.Ended: true, page.Superseded: true,
}

func statusOf(snap *session.Snapshot) page.Status { return statuses[snap.State] }

// answer writes an answer of ours, in the form that the client asked for. It
// returns no error of its own: nothing of ours reaches handle_errors.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, status int, a *page.Answer) error {
	h.decided(decisionOf(status, a))
	format := page.Negotiate(r.Header["Accept"])
	h.dress(r, a)
	if a.Site != "" {
		l := h.linksFor(r)
		a.LoginPath, a.LogoutPath, a.WaitPath = l.path+"/login", l.path+"/logout", l.path+"/wait"
		if offersLogin[a.Status] {
			a.LoginURI = l.origin + a.LoginPath
		}
	}
	header := w.Header()
	if a.Login != nil && header["Retry-After"] == nil {
		setRetryAfter(w, a.Login.Interval)
	}
	if status == http.StatusUnauthorized && !strings.HasPrefix(header.Get("WWW-Authenticate"), challengePrefix) {
		header.Set("WWW-Authenticate", h.challenge(r, "")) // in place of basic_auth's, say
	}
	if status == http.StatusUnauthorized && isGRPC(r) {
		header.Set("Grpc-Status", "16") // UNAUTHENTICATED
		header.Set("Grpc-Message", "sign in first")
	}
	if r.ProtoMajor == 1 && httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue") {
		// the client keeps its body until it is asked for it (RFC 9110 §10.1.1);
		// Caddy's server would wait for the body before it lets this answer go
		header.Set("Connection", "close")
	}
	if err := a.Write(w, r, status, format); err != nil {
		h.logger.Debug("writing an answer", zap.Error(err))
	}
	return nil
}

// dress gives an answer what the operator and the client want of its looks.
func (h *Handler) dress(r *http.Request, a *page.Answer) *page.Answer {
	a.Site, a.Brand = h.hosts.siteOf(r), h.pages.brand
	a.Language = a.Brand.Choose(r.Header["Accept-Language"])
	return a
}

// later answers what passes by itself: a program hears when to ask again, and
// an HTML page does so.
func (h *Handler) later(w http.ResponseWriter, r *http.Request, status int, a *page.Answer, after time.Duration) error {
	after = max(after, retrySoon)
	setRetryAfter(w, after)
	switch {
	case isNavigation(r):
		a.Reload, a.ReloadAfter = arrivedURI(r), after
	case isBrowser(r) && h.isLogin(r): // the button for a new code
		a.Reload, a.ReloadAfter = h.linksFor(r).login(h.destination(r), 0), after
	}
	return h.answer(w, r, status, a)
}

// unavailable answers 503.
func (h *Handler) unavailable(w http.ResponseWriter, r *http.Request, detail string, after time.Duration) error {
	return h.later(w, r, http.StatusServiceUnavailable, &page.Answer{Status: page.Unavailable, Detail: detail}, after)
}

// limited answers 429.
func (h *Handler) limited(w http.ResponseWriter, r *http.Request, which limit, after time.Duration) error {
	h.reached(r, which)
	return h.later(w, r, http.StatusTooManyRequests, &page.Answer{Status: page.Limited, Detail: limitDetails[which]}, after)
}

// setRetryAfter writes whole seconds, rounded up.
func setRetryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
}

// instruct shows a sign-in under way to the client that started it.
func (h *Handler) instruct(w http.ResponseWriter, r *http.Request, s *session.Session, snap *session.Snapshot, cred credential) error {
	return h.answer(w, r, http.StatusUnauthorized, h.becameOf(r, s, snap, cred.key))
}

// firstInstructions are those of a sign-in that was just started; over is why
// an earlier one is no more.
func (h *Handler) firstInstructions(r *http.Request, s *session.Session, key session.Key, over *session.Snapshot) *page.Answer {
	a := h.instructions(r, s, s.Now(), key)
	if over != nil {
		a.Before, a.BeforeDetail = statusOf(over), string(over.Reason)
	}
	return a
}

// instructions makes the answer that shows a sign-in under way. One that is
// not any more, because it was decided or ran out this moment, is what it is.
func (h *Handler) instructions(r *http.Request, s *session.Session, snap *session.Snapshot, key session.Key) *page.Answer {
	l := h.linksFor(r)
	login := snap.Login
	to := h.destination(r)
	if login == nil {
		return &page.Answer{Status: statusOf(snap), Detail: string(snap.Reason), Button: true, To: to}
	}
	a := &page.Answer{
		Status: page.Pending,
		Login: &page.Login{
			UserCode: login.UserCode, VerificationURI: login.VerificationURI, VerificationURIComplete: login.VerificationURIComplete,
			Expires: snap.Expires, Interval: login.Interval,
			WaitURI: l.origin + l.path + "/wait", QRURI: l.origin + l.path + "/qr.svg",
			Renews: h.renewAt(s, snap),
			Body:   !h.isLogin(r) && r.ContentLength != 0,
			NoQR:   r.URL.Query().Get("qr") == "0" && h.isLogin(r),
		},
		To: to, Reload: l.login(to, snap.Renewals+1), ReloadAfter: pageReload,
	}
	if s.IsAway() {
		a.Detail, a.NextTry = "away", s.NextTry()
	}
	if key != (session.Key{}) && s.Kind() == session.Terminal {
		a.Login.Session = key.Reveal()
		a.Login.Command = h.command(r, l, to, key)
	}
	return a
}

// isLogin reports whether the request asks for the login path itself.
func (h *Handler) isLogin(r *http.Request) bool {
	name, ok := h.reserved(r)
	return ok && name == "login"
}

// destination is where the person was going: the request itself, or on the
// paths that lead there the parameter to.
func (h *Handler) destination(r *http.Request) string {
	if name, _ := h.reserved(r); name != "login" && name != "confirm" {
		return arrivedURI(r)
	}
	to := r.URL.Query().Get("to")
	if r.PostForm.Has("to") {
		to = r.PostForm.Get("to")
	}
	if !validDestination(to) {
		return "/"
	}
	return to
}
