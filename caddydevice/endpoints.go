// This file holds the gateway's own paths below path_prefix.

package caddydevice

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// maxForm and formTimeout bound the body of a form.
	maxForm     = 64 << 10
	formTimeout = 10 * time.Second
)

// backchannelLogout is the one path whose caller is the identity provider:
// credentials mean nothing there.
const backchannelLogout = "backchannel-logout"

// endpoint answers one method of a reserved path.
type endpoint func(*Handler, http.ResponseWriter, *http.Request) error

// endpoints are the reserved paths by name and method.
var endpoints = map[string]map[string]endpoint{
	"login":   {http.MethodGet: (*Handler).getLogin, http.MethodPost: (*Handler).postLogin},
	"confirm": {http.MethodPost: (*Handler).postConfirm},
	"wait":    {http.MethodGet: (*Handler).getWait},
	"qr.svg":  qrIn((*page.Answer).WriteSVG),
	"qr.png":  qrIn((*page.Answer).WritePNG),
	"qr.txt":  qrIn((*page.Answer).WriteBlocks),
	"session": {http.MethodGet: (*Handler).getSession, http.MethodHead: (*Handler).getSession},
	"logout":  {http.MethodPost: (*Handler).postLogout},

	backchannelLogout: {http.MethodPost: (*Handler).postBackchannelLogout},
}

// serveReserved answers a reserved path. Nothing there reaches the upstream.
func (h *Handler) serveReserved(w http.ResponseWriter, r *http.Request, name string) error {
	methods, ok := endpoints[name]
	if !ok {
		return h.answer(w, r, http.StatusNotFound, &page.Answer{Status: page.Invalid, Detail: "not_found"})
	}
	serve, ok := methods[r.Method]
	if !ok {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		return h.answer(w, r, http.StatusMethodNotAllowed, &page.Answer{Status: page.Invalid, Detail: "method"})
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if r.Method == http.MethodPost {
		if !h.origins.ownForm(r) {
			return h.answer(w, r, http.StatusForbidden, &page.Answer{Status: page.Forbidden, Detail: "cross_origin"})
		}
		// not every writer has deadlines; the size is bounded in any case
		deadlines := http.NewResponseController(w)
		_ = deadlines.SetReadDeadline(time.Now().Add(formTimeout))
		err := r.ParseForm()
		_ = deadlines.SetReadDeadline(time.Time{})
		if err != nil {
			return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "form"})
		}
	}
	if h.hosts.siteOf(r) == "" {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "host"})
	}
	if cred := h.credentialOf(r); cred.source == fromToken && name != backchannelLogout {
		who, done, err := h.bearerOf(w, r, cred.token)
		if done {
			return err
		}
		return h.serveTokenEndpoint(w, r, name, who)
	}
	return serve(h, w, r)
}

// own finds the session of a request to a reserved path. done means that the
// answer is written: the credential is wrong, or cannot be looked up.
func (h *Handler) own(w http.ResponseWriter, r *http.Request) (s *session.Session, cred credential, done bool, err error) {
	cred = h.credentialOf(r)
	if cred.source == ambiguous {
		return nil, cred, true, h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "authorization"})
	}
	s, err = h.identify(r, cred)
	if err != nil {
		return nil, cred, true, h.fault(w, r, "looking up a session", err)
	}
	if cred.source == badBearer || (s == nil && cred.source == fromBearer) {
		return nil, cred, true, h.refuseBearer(w, r, nil, "unknown")
	}
	return s, cred, false, nil
}

// getLogin starts or resumes a sign-in. The page's own reloads carry again:
// they never start one where the browser has lost the cookie, or where the
// sign-in has come to an end that a person should see. What begins by itself
// counts as a renewal: no page asks for ever where nobody touches it.
func (h *Handler) getLogin(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	if query.Has("to") && !validDestination(query.Get("to")) {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "to"})
	}
	again, _ := strconv.Atoi(query.Get("again"))
	times, _ := strconv.Atoi(query.Get(late))
	s, cred, done, err := h.own(w, r)
	switch {
	case done:
		return err
	case s == nil && again > 0 && cred.source == noCredential:
		return h.noCookie(w, r)
	case s == nil:
		return h.startLogin(w, r, nil, 0)
	}
	snap := s.Now()
	switch {
	case undecided(snap):
		h.seen(s)
		h.renewIfDue(r, s)
		return h.showLogin(w, r, s, h.becameOf(r, s, s.Now(), cred.key), cred.key)
	case s.Claimable(snap):
		return h.claim(w, r, s, h.linksFor(r).welcome(h.destination(r)))
	case snap.State == session.Active && query.Has(welcomed):
		return h.welcome(w, r, snap)
	case snap.State == session.Active && isNavigation(r):
		return h.redirect(w, h.destination(r))
	case snap.State == session.Active:
		return h.answer(w, r, http.StatusOK, signedIn(snap))
	case snap.State == session.Superseded && times <= mostReloads:
		return h.superseded(w, r, h.destination(r), times)
	case cred.source == fromBearer:
		return h.refuseBearer(w, r, snap, "")
	case again > 0 && again <= h.pages.renewals && (snap.Reason == session.Unrenewed || query.Has(anew)):
		return h.startLogin(w, r, snap, again)
	case again > 0 && snap.State != session.Superseded:
		return h.over(w, r, snap, again)
	}
	return h.startLogin(w, r, snap, 0)
}

// over shows why a sign-in has come to its end. Where a passer-by or the
// provider has ended it the page begins anew after a while, since on a wall
// nobody can press the button.
func (h *Handler) over(w http.ResponseWriter, r *http.Request, snap *session.Snapshot, again int) error {
	to := h.destination(r)
	a := &page.Answer{Status: statusOf(snap), Detail: string(snap.Reason), Button: true, To: to}
	if (snap.State == session.Denied || snap.State == session.Failed) && again <= h.pages.renewals {
		a.Reload, a.ReloadAfter = h.linksFor(r).login(to, again)+"&"+anew+"=1", slowReload
	}
	return h.answer(w, r, http.StatusUnauthorized, a)
}

const (
	// anew is the query by which a page begins a sign-in by itself.
	anew = "anew"
	// welcomed is the query by which a browser comes from the claim.
	welcomed = "welcome"
	// welcomeFor is how long a page says who is signed in before it goes on.
	welcomeFor = 4 * time.Second
)

// welcome says who is signed in for a moment, and goes on.
func (h *Handler) welcome(w http.ResponseWriter, r *http.Request, snap *session.Snapshot) error {
	a := signedIn(snap)
	a.Welcome, a.To = true, h.destination(r)
	a.Reload, a.ReloadAfter = a.To, welcomeFor
	return h.answer(w, r, http.StatusOK, a)
}

// noCookie tells a browser that it did not keep the cookie, and tries anew
// after a while: somebody may have changed that.
func (h *Handler) noCookie(w http.ResponseWriter, r *http.Request) error {
	to := h.destination(r)
	return h.answer(w, r, http.StatusUnauthorized, &page.Answer{
		Status: page.Required, Detail: "cookie", Button: true, To: to,
		Reload: h.linksFor(r).login(to, 0), ReloadAfter: slowReload,
	})
}

func (h *Handler) startLogin(w http.ResponseWriter, r *http.Request, over *session.Snapshot, renewals int) error {
	if !h.mayStart(r, true) {
		return h.answer(w, r, http.StatusUnauthorized, &page.Answer{Status: page.Required})
	}
	s, key, ok, err := h.begin(w, r, renewals)
	if !ok {
		return err
	}
	h.cookie.set(w, key)
	return h.showLogin(w, r, s, h.firstInstructions(r, s, key, over), key)
}

// showLogin shows a sign-in on the login path: text stays open until its end.
func (h *Handler) showLogin(w http.ResponseWriter, r *http.Request, s *session.Session, a *page.Answer, key session.Key) error {
	if page.Negotiate(r.Header["Accept"]) == page.Text && a.Login != nil {
		return h.stream(w, r, s, a, key)
	}
	return h.answer(w, r, http.StatusOK, a)
}

// postLogin is the button of a page: a new code in place of the one that is
// shown. With alive it is a sign of life from a person, and nothing more.
func (h *Handler) postLogin(w http.ResponseWriter, r *http.Request) error {
	if r.Form.Has("to") && !validDestination(r.Form.Get("to")) {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "to"})
	}
	old, _, done, err := h.own(w, r)
	if done {
		return err
	}
	if r.PostForm.Has("alive") {
		return h.alive(w, r, old)
	}
	if !h.mayStart(r, true) {
		return h.answer(w, r, http.StatusUnauthorized, &page.Answer{Status: page.Required})
	}
	s, key, ok, err := h.begin(w, r, 0)
	if !ok {
		return err
	}
	if old != nil {
		if err := h.replace(r, old); err != nil {
			h.logger.Warn("a replaced sign-in could not be ended; it runs out by itself", zap.Error(err))
		}
	}
	h.cookie.set(w, key)
	if page.Negotiate(r.Header["Accept"]) == page.HTML {
		return h.redirect(w, h.linksFor(r).login(h.destination(r), 1))
	}
	return h.answer(w, r, http.StatusOK, h.firstInstructions(r, s, key, nil))
}

// alive notes a person's sign of life: the code may be renewed again.
func (h *Handler) alive(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if s == nil || s.Now().State != session.Pending {
		return h.answer(w, r, http.StatusNotFound, &page.Answer{Status: page.Invalid, Detail: "no_login"})
	}
	h.seen(s)
	if err := s.Alive(r.Context()); err != nil {
		return h.fault(w, r, "noting a sign of life", err)
	}
	return h.nothing(w)
}

// nothing answers that all is well, and that there is nothing to say.
func (h *Handler) nothing(w http.ResponseWriter) error {
	h.decided(answered)
	page.SecurityHeaders(w.Header())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// replace ends the session whose key the client is about to lose.
func (h *Handler) replace(r *http.Request, old *session.Session) error {
	if old.Now().State == session.Pending {
		return old.End(r.Context(), session.Ended, session.Replaced)
	}
	return h.engine.table.SignOut(r.Context(), old)
}

// qrIn draws the caller's own code in one form.
func qrIn(write func(*page.Answer, http.ResponseWriter, *http.Request) error) map[string]endpoint {
	get := func(h *Handler, w http.ResponseWriter, r *http.Request) error {
		s, _, done, err := h.own(w, r)
		if done {
			return err
		}
		if s == nil || s.Now().State != session.Pending {
			return h.answer(w, r, http.StatusNotFound, &page.Answer{Status: page.Invalid, Detail: "no_login"})
		}
		h.seen(s)
		a := h.dress(r, h.instructions(r, s, s.Now(), session.Key{}))
		if a.Login == nil {
			return h.answer(w, r, http.StatusNotFound, &page.Answer{Status: page.Invalid, Detail: "no_login"})
		}
		h.decided(answered)
		return write(a, w, r)
	}
	return map[string]endpoint{http.MethodGet: get, http.MethodHead: get}
}

// getSession says who is signed in.
func (h *Handler) getSession(w http.ResponseWriter, r *http.Request) error {
	format := r.URL.Query().Get("format")
	if r.URL.Query().Has("format") && toolFormats[format] == "" {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "format"})
	}
	s, cred, done, err := h.own(w, r)
	switch {
	case done:
		return err
	case s == nil:
		return h.answer(w, r, http.StatusUnauthorized, h.nobodyIn(r))
	}
	snap := s.Now()
	switch {
	case undecided(snap):
		h.seen(s)
		return h.instruct(w, r, s, snap, cred)
	case s.Claimable(snap):
		return h.claim(w, r, s, arrivedURI(r))
	case snap.State == session.Active:
		s.Use()
		if format != "" {
			return h.giveKey(w, r, s, cred.key, format)
		}
		return h.answer(w, r, http.StatusOK, signedIn(snap))
	case cred.source == fromBearer:
		return h.refuseBearer(w, r, snap, "")
	}
	return h.answer(w, r, http.StatusUnauthorized, &page.Answer{Status: statusOf(snap), Detail: string(snap.Reason), Button: true, To: "/"})
}

// signedOut is the query by which a browser comes from its sign-out.
const signedOut = "signed_out"

// nobodyIn is the answer of who is signed in where nobody is. A person who has
// just signed out here may be signed in at the identity provider still, and can
// go there (OpenID Connect RP-Initiated Logout 1.0).
func (h *Handler) nobodyIn(r *http.Request) *page.Answer {
	a := &page.Answer{Status: page.Required, Button: true, To: "/"}
	if r.URL.Query().Has(signedOut) {
		a.Status, a.Detail = page.Ended, string(session.SignedOut)
		a.EndSession = h.engine.keeper.Client().EndSessionURL()
	}
	return a
}

// toolFormats are the forms in which tools read a credential: a line of
// curl -K, of a netrc file, and a header field for curl -H @file.
var toolFormats = map[string]string{
	"curl":   "header = \"Authorization: Bearer {key}\"\n",
	"netrc":  "machine {host} login device password {key}\n",
	"header": "Authorization: Bearer {key}\n",
}

// giveKey answers the caller's own key in a form that a tool reads. A
// browser's is never printed: it is in its cookie alone.
func (h *Handler) giveKey(w http.ResponseWriter, r *http.Request, s *session.Session, key session.Key, format string) error {
	if s.Kind() != session.Terminal {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "browser_key"})
	}
	fill := strings.NewReplacer("{host}", h.hosts.siteOf(r), "{key}", key.Reveal())
	h.decided(answered)
	return page.WriteText(w, r, fill.Replace(toolFormats[format]))
}

// postLogout ends the caller's session. Where nobody is signed in there is
// nothing to do, and that is no mistake.
func (h *Handler) postLogout(w http.ResponseWriter, r *http.Request) error {
	s, cred, done, err := h.own(w, r)
	if done {
		return err
	}
	if s != nil {
		if err := h.engine.table.SignOut(r.Context(), s); err != nil {
			return h.fault(w, r, "ending a session", err)
		}
		h.logger.Info("signed out", zap.String("session", s.ID().Short()), zap.String("client_ip", clientIP(r)))
	}
	if cred.source != fromBearer {
		h.cookie.clear(w)
	}
	switch {
	case page.Negotiate(r.Header["Accept"]) != page.HTML:
		return h.nothing(w)
	case validDestination(r.PostForm.Get("to")): // "that is not me": somebody else is to sign in
		return h.redirect(w, h.linksFor(r).login(r.PostForm.Get("to"), 0))
	}
	return h.redirect(w, h.linksFor(r).path+"/session?"+signedOut)
}

// signedIn is the answer that says who is signed in.
func signedIn(snap *session.Snapshot) *page.Answer {
	return &page.Answer{Status: page.Active, User: &page.User{
		Name: displayName(snap.Identity), Subject: snap.Identity.Subject, Since: snap.Identity.Since, Until: snap.Expires,
	}}
}
