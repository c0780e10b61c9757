// This file tests the traces, and what the access log says of a session.

package caddydevice

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// recorder is a tracer provider whose spans a test reads.
type recorder struct {
	*trace.TracerProvider
	*tracetest.InMemoryExporter
}

func newRecorder() recorder {
	exporter := tracetest.NewInMemoryExporter()
	return recorder{trace.NewTracerProvider(trace.WithSyncer(exporter)), exporter}
}

// doTraced sends a request as one with a span of its own, which is returned.
func (r recorder) doTraced(g *gate, req request) (*http.Response, tracetest.SpanStub) {
	g.t.Helper()
	ctx, span := r.Tracer("server").Start(g.t.Context(), "request")
	resp := g.doIn(ctx, req)
	span.End()
	all := r.GetSpans()
	return resp, all[len(all)-1]
}

// only returns the one span of that name.
func (r recorder) only(t *testing.T, name string) tracetest.SpanStub {
	t.Helper()
	var found []tracetest.SpanStub
	for _, span := range r.GetSpans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %s", len(found), name)
	}
	return found[0]
}

// attributesOf are a span's as text.
func attributesOf(span tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range span.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func wantAttributes(t *testing.T, span tracetest.SpanStub, want map[attribute.Key]string) {
	t.Helper()
	got := attributesOf(span)
	if len(got) != len(want) {
		t.Errorf("%s has %v, want %v", span.Name, got, want)
	}
	for key, value := range want {
		if got[string(key)] != value {
			t.Errorf("%s has %v, want %v", span.Name, got, want)
		}
	}
}

// TestTraceOfSignIn: the device authorization request is in the trace of the
// request that wanted it; polls and refreshes are roots that are linked to it.
func TestTraceOfSignIn(t *testing.T) {
	g, spans := newGate(t, nil), newRecorder()
	resp, own := spans.doTraced(g, request{target: "/hello", header: curlHeaders})
	key := g.setCookie(resp)
	s := g.session(key)
	wantAttributes(t, own, map[attribute.Key]string{sessionAttribute: s.ID().Short()})
	asked := spans.only(t, authorizeSpan)
	wantAttributes(t, asked, map[attribute.Key]string{issuerAttribute: g.engine.issuer, outcomeAttribute: "ok"})
	if asked.Parent.SpanID() != own.SpanContext.SpanID() {
		t.Error("the device authorization request is not in the client's trace")
	}
	g.engine.polled(s, idp.Approved, 3*time.Second)
	g.engine.refreshed(s, keeper.Refresh{Outcome: "refreshed", Took: 2 * time.Second})
	for name, row := range map[string]struct {
		outcome string
		took    time.Duration
	}{pollSpan: {"approved", 3 * time.Second}, refreshSpan: {"refreshed", 2 * time.Second}} {
		span := spans.only(t, name)
		wantAttributes(t, span, map[attribute.Key]string{sessionAttribute: s.ID().Short(), issuerAttribute: g.engine.issuer, outcomeAttribute: row.outcome})
		if span.Parent.IsValid() || span.SpanContext.TraceID() == own.SpanContext.TraceID() {
			t.Errorf("%s is no root", name)
		}
		if len(span.Links) != 1 || span.Links[0].SpanContext.SpanID() != asked.SpanContext.SpanID() {
			t.Errorf("%s is linked to %v", name, span.Links)
		}
		if took := span.EndTime.Sub(span.StartTime); took != row.took {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// TestTraceOfRefusal: the request that wanted a code shows why it got none.
func TestTraceOfRefusal(t *testing.T) {
	g, spans := newGate(t, nil), newRecorder()
	g.idp.Device = func(int) idptest.Reply { return idptest.Error(http.StatusUnauthorized, "invalid_client") }
	_, own := spans.doTraced(g, request{target: "/hello", header: curlHeaders})
	wantAttributes(t, own, nil)
	wantAttributes(t, spans.only(t, authorizeSpan), map[attribute.Key]string{issuerAttribute: g.engine.issuer, outcomeAttribute: "refused"})
}

// TestTraceGoesOn: a session that this process has not seen start is traced
// from the first request on that is; and a browser's under its new id.
func TestTraceGoesOn(t *testing.T) {
	g, spans := newGate(t, nil), newRecorder()
	key := g.terminal()
	s := g.session(key)
	g.engine.polled(s, idp.Pending, time.Second)
	if n := len(spans.GetSpans()); n != 0 {
		t.Fatalf("%d spans without a trace", n)
	}
	_, first := spans.doTraced(g, request{target: "/hello", header: bearer(key)})
	spans.doTraced(g, request{target: "/hello", header: bearer(key)})
	g.engine.refreshed(s, keeper.Refresh{Outcome: "refreshed", Took: time.Second})
	if links := spans.only(t, refreshSpan).Links; len(links) != 1 || links[0].SpanContext.SpanID() != first.SpanContext.SpanID() {
		t.Errorf("linked to %v, want the first request", links)
	}

	spans.Reset()
	g.Handler = provision(t, map[string]any{"issuer": g.Issuer, "client_id": "other"}, nil)
	resp, _ := spans.doTraced(g, request{target: "/hello", header: browserHeaders})
	old := g.setCookie(resp)
	g.approve(old, nil)
	resp, _ = spans.doTraced(g, request{target: "/hello", header: g.cookieOf(browserHeaders, old)})
	fresh := g.session(g.setCookie(resp))
	g.engine.refreshed(fresh, keeper.Refresh{Outcome: "refreshed", Took: time.Second})
	refresh := spans.only(t, refreshSpan)
	if len(refresh.Links) != 1 || refresh.Links[0].SpanContext.SpanID() != spans.only(t, authorizeSpan).SpanContext.SpanID() {
		t.Errorf("linked to %v, want where the sign-in began", refresh.Links)
	}
	wantAttributes(t, refresh, map[attribute.Key]string{sessionAttribute: fresh.ID().Short(), issuerAttribute: g.engine.issuer, outcomeAttribute: "refreshed"})
}

// accessLines are the first lines of the access log that Caddy writes to the
// testLog. A line comes a moment after its answer.
func accessLines(n int) []string {
	for {
		var lines []string
		testLog.Lock()
		for line := range strings.Lines(testLog.String()) {
			if strings.Contains(line, `"http.log.access`) {
				lines = append(lines, line)
			}
		}
		testLog.Unlock()
		if len(lines) >= n {
			return lines
		}
		time.Sleep(time.Millisecond)
	}
}

// TestAccessLog: a real one names the session, also while the sign-in is under
// way, and the user once somebody is signed in.
func TestAccessLog(t *testing.T) {
	r := startCaddy(t)
	cfg, err := adapt(fmt.Sprintf("{\n admin off\n persist_config off\n log {\n output discard\n }\n device_auth {\n store memory\n }\n}\n"+
		"http://%s {\n log {\n output discard\n }\n device_auth {\n issuer %s\n client_id gate\n }\n respond hello\n}\n", r.addr, r.idp.Issuer))
	if err != nil {
		t.Fatal(err)
	}
	testLog.Lock()
	testLog.Reset()
	testLog.Unlock()
	if err := caddy.Load([]byte(strings.ReplaceAll(cfg, "discard", "device_auth_test")), true); err != nil {
		t.Fatal(err)
	}
	r.idp.Device = everySecond(r.idp)
	_, answer, _ := r.get("/started", "")
	text, _ := answer["session"].(string)
	key, ok := session.ParseKey(text)
	if !ok {
		t.Fatalf("no sign-in: %v", answer)
	}
	r.get("/pending", text)
	r.idp.Approve("device-canary-1")
	if status, _, body := r.get("/.device/wait?timeout=30", text); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	r.get("/active", text)
	r.get("/unknown", session.NewKey().Reveal())

	type line struct {
		Request struct{ URI string }
		Session string `json:"device_auth_session"`
		User    string `json:"user_id"`
	}
	id := key.ID().Short()
	want := map[string]line{
		"/started": {Session: id}, "/pending": {Session: id}, "/active": {Session: id, User: "sub-alice"}, "/unknown": {},
	}
	for _, entry := range accessLines(5) {
		var got line
		if err := json.Unmarshal([]byte(entry), &got); err != nil {
			t.Fatal(err)
		}
		expected, ok := want[got.Request.URI]
		expected.Request = got.Request
		if ok && got != expected {
			t.Errorf("%+v, want %+v", got, expected)
		}
		delete(want, got.Request.URI)
		if strings.Contains(entry, text) {
			t.Error("the log has the key")
		}
	}
	if len(want) != 0 {
		t.Errorf("not in the log: %v", want)
	}
}
