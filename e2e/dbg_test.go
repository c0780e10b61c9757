package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/gate"
	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

func TestDbg(t *testing.T) {
	up := upstream.Start(t)
	g := gate.Start(t, gate.Options{Caddyfile: "http://localhost:{$GATE_PORT} {\nreverse_proxy {$UPSTREAM}\n}\n", Env: map[string]string{"UPSTREAM": up.Addr()}})
	for _, announced := range []bool{true, false} {
		req, _ := http.NewRequest("POST", g.URL()+"/", io.NopCloser(strings.NewReader("body")))
		req.ContentLength = -1
		req.Trailer = http.Header{"X-Checksum": {"abc"}}
		if !announced {
			req.Trailer = nil
		}
		tr := &http.Transport{}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		tr.CloseIdleConnections()
		t.Logf("%+v", up.Last(t))
	}
}
