// Discovery, and how clients name themselves and prove who they are.

package idp

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func TestDiscovery(t *testing.T) {
	c := newServer(t)
	resp, err := c.Get(testIssuer + "/.well-known/openid-configuration")
	got := read(t, resp, err).json(t)
	want := map[string]any{
		"issuer":                                testIssuer,
		"device_authorization_endpoint":         testIssuer + "/device_authorization",
		"token_endpoint":                        testIssuer + "/token",
		"userinfo_endpoint":                     testIssuer + "/userinfo",
		"revocation_endpoint":                   testIssuer + "/revoke",
		"jwks_uri":                              testIssuer + "/keys",
		"scopes_supported":                      []any{"openid", "profile", "email", "offline_access"},
		"grant_types_supported":                 []any{"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"},
		"token_endpoint_auth_methods_supported": []any{"none", "client_secret_basic", "client_secret_post"},
		"id_token_signing_alg_values_supported": []any{"ES256"},
		"authorization_endpoint":                nil,
	}
	for key, value := range want {
		if !reflect.DeepEqual(got[key], value) {
			t.Errorf("%s: got %v, want %v", key, got[key], value)
		}
	}
}

func TestDeviceAuthorizationAnswer(t *testing.T) {
	c := newServer(t)
	a := post(t, c, pathDevice, url.Values{"client_id": {"demo"}, "scope": {"openid"}})
	got := a.json(t)
	code, _ := got["user_code"].(string)
	if len(code) != 9 || code[4] != '-' {
		t.Errorf("user code %q", code)
	}
	want := map[string]any{
		"verification_uri":          testIssuer + "/device",
		"verification_uri_complete": testIssuer + "/device?user_code=" + code,
		"expires_in":                600.0,
		"interval":                  5.0,
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: got %v, want %v", key, got[key], value)
		}
	}
}

func TestClientAuthentication(t *testing.T) {
	tests := map[string]struct {
		form   url.Values
		basic  [2]string
		status int
		err    string
	}{
		"public":                 {form: url.Values{"client_id": {"demo"}}, status: 200},
		"secret in header":       {basic: [2]string{"demo-confidential", "demo-secret"}, status: 200},
		"secret in form":         {form: url.Values{"client_id": {"demo-confidential"}, "client_secret": {"demo-secret"}}, status: 200},
		"wrong secret in header": {basic: [2]string{"demo-confidential", "wrong"}, status: 401, err: "invalid_client"},
		"wrong secret in form":   {form: url.Values{"client_id": {"demo-confidential"}, "client_secret": {"wrong"}}, status: 401, err: "invalid_client"},
		"no secret":              {form: url.Values{"client_id": {"demo-confidential"}}, status: 401, err: "invalid_client"},
		"unknown client":         {form: url.Values{"client_id": {"nobody"}}, status: 401, err: "invalid_client"},
		"no client":              {form: url.Values{}, status: 400, err: "invalid_request"},
	}
	c := newServer(t)
	grants := map[string]url.Values{
		pathDevice: {"scope": {"openid"}},
		// A poll with a code that nobody has: past client authentication it fails.
		pathToken: {"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {"none"}},
	}
	for name, tt := range tests {
		for path, fields := range grants {
			t.Run(name+path, func(t *testing.T) {
				form := url.Values{}
				for _, from := range []url.Values{fields, tt.form} {
					for k, v := range from {
						form[k] = v
					}
				}
				status, failure := tt.status, tt.err
				if path == pathToken && status == 200 {
					status, failure = 400, "invalid_grant"
				}
				a := authenticated(t, c, path, form, tt.basic)
				if got, _ := a.json(t)["error"].(string); a.StatusCode != status || got != failure {
					t.Fatalf("got %d %q, want %d %q", a.StatusCode, got, status, failure)
				}
				if challenge := a.Header.Get("WWW-Authenticate"); (status == 401) != strings.HasPrefix(challenge, "Basic") {
					t.Errorf("WWW-Authenticate %q with %d", challenge, status)
				}
			})
		}
	}
}

func authenticated(t *testing.T, c *http.Client, path string, form url.Values, basic [2]string) answer {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, testIssuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if basic[0] != "" {
		req.SetBasicAuth(basic[0], basic[1])
	}
	resp, err := c.Do(req)
	return read(t, resp, err)
}

// TestConfidentialFlow: the whole flow of a client with a secret.
func TestConfidentialFlow(t *testing.T) {
	c := newServer(t)
	f := beginAs(t, c, url.Values{"client_id": {"demo-confidential"}, "client_secret": {"demo-secret"}})
	h := newHuman(t, c)
	h.reachApproval(t, f, "alice", "alice-demo")
	h.decide(t, "approve")

	wrong := f
	wrong.client = url.Values{"client_id": {"demo-confidential"}, "client_secret": {"wrong"}}
	wrong.wantPoll(t, "invalid_client")
	f.wantPoll(t, "") // the wrong secret has not used up the code
}

// TestMethods: nothing that changes something can be done by following a link.
func TestMethods(t *testing.T) {
	c := newServer(t)
	for _, path := range []string{pathDevice, pathToken, pathRevoke, pathSignIn, pathSignOut} {
		resp, err := c.Get(testIssuer + path + "?client_id=demo")
		if a := read(t, resp, err); a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d", path, a.StatusCode)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	tests := map[string]string{
		"not loopback":  "http://192.0.2.1:9081",
		"a name":        "http://idp.example.com",
		"all addresses": "http://0.0.0.0:9081",
		"https":         "https://127.0.0.1:9081",
		"a path":        "http://127.0.0.1:9081/realm",
		"a slash":       "http://127.0.0.1:9081/",
		"no URL":        "demo",
	}
	for name, issuer := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := New(issuer); err == nil || !strings.Contains(err.Error(), issuer) {
				t.Errorf("New(%q): %v", issuer, err)
			}
		})
	}
	for _, issuer := range []string{"http://localhost:9081", "http://[::1]:9081", testIssuer} {
		if _, err := New(issuer); err != nil {
			t.Error(err)
		}
	}
}
