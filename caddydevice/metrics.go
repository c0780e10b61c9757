// This file holds the metrics: what is counted, under which names, and how each
// configuration's registry comes to have them.

package caddydevice

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// The labels. All have few values: an issuer is one that is configured, the
// others are of the tables in this file and of closed sets beside it.
const (
	issuerLabel   = "issuer"
	outcomeLabel  = "outcome"
	reasonLabel   = "reason"
	limitLabel    = "limit"
	decisionLabel = "decision"
	callLabel     = "call"
)

// metrics are the process's: they go on counting over reloads, and each
// configuration's registry gets the same ones.
var metrics = newMetrics()

type collectors struct {
	started       *prometheus.CounterVec
	ended         *prometheus.CounterVec
	limited       *prometheus.CounterVec
	requests      *prometheus.CounterVec
	sessionsEnded *prometheus.CounterVec
	revocations   *prometheus.CounterVec
	eventsDropped prometheus.Counter
	waits         prometheus.Gauge

	authorizations *prometheus.HistogramVec
	polls          *prometheus.HistogramVec
	refreshes      *prometheus.HistogramVec
	storeCalls     *prometheus.HistogramVec
}

// idpBuckets and storeBuckets are in seconds. A poll takes at most the
// provider's timeout.
var (
	idpBuckets   = []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	storeBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
)

func newMetrics() *collectors {
	return &collectors{
		started:       newCounters("sign_ins_started_total", "Sign-ins that were started: the identity provider has given a code.", issuerLabel),
		ended:         newCounters("sign_ins_ended_total", "Sign-ins that came to an end, by what became of them.", issuerLabel, outcomeLabel),
		limited:       newCounters("limited_total", "Sign-ins and waits that were refused because a limit was reached.", issuerLabel, limitLabel),
		requests:      newCounters("requests_total", "Requests by what the gate decided. Each gate on a request's way counts it.", issuerLabel, decisionLabel),
		sessionsEnded: newCounters("sessions_ended_total", "Sessions of signed-in clients that came to an end, by why.", issuerLabel, reasonLabel),
		revocations:   newCounters("revocations_total", "Tokens that were to be revoked at the identity provider, by what came of it.", issuerLabel, outcomeLabel),
		eventsDropped: prometheus.NewCounter(prometheus.CounterOpts(options("events_dropped_total", "Events that were not emitted because their handlers are too slow."))),
		waits:         prometheus.NewGauge(prometheus.GaugeOpts(options("waits_open", "Streams, waits and held requests that are open."))),

		authorizations: newHistograms("authorization_duration_seconds", "Time that device authorization requests took, by what came of them.", idpBuckets, issuerLabel, outcomeLabel),
		polls:          newHistograms("poll_duration_seconds", "Time that polls took, by what the identity provider answered.", idpBuckets, issuerLabel, outcomeLabel),
		refreshes:      newHistograms("refresh_duration_seconds", "Time that token refreshes took, by what came of them.", idpBuckets, issuerLabel, outcomeLabel),
		storeCalls:     newHistograms("store_call_duration_seconds", "Time that calls of the session store took, by what came of them.", storeBuckets, callLabel, outcomeLabel),
	}
}

func options(name, help string) prometheus.Opts {
	return prometheus.Opts{Namespace: "caddy", Subsystem: "device_auth", Name: name, Help: help}
}

func newCounters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts(options(name, help)), labels)
}

func newHistograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	o := options(name, help)
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name, Help: o.Help, Buckets: buckets}, labels)
}

// register gives the metrics to a configuration's registry.
func (m *collectors) register(registry *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{
		m.started, m.ended, m.limited, m.requests, m.sessionsEnded, m.revocations, m.eventsDropped, m.waits,
		m.authorizations, m.polls, m.refreshes, m.storeCalls,
		engineGauges{},
	} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// labelOf is an issuer as a label: one from a file or the environment may be no
// UTF-8.
func labelOf(issuer string) string { return strings.ToValidUTF8(issuer, "\uFFFD") }

// What became of tokens that were to be revoked.
const (
	revokedOutcome    = "revoked"
	notRevokedOutcome = "failed"
)

// endReasons are those of sessions that somebody was signed in with.
var endReasons = []session.Reason{
	session.TokenExpired, session.Refused, session.RefreshLost, session.OtherIdentity, session.BadTokens, session.LoggedOut,
	session.Revoked, session.IdleTooLong, session.LifetimeOver, session.SignedOut, session.Unconfirmed,
}

// prepare makes an issuer's series, so that they begin at zero and not where
// something is first counted. Of histograms it is the one that is as it should
// be.
func (m *collectors) prepare(issuer string) {
	m.started.WithLabelValues(issuer)
	m.authorizations.WithLabelValues(issuer, "ok")
	m.polls.WithLabelValues(issuer, idp.Pending.String())
	m.refreshes.WithLabelValues(issuer, keeper.Refreshed)
	for _, outcome := range []string{revokedOutcome, notRevokedOutcome} {
		m.revocations.WithLabelValues(issuer, outcome)
	}
	for _, reason := range endReasons {
		m.sessionsEnded.WithLabelValues(issuer, string(reason))
	}
	for _, row := range signInEnds {
		m.ended.WithLabelValues(issuer, row.outcome)
	}
	for limit := range limitDetails {
		m.limited.WithLabelValues(issuer, string(limit))
	}
}

// limit is one that a client has reached.
type limit string

// The limits, by their names in metrics and events.
const (
	clientLimit  limit = "client"
	allLimit     limit = "all"
	pendingLimit limit = "pending"
	waitsLimit   limit = "waits"
)

// limitDetails say it to the client.
var limitDetails = map[limit]string{clientLimit: "", allLimit: "", pendingLimit: "pending", waitsLimit: "waits"}

// decision is what a gate decided about a request.
type decision int

// The decisions.
const (
	letThrough   decision = iota // signed in, or with a good token of its own
	notProtected                 // passed without being asked who it is
	instructed                   // shown a sign-in under way
	refused                      // 401, and no sign-in under way
	forbidden                    // signed in, but not for this
	unavailable                  // the identity provider or the store is in trouble
	overLimit
	invalid  // what a client can only get wrong by itself
	answered // an answer of the gate's own that is none of the above
	gone     // the client hung up while its request was held
	decisionCount
)

var decisionNames = [decisionCount]string{
	"let_through", "not_protected", "instructions", "refused", "forbidden", "unavailable", "limited", "invalid", "answered", "gone",
}

// decisionCounters count without looking for labels.
type decisionCounters [decisionCount]prometheus.Counter

func (m *collectors) decisions(issuer string) *decisionCounters {
	c := new(decisionCounters)
	for d, name := range decisionNames {
		c[d] = m.requests.WithLabelValues(issuer, name)
	}
	return c
}

// statusDecisions are the decisions that an answer's own status tells.
var statusDecisions = map[page.Status]decision{
	page.Pending: instructed, page.Forbidden: forbidden, page.Limited: overLimit, page.Unavailable: unavailable, page.Invalid: invalid,
}

// decisionOf is what was decided where that is the answer.
func decisionOf(status int, a *page.Answer) decision {
	if d, ok := statusDecisions[a.Status]; ok {
		return d
	}
	switch {
	case status == http.StatusUnauthorized:
		return refused
	case status >= http.StatusInternalServerError:
		return unavailable
	}
	return answered
}
