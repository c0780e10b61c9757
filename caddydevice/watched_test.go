// This file tests sign-ins that are watched for long: by several requests, on
// several nodes, and to an end that nobody confirms.

package caddydevice

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// TestBrowserKeyIsNeverPrinted: whatever form a page's script asks for, in none
// does it find the key that its cookie keeps from it.
func TestBrowserKeyIsNeverPrinted(t *testing.T) {
	for _, approve := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := newBubbleGate(t, confirming)
			key := g.begin(browserHeaders)
			if approve {
				g.idp.Approve("")
				time.Sleep(time.Minute)
			}
			for _, accept := range []string{"text/plain", "application/json", "text/html", "text/event-stream"} {
				for _, target := range []string{"/wall", "/.device/login", "/.device/wait?timeout=0", "/.device/session"} {
					_, body := g.ask(time.Second, "GET", target, key, with(fetchHeaders, "Accept", accept), "")
					if body == "" || strings.Contains(body, session.KeyPrefix) {
						t.Errorf("approved %t, %s as %s: %q", approve, target, accept, body)
					}
				}
			}
		})
	}
}

// TestUnconfirmedPage: a page that waits to be confirmed knows where to load
// what becomes of it, and finds a way on there.
func TestUnconfirmedPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, confirming)
		g.idp.Approve("")
		key := g.begin(browserHeaders)
		time.Sleep(time.Minute)
		const again = "/.device/login?again=1&to=%2Fwall"
		if _, body := g.ask(time.Minute, "GET", "/wall", key, browserHeaders, ""); !strings.Contains(body, `data-reload-url="`+strings.ReplaceAll(again, "&", "&amp;")+`"`) {
			t.Errorf("the page has no address of its own: %s", body)
		}
		time.Sleep(10 * time.Minute)
		script := with(fetchHeaders, "Accept", "text/html", "X-Requested-With", "XMLHttpRequest")
		resp, body := g.ask(time.Minute, "GET", again, key, script, "")
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, `data-reason="unconfirmed"`) || !strings.Contains(body, `id="new-code"`) {
			t.Errorf("in the end: %d %s", resp.StatusCode, body)
		}
	})
}

// TestWatchedAcrossNodes: a stream keeps its sign-in watched, also once another
// node has written that.
func TestWatchedAcrossNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		key, _ := session.ParseKey(g.begin(browserHeaders))
		go g.watch(7*time.Minute, key.Reveal(), "")
		time.Sleep(time.Minute)
		other := session.NewTable(g.engine.store, g.resolved.Issuer+" "+g.resolved.ClientID)
		defer other.Close()
		theirs, err := other.Lookup(context.Background(), key, "api.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if err := theirs.Slower(context.Background(), theirs.Now().Login.DeviceCode, time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		before := len(g.idp.Calls("/token"))
		time.Sleep(time.Minute)
		if n := len(g.idp.Calls("/token")) - before; n < 10 {
			t.Errorf("%d polls in a minute that a page watches, as if nobody did", n)
		}
		time.Sleep(2 * time.Minute)
	})
}

// TestSlowRenewal: however long the identity provider takes, and however many
// ask, a code is renewed once.
func TestSlowRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, nil)
		g.idp.Device = func(n int) idptest.Reply {
			reply := idptest.JSON(http.StatusOK, idptest.Device(g.idp.Issuer, n))
			reply.Delay = 8 * time.Second
			return reply
		}
		key := g.begin(browserHeaders)
		for range 3 {
			go g.watch(9*time.Minute, key, "")
		}
		time.Sleep(9*time.Minute + time.Second)
		if n := g.starts(); n != 2 {
			t.Errorf("%d device authorizations for one code and its next", n)
		}
	})
}

// TestRenewalsOfOneClient: a client gets no more codes by renewals than it gets
// by starts.
func TestRenewalsOfOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate(t, map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 4, "per": 36 * time.Minute}}})
		for range 4 {
			key := g.begin(browserHeaders)
			go g.watch(25*time.Minute, key, "")
			time.Sleep(7 * time.Second) // or all would try at the same instant, and get in each other's way
		}
		time.Sleep(20 * time.Minute)
		if n := g.starts(); n < 5 || n > 6 {
			t.Errorf("%d codes of a client that may have 4, and one more every 9 minutes", n)
		}
		time.Sleep(5 * time.Minute)
	})
}
