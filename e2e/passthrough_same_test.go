// This file compares: the same request through a gate and without one is the
// same to the upstream but for who is there, and so is its answer to the client.
package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

// sent is a request that a client may make.
type sent struct {
	name    string
	method  string
	path    string      // /same, and what it adds
	header  http.Header // names as they are spelled
	body    string
	length  int64 // of the body; -1 where the client does not say
	trailer http.Header
	// bearer is for what a cookie does not speak for: requests of other sites'
	// pages, and those of a browser with a terminal's key.
	bearer bool
}

var sentRows = []sent{
	{name: "plain"},
	{name: "HEAD", method: "HEAD"},
	{name: "OPTIONS", method: "OPTIONS", header: http.Header{"Access-Control-Request-Method": {"PUT"}}},
	{name: "odd paths", path: "/a%2Fb/%41%c3%a9/c;x=1,2/d'(e)*!$&=@:~?q=%zz&a=+&b=%20&&;c"},
	{name: "an empty query", path: "/q?"},
	{name: "cookies", header: http.Header{"Cookie": {`a=1; quoted="x y"; empty=; =v; novalue; b=1; b=2; device_auth_theme=dark; __Host-device_auth2=x`}}},
	{name: "several Cookie fields", header: http.Header{"Cookie": {"a=1;b=2", "c=3;  d=4;", "e=%20\x22"}}},
	{name: "fields more than once", header: http.Header{"X-Dup": {"b", "a", "b"}, "Accept": {"text/plain;q=0.5", "*/*"}, "X-Empty": {""}, "x-lower": {"1"}, "X-UPPER-Case": {"2"}}},
	{name: "values", header: http.Header{"X-Latin": {"caf\xe9"}, "X-Utf8": {"café"}, "X-Tab": {"a\tb"}, "X-List": {`a, "b,c" ;d`}, "X-Long": {strings.Repeat("x", 8000)}}},
	{name: "names like ours", header: http.Header{"Remote-Users": {"x"}, "X-Remote-User": {"x"}, "Remote": {"x"}, "Remote-Addr": {"x"}}},
	{name: "forwarded", header: http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=192.0.2.1"}}},
	{name: "conditions", header: http.Header{"If-None-Match": {`W/"a", "b"`}, "Range": {"bytes=0-1,5-"}, "If-Range": {`"b"`}, "Accept-Encoding": {"br, zstd"}}},
	{name: "TE", header: http.Header{"Te": {"trailers"}}},
	{name: "of a page", header: http.Header{"Origin": {"https://other.example"}, "Referer": {"https://other.example/x"}, "Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"cors"}}, bearer: true},
	{name: "POST", method: "POST", header: http.Header{"Content-Type": {"application/json"}}, body: `{"a":1}`, length: 7},
	{name: "an empty POST", method: "POST"},
	{name: "chunked", method: "POST", body: "body", length: -1},
	{name: "DELETE", method: "DELETE"},
	{name: "PATCH", method: "PATCH", body: "body", length: 4, header: http.Header{"Content-Encoding": {"gzip"}}},
	{name: "another method", method: "PROPFIND", header: http.Header{"Depth": {"1"}}, body: "<x/>", length: 4},
	{name: "trailers", method: "POST", body: "body", length: -1, trailer: http.Header{"X-Checksum": {"abc"}, "X-Twice": {"1", "2"}}},
	{name: "trailers of ours among others", method: "POST", body: "body", length: -1, trailer: http.Header{"X-Checksum": {"abc"}, "Remote-User": {"root"}, "Remote_groups": {"wheel"}}},
	{name: "trailers of ours alone", method: "POST", body: "body", length: -1, trailer: http.Header{"Remote-User": {"root"}, "Remote.user": {"root"}}},
}

func (p *passage) same(t *testing.T) {
	p.up.AnswerWith(oddAnswer)
	defer p.up.AnswerWith(nil)
	p.each(t, func(t *testing.T, client http.RoundTripper) {
		for _, row := range sentRows {
			bare := p.exchange(t, client, row, p.gate.Port2(), nil)
			for name, sign := range map[string]func(http.Header){"bearer": p.byBearer, "cookie": p.byCookie} {
				if name == "cookie" && row.bearer {
					continue
				}
				t.Run(row.name+" by "+name, func(t *testing.T) {
					through := p.exchange(t, client, row, p.gate.Port(), sign)
					wantAlice(t, through.seen)
					through.seen, through.answered = withoutIdentity(through.seen), settled(through.answered)
					if want := withoutIdentity(bare.seen); !reflect.DeepEqual(through.seen, want) {
						t.Errorf("the upstream saw\n%+v\nand without a gate\n%+v", through.seen, want)
					}
					if want := settled(bare.answered); !reflect.DeepEqual(through.answered, want) {
						t.Errorf("the client saw\n%+v\nand without a gate\n%+v", through.answered, want)
					}
				})
			}
		}
	})
}

func (p *passage) byBearer(h http.Header) { h["Authorization"] = []string{"Bearer " + p.key} }

// byCookie puts ours among the client's own.
func (p *passage) byCookie(h http.Header) {
	ours := tlsCookie + "=" + p.key
	if h["Cookie"] == nil {
		h["Cookie"] = []string{ours}
		return
	}
	h["Cookie"][0] += "; " + ours
}

// oddAnswer has what a proxy may lose of an answer.
func oddAnswer(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Set-Cookie"] = []string{"theirs=1; Path=/", "other=2", "device_auth=theirs"}
	h["Trailer"] = []string{"X-Sum"}
	h["Etag"] = []string{`W/"x"`}
	h["Cache-Control"] = []string{"max-age=60"}
	h["Www-Authenticate"] = []string{`Basic realm="theirs"`}
	h["X-Dup"] = []string{"b", "a"}
	w.WriteHeader(http.StatusTeapot)
	fmt.Fprint(w, "theirs")
	h["X-Sum"] = []string{"123"}
	h[http.TrailerPrefix+"X-Late"] = []string{"1"}
}

// exchanged is a request as the upstream saw it, and the answer as the client
// did.
type exchanged struct {
	seen     upstream.Request
	answered response
}

type response struct {
	status          int
	header, trailer http.Header
	body            string
}

// exchange sends a request to one of the sites.
func (p *passage) exchange(t *testing.T, client http.RoundTripper, row sent, port string, sign func(http.Header)) exchanged {
	t.Helper()
	method := row.method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(p.ctx, method, "https://127.0.0.1:"+port+"/same"+row.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "localhost"
	req.Header = row.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if sign != nil {
		sign(req.Header)
	}
	req.Trailer = row.trailer.Clone()
	if row.length != 0 {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(row.body)), row.length
	}
	before := len(p.up.Requests())
	resp := do(t, client, req)
	got := response{status: resp.StatusCode, header: resp.Header, body: bodyOf(t, resp.Body)}
	got.trailer = resp.Trailer
	if all := p.up.Requests(); len(all) != before+1 {
		t.Fatalf("%s: %d requests reached the upstream; status %d: %s", row.name, len(all)-before, got.status, got.body)
	}
	return exchanged{p.up.Last(t), got}
}

// withoutIdentity is a request without what a gate adds, and a client may not.
func withoutIdentity(r upstream.Request) upstream.Request {
	ours := func(name string) bool {
		name = strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
		return name == "remote-user" || name == "remote-groups"
	}
	var lines []string
	for _, line := range r.RawHeader {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Trailer" { // in no order
			names := slices.DeleteFunc(strings.Split(value, ","), ours)
			if slices.Sort(names); len(names) == 0 {
				continue
			}
			line = "Trailer: " + strings.Join(names, ",")
		}
		if !ours(name) {
			lines = append(lines, line)
		}
	}
	r.RawHeader, r.Header = lines, nil // the same in other words
	others := http.Header{}
	for name, values := range r.Trailer {
		if !ours(name) {
			others[name] = values
		}
	}
	r.Trailer = others
	return r
}

// settled is an answer without what differs by port and time: that an
// answer to HEAD over HTTP/3 tells its length does.
func settled(r response) response {
	r.header = maps.Clone(r.header)
	if r.body == "" {
		delete(r.header, "Content-Length")
	}
	delete(r.header, "Alt-Svc")
	delete(r.header, "Date")
	return r
}
