// This file holds the languages: what a person reads, a file for each, and
// which of them an answer is in.

package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

// Language is one language's words. A nil one is English.
type Language struct {
	tag   language.Tag
	words words
}

// words is a file of languages.
type words struct {
	// Language is its own name for itself.
	Language string `json:"language"`
	// Direction of its script, as HTML has it: ltr or rtl.
	Direction string `json:"direction"`
	// Between is what stands between two sentences.
	Between string `json:"between"`
	// Minutes and Seconds by plural category (CLDR), with {n} in each.
	Minutes map[string]string `json:"minutes"`
	Seconds map[string]string `json:"seconds"`
	// Words are single sentences, with {names} for what is filled in.
	Words map[string]string `json:"words"`
	// Messages are the outcomes, by status and detail. The entry without a
	// detail is for details that have none of their own.
	Messages map[Status]map[string]message `json:"messages"`
}

// message is one outcome in words: what happened, and what to do about it.
type message struct {
	Title string `json:"title"`
	Text  string `json:"text"`
	Next  string `json:"next"`
}

// tags are the languages that there are. The first is for those who ask for
// none of them.
var tags = []string{"en", "de", "fr", "es", "pt", "ar", "zh-Hans", "ja"}

//go:embed languages
var files embed.FS

// languages are all of them, in the order of tags.
var languages = mustLoad(tags)

var english = languages[0]

func mustLoad(tags []string) []*Language {
	all := make([]*Language, 0, len(tags))
	for _, tag := range tags {
		raw, err := files.ReadFile("languages/" + tag + ".json")
		if err != nil {
			panic(err) // part of this program
		}
		l := &Language{tag: language.MustParse(tag)}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l.words); err != nil {
			panic(fmt.Sprintf("languages/%s.json: %v", tag, err))
		}
		all = append(all, l)
	}
	return all
}

// Languages chooses among languages.
type Languages struct {
	all     []*Language
	matcher language.Matcher
}

// NewLanguages returns the languages with these tags (BCP 47), the first for
// those who ask for none of them; without tags all that there are, English
// first.
func NewLanguages(wanted ...string) (*Languages, error) {
	ls := &Languages{all: languages}
	if len(wanted) > 0 {
		ls.all = nil
	}
	for _, name := range wanted {
		l := find(name)
		if l == nil {
			return nil, fmt.Errorf("language %q: there are %s", name, strings.Join(tags, ", "))
		}
		ls.all = append(ls.all, l)
	}
	known := make([]language.Tag, 0, len(ls.all))
	for _, l := range ls.all {
		known = append(known, l.tag)
	}
	ls.matcher = language.NewMatcher(known)
	return ls, nil
}

func find(name string) *Language {
	for i, tag := range tags {
		if strings.EqualFold(tag, name) {
			return languages[i]
		}
	}
	return nil
}

// maxAcceptLanguage bounds what is read of a request.
const maxAcceptLanguage = 500

// Choose returns the language that the Accept-Language header fields ask for
// (RFC 9110 §12.5.4).
func (ls *Languages) Choose(accept []string) *Language {
	field := strings.Join(accept, ",")
	if len(field) > maxAcceptLanguage {
		return ls.all[0]
	}
	_, i, _ := ls.matcher.Match(asked(field)...)
	return ls.all[i]
}

// asked are the tags of a field, the best first. The parser gives up on a list
// with a tag that it does not know, so such ones are taken out before.
func asked(field string) []language.Tag {
	var known []string
	for entry := range strings.SplitSeq(field, ",") {
		if _, _, err := language.ParseAcceptLanguage(entry); err == nil {
			known = append(known, entry)
		}
	}
	tags, _, _ := language.ParseAcceptLanguage(strings.Join(known, ","))
	return tags
}

// Tag names the language, as an HTML page does (BCP 47).
func (l *Language) Tag() string { return l.orEnglish().tag.String() }

// Direction is its script's, as HTML has it: ltr or rtl.
func (l *Language) Direction() string { return l.orEnglish().words.Direction }

func (l *Language) orEnglish() *Language {
	if l == nil {
		return english
	}
	return l
}

// message returns the words of a status and detail.
func (l *Language) message(s Status, detail string) message {
	if m, ok := l.words.Messages[s][detail]; ok {
		return m
	}
	return l.words.Messages[s][""]
}

// say returns a sentence with its {names} filled in: pairs of name and value.
func (l *Language) say(key string, pairs ...string) string {
	named := make([]string, 0, len(pairs))
	for i, text := range pairs {
		if i%2 == 0 {
			text = "{" + text + "}"
		}
		named = append(named, text)
	}
	return strings.NewReplacer(named...).Replace(l.words.Words[key])
}

// sentences joins sentences; empty ones are left out.
func (l *Language) sentences(all ...string) string {
	all = slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "" })
	return strings.Join(all, l.words.Between)
}

func (l *Language) minutes(n int) string { return l.count(l.words.Minutes, n) }
func (l *Language) seconds(n int) string { return l.count(l.words.Seconds, n) }

// categories are CLDR's plural categories by x/text's name.
var categories = map[plural.Form]string{
	plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many", plural.Other: "other",
}

func (l *Language) count(forms map[string]string, n int) string {
	form, ok := forms[categories[plural.Cardinal.MatchPlural(l.tag, n, 0, 0, 0, 0)]]
	if !ok {
		form = forms["other"]
	}
	return strings.ReplaceAll(form, "{n}", strconv.Itoa(n))
}
