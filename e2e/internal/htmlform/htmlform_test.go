// This file tests the odd corners of pages: elements outside their form, the
// spellings of a refresh, what is hidden in <noscript>.
package htmlform_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/htmlform"
)

func parse(t *testing.T, body string) *htmlform.Page {
	t.Helper()
	at, err := url.Parse("http://localhost:1/dir/page?q=1#part")
	if err != nil {
		t.Fatal(err)
	}
	p, err := htmlform.Parse(at, body)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestForms(t *testing.T) {
	p := parse(t, `<title> A  page </title><style>x{}</style><a href="/out">Out</a>
		<form><input name=a value=1><input name=b type=checkbox value=2><input type=checkbox name=c value=3 checked></form>
		<form id=two method=POST action="../up"><noscript><button name=go value=1>Go</button></noscript><button type=button>No</button></form>
		<input form=two name=late value=4><input form=none name=lost><button form=two type=submit>Late</button>`)
	if p.Title != "A page" || len(p.Forms) != 2 || len(p.Links) != 1 || p.Links[0].URL.Path != "/out" {
		t.Fatalf("%+v", p)
	}
	one, two := p.Forms[0], p.Forms[1]
	if one.Method != "GET" || one.Action.String() != "http://localhost:1/dir/page?q=1" || one.Values(nil).Encode() != "a=1&c=3" {
		t.Errorf("%+v", one)
	}
	if two.Method != "POST" || two.Action.Path != "/up" || len(two.Buttons) != 2 || two.Buttons[1].Label != "Late" {
		t.Errorf("%+v", two)
	}
	if got := two.Values(&two.Buttons[0]).Encode(); got != "go=1&late=4" {
		t.Errorf("%s", got)
	}
}

func TestRefresh(t *testing.T) {
	tests := []struct {
		name, meta, url string
		after           time.Duration
		none            bool
	}{
		{name: "plain", meta: `<meta http-equiv="refresh" content="5; url=/x?a=1&amp;b=2">`, url: "http://localhost:1/x?a=1&b=2", after: 5 * time.Second},
		{name: "quoted", meta: `<meta http-equiv=Refresh content="0;URL='next'">`, url: "http://localhost:1/dir/next"},
		{name: "itself", meta: `<meta http-equiv="refresh" content="3">`, url: "http://localhost:1/dir/page?q=1", after: 3 * time.Second},
		{name: "without scripts only", meta: `<noscript><meta http-equiv="refresh" content="1"></noscript>`, url: "http://localhost:1/dir/page?q=1", after: time.Second},
		{name: "another meta", meta: `<meta name="refresh" content="5">`, none: true},
		{name: "no number", meta: `<meta http-equiv="refresh" content="soon">`, none: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := parse(t, "<head>"+tt.meta+"</head>").Refresh
			if got == nil || tt.none {
				if (got == nil) != tt.none {
					t.Errorf("refresh: %v", got)
				}
				return
			}
			if got.URL.String() != tt.url || got.After != tt.after {
				t.Errorf("%s after %v", got.URL, got.After)
			}
		})
	}
}
