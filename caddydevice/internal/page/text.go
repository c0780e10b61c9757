// This file holds the text form, for terminals: what a person needs first
// comes first, and nothing but the QR code is more than plain characters.

package page

import (
	"fmt"
	"net/http"
	"strings"
)

func (a *Answer) text() []byte {
	var b strings.Builder
	if a.Before != "" {
		fmt.Fprintf(&b, "%s\n\n", messageOf(a.Before, a.BeforeDetail).text)
	}
	switch {
	case a.Login != nil:
		a.loginText(&b)
	case a.User != nil:
		a.userText(&b)
	default:
		m := messageOf(a.Status, a.Detail)
		fmt.Fprintf(&b, "%s %s\n", m.text, m.next)
		if a.LoginURI != "" {
			fmt.Fprintf(&b, "\n%s\n", a.LoginURI)
		}
		if a.EndSession != "" {
			fmt.Fprintf(&b, "\n%s\n\n%s\n", endSessionText, a.EndSession)
		}
	}
	return []byte(b.String())
}

func (a *Answer) loginText(b *strings.Builder) {
	l := a.Login
	switch m := messageOf(a.Status, a.Detail); a.Detail {
	case "":
	case "body":
		fmt.Fprintf(b, "%s %s\n\n%s\n\n", m.text, m.next, l.WaitURI)
	default:
		fmt.Fprintf(b, "%s %s\n\n", m.text, m.next)
	}
	fmt.Fprintf(b, "Sign in to %s: open this address on a phone or a computer\n\n%s\n\nand enter the code\n\n%s\n\n", a.Site, l.VerificationURI, l.UserCode)
	fmt.Fprintf(b, "The code works for %s, until %s.\n", plural(minutes(l.Expires), "minute"), l.Expires.Format("15:04 MST"))
	b.WriteString("Only go on if you started this yourself.\n")
	if l.Command != "" {
		fmt.Fprintf(b, "\nOnce it is approved, this goes on:\n\n%s\n", l.Command)
	}
	if l.NoQR {
		return
	}
	if blocks := Blocks(l.QRText()); blocks != "" {
		fmt.Fprintf(b, "\n%s", blocks)
	}
}

func (a *Answer) userText(b *strings.Builder) {
	u := a.User
	fmt.Fprintf(b, "Signed in to %s as %s", a.Site, u.Name)
	if !u.Since.IsZero() {
		fmt.Fprintf(b, " since %s", u.Since.Format("2006-01-02 15:04 MST"))
	}
	fmt.Fprintf(b, ", until %s.\n", u.Until.Format("2006-01-02 15:04 MST"))
}

// ProgressLine is a whole line that says that nothing has changed yet; away is
// whether the identity provider does not answer.
func (l *Login) ProgressLine(away bool) string {
	left := plural(minutes(l.Expires), "minute")
	if away {
		return fmt.Sprintf("waiting, %s left; the identity provider does not answer at the moment\n", left)
	}
	return fmt.Sprintf("waiting, %s left\n", left)
}

// OutcomeLine is the whole line that ends a streamed text answer.
func (a *Answer) OutcomeLine() string {
	if a.User != nil {
		return fmt.Sprintf("Signed in as %s.\n", a.User.Name)
	}
	m := messageOf(a.Status, a.Detail)
	return fmt.Sprintf("%s %s\n", m.text, m.next)
}

// BeginText begins an answer in text that stays open.
func (a *Answer) BeginText(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", contentTypes[Text])
	SecurityHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(a.text())
	return err
}
