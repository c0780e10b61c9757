// This file tests the bolt store inside Caddy: which file it is, a restart, and
// a file that another process has.

package caddydevice

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// TestBoltStoreFile: two spellings of one path are one store.
func TestBoltStoreFile(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(root, "real")
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	t.Setenv("XDG_DATA_HOME", root)
	t.Setenv("DEVICE_AUTH_TEST_DIR", real)
	link := filepath.Join(root, "link")
	if err := os.Symlink(real, link); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("no symbolic links without a privilege: ", err)
		}
		t.Fatal(err)
	}
	want := filepath.Join(real, "new", "sessions.db")
	for _, row := range []struct{ name, path, want string }{
		{"default", "", filepath.Join(root, "caddy", "device_auth", "sessions.db")},
		{"absolute", want, want},
		{"not clean", real + "//x/..//new/./sessions.db", want},
		{"relative", filepath.Join("real", "new", "sessions.db"), want},
		{"through a link", filepath.Join(link, "new", "sessions.db"), want},
		{"placeholder", filepath.Join("{env.DEVICE_AUTH_TEST_DIR}", "new", "sessions.db"), want},
		{"another", filepath.Join(real, "new", "other.db"), filepath.Join(real, "new", "other.db")},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := &BoltStore{Path: row.path}
			if err := s.Provision(caddy.Context{}); err != nil {
				t.Fatal(err)
			}
			if got := s.StoreKey(); got != "bolt "+row.want {
				t.Errorf("%q, want the file %q", got, row.want)
			}
			if s.Path != row.path {
				t.Errorf("the configuration became %q", s.Path)
			}
			st, err := s.OpenStore()
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Dir(row.want)); !os.IsNotExist(err) {
				t.Errorf("the directory was made: %v", err)
			}
		})
	}
}

// TestBoltIsTheDefault, and a configuration that is only validated makes no
// file.
func TestBoltIsTheDefault(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	cfg, err := adapt("{\n log {\n output discard\n }\n}\nhttps://api.example.com {\n device_auth {\n issuer https://idp.example.com\n client_id x\n }\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	var config caddy.Config
	if err := json.Unmarshal([]byte(cfg), &config); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&config); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "caddy", "device_auth", "sessions.db")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("validating made the file: %v", err)
	}

	r := startCaddyOn(t, "")
	if status, answer, body := r.get("/", ""); status != http.StatusUnauthorized || answer["user_code"] == nil {
		t.Errorf("%d %s", status, body)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("no file: %v", err)
	}
}

// TestRestart: who is signed in stays so over the end of Caddy, and a sign-in
// that is under way goes on with the same code.
func TestRestart(t *testing.T) {
	r := startCaddyOn(t, "store bolt "+filepath.ToSlash(filepath.Join(t.TempDir(), "sessions.db")))
	r.idp.Device = func(n int) idptest.Reply {
		answer := idptest.Device(r.idp.Issuer, n)
		answer["interval"] = 1
		return idptest.JSON(http.StatusOK, answer)
	}
	key := func() string {
		_, answer, _ := r.get("/", "")
		key, _ := answer["session"].(string)
		return key
	}
	signedIn, signedOut, pending := key(), key(), key()
	for i, k := range []string{signedIn, signedOut} {
		r.idp.Approve([]string{"device-canary-1", "device-canary-2"}[i])
		if status, _, body := r.get("/.device/wait?timeout=30", k); status != http.StatusOK {
			t.Fatalf("sign-in %d: %d %s", i, status, body)
		}
	}
	r.logout(signedOut)

	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.load(""); err != nil {
		t.Fatal(err)
	}
	if status, _, body := r.get("/x", signedIn); status != http.StatusOK || body != "hello sub-alice" {
		t.Errorf("who is signed in: %d %s", status, body)
	}
	if status, answer, body := r.get("/x", signedOut); status != http.StatusUnauthorized || answer["user_code"] != nil {
		t.Errorf("who has signed out: %d %s", status, body)
	}
	if _, answer, body := r.get("/", pending); answer["user_code"] != "WDJB-0003" {
		t.Errorf("the code is %v: %s", answer["user_code"], body)
	}
	r.idp.Approve("device-canary-3")
	if status, _, body := r.get("/.device/wait?timeout=30", pending); status != http.StatusOK {
		t.Errorf("the sign-in under way: %d %s", status, body)
	}
	if n := len(r.idp.Calls("/device")); n != 3 {
		t.Errorf("%d device authorizations, want 3", n)
	}
}

func (r *running) logout(key string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://"+r.addr+"/.device/logout", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		r.t.Fatalf("logout: %d", resp.StatusCode)
	}
}

// TestStoreInUse: where another process has the file, Caddy starts, answers
// 503, and goes on by itself once the file is free.
func TestStoreInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sessions.db")
	other, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r := startCaddyOn(t, "store bolt "+filepath.ToSlash(path))
	if status, answer, body := r.get("/", ""); status != http.StatusServiceUnavailable || answer["error"] != "temporarily_unavailable" {
		t.Errorf("%d %s", status, body)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, _, body := r.get("/", ""); status == http.StatusUnauthorized {
			break
		} else if time.Now().After(late) {
			t.Fatalf("still %d %s", status, body)
		}
	}
}
