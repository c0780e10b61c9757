// This file tests that a secret is found in each usual spelling, and not shown.
package secrecy_test

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/secrecy"
)

func TestSearch(t *testing.T) {
	const secret = `s3cret "with" & + signs`
	key := "dvc_" + strings.Repeat("k", 43)
	logs := map[string]string{
		"plain":       "first\nbody " + secret,
		"URL-encoded": "first\n?x=" + url.QueryEscape(secret),
		"JSON":        "first\n" + `{"m":"s3cret \"with\" \u0026 + signs"}`,
		"base64":      "first\nBasic " + base64.StdEncoding.EncodeToString([]byte(secret)),
		"hex":         "first\n" + hex.EncodeToString([]byte(secret)),
	}
	c := secrecy.New()
	c.Add(t, "client secret", secret, "")
	c.AddText(t, "Set-Cookie: device_auth="+key+"; Path=/")
	if c.Len() != 2 {
		t.Fatalf("%d secrets", c.Len())
	}
	for form, log := range logs {
		found := c.Search(log)
		if len(found) != 1 || !strings.Contains(found[0], "client secret") || !strings.Contains(found[0], "line 2") {
			t.Errorf("%s: %q", form, found)
		}
		if strings.Contains(strings.Join(found, ""), "s3cret") {
			t.Errorf("%s: the finding shows the secret", form)
		}
	}
	if found := c.Search("a\nb " + key); len(found) != 1 || !strings.Contains(found[0], "session key") {
		t.Errorf("known key: %q", found)
	}
	unknown := "dvc_" + strings.Repeat("u", 43)
	if found := c.Search(unknown); len(found) != 1 || !strings.Contains(found[0], "looks like") {
		t.Errorf("unknown key: %q", found)
	}
	if found := c.Search("nothing to see"); len(found) != 0 {
		t.Errorf("%q", found)
	}
}
