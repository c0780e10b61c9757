// This file holds the check of an operator's template: it shows each kind of
// answer before a person sees one.

package page

import (
	"errors"
	"fmt"
	"html/template"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// readTemplate reads a template and tries it on samples.
func (b *Brand) readTemplate(name string) (*template.Template, error) {
	raw, err := readFile(name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(filepath.Base(name)).Parse(string(raw))
	if err != nil {
		return nil, err
	}
	for _, s := range samples() {
		s.answer.Brand = b
		d := s.answer.data(sampleNonce)
		page, err := render(t, d)
		if err != nil {
			return nil, fmt.Errorf("showing %s: %w", s.name, err)
		}
		if err := s.check(string(page), string(d.Attributes)); err != nil {
			return nil, fmt.Errorf("showing %s: %w", s.name, err)
		}
	}
	return t, nil
}

// sample is an answer as a template may have to show it, and what has to be
// found on the page then.
type sample struct {
	name   string
	answer *Answer
	wants  []want
}

// want is something that a page without would be of no use, and the words for
// it.
type want struct {
	text string
	say  string
}

const (
	sampleNonce = "NONCE"
	sampleSite  = "device.example.com"
	sampleCode  = "WDJB-MJHT"
	sampleURI   = "https://idp.example.com/device"
	samplePath  = "/sample/.device/"
)

var (
	wantSite  = want{sampleSite, "it does not say which host asks: put {{.Site}} into it"}
	wantLogin = want{samplePath + "login\"", "it has no form for a new code: <form method=\"post\" action=\"{{.LoginPath}}\"> with the hidden field to"}
	wantOut   = want{samplePath + "logout\"", "it has no form to end the sign-in: <form method=\"post\" action=\"{{.LogoutPath}}\">"}
)

// samples are an answer of every status, and of those that have more to show
// one of each kind.
func samples() []sample {
	return slices.Concat(signIns(), ends(), passing())
}

// signIns are what a person acts on.
func signIns() []sample {
	return []sample{
		{"a code", sampleLogin(), []want{
			wantSite, wantLogin,
			{sampleCode, "it does not show the code: put {{.UserCode}} into it"},
			{sampleURI, "it does not show the address: put {{.VerificationURI}} into it"},
			{`name="to"`, "its form has no field to: <input type=\"hidden\" name=\"to\" value=\"{{.To}}\">"},
		}},
		{"a code that renews itself", sampleRenewed(), nil},
		{"a code while the identity provider is away", sampleAway(), nil},
		{"a code that no QR code holds", sampleLong(), nil},
		{"an approval to confirm", sampleUser(Approved), []want{
			wantSite, wantOut,
			{samplePath + "confirm\"", "it has no form to confirm: <form method=\"post\" action=\"{{.ConfirmPath}}\"> with the hidden field to"},
		}},
		{"who has just signed in", sampleWelcome(), []want{wantOut}},
		{"who is signed in", sampleUser(Active), []want{wantOut}},
	}
}

// ends are what a new sign-in may follow.
func ends() (all []sample) {
	for _, status := range []Status{Denied, Expired, Failed, Ended, Superseded, Forbidden, Required} {
		a := sampleAnswer(status)
		a.Button, a.EndSession = true, "https://idp.example.com/logout"
		all = append(all, sample{string(status), a, []want{wantLogin}})
	}
	return all
}

// passing are what is tried again, and what is not understood.
func passing() (all []sample) {
	for _, status := range []Status{Limited, Unavailable, Invalid} {
		a := sampleAnswer(status)
		a.Reload, a.ReloadAfter = "/sample", time.Minute
		all = append(all, sample{string(status), a, nil})
	}
	return append(all, sample{"what has no host", &Answer{Status: Invalid, Detail: "host"}, nil})
}

func sampleAnswer(status Status) *Answer {
	return &Answer{
		Status: status, Site: sampleSite, To: "/sample",
		LoginPath: samplePath + "login", LogoutPath: samplePath + "logout", WaitPath: samplePath + "wait", ConfirmPath: samplePath + "confirm",
	}
}

func sampleLogin() *Answer {
	a := sampleAnswer(Pending)
	a.Reload, a.ReloadAfter = samplePath+"login?again=1", 10*time.Second
	a.Login = &Login{
		UserCode: sampleCode, VerificationURI: sampleURI, VerificationURIComplete: sampleURI + "?user_code=" + sampleCode,
		Expires: time.Now().Add(10 * time.Minute), Interval: 5 * time.Second,
	}
	return a
}

func sampleRenewed() *Answer {
	a := sampleLogin()
	a.Login.Renews = time.Now().Add(8 * time.Minute)
	return a
}

func sampleAway() *Answer {
	a := sampleLogin()
	a.Detail, a.NextTry, a.Before, a.BeforeDetail = "away", time.Now().Add(time.Minute), Ended, "idle"
	return a
}

func sampleLong() *Answer {
	a := sampleLogin()
	a.Login.VerificationURIComplete += strings.Repeat("x", 4000)
	return a
}

func sampleUser(status Status) *Answer {
	a := sampleAnswer(status)
	a.User = &User{Name: "alice", Subject: "1", Since: time.Now(), Until: time.Now().Add(time.Hour)}
	return a
}

func sampleWelcome() *Answer {
	a := sampleUser(Active)
	a.Welcome, a.Reload, a.ReloadAfter = true, "/sample", 4*time.Second
	return a
}

var (
	// inline are the elements that a browser heeds only with the nonce.
	inline = regexp.MustCompile(`(?i)<(?:style|script)\b[^>]*>`)
	// inlineAttribute are the attributes that it never heeds.
	inlineAttribute = regexp.MustCompile(`(?i)<[a-z][^>]*\s(style|on[a-z]+)\s*=`)
)

// check looks for what the page needs to be of use. What stands in the
// attributes alone is for the script, and nobody sees it.
func (s sample) check(page, attributes string) error {
	scripted := strings.Contains(page, attributes) && strings.Contains(page, string(pageScript))
	page = strings.ReplaceAll(page, attributes, "")
	for _, w := range s.wants {
		if !strings.Contains(page, w.text) {
			return errors.New(w.say)
		}
	}
	for _, tag := range inline.FindAllString(page, -1) {
		if !strings.Contains(tag, `nonce="`+sampleNonce+`"`) {
			return fmt.Errorf("%s is not heeded by a browser: write nonce=\"{{.Nonce}}\" into it", tag)
		}
	}
	if found := inlineAttribute.FindStringSubmatch(page); found != nil {
		return fmt.Errorf("an attribute %s is not heeded by a browser: write it into a style or script element", found[1])
	}
	refreshed := strings.Contains(page, ";url="+samplePath+"login?again=1")
	if s.answer.Login != nil && !scripted && !refreshed {
		return errors.New("it would never go on: it needs {{.Attributes}} in main and {{.Script}} in a script, or {{.Refresh}} in a meta element")
	}
	return nil
}
