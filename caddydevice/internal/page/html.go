// This file holds the HTML form, for the browser of a person or a kiosk.

package page

import (
	"bytes"
	"cmp"
	_ "embed" // the template
	"fmt"
	"html/template"
	"time"
)

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page.html").Parse(pageHTML))

// pageData is what the template sees. Everything in it but QR, which is drawn
// here, is escaped for its place.
type pageData struct {
	*Answer
	Nonce       string
	Title       string
	Text, Next  string
	ButtonText  string
	BeforeText  string
	QR          template.HTML
	Minutes     string
	UntilClock  string
	Refresh     string
	RefreshSecs int
	Poll        bool
	Since       string
	Until       string
	Away        bool
	EndText     string
}

// buttons are the words of the button that starts a sign-in, where that is not
// sign_in.
var buttons = map[Status]string{Forbidden: "sign_in_other"}

func (a *Answer) html(nonce string) ([]byte, error) {
	l := a.Language.orEnglish()
	m := l.message(a.Status, a.Detail)
	d := pageData{Answer: a, Nonce: nonce, Title: m.Title, Text: m.Text, Next: m.Next}
	d.ButtonText = l.say(cmp.Or(buttons[a.Status], "sign_in"))
	if a.Before != "" {
		d.BeforeText = l.message(a.Before, a.BeforeDetail).Text
	}
	d.Away, d.EndText = a.Login != nil && a.Detail != "", l.say("end_session")
	if login := a.Login; login != nil {
		d.QR = template.HTML(SVG(login.QRText())) //nolint:gosec // drawn by SVG from numbers only
		d.Minutes = l.minutes(minutes(login.Expires))
		d.UntilClock = login.Expires.Format("15:04 MST")
		d.Poll = true
	}
	if a.Reload != "" {
		d.RefreshSecs = max(1, int(a.ReloadAfter/time.Second))
		d.Refresh = fmt.Sprintf("%d;url=%s", d.RefreshSecs, a.Reload)
	}
	if u := a.User; u != nil {
		d.Until = u.Until.Format("2006-01-02 15:04 MST")
		if !u.Since.IsZero() {
			d.Since = u.Since.Format("2006-01-02 15:04 MST")
		}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, d); err != nil {
		return nil, fmt.Errorf("rendering page: %w", err)
	}
	return b.Bytes(), nil
}
