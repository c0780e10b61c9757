// The pages: what a person reads when something is wrong, and what other sites
// cannot make a browser do.

package idp

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCodePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t)
		f := begin(t, c)
		tests := []struct {
			name, code string
			status     int
			words      string
		}{
			{"as shown", f.userCode, 200, "Password"},
			{"without dash, in lower case", strings.ToLower(strings.ReplaceAll(f.userCode, "-", "")), 200, "Password"},
			{"with blanks", " " + strings.ReplaceAll(f.userCode, "-", " ") + " ", 200, "Password"},
			{"wrong", "BBBB-BBBB", 400, "type it again"},
			{"empty", "", 400, "type it again"},
			{"markup", `"><script>`, 400, "&#34;&gt;&lt;script&gt;"},
		}
		for _, tt := range tests {
			h := newHuman(t, c)
			h.open(t, testIssuer+pathPages)
			h.submit(t, pathPages, url.Values{"user_code": {tt.code}})
			if h.page.StatusCode != tt.status || !strings.Contains(h.page.body, tt.words) {
				t.Errorf("%s: %d, want %d with %q:\n%s", tt.name, h.page.StatusCode, tt.status, tt.words, h.page.body)
			}
		}

		time.Sleep(10 * time.Minute)
		h := newHuman(t, c)
		h.open(t, testIssuer+pathPages)
		h.submit(t, pathPages, url.Values{"user_code": {f.userCode}})
		h.wantPage(t, http.StatusBadRequest, "ask for a new code")
	})
}

// TestCompleteURI: the link with the code asks to compare it first.
func TestCompleteURI(t *testing.T) {
	c := newServer(t)
	f := begin(t, c)
	h := newHuman(t, c)
	h.open(t, testIssuer+pathPages+"?user_code=BBBB-BBBB")
	h.wantPage(t, http.StatusBadRequest, "type it again")
	h.open(t, f.complete)
	h.wantPage(t, http.StatusOK, "Compare the code")
	h.wantPage(t, http.StatusOK, f.userCode)
	f.wantPoll(t, "authorization_pending")

	h.submit(t, pathPages, nil)
	h.submit(t, pathSignIn, url.Values{"username": {"Alice "}, "password": {"alice-demo"}})
	h.decide(t, "approve")
	h.wantPage(t, http.StatusOK, "Signed in")
	f.wantPoll(t, "")
}

func TestWrongPassword(t *testing.T) {
	tests := map[string][2]string{
		"wrong password":       {"alice", "wrong"},
		"another's password":   {"alice", "bob-demo"},
		"unknown user":         {"mallory", "alice-demo"},
		"nothing":              {"", ""},
		"a prefix of the word": {"alice", "alice-dem"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newServer(t)
			f := begin(t, c)
			h := newHuman(t, c)
			h.open(t, testIssuer+pathPages)
			h.submit(t, pathPages, url.Values{"user_code": {f.userCode}})
			h.submit(t, pathSignIn, url.Values{"username": {tt[0]}, "password": {tt[1]}})
			h.wantPage(t, http.StatusBadRequest, "User name or password is wrong")

			// Whoever is not signed in approves nothing.
			h.decide(t, "approve")
			h.wantPage(t, http.StatusOK, "Password")
			f.wantPoll(t, "authorization_pending")

			// The page goes on from there.
			h.submit(t, pathSignIn, url.Values{"username": {"alice"}, "password": {"alice-demo"}})
			h.wantPage(t, http.StatusOK, "Allow this sign-in?")
		})
	}
}

// TestSomeoneElse: the one who is signed in can leave before approving.
func TestSomeoneElse(t *testing.T) {
	c := newServer(t)
	f := begin(t, c)
	h := newHuman(t, c)
	h.reachApproval(t, f, "alice", "alice-demo")
	alices, kept := h.page, newHuman(t, c)
	site, err := url.Parse(testIssuer + pathPages)
	if err != nil {
		t.Fatal(err)
	}
	kept.c.Jar.SetCookies(site, h.c.Jar.Cookies(site))
	h.submit(t, pathSignOut, nil)
	h.wantPage(t, http.StatusOK, "Password")

	// Signing out ends the session itself, not only this browser's cookie.
	kept.page = alices
	kept.decide(t, "approve")
	kept.wantPage(t, http.StatusForbidden, "nothing was done")

	signIn := h.page
	h.page = alices // her page is worth nothing any more
	h.decide(t, "approve")
	h.wantPage(t, http.StatusForbidden, "nothing was done")
	f.wantPoll(t, "authorization_pending")

	h.page = signIn
	h.submit(t, pathSignIn, url.Values{"username": {"bob"}, "password": {"bob-demo"}})
	h.wantPage(t, http.StatusOK, "Bob Example")
}

func TestForgedForms(t *testing.T) {
	tests := map[string]struct {
		token  func(real string) string
		header http.Header
		status int
	}{
		"own form":               {status: 200},
		"own form, own site":     {header: http.Header{"Sec-Fetch-Site": {"same-origin"}}, status: 200},
		"no token":               {token: func(string) string { return "" }, status: 403},
		"a made-up token":        {token: func(s string) string { return strings.Repeat("A", len(s)) }, status: 403},
		"cross-site":             {header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, status: 403},
		"same host, other port":  {header: http.Header{"Sec-Fetch-Site": {"same-site"}}, status: 403},
		"origin of another site": {header: http.Header{"Origin": {"http://127.0.0.1:9080"}}, status: 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newServer(t)
			f := begin(t, c)
			h := newHuman(t, c)
			h.reachApproval(t, f, "alice", "alice-demo")

			form := url.Values{"user_code": {f.userCode}, "decision": {"approve"}}
			for _, m := range hidden.FindAllStringSubmatch(h.page.body, -1) {
				if m[1] == "csrf" {
					form.Set("csrf", m[2])
				}
			}
			if tt.token != nil {
				form.Set("csrf", tt.token(form.Get("csrf")))
			}
			req, err := http.NewRequest(http.MethodPost, testIssuer+pathApprove, strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tt.header {
				req.Header[k] = v
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := h.c.Do(req)
			if a := read(t, resp, err); a.StatusCode != tt.status {
				t.Errorf("got %d, want %d:\n%s", a.StatusCode, tt.status, a.body)
			}
			want := ""
			if tt.status != http.StatusOK {
				want = "authorization_pending"
			}
			f.wantPoll(t, want)
		})
	}
}

// TestTokenOfAnotherBrowser: a form token is good in its own browser only.
func TestTokenOfAnotherBrowser(t *testing.T) {
	c := newServer(t)
	f := begin(t, c)
	victim, attacker := newHuman(t, c), newHuman(t, c)
	victim.reachApproval(t, f, "alice", "alice-demo")
	attacker.open(t, testIssuer+pathPages)
	victim.page = attacker.page // the attacker's form in the victim's browser
	victim.submit(t, pathApprove, url.Values{"user_code": {f.userCode}, "decision": {"approve"}})
	victim.wantPage(t, http.StatusForbidden, "nothing was done")
	f.wantPoll(t, "authorization_pending")
}

func TestPageHeadersAndCookie(t *testing.T) {
	c := newServer(t)
	h := newHuman(t, c)
	h.open(t, testIssuer+pathPages)
	for name, want := range map[string]string{
		"Cache-Control":          "no-store",
		"Content-Type":           "text/html; charset=utf-8",
		"Referrer-Policy":        "same-origin",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := h.page.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	policy := h.page.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("Content-Security-Policy lacks %q: %s", part, policy)
		}
	}
	cookies := h.page.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteLaxMode || cookies[0].Path != "/device" {
		t.Fatalf("cookies: %v", cookies)
	}

	// Signing in takes a new session id, so that a planted one is worthless.
	f := begin(t, c)
	h.reachApproval(t, f, "alice", "alice-demo")
	site, err := url.Parse(testIssuer + pathPages)
	if err != nil {
		t.Fatal(err)
	}
	if now := h.c.Jar.Cookies(site); len(now) != 1 || now[0].Value == cookies[0].Value {
		t.Error("the session id is the same after sign-in")
	}

	resp, err := c.Get(testIssuer + pathStyle)
	if css := read(t, resp, err); !strings.HasPrefix(css.Header.Get("Content-Type"), "text/css") || css.body == "" {
		t.Errorf("style sheet: %s", css.Header.Get("Content-Type"))
	}
}
