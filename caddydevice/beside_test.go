// This file tests the gate beside Caddy's own directives, in a running Caddy:
// who answers, what the upstream sees, and where links lead.

package caddydevice

import (
	"bufio"
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"testing"
)

// besideAsk is a request, and what comes of it. In body and location ADDR is the
// site's address.
type besideAsk struct {
	who      string // of clients
	target   string
	header   map[string]string
	status   int
	body     string // is part of the answer
	location string
}

// besideRow is a site. UPSTREAM in its lines is one that says what it sees,
// AUTH is for forward_auth and says yes, FILES is a folder. Clients sign in at
// the path signIn.
type besideRow struct {
	name, global, lines, signIn string
	asks                        []besideAsk
}

// basicAuth knows alice by the password secret; basicHeader is how she sends it.
const basicAuth = "basic_auth {\nalice $2a$04$RLQLWLYdIm6oJiRnACR85e8xhvB6LxWG8KqJ7wzyguktfkBVXYpg.\n}\n"

var basicHeader = map[string]string{"Authorization": "Basic YWxpY2U6c2VjcmV0"}

var besideRows = []besideRow{
	{
		name: "handle", signIn: "/api/x",
		lines: "handle /api/* {\nGATE(path_prefix /api/.device)\nreverse_proxy UPSTREAM\n}\nhandle {\nrespond open\n}",
		asks: []besideAsk{
			{who: "json", target: "/api/x?y=1", status: 401, body: `"wait_uri":"http://ADDR/api/.device/wait"`},
			{who: "browser", target: "/api/x?y=1", status: 401, body: `action="/api/.device/login"`},
			{who: "curl", target: "/api/x?y=1", status: 401, body: " 'http://ADDR/api/x?y=1'"},
			{who: "json", target: "/api/.device/login", status: 200, body: `"wait_uri":"http://ADDR/api/.device/wait"`},
			{who: "approved", target: "/api/x?y=1", status: 303, location: "/api/x?y=1"},
			{who: "terminal", target: "/api/x?y=1", status: 200, body: "upstream /api/x?y=1 user=alice cookie= auth="},
			{who: "curl", target: "/.device/login", status: 200, body: "open"},
		},
	},
	{
		name: "handle_path", signIn: "/app/x",
		lines: "handle_path /app/* {\nGATE\nreverse_proxy UPSTREAM\n}\nhandle {\nrespond open\n}",
		asks: []besideAsk{
			{who: "json", target: "/app/x?y=1", status: 401, body: `"wait_uri":"http://ADDR/app/.device/wait","qr_uri":"http://ADDR/app/.device/qr.svg"`},
			{who: "browser", target: "/app/x?y=1", status: 401, body: `action="/app/.device/login"`},
			{who: "browser", target: "/app/x?y=1", status: 401, body: `data-reload-url="/app/.device/login?again=1&amp;to=%2Fapp%2Fx%3Fy%3D1"`},
			{who: "curl", target: "/app/x?y=1", status: 401, body: " 'http://ADDR/app/x?y=1'"},
			{who: "json", target: "/app/.device/login", status: 200, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "json", target: "/APP/.device/login", status: 200, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "json", target: "//app//.device/login", status: 200, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "approved", target: "/app/x?y=1", status: 303, location: "/app/x?y=1"},
			{who: "approved", target: "/app/.device/login?to=/app/x", status: 303, location: "/app/.device/login?to=%2Fapp%2Fx&welcome=1"},
			{who: "terminal", target: "/app/x?y=1", status: 200, body: "upstream /x?y=1 user=alice cookie= auth="},
			{who: "terminal", target: "/app/.device/session", status: 200, body: "Signed in to 127.0.0.1 as alice"},
			{who: "curl", target: "/.device/login", status: 200, body: "open"},
		},
	},
	{
		name: "handle_path in handle_path", signIn: "/a/b/x",
		lines: "handle_path /a/* {\nhandle_path /b/* {\nGATE\nreverse_proxy UPSTREAM\n}\n}",
		asks: []besideAsk{
			{who: "json", target: "/a/b/x", status: 401, body: `"wait_uri":"http://ADDR/a/b/.device/wait"`},
			{who: "json", target: "/a/b/.device/login", status: 200, body: `"wait_uri":"http://ADDR/a/b/.device/wait"`},
			{who: "approved", target: "/a/b/x", status: 303, location: "/a/b/x"},
			{who: "terminal", target: "/a/b/x", status: 200, body: "upstream /x user=alice"},
		},
	},
	{
		name: "a named route in two handle_paths", signIn: "/b/x",
		lines: "handle_path /a/* {\ninvoke gate\n}\nhandle_path /b/* {\ninvoke gate\n}\n}\n&(gate) {\nroute {\nGATE\nreverse_proxy UPSTREAM\n}",
		asks: []besideAsk{
			{who: "json", target: "/a/x", status: 401, body: `"wait_uri":"http://ADDR/a/.device/wait"`},
			{who: "json", target: "/b/x", status: 401, body: `"wait_uri":"http://ADDR/b/.device/wait"`},
			{who: "terminal", target: "/a/x", status: 200, body: "upstream /x user=alice"},
		},
	},
	{
		name: "route", signIn: "/x",
		lines: "route {\nreverse_proxy /public/* UPSTREAM\nGATE\nreverse_proxy UPSTREAM\n}",
		asks: []besideAsk{
			{who: "curl", target: "/public/x", status: 200, body: "upstream /public/x user= "},
			{who: "json", target: "/x", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "terminal", target: "/x", status: 200, body: "upstream /x user=alice"},
		},
	},
	{
		name: "the upstream is down, and handle_errors", signIn: "/x",
		lines: "GATE\nreverse_proxy 127.0.0.1:1\nhandle_errors {\nrespond \"sorry {err.status_code} {http.auth.user.id}\"\n}",
		asks: []besideAsk{
			{who: "terminal", target: "/x", status: 502, body: "sorry 502 sub-alice"},
			{who: "json", target: "/x", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "curl", target: "/.device/nothing", status: 404, body: "There is nothing here."},
			{who: "curl", target: "/.device/qr.svg", status: 404, body: "No sign-in is under way here."},
		},
	},
	{
		name: "handle_errors with an upstream", signIn: "/x",
		lines: "GATE\nreverse_proxy 127.0.0.1:1\nhandle_errors {\nGATE\nreverse_proxy UPSTREAM\n}",
		asks: []besideAsk{
			{who: "terminal", target: "/x", header: map[string]string{"Remote-User": "root"}, status: 200, body: "upstream /x user=alice cookie= auth="},
			{who: "jar", target: "/x", header: map[string]string{"Remote-User": "root"}, status: 200, body: "upstream /x user=alice cookie= auth="},
		},
	},
	{
		name: "handle_errors with an upstream, basic_auth first", signIn: "/x",
		lines: basicAuth + "GATE\nrespond hello\nhandle_errors {\nGATE\nreverse_proxy UPSTREAM\n}",
		asks: []besideAsk{
			{who: "json", target: "/x", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "jar", target: "/x", header: map[string]string{"Remote-User": "root"}, status: 200, body: "upstream /x user=alice cookie= auth="},
		},
	},
	{
		name: "uri strip_prefix", signIn: "/app/x",
		lines: "uri strip_prefix /app\nGATE\nreverse_proxy UPSTREAM",
		asks: []besideAsk{
			{who: "json", target: "/app/x", status: 401, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "json", target: "/x", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "json", target: "/app/.device/login", status: 200, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "json", target: "/.device/login", status: 200, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "terminal", target: "/app/x", status: 200, body: "upstream /x user=alice"},
		},
	},
	{
		name: "uri strip_prefix of what path_prefix begins with", signIn: "/api/x",
		lines: "handle /api/* {\nuri strip_prefix /api\nGATE(path_prefix /api/.device)\nreverse_proxy UPSTREAM\n}",
		asks: []besideAsk{
			{who: "json", target: "/api/.device/login", status: 200, body: `"wait_uri":"http://ADDR/api/api/.device/wait"`},
			{who: "json", target: "/api/api/.device/login", status: 200, body: `"wait_uri":"http://ADDR/api/api/.device/wait"`},
			{who: "terminal", target: "/api/x", status: 200, body: "upstream /x user=alice"},
		},
	},
	{
		name: "a single-page app", signIn: "/deep/link",
		lines: "root FILES\ntry_files {path} /index.html\nGATE\nfile_server",
		asks: []besideAsk{
			{who: "browser", target: "/deep/link", status: 401, body: `name="to" value="/deep/link"`},
			{who: "json", target: "/deep/link", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "json", target: "/deep/index.html", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "json", target: "/.device/login", status: 200, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "approved", target: "/deep/link?a=b", status: 303, location: "/deep/link?a=b"},
			{who: "kiosk", target: "/deep/link", status: 200, body: "the index"},
			{who: "kiosk", target: "/asset.txt", status: 200, body: "an asset"},
		},
	},
	{
		name: "a single-page app in handle_path", signIn: "/app/deep/link",
		lines: "handle_path /app/* {\nroot FILES\ntry_files {path} /index.html\nGATE\nfile_server\n}",
		asks: []besideAsk{
			{who: "browser", target: "/app/deep/link", status: 401, body: `name="to" value="/app/deep/link"`},
			{who: "json", target: "/app/deep/link", status: 401, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "json", target: "/app/deep/index.html", status: 401, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "json", target: "/app/.device/login", status: 200, body: `"wait_uri":"http://ADDR/app/.device/wait"`},
			{who: "approved", target: "/app/deep/link?a=b", status: 303, location: "/app/deep/link?a=b"},
			{who: "approved", target: "/app/.device/login?to=/app/deep", status: 303, location: "/app/.device/login?to=%2Fapp%2Fdeep&welcome=1"},
			{who: "kiosk", target: "/app/deep/link", status: 200, body: "the index"},
			{who: "kiosk", target: "/app/asset.txt", status: 200, body: "an asset"},
		},
	},
	{
		name: "templates after it", signIn: "/page.html",
		lines: "root FILES\nGATE\ntemplates\nfile_server",
		asks: []besideAsk{
			{who: "kiosk", target: "/page.html", status: 200, body: "hello sub-alice"},
			{who: "curl", target: "/page.html?{{1|printf}}", status: 401, body: " 'http://ADDR/page.html?{{1|printf}}'"},
			{who: "browser", target: "/page.html?{{1|printf}}", status: 401, body: `name="to" value="/page.html?{{1|printf}}"`},
		},
	},
	{
		name: "rewrite", signIn: "/old", // the path that is decided on is the one that is forwarded
		lines: "rewrite /old /new\nrewrite /signin /.device/login\nrewrite /new/open /open\ndevice_auth /new* {\nissuer https://idp.example.com\nclient_id gate\n}\nreverse_proxy UPSTREAM",
		asks: []besideAsk{
			{who: "json", target: "/old", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "json", target: "/new", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "json", target: "/signin", status: 200, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "curl", target: "/new/open", header: map[string]string{"Remote-User": "root"}, status: 200, body: "upstream /open user= "},
			{who: "terminal", target: "/old?a=b", status: 200, body: "upstream /new?a=b user=alice"},
		},
	},
	{
		name: "forward_auth", signIn: "/x",
		lines: "forward_auth AUTH {\nuri /\ncopy_headers Remote-User\n}\ndevice_auth /x* {\nissuer https://idp.example.com\nclient_id gate\n}\nreverse_proxy UPSTREAM",
		asks: []besideAsk{
			{who: "json", target: "/x", status: 401, body: `"wait_uri":"http://ADDR/.device/wait"`},
			{who: "terminal", target: "/x", status: 200, body: "upstream /x user=alice cookie= auth="},
			{who: "curl", target: "/open", status: 200, body: "upstream /open user= "}, // the header is the gate's alone
		},
	},
	{
		name: "basic_auth", signIn: "/x",
		lines: basicAuth + "GATE\nreverse_proxy UPSTREAM",
		asks: []besideAsk{
			{who: "curl", target: "/x", status: 401},
			{who: "curl", target: "/x", header: basicHeader, status: 401, body: "curl -b 'device_auth=dvc_"},
			{who: "jar", target: "/x", header: basicHeader, status: 200, body: "upstream /x user=alice cookie= auth=Basic YWxpY2U6c2VjcmV0"},
		},
	},
	{
		name: "order changed", global: "order device_auth before basic_auth", signIn: "/x",
		lines: basicAuth + "GATE\nreverse_proxy UPSTREAM",
		asks: []besideAsk{
			{who: "curl", target: "/x", status: 401, body: "enter the code"},
			{who: "jar", target: "/x", status: 401},
			{who: "jar", target: "/x", header: basicHeader, status: 200, body: "upstream /x user=alice cookie= auth=Basic YWxpY2U6c2VjcmV0"},
		},
	},
}

func TestBesideCaddysDirectives(t *testing.T) {
	b := startBeside(t)
	for _, row := range besideRows {
		t.Run(row.name, func(t *testing.T) {
			b.t = t
			b.loadSite(row.global, row.lines)
			for _, a := range row.asks {
				resp, body := b.ask(row.signIn, a)
				at := strings.NewReplacer("ADDR", b.addr)
				switch {
				case resp.StatusCode != a.status || !strings.Contains(body, at.Replace(a.body)):
					t.Errorf("%s %s: %d, want %d with %q: %s", a.who, a.target, resp.StatusCode, a.status, at.Replace(a.body), body)
				case resp.Header.Get("Location") != at.Replace(a.location):
					t.Errorf("%s %s: to %q, want %q", a.who, a.target, resp.Header.Get("Location"), a.location)
				}
			}
		})
	}
}

// TestCompressed: encode in front of the gate, as a route block may have it.
func TestCompressed(t *testing.T) {
	b := startBeside(t)
	zipped := map[string]string{"Accept-Encoding": "gzip"}
	for _, lines := range []string{"encode gzip\nGATE\nreverse_proxy UPSTREAM", "route {\nencode gzip\nGATE\nreverse_proxy UPSTREAM\n}"} {
		b.loadSite("", lines)
		first := strings.HasPrefix(lines, "route")
		resp := b.send("/x", browserHeaders, zipped)
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		page := string(raw)
		if encoded := resp.Header.Get("Content-Encoding") == "gzip"; encoded != first {
			t.Errorf("%s: compressed: %t", lines, encoded)
		} else if encoded {
			page = unzipped(t, string(raw))
		}
		if !strings.Contains(page, "<svg") || !strings.HasSuffix(page, "</html>\n") {
			t.Errorf("%s: %s", lines, page)
		}
		if length := resp.Header.Get("Content-Length"); length != "" && length != strconv.Itoa(len(raw)) {
			t.Errorf("%s: Content-Length %s for %d bytes", lines, length, len(raw))
		}

		// the terminal's instructions are there at once, though the answer stays open
		resp = b.send("/.device/login", curlHeaders, zipped)
		var body io.Reader = resp.Body
		if first {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		instructions := bufio.NewReader(body)
		for line := ""; !strings.HasPrefix(line, "WDJB-"); {
			if line, err = instructions.ReadString('\n'); err != nil {
				t.Fatalf("%s: %v", lines, err)
			}
		}
		resp.Body.Close()
	}
}

func unzipped(t *testing.T, raw string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
