// This file holds the traces: the spans of requests to the identity provider,
// by whatever the operator has set up for the request that a sign-in started
// with. Where that is nothing, so are they.

package caddydevice

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	tracerName = "github.com/caddydevice/device-auth"

	authorizeSpan = "device_auth.authorize" // a device authorization request, in the trace of the client's
	pollSpan      = "device_auth.poll"      // a root of its own, as is the next
	refreshSpan   = "device_auth.refresh"

	sessionAttribute = attribute.Key("device_auth.session")
	outcomeAttribute = attribute.Key("device_auth.outcome")
	issuerAttribute  = attribute.Key("device_auth.issuer")
)

// tracedSessions is how many sessions are traced at a time. Of one that was
// pushed out there are no more spans until its client's next request.
const tracedSessions = 16384

// traces remember by what a session is traced, and where that began.
type traces struct {
	sessions *lru.Cache[session.ID, traced]
}

type traced struct {
	provider trace.TracerProvider
	start    trace.SpanContext
}

func newTraces() traces {
	sessions, err := lru.New[session.ID, traced](tracedSessions)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return traces{sessions}
}

// begin notes where a session's trace begins.
func (t traces) begin(id session.ID, span trace.Span, start trace.SpanContext) {
	t.sessions.Add(id, traced{provider: span.TracerProvider(), start: start})
}

// goOn is begin for a session that may be traced already: one from before a
// restart is traced from its first request on.
func (t traces) goOn(id session.ID, span trace.Span) {
	if !t.sessions.Contains(id) {
		t.begin(id, span, span.SpanContext())
	}
}

// rename has a session traced under another id.
func (t traces) rename(from, to session.ID) {
	if old, ok := t.sessions.Get(from); ok {
		t.sessions.Add(to, old)
	}
}

// note writes down a request to the identity provider that has just ended: a
// root, since the client's request is long over, with a link to where the
// session's trace began.
func (t traces) note(name string, id session.ID, took time.Duration, attributes ...attribute.KeyValue) {
	of, ok := t.sessions.Get(id)
	if !ok {
		return
	}
	end := time.Now()
	_, span := of.provider.Tracer(tracerName).Start(context.Background(), name,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(end.Add(-took)),
		trace.WithLinks(trace.Link{SpanContext: of.start}),
		trace.WithAttributes(append(attributes, sessionAttribute.String(id.Short()))...))
	span.End(trace.WithTimestamp(end))
}

// startSpan starts a span within the request's own.
func startSpan(ctx context.Context, name string) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
}
