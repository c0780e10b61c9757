// This file tests the recorder against a provider of three lines.
package record_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/e2e/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const code = "a device code with & + % # \" in it"

// stage is a recorder before a provider that gives the next of the answers to
// each poll.
func stage(t *testing.T, answers ...string) *record.Recorder {
	t.Helper()
	var polls atomic.Int64
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
	mux.HandleFunc("/other/device", func(w http.ResponseWriter, _ *http.Request) {
		write(w, 200, `{"device_code":"a device code with & + % # \" in it","user_code":"ABCD-EFGH","interval":5,"big":12345678901234567890}`)
	})
	mux.HandleFunc("/other/token", func(w http.ResponseWriter, _ *http.Request) {
		n := polls.Add(1) - 1
		if body := answers[min(int(n), len(answers)-1)]; strings.Contains(body, "error") {
			write(w, 400, body)
		} else {
			write(w, 200, body)
		}
	})
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		base := "http://" + r.Host
		write(w, 200, `{"token_endpoint":"`+base+`/other/token","device_authorization_endpoint":"`+base+`/other/device"}`)
	})
	provider := httptest.NewServer(mux)
	t.Cleanup(provider.Close)
	rec := record.Start(t)
	rec.SetTarget(t, provider.URL)
	return rec
}

func ask(t *testing.T, address string, form url.Values) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	method := http.MethodPost
	if form == nil {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// must is ask for requests that must be answered.
func must(t *testing.T, address string, form url.Values) (int, string) {
	t.Helper()
	status, body, err := ask(t, address, form)
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

func poll(t *testing.T, rec *record.Recorder) (int, string) {
	t.Helper()
	return must(t, rec.URL()+"/other/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code},
	})
}

// begin fetches discovery, so that the paths are known, and a device code.
func begin(t *testing.T, rec *record.Recorder) string {
	t.Helper()
	_, discovery := must(t, rec.URL()+"/.well-known/openid-configuration", nil)
	if !strings.Contains(discovery, rec.URL()+"/other/token") {
		t.Fatalf("discovery does not lead through the recorder: %s", discovery)
	}
	_, body := must(t, rec.URL()+"/other/device", url.Values{"client_id": {"c"}, "client_secret": {"hush-hush"}})
	return body
}

func TestRecord(t *testing.T) {
	rec := stage(t, `{"error":"authorization_pending"}`, `{"error":"slow_down"}`, `{"access_token":"token-value"}`, `{"error":"invalid_grant"}`)
	begin(t, rec)
	const gap = 120 * time.Millisecond
	hash := record.Hash(code)
	for range 3 {
		wait := time.NewTimer(gap)
		<-wait.C
		poll(t, rec)
	}
	if got, n := rec.MinGap(hash); n != 3 || got < gap || got > gap+2*time.Second {
		t.Errorf("shortest of %d gaps is %v, want a little over %v", n, got, gap)
	}
	if n := rec.AfterTerminal(); n != 0 {
		t.Errorf("%d polls after the end", n)
	}
	poll(t, rec)
	if n := rec.AfterTerminal(); n != 1 {
		t.Errorf("%d polls after the end, want 1", n)
	}
	var words []string
	for _, e := range rec.PollsOf(hash) {
		words = append(words, e.Error)
	}
	if got := strings.Join(words, " "); got != "authorization_pending slow_down  invalid_grant" {
		t.Errorf("errors %q", got)
	}
	if starts := rec.Starts(); len(starts) != 1 || starts[0].DeviceCode != hash {
		t.Errorf("starts: %+v", starts)
	}
	for kind, want := range map[string]string{
		"device code": code, "client secret": "hush-hush", "access token": "token-value", "user code": "ABCD-EFGH",
	} {
		if got := rec.Secrets()[kind]; len(got) != 1 || got[0] != want {
			t.Errorf("the %s was not kept once: %q", kind, got)
		}
	}
}

func TestOverlapIsNegative(t *testing.T) {
	rec := stage(t, `{"error":"authorization_pending"}`)
	begin(t, rec)
	first, second := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	rec.Rewrite(func(*http.Request) (int, []byte, bool) {
		if n.Add(1) == 1 {
			close(first)
			<-second
		}
		return 400, []byte(`{"error":"authorization_pending"}`), true
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		poll(t, rec)
	}()
	<-first
	poll(t, rec)
	close(second)
	<-done
	if gap, _ := rec.MinGap(record.Hash(code)); gap >= 0 {
		t.Errorf("two polls at once show as a gap of %v", gap)
	}
}

func TestRewrite(t *testing.T) {
	rec := stage(t, `{"access_token":"x"}`)
	begin(t, rec)
	rec.RewriteWith(func(r *http.Request) *record.Answer {
		if r.PostForm.Get("device_code") != code {
			return nil
		}
		return &record.Answer{Status: 429, Header: http.Header{"Retry-After": {"7"}}, Body: []byte(`{"error":"slow_down"}`)}
	})
	if status, body := poll(t, rec); status != 429 || !strings.Contains(body, "slow_down") {
		t.Errorf("status %d: %s", status, body)
	}
	if e := rec.Polls()[0]; !e.InPlace || e.Status != 429 || e.Error != "slow_down" || e.Terminal() {
		t.Errorf("entry %+v", e)
	}
	rec.Rewrite(nil)
	if status, _ := poll(t, rec); status != 200 {
		t.Errorf("status %d after the rewriting ended", status)
	}
}

func TestRewriteAnswer(t *testing.T) {
	rec := stage(t, `{}`)
	rec.RewriteAnswer(func(_ *http.Request, answer map[string]any) {
		if _, ok := answer["device_code"]; ok {
			answer["interval"] = 1
		}
	})
	body := begin(t, rec)
	if !strings.Contains(body, `"interval":1`) || !strings.Contains(body, "12345678901234567890") {
		t.Errorf("answer %s", body)
	}
}

func TestLine(t *testing.T) {
	rec := stage(t, `{"access_token":"x"}`)
	begin(t, rec)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"y"}}
	rec.Down(true)
	if _, _, err := ask(t, rec.URL()+"/other/token", form); err == nil {
		t.Error("an answer came over a broken line")
	}
	rec.Down(false)
	rec.LoseAnswers(func(r *http.Request) bool { return r.PostForm.Get("refresh_token") == "y" })
	if _, _, err := ask(t, rec.URL()+"/other/token", form); err == nil {
		t.Error("a lost answer came")
	}
	rec.LoseAnswers(nil)
	if status, _ := must(t, rec.URL()+"/other/token", form); status != 200 {
		t.Errorf("status %d", status)
	}
	refreshes := rec.PresentationsOf(record.Hash("y"))
	if len(refreshes) != 2 || refreshes[0].Status != 0 || refreshes[1].Status != 200 {
		t.Errorf("refreshes: %+v", refreshes)
	}
}

func TestRefuse(t *testing.T) {
	rec := stage(t, `{"access_token":"x"}`)
	begin(t, rec)
	rec.Refuse(t, true)
	if _, _, err := ask(t, rec.URL()+"/other/token", url.Values{}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a connection that should be refused: %v", err)
	}
	rec.Refuse(t, false)
	poll(t, rec)
}

// refresh is a request with a refresh token that the client gives up once
// given is closed.
func refresh(t *testing.T, rec *record.Recorder, token string, given <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-given
		cancel()
	}()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, rec.URL()+"/other/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
	}
	cancel()
}

// TestRefreshTokens follows one token to the next, also where the client is
// gone before the answer.
func TestRefreshTokens(t *testing.T) {
	rec := stage(t, `{"access_token":"a","refresh_token":"two"}`, `{"access_token":"b","refresh_token":"three"}`)
	begin(t, rec)
	never, given := make(chan struct{}), make(chan struct{})
	defer close(never)
	var sent atomic.Value
	rec.HandOver(func(e record.Entry) { sent.Store(e) })
	refresh(t, rec, "one", never)
	for sent.Load() == nil {
		runtime.Gosched()
	}
	if e := sent.Load().(record.Entry); e.RefreshToken != record.Hash("one") || e.NewRefreshToken != record.Hash("two") {
		t.Errorf("the answer that was sent: %+v", e)
	}
	answered := make(chan struct{})
	rec.RewriteAnswer(func(r *http.Request, _ map[string]any) {
		close(given)
		<-answered
		if err := r.Context().Err(); err != nil {
			t.Errorf("the request ended with its client: %v", err)
		}
	})
	refresh(t, rec, "two", given)
	close(answered)
	for len(rec.Refreshes()) < 2 {
		runtime.Gosched()
	}
	if got := rec.PresentationsOf(record.Hash("two")); len(got) != 1 || got[0].NewRefreshToken != record.Hash("three") {
		t.Errorf("%+v", got)
	}
}

func TestRevocations(t *testing.T) {
	rec := stage(t, `{}`)
	if status, _ := must(t, rec.URL()+"/token/revocation", url.Values{"token": {"gone"}}); status != 404 {
		t.Fatalf("status %d", status)
	}
	if got := rec.Revocations(); len(got) != 1 || got[0].RefreshToken != record.Hash("gone") {
		t.Errorf("%+v", got)
	}
}

func TestDownCutsOpenConnections(t *testing.T) {
	rec := stage(t, `{}`)
	asked := make(chan struct{})
	rec.Rewrite(func(r *http.Request) (int, []byte, bool) {
		close(asked)
		<-r.Context().Done()
		return 200, nil, true
	})
	failed := make(chan error)
	go func() {
		_, _, err := ask(t, rec.URL()+"/token", url.Values{"grant_type": {"x"}})
		failed <- err
	}()
	<-asked
	rec.Down(true)
	if err := <-failed; err == nil {
		t.Error("the held request was answered")
	}
}
