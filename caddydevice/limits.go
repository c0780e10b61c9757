// This file holds the limits on new sign-ins and on open waits.

package caddydevice

import (
	"net/http"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// clientTable is how many clients are counted at a time. One that was pushed
// out starts anew; the limits for all hold for it as well.
const clientTable = 16384

// clientLimiter counts the starts of single clients.
type clientLimiter struct {
	rate    Rate
	clients *lru.Cache[netip.Prefix, *rate.Limiter]
}

func newClientLimiter(r Rate) (*clientLimiter, error) {
	clients, err := lru.New[netip.Prefix, *rate.Limiter](clientTable)
	return &clientLimiter{rate: r, clients: clients}, err
}

// allow takes one start of the client's, or says how long to wait.
func (l *clientLimiter) allow(client netip.Prefix) (wait time.Duration, ok bool) {
	limiter, known := l.clients.Get(client)
	if !known {
		limiter = rate.NewLimiter(l.rate.limit(), l.rate.Count)
		if other, there, _ := l.clients.PeekOrAdd(client, limiter); there {
			limiter = other
		}
	}
	return take(limiter)
}

func take(l *rate.Limiter) (wait time.Duration, ok bool) {
	r := l.Reserve()
	if wait = r.Delay(); wait > 0 {
		r.Cancel()
		return wait, false
	}
	return 0, true
}

// clientOf returns who is counted for a request: Caddy's client_ip, an IPv6
// one by its /64. ok is false where that is not known: no address (a unix
// socket), or one that is a proxy's whose word is not trusted.
func clientOf(r *http.Request) (client netip.Prefix, ok bool) {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	if err != nil || untrustedProxy(r) {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	client, err = addr.Prefix(bits)
	return client, err == nil
}

// untrustedProxy reports whether a proxy brought the request that Caddy does
// not know: all its clients would be counted as one.
func untrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return !trusted && r.Header["X-Forwarded-For"] != nil
}

// beginWait counts an open wait or stream, if there is room. done ends it.
func (a *App) beginWait() (done func(), ok bool) {
	if a.waits.Add(1) > int64(a.Limits.Waits) {
		a.waits.Add(-1)
		return nil, false
	}
	return func() { a.waits.Add(-1) }, true
}
