// This file holds the tests of the device authorization answer (RFC 8628 §3.2).

package idp

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func authorize(t *testing.T, r idptest.Reply) (DeviceAuthorization, error) {
	p := newProvider()
	p.Always("/device", r)
	return newClient(t, p).Authorize(context.Background())
}

func device(change func(map[string]any)) idptest.Reply {
	m := idptest.Device(issuer, 1)
	change(m)
	return idptest.JSON(200, m)
}

func TestAuthorize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		da, err := authorize(t, device(func(map[string]any) {}))
		want := DeviceAuthorization{
			DeviceCode: "device-canary-1", UserCode: "WDJB-0001", VerificationURI: issuer + "/activate",
			VerificationURIComplete: issuer + "/activate?user_code=WDJB-0001", ExpiresIn: 10 * time.Minute, Interval: 5 * time.Second,
		}
		if err != nil || da != want {
			t.Errorf("%+v, %v", da, err)
		}
	})
}

func TestIntervalForms(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 5 * time.Second, "0": 5 * time.Second, "-1": 5 * time.Second, "null": 5 * time.Second, `"5"`: 5 * time.Second, "5.5": 5500 * time.Millisecond,
		`"junk"`: 5 * time.Second, "{}": 5 * time.Second, "[7]": 5 * time.Second, "true": 5 * time.Second, "0.001": time.Second, "1": time.Second,
		"30": 30 * time.Second, `"NaN"`: 5 * time.Second, "1e18": 5 * time.Second, `"Inf"`: 5 * time.Second, "600": 10 * time.Minute,
	} {
		member := ""
		if value != "" {
			member = `,"interval":` + value
		}
		synctest.Test(t, func(t *testing.T) {
			da, err := authorize(t, idptest.Reply{Status: 200, Body: `{"device_code":"d","user_code":"u","verification_uri":"https://i.example/","expires_in":60` + member + `}`})
			if err != nil || da.Interval != want {
				t.Errorf("interval %s: %v, %v, want %v", value, da.Interval, err, want)
			}
		})
	}
}

// hostile are texts that must not be shown: control characters of every kind,
// bidi and zero-width characters, and what a terminal acts on.
var hostile = map[string]string{
	"clear screen": "\x1b[2J", "OSC 8 link": "\x1b]8;;https://evil\x1b\\", "OSC 52 clipboard": "\x1b]52;c;eA==\a", "DCS": "\x1bPq\x1b\\",
	"C1 CSI": "\u009b2J", "carriage return": "\r", "backspace": "\b", "bell": "\a", "DEL": "\x7f", "NUL": "\x00", "tab": "\t",
	"right-to-left override": "\u202e", "isolate": "\u2066", "zero-width space": "\u200b", "zero-width joiner": "\u200d", "BOM": "\ufeff",
	"soft hyphen": "\u00ad", "newline": "\n", "line separator": "\u2028", "no-break space": "\u00a0", "private use": "\ue000", "tag": "\U000e0041",
}

func TestHostileStringsFailTheSignIn(t *testing.T) {
	for name, text := range hostile {
		for _, member := range []string{"user_code", "verification_uri", "verification_uri_complete"} {
			synctest.Test(t, func(t *testing.T) {
				for _, place := range []string{"before", "within", "after"} {
					_, err := authorize(t, device(func(m map[string]any) {
						old := m[member].(string)
						m[member] = map[string]string{"before": text + old, "within": old[:9] + text + old[9:], "after": old + text}[place]
					}))
					wantRefused(t, name+" "+place+" "+member, err)
				}
			})
		}
	}
}

func wantRefused(t *testing.T, name string, err error) {
	t.Helper()
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("%s: %v, want a RefusedError", name, err)
		return
	}
	if strings.ContainsFunc(refused.Error(), func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b || r == 0x202e }) || len(refused.Error()) > 600 {
		t.Errorf("%s: the error is %q", name, refused)
	}
}

func TestVerificationURIs(t *testing.T) {
	for _, uri := range []string{
		"", "javascript:alert(1)", "JAVASCRIPT:alert(1)", "JavaScript://x/%0aalert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		" https://i.example/", "https://i.example/ ", "ht\ttps://i.example/", "https:evil", "https:/evil", "//evil", `\\evil`, `https:\\evil`, "https://",
		"https:///path", "/path", "i.example/activate", "https://user@i.example/", "https://u:p@i.example/", "https://i.example/a b", `https://i.example/"x`,
		"https://i.example/<svg>", "https://i.example/{x}", "https://i.example/`x`", "https://i.example/a|b", "https://i.example/a^b", "https://i.example/%zz",
		"https://i.example/" + strings.Repeat("a", 8192), "ftp://i.example/", "https://i.example:port/", "https://\xff/",
	} {
		for _, member := range []string{"verification_uri", "verification_uri_complete"} {
			if member == "verification_uri_complete" && uri == "" {
				continue // it may be missing
			}
			synctest.Test(t, func(t *testing.T) {
				_, err := authorize(t, device(func(m map[string]any) { m[member] = uri }))
				if uri == "https://\xff/" {
					return // JSON cannot carry it
				}
				wantRefused(t, member+" "+uri, err)
			})
		}
	}
	for _, uri := range []string{"https://i.example", "http://i.example/a", "HTTPS://i.example/a", "https://i.example:8443/a?b=c&d=e%20f#g", "https://[2001:db8::1]/"} {
		synctest.Test(t, func(t *testing.T) {
			da, err := authorize(t, device(func(m map[string]any) { m["verification_uri"] = uri }))
			if err != nil || da.VerificationURI != uri {
				t.Errorf("%s: %v", uri, err)
			}
		})
	}
	if checkVerificationURI("https://\xff/") == nil {
		t.Error("not UTF-8, and passes")
	}
}

func TestDeviceAnswers(t *testing.T) {
	drop := func(member string) idptest.Reply { return device(func(m map[string]any) { delete(m, member) }) }
	set := func(member string, v any) idptest.Reply { return device(func(m map[string]any) { m[member] = v }) }
	synctest.Test(t, func(t *testing.T) {
		for name, r := range map[string]idptest.Reply{
			"no device_code": drop("device_code"), "no user_code": drop("user_code"), "no verification_uri": drop("verification_uri"),
			"no expires_in": drop("expires_in"), "expires_in 0": set("expires_in", 0), "expires_in -1": set("expires_in", -1), "expires_in junk": set("expires_in", "soon"),
			"10 kB user_code": set("user_code", strings.Repeat("A", 10_000)), "1 MB device_code": set("device_code", strings.Repeat("d", 1_000_000)),
			"empty user_code": set("user_code", ""), "user_code of spaces": set("user_code", "   "), "user_code number": set("user_code", 12345),
			"invalid_client": idptest.Error(401, "invalid_client"), "invalid_scope": idptest.Error(400, "invalid_scope"), "error with 200": idptest.Error(200, "access_denied"),
			"404": {Status: 404, Body: "<html>"}, "200 HTML": {Status: 200, Body: "<html>"}, "200 empty": {Status: 200}, "array": {Status: 200, Body: "[]"},
			"null": {Status: 200, Body: "null"}, "302": redirect(302, "/x"), "hostile words": idptest.JSON(400, map[string]any{"error": "\x1b[2J\u202e", "error_description": strings.Repeat("\x1b", 5000)}),
		} {
			_, err := authorize(t, r)
			wantRefused(t, name, err)
		}
		da, err := authorize(t, device(func(m map[string]any) { m["verification_url"] = m["verification_uri"]; delete(m, "verification_uri") }))
		if err != nil || da.VerificationURI != issuer+"/activate" {
			t.Errorf("verification_url: %v", err)
		}
		for code := range map[string]bool{"wdjb-mjht": true, "123 456": true, "日本語": true, `"><svg onload=1>`: true} {
			if da, err := authorize(t, set("user_code", code)); err != nil || da.UserCode != code {
				t.Errorf("user_code %q: %q, %v", code, da.UserCode, err)
			}
		}
	})
}

func TestDeviceEndpointBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			reply idptest.Reply
			after time.Duration
		}{
			"429":                 {idptest.Reply{Status: 429, Header: http.Header{"Retry-After": {"77"}}}, 77 * time.Second},
			"503":                 {idptest.Reply{Status: 503, Header: http.Header{"Retry-After": {"9"}}}, 9 * time.Second},
			"503 with a word":     {idptest.Error(503, "temporarily_unavailable"), 0},
			"500":                 {idptest.Reply{Status: 500}, 0},
			"a broken connection": {idptest.Reply{Err: errors.New("reset")}, 5 * time.Second},
		} {
			_, err := authorize(t, c.reply)
			if u := wantUnavailable(t, err); u.RetryAfter != c.after {
				t.Errorf("%s: retry after %v, want %v", name, u.RetryAfter, c.after)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := newClient(t, newProvider()).Authorize(ctx)
		if wantUnavailable(t, err); !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("given up by the caller: %v", err)
		}
	})
}
