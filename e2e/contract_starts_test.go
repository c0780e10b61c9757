// This file holds which requests start a sign-in, row by row.
package e2e

import (
	"net/http"
	"testing"
)

// startRow is a request without a credential, by its shape.
type startRow struct {
	name   string
	method string // GET unless set
	path   string // /row unless set
	header []string
	status int // 401 unless set
	starts bool
}

const (
	page   = "text/html,application/xhtml+xml,*/*;q=0.8"
	script = "Sec-Fetch-Dest"
)

// startRows are requests of no client in particular: the header fields are all
// that they have.
var startRows = []startRow{
	{name: "nothing at all", starts: true},
	{name: "POST", method: "POST", starts: true},
	{name: "PUT", method: "PUT", starts: true},
	{name: "DELETE", method: "DELETE", starts: true},
	{name: "HEAD", method: "HEAD"},
	{name: "OPTIONS", method: "OPTIONS"},
	{name: "XMLHttpRequest of an old library", header: []string{"X-Requested-With", "XMLHttpRequest"}},
	{name: "favicon", path: "/favicon.ico"},
	{name: "robots.txt", path: "/robots.txt"},
	{name: "Node's fetch", header: []string{"Sec-Fetch-Mode", "cors", "Accept", "*/*"}, starts: true},
	{name: "kube-probe", header: []string{"User-Agent", "kube-probe/1.34"}},
	{name: "load balancer", header: []string{"User-Agent", "ELB-HealthChecker/2.0"}},
	{name: "link preview", header: []string{"User-Agent", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Accept", page}},
	{name: "link preview that looks like a phone", header: []string{"User-Agent", "Mozilla/5.0 (iPhone) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0", "Accept", page}},

	{name: "navigation", header: []string{"Accept", page, "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, starts: true},
	{name: "navigation from another site", header: []string{"Accept", page, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Referer", "https://evil.test/"}, starts: true},
	{name: "navigation of old WebKit", header: []string{"Accept", page}, starts: true},
	{name: "navigation of old WebKit, by a link", header: []string{"Accept", page, "Referer", "https://localhost/"}, starts: true},
	{name: "old browser's XMLHttpRequest", header: []string{"Accept", page, "X-Requested-With", "XMLHttpRequest"}},
	{name: "old browser's request of another origin", header: []string{"Accept", page, "Origin", "https://evil.test"}},
	{name: "navigation by POST", method: "POST", header: []string{"Accept", page, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Origin", ownOrigin}},
	{name: "prefetch", header: []string{"Accept", page, "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Purpose", "prefetch"}},
	{name: "old prefetch", header: []string{"Accept", page, "Purpose", "prefetch"}},
	{name: "frame", header: []string{"Accept", page, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", script, "iframe"}},
	{name: "image", header: []string{"Accept", "image/avif,*/*", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", script, "image"}},
	{name: "script's fetch", header: []string{"Accept", "*/*", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", script, "empty"}},
	{name: "script's fetch of another origin", header: []string{"Accept", "*/*", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", script, "empty", "Origin", "https://evil.test"}},
	{name: "a request with Referer alone", header: []string{"Accept", "*/*", "Referer", "https://localhost/"}},

	{name: "login by a script", path: own + "login", status: 200, header: []string{"Accept", "application/json", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", script, "empty"}, starts: true},
	{name: "login by a script of another origin", path: own + "login", header: []string{"Accept", "application/json", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", script, "empty", "Origin", "https://evil.test"}},
	{name: "login by a script of the same site", path: own + "login", header: []string{"Accept", "application/json", "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors", script, "empty"}},
	{name: "login by an image", path: own + "login", header: []string{"Accept", "image/avif,*/*", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "no-cors", script, "image"}},
	{name: "login by a form", method: "POST", path: own + "login", status: 303, header: []string{"Accept", page, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", script, "document", "Origin", ownOrigin}, starts: true},
	{name: "login by a form of another origin", method: "POST", path: own + "login", status: 403, header: []string{"Accept", page, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", script, "document", "Origin", "https://evil.test"}},
	{name: "login by a health check", path: own + "login", header: []string{"User-Agent", "kube-probe/1.34"}},
	{name: "login by HEAD", method: "HEAD", path: own + "login", status: 405},
	{name: "login by a program's POST", method: "POST", path: own + "login", status: 200, header: []string{"Accept", "application/json"}, starts: true},
}

func (c *contract) starts(t *testing.T, version string) {
	for _, row := range startRows {
		t.Run(row.name, func(t *testing.T) {
			client := caller{name: row.name, method: http.MethodGet, header: and(http.Header{"User-Agent": {"a client"}}, row.header...)}
			want := expected{status: http.StatusUnauthorized}
			if row.status != 0 {
				want.status = row.status
			}
			if row.starts {
				want.starts, want.cookie, want.retry = 1, true, want.status != http.StatusSeeOther
			}
			c.check(t, version, client, asked{method: row.method, path: row.path}, want)
		})
	}
}
