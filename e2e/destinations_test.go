// This file shows that nobody is led off this origin: whatever a destination
// looks like, Chromium reads what the gateway makes of it as an address here.
package e2e

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/chrome"
)

// withAndWithoutHost are two sites: one for localhost, one for whatever host a
// request names, or none. The limits are out of the way, since each new code is
// a sign-in, and so is the access log, which would be long.
var withAndWithoutHost = "{\ndevice_auth {\nstore memory\nlimits {\nstarts 10000 1s\n}\n}\n}\n" +
	strings.ReplaceAll(oneSite(deviceAuth("", "limits {\nstarts 100000 1m\n}")), "log\n", "") +
	"http://:{$GATE_PORT_2} {\nbind 127.0.0.1\n" + deviceAuth("", "limits {\nstarts 100000 1m\n}") + "reverse_proxy {$UPSTREAM}\n}\n"

// misleading are header fields that some servers make addresses of.
var misleading = []string{"X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Original-URL", "X-Rewrite-URL", "Forwarded"}

// led is an answer of the gateway's, and where it leads.
type led struct {
	value    string
	At       string `json:"at"`
	Location string `json:"location"`
	HTML     string `json:"html"`
}

// place is a part of the gateway that takes a destination, or makes one of a
// request: it is given a value, and these are its answers.
type place func(t *testing.T, value string) []led

// link is one address in an answer, as Chromium reads it.
type link struct {
	Where, Written, URL string
	Here                bool // of the origin that gave the answer
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: withAndWithoutHost, crowded: true})
	values := hostileDestinations()
	if len(values) < 500 {
		t.Fatalf("the corpus has %d values", len(values))
	}
	kiosk := chrome.Start(t, chrome.Options{})
	for name, answersTo := range s.places(t) {
		t.Run(name, func(t *testing.T) {
			var all []led
			for _, value := range values {
				for _, answer := range answersTo(t, value) {
					answer.value = value
					all = append(all, answer)
				}
			}
			s.wantOnOrigin(t, kiosk, all, name != "no Host")
		})
	}
	t.Run("followed", func(t *testing.T) { s.followDestinations(t, kiosk, values) })
}

// places are all there are. A key stays what it is, whatever is asked with it.
func (s *stage) places(t *testing.T) map[string]place {
	t.Helper()
	signedIn, pending := s.signedInWindow(t, "/").key(t), s.pendingKey(t)
	approved, superseded := s.approvedKeys(), s.supersededKey(t)
	fixed := func(key string) func(*testing.T) string { return func(*testing.T) string { return key } }
	login := func(key func(*testing.T) string, more string) place {
		w := s.newWindow(t)
		return func(t *testing.T, to string) []led {
			return []led{s.askLogin(t, w, key(t), more+"&to="+url.QueryEscape(to))}
		}
	}
	path := func(key func(*testing.T) string) place {
		return func(t *testing.T, value string) []led { return s.askPaths(t, key(t), value) }
	}
	return map[string]place{
		"login, pending":                     login(fixed(pending), "qr=0"),
		"login, approved":                    login(approved, ""),
		"login, signed in":                   login(fixed(signedIn), ""),
		"login, superseded":                  login(fixed(superseded), ""),
		"login, superseded for good":         login(fixed(superseded), "again=3"),
		"login, reloaded without the cookie": login(fixed(""), "again=1"),
		"a new code":                         s.newCode(t, signedIn),
		"path, pending":                      path(fixed(pending)),
		"path, approved":                     path(approved),
		"path, superseded":                   path(fixed(superseded)),
		"header fields":                      func(t *testing.T, value string) []led { return s.askWithFields(t, pending, value) },
		"no Host":                            s.askWithoutHost,
	}
}

func (s *stage) pendingKey(t *testing.T) string {
	t.Helper()
	w := s.newWindow(t)
	w.open(t, "/", browser.Typed)
	return w.key(t)
}

// approvedKeys returns a key that was approved and not claimed for good. The
// answer to its claim is given again for a minute; each key serves for less.
func (s *stage) approvedKeys() func(*testing.T) string {
	var key string
	var since time.Time
	return func(t *testing.T) string {
		t.Helper()
		if time.Since(since) > 30*time.Second {
			key, since = s.approvedWindow(t, "/").key(t), time.Now()
		}
		return key
	}
}

// supersededKey is one whose claim is done: the new key has been used.
func (s *stage) supersededKey(t *testing.T) string {
	t.Helper()
	w := s.approvedWindow(t, "/")
	old := w.key(t)
	w.goTo(t, "/", browser.Reload)
	w.follow(t)
	w.want(t, 200)
	return old
}

// hold makes the browser hold that key, or none, whatever it was given since.
func (w *window) hold(t *testing.T, key string) {
	t.Helper()
	c := &http.Cookie{Name: ourCookie, Value: key, Path: "/"}
	if key == "" {
		c.MaxAge = -1
	}
	w.SetCookies(t, w.s.url, c)
}

func (s *stage) askLogin(t *testing.T, w *window, key, query string) led {
	t.Helper()
	w.hold(t, key)
	return answerTo(t, w.Open(s.ctx, t, s.url+"/.device/login?"+strings.TrimPrefix(query, "&"), browser.Typed))
}

// newCode presses the page's button and goes where that leads, as the same
// browser and as one that is signed in.
func (s *stage) newCode(t *testing.T, signedIn string) place {
	t.Helper()
	w, other := s.newWindow(t), s.newWindow(t)
	w.open(t, "/", browser.Typed)
	return func(t *testing.T, to string) []led {
		t.Helper()
		req := w.NewRequest(s.ctx, t, http.MethodPost, s.url+"/.device/login", url.Values{"to": {to}}.Encode(), browser.Linked)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", s.url)
		pressed := w.Do(t, req)
		all := []led{answerTo(t, pressed)}
		if pressed.Status == http.StatusSeeOther {
			other.hold(t, signedIn)
			all = append(all, answerTo(t, w.FollowRedirect(s.ctx, t, pressed)), answerTo(t, other.FollowRedirect(s.ctx, t, pressed)))
		}
		return all
	}
}

// askPaths asks for the value as a path, as it is and behind a slash, byte by
// byte where a request line can hold them.
func (s *stage) askPaths(t *testing.T, key, value string) []led {
	t.Helper()
	targets := []string{"/" + value}
	if strings.HasPrefix(value, "/") {
		targets = append(targets, value)
	}
	var all []led
	for _, target := range targets {
		all = append(all, s.askRaw(t, s.gate.Port(), inRequestLine(target), " HTTP/1.1\r\nHost: localhost:"+s.gate.Port(), key, offSite))
	}
	return all
}

// askWithFields asks for a page with the value in all misleading fields.
func (s *stage) askWithFields(t *testing.T, key, value string) []led {
	t.Helper()
	return []led{s.askRaw(t, s.gate.Port(), "/.device/login?qr=0", " HTTP/1.1\r\nHost: localhost:"+s.gate.Port(), key, control.ReplaceAllString(value, ""))}
}

// askWithoutHost asks as HTTP/1.0 may, with a misleading field as the only
// word of a host.
func (s *stage) askWithoutHost(t *testing.T, value string) []led {
	t.Helper()
	var all []led
	for _, target := range []string{"/.device/login?to=" + url.QueryEscape(value), inRequestLine("/" + value)} {
		all = append(all, s.askRaw(t, s.gate.Port2(), target, " HTTP/1.0", "", offSite))
	}
	return all
}

var control = regexp.MustCompile(`[\x00-\x1f\x7f]`)

// inRequestLine encodes only what would end the request line.
func inRequestLine(target string) string {
	return strings.ReplaceAll(control.ReplaceAllStringFunc(target, url.PathEscape), " ", "%20")
}

// askRaw is a navigation with that target and the misleading fields. The line
// goes on after the target, with what belongs to the host.
func (s *stage) askRaw(t *testing.T, port, target, line, key, misled string) led {
	t.Helper()
	request := "GET " + target + line + "\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nConnection: close\r\n"
	if key != "" {
		request += "Cookie: " + cookie(key) + "\r\n"
	}
	for _, field := range misleading {
		request += field + ": " + misled + "\r\n"
	}
	resp, body := s.raw(t, port, request+"\r\n")
	at := "http://localhost:" + port + target
	return led{At: at, Location: resp.Header.Get("Location"), HTML: withoutDrawing(body)}
}

func answerTo(t *testing.T, p *browser.Page) led {
	t.Helper()
	if p.Status >= 500 || p.Status == http.StatusTooManyRequests {
		t.Fatalf("%s: %d %s", p.URL, p.Status, p.Body)
	}
	return led{At: p.URL.String(), Location: p.Header.Get("Location"), HTML: withoutDrawing(p.Body)}
}

// withoutDrawing leaves out the QR code, which leads nowhere and is most of a
// page.
func withoutDrawing(page string) string {
	before, rest, _ := strings.Cut(page, "<svg")
	_, after, _ := strings.Cut(rest, "</svg>")
	return before + after
}

// linksOf finds in Chromium what Chromium would go to, or send back: it reads
// the page, and what the page gives to its script.
const linksOf = `answers => answers.map(({at, location, html}) => {
	const links = [];
	const add = (where, written) => {
		const url = URL.parse(written, at);
		links.push({where, written, url: url ? url.href : "", here: url !== null && url.origin === new URL(at).origin});
	};
	if (location) add("Location", location);
	const page = new DOMParser().parseFromString(html, "text/html");
	for (const name of ["href", "src", "action", "formaction"])
		for (const e of page.querySelectorAll("[" + name + "]")) add(e.localName + " " + name, e.getAttribute(name));
	for (const e of page.querySelectorAll("input[name=to]")) add("input", e.value);
	for (const e of page.querySelectorAll("meta[http-equiv=refresh]")) add("refresh", e.content.replace(/^\d*;url=/, ""));
	for (const name of ["wait-url", "login-url", "reload-url"])
		for (const e of page.querySelectorAll("[data-" + name + "]")) add("script " + name, e.getAttribute("data-" + name));
	return links;
})`

// plainPath is a path of one origin in every reader's eyes, not only in those
// of this Chromium: visible ASCII, one slash, no backslash.
var plainPath = regexp.MustCompile(`^/([!-.0-\[\]-~][!-\[\]-~]*)?$`)

const (
	// inAScript is how many answers Chromium is given in one script.
	inAScript = 200
	// tooMany failures tell no more than some.
	tooMany = 10
	// fewest addresses that the corpus makes of a place that takes any.
	fewest = 200
)

// wantOnOrigin fails for each address that is not of the gateway's own origin,
// or that some other reader could take for one. some says that there must be
// addresses at all.
func (s *stage) wantOnOrigin(t *testing.T, b *chrome.Browser, answers []led, some bool) {
	t.Helper()
	n, wrong := 0, map[string]int{}
	for start := 0; start < len(answers); start += inAScript {
		batch := answers[start:min(start+inAScript, len(answers))]
		var found [][]link
		if err := b.Call(s.ctx, linksOf, batch, &found); err != nil {
			t.Fatal(err)
		}
		for i, links := range found {
			for _, l := range links {
				n++
				what := wrongWith(l)
				if what == "" {
					continue
				}
				if wrong[what]++; wrong[what] <= tooMany {
					t.Errorf("%s: for %.200q the %s is %.200q, which is %.200q", what, batch[i].value, l.Where, l.Written, l.URL)
				}
			}
		}
	}
	t.Logf("%d answers with %d addresses, wrong ones: %v", len(answers), n, wrong)
	if some && n < fewest {
		t.Errorf("%d answers have %d addresses only", len(answers), n)
	}
}

func wrongWith(l link) string {
	switch {
	case !l.Here:
		return "off this origin"
	case !plainPath.MatchString(l.Written):
		return "no plain path"
	}
	return ""
}

// followDestinations signs Chromium in and lets it go to some of them.
func (s *stage) followDestinations(t *testing.T, b *chrome.Browser, values []string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Open(s.ctx, s.url+"/"))
	code, err := b.Text(s.ctx, ".code")
	must(err)
	s.approve(t, s.code(t, code).complete)
	must(b.Wait(s.ctx, "pre")) // the upstream's answer
	const sample = 20
	for i := range sample {
		to := values[i*len(values)/sample]
		must(b.Open(s.ctx, s.url+"/.device/login?to="+url.QueryEscape(to)))
		if !strings.HasPrefix(b.URL(), s.url+"/") {
			t.Errorf("%.200q leads to %s", to, b.URL())
		}
	}
	for _, address := range b.Requests() {
		if !strings.HasPrefix(address, s.url+"/") {
			t.Errorf("Chromium asked for %s", address)
		}
	}
}
