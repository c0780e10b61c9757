// Starting and stopping the three parts of the demo.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	_ "github.com/caddydevice/device-auth/caddydevice"
	"github.com/caddydevice/device-auth/examples/demo/echo"
	"github.com/caddydevice/device-auth/examples/demo/idp"
)

const loopback = "127.0.0.1"

// A demo is the three parts while they run.
type demo struct {
	dir     string // what Caddy writes, until stop
	caddy   bool   // Caddy runs
	servers []*http.Server
	failed  chan error // a server that ended by itself
}

// start brings the parts up, upstream and identity provider before the gate
// that talks to them. After an error nothing is left running.
func start(p ports, caddyfile string) (_ *demo, err error) {
	d := &demo{failed: make(chan error, 2)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()

	provider, err := idp.New("http://" + address(p.idp))
	if err != nil {
		return nil, err
	}
	if d.dir, err = privateData(); err != nil {
		return nil, err
	}
	// Caddy shares a port with any program that lets it, so it would not notice
	// another gate on this one. This listener does, and keeps the port meanwhile.
	gate, err := listen(p.gate, "gate")
	if err != nil {
		return nil, err
	}
	defer func() { _ = gate.Close() }() // closing twice is no harm
	if err := d.serve(p.upstream, "upstream", echo.New()); err != nil {
		return nil, err
	}
	if err := d.serve(p.idp, "idp", provider); err != nil {
		return nil, err
	}
	_ = gate.Close()
	return d, d.startCaddy(caddyfile)
}

// privateData gives Caddy a data directory of its own: sessions of one run are
// of no use to the next, whose identity provider knows nothing of them.
func privateData() (string, error) {
	dir, err := os.MkdirTemp("", "device-auth-demo-")
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	if err := os.Setenv("XDG_DATA_HOME", dir); err != nil {
		return dir, fmt.Errorf("data directory: %w", err)
	}
	caddy.DefaultStorage.Path = filepath.Join(dir, "caddy")
	return dir, nil
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

func listen(port int, flagName string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is in use by another program: end that one, or choose another port with -%s <port>", port, flagName)
	}
	if err != nil {
		return nil, fmt.Errorf("port %d cannot be used, choose another with -%s <port>: %w", port, flagName, err)
	}
	return ln, nil
}

func (d *demo) serve(port int, flagName string, handler http.Handler) error {
	ln, err := listen(port, flagName)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	d.servers = append(d.servers, server)
	go func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			d.failed <- fmt.Errorf("%s: %w", flagName, err)
		}
	}()
	return nil
}

func (d *demo) startCaddy(caddyfile string) error {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").
		Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	if len(warnings) > 0 {
		return fmt.Errorf("gate: %s", warnings[0])
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	d.caddy = true
	return nil
}

// stop ends the parts, the gate first, since it still talks to the others.
func (d *demo) stop() error {
	var errs []error
	if d.caddy {
		errs = append(errs, caddy.Stop())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, server := range d.servers {
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // a client that does not let go; the demo is over for it
		}
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir)) //nolint:gosec // G703: made by os.MkdirTemp
	}
	return errors.Join(errs...)
}
