// This file tests the streams of server-sent events, and the codes that are
// renewed while somebody watches.

package caddydevice

import (
	"context"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// bubbleGate is a gate within a bubble: its identity provider needs no socket.
// Requests may be made side by side.
type bubbleGate struct {
	*Handler
	t   *testing.T
	idp *idptest.Provider
}

func newBubbleGate(t *testing.T, cfg map[string]any) *bubbleGate {
	t.Helper()
	provider := idptest.New("https://idp.example.com")
	all := map[string]any{"issuer": provider.Issuer, "client_id": provider.ClientID}
	for key, value := range cfg {
		all[key] = value
	}
	g := &bubbleGate{Handler: provision(t, all, nil), t: t, idp: provider}
	resolved := g.resolved
	resolved.Transport = provider
	client, err := idp.New(resolved)
	if err != nil {
		t.Fatal(err)
	}
	g.engine.keeper.Use(client)
	return g
}

// ask makes a request, which a page gives up after a while.
func (g *bubbleGate) ask(most time.Duration, method, target, key string, header map[string]string, form string) (*http.Response, string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	var body io.Reader
	if form != "" {
		body = strings.NewReader(form)
	}
	r := httptest.NewRequestWithContext(ctx, method, "https://api.example.com"+target, body)
	for name, value := range header {
		r.Header.Set(name, value)
	}
	if form != "" {
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if key != "" {
		r.AddCookie(&http.Cookie{Name: g.cookie.name, Value: key})
	}
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, "upstream")
		return err
	})
	if err := g.ServeHTTP(w, r, next); err != nil {
		g.t.Errorf("%s %s: %v", method, target, err)
	}
	return w.Result(), w.Body.String()
}

// begin starts a sign-in by a browser or a terminal.
func (g *bubbleGate) begin(header map[string]string) (key string) {
	g.t.Helper()
	resp, body := g.ask(time.Minute, "GET", "/wall", "", header, "")
	for _, c := range resp.Cookies() {
		if c.Name == g.cookie.name {
			return c.Value
		}
	}
	g.t.Fatalf("%d: %s", resp.StatusCode, body)
	return ""
}

func (g *bubbleGate) starts() int { return len(g.idp.Calls("/device")) }

var eventHeaders = with(fetchHeaders, "Accept", "text/event-stream")

// streamed is one event of a stream.
type streamed struct {
	name, id string
	data     struct {
		Status, Reason   string
		UserCode         string `json:"user_code"`
		User             string
		SessionKey       string `json:"session"`
		ConfirmURI       string `json:"confirm_uri"`
		ErrorDescription string `json:"error_description"`
	}
}

func (g *bubbleGate) eventsOf(body string) (events []streamed) {
	g.t.Helper()
	var e streamed
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e = streamed{name: value}
		case "id":
			e.id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.data); err != nil {
				g.t.Errorf("%v: %s", err, value)
			}
			events = append(events, e)
		case "retry", "", ":":
		default:
			g.t.Errorf("unexpected line %q", line)
		}
	}
	return events
}

// watch is a page that hears of its sign-in for as long.
func (g *bubbleGate) watch(most time.Duration, key, lastID string) (*http.Response, []streamed) {
	g.t.Helper()
	resp, body := g.ask(most, "GET", "/.device/wait", key, with(eventHeaders, "Last-Event-ID", lastID), "")
	return resp, g.eventsOf(body)
}

// names are the events, those that come twice in a row once.
func names(events []streamed) string {
	var all []string
	for _, e := range events {
		all = append(all, e.name)
	}
	return strings.Join(slices.Compact(all), " ")
}

// TestStreamedEvents: what a page hears of, from its first look to the end.
func TestStreamedEvents(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    map[string]any
		header map[string]string
		script func(*bubbleGate)
		want   string
		reason string
	}{
		{"approved", nil, browserHeaders, func(g *bubbleGate) { g.idp.Approve("") }, "pending active", ""},
		{"approved, and to be confirmed", confirming, browserHeaders, func(g *bubbleGate) { g.idp.Approve("") }, "pending approved ended", "unconfirmed"},
		{"denied", nil, browserHeaders, func(g *bubbleGate) { g.idp.Deny("") }, "pending denied", "declined"},
		{"nobody comes", map[string]any{"page": map[string]any{"renew": 0}}, browserHeaders, func(*bubbleGate) {}, "pending expired", "code_expired"},
		{"renewed once", map[string]any{"page": map[string]any{"renew": 1}}, browserHeaders, func(*bubbleGate) {}, "pending renewed expired", "code_expired"},
		{"a terminal's code stays", nil, curlHeaders, func(*bubbleGate) {}, "pending expired", "code_expired"},
		{"the provider forgets it", nil, browserHeaders, func(g *bubbleGate) { g.idp.Decide("", idptest.Error(400, "invalid_grant")) }, "pending failed", "forgotten"},
		{"the provider is away, and back", nil, browserHeaders, func(g *bubbleGate) {
			g.idp.Decide("", idptest.Reply{Status: 502})
			time.Sleep(3 * time.Minute)
			g.idp.Approve("")
		}, "pending active", ""},
		{"no code any more, though somebody watches", nil, browserHeaders, func(g *bubbleGate) {
			g.idp.Always("/device", idptest.Reply{Status: 503})
		}, "pending expired", "unrenewed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleGate(t, c.cfg)
				key := g.begin(c.header)
				var done sync.WaitGroup
				done.Go(func() { time.Sleep(20 * time.Second); c.script(g) })
				header := with(eventHeaders)
				if c.header["User-Agent"] != "" {
					header = with(c.header, "Accept", "text/event-stream")
				}
				resp, body := g.ask(time.Hour, "GET", "/.device/wait", key, header, "")
				done.Wait()
				events := g.eventsOf(body)
				if got := names(events); got != c.want || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
					t.Fatalf("%d %v: %s, want %s", resp.StatusCode, resp.Header, got, c.want)
				}
				told := slices.ContainsFunc(events, func(e streamed) bool { return e.data.Reason == "away" })
				if away := strings.Contains(c.name, "away"); told != away {
					t.Errorf("that the provider is away is told: %t", told)
				}
				last := events[len(events)-1]
				if last.data.Reason != c.reason {
					t.Errorf("the reason is %q", last.data.Reason)
				}
				if strings.Contains(body, "dvc_") || strings.Contains(body, "canary") || strings.Contains(body, "alice") && last.name == "active" {
					t.Errorf("it tells too much: %s", body)
				}
				resp, body = g.ask(time.Minute, "GET", "/.device/wait", key, with(header, "Last-Event-ID", last.id), "")
				if events := g.eventsOf(body); resp.StatusCode == 200 && len(events) != 0 && last.name != "active" {
					t.Errorf("asked again it says %d %s", resp.StatusCode, names(events))
				}
			})
		})
	}
}

var confirming = map[string]any{"page": map[string]any{"confirm": "required"}}

// TestStreamsGoOn: who has lost the stream hears what was missed, once.
func TestStreamsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		key := g.begin(browserHeaders)
		_, first := g.watch(time.Minute, key, "")
		if names(first) != "pending" || first[0].data.UserCode != "WDJB-0001" {
			t.Fatalf("first: %+v", first)
		}
		if _, again := g.watch(time.Minute, key, first[0].id); len(again) != 0 {
			t.Errorf("what it knows is told again: %+v", again)
		}
		_, renewed := g.watch(7*time.Minute, key, first[0].id)
		if names(renewed) != "renewed" || renewed[0].data.UserCode != "WDJB-0002" {
			t.Fatalf("then: %+v", renewed)
		}
		if _, missed := g.watch(time.Second, key, first[0].id); names(missed) != "pending" || missed[0].data.UserCode != "WDJB-0002" {
			t.Errorf("what was missed: %+v", missed)
		}
		g.idp.Approve("device-canary-1") // a slow typist's
		time.Sleep(time.Minute)
		if _, missed := g.watch(time.Second, key, renewed[0].id); names(missed) != "active" {
			t.Errorf("the end that was missed: %+v", missed)
		}
	})
}

// TestHeartbeat: an open stream is never silent for long.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		key := g.begin(browserHeaders)
		resp, body := g.ask(5*time.Minute, "GET", "/.device/wait", key, eventHeaders, "")
		if got := resp.Header.Get("X-Accel-Buffering"); got != "no" {
			t.Errorf("a proxy in front may keep it to itself: X-Accel-Buffering %q", got)
		}
		if n := strings.Count(body, ":\n\n"); n != 19 && n != 20 || !strings.HasPrefix(body, "retry: 2000\n\n") {
			t.Errorf("%d heartbeats in 5 minutes: %q", n, body)
		}
	})
}

// TestLongPollSeesNewCodes: a page without server-sent events hears of another
// code at once.
func TestLongPollSeesNewCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		key := g.begin(browserHeaders)
		time.Sleep(8*time.Minute - 5*time.Second)
		begun := time.Now()
		resp, body := g.ask(time.Minute, "GET", "/.device/wait?timeout=25", key, with(fetchHeaders, "Accept", "application/json"), "")
		if resp.StatusCode != http.StatusAccepted || !strings.Contains(body, "WDJB-0002") || time.Since(begun) != 5*time.Second {
			t.Errorf("after %v: %d %s", time.Since(begun), resp.StatusCode, body)
		}
	})
}

// TestKioskAlone is a wall display for a day: how many codes it asks for is what
// the configuration says.
func TestKioskAlone(t *testing.T) {
	const day = 24*time.Hour + time.Minute // no renewal falls on its end
	stream := func(g *bubbleGate, key string, left time.Duration) { g.watch(left, key, "") }
	longPolls := func(g *bubbleGate, key string, left time.Duration) {
		for end := time.Now().Add(left); time.Now().Before(end); time.Sleep(time.Second) {
			if resp, _ := g.ask(time.Minute, "GET", "/.device/wait?timeout=25", key, with(fetchHeaders, "Accept", "application/json"), ""); resp.StatusCode != http.StatusAccepted {
				return
			}
		}
	}
	reloads := func(g *bubbleGate, key string, left time.Duration) {
		for end := time.Now().Add(left); time.Now().Before(end); time.Sleep(pageReload) {
			if resp, _ := g.ask(time.Minute, "GET", "/.device/login?again=1", key, browserHeaders, ""); resp.StatusCode != http.StatusOK {
				return
			}
		}
	}
	touched := func(g *bubbleGate, key string, left time.Duration) {
		for end := time.Now().Add(left); time.Now().Before(end); {
			g.watch(min(20*time.Minute, time.Until(end)), key, "")
			if resp, body := g.ask(time.Minute, "POST", "/.device/login", key, fetchHeaders, "alive=1"); resp.StatusCode != http.StatusNoContent {
				g.t.Errorf("a sign of life: %d %s", resp.StatusCode, body)
			}
		}
	}
	nobody := func(*bubbleGate, string, time.Duration) {}
	for _, c := range []struct {
		name   string
		renew  int
		watch  func(*bubbleGate, string, time.Duration)
		starts int
	}{
		{"nobody watches", 3, nobody, 1},
		{"a stream", 3, stream, 4},
		{"long polls", 3, longPolls, 4},
		{"reloads without a script", 3, reloads, 4},
		{"never renewed", 0, stream, 1},
		{"always renewed", 100_000, stream, 181}, // every 8 minutes
		{"somebody is there", 3, touched, 181},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleGate(t, map[string]any{"page": map[string]any{"renew": c.renew}})
				begun := time.Now()
				key := g.begin(browserHeaders)
				c.watch(g, key, day)
				time.Sleep(time.Until(begun.Add(day)))
				if n := g.starts(); n != c.starts {
					t.Errorf("%d device authorizations in a day, want %d", n, c.starts)
				}
			})
		})
	}
}

// TestRenewalSendsTheSame: parameters that came from the first request go with
// each code.
func TestRenewalSendsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, map[string]any{"param": map[string]any{"screen": []string{"{http.request.uri.path}"}}})
		key := g.begin(browserHeaders)
		g.watch(9*time.Minute, key, "")
		for i, call := range g.idp.Calls("/device") {
			if got := call.Form.Get("screen"); got != "/wall" {
				t.Errorf("code %d: %q", i+1, got)
			}
		}
		if g.starts() != 2 {
			t.Errorf("%d codes", g.starts())
		}
	})
}

// TestRenewalKeepsToLimits: renewals count among all starts, a provider that
// rests is left alone, and what failed is tried again.
func TestRenewalKeepsToLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		key := g.begin(browserHeaders)
		g.idp.Always("/device", idptest.Reply{Status: 429, Header: http.Header{"Retry-After": {"60"}}})
		g.watch(8*time.Minute+30*time.Second, key, "")
		if g.starts() != 2 {
			t.Errorf("%d requests to a provider that wants to rest", g.starts())
		}
		g.idp.Answer("/device", nil)
		_, events := g.watch(time.Minute, key, "")
		if got := names(events); got != "pending renewed" {
			t.Errorf("then: %s", got)
		}
	})
}

// TestUnrenewedStartsAnew: a page whose code ran out because the provider was
// away shows a new one by itself once that is back.
func TestUnrenewedStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		key := g.begin(browserHeaders)
		g.idp.Always("/device", idptest.Reply{Status: 503})
		g.watch(time.Hour, key, "")
		resp, body := g.ask(time.Minute, "GET", "/.device/login?again=1", key, browserHeaders, "")
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, `http-equiv="refresh"`) || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("while it is away: %d %s", resp.StatusCode, body)
		}
		g.idp.Answer("/device", nil)
		time.Sleep(2 * time.Minute)
		resp, body = g.ask(time.Minute, "GET", "/.device/login?again=1", key, browserHeaders, "")
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, "WDJB-00") || resp.Header.Get("Set-Cookie") == "" {
			t.Errorf("once it is back: %d %s", resp.StatusCode, body)
		}
	})
}

// TestUnrenewedIsARenewal: a code that takes the place of one that could not be
// renewed counts as its renewal, so that a page that nobody touches asks no more
// often for all that the provider comes and goes (RFC 8628 §3.5).
func TestUnrenewedIsARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		key, target := g.begin(browserHeaders), "/.device/login?again=1"
		starts := 0
		for range 10 { // the provider answers for starts, and is away for renewals
			g.idp.Always("/device", idptest.Reply{Status: 502})
			g.watch(time.Hour, key, "")
			g.idp.Answer("/device", nil)
			resp, body := g.ask(time.Minute, "GET", target, key, browserHeaders, "")
			if resp.StatusCode == http.StatusUnauthorized && strings.Contains(body, "Code expired") {
				break
			}
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			starts++
			key = resp.Cookies()[0].Value
			_, reload, _ := strings.Cut(body, `data-reload-url="`)
			reload, _, _ = strings.Cut(reload, `"`)
			target = html.UnescapeString(reload)
		}
		if starts != 3 {
			t.Errorf("%d sign-ins began by themselves, with renew 3", starts)
		}
	})
}

// TestBeginsAnew: a page whose sign-in was declined, or failed, begins another
// after a minute, as often as a code may be renewed; a reload before shows why.
func TestBeginsAnew(t *testing.T) {
	for _, c := range []struct {
		name, title string
		reply       idptest.Reply
	}{
		{"declined", "Sign-in declined", idptest.Error(400, "access_denied")},
		{"forgotten", "Sign-in lost", idptest.Error(400, "invalid_grant")},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleGate(t, nil)
				g.idp.Decide("", c.reply)
				key, starts := g.begin(browserHeaders), 1
				for target := "/.device/login?again=1"; target != ""; starts = g.starts() {
					time.Sleep(time.Minute)
					resp, body := g.ask(time.Minute, "GET", target, key, browserHeaders, "")
					if !strings.Contains(body, c.title) || !strings.Contains(body, `id="new-code"`) || g.starts() != starts {
						t.Fatalf("%d %s", resp.StatusCode, body)
					}
					_, reload, more := strings.Cut(body, `data-reload-url="`)
					if !more {
						break
					}
					reload, _, _ = strings.Cut(reload, `"`)
					if !strings.Contains(body, `data-after="60"`) {
						t.Errorf("not after a minute: %s", body)
					}
					resp, body = g.ask(time.Minute, "GET", html.UnescapeString(reload), key, browserHeaders, "")
					if resp.StatusCode != http.StatusOK {
						t.Fatalf("%d %s", resp.StatusCode, body)
					}
					key = resp.Cookies()[0].Value
					_, target, _ = strings.Cut(body, `data-reload-url="`)
					target, _, _ = strings.Cut(target, `"`)
					target = html.UnescapeString(target)
				}
				// nor does a page that asks once more, as one from before a reload may
				resp, body := g.ask(time.Minute, "GET", "/.device/login?again=4&anew=1", key, browserHeaders, "")
				if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, c.title) || g.starts() != 1+3 {
					t.Errorf("%d sign-ins, with renew 3; then %d %s", g.starts(), resp.StatusCode, body)
				}
			})
		})
	}
}

// TestChangeBetweenLooks: what has changed since a client was told is told at
// once, not at the next beat.
func TestChangeBetweenLooks(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*bubbleGate, *session.Session)
	}{
		{"approved", func(g *bubbleGate, _ *session.Session) { g.idp.Approve("") }},
		{"renewed", func(_ *bubbleGate, s *session.Session) {
			login := *s.Now().Login
			login.DeviceCode, login.UserCode = "device-canary-2", "WDJB-0002"
			if err := s.NextCode(t.Context(), login); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleGate(t, nil)
				text := g.begin(browserHeaders)
				key, _ := session.ParseKey(text)
				s, err := g.engine.table.Lookup(t.Context(), key, "api.example.com")
				if err != nil {
					t.Fatal(err)
				}
				shown := s.Now()
				c.change(g, s)
				time.Sleep(time.Minute)
				began := time.Now()
				g.await(httptest.NewRequest("GET", "https://api.example.com/", nil), s, waiting{shown: shown, timeout: time.Hour, changed: func(now *session.Snapshot) bool { return sameCode(shown, now) }})
				if took := time.Since(began); took > 0 {
					t.Errorf("told after %s", took)
				}
			})
		})
	}
}

// TestConfirm: where it is required nothing opens before somebody has said so
// on the device, and then all goes on as ever.
func TestConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, confirming)
		g.idp.Claims = map[string]any{"preferred_username": "alice"}
		g.idp.Approve("")
		browser, terminal := g.begin(browserHeaders), g.begin(curlHeaders)
		time.Sleep(time.Minute)

		resp, body := g.ask(time.Minute, "GET", "/wall", browser, browserHeaders, "")
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "alice") || strings.Contains(body, "upstream") {
			t.Errorf("the page: %d %s", resp.StatusCode, body)
		}
		resp, body = g.ask(time.Minute, "GET", "/wall", terminal, curlHeaders, "")
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "curl -X 'POST' -H 'Authorization: Bearer "+terminal+"' 'https://api.example.com/.device/confirm'") {
			t.Errorf("the text: %d %s", resp.StatusCode, body)
		}
		resp, body = g.ask(time.Minute, "GET", "/.device/wait?timeout=5", terminal, with(jsonHeaders), "")
		if resp.StatusCode != http.StatusAccepted || !strings.Contains(body, `"error":"confirmation_required"`) || !strings.Contains(body, `"confirm_uri":"https://api.example.com/.device/confirm"`) {
			t.Errorf("JSON: %d %s", resp.StatusCode, body)
		}

		resp, _ = g.ask(time.Minute, "POST", "/.device/confirm", browser, browserHeaders, "to=/wall")
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/.device/login?again=1&to=%2Fwall" {
			t.Errorf("confirmed: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
		}
		resp, _ = g.ask(time.Minute, "GET", resp.Header.Get("Location"), browser, browserHeaders, "")
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/.device/login?to=%2Fwall&welcome=1" {
			t.Errorf("the claim: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
		}
		resp, body = g.ask(time.Minute, "POST", "/.device/confirm", terminal, jsonHeaders, "")
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"user":"alice"`) {
			t.Errorf("confirmed: %d %s", resp.StatusCode, body)
		}
		if _, body = g.ask(time.Minute, "GET", "/wall", terminal, curlHeaders, ""); body != "upstream" {
			t.Errorf("then: %s", body)
		}
	})
}
