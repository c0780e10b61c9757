// This file holds the text form, for terminals: what a person needs first
// comes first, and nothing but the QR code is more than plain characters.

package page

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

func (a *Answer) text() []byte {
	var b strings.Builder
	l := a.Language.orEnglish()
	if a.Before != "" {
		fmt.Fprintf(&b, "%s\n\n", l.message(a.Before, a.BeforeDetail).Text)
	}
	switch {
	case a.Login != nil:
		a.loginText(&b, l)
	case a.User != nil:
		a.userText(&b, l)
	default:
		m := l.message(a.Status, a.Detail)
		fmt.Fprintf(&b, "%s %s\n", m.Text, m.Next)
		if a.LoginURI != "" {
			fmt.Fprintf(&b, "\n%s\n", a.LoginURI)
		}
		if a.EndSession != "" {
			fmt.Fprintf(&b, "\n%s\n\n%s\n", l.say("end_session"), a.EndSession)
		}
	}
	return []byte(b.String())
}

func (a *Answer) loginText(b *strings.Builder, l *Language) {
	login := a.Login
	switch m := l.message(a.Status, a.Detail); a.Detail {
	case "":
	case "body":
		fmt.Fprintf(b, "%s %s\n\n%s\n\n", m.Text, m.Next, login.WaitURI)
	default:
		fmt.Fprintf(b, "%s %s\n\n", m.Text, m.Next)
	}
	fmt.Fprintf(b, "%s. %s\n\n%s\n\n%s\n\n%s\n\n", l.say("sign_in_to", "site", a.Site), l.say("open_address"), login.VerificationURI, l.say("enter_code"), login.UserCode)
	fmt.Fprintf(b, "%s\n%s\n", l.say("code_works", "minutes", l.minutes(minutes(login.Expires)), "clock", login.Expires.Format("15:04 MST")), l.say("only_if_terminal"))
	if login.Command != "" {
		fmt.Fprintf(b, "\n%s\n\n%s\n", l.say("goes_on"), login.Command)
	}
	if login.NoQR {
		return
	}
	if blocks := Blocks(login.QRText()); blocks != "" {
		fmt.Fprintf(b, "\n%s", blocks)
	}
}

func (a *Answer) userText(b *strings.Builder, l *Language) {
	u := a.User
	fmt.Fprintf(b, "%s %s", l.say("signed_in_to", "site", a.Site), l.say("signed_in_as", "name", u.Name))
	if !u.Since.IsZero() {
		fmt.Fprintf(b, ", %s", l.say("since", "time", u.Since.Format("2006-01-02 15:04 MST")))
	}
	fmt.Fprintf(b, ", %s.\n", l.say("until", "time", u.Until.Format("2006-01-02 15:04 MST")))
}

// ProgressLine is a whole line that says that nothing has changed yet; away is
// whether the identity provider does not answer.
func (l *Language) ProgressLine(expires time.Time, away bool) string {
	l = l.orEnglish()
	key := "waiting"
	if away {
		key = "waiting_away"
	}
	return l.say(key, "minutes", l.minutes(minutes(expires))) + "\n"
}

// OutcomeLine is the whole line that ends a streamed text answer.
func (a *Answer) OutcomeLine() string {
	l := a.Language.orEnglish()
	if a.User != nil {
		return l.say("outcome", "name", a.User.Name) + "\n"
	}
	m := l.message(a.Status, a.Detail)
	return fmt.Sprintf("%s %s\n", m.Text, m.Next)
}

// ReloadingLine ends a streamed text answer where the server loads a new
// configuration.
func (l *Language) ReloadingLine() string { return l.orEnglish().say("reloading") + "\n" }

// BeginText begins an answer in text that stays open.
func (a *Answer) BeginText(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", contentTypes[Text])
	SecurityHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(a.text())
	return err
}
