// Package idp is the identity provider of the demo: OpenID Connect discovery
// with the device authorization grant (RFC 8628) and a sign-in page, in memory.
//
// It is for trying things on one machine. Its accounts and their passwords are
// printed on its own sign-in page, nothing is rate limited (RFC 8628 §5.1 asks
// a real one to), and everything is forgotten when the process ends. So that it
// never becomes more than that, New accepts a loopback address as issuer only.
package idp

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// The defaults; the options below change them.
const (
	defaultCodeLife  = 10 * time.Minute
	defaultTokenLife = time.Hour
	defaultInterval  = 5 * time.Second // RFC 8628 §3.2
)

// maxBody is more than any form or token request here needs.
const maxBody = 64 << 10

type settings struct {
	issuer    string
	codeLife  time.Duration
	tokenLife time.Duration
	interval  time.Duration
	now       func() time.Time // the one clock of this package
}

// An Option changes a default of New.
type Option func(*settings)

// WithCodeLife sets how long a device code and its user code can be used.
func WithCodeLife(d time.Duration) Option { return func(s *settings) { s.codeLife = d } }

// WithTokenLife sets how long ID and access tokens are good.
func WithTokenLife(d time.Duration) Option { return func(s *settings) { s.tokenLife = d } }

// WithInterval sets the least time between two polls of a device, in whole
// seconds.
func WithInterval(d time.Duration) Option { return func(s *settings) { s.interval = d } }

// A Server is the identity provider; it answers the paths below its issuer.
type Server struct {
	handler http.Handler
}

// New makes an identity provider whose issuer is issuer, an http URL of a
// loopback address without a path.
func New(issuer string, opts ...Option) (*Server, error) {
	if err := checkIssuer(issuer); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", issuer, err)
	}
	set := settings{
		issuer:    issuer,
		codeLife:  defaultCodeLife,
		tokenLife: defaultTokenLife,
		interval:  defaultInterval,
		now:       time.Now,
	}
	for _, opt := range opts {
		opt(&set)
	}

	dir := newDirectory()
	store, err := newStorage(set, dir)
	if err != nil {
		return nil, err
	}
	protocol, err := newProtocol(set, store)
	if err != nil {
		return nil, err
	}
	pages := newPages(set, dir, store)

	mux := http.NewServeMux()
	for _, pattern := range []string{
		"GET /.well-known/openid-configuration", "GET " + pathKeys,
		"POST " + pathDevice, "POST " + pathToken, "POST " + pathRevoke,
		"GET " + pathUserinfo, "POST " + pathUserinfo,
	} {
		mux.Handle(pattern, protocol)
	}
	mux.Handle(pathPages, pages)
	mux.Handle(pathPages+"/", pages)
	mux.Handle("GET /{$}", http.RedirectHandler(pathPages, http.StatusSeeOther))
	return &Server{handler: mux}, nil
}

// ServeHTTP answers protocol and page requests alike.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.handler.ServeHTTP(w, r)
}

// checkIssuer refuses what this server could not, or should not, serve.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil {
		return err
	}
	if u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("must be an http URL")
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("must be a scheme, a host and a port only")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("must be a loopback address: the passwords of the demo are public")
	}
	return nil
}

// secret returns a random string that nobody can guess, for tokens, session
// ids and form tokens.
func secret() string { return rand.Text() + rand.Text() }
