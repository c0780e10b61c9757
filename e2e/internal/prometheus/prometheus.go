// Package prometheus runs Prometheus against a program of a test, and asks it
// for what a dashboard shows.
package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

// startTime bounds a start.
const startTime = 60 * time.Second

const config = `global:
  scrape_interval: 1s
scrape_configs:
  - job_name: gate
    static_configs:
      - targets: [%q]
`

// Server is one Prometheus.
type Server struct{ url string }

// Start runs a server that scrapes http://target/metrics every second, until
// the test ends.
func Start(t testing.TB, target string) *Server {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, target), 0o600); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", ports.Free(t))
	cmd := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Dir = dir // its default consoles are not there, which it does not mind
	p := proc.Start(t, "Prometheus", cmd)
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	if _, err := p.WaitFor(ctx, "Server is ready to receive web requests"); err != nil {
		t.Fatal(err)
	}
	return &Server{url: "http://" + address}
}

// Query returns the labels of each series that a query finds now.
func (s *Server) Query(ctx context.Context, query string) ([]map[string]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/v1/query", strings.NewReader(url.Values{"query": {query}}.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	series := make([]map[string]string, 0, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		series = append(series, r.Metric)
	}
	return series, nil
}

// CheckMetrics runs `promtool check metrics` on what a program exposes; the
// error is what that complains about.
func CheckMetrics(exposed string) error {
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(exposed)
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		return fmt.Errorf("%w: %s", errors.Join(err, errComplaint), out)
	}
	return nil
}

var errComplaint = errors.New("promtool complains")
