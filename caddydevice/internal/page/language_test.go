// This file tests the languages: that none lacks a sentence, and which of them
// an answer is in.

package page

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/feature/plural"
)

var inBraces = regexp.MustCompile(`\{[a-z]+\}`)

// TestLanguagesAreComplete: each has what English has, and nothing else.
func TestLanguagesAreComplete(t *testing.T) {
	for _, l := range languages {
		t.Run(l.Tag(), func(t *testing.T) {
			wantSentences(t, "words", l.words.Words, english.words.Words)
			if got, want := slices.Sorted(maps.Keys(l.words.Messages)), slices.Sorted(maps.Keys(english.words.Messages)); !slices.Equal(got, want) {
				t.Errorf("messages are of %v, want %v", got, want)
			}
			for status, details := range english.words.Messages {
				if got, want := slices.Sorted(maps.Keys(l.words.Messages[status])), slices.Sorted(maps.Keys(details)); !slices.Equal(got, want) {
					t.Errorf("%s: details are %v, want %v", status, got, want)
				}
				for detail, m := range details {
					own := l.words.Messages[status][detail]
					name := string(status) + " " + detail
					wantSentences(t, name,
						map[string]string{"title": own.Title, "text": own.Text, "next": own.Next},
						map[string]string{"title": m.Title, "text": m.Text, "next": m.Next})
				}
			}
			for name, forms := range map[string]map[string]string{"minutes": l.words.Minutes, "seconds": l.words.Seconds} {
				if got, want := slices.Sorted(maps.Keys(forms)), categoriesOf(l); !slices.Equal(got, want) {
					t.Errorf("%s have the forms %v, want %v", name, got, want)
				}
				for category, form := range forms {
					if strings.Count(form, "{n}") != 1 {
						t.Errorf("%s, %s: %q", name, category, form)
					}
				}
			}
			if rtl := l.Direction() == "rtl"; rtl != (l.Tag() == "ar") || (!rtl && l.Direction() != "ltr") || l.words.Language == "" {
				t.Errorf("%q is written %s", l.words.Language, l.Direction())
			}
		})
	}
}

// wantSentences compares one language's sentences with English's, by name.
func wantSentences(t *testing.T, where string, got, want map[string]string) {
	t.Helper()
	if have, need := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(have, need) {
		t.Errorf("%s: has %v, want %v", where, have, need)
	}
	for name, text := range got {
		switch {
		case (text == "") != (want[name] == ""):
			t.Errorf("%s %s: %q for %q", where, name, text, want[name])
		case strings.TrimSpace(text) != text || strings.ContainsAny(text, "<>&") || strings.Contains(text, "  "):
			t.Errorf("%s %s: %q is not clean", where, name, text)
		case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
			t.Errorf("%s %s: %q holds what does not print as itself", where, name, text)
		}
		if end := endOf(want[name]); end != "" && end != endOf(text) {
			t.Errorf("%s %s: %q does not end as %q does", where, name, text, want[name])
		}
		have, need := inBraces.FindAllString(text, -1), inBraces.FindAllString(want[name], -1)
		if slices.Sort(have); !slices.Equal(have, slices.Sorted(slices.Values(need))) {
			t.Errorf("%s %s: %q has %v, want %v", where, name, text, have, need)
		}
	}
}

// endOf is the mark that ends a sentence, as English has it: "" where there is
// none.
func endOf(text string) string {
	for mark, all := range map[string]string{".": ".。", "?": "?？؟", ":": ":："} {
		if last, _ := utf8.DecodeLastRuneInString(text); strings.ContainsRune(all, last) {
			return mark
		}
	}
	return ""
}

// TestLanguageFilesAreAlike: each file has its lines where English has them, so
// that two can be read side by side. Only the plurals differ.
func TestLanguageFilesAreAlike(t *testing.T) {
	want := layoutOf(t, english)
	for _, l := range languages {
		if got := layoutOf(t, l); !slices.Equal(got, want) {
			i := 0
			for i < min(len(got), len(want))-1 && got[i] == want[i] {
				i++
			}
			t.Errorf("%s: %q, want %q", l.Tag(), got[i], want[i])
		}
	}
}

var (
	lineOfValue = regexp.MustCompile(`^(\t*"[^"]*": )"[^"\\]*"(,?)$`)
	lineOfForm  = regexp.MustCompile(`^\t\t"(zero|one|two|few|many|other)": `)
)

// layoutOf are the lines of a language's file without what is translated.
func layoutOf(t *testing.T, l *Language) (layout []string) {
	t.Helper()
	raw, err := files.ReadFile("languages/" + l.Tag() + ".json")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if !lineOfForm.MatchString(line) {
			layout = append(layout, lineOfValue.ReplaceAllString(line, `$1""$2`))
		}
	}
	return layout
}

// categoriesOf are the plural categories that numbers have in a language.
func categoriesOf(l *Language) []string {
	seen := map[string]bool{"other": true}
	for n := range 1_000_001 {
		if n > 1000 && n < 1_000_000 {
			continue
		}
		seen[categories[plural.Cardinal.MatchPlural(l.tag, n, 0, 0, 0, 0)]] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func TestChoose(t *testing.T) {
	for _, row := range []struct {
		name   string
		wanted []string
		accept []string
		want   string
	}{
		{"nothing asked", nil, nil, "en"},
		{"empty", nil, []string{""}, "en"},
		{"English", nil, []string{"en-US,en;q=0.5"}, "en"},
		{"Austria", nil, []string{"de-AT"}, "de"},
		{"by weight", nil, []string{"fr-CA;q=0.3, pt-BR;q=0.8, en;q=0.1"}, "pt"},
		{"only with a weight", nil, []string{"fr-CA;q=0.8"}, "fr"},
		{"one that is refused", nil, []string{"de;q=0, fr;q=0.1"}, "fr"},
		{"beside one that nobody knows", nil, []string{"xx-YY, de"}, "de"},
		{"beside a weight that is none", nil, []string{"fr;q=high, de;q=0.2"}, "de"},
		{"Swiss German reads German", nil, []string{"gsw-CH"}, "de"},
		{"Portugal", nil, []string{"pt-PT"}, "pt"},
		{"the case of letters", nil, []string{"ZH-hans-cn"}, "zh-Hans"},
		{"two fields", nil, []string{"tlh", "es-MX"}, "es"},
		{"China", nil, []string{"zh-CN,zh;q=0.9"}, "zh-Hans"},
		{"Taiwan reads the other script, and rather that than English", nil, []string{"zh-TW"}, "zh-Hans"},
		{"Egypt", nil, []string{"ar-EG"}, "ar"},
		{"Japan", nil, []string{"ja-JP"}, "ja"},
		{"one that there is not", nil, []string{"tlh"}, "en"},
		{"anything", nil, []string{"*"}, "en"},
		{"garbage", nil, []string{"\x00;;q=,,-"}, "en"},
		{"too long", nil, []string{strings.Repeat("de,", 5000)}, "en"},
		{"too long in all", nil, slices.Repeat([]string{"de"}, 5000), "en"},
		{"one that is not offered", []string{"de", "en"}, []string{"fr"}, "de"},
		{"the second of those offered", []string{"de", "en"}, []string{"en-GB"}, "en"},
		{"only one", []string{"ja"}, []string{"en"}, "ja"},
	} {
		t.Run(row.name, func(t *testing.T) {
			ls, err := NewLanguages(row.wanted...)
			if err != nil {
				t.Fatal(err)
			}
			if got := ls.Choose(row.accept).Tag(); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
		})
	}
	if _, err := NewLanguages("en", "tlh"); err == nil || !strings.Contains(err.Error(), "zh-Hans") {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestPlurals(t *testing.T) {
	for _, row := range []struct {
		tag  string
		n    int
		want string
	}{
		{"en", 0, "0 minutes"}, {"en", 1, "1 minute"}, {"en", 8, "8 minutes"}, {"fr", 0, "0 minute"}, {"fr", 2, "2 minutes"},
		{"ar", 3, "3 دقائق"}, {"ar", 11, "11 دقيقة"}, {"ja", 5, "5 分"},
	} {
		if got := find(row.tag).minutes(row.n); got != row.want {
			t.Errorf("%s: %q, want %q", row.tag, got, row.want)
		}
	}
}

// TestTextInEachLanguage: what is to be read first, up to the QR code, fits a
// screen of 80 by 24, and what is to be copied is alone on its line.
func TestTextInEachLanguage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, l := range languages {
			a := pending()
			a.Before, a.BeforeDetail = Ended, "token_expired"
			a.Language, a.Detail, a.Login.Body = l, "away", true
			a.Login.VerificationURI = "https://login.example.com/realms/workshop/device"
			a.Login.Command = "curl -X 'POST' -H 'Authorization: Bearer dvc_" + strings.Repeat("x", 43) + "' 'https://api.example.com/reports/2026/11?format=csv'"
			text := string(a.text())
			golden(t, "pending_"+l.Tag()+".txt", []byte(text))
			above, _, found := strings.Cut(text, blackOnWhite)
			if !found {
				t.Fatal("no QR code")
			}
			rows := 0
			for line := range strings.Lines(above) {
				line = strings.TrimSuffix(line, "\n")
				wide := columnsOf(line)
				rows += max(1, (wide+columns-1)/columns)
				if wide > columns && line != a.Login.Command {
					t.Errorf("%s: %d columns: %s", l.Tag(), wide, line)
				}
			}
			if rows > 24+2 { // an earlier sign-in and a provider that is away are told first
				t.Errorf("%s: %d rows", l.Tag(), rows)
			}
			wantPlain(t, l, above)
			for _, alone := range []string{a.Login.VerificationURI, a.Login.UserCode, a.Login.Command} {
				if !strings.Contains(text, "\n\n"+alone+"\n\n") {
					t.Errorf("%s: %q is not alone", l.Tag(), alone)
				}
			}
		}
	})
}

// wantPlain: printable characters and line breaks are all that a text is made
// of. That leaves out what turns the direction of writing.
func wantPlain(t *testing.T, l *Language, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%s: %q in %q", l.Tag(), r, text)
		}
	}
}

// TestStreamInEachLanguage: a line of a text that stays open is one whole line,
// whatever its number and language.
func TestStreamInEachLanguage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, l := range languages {
			for _, n := range []int{0, 1, 2, 3, 11, 100} {
				for _, away := range []bool{false, true} {
					line := l.ProgressLine(time.Now().Add(time.Duration(n)*time.Minute), away)
					wantPlain(t, l, line)
					if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || !strings.Contains(line, strconv.Itoa(n)+" ") || columnsOf(line)-1 > 2*columns {
						t.Errorf("%s: %q", l.Tag(), line)
					}
				}
			}
			for status, details := range l.words.Messages {
				for detail := range details {
					text := string((&Answer{Status: status, Detail: detail, Language: l}).text())
					wantPlain(t, l, text)
					for line := range strings.Lines(text) {
						if wide := columnsOf(strings.TrimSuffix(line, "\n")); wide > columns {
							t.Errorf("%s: %d columns: %s", l.Tag(), wide, line)
						}
					}
				}
			}
		}
	})
}

func TestUsualTextFitsAScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, l := range languages {
			a := pending()
			a.Language = l
			above, _, _ := strings.Cut(string(a.text()), blackOnWhite)
			rows := 0
			for line := range strings.Lines(above) {
				rows += max(1, (columnsOf(strings.TrimSuffix(line, "\n"))+columns-1)/columns)
			}
			if rows > 24 {
				t.Errorf("%s: %d rows:\n%s", l.Tag(), rows, above)
			}
		}
	})
}

func TestWrap(t *testing.T) {
	word := strings.Repeat("x", 90)
	for text, want := range map[string]string{
		"":                            "",
		"short":                       "short",
		strings.Repeat("abcd ", 20):   strings.TrimSpace(strings.Repeat("abcd ", 16)) + "\n" + strings.TrimSpace(strings.Repeat("abcd ", 4)),
		"a " + word + " b":            "a\n" + word + "\nb",
		strings.Repeat("字", 50):       strings.Repeat("字", 39) + "\n" + strings.Repeat("字", 11),
		strings.Repeat("字", 39) + "。": strings.Repeat("字", 38) + "\n字。",
	} {
		if got := wrap(text); got != want {
			t.Errorf("%q becomes\n%s\nwant\n%s", text, got, want)
		}
	}
}

// TestConfirmText: who approved, and the line that confirms it.
func TestConfirmText(t *testing.T) {
	a := &Answer{Status: Approved, Site: "api.example.com", User: &User{Name: "alice", Until: time.Now()}, Command: "curl -X 'POST' 'https://api.example.com/.device/confirm'"}
	if got, want := string(a.text()), "alice has approved this sign-in. Is that you?\n\nIf that is you, this confirms it:\n\n"+a.Command+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	a.Command = ""
	if got := string(a.text()); strings.Contains(got, "confirms it") {
		t.Errorf("without a line: %q", got)
	}
}

// TestSentencesInEachLanguage: sentences are joined as their language does it,
// in text and in a page, and a date in a page stays in one piece where the
// language runs from right to left.
func TestSentencesInEachLanguage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		user := &User{Name: "alice", Since: time.Now(), Until: time.Now().Add(time.Hour)}
		for _, l := range languages {
			away := pending()
			away.Detail, away.NextTry = "away", time.Now().Add(time.Minute)
			for _, a := range []*Answer{away, pending(), {Status: Active, Site: "api.example.com", User: user}, {Status: Ended, Detail: "idle"}} {
				a.Language = l
				html, err := a.html("nonce")
				if err != nil {
					t.Fatal(err)
				}
				for _, form := range []string{string(html), string(a.text())} {
					for _, mark := range []string{"。 ", ".。", "..", "。.", "، ،"} {
						if strings.Contains(form, mark) {
							t.Errorf("%s: %q in %s", l.Tag(), mark, form)
						}
					}
				}
				if a.User == nil {
					continue
				}
				whole := strings.Contains(string(html), "\u2068"+stamp(user.Since)+"\u2069")
				if whole != (l.Direction() == "rtl") {
					t.Errorf("%s: the date is isolated: %v in %s", l.Tag(), whole, html)
				}
				for _, date := range []string{stamp(user.Since), stamp(user.Until)} {
					if !strings.Contains(string(html), date) || !strings.Contains(strings.Join(strings.Fields(string(a.text())), " "), date) {
						t.Errorf("%s: %s is missing", l.Tag(), date)
					}
				}
			}
		}
	})
}
