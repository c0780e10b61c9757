// This file holds an answer: what it says, and the headers that all of ours
// carry.

package page

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Status is the outcome that an answer tells, in the words of the JSON form.
type Status string

// The statuses; what each is in the error member is in json.go.
const (
	Pending     Status = "pending"
	Approved    Status = "approved"
	Active      Status = "active"
	Denied      Status = "denied"
	Expired     Status = "expired"
	Failed      Status = "failed"
	Ended       Status = "ended"
	Superseded  Status = "superseded"
	Forbidden   Status = "forbidden"
	Limited     Status = "limited"
	Unavailable Status = "unavailable"
	Required    Status = "required"
	Invalid     Status = "invalid"
)

// Login is a sign-in under way, as it is shown.
type Login struct {
	UserCode, VerificationURI, VerificationURIComplete string
	Expires                                            time.Time
	// Renews is when the next code comes by itself; the zero time where none
	// does.
	Renews   time.Time
	Interval time.Duration
	// WaitURI and QRURI are absolute.
	WaitURI, QRURI string
	// Session is the key, where it is new and of a kind that is printed.
	Session string
	// Command is the line that goes on in a terminal, "" where there is none.
	Command string
	// Body says that the request that was made had one.
	Body bool
	// NoQR leaves the QR code out of the text.
	NoQR bool
}

// User is who is signed in.
type User struct {
	Name, Subject string
	// Since is the zero time where that is not known.
	Since, Until time.Time
}

// Answer is one answer of the gateway. The zero value of a field leaves it
// out.
type Answer struct {
	// Language is what a person reads it in; English where it is nil.
	Language *Language
	// Brand is how a page looks; ours where it is nil.
	Brand *Brand

	Status Status
	// Detail chooses the sentence among those of the status, and goes into
	// the JSON member reason.
	Detail string
	// Before says why an earlier sign-in is over, where a new one is shown: a
	// pair of status and detail.
	Before       Status
	BeforeDetail string

	// Site is the host that is signed in to.
	Site  string
	Login *Login
	// User is who is signed in, or with Approved who approved.
	User *User
	// Welcome greets who has just signed in, and the page goes on by itself.
	Welcome bool
	// NextTry is when an identity provider that does not answer is asked next;
	// the zero time where that is not known.
	NextTry time.Time

	// LoginPath is where to sign in, LoginURI the same as an absolute URL;
	// LogoutPath signs out, WaitPath tells of changes, ConfirmPath takes the
	// word of who approved.
	LoginPath, LoginURI, LogoutPath, WaitPath, ConfirmPath string
	// ConfirmURI is ConfirmPath as an absolute URL, Command the line that does
	// the same in a terminal, "" where there is none.
	ConfirmURI, Command string
	// To is where the person was going: a path of this origin.
	To string
	// Reload makes an HTML page load this path after ReloadAfter; also
	// without JavaScript.
	Reload      string
	ReloadAfter time.Duration
	// Button offers to start a sign-in.
	Button bool
	// EndSession is where the person can sign out of the identity provider too.
	EndSession string
}

// Write sends the answer. Nothing of it can be cached, framed, or read from
// another origin; header fields that are set already stay.
func (a *Answer) Write(w http.ResponseWriter, r *http.Request, status int, format Format) error {
	h := w.Header()
	h.Set("Content-Type", contentTypes[format])
	SecurityHeaders(h)
	h.Add("Vary", "Accept, Accept-Language")
	if format != JSON {
		h.Set("Content-Language", a.Language.Tag())
	}
	var body []byte
	var err error
	switch format {
	case HTML:
		nonce := rand.Text()
		h.Set("Referrer-Policy", "same-origin") // no-referrer would post forms with Origin: null
		h.Set("Content-Security-Policy", a.Brand.orOurs().policy(nonce))
		body, err = a.html(nonce)
	case JSON:
		body, err = a.json()
	default:
		body = a.text()
	}
	if body == nil {
		return err
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return err
	}
	_, writing := bytes.NewReader(body).WriteTo(w)
	return errors.Join(err, writing)
}

// securityHeaders are on every answer of ours.
var securityHeaders = [...][2]string{
	{"Cache-Control", "no-store"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
}

// SecurityHeaders sets what every answer of ours carries, and takes off what
// lets other origins read it: that is for the upstream's answers.
func SecurityHeaders(h http.Header) {
	for _, kv := range securityHeaders {
		h.Set(kv[0], kv[1])
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
}

// minutes rounds what is left of a time to whole minutes, up.
func minutes(until time.Time) int {
	return max(0, int((time.Until(until)+time.Minute-time.Second)/time.Minute))
}

// place is what is signed in to, in words: the operator's name for it, and the
// host.
func (a *Answer) place() string {
	if a.Brand == nil || a.Brand.title == "" {
		return a.Site
	}
	return a.Brand.title + " (" + a.Site + ")"
}

// QRText is what the QR code holds: the URI with the code in it, where there
// is one (RFC 8628 §3.3.1).
func (l *Login) QRText() string {
	if l.VerificationURIComplete != "" {
		return l.VerificationURIComplete
	}
	return l.VerificationURI
}

// WriteText sends a text and nothing else.
func WriteText(w http.ResponseWriter, r *http.Request, text string) error {
	return writeBody(w, r, contentTypes[Text], text)
}

// WriteJSON sends a value and nothing else.
func WriteJSON(w http.ResponseWriter, r *http.Request, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return writeBody(w, r, contentTypes[JSON], string(body)+"\n")
}

// writeBody sends something that is not an answer in words. Nothing in it may
// load anything, or run.
func writeBody(w http.ResponseWriter, r *http.Request, contentType, body string) error {
	SecurityHeaders(w.Header())
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := io.WriteString(w, body)
	return err
}
