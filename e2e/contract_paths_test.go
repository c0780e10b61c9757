// This file holds what the gateway's own paths are answered, row by row.
package e2e

import (
	"net/http"
	"testing"
)

const own = "/.device/"

// ask is a request to one of the gateway's own paths.
func ask(method, path string, header func(*contract) http.Header) func(*contract, *testing.T) asked {
	return func(c *contract, _ *testing.T) asked {
		a := asked{method: method, path: path, noBody: method == http.MethodGet || method == http.MethodHead}
		if header != nil {
			a.header = header(c)
		}
		return a
	}
}

func terminalKey(c *contract) http.Header    { return asBearer(c.terminal) }
func browserKey(c *contract) http.Header     { return inJar(c.browser) }
func pendingKey(c *contract) http.Header     { return asBearer(c.pending) }
func pendingBrowser(c *contract) http.Header { return inJar(c.pendingBrowser) }
func ownToken(c *contract) http.Header       { return asBearer(c.token) }

// say is an answer of 200 that holds words.
func say(words string) expected { return expected{status: 200, body: words} }

func gives(code int) expected { return expected{status: code} }

var (
	startedHere = expected{status: 200, starts: 1, cookie: true, retry: true}
	shownHere   = expected{status: 200, retry: true}
	notYet      = expected{status: 202, retry: true}
	gone        = expected{status: 401, challenge: "invalid_token"}
)

// pathRows: curl, browser, program, WebSocket, gRPC. The last two ask for
// something that these paths do not have. Over HTTP/1.1 a WebSocket's request
// is a GET, and is answered as one; over HTTP/2 and 3 an answer of 200 would
// open it (RFC 8441 §5), so that it gets 405 in any case.
var pathRows = []contractRow{
	{"login", ask("GET", own+"login?to=/x", nil), []expected{startedHere, startedHere, startedHere, refused, refused}},
	{"login, pending", ask("GET", own+"login", pendingKey), each(shownHere)},
	{"login, pending in a browser", ask("GET", own+"login", pendingBrowser), each(shownHere)},
	{"login, signed in", ask("GET", own+"login?to=/x", browserKey), []expected{say("alice"), {status: 303}, say("alice"), say("alice"), say("alice")}},
	{"login, a token", ask("GET", own+"login", ownToken), each(say("carol"))},
	{"login, an unknown key", ask("GET", own+"login", func(*contract) http.Header { return asBearer(unknownKey) }), each(gone)},
	{"login to another origin", ask("GET", own+"login?to=//evil.test", nil), each(gives(400))},
	{"login again, without the cookie", ask("GET", own+"login?again=1", nil), each(gives(401))},
	{"login by another origin's form", ask("POST", own+"login", func(*contract) http.Header {
		return http.Header{"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}}
	}), each(gives(403))},
	{"login by a trusted origin's form", ask("POST", own+"login", func(*contract) http.Header {
		return http.Header{"Origin": {trustedOrigin}, "Sec-Fetch-Site": {"same-site"}}
	}), each(gives(403))},

	{"wait, nobody", ask("GET", own+"wait", nil), each(refused)},
	{"wait, pending", ask("GET", own+"wait?timeout=0", pendingKey), each(notYet)},
	{"wait, active", ask("GET", own+"wait", terminalKey), each(say("alice"))},
	{"wait, over", ask("GET", own+"wait", func(c *contract) http.Header { return asBearer(c.over) }), each(gives(410))},
	{"wait, declined", ask("GET", own+"wait", func(c *contract) http.Header { return asBearer(c.declined) }), each(gives(403))},
	{"wait, an unknown key", ask("GET", own+"wait", func(*contract) http.Header { return asBearer(unknownKey) }), each(gone)},
	{"wait, no number", ask("GET", own+"wait?timeout=soon", pendingKey), each(gives(400))},

	{"qr.svg, pending", ask("GET", own+"qr.svg", pendingKey), each(say("<svg"))},
	{"qr.svg, nobody", ask("GET", own+"qr.svg", nil), each(gives(404))},
	{"qr.svg, active", ask("GET", own+"qr.svg", terminalKey), each(gives(404))},

	{"session, nobody", ask("GET", own+"session", nil), each(refused)},
	{"session, active", ask("GET", own+"session", browserKey), each(say("alice"))},
	{"session, a token", ask("GET", own+"session", ownToken), each(say("carol"))},
	{"session, for curl", ask("GET", own+"session?format=curl", terminalKey), each(say(`header = "Authorization: Bearer dvc_`))},
	{"session, for netrc", ask("GET", own+"session?format=netrc", terminalKey), each(say("machine localhost login device password dvc_"))},
	{"session, as a header", ask("GET", own+"session?format=header", terminalKey), each(say("Authorization: Bearer dvc_"))},
	{"session, a browser's key to print", ask("GET", own+"session?format=header", browserKey), each(gives(400))},
	{"session, another format", ask("GET", own+"session?format=xml", terminalKey), each(gives(400))},

	{"logout, nobody", ask("POST", own+"logout", nil), []expected{cleared(204), cleared(303), cleared(204), {}, cleared(204)}},
	{"logout, a token", ask("POST", own+"logout", ownToken), each(gives(400))},
	{"logout by another origin's form", ask("POST", own+"logout", func(c *contract) http.Header {
		return and(inJar(c.browser), "Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site")
	}), each(gives(403))},
	{"logout by a link", ask("GET", own+"logout", browserKey), each(gives(405))},

	{"no such path", ask("GET", own+"nothing", terminalKey), each(gives(404))},
	{"a method that it has not", ask("DELETE", own+"session", terminalKey), each(gives(405))},
	{"metadata", ask("GET", "/.well-known/oauth-protected-resource", nil), each(say(`"bearer_methods_supported":["header"]`))},
}

// cleared is an answer that takes our cookie away.
func cleared(code int) expected { return expected{status: code, clears: true} }

func (c *contract) paths(t *testing.T, version string) {
	for _, row := range pathRows {
		t.Run(row.name, func(t *testing.T) {
			for i, client := range callers {
				want := row.want[i]
				if client.name == "WebSocket" && version != "HTTP/1.1" && row.name != "no such path" {
					want = expected{status: http.StatusMethodNotAllowed}
				}
				c.check(t, version, client, row.ask(c, t), want)
			}
		})
	}
}
