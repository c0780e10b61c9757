// This file holds a small device flow client, to test the provider without the
// gateway.
package idpserver_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// pollGap is short: the provider knows no slow_down.
const pollGap = 100 * time.Millisecond

type client struct{ base, id, secret string }

type answer struct {
	DeviceCode   string `json:"device_code"`
	UserCode     string `json:"user_code"`
	URI          string `json:"verification_uri"`
	Complete     string `json:"verification_uri_complete"`
	ExpiresIn    int    `json:"expires_in"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Error        string `json:"error"`
}

func (a answer) complete() idpserver.Device { return idpserver.Device{Complete: a.Complete} }

func (a answer) typed() idpserver.Device { return idpserver.Device{URI: a.URI, Code: a.UserCode} }

func (c client) post(ctx context.Context, t *testing.T, path string, form url.Values) answer {
	t.Helper()
	a, err := c.try(ctx, path, form)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (c client) try(ctx context.Context, path string, form url.Values) (answer, error) {
	form.Set("client_id", c.id)
	if c.id == idpserver.PostClient {
		form.Set("client_secret", c.secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.id == idpserver.BasicClient {
		req.SetBasicAuth(url.QueryEscape(c.id), url.QueryEscape(c.secret))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var a answer
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

func (c client) start(ctx context.Context, t *testing.T) answer {
	t.Helper()
	a := c.post(ctx, t, "/device/auth", url.Values{"scope": {"openid profile email offline_access"}})
	if a.Error != "" || a.DeviceCode == "" {
		t.Fatalf("device authorization: error %q", a.Error)
	}
	return a
}

func (c client) poll(ctx context.Context, t *testing.T, code string) answer {
	t.Helper()
	return c.post(ctx, t, "/token", url.Values{"grant_type": {deviceGrant}, "device_code": {code}})
}

// outcome polls until the answer is final.
func (c client) outcome(ctx context.Context, t *testing.T, code string) answer {
	t.Helper()
	tick := time.NewTicker(pollGap)
	defer tick.Stop()
	for {
		a := c.poll(ctx, t, code)
		if a.Error != "authorization_pending" {
			return a
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}

// claims reads the ID token without checking it: that is the gateway's part.
func claims(t *testing.T, a answer) map[string]any {
	t.Helper()
	parts := strings.Split(a.IDToken, ".")
	if len(parts) != 3 {
		t.Fatalf("no ID token; error %q", a.Error)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(payload, &all); err != nil {
		t.Fatal(err)
	}
	return all
}
