// Package collector receives traces by OTLP over HTTP, as a collector of
// OpenTelemetry does, for a test to read.
package collector

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	tracesv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// maxBody is more than any batch of a test.
const maxBody = 16 << 20

// Span is one span; ids are in hex.
type Span struct {
	Name, Trace, ID, Parent string
	Attributes              map[string]string
	Links                   []string // ids of spans
}

// Collector is one receiver.
type Collector struct {
	URL string

	mu    sync.Mutex
	spans []Span
	text  strings.Builder
}

// Start runs a receiver until the test ends.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// ServeHTTP takes one batch.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var batch tracesv1.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &batch) != nil {
		http.Error(w, "no batch of spans", http.StatusBadRequest)
		return
	}
	c.add(&batch)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *Collector) add(batch *tracesv1.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.WriteString(batch.String() + "\n")
	for _, resource := range batch.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s := Span{
					Name: span.GetName(), Trace: hex.EncodeToString(span.GetTraceId()), ID: hex.EncodeToString(span.GetSpanId()),
					Parent: hex.EncodeToString(span.GetParentSpanId()), Attributes: textOf(span.GetAttributes()),
				}
				for _, link := range span.GetLinks() {
					s.Links = append(s.Links, hex.EncodeToString(link.GetSpanId()))
				}
				c.spans = append(c.spans, s)
			}
		}
	}
}

func textOf(attributes []*commonv1.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range attributes {
		all[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return all
}

// Spans are those of that name so far.
func (c *Collector) Spans(name string) []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Span
	for _, s := range c.spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// Text is all that was received, in words.
func (c *Collector) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
