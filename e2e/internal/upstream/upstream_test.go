// This file tests that nothing of a request is lost or made prettier.
package upstream_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUpstream(t *testing.T) {
	up := upstream.Start(t)
	c, err := net.Dial("tcp", up.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(c)
	// Twice on one connection: the second must not show the first's header.
	for _, value := range []string{"one", "two"} {
		request := "POST /path?q=%41 HTTP/1.1\r\nhost: app\r\nX_odd-NAME: " + value + "\r\nX-Twice: a\r\nx-twice: b\r\n" +
			"Trailer: X-Late\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Late: yes\r\n\r\n"
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		got := up.Last(t)
		if got.Method != "POST" || got.URI != "/path?q=%41" || got.Host != "app" || got.BodyLength != 5 {
			t.Errorf("%+v", got)
		}
		want := []string{"host: app", "X_odd-NAME: " + value, "X-Twice: a", "x-twice: b", "Trailer: X-Late", "Transfer-Encoding: chunked"}
		if !slices.Equal(got.RawHeader, want) {
			t.Errorf("raw header %q", got.RawHeader)
		}
		if !slices.Equal(got.Header["X-Twice"], []string{"a", "b"}) || got.Trailer.Get("X-Late") != "yes" {
			t.Errorf("header %v, trailer %v", got.Header, got.Trailer)
		}
	}
	if n := len(up.Requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestAnswerWith(t *testing.T) {
	up := upstream.Start(t)
	up.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, up.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTeapot || len(up.Requests()) != 1 {
		t.Errorf("status %d, %d requests", resp.StatusCode, len(up.Requests()))
	}
}
