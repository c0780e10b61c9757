// This file plays many clients at once: sign-ins that are pending, sessions in
// use and kiosks that wait, with requests at a steady rate, while something
// happens to the gateway.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

// The size of a crowd, and what it asks.
const (
	crowdPending = 200
	crowdActive  = 200
	crowdKiosks  = 20
	crowdRate    = 100 // requests a second
	// atOnce is how many clients ask side by side.
	atOnce = 16
)

// crowdSite lets that many start, all from one address.
func crowdSite(lines ...string) string {
	return "{\ndevice_auth {\nlimits {\nstarts 10000 1s\n}\n}\n}\n" + oneSite(deviceAuth("", append(lines, "limits {\nstarts 10000 1m\n}")...))
}

// member is one client of the crowd, and what it expects to be answered.
type member struct {
	kind string // "pending", "active" or "kiosk"
	key  string
	code string
}

type crowd struct {
	s       *stage
	members []member
	client  *http.Client
}

// gather starts all sign-ins, and has those of the active members approved.
func (s *stage) gather(t *testing.T) *crowd {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * atOnce}
	t.Cleanup(transport.CloseIdleConnections)
	c := &crowd{s: s, client: &http.Client{Transport: transport, Timeout: time.Minute}, members: make([]member, crowdPending+crowdActive+crowdKiosks)}
	for i := range c.members {
		switch {
		case i < crowdPending:
			c.members[i].kind = "pending"
		case i < crowdPending+crowdActive:
			c.members[i].kind = "active"
		default:
			c.members[i].kind = "kiosk"
		}
	}
	c.each(t, func(_ *idpserver.Person, m *member) error { return c.begin(m) })
	c.each(t, func(p *idpserver.Person, m *member) error {
		if m.kind != "active" {
			return nil
		}
		complete := s.code(t, m.code).complete
		return p.Approve(s.ctx, idpserver.Device{Complete: complete}, idpserver.Alice, idpserver.AlicePassword)
	})
	for i := range c.members {
		if m := &c.members[i]; m.kind == "active" {
			s.await(t, "a sign-in of the crowd", func() bool { return c.check(s.ctx, m) == nil })
		}
	}
	return c
}

// each calls f for all members, several at a time, each with a person who may
// be signed in already.
func (c *crowd) each(t *testing.T, f func(*idpserver.Person, *member) error) {
	t.Helper()
	work, errs := make(chan *member), make(chan error, len(c.members))
	var done sync.WaitGroup
	for range atOnce {
		person := idpserver.NewPerson(t)
		done.Go(func() {
			for m := range work {
				errs <- f(person, m)
			}
		})
	}
	for i := range c.members {
		work <- &c.members[i]
	}
	close(work)
	done.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// begin starts a member's sign-in.
func (c *crowd) begin(m *member) error {
	resp, body, err := c.ask(c.s.ctx, m, "/")
	if err != nil {
		return err
	}
	if m.kind == "kiosk" {
		set := setCookies(resp.Header)[ourCookie]
		found := pageCode.FindStringSubmatch(body)
		if set == nil || found == nil {
			return fmt.Errorf("a kiosk got status %d without a code", resp.StatusCode)
		}
		m.key, m.code = set.Value, found[1]
		return nil
	}
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil || a.Session == "" {
		return fmt.Errorf("a start got status %d: %s", resp.StatusCode, a.Error)
	}
	m.key, m.code = a.Session, a.UserCode
	return nil
}

// ask sends a request as a member does.
func (c *crowd) ask(ctx context.Context, m *member, path string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.s.url+path, nil)
	if err != nil {
		return nil, "", err
	}
	if m.kind == "kiosk" {
		req.Header.Set("Accept", "text/html")
		if m.key != "" {
			req.AddCookie(&http.Cookie{Name: ourCookie, Value: m.key})
		}
	} else {
		req.Header.Set("Accept", "application/json")
		if m.key != "" {
			req.Header.Set("Authorization", "Bearer "+m.key)
		}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// errAnswer is an answer that a member should not get.
var errAnswer = errors.New("wrong answer")

// check asks once, and says what is wrong with the answer. An error that is not
// errAnswer means that there was none.
func (c *crowd) check(ctx context.Context, m *member) error {
	resp, body, err := c.ask(ctx, m, "/crowd")
	if err != nil {
		return err
	}
	good := false
	switch m.kind {
	case "active":
		var seen upstream.Request
		good = resp.StatusCode == 200 && json.Unmarshal([]byte(body), &seen) == nil && seen.Header.Get("Remote-User") == "alice"
	case "pending":
		var a answer
		good = resp.StatusCode == 401 && json.Unmarshal([]byte(body), &a) == nil && a.UserCode == m.code
	case "kiosk":
		found := pageCode.FindStringSubmatch(body)
		good = resp.StatusCode == 401 && found != nil && found[1] == m.code
	}
	if !good {
		return fmt.Errorf("%w: %s member: status %d: %.200s", errAnswer, m.kind, resp.StatusCode, sessionKey.ReplaceAllString(body, "dvc_…"))
	}
	return nil
}

// traffic is the crowd at work.
type traffic struct {
	stop func()
	// away says that the gateway may be gone: no answer is none to complain of.
	away          atomic.Bool
	sent, retried atomic.Int64

	mu       sync.Mutex
	problems []string
}

func (tr *traffic) complain(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.problems = append(tr.problems, fmt.Sprintf(format, args...))
}

// work lets members ask at the crowd's rate, and the kiosks wait, until stop.
func (c *crowd) work() *traffic {
	ctx, cancel := context.WithCancel(c.s.ctx)
	tr := &traffic{}
	var done sync.WaitGroup
	ticks := make(chan struct{})
	done.Go(func() {
		defer close(ticks)
		tick := time.NewTicker(time.Second / crowdRate)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				select {
				case ticks <- struct{}{}:
				default: // all are busy
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for range atOnce {
		done.Go(func() {
			for range ticks {
				c.askOnce(ctx, tr, &c.members[rand.IntN(len(c.members))])
			}
		})
	}
	for i := range c.members {
		if m := &c.members[i]; m.kind == "kiosk" {
			done.Go(func() { c.watch(ctx, tr, m) })
		}
	}
	tr.stop = func() {
		cancel()
		done.Wait()
		c.client.CloseIdleConnections()
	}
	return tr
}

// askOnce is one request. A connection that is reset before an answer is made
// again, once, as a browser would: right after a reload Caddy closes its old
// listener with whatever it has not accepted yet.
func (c *crowd) askOnce(ctx context.Context, tr *traffic, m *member) {
	tr.sent.Add(1)
	err := c.check(ctx, m)
	if err != nil && !errors.Is(err, errAnswer) && ctx.Err() == nil && !tr.away.Load() {
		tr.retried.Add(1)
		err = c.check(ctx, m)
	}
	if err != nil && ctx.Err() == nil && (errors.Is(err, errAnswer) || !tr.away.Load()) {
		tr.complain("%v", err)
	}
}

// watch does what a kiosk's script does: it waits, and waits again.
func (c *crowd) watch(ctx context.Context, tr *traffic, m *member) {
	for ctx.Err() == nil {
		resp, body, err := c.ask(ctx, m, "/.device/wait?timeout=25")
		switch {
		case err != nil:
			timer := time.NewTimer(200 * time.Millisecond)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		case resp.StatusCode != http.StatusAccepted:
			tr.complain("a kiosk's wait got status %d: %.200s", resp.StatusCode, body)
			return
		}
	}
}

// wantAll fails unless every member is answered as before.
func (c *crowd) wantAll(t *testing.T) {
	t.Helper()
	c.each(t, func(_ *idpserver.Person, m *member) error { return c.check(c.s.ctx, m) })
}

// finish has some of the pending approved: they are still polled for, each by
// the code that was shown all along.
func (c *crowd) finish(t *testing.T) {
	t.Helper()
	for i := 0; i < crowdPending; i += crowdPending / 5 {
		m := &c.members[i]
		c.s.approve(t, c.s.code(t, m.code).complete)
		m.kind = "active"
		c.s.await(t, "an approval", func() bool { return c.check(c.s.ctx, m) == nil })
	}
	if n := len(c.s.rec.Starts()); n != len(c.members) {
		t.Errorf("%d device authorizations for %d sign-ins", n, len(c.members))
	}
}

// done ends the traffic and says what it met.
func (tr *traffic) done(t *testing.T) {
	t.Helper()
	tr.stop()
	t.Logf("%d requests, %d of them twice", tr.sent.Load(), tr.retried.Load())
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for i, problem := range tr.problems {
		if i == 10 {
			t.Errorf("and %d more", len(tr.problems)-i)
			break
		}
		t.Error(strings.TrimSpace(problem))
	}
	if tr.sent.Load() == 0 {
		t.Error("no request was made")
	}
}
