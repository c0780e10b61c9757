// This file holds the HTML form, for the browser of a person or a kiosk.

package page

import (
	"bytes"
	"cmp"
	_ "embed" // the page
	"fmt"
	"html"
	"html/template"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.js
	pageJS string

	pageTemplate = template.Must(template.New("page.html").Parse(pageHTML))
	pageScript   = template.JS(forReaders.ReplaceAllString(pageJS, "")) //nolint:gosec // a file of this program
)

// forReaders is what only readers of the source need: indentation, and comments,
// which are whole lines in our script.
var forReaders = regexp.MustCompile(`(?m)^\s*//.*\n|^\s+`)

// buttons are the words of the button that starts a sign-in, where that is not
// sign_in.
var buttons = map[Status]string{Forbidden: "sign_in_other", Expired: "new_code"}

// html makes the page. Where the brand's template fails on an answer, for all
// that it was tried when it was loaded, the page is ours, and the error is why.
func (a *Answer) html(nonce string) ([]byte, error) {
	d := a.data(nonce)
	own, err := render(pageTemplate, d)
	if custom := a.Brand.orOurs().template; custom != nil && err == nil {
		page, failure := render(custom, d)
		if failure == nil {
			return page, nil
		}
		err = failure
	}
	return own, err
}

func render(t *template.Template, d *Data) ([]byte, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, d); err != nil {
		return nil, fmt.Errorf("rendering page: %w", err)
	}
	return b.Bytes(), nil
}

// data is the answer as a template sees it.
func (a *Answer) data(nonce string) *Data {
	l, b := a.Language.orEnglish(), a.Brand.orOurs()
	m := l.message(a.Status, a.Detail)
	d := &Data{
		Status: a.Status, Title: m.Title, Text: m.Text, Next: m.Next,
		Language: l.tag.String(), Direction: l.words.Direction,
		Name: cmp.Or(b.title, a.Site), Site: a.Site, Logo: b.logo, Scheme: b.scheme,
		Welcome: a.Welcome, EndSession: a.EndSession,
		LoginPath: a.LoginPath, LogoutPath: a.LogoutPath, ConfirmPath: a.ConfirmPath, To: a.To,
		Nonce: nonce, Style: b.style, Script: pageScript,
		language: l,
	}
	if a.Button {
		d.Button = l.say(cmp.Or(buttons[a.Status], "sign_in"))
	}
	if a.Before != "" {
		d.Before = l.message(a.Before, a.BeforeDetail).Text
	}
	if a.Login != nil {
		d.login(a.Login)
	}
	if u := a.User; u != nil {
		d.User, d.Since, d.Until = u.Name, stamp(u.Since), stamp(u.Until)
	}
	d.again(a)
	if a.Login != nil && a.Detail == "away" {
		d.Away = d.away()
	}
	d.Attributes = d.attributes(a)
	return d
}

// stamp writes a time; the zero time is "".
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format("2006-01-02 15:04 MST")
}

// login fills in a sign-in under way.
func (d *Data) login(l *Login) {
	d.UserCode, d.Spelled, d.CodeSize = l.UserCode, spell(l.UserCode), sizeOf(l.UserCode, codeSizes)
	d.VerificationURI, d.URISize = l.VerificationURI, sizeOf(l.VerificationURI, uriSizes)
	d.HasCode, d.QRText = l.VerificationURIComplete != "", l.QRText()
	label := "qr_label_address"
	if d.HasCode {
		label = "qr_label"
	}
	d.QR = template.HTML(SVG(d.QRText, d.language.say(label))) //nolint:gosec // drawn by SVG from numbers, with a title that it escapes
	d.Minutes, d.Clock = d.language.minutes(minutes(l.Expires)), l.Expires.Format("15:04 MST")
	d.Renews = l.Renews.After(time.Now())
	left := secondsTo(l.countsTo())
	d.Countdown = fmt.Sprintf("%d:%02d", left/60, left%60)
}

// away says that the identity provider does not answer, and when it is asked
// again, where that is known.
func (d *Data) away() string {
	words := []string{d.Text, d.Next}
	if d.NextTry != "" {
		words = append(words, d.fill("try_at"))
	}
	return d.language.sentences(words...)
}

// countsTo is when the code that is shown gives way to the next, or ends.
func (l *Login) countsTo() time.Time {
	if l.Renews.After(time.Now()) {
		return l.Renews
	}
	return l.Expires
}

// again fills in when the page is loaded anew. One that is live hears of what
// happens, and has no reason to but for a new time of the next try.
func (d *Data) again(a *Answer) {
	if a.Reload != "" {
		after := max(1, int(a.ReloadAfter/time.Second))
		d.Refresh = fmt.Sprintf("%d;url=%s", after, a.Reload)
		if !a.live() {
			d.After = after
		}
	}
	if a.NextTry.After(time.Now()) {
		d.NextTry = a.NextTry.Format("15:04:05 MST")
		if a.live() {
			d.After = secondsTo(a.NextTry) + 2 // by then the keeper has its answer
		}
	}
}

// live reports whether the page hears of what happens to a sign-in.
func (a *Answer) live() bool {
	return a.WaitPath != "" && (a.Login != nil || a.Status == Approved)
}

func secondsTo(t time.Time) int {
	return max(0, int((time.Until(t)+time.Second-time.Nanosecond)/time.Second))
}

// attributes are what the script knows of the page.
func (d *Data) attributes(a *Answer) template.HTMLAttr {
	facts := [][2]string{
		{"status", string(a.Status)},
		{"reason", a.Detail},
		{"code", d.UserCode},
		{"login-url", a.LoginPath},
		{"wait-url", a.WaitPath},
		{"reload-url", a.Reload},
		{"after", number(d.After)},
		{"say", d.announcement()},
		{"place", strconv.Itoa(place(time.Now()))},
		{"offline", d.language.words.Words["offline"]},
		{"seconds", d.unit()},
	}
	if a.live() {
		facts = append(facts, [2]string{"live", "yes"})
	}
	if a.Login != nil {
		facts = append(facts, [2]string{"left", number(secondsTo(a.Login.countsTo()))})
	}
	if a.Status == Expired && a.Button {
		facts = append(facts, [2]string{"touch", "yes"})
	}
	var b strings.Builder
	for _, fact := range facts {
		if fact[1] != "" {
			fmt.Fprintf(&b, ` data-%s="%s"`, fact[0], html.EscapeString(fact[1]))
		}
	}
	return template.HTMLAttr(strings.TrimSpace(b.String())) //nolint:gosec // escaped just above
}

// number writes a count; 0 is "".
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// unit is "1 second" and so on, up to mostSeconds: what ticks is a sentence in
// the page's language, and the script knows no plurals.
func (d *Data) unit() string {
	all := make([]string, 0, mostSeconds)
	for n := range mostSeconds {
		all = append(all, d.language.seconds(n+1))
	}
	return strings.Join(all, "|")
}

// announcements are the sentences for what has no text of its own.
var announcements = map[Status]string{Pending: "new_code_shown", Approved: "confirm_question"}

// announcement is what a screen reader is told when the page has become this.
func (d *Data) announcement() string {
	key, ok := announcements[d.Status]
	if !ok || d.Away != "" {
		return d.language.sentences(d.Text, d.Next)
	}
	return d.fill(key)
}

// position is where the page stands on the screen, in hundredths of its shorter
// side.
type position struct {
	N    int
	X, Y float64
}

// positions are taken in turn, one a minute, so that nothing burns in. A step is
// wider than the strokes of the code.
var positions = []position{{0, 0, 0}, {1, 1.2, -.5}, {2, .9, .9}, {3, -.3, 1.2}, {4, -1.2, .5}, {5, -1, -.7}, {6, .2, -1.2}, {7, 1.1, .2}}

func place(t time.Time) int { return int(t.Unix()/60) % len(positions) }
