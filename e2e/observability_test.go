// This file shows what an operator sees, with the files of
// examples/observability as they are: metrics that Prometheus reads and a
// dashboard asks for, events, traces, and no secret in any of them.
package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/collector"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/prometheus"
)

// watchedStage is a stage that is looked at.
type watchedStage struct {
	*stage
	traces  *collector.Collector
	metrics *prometheus.Server
	file    string // the example's Caddyfile

	approved, denied answer
	heldUp           int // clients
}

func newWatchedStage(t *testing.T) *watchedStage {
	t.Helper()
	needProgram(t, "promtool")
	needProgram(t, "prometheus")
	w := &watchedStage{traces: collector.Start(t)}
	w.file = strings.Replace(observabilityFile(t, "Caddyfile"), "client_id my-gateway-public", "client_id "+idpserver.PublicClient, 1)
	w.stage = newStage(t, plan{caddyfile: w.file, env: map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": w.traces.URL, "OTEL_BSP_SCHEDULE_DELAY": "200",
	}})
	w.metrics = prometheus.Start(t, "127.0.0.1:"+w.gate.Port2())
	return w
}

func observabilityFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", "observability", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// play is what there is to see: one sign-in that is approved, one that is
// declined, and a client that starts too many.
func (w *watchedStage) play(t *testing.T) {
	t.Helper()
	w.approved, w.denied = w.startJSON(t, "/"), w.startJSON(t, "/")
	w.stage.approve(t, w.approved.Complete)
	w.wantActive(t, w.approved.Session)
	wantStatus(t, w.get(t, "/", "-H", bearer(w.approved.Session)), 200)
	w.deny(t, w.denied.Complete, false)
	wantStatus(t, w.wait(t, w.denied.Session), 403)
	for w.heldUp == 0 {
		if w.get(t, "/").Status == 429 {
			w.heldUp++
		}
	}
}

func TestObservability(t *testing.T) {
	t.Parallel()
	w := newWatchedStage(t)
	w.play(t)
	before := w.scrape(t)
	w.countsAre(t, before)
	w.gate.Reload(t, strings.Replace(w.file, "log\n\ttracing", "log\n\theader X-Change yes\n\ttracing", 1))
	after := w.scrape(t)
	for series, value := range before {
		if strings.Contains(series, "_total") || strings.Contains(series, "_count") {
			if now, ok := after[series]; !ok || now < value {
				t.Errorf("after a reload %s is %v (%t), it was %v", series, now, ok, value)
			}
		}
	}
	w.countsAre(t, after)
	t.Run("dashboard", w.dashboard)
	t.Run("events", w.events)
	t.Run("traces", w.tracesOfSignIn)
}

// scrape reads our metrics, which promtool must have nothing to say about, and
// which must hold no secret.
func (w *watchedStage) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	got := w.curl(t, "http://127.0.0.1:"+w.gate.Port2()+"/metrics")
	wantStatus(t, got, 200)
	var ours strings.Builder
	values := map[string]float64{}
	for line := range strings.Lines(got.Body) {
		if !strings.Contains(line, "caddy_device_auth_") {
			continue
		}
		ours.WriteString(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " ")
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		values[line[:at]] = value
	}
	if err := prometheus.CheckMetrics(ours.String()); err != nil {
		t.Error(err)
	}
	w.canaries.AddRecord(t, w.rec)
	w.canaries.Check(t, "the metrics", ours.String())
	return values
}

// countsAre fails unless what was played is what was counted.
func (w *watchedStage) countsAre(t *testing.T, values map[string]float64) {
	t.Helper()
	for series, want := range map[string]float64{
		`sign_ins_started_total{issuer="ISSUER"}`:                            float64(len(w.rec.Starts())),
		`sign_ins_ended_total{issuer="ISSUER",outcome="approved"}`:           1,
		`sign_ins_ended_total{issuer="ISSUER",outcome="declined"}`:           1,
		`sign_ins_pending{issuer="ISSUER"}`:                                  float64(len(w.rec.Starts()) - 2),
		`limited_total{issuer="ISSUER",limit="client"}`:                      float64(w.heldUp),
		`requests_total{decision="let_through",issuer="ISSUER"}`:             1,
		`requests_total{decision="limited",issuer="ISSUER"}`:                 float64(w.heldUp),
		`poll_duration_seconds_count{issuer="ISSUER",outcome="approved"}`:    1,
		`authorization_duration_seconds_count{issuer="ISSUER",outcome="ok"}`: float64(len(w.rec.Starts())),
	} {
		name := "caddy_device_auth_" + strings.Replace(series, "ISSUER", w.rec.URL(), 1)
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v (%t), want %v", name, got, ok, want)
		}
	}
}

// panel is a part of the dashboard.
type panel struct {
	Title   string
	Targets []struct {
		Expr         string
		LegendFormat string
	}
}

var legendLabel = regexp.MustCompile(`{{(\w+)}}`)

// dashboard has a query for each thing that is counted, and a real Prometheus
// answers each with what its legend names.
func (w *watchedStage) dashboard(t *testing.T) {
	var board struct{ Panels []panel }
	if err := json.Unmarshal([]byte(observabilityFile(t, "dashboard.json")), &board); err != nil {
		t.Fatal(err)
	}
	var asked strings.Builder
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			query := strings.NewReplacer("$__rate_interval", "1m", "$issuer", ".*").Replace(target.Expr)
			asked.WriteString(query + "\n")
			labels := legendLabel.FindAllStringSubmatch(target.LegendFormat, -1)
			for _, series := range w.awaitSeries(t, p.Title, query) {
				for _, label := range labels {
					if series[label[1]] == "" {
						t.Errorf("%s: %s has no label %s", p.Title, query, label[1])
					}
				}
			}
		}
	}
	for series := range w.scrape(t) {
		name, _, _ := strings.Cut(series, "{")
		name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if !strings.Contains(asked.String(), name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// awaitSeries asks until there is something to show: a rate needs two scrapes.
func (w *watchedStage) awaitSeries(t *testing.T, title, query string) []map[string]string {
	t.Helper()
	var series []map[string]string
	w.await(t, "the panel "+title+": "+query, func() bool {
		var err error
		if series, err = w.metrics.Query(w.ctx, query); err != nil && w.ctx.Err() == nil {
			t.Fatalf("%s: %s: %v", title, query, err)
		}
		return len(series) > 0
	})
	return series
}

// events are lines of the example's log.
func (w *watchedStage) events(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"device_auth_started":  {"kind": "terminal", "issuer": w.rec.URL(), "site": "localhost", "client_ip": ""},
		"device_auth_approved": {"kind": "terminal", "issuer": w.rec.URL(), "site": "localhost", "subject": ""},
		"device_auth_denied":   {"kind": "terminal", "issuer": w.rec.URL(), "site": "localhost", "reason": "declined"},
		"device_auth_limited":  {"issuer": w.rec.URL(), "limit": "client", "site": "localhost", "client_ip": ""},
	} {
		data := w.eventData(t, name)
		keys := slices.Collect(maps.Keys(want))
		if name != "device_auth_limited" {
			keys = append(keys, "session")
		}
		for _, key := range keys {
			if data[key] == "" || want[key] != "" && data[key] != want[key] {
				t.Errorf("%s says %v, want %v", name, data, want)
			}
		}
		if len(data) != len(keys) {
			t.Errorf("%s says %v, want %q", name, data, keys)
		}
	}
}

// eventData is the data of the first event of that name.
func (w *watchedStage) eventData(t *testing.T, name string) map[string]string {
	t.Helper()
	var data map[string]string
	w.await(t, "the event "+name, func() bool {
		for _, line := range w.gate.Lines() {
			var record struct {
				Logger, Name, Msg string
				Data              map[string]string
			}
			if json.Unmarshal([]byte(line), &record) == nil && record.Logger == "events" && record.Msg == "event" && record.Name == name {
				data = record.Data
				return true
			}
		}
		return false
	})
	return data
}

// tracesOfSignIn: the device authorization request is in the trace of the
// client's request, polls are linked to it, and the last one says that the
// person approved.
func (w *watchedStage) tracesOfSignIn(t *testing.T) {
	var approval collector.Span
	w.await(t, "the span of the approval", func() bool {
		for _, span := range w.traces.Spans("device_auth.poll") {
			if span.Attributes["device_auth.outcome"] == "approved" {
				approval = span
			}
		}
		return approval.ID != ""
	})
	session := approval.Attributes["device_auth.session"]
	if len(session) != 8 || approval.Parent != "" || len(approval.Links) != 1 {
		t.Fatalf("%+v", approval)
	}
	var asked, own []collector.Span
	w.await(t, "the spans of the start", func() bool {
		asked = withID(w.traces.Spans("device_auth.authorize"), approval.Links[0])
		if len(asked) == 1 {
			own = withID(w.traces.Spans("gateway"), asked[0].Parent)
		}
		return len(own) == 1
	})
	if own[0].Trace != asked[0].Trace || own[0].Attributes["device_auth.session"] != session {
		t.Errorf("%+v in %+v", asked[0], own[0])
	}
	if polls, all := len(w.polls(t, w.approved.UserCode)), w.pollsLinkedTo(asked[0].ID); all != polls {
		t.Errorf("%d spans for %d polls", all, polls)
	}
	w.canaries.AddRecord(t, w.rec)
	w.canaries.Check(t, "the collector", w.traces.Text())
	if strings.Contains(w.traces.Text(), "alice") {
		t.Error("a person's name is in the traces")
	}
}

func withID(spans []collector.Span, id string) []collector.Span {
	return slices.DeleteFunc(spans, func(s collector.Span) bool { return s.ID != id })
}

func (w *watchedStage) pollsLinkedTo(id string) int {
	n := 0
	for _, span := range w.traces.Spans("device_auth.poll") {
		if slices.Contains(span.Links, id) {
			n++
		}
	}
	return n
}
