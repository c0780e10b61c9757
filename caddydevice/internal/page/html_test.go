// This file tests the HTML form: each kind of page against a golden file, and
// what holds for all of them.

package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// kinds are the pages that there are.
var kinds = map[string]func() *Answer{
	"pending": pending,
	"pending_after": func() *Answer {
		a := pending()
		a.Before, a.BeforeDetail = Ended, "token_expired"
		return a
	},
	"pending_plain": func() *Answer {
		a := pending()
		a.Login.VerificationURIComplete = ""
		return a
	},
	"pending_no_qr": func() *Answer {
		a := pending()
		a.Login.VerificationURIComplete += strings.Repeat("x", 4000)
		return a
	},
	"pending_renews": func() *Answer {
		a := pending()
		a.Login.Renews = time.Now().Add(8*time.Minute + 5*time.Second)
		return a
	},
	"pending_away": func() *Answer {
		a := pending()
		a.Detail, a.NextTry = "away", time.Now().Add(90*time.Second)
		return a
	},
	"pending_branded": func() *Answer {
		a := pending()
		a.Brand = &Brand{title: "Lobby display", logo: "data:image/png;base64,AAAA", scheme: "dark"}
		return a
	},
	"approved": func() *Answer {
		a := about(Approved)
		a.User = &User{Name: "alice"}
		return a
	},
	"welcome": func() *Answer {
		a := about(Active)
		a.User, a.Welcome, a.Reload, a.ReloadAfter = signedIn().User, true, "/x?a=b", 4*time.Second
		return a
	},
	"signed_in": signedIn,
	"denied": func() *Answer {
		a := about(Denied)
		a.Detail, a.Button = "declined", true
		return a
	},
	"expired": func() *Answer {
		a := about(Expired)
		a.Button = true
		return a
	},
	"expired_branded": func() *Answer {
		a := about(Expired)
		a.Button, a.Brand = true, &Brand{title: "Lobby display"}
		return a
	},
	"signed_out": func() *Answer {
		a := about(Ended)
		a.Detail, a.Button, a.EndSession = "signed_out", true, "https://idp.example.com/logout"
		return a
	},
	"unavailable": func() *Answer {
		a := about(Unavailable)
		a.Reload, a.ReloadAfter = "/x?a=b", 5*time.Second
		return a
	},
	"limited_long": func() *Answer {
		a := about(Limited)
		a.Reload, a.ReloadAfter = "/x?a=b", 10*time.Minute
		return a
	},
	"forbidden": func() *Answer {
		a := about(Forbidden)
		a.Button = true
		return a
	},
	"no_host": func() *Answer { return &Answer{Status: Invalid, Detail: "host"} },
}

// about is an answer of a status, with the links that all have.
func about(s Status) *Answer {
	return &Answer{
		Status: s, Site: "api.example.com", To: "/x?a=b",
		LoginPath: "/.device/login", LogoutPath: "/.device/logout", WaitPath: "/.device/wait", ConfirmPath: "/.device/confirm",
	}
}

// show is the page of an answer, with the time standing still.
func show(t *testing.T, make func() *Answer) (page string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		html, err := make().html("NONCE")
		if err != nil {
			t.Fatal(err)
		}
		page = string(html)
	})
	return page
}

func TestPages(t *testing.T) {
	// the same on each
	long := regexp.MustCompile(`(?s)(<style[^>]*>).*(</style>)|(<script[^>]*>).*(</script>)|(data-seconds=")[^"]*(")`)
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".html", []byte(long.ReplaceAllString(show(t, make), "$1$2$3$4$5$6")))
		})
	}
}

// TestPagesWithoutScript: what a person needs is there without JavaScript too.
func TestPagesWithoutScript(t *testing.T) {
	const to = `<input type="hidden" name="to" value="/x?a=b">`
	for _, row := range []struct {
		name, refresh string
		forms         []string
	}{
		{"pending", "10;url=/.device/login?again=1&amp;to=%2Fx", []string{`action="/.device/login">` + to}},
		{"approved", "", []string{`action="/.device/confirm">` + to, `action="/.device/logout">` + to}},
		{"welcome", "4;url=/x?a=b", []string{`action="/.device/logout">` + to}},
		{"expired", "", []string{`action="/.device/login">` + to}},
		{"denied", "", []string{`action="/.device/login">` + to}},
		{"signed_in", "", []string{`action="/.device/logout">`}},
		{"unavailable", "5;url=/x?a=b", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			page := show(t, kinds[row.name])
			refresh := regexp.MustCompile(`<noscript><meta http-equiv="refresh" content="([^"]*)"></noscript>`).FindStringSubmatch(page)
			if (refresh != nil) != (row.refresh != "") || refresh != nil && refresh[1] != row.refresh {
				t.Errorf("refresh %q, want %q", refresh, row.refresh)
			}
			forms := regexp.MustCompile(`<form method="post" (.*?>(?:<input .*?>)?)<button`).FindAllStringSubmatch(page, -1)
			if len(forms) != len(row.forms) || len(forms) != strings.Count(page, "<form") {
				t.Fatalf("%d forms, want %d: %s", strings.Count(page, "<form"), len(row.forms), forms)
			}
			for i, form := range forms {
				if form[1] != row.forms[i] {
					t.Errorf("form %s, want %s", form[1], row.forms[i])
				}
			}
			for _, hidden := range regexp.MustCompile(`<\w[^>]* hidden[ >]`).FindAllString(page, -1) {
				if !strings.Contains(hidden, "data-script") {
					t.Errorf("%s is never shown", hidden)
				}
			}
		})
	}
}

// hostile are strings that an identity provider or a person could send. What
// is written must not let them out of their place.
var hostile = []string{
	`"><svg onload=alert(1)>`, `</script><script>alert(1)</script>`, `&lt;`, `'`, `javascript:alert(1)`, "a\nb", `\u003cscript\u003e`, `{{.}}`, "<!--", "\u2028",
	`" onfocus="alert(1)`, `</style><img src=x onerror=alert(1)>`, `{time}`, `{seconds}`,
}

// marks counts what begins a tag or an attribute's value.
func marks(page string) int { return strings.Count(page, "<") + strings.Count(page, `="`) }

func TestInjection(t *testing.T) {
	link := regexp.MustCompile(`(href|action)="\s*javascript:`)
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			want := marks(show(t, func() *Answer { return spoil(make(), "x") }))
			for _, h := range hostile {
				page := show(t, func() *Answer { return spoil(make(), h) })
				if got := marks(page); got != want {
					t.Errorf("%q: %d tags and attributes, want %d", h, got, want)
				}
				if link.MatchString(page) {
					t.Errorf("%q: a link runs it", h)
				}
				asJSON, err := spoil(make(), h).json()
				if err != nil || !json.Valid(asJSON) || bytes.ContainsAny(asJSON, "<>") {
					t.Errorf("%q: %s", h, asJSON)
				}
			}
		})
	}
}

// spoil puts a string wherever one comes from outside.
func spoil(a *Answer, h string) *Answer {
	a.Site, a.To = h, "/"+h
	if a.Reload != "" {
		a.Reload = "/" + h
	}
	if a.Login != nil {
		a.Login.UserCode, a.Login.VerificationURI, a.Login.VerificationURIComplete = h, h, ""
	}
	if a.User != nil {
		a.User.Name, a.User.Subject = h, h
	}
	if a.EndSession != "" {
		a.EndSession = h
	}
	if a.Brand != nil {
		a.Brand.title = h
	}
	return a
}

// TestPageContract: what the template, the script and the style sheet use of
// each other is there.
func TestPageContract(t *testing.T) {
	all := ""
	for _, make := range kinds {
		all += show(t, make)
	}
	script, style := string(pageScript), string(ours.style)
	for _, row := range []struct {
		name, in, pattern, found, want string
	}{
		{"sentences of the page", pageHTML, `\.(?:Say|Pattern) "(\w+)"`, "", ""},
		{"facts of the script", script, `given\("([a-z-]+)"\)`, all, ` data-%s="`},
		{"elements of the script", script, `each\("\[([a-z-]+)\]"`, all, " %s"},
		{"classes of the script", script, `line\("(\w+)"`, style, ".%s"},
		{"classes of the page", pageHTML, `class="(\w+)"`, style, ".%s"},
		{"sizes", all, `(upto\d+|over)" dir`, style, ".%s"},
		{"places", script, `\) % (\d+)\)`, fmt.Sprint("places ", len(positions)), "places %s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			used := regexp.MustCompile(row.pattern).FindAllStringSubmatch(row.in, -1)
			if len(used) == 0 {
				t.Fatal("nothing is found")
			}
			for _, u := range used {
				if row.want == "" {
					if english.words.Words[u[1]] == "" {
						t.Errorf("there is no sentence %q", u[1])
					}
				} else if !strings.Contains(row.found, fmt.Sprintf(row.want, u[1])) {
					t.Errorf("there is no %q", fmt.Sprintf(row.want, u[1]))
				}
			}
		})
	}
	for _, key := range announcements {
		if english.words.Words[key] == "" {
			t.Errorf("there is no sentence %q", key)
		}
	}
	for _, p := range positions {
		if want := fmt.Sprintf(`[data-place="%d"]`, p.N); !strings.Contains(style, want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// TestScript: it is for old players, and small.
func TestScript(t *testing.T) {
	script := string(pageScript)
	if found := regexp.MustCompile("=>|\\b(let|const|class|async|await|fetch|Promise|Symbol|Map|Set)\\b|`|\\.\\.\\.").FindString(script); found != "" {
		t.Errorf("%q is not for old browsers", found)
	}
	if strings.Contains(script, "//") || strings.Contains(string(ours.style), "/*") {
		t.Error("comments are sent to browsers")
	}
	if n := len(script) + len(ours.style); n > 20<<10 {
		t.Errorf("script and style have %d bytes", n)
	}
}

// TestCountdown: what ticks, and what a page loads anew.
func TestCountdown(t *testing.T) {
	for name, want := range map[string][]string{
		"pending":        {`data-left="600"`, `data-countdown="This code ends in {time}">This code ends in 10:00<`},
		"pending_renews": {`data-left="485"`, `data-countdown="New code in {time}">New code in 8:05<`},
		"pending_away":   {`data-after="92"`, "Next try at 00:01:30 UTC."},
		"unavailable":    {`data-after="5"`, `data-due="Next try in {seconds}.">Next try in 5 seconds.<`},
		"limited_long":   {`data-after="600"`, `data-due="Next try in {seconds}.">Next try in 10 minutes.<`},
		"welcome":        {`data-after="4"`},
	} {
		page := show(t, kinds[name])
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%s: no %s", name, w)
			}
		}
	}
	if page := show(t, kinds["pending"]); strings.Contains(page, "data-after") {
		t.Error("a page that hears of what happens loads itself anew")
	}
	unit := regexp.MustCompile(`data-seconds="(.*?)"`).FindStringSubmatch(show(t, pending))[1]
	if all := strings.Split(unit, "|"); len(all) != mostSeconds || all[0] != "1 second" || all[59] != "60 seconds" {
		t.Errorf("seconds: %s", unit)
	}
}

func TestSizes(t *testing.T) {
	for _, row := range []struct {
		text, code, uri string
	}{
		{"WDJB-MJHT", "upto9", "upto32"},
		{strings.Repeat("é", 9), "upto9", "upto32"},
		{strings.Repeat("W", 10), "upto15", "upto32"},
		{strings.Repeat("W", 15), "upto15", "upto32"},
		{strings.Repeat("W", 24), "upto24", "upto32"},
		{strings.Repeat("W", 33), "over", "upto44"},
		{strings.Repeat("W", 45), "over", "over"},
	} {
		if code, uri := sizeOf(row.text, codeSizes), sizeOf(row.text, uriSizes); code != row.code || uri != row.uri {
			t.Errorf("%s: %s and %s, want %s and %s", row.text, code, uri, row.code, row.uri)
		}
	}
}

// TestPlace: a page has another place every minute, and takes all of them.
func TestPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []int
		for range len(positions) {
			seen = append(seen, place(time.Now()))
			time.Sleep(time.Minute)
		}
		slices.Sort(seen)
		if len(slices.Compact(seen)) != len(positions) {
			t.Errorf("places %v", seen)
		}
	})
}

// TestTemplateFails: an answer on which a brand's template fails is shown by
// ours, and the error is told to the caller.
func TestTemplateFails(t *testing.T) {
	a := pending()
	a.Brand = &Brand{template: template.Must(template.New("theirs").Parse(`THEIRS {{index .To 999}}`))}
	w := httptest.NewRecorder()
	err := a.Write(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), http.StatusUnauthorized, HTML)
	if err == nil || !strings.Contains(err.Error(), "theirs") {
		t.Errorf("error %v", err)
	}
	if page := w.Body.String(); w.Code != http.StatusUnauthorized || strings.Contains(page, "THEIRS") || !strings.Contains(page, "WDJB-MJHT") {
		t.Errorf("status %d, %d bytes", w.Code, len(page))
	}
}
