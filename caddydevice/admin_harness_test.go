// This file holds what the tests of the admin endpoint share.

package caddydevice

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// admin is the admin endpoint of a Caddy in this process.
type admin struct {
	t    *testing.T
	addr string
}

func startAdmin(t *testing.T) *admin {
	t.Helper()
	a := &admin{t, freeAddress(t)}
	load := func(cfg caddy.AdminConfig) {
		none := false
		cfg.Config = &caddy.ConfigSettings{Persist: &none}
		if err := caddy.Load(mustJSON(t, caddy.Config{Admin: &cfg, Logging: quiet}), true); err != nil {
			t.Fatal(err)
		}
	}
	load(caddy.AdminConfig{Listen: a.addr})
	t.Cleanup(func() {
		load(caddy.AdminConfig{Disabled: true}) // ends the listener, which Stop does not
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// do sends a request as it stands, without a browser's or curl's corrections.
func (a *admin) do(method, uri string, header map[string]string) (*http.Response, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.addr, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	path, query, _ := strings.Cut(uri, "?")
	req.URL.Opaque, req.URL.RawQuery = path, query
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if host := header["Host"]; host != "" {
		req.Host = host
	}
	bare := *client
	bare.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := bare.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp, string(body)
}

// page is a listing that has to be given.
func (a *admin) page(query string) sessionPage {
	a.t.Helper()
	resp, body := a.do(http.MethodGet, adminPath+query, nil)
	var page sessionPage
	if err := json.Unmarshal([]byte(body), &page); resp.StatusCode != http.StatusOK || err != nil {
		a.t.Fatalf("%s: %d %s", query, resp.StatusCode, body)
	}
	return page
}

func idOf(t *testing.T, key string) string {
	t.Helper()
	k, ok := session.ParseKey(key)
	if !ok {
		t.Fatalf("%q is no key", key)
	}
	return k.ID().String()
}

// putOrphan puts a session of a provider into the store that no configuration
// has.
func putOrphan(t *testing.T, st store.Store, id string) {
	t.Helper()
	now := time.Now()
	err := st.Put(t.Context(), store.Record{
		ID: id, Kind: "terminal", Site: "old.example.com", Provider: "https://gone.example.com old client", Version: 1,
		Created: now, Changed: now, Until: now.Add(25 * time.Hour), State: "active", Subject: "<b>zoë</b>", Body: []byte("sealed"),
		Indexes: []store.Index{session.SubjectIndex("https://gone.example.com", "<b>zoë</b>")},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sharedStore is the store that the test's gates have in common.
func sharedStore(t *testing.T) store.Store {
	t.Helper()
	all := openStores()
	if len(all) != 1 {
		t.Fatalf("there are %d stores", len(all))
	}
	return all[0]
}

// pool makes a store one of the process's.
func pool(t *testing.T, key string, st store.Store) {
	t.Helper()
	if _, _, err := stores.LoadOrNew(key, func() (caddy.Destructor, error) { return pooledStore{st}, nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := stores.Delete(key); err != nil {
			t.Error(err)
		}
	})
}
