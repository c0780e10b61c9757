// This file holds the text form, for terminals: what a person needs first
// comes first, and nothing but the QR code is more than plain characters.

package page

import (
	"net/http"
	"strings"
	"time"

	"golang.org/x/text/width"
)

// textWriter writes paragraphs: sentences are wrapped, and what is to be copied
// stands alone on a line of its own, as it is.
type textWriter struct {
	b        strings.Builder
	language *Language
}

// paragraph writes sentences, wrapped to the width of a terminal.
func (t *textWriter) paragraph(sentences ...string) {
	t.gap()
	t.b.WriteString(wrap(t.language.sentences(sentences...)))
	t.b.WriteByte('\n')
}

// alone writes a line that is to be copied or clicked.
func (t *textWriter) alone(line string) {
	t.gap()
	t.b.WriteString(line)
	t.b.WriteByte('\n')
}

func (t *textWriter) gap() {
	if t.b.Len() > 0 {
		t.b.WriteByte('\n')
	}
}

func (a *Answer) text() []byte {
	l := a.Language.orEnglish()
	t := textWriter{language: l}
	if a.Before != "" {
		t.paragraph(l.message(a.Before, a.BeforeDetail).Text)
	}
	switch {
	case a.Login != nil:
		a.loginText(&t, l)
	case a.Status == Approved && a.User != nil:
		a.confirmText(&t, l)
	case a.User != nil:
		t.paragraph(l.say("session", "site", a.place(), "name", a.User.Name), l.period(a.User.Since, a.User.Until))
	default:
		m := l.message(a.Status, a.Detail)
		t.paragraph(m.Text, m.Next)
		if a.LoginURI != "" {
			t.alone(a.LoginURI)
		}
		if a.EndSession != "" {
			t.paragraph(l.say("end_session"))
			t.alone(a.EndSession)
		}
	}
	return []byte(t.b.String())
}

// loginText shows a sign-in: where to go, which code to enter, until when, and
// the line that goes on; the QR code comes last, below what fits a screen.
func (a *Answer) loginText(t *textWriter, l *Language) {
	login := a.Login
	switch m := l.message(a.Status, a.Detail); a.Detail {
	case "":
	case "body":
		t.paragraph(m.Text, m.Next)
		t.alone(login.WaitURI)
	default:
		t.paragraph(m.Text, m.Next)
	}
	t.paragraph(l.say("sign_in_to", "site", a.place()))
	t.paragraph(l.say("open_address"))
	t.alone(login.VerificationURI)
	t.paragraph(l.say("enter_code"))
	t.alone(login.UserCode)
	t.paragraph(l.say("code_works", "minutes", l.minutes(minutes(login.Expires)), "clock", login.Expires.Format("15:04 MST")), l.say("only_if_terminal"))
	if login.Command != "" {
		key := "goes_on"
		if login.Body {
			key = "goes_on_body"
		}
		t.paragraph(l.say(key))
		t.alone(login.Command)
	}
	if login.NoQR {
		return
	}
	if blocks := Blocks(login.QRText()); blocks != "" {
		t.paragraph(l.say("qr_below"))
		t.gap()
		t.b.WriteString(blocks)
	}
}

// confirmText asks for the person's word.
func (a *Answer) confirmText(t *textWriter, l *Language) {
	t.paragraph(l.say("confirm_question", "name", a.User.Name))
	if a.Command != "" {
		t.paragraph(l.say("confirm_command"))
		t.alone(a.Command)
	}
}

// period says when a session began, where that is known, and when it will end.
func (l *Language) period(since, until time.Time) string {
	key := "session_since"
	if since.IsZero() {
		key = "session_until"
	}
	return l.say(key, "since", stamp(since), "until", stamp(until))
}

// Words is the answer in text, for one that is open already.
func (a *Answer) Words() string { return string(a.text()) }

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
		return wrap(l.say("outcome", "name", a.User.Name)) + "\n"
	}
	m := l.message(a.Status, a.Detail)
	return wrap(l.sentences(m.Text, m.Next)) + "\n"
}

// ReloadingLine ends a streamed text answer where the server loads a new
// configuration.
func (l *Language) ReloadingLine() string { return wrap(l.orEnglish().say("reloading")) + "\n" }

// BeginText begins an answer in text that stays open.
func (a *Answer) BeginText(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", contentTypes[Text])
	SecurityHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(a.text())
	return err
}

// wrap breaks a text between words, or where a script has none between wide
// characters, so that no line is wider than a terminal. A word that is too wide
// stays whole.
func wrap(text string) string {
	var b strings.Builder
	column := 0
	for _, part := range breakable(text) {
		wide := columnsOf(strings.TrimRight(part, " "))
		if column > 0 && column+wide > columns-1 {
			trimmed := strings.TrimRight(b.String(), " ")
			b.Reset()
			b.WriteString(trimmed + "\n")
			column = 0
		}
		b.WriteString(part)
		column += columnsOf(part)
	}
	return strings.TrimRight(b.String(), " ")
}

// breakable cuts a text where a line may end: behind blanks, and behind wide
// characters that no punctuation follows.
func breakable(text string) []string {
	var parts []string
	start := 0
	runes := []rune(text)
	for i, r := range runes {
		last := i == len(runes)-1
		if last || r == ' ' || isWide(r) && !strings.ContainsRune("、。，．：；？！）」』…", runes[i+1]) && runes[i+1] != ' ' {
			parts = append(parts, string(runes[start:i+1]))
			start = i + 1
		}
	}
	return parts
}

// isWide reports whether a terminal shows a character in two columns (UAX #11).
func isWide(r rune) bool {
	kind := width.LookupRune(r).Kind()
	return kind == width.EastAsianWide || kind == width.EastAsianFullwidth
}

func columnsOf(text string) (n int) {
	for _, r := range text {
		n++
		if isWide(r) {
			n++
		}
	}
	return n
}
