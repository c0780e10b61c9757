package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestDbg(t *testing.T) {
	s := newStage(t, plan{})
	key := s.signIn(t)
	for _, tr := range []http.Header{{"X-Checksum": {"abc"}}, {"X-Checksum": {"abc"}, "Remote-User": {"m"}}, {"X-Checksum": {"abc"}, "Remote_user": {"m"}}} {
		req, _ := http.NewRequest("POST", s.gate.URL()+"/", io.NopCloser(strings.NewReader("body")))
		req.ContentLength = -1
		req.Header.Set("Authorization", "Bearer "+key)
		req.Trailer = tr
		resp := s.do(t, req)
		t.Logf("%d %+v", resp.StatusCode, s.up.Last(t))
	}
}
