// This file holds what the template of a page is given: the contract with
// whoever writes one of their own.

package page

import (
	"fmt"
	"html/template"
	"strings"
)

// Data is what a template sees. Ours is made of nothing else. It is an
// html/template, so each value is escaped for its place.
//
// A template shows every outcome: Status says which. What is empty is left out.
// For most outcomes Title, Text and Next say all; UserCode, User and Welcome are
// where there is more.
//
// A page goes on by itself, with a script or without:
//
//	<noscript><meta http-equiv="refresh" content="{{.Refresh}}"></noscript>
//	<style nonce="{{.Nonce}}">{{.Style}}</style>
//	<main {{.Attributes}}> what changes, all of it </main>
//	<script nonce="{{.Nonce}}">{{.Script}}</script>
//
// The script takes the place of main when a new code comes. In it,
// data-countdown="New code in {time}" is the text of an element in which {time}
// ticks down to the next code; {seconds} of data-due does so to the next try. An
// element with data-script and hidden is shown where there is a script. The
// focus stays on an element that has an id. Forms, and links to a path, are
// followed once the server answers.
//
// The browser takes styles and scripts only from elements with the Nonce,
// pictures only from data: addresses and where a logo is set, and nothing from
// other servers.
type Data struct {
	// Status is the outcome: pending, approved, active, denied, expired, failed,
	// ended, superseded, forbidden, limited, unavailable, required or invalid.
	Status Status
	// Title, Text and Next are the outcome in words: a heading, what happened,
	// what to do.
	Title, Text, Next string
	// Before is why an earlier sign-in is over, where a new one is shown.
	Before string
	// Away is what to say while the identity provider does not answer: also when
	// it is asked again, where that is known.
	Away string

	// Language is the tag of the page's language (BCP 47), Direction its
	// script's: ltr or rtl.
	Language, Direction string

	// Name is what is signed in to: the title that was configured, else Site.
	// Site is the host. It has to be on the page whatever Name says: it tells a
	// person whom they let in. Either may be empty where the request named no
	// host that is served.
	Name, Site string
	// Logo is the picture that was configured, for the src of an img.
	Logo template.URL
	// Scheme is the colour schemes of Style, for the meta element color-scheme.
	Scheme string

	// UserCode is what to enter, as it came; Spelled is the same with blanks
	// between its characters, for a screen reader. CodeSize is a class for its
	// length: upto9, upto15, upto24, or over.
	UserCode, Spelled, CodeSize string
	// VerificationURI is where to enter it. URISize is a class for its length:
	// upto32, upto44, or over.
	VerificationURI, URISize string
	// QR is an SVG of the address, black on white, with the code in it where
	// HasCode says so; empty where the address fits none. QRText is what it holds.
	QR      template.HTML
	HasCode bool
	QRText  string
	// Minutes is how long the code works, in words; Clock is until when.
	Minutes, Clock string
	// Renews says that the next code comes by itself. Countdown is the time until
	// then, else until the end of the code, as minutes and seconds.
	Renews    bool
	Countdown string

	// User is the name of who is signed in, or, where Status is approved, of who
	// approved the sign-in. Since and Until are when that began and will end.
	User, Since, Until string
	// Welcome greets who has just signed in; the page goes on to To by itself.
	Welcome bool

	// LoginPath, LogoutPath and ConfirmPath take forms by POST, with a hidden
	// field named to that holds To. The first gets a new code, or starts a
	// sign-in; the second ends it; the third is the word of who approved it.
	LoginPath, LogoutPath, ConfirmPath string
	// To is where the person was going: a path.
	To string
	// Button is the text of a button for LoginPath, where the page has to offer
	// one.
	Button string
	// EndSession is where to sign out of the identity provider too.
	EndSession string

	// Refresh is the content of a meta element that loads the page again. After
	// is in how many seconds a page with a script does so; 0 where it has no
	// reason to.
	Refresh string
	After   int
	// NextTry is when the identity provider is asked again; empty where that is
	// not known.
	NextTry string

	// Nonce has to be on each style and script element.
	Nonce string
	// Style is our style sheet, with the theme and colours that were configured.
	Style template.CSS
	// Script keeps a page alive.
	Script template.JS
	// Attributes are what the script needs to know, for the element main.
	Attributes template.HTMLAttr

	language *Language
}

// Say returns sentences in the page's language, with what they are about filled
// in. The names are those of "words" in languages/en.json; another is an error.
func (d *Data) Say(keys ...string) (string, error) {
	said := make([]string, 0, len(keys))
	for _, key := range keys {
		if _, err := d.Pattern(key); err != nil {
			return "", err
		}
		said = append(said, d.fill(key))
	}
	return d.language.sentences(said...), nil
}

// fill fills in a sentence that is there.
func (d *Data) fill(key string) string {
	clock := d.Clock
	if key == "try_at" {
		clock = d.NextTry
	}
	values := []string{
		"site", d.Name, "name", d.User, "minutes", d.Minutes, "clock", clock, "time", d.Countdown,
		"since", d.Since, "until", d.Until, "seconds", d.inWords(d.After), "code", d.Spelled,
	}
	if d.Direction == "rtl" {
		for i := 1; i < len(values); i += 2 {
			values[i] = isolate(values[i])
		}
	}
	return d.language.say(key, values...)
}

// isolate keeps a value in one piece in a sentence that runs from right to left
// (UAX #9 §2.4: FIRST STRONG ISOLATE). A date is turned round without.
func isolate(value string) string { return "\u2068" + value + "\u2069" }

// Pattern returns a sentence as it stands in the file, with {names}: for the
// data- attributes from which the script fills in what ticks.
func (d *Data) Pattern(key string) (string, error) {
	text, ok := d.language.words.Words[key]
	if !ok {
		return "", fmt.Errorf("there is no sentence %q", key)
	}
	return text, nil
}

// mostSeconds is up to where a time is told in seconds.
const mostSeconds = 60

func (d *Data) inWords(seconds int) string {
	if seconds > mostSeconds {
		return d.language.minutes((seconds + 59) / 60)
	}
	return d.language.seconds(seconds)
}

// sizes are the classes for the lengths of a text.
var (
	codeSizes = []int{9, 15, 24}
	uriSizes  = []int{32, 44}
)

// sizeOf names the smallest size that a text fits.
func sizeOf(text string, sizes []int) string {
	n := len([]rune(text))
	for _, size := range sizes {
		if n <= size {
			return fmt.Sprintf("upto%d", size)
		}
	}
	return "over"
}

// spell puts blanks between characters, so that a screen reader says each.
func spell(code string) string {
	return strings.Join(strings.Split(code, ""), " ")
}
