// This file holds what protected paths are answered, row by row.
package e2e

import (
	"net/http"
	"testing"
)

// contractRow is what one kind of request is answered, for each client.
type contractRow struct {
	name string
	ask  func(c *contract, t *testing.T) asked
	want []expected
}

// with is a request with these header fields.
func with(header func(*contract) http.Header) func(*contract, *testing.T) asked {
	return func(c *contract, _ *testing.T) asked { return asked{header: header(c)} }
}

const unknownKey = "dvc_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// protectedRows: curl, browser, program, WebSocket, gRPC.
var protectedRows = []contractRow{
	{"an active terminal key as bearer", with(func(c *contract) http.Header { return asBearer(c.terminal) }), each(asAlice)},
	{
		"an active terminal key in a jar", with(func(c *contract) http.Header { return inJar(c.terminal) }),
		[]expected{asAlice, started, asAlice, refused, asAlice}, // for browsers it is no credential
	},
	{"an active browser key", with(func(c *contract) http.Header { return inJar(c.browser) }), each(asAlice)},
	{"an active browser key as bearer", with(func(c *contract) http.Header { return asBearer(c.browser) }), each(refusedToken)},
	{"a client's own token", with(func(c *contract) http.Header { return asBearer(c.token) }), each(asCarol)},
	{
		"a client's own token, and another's cookie",
		with(func(c *contract) http.Header { return and(inJar(c.terminal), "Authorization", "Bearer "+c.token) }), each(asCarol),
	},

	{"require fails, key as bearer", at("/admin/x", func(c *contract) http.Header { return asBearer(c.terminal) }), each(forbiddenKey)},
	{"require fails, browser key", at("/admin/x", func(c *contract) http.Header { return inJar(c.browser) }), each(forbidden)},
	{"require fails, token", at("/admin/x", func(c *contract) http.Header { return asBearer(c.token) }), each(forbiddenKey)},

	{"no credential", with(func(*contract) http.Header { return nil }), []expected{started, started, started, refused, refused}},
	{"an unknown key in the cookie", with(func(*contract) http.Header { return inJar(unknownKey) }), []expected{started, started, started, refused, refused}},
	{
		"a key that is over in the cookie", with(func(c *contract) http.Header { return inJar(c.over) }),
		[]expected{because(started, "You have signed out"), started, because(started, "signed_out"), refused, refused},
	},
	{"an unknown key as bearer", with(func(*contract) http.Header { return asBearer(unknownKey) }), each(refusedToken)},
	{"a key that is over as bearer", with(func(c *contract) http.Header { return asBearer(c.over) }), each(refusedToken)},
	{"a token that is not good", with(func(c *contract) http.Header { return asBearer(c.token + "x") }), each(refusedToken)},
	{"a bad bearer and a good cookie", with(func(c *contract) http.Header {
		return and(inJar(c.terminal), "Authorization", "Bearer "+unknownKey)
	}), each(refusedToken)},
	{"another scheme's Authorization and a good cookie", with(func(c *contract) http.Header {
		return and(inJar(c.browser), "Authorization", "Basic YTpi")
	}), each(asAlice)},

	{"a pending key as bearer", with(func(c *contract) http.Header { return asBearer(c.pending) }), each(shown)},
	{"a pending browser key", with(func(c *contract) http.Header { return inJar(c.pendingBrowser) }), each(shown)},
	{
		"an approved browser key", func(c *contract, t *testing.T) asked { return asked{header: inJar(c.claimable(t))} },
		[]expected{refused, {status: 303, cookie: true}, refused, refused, refused},
	},
	{
		"Prefer: wait", func(c *contract, t *testing.T) asked {
			key := c.begin(t, callers[0])
			return asked{header: and(asBearer(key), "Prefer", "wait=60"), approve: key, noBody: true}
		}, each(asAlice),
	},
	{
		"a preflight of another origin", func(*contract, *testing.T) asked {
			return asked{method: http.MethodOptions, noBody: true, header: http.Header{"Origin": {"https://evil.test"}, "Access-Control-Request-Method": {"PUT"}}}
		}, each(refused),
	},
	{
		"a preflight of a trusted origin", func(*contract, *testing.T) asked {
			return asked{method: http.MethodOptions, noBody: true, header: http.Header{"Origin": {trustedOrigin}, "Access-Control-Request-Method": {"PUT"}}}
		}, each(expected{status: 200, passes: "-"}),
	},
	{
		"no start is left", func(c *contract, _ *testing.T) asked { return asked{site: "localhost:" + c.gate.Port2()} },
		[]expected{limited, limited, limited, refused, refused},
	},
	{
		"the identity provider is out of reach", func(c *contract, _ *testing.T) asked { return asked{site: "other.localhost:" + c.gate.Port2()} },
		[]expected{unavailable, unavailable, unavailable, refused, refused},
	},
	{"the store is out of reach, a key as bearer", away(func(c *contract) http.Header { return asBearer(c.terminal) }), each(unavailable)},
	{"the store is out of reach, a browser key", away(func(c *contract) http.Header { return inJar(c.browser) }), each(unavailable)},
	{"the store is out of reach, a token", away(func(c *contract) http.Header { return asBearer(c.token) }), each(asCarol)},
	{
		"an unsafe method of another origin, by cookie", func(c *contract, _ *testing.T) asked {
			return asked{method: http.MethodPost, header: and(inJar(c.browser), "Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site")}
		}, each(forbidden),
	},
	{
		"an unsafe method of a trusted origin, by cookie", func(c *contract, _ *testing.T) asked {
			return asked{method: http.MethodPost, header: and(inJar(c.browser), "Origin", trustedOrigin, "Sec-Fetch-Site", "same-site")}
		}, each(asAlice),
	},
	{
		"an unsafe method of another origin, by bearer", func(c *contract, _ *testing.T) asked {
			return asked{method: http.MethodPost, header: and(asBearer(c.terminal), "Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site")}
		}, each(asAlice),
	},
}

func at(path string, header func(*contract) http.Header) func(*contract, *testing.T) asked {
	return func(c *contract, _ *testing.T) asked { return asked{path: path, header: header(c)} }
}

func away(header func(*contract) http.Header) func(*contract, *testing.T) asked {
	return func(c *contract, _ *testing.T) asked { return asked{store: true, header: header(c)} }
}

func because(want expected, words string) expected {
	want.body = words
	return want
}

func (c *contract) protected(t *testing.T, version string) {
	for _, row := range protectedRows {
		t.Run(row.name, func(t *testing.T) {
			for i, client := range callers {
				c.check(t, version, client, row.ask(c, t), row.want[i])
			}
		})
	}
	t.Run("Prefer: wait, with a body", func(t *testing.T) {
		key := c.begin(t, callers[0])
		want := asAlice
		ask := asked{method: http.MethodPut, body: "x", header: and(asBearer(key), "Prefer", "wait=60"), approve: key}
		if version == "HTTP/1.1" { // a client that hangs up is not noticed there
			want, ask.approve = because(shown, "a request with a body cannot wait for"), ""
		}
		c.check(t, version, callers[0], ask, want)
	})
}
