// This file holds the limits on new sign-ins and on open waits.

package caddydevice

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	// clientTable is how many clients are counted at a time. One that was
	// pushed out starts anew; the limits for all hold for it as well.
	clientTable = 16384
	// proxyFactor is how many clients' worth of starts a proxy that Caddy does
	// not trust gets: its clients cannot be told apart, nor can it be told
	// from a client that just says it is a proxy.
	proxyFactor = 20
)

// Limits bound what one client may do.
type Limits struct {
	// New sign-ins of one client, and codes that its pages are renewed by; an
	// IPv6 client is its /64. Default: 10 in 1m.
	Starts *Rate `json:"starts,omitempty"`

	// The longest life of a code, whatever the identity provider says: between
	// 1m and 1h. Default: 10m.
	Code caddy.Duration `json:"code,omitempty"`
}

// Rate is a number of things, at most 1000000, in a time.
type Rate struct {
	Count int            `json:"count"`
	Per   caddy.Duration `json:"per"`
}

// maxCount keeps a rate's arithmetic within its types.
const maxCount = 1_000_000

func (r *Rate) check() error {
	if r.Count < 1 || r.Count > maxCount || r.Per <= 0 {
		return fmt.Errorf("%d %s: must be a number between 1 and %d, and a positive time, like: 10 1m", r.Count, span(time.Duration(r.Per)), maxCount)
	}
	return nil
}

func (r *Rate) limit() rate.Limit {
	return rate.Limit(float64(r.Count) / time.Duration(r.Per).Seconds())
}

// clientLimiter counts the starts of single clients.
type clientLimiter struct {
	rate    Rate
	clients *lru.Cache[clientKey, *rate.Limiter]
}

type clientKey struct {
	addr  netip.Prefix
	proxy bool
}

func newClientLimiter(r Rate) (*clientLimiter, error) {
	clients, err := lru.New[clientKey, *rate.Limiter](clientTable)
	return &clientLimiter{rate: r, clients: clients}, err
}

// allow takes one start of the client's, or says how long to wait.
func (l *clientLimiter) allow(client netip.Prefix, proxy bool) (wait time.Duration, ok bool) {
	key := clientKey{client, proxy}
	limiter, known := l.clients.Get(key)
	if !known {
		factor := 1
		if proxy {
			factor = proxyFactor
		}
		limiter = rate.NewLimiter(l.rate.limit()*rate.Limit(factor), l.rate.Count*factor)
		if other, there, _ := l.clients.PeekOrAdd(key, limiter); there {
			limiter = other
		}
	}
	return take(limiter)
}

func take(l *rate.Limiter) (wait time.Duration, ok bool) {
	if l.Allow() { // a reservation that is given back would keep others waiting meanwhile
		return 0, true
	}
	return time.Duration((1 - l.Tokens()) / float64(l.Limit()) * float64(time.Second)), false
}

// clientOf returns who is counted for a request: Caddy's client_ip, an IPv6
// one by its /64. proxy is whether that is a proxy whose word is not trusted.
// ok is false where there is no address (a unix socket).
func clientOf(r *http.Request) (client netip.Prefix, proxy, ok bool) {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, false, false
	}
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	client, err = addr.Prefix(bits)
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return client, !trusted && r.Header["X-Forwarded-For"] != nil, err == nil
}

// beginWait counts an open wait or stream, if there is room. done ends it.
func (a *App) beginWait() (done func(), ok bool) {
	if a.waits.Add(1) > int64(a.Limits.Waits) {
		a.waits.Add(-1)
		return nil, false
	}
	metrics.waits.Inc()
	return func() {
		a.waits.Add(-1)
		metrics.waits.Dec()
	}, true
}
