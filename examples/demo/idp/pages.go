// The pages a person sees: enter the code, sign in, approve or decline
// (RFC 8628 §3.3). Plain forms, no script.

package idp

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"time"
)

const (
	pathPages   = "/device" // the verification_uri
	pathApprove = pathPages + "/approve"
	pathSignIn  = pathPages + "/sign-in"
	pathSignOut = pathPages + "/sign-out"
	pathStyle   = pathPages + "/style.css"
)

//go:embed web
var web embed.FS

var templates = template.Must(template.ParseFS(web, "web/*.html"))

// A view is what the templates show.
type view struct {
	Title   string
	Error   string
	CSRF    string
	Code    string
	Given   bool // the code came with the link: it is to be compared, not typed
	Name    string
	User    *person
	Client  string
	Scopes  []string
	Minutes int
	Message string
	Again   bool // offer to enter another code
}

type person struct{ Name, FullName string }

// scopeWords say what a scope opens, in words for a person.
var scopeWords = map[string]string{
	"openid":         "know who you are",
	"profile":        "see your name, user name and groups",
	"email":          "see your e-mail address",
	"offline_access": "stay signed in when you are away",
}

type pages struct {
	dir      *directory
	devices  *devices
	browsers *browsers
	now      func() time.Time
}

func newPages(set settings, dir *directory, store *storage) http.Handler {
	p := &pages{dir: dir, devices: store.devices, browsers: newBrowsers(set), now: set.now}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathPages, p.enterCode)
	mux.HandleFunc("POST "+pathPages, p.form(p.checkCode))
	mux.HandleFunc("POST "+pathSignIn, p.form(p.signIn))
	mux.HandleFunc("POST "+pathSignOut, p.form(p.signOut))
	mux.HandleFunc("GET "+pathApprove, p.ask)
	mux.HandleFunc("POST "+pathApprove, p.form(p.decide))
	mux.HandleFunc("GET "+pathStyle, func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, web, "web/style.css")
	})

	// Two guards against forms of other sites: this one by what the browser
	// says about the request, and the form token for browsers that say nothing.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.refuse(w, "This form was sent by another site, so nothing was done.")
	}))
	return pageHeaders(guard.Handler(mux))
}

// pageHeaders keeps the pages out of frames, caches and other sites' reach. The
// referrer stays within this origin, since without one the browser would send
// our forms with "Origin: null".
func pageHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// A formHandler answers a form that is known to come from one of our pages.
type formHandler func(w http.ResponseWriter, r *http.Request, br browser)

// form lets a form through that carries its session's token.
func (p *pages) form(next formHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		br, ok := p.browsers.of(r)
		if !ok || !br.owns(r.PostFormValue("csrf")) {
			p.refuse(w, "This page was open too long, or your browser keeps no cookies, so nothing was done.")
			return
		}
		next(w, r, br)
	}
}

// browser returns the session of r, a new one where there is none.
func (p *pages) browser(w http.ResponseWriter, r *http.Request) browser {
	if br, ok := p.browsers.of(r); ok {
		return br
	}
	return p.browsers.start(w, browser{}, nil)
}

// enterCode asks for the code, or shows the one of verification_uri_complete to
// be compared: a link alone must not stand for "this is my device" (RFC 8628
// §3.3.1). What is not a code is not shown as one, whoever made the link.
func (p *pages) enterCode(w http.ResponseWriter, r *http.Request) {
	br, code := p.browser(w, r), r.URL.Query().Get("user_code")
	if code == "" {
		p.showCode(w, br, http.StatusOK, "", false, "")
		return
	}
	dev, err := p.devices.waiting(code)
	if err != nil {
		p.showCode(w, br, http.StatusBadRequest, code, false, codeSentence(err))
		return
	}
	p.showCode(w, br, http.StatusOK, dev.userCode, true, "")
}

func (p *pages) checkCode(w http.ResponseWriter, r *http.Request, br browser) {
	code := r.PostFormValue("user_code")
	if _, err := p.devices.waiting(code); err != nil {
		p.showCode(w, br, http.StatusBadRequest, code, false, codeSentence(err))
		return
	}
	p.goToApprove(w, r, code)
}

func (p *pages) goToApprove(w http.ResponseWriter, r *http.Request, code string) {
	http.Redirect(w, r, pathApprove+"?user_code="+url.QueryEscape(code), http.StatusSeeOther)
}

func (p *pages) signIn(w http.ResponseWriter, r *http.Request, br browser) {
	code, name := r.PostFormValue("user_code"), r.PostFormValue("username")
	u := p.dir.signIn(name, r.PostFormValue("password"))
	if u == nil {
		p.show(w, http.StatusBadRequest, "signin.html", view{
			Title: "Sign in", CSRF: br.csrf, Code: code, Name: name,
			Error: "User name or password is wrong. Type both again; the accounts of this demo are named below.",
		})
		return
	}
	p.browsers.start(w, br, u)
	p.goToApprove(w, r, code)
}

// signOut is for the person at a browser where somebody else is signed in.
func (p *pages) signOut(w http.ResponseWriter, r *http.Request, br browser) {
	p.browsers.start(w, br, nil)
	p.goToApprove(w, r, r.PostFormValue("user_code"))
}

// ask shows who asks for what, or the sign-in form first.
func (p *pages) ask(w http.ResponseWriter, r *http.Request) {
	br, code := p.browser(w, r), r.URL.Query().Get("user_code")
	dev, err := p.devices.waiting(code)
	if err != nil {
		p.showCode(w, br, http.StatusBadRequest, code, false, codeSentence(err))
		return
	}
	if br.user == nil {
		p.show(w, http.StatusOK, "signin.html", view{Title: "Sign in", CSRF: br.csrf, Code: dev.userCode})
		return
	}
	v := view{
		Title: "Allow this sign-in?", CSRF: br.csrf, Code: dev.userCode, Client: dev.clientID,
		User:    &person{Name: br.user.name, FullName: br.user.fullName},
		Minutes: int(dev.expires.Sub(p.now()) / time.Minute),
	}
	if c := p.dir.client(dev.clientID); c != nil {
		v.Client = c.name
	}
	for _, scope := range dev.scopes {
		v.Scopes = append(v.Scopes, scopeWords[scope])
	}
	p.show(w, http.StatusOK, "approve.html", v)
}

// decide carries out the person's answer. The code is the one that the page
// showed, so that a second tab cannot change what is approved here.
func (p *pages) decide(w http.ResponseWriter, r *http.Request, br browser) {
	code := r.PostFormValue("user_code")
	if br.user == nil {
		p.goToApprove(w, r, code)
		return
	}
	var err error
	var done view
	switch r.PostFormValue("decision") {
	case "approve":
		err = p.devices.approve(code, br.user.subject, br.signedIn)
		done = view{Title: "Signed in", Message: "Your device goes on by itself within a few seconds. You can close this page."}
	case "decline":
		err = p.devices.decline(code)
		done = view{Title: "Declined", Message: "The device was not let in. You can close this page.", Again: true}
	default:
		p.goToApprove(w, r, code)
		return
	}
	if err != nil {
		p.showCode(w, br, http.StatusBadRequest, code, false, codeSentence(err))
		return
	}
	p.show(w, http.StatusOK, "message.html", done)
}

// codeSentence says what is wrong with a code and what to do next.
func codeSentence(err error) string {
	switch {
	case errors.Is(err, errCodeExpired):
		return "This code has expired. Go back to your device, ask for a new code (load its page again, or repeat the command), and enter that one."
	case errors.Is(err, errCodeUsed):
		return "This code was answered already. If your device still waits, ask it for a new code and enter that one."
	}
	return "No sign-in waits for this code. Compare it with the code on your device and type it again: eight letters, none of them a vowel."
}

func (p *pages) showCode(w http.ResponseWriter, br browser, status int, code string, given bool, problem string) {
	v := view{Title: "Enter the code", CSRF: br.csrf, Code: code, Given: given, Error: problem}
	if given {
		v.Title = "Compare the code"
	}
	p.show(w, status, "code.html", v)
}

// refuse says why a form was not carried out, and where to start again.
func (p *pages) refuse(w http.ResponseWriter, why string) {
	p.show(w, http.StatusForbidden, "message.html", view{
		Title: "Please start again", Message: why + " Start again with the code on your device.", Again: true,
	})
}

func (p *pages) show(w http.ResponseWriter, status int, name string, v view) {
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, v); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w)
}
