// This file holds the store module that needs no server: a file in Caddy's data
// directory.

package caddydevice

import (
	"fmt"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

func init() {
	caddy.RegisterModule(BoltStore{})
}

// BoltStore keeps sessions in a file, so that they survive the end of Caddy. It
// is opened by the first request that needs it. One Caddy at a time can use the
// file; requests are answered with 503 where another one has it.
//
// The file and its directory are made for Caddy's user alone, and wider
// permissions of a file that exists are taken back. What is in it signs nobody
// in: only the clients hold the keys to their sessions. To start over, remove
// the file while Caddy is stopped: everybody signs in anew. An old copy that is
// put back brings sessions back that have been signed out since.
type BoltStore struct {
	// The file. Default: device_auth/sessions.db in Caddy's data directory.
	// Placeholders like {env.STATE_DIRECTORY} are replaced when the
	// configuration is loaded.
	Path string `json:"path,omitempty"`

	file string // absolute, without symbolic links
}

// CaddyModule returns the Caddy module information.
func (BoltStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "device_auth.stores.bolt",
		New: func() caddy.Module { return new(BoltStore) },
	}
}

// Provision finds out which file it is. Nothing is opened or made.
func (s *BoltStore) Provision(caddy.Context) error {
	path, err := caddy.NewReplacer().ReplaceOrErr(s.Path, true, true)
	if err != nil {
		return fmt.Errorf("store bolt: path: %w; set it, or write the path itself", err)
	}
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "device_auth", "sessions.db")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("store bolt: path %q: %w", path, err)
	}
	s.file = withoutLinks(abs)
	return nil
}

// withoutLinks resolves the symbolic links of as much of a path as exists, so
// that two spellings of one file are one store: opened twice in one process, it
// would wait for its own lock.
func withoutLinks(path string) string {
	rest := ""
	for dir := path; ; {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return path
		}
		rest = filepath.Join(filepath.Base(dir), rest)
		dir = parent
	}
}

// StoreKey implements StoreOpener.
func (s *BoltStore) StoreKey() string { return "bolt " + s.file }

// OpenStore implements StoreOpener.
func (s *BoltStore) OpenStore() (store.Store, error) { return store.NewBolt(s.file), nil }

// UnmarshalCaddyfile takes the file's path, or none for the default.
//
//	store bolt [<path>]
func (s *BoltStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the store's name
	if d.NextArg() {
		if s.Path = d.Val(); s.Path == "" {
			return d.Err("store bolt: the path is empty: write one, or leave it out")
		}
	}
	if d.NextArg() {
		return d.Errf("store bolt: unexpected %q: it takes one path", d.Val())
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("store bolt: unexpected %q: it has no block", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ StoreOpener           = (*BoltStore)(nil)
	_ caddy.Provisioner     = (*BoltStore)(nil)
	_ caddyfile.Unmarshaler = (*BoltStore)(nil)
)
