// This file holds the clients of a minute of fifty: terminals that carry a key
// themselves or in a jar, and browsers.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/record"
	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

// lifeGap is how often each client asks.
const lifeGap = 200 * time.Millisecond

// lifeKind is a kind of client: how it carries its key, and what it asks for.
type lifeKind struct {
	name   string
	header http.Header
	bearer bool
}

var lifeKinds = []lifeKind{
	{name: "terminal with a key", header: http.Header{"Accept": {"application/json"}}, bearer: true},
	{name: "terminal with a jar", header: http.Header{"Accept": {"application/json"}}},
	{name: "browser", header: navigation},
}

func (k lifeKind) isBrowser() bool { return k.header.Get("Sec-Fetch-Mode") != "" }

type lifeClient struct {
	lifeKind
	l      *life
	client *http.Client

	mu    sync.Mutex
	key   string
	code  string // of the sign-in under way
	token string // the first refresh token of the session; empty where it is over
}

// populate signs all clients in.
func (l *life) populate(t *testing.T) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: lifeSessions}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	for i := range lifeSessions {
		kind := lifeKinds[i%len(lifeKinds)]
		kind.name += fmt.Sprint(" ", i)
		l.clients = append(l.clients, &lifeClient{lifeKind: kind, l: l, client: client})
	}
	l.signInLost(t)
}

// begin lets the clients ask until stop.
func (l *life) begin() (stop func()) {
	ctx, cancel := context.WithCancel(l.ctx)
	var done sync.WaitGroup
	for _, c := range l.clients {
		done.Go(func() { c.live(ctx) })
	}
	return func() {
		cancel()
		done.Wait()
	}
}

// session is the first refresh token of the session.
func (c *lifeClient) session() (token string, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token, c.token == ""
}

func (c *lifeClient) live(ctx context.Context) {
	tick := time.NewTicker(lifeGap)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if token, over := c.session(); !over {
			c.askOnce(ctx, token)
		}
	}
}

// askOnce is one request. One that got no answer is made again, once, unless
// the gateway was killed meanwhile: right after a reload Caddy closes its old
// listener with whatever it has not accepted yet.
func (c *lifeClient) askOnce(ctx context.Context, token string) {
	c.l.asked.Add(1)
	epoch := c.l.epoch.Load()
	got, err := c.ask(ctx, "/life")
	if err != nil && ctx.Err() == nil && !c.l.wasAway(epoch) {
		got, err = c.ask(ctx, "/life")
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if !c.l.wasAway(epoch) {
			c.l.complain("%s: %v", c.name, err)
		}
	case got.StatusCode == http.StatusOK:
		var seen upstream.Request
		if json.Unmarshal([]byte(got.body), &seen) != nil || seen.Header.Get("Remote-User") != "alice" {
			c.l.complain("%s: the upstream was told of %q", c.name, seen.Header.Get("Remote-User"))
		}
	case got.StatusCode == http.StatusServiceUnavailable:
		c.l.later.Add(1)
		if got.Header.Get("Retry-After") == "" || got.Header.Get("Set-Cookie") != "" {
			c.l.complain("%s: 503 with %v", c.name, got.Header)
		}
	default:
		c.lose(token, got)
	}
}

// wasAway reports whether the gateway was killed since then.
func (l *life) wasAway(epoch int64) bool { return epoch%2 == 1 || l.epoch.Load() != epoch }

// lose notes that the session is over, which its client has to be told why.
func (c *lifeClient) lose(token string, got received) {
	if problem := c.lostWith(got); problem != "" {
		c.l.complain("%s: status %d: %s: %.300s", c.name, got.StatusCode, problem, sessionKey.ReplaceAllString(got.body, "dvc_…"))
	}
	c.l.mu.Lock()
	c.l.over = append(c.l.over, lifeSession{name: c.name, token: token})
	c.l.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = ""
}

// lostWith takes the new code from an answer, and says what is wrong with that.
func (c *lifeClient) lostWith(got received) string {
	var a answer
	if c.isBrowser() {
		if found := pageCode.FindStringSubmatch(got.body); found != nil {
			a.UserCode = found[1]
		}
		if strings.Contains(got.body, refreshLost) {
			a.Reason = "refresh_lost"
		} else if said := pageSays.FindStringSubmatch(got.body); said != nil {
			a.Reason = said[1]
		}
		a.Session = got.key
	} else if err := json.Unmarshal([]byte(got.body), &a); err != nil {
		return err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key, c.code = a.Session, a.UserCode
	switch {
	case got.StatusCode != http.StatusUnauthorized || a.Reason != "refresh_lost":
		return "the reason is " + a.Reason
	case (a.UserCode == "") != c.bearer || (a.Session == "") != c.bearer:
		return "there is no new code, or one that nobody asked for"
	}
	return ""
}

// pageSays finds why an earlier sign-in is over.
var pageSays = regexp.MustCompile(`<p role="status">([^<]*)</p>`)

// refreshLost is what a person reads of it.
const refreshLost = "renewal of this sign-in was lost on its way"

func (c *lifeClient) ask(ctx context.Context, path string) (received, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.l.url+path, nil)
	if err != nil {
		return received{}, err
	}
	maps.Copy(req.Header, c.header)
	c.mu.Lock()
	key := c.key
	c.mu.Unlock()
	switch {
	case key == "":
	case c.bearer:
		req.Header.Set("Authorization", "Bearer "+key)
	default:
		req.AddCookie(&http.Cookie{Name: ourCookie, Value: key})
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return received{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	got := received{Response: resp, body: string(body)}
	if set := setCookies(resp.Header)[ourCookie]; set != nil {
		got.key = set.Value
	}
	return got, err
}

// signIn has the sign-in approved that is under way, or one that it starts.
func (c *lifeClient) signIn(t *testing.T) {
	if c.code == "" {
		if err := c.start(); err != nil {
			t.Errorf("%s: %v", c.name, err)
			return
		}
	}
	complete := idpserver.Device{Complete: c.l.code(t, c.code).complete}
	if err := idpserver.NewPerson(t).Approve(c.l.ctx, complete, idpserver.Alice, idpserver.AlicePassword); err != nil {
		t.Errorf("%s: %v", c.name, err)
		return
	}
	for {
		got, err := c.ask(c.l.ctx, "/life")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			return
		}
		if got.StatusCode == http.StatusOK {
			break
		}
		if got.StatusCode == http.StatusSeeOther && got.key != "" {
			c.mu.Lock()
			c.key = got.key // the claim
			c.mu.Unlock()
		}
		c.l.letPass(lifeGap)
	}
	polls := slices.DeleteFunc(c.l.polls(t, c.code), func(e record.Entry) bool { return e.NewRefreshToken == "" })
	if len(polls) != 1 {
		t.Errorf("%s: %d polls brought a refresh token", c.name, len(polls))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.code = polls[0].NewRefreshToken, ""
}

func (c *lifeClient) start() error {
	got, err := c.ask(c.l.ctx, "/life")
	if err != nil {
		return err
	}
	if c.isBrowser() {
		found := pageCode.FindStringSubmatch(got.body)
		if found == nil {
			return fmt.Errorf("status %d without a code", got.StatusCode)
		}
		c.key, c.code = got.key, found[1]
		return nil
	}
	var a answer
	if err := json.Unmarshal([]byte(got.body), &a); err != nil {
		return err
	}
	c.key, c.code = a.Session, a.UserCode
	return nil
}
