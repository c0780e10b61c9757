// This file tests the rules for one gate among Caddy's other handlers.

package caddydevice

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// siteOfLines is what App.Start says of the site api.example.com with lines in
// its block.
func siteOfLines(t *testing.T, global, lines string) error {
	t.Helper()
	return startSites(t, configOf(t, "{\n"+global+"\n}\napi.example.com {\n"+withGates(lines)+"\n}\n"))
}

// withGates puts a gate in place of each GATE; GATE(…) is one with more lines,
// divided by commas.
func withGates(lines string) string {
	var b strings.Builder
	for i, part := range strings.Split(lines, "GATE") {
		more := ""
		if inner, rest, ok := strings.Cut(strings.TrimPrefix(part, "("), ")"); i > 0 && ok && strings.HasPrefix(part, "(") {
			more, part = strings.ReplaceAll(inner, ",", "\n"), rest
		}
		if i > 0 {
			fmt.Fprintf(&b, "device_auth {\nissuer https://idp.example.com\nclient_id gate\n%s\n}\n", more)
		}
		b.WriteString(part)
	}
	return b.String()
}

// TestGateAmongOthers: what must not come before a gate, and where its own
// paths cannot be reached; and what is fine.
func TestGateAmongOthers(t *testing.T) {
	const (
		proxy     = "reverse_proxy localhost:1\n"
		answers   = "comes before it and answers every request, so nobody is asked to sign in: put device_auth first"
		templates = "templates comes before it"
		reach     = "cannot be reached: the block around it is only for "
	)
	for _, row := range []struct{ name, global, lines, want string }{
		{"order of Caddy's own", "", "templates\nencode\nredir /a /b\nrespond /c no\nfile_server\n" + proxy + "GATE", ""},
		{"proxy first", "", "route {\n" + proxy + "GATE\n}", "reverse_proxy " + answers},
		{"proxy for some first", "", "route {\nreverse_proxy /public/* localhost:1\nGATE\n" + proxy + "}", ""},
		{"proxy in a block first", "", "route {\nroute {\n" + proxy + "}\nGATE\n}", "reverse_proxy " + answers},
		{"proxy in a block for some first", "", "route {\nroute /public/* {\n" + proxy + "}\nGATE\n}", ""},
		{"proxy that goes on", "", "route {\nreverse_proxy localhost:1 {\nhandle_response {\nvars x y\n}\n}\nGATE\n}", ""},
		{"forward_auth first", "", "route {\nforward_auth localhost:1 {\nuri /x\n}\nGATE\n}", ""},
		{"respond first", "", "route {\nrespond hello\nGATE\n}", "respond, redir or abort " + answers},
		{"Early Hints first", "", "route {\nrespond 103\nGATE\n}", ""},
		{"respond with a body of the request's first", "", "route {\nrespond {http.request.header.X}\nGATE\n}", "respond, redir or abort " + answers},
		{"respond with a status of the request's first", "", "route {\nrespond hello {http.vars.x}\nGATE\n}", ""},
		{"redir first", "", "route {\nredir https://www.example.com\nGATE\n}", "respond, redir or abort " + answers},
		{"abort first", "", "route {\nabort\nGATE\n}", "respond, redir or abort " + answers},
		{"error first", "", "route {\nerror 404\nGATE\n}", "error " + answers},
		{"files first", "", "route {\nfile_server\nGATE\n}", "file_server " + answers},
		{"files that go on first", "", "route {\nfile_server {\npass_thru\n}\nGATE\n}", ""},
		{"one handle or the other", "", "handle /open/* {\nrespond open\n}\nhandle {\nGATE\n" + proxy + "}", ""},
		{"handles in the other order", "", "handle {\nrespond open\n}\nhandle /x/* {\nGATE(path_prefix /x/.device)\n}", ""},
		{"a handle for all, then a route", "", "handle {\nrespond open\n}\nroute {\nGATE\n}", "respond, redir or abort " + answers},
		{"order changed, last", "order device_auth last", proxy + "GATE", "reverse_proxy " + answers},
		{"order changed, before basic_auth", "order device_auth before basic_auth", proxy + "GATE", ""},
		{"in handle_errors", "", "handle_errors {\nGATE\n" + proxy + "}\n" + proxy, ""},
		{"misplaced in handle_errors", "", "handle_errors {\nroute {\n" + proxy + "GATE\n}\n}", "reverse_proxy " + answers},

		{"templates first", "", "route {\ntemplates\nGATE\n}", templates},
		{"templates for some first", "", "route {\ntemplates /x/*\nGATE\n}", templates},
		{"templates of the site, gate in a block", "", "templates\nhandle {\nGATE\n}", templates},
		{"templates of the site, gate in a block of handle_errors", "", "templates\nhandle_errors {\nGATE\n}", ""},
		{"templates in handle_errors", "", "handle_errors {\ntemplates\nroute {\nGATE\n}\n}", templates},
		{"templates for other paths than the block's", "", "templates /docs/*\nhandle /api/* {\nGATE(path_prefix /api/.device)\n}\nhandle {\nfile_server\n}", ""},
		{"templates for a part of the block's", "", "templates /api/docs/*\nhandle /api/* {\nGATE\n}", templates},
		{"templates for more than the block's", "", "templates /a*\nhandle /api/* {\nGATE\n}", templates},
		{"templates by suffix", "", "templates *.html\nhandle /api/* {\nGATE\n}", templates},
		{"templates for one path in another case", "", "templates /API/x\nhandle /api/* {\nGATE\n}", templates},
		{"templates for other paths, which are changed", "", "route {\ntemplates /docs/*\nuri strip_prefix /docs\nhandle /api/* {\nGATE\n}\n}", templates},
		{"templates for other paths or by another matcher", "", "@t expression `path('/docs/*') || method('PUT')`\ntemplates @t\nhandle /api/* {\nGATE\n}", templates},
		{"templates in another block", "", "handle /docs/* {\ntemplates\nfile_server\n}\nhandle {\nGATE\n}", ""},
		{"templates for another host", "", "@other host other.example.com\nroute @other {\ntemplates\n}\n@api host api.example.com\nroute @api {\nGATE\n}", ""},
		{"templates after it", "", "route {\nGATE\ntemplates\nfile_server\n}", ""},

		{"a block for a path", "", "handle /api/* {\nGATE\n" + proxy + "}", "path_prefix /.device " + reach + "/api/*, so nobody could sign in: write path_prefix /api/.device, or use handle_path"},
		{"a block for a path, path_prefix in it", "", "handle /api/* {\nGATE(path_prefix /api/.device)\n}", ""},
		{"a block for a path in capitals", "", "handle /API/* {\nGATE(path_prefix /api/.device)\n}", ""},
		{"a block for a path, path_prefix beside it", "", "handle /api/* {\nGATE(path_prefix /web/.device)\n}", "path_prefix /web/.device " + reach},
		{"a block for one page", "", "handle /page {\nGATE\n}", reach + "/page, so nobody could sign in: let that block be for /.device/* as well"},
		{"a block for a kind of file", "", "@p path *.php\nhandle @p {\nGATE\n}", "let that block be for /.device/* as well"},
		{"a block for two paths", "", "@p path /api/* /.device/*\nhandle @p {\nGATE\n}", ""},
		{"a block for one path of two", "", "@p path /api/* /web/*\nhandle @p {\nGATE\n}", reach + "/api/*, /web/*, so nobody could sign in: write path_prefix /api/.device"},
		{"a block by method and path", "", "@p {\nmethod GET\npath /api/*\n}\nhandle @p {\nGATE\n}", reach + "/api/*"},
		{"a block by method", "", "@p method GET\nhandle @p {\nGATE\n}", ""},
		{"a block by what is not its path", "", "@p not path /.device/*\nhandle @p {\nGATE\n}", ""},
		{"a block by an expression", "", "@p path_regexp ^/api\nhandle @p {\nGATE\n}", ""},
		{"a block by a placeholder", "", "@p path /{http.request.header.X}/*\nhandle @p {\nGATE\n}", ""},
		{"handle_path", "", "handle_path /app/* {\nGATE\n}", ""},
		{"handle_path in handle_path", "", "handle_path /a/* {\nhandle_path /b/* {\nGATE\n}\n}", ""},
		{"handle_path in a block of it", "", "handle /a/* {\nhandle_path /a/b/* {\nGATE\n}\n}", ""},
		{"a block in handle_path", "", "handle_path /app/* {\nhandle /api/* {\nGATE\n}\n}", reach + "/api/*, so nobody could sign in: write path_prefix /api/.device"},
		{"a block in handle_path, path_prefix in it", "", "handle_path /app/* {\nhandle /api/* {\nGATE(path_prefix /api/.device)\n}\n}", ""},
		{"stripped in a block", "", "handle /api/* {\nuri strip_prefix /api\nGATE\n}", ""},
		{"stripped in a block for the gate's own paths alone", "", "handle /api/.device/* {\nuri strip_prefix /api\nGATE(path_prefix /api/.device)\n}", ""},
		{"stripped in a block for some", "", "handle /api/* {\nuri /api/v1/* strip_prefix /api/v1\nGATE(path_prefix /api/.device)\n}", ""},
		{"stripped before a block, for some", "", "uri /old/* strip_prefix /old\nhandle /api/* {\nGATE(path_prefix /api/.device)\n}", ""},
		{"stripped by a placeholder", "", "uri strip_prefix /{http.request.header.X}\nhandle /api/* {\nGATE\n}", ""},
		{"stripped before a block, for some methods", "", "@post method POST\nuri @post strip_prefix /api\nhandle /api/* {\nGATE\n}", ""},
		{"stripped in a block, from other paths", "", "@post method POST\nhandle /api/* {\nuri @post strip_prefix /v1\nGATE(path_prefix /api/.device)\n}", ""},
		{"stripped too often to tell", "", "route {\n" + strings.Repeat("uri strip_prefix /x\n", 30) + "handle /api/* {\nGATE\n}\n}", ""},
		{"rewritten before a block", "", "try_files {path} /index.html\nhandle /api/* {\nGATE\n}", ""},
		{"the query rewritten before a block", "", "rewrite ?a=b\nhandle /api/* {\nGATE\n}", reach},
		{"another gate has the paths", "", "handle /api/* {\nGATE\n}\nhandle {\nGATE\n}", ""},
		{"another gate has other paths", "", "handle /api/* {\nGATE\n}\nhandle_path /app/* {\nGATE\n}", reach + "/api/*"},
		{"two blocks, one prefix", "", "handle /api/* {\nGATE(path_prefix /api/.device)\n}\nhandle /web/* {\nGATE(path_prefix /api/.device)\n}", ""},
		{"a gate for another host", "", "handle /api/* {\nGATE\n}\n}\nb.example.com {\nGATE", reach + "/api/*"},
		{"a gate on another port", "", "handle /api/* {\nGATE\n}\n}\napi.example.com:8443 {\nGATE", reach + "/api/*"},
		{"a gate for all hosts, with another prefix", "", "handle /api/* {\nGATE\n}\n}\n*.example.com {\nGATE(path_prefix /x)", reach + "/api/*"},
		{"a gate for all hosts, of another provider", "", "handle /api/* {\nGATE\n}\n}\n*.example.com {\ndevice_auth {\nissuer https://auth.example.com\nclient_id gate\n}", reach + "/api/*"},
		{"a gate for all hosts", "", "handle /api/* {\nGATE\n}\n}\n*.example.com {\nGATE", ""},
		{"in a block of handle_errors", "", "handle_errors {\nhandle /api/* {\nGATE\n}\n}", reach + "/api/*"},
		{"stripped before an error", "", "uri strip_prefix /app\nhandle_errors {\nhandle /app/* {\nGATE\n}\n}", reach + "/app/*"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := siteOfLines(t, row.global, row.lines)
			switch {
			case row.want == "" && err != nil:
				t.Error(err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("%v, want %q", err, row.want)
			case err != nil && !strings.HasPrefix(err.Error(), "device_auth on api.example.com (server srv0, listening on :443): "):
				t.Errorf("%v does not name the site", err)
			}
		})
	}
}

// TestGateAfterTerminalRoute: what only JSON can say.
func TestGateAfterTerminalRoute(t *testing.T) {
	gate := map[string]any{"handler": "device_auth", "issuer": "https://idp.example.com", "client_id": "gate"}
	respond := map[string]any{"handler": "static_response"}
	route := func(handler map[string]any, more ...any) map[string]any {
		r := map[string]any{"handle": []any{handler}}
		for i := 0; i < len(more); i += 2 {
			r[more[i].(string)] = more[i+1]
		}
		return r
	}
	some := []any{map[string]any{"path": []string{"/x"}}}
	failing := func(first map[string]any, handled ...any) map[string]any {
		routes := []any{first, route(map[string]any{"handler": "error"})}
		return map[string]any{"handler": "subroute", "routes": routes, "errors": map[string]any{"routes": handled}}
	}
	vars := map[string]any{"handler": "vars"}
	other := map[string]any{"handler": "device_auth", "issuer": "https://auth.example.com", "client_id": "gate"}
	host := func(name string) []any { return []any{map[string]any{"host": []string{name}}} }
	const first = "comes before it and answers every request"
	for _, row := range []struct {
		name   string
		routes []any
		want   string
	}{
		{"answers all", []any{route(respond, "terminal", true), route(gate)}, first},
		{"answers some", []any{route(respond, "terminal", true, "match", some), route(gate)}, ""},
		{"answers one of a group", []any{route(respond, "group", "g"), route(gate, "group", "g")}, ""},
		{"answers where no other of its group does", []any{route(vars, "group", "g", "match", some), route(respond, "group", "g"), route(gate)}, ""},
		{"answers within a terminal route", []any{route(map[string]any{"handler": "subroute", "routes": []any{route(respond, "terminal", true)}}), route(gate)}, first},
		{"templates in a terminal route", []any{route(map[string]any{"handler": "templates"}, "terminal", true, "match", some), route(gate)}, ""},
		{"templates in the same group", []any{route(map[string]any{"handler": "templates"}, "group", "g", "match", some), route(gate, "group", "g")}, ""},
		{"an error that is handled, and goes on", []any{route(failing(route(vars), route(vars))), route(gate)}, ""},
		{"in error routes of a subroute", []any{route(failing(route(vars), route(gate)))}, ""},
		{"after an answer in error routes of a subroute", []any{route(failing(route(vars), route(respond), route(gate)))}, first},
		{"two providers, one in error routes of a subroute", []any{route(failing(route(gate, "match", host("*.example.com")), route(other, "match", host("api.example.com"))))}, "shares the cookie"},
		{"two providers, one after error routes of a subroute", []any{route(failing(route(gate, "match", host("*.example.com"), "terminal", true), route(vars))), route(other, "match", host("api.example.com"))}, "shares the cookie"},
		{"stripped before error routes of a subroute", []any{route(failing(route(map[string]any{"handler": "rewrite", "strip_path_prefix": "/app"}), route(gate, "match", []any{map[string]any{"path": []string{"/app/*"}}})))}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := siteConfig(t, nil)
			config.AppsRaw["http"] = mustJSON(t, map[string]any{"servers": map[string]any{"edge": map[string]any{"listen": []string{"127.0.0.1:9"}, "routes": row.routes}}})
			err := startSites(t, config)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// TestGatesOfErrors: a gate in handle_errors and one before it meet on one
// request, and are of one site.
func TestGatesOfErrors(t *testing.T) {
	const other = "device_auth {\nissuer https://auth.example.com\nclient_id gate\n%s\n}\n"
	for _, row := range []struct{ name, lines, want string }{
		{"one gate", "GATE\nhandle_errors {\nGATE\n}", ""},
		{"one gate that differs", "GATE\nhandle_errors {\nGATE(session {,idle 1h,})\n}", "differ in session"},
		{"two providers", "GATE\nhandle_errors {\n" + fmt.Sprintf(other, "") + "}", "shares the cookie"},
		{"two providers, the first in a block", "handle /a/* {\nGATE(path_prefix /a/.device)\n}\nhandle_errors {\n" + fmt.Sprintf(other, "") + "}", "shares the cookie"},
		{"two providers, hosts that meet", "respond x\n}\n*.example.com {\nGATE\nhandle_errors {\n@api host api.example.com\nhandle @api {\n" + fmt.Sprintf(other, "") + "}\n}", "shares the cookie"},
		{"two providers, apart", "GATE\nhandle_errors {\n" + fmt.Sprintf(other, "path_prefix /x\nsession {\ncookie other\n}") + "}", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := siteOfLines(t, "", row.lines)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// TestPlaceInErrors: a mistake in handle_errors names the site too.
func TestPlaceInErrors(t *testing.T) {
	err := siteOfLines(t, "", "GATE\nhandle_errors {\nGATE(path_prefix x)\n}")
	if err == nil || !strings.Contains(err.Error(), `device_auth on api.example.com (server srv0, listening on :443): path_prefix "x"`) {
		t.Error(err)
	}
}

// TestStripped: what links carry, and which paths are the gate's own, where
// prefixes are taken off and the path is rewritten after that.
func TestStripped(t *testing.T) {
	guess := [][]string(nil)
	for _, row := range []struct {
		name         string
		places       [][]string
		arrived, now string
		links, own   string
	}{
		{"nothing", [][]string{nil}, "/x", "/x", "/.device", ""},
		{"nothing, but rewritten", [][]string{nil}, "/x/index.html", "/index.html", "/.device", ""},
		{"nothing, own", [][]string{nil}, "/.device/login", "/index.html", "/.device", "login"},
		{"one", [][]string{{"/app"}}, "/app/x", "/x", "/app/.device", ""},
		{"one, rewritten", [][]string{{"/app"}}, "/app/deep", "/index.html", "/app/.device", ""},
		{"one, own", [][]string{{"/app"}}, "/app/.device/login", "/.device/login", "/app/.device", "login"},
		{"one, own, rewritten", [][]string{{"/app"}}, "/app/.device/login", "/index.html", "/app/.device", "login"},
		{"one, alone", [][]string{{"/app"}}, "/app", "/", "/app/.device", ""},
		{"one, in capitals", [][]string{{"/app"}}, "/APP/.device/login", "/index.html", "/app/.device", "login"},
		{"one, slashes and dots", [][]string{{"/app"}}, "//x/..//app//.device/login", "/index.html", "/app/.device", "login"},
		{"one, inside a word", [][]string{{"/app"}}, "/apple", "/le", "/app/.device", ""},
		{"one, not there", [][]string{{"/app"}}, "/x", "/x", "/.device", ""},
		{"one, not at the start", [][]string{{"/app"}}, "/x/app/.device/login", "/x", "/.device", ""},
		{"one, a word that begins like ours", [][]string{{"/app"}}, "/app/.devices/login", "/x", "/app/.device", ""},
		{"two", [][]string{{"/a", "/b"}}, "/a/b/.device/login", "/index.html", "/a/b/.device", "login"},
		{"two, the second alone", [][]string{{"/a", "/b"}}, "/b/x", "/x", "/b/.device", ""},
		{"other characters", [][]string{{"/é"}}, "/é/x", "/x", "/%C3%A9/.device", ""},
		{"two places", [][]string{{"/a"}, {"/b"}}, "/b/.device/login", "/x", "/b/.device", "login"},
		{"two places, one deeper", [][]string{{"/a"}, {"/a", "/b"}}, "/a/b/x", "/b/x", "/a/b/.device", ""},
		{"two places, the deeper one first", [][]string{{"/a", "/b"}, {"/a"}}, "/a/b/x", "/b/x", "/a/b/.device", ""},
		{"no path", [][]string{{"/a"}}, "*", "*", "/.device", ""},
		{"not known", guess, "/app/x", "/x", "/app/.device", ""},
		{"not known, own", guess, "/app/.device/login", "/.device/login", "/app/.device", "login"},
		{"not known, another host", guess, "//evil.test/x", "/x", "/.device", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := &Handler{PathPrefix: "/.device"}
			if row.places != nil {
				h.strips.Store(&row.places)
			}
			r := newRequest(t, "/", nil)
			r.URL.Path = row.arrived
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
			r.URL.Path = row.now
			if got := h.linksFor(r).path; got != row.links {
				t.Errorf("links %q, want %q", got, row.links)
			}
			if name, _ := h.reserved(r); name != row.own {
				t.Errorf("own path %q, want %q", name, row.own)
			}
		})
	}
}

// TestLearnStripped: what a start finds out about each gate.
func TestLearnStripped(t *testing.T) {
	for _, row := range []struct {
		lines string
		want  string
	}{
		{"GATE", "[[]]"},
		{"handle_path /app/* {\nGATE\n}", "[[/app]]"},
		{"handle_path /app* {\nGATE\n}", "[[/app]]"},
		{"handle_path /a/* {\nhandle_path /b/* {\nGATE\n}\n}", "[[/a /b]]"},
		{"handle_path /a/* {\ninvoke gate\n}\nhandle_path /b/* {\ninvoke gate\n}\n}\n&(gate) {\nGATE", "[[/a] [/b]]"},
		{"handle_path /a/* {\ninvoke gate\n}\nhandle_path /{http.vars.x}/* {\ninvoke gate\n}\n}\n&(gate) {\nGATE", "not known"},
		{"handle_path /{http.vars.x}/* {\ninvoke gate\n}\nhandle_path /a/* {\ninvoke gate\n}\n}\n&(gate) {\nGATE", "not known"},
		{"uri strip_prefix app/\nGATE", "[[/app]]"},
		{"uri strip_prefix /\nGATE", "[[]]"},
		{"uri strip_suffix .php\nGATE", "[[]]"},
		{"route {\nGATE\nuri strip_prefix /app\n}", "[[]]"},
		{"handle_path /app/* {\nrespond x\n}\nhandle {\nGATE\n}", "[[]]"},
		{"uri strip_prefix /{http.request.header.X}\nGATE", "not known"},
		{"uri strip_prefix /a%2fb\nGATE", "not known"},
		{"uri strip_prefix //evil.test\nGATE", "not known"},
		{"handle_path /app/* {\nrespond x\n}\nhandle_errors {\nGATE\n}", "[[]]"},
	} {
		httpApp, err := provisionSites(t, configOf(t, "api.example.com {\n"+withGates(row.lines)+"\n}\n"))
		if err != nil {
			t.Fatal(err)
		}
		gates := allGates(httpApp)
		learnStripped(gates)
		got := "not known"
		if places := gates[0].strips.Load(); places != nil {
			got = fmt.Sprint(*places)
		}
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.lines, got, row.want)
		}
	}
}
