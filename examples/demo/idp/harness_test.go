// What the tests share: a client that calls the server without a network, and
// the steps of the device flow as a device and as a person take them.

package idp

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

const testIssuer = "http://127.0.0.1:9081"

// inProcess hands requests straight to a handler. Without sockets all of a test
// can run in a synctest bubble, where time passes only as the test says.
type inProcess struct{ handler http.Handler }

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	served := r.Clone(r.Context())
	served.RequestURI = r.URL.RequestURI()
	served.Host = r.URL.Host
	if served.Body == nil {
		served.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	t.handler.ServeHTTP(rec, served)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

func newServer(t *testing.T, opts ...Option) *http.Client {
	t.Helper()
	s, err := New(testIssuer, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: inProcess{s}}
}

// An answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

func read(t *testing.T, resp *http.Response, err error) answer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%s %s: %v in %q", a.Request.Method, a.Request.URL, err, a.body)
	}
	return m
}

func post(t *testing.T, c *http.Client, path string, form url.Values) answer {
	t.Helper()
	resp, err := c.PostForm(testIssuer+path, form)
	return read(t, resp, err)
}

// A flow is what a device got from the device authorization endpoint.
type flow struct {
	c                    *http.Client
	deviceCode, userCode string
	complete             string
	client               url.Values // how the client names itself
}

func begin(t *testing.T, c *http.Client) flow {
	t.Helper()
	return beginAs(t, c, url.Values{"client_id": {"demo"}})
}

func beginAs(t *testing.T, c *http.Client, client url.Values) flow {
	t.Helper()
	form := url.Values{"scope": {"openid profile email offline_access"}}
	for k, v := range client {
		form[k] = v
	}
	a := post(t, c, pathDevice, form)
	if a.StatusCode != http.StatusOK {
		t.Fatalf("device authorization: %d %s", a.StatusCode, a.body)
	}
	m := a.json(t)
	f := flow{c: c, client: client}
	f.deviceCode, _ = m["device_code"].(string)
	f.userCode, _ = m["user_code"].(string)
	f.complete, _ = m["verification_uri_complete"].(string)
	if f.deviceCode == "" || f.userCode == "" || f.complete == "" {
		t.Fatalf("device authorization: incomplete: %s", a.body)
	}
	return f
}

// poll makes one token request and returns its status and error, if any.
func (f flow) poll(t *testing.T) (answer, string) {
	t.Helper()
	form := url.Values{
		"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"},
		"device_code": {f.deviceCode},
	}
	for k, v := range f.client {
		form[k] = v
	}
	a := post(t, f.c, pathToken, form)
	code, _ := a.json(t)["error"].(string)
	return a, code
}

func (f flow) wantPoll(t *testing.T, want string) {
	t.Helper()
	if a, got := f.poll(t); got != want {
		t.Fatalf("poll: got error %q, want %q; %d %s", got, want, a.StatusCode, a.body)
	}
}

// A human is a browser with a cookie jar and the page that it shows.
type human struct {
	c    *http.Client
	page answer
}

func newHuman(t *testing.T, server *http.Client) *human {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &human{c: &http.Client{Transport: server.Transport, Jar: jar}}
}

func (h *human) open(t *testing.T, address string) {
	t.Helper()
	resp, err := h.c.Get(address)
	h.page = read(t, resp, err)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)">`)

// submit posts the first form on the page, with fields put over its hidden ones.
func (h *human) submit(t *testing.T, path string, fields url.Values) {
	t.Helper()
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(h.page.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	for k, v := range fields {
		form[k] = v
	}
	h.page = post(t, h.c, path, form)
}

func (h *human) wantPage(t *testing.T, status int, words string) {
	t.Helper()
	if h.page.StatusCode != status || !strings.Contains(h.page.body, words) {
		t.Fatalf("page: got %d, want %d with %q:\n%s", h.page.StatusCode, status, words, h.page.body)
	}
}

// reachApproval walks from the verification URI to the page that asks.
func (h *human) reachApproval(t *testing.T, f flow, name, password string) {
	t.Helper()
	h.open(t, testIssuer+pathPages)
	h.wantPage(t, http.StatusOK, "Enter the code")
	h.submit(t, pathPages, url.Values{"user_code": {f.userCode}})
	h.wantPage(t, http.StatusOK, "Password")
	h.submit(t, pathSignIn, url.Values{"username": {name}, "password": {password}})
	h.wantPage(t, http.StatusOK, "Allow this sign-in?")
}

func (h *human) decide(t *testing.T, decision string) {
	t.Helper()
	h.submit(t, pathApprove, url.Values{"decision": {decision}})
}
