// This file checks that a gateway really takes requests over TLS: Caddy says
// that it serves before its own authority has made the certificates.
package gate

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// retryTime is how long to wait between two attempts to connect.
const retryTime = 50 * time.Millisecond

// waitForCertificates waits until each name that Caddy manages a certificate
// for can be connected to. Which names and addresses these are stands in the
// log only: they are found out after the configuration is loaded.
func waitForCertificates(ctx context.Context, log []string) error {
	var addresses, names []string
	for _, line := range log {
		var r struct {
			Message string   `json:"msg"`
			Address string   `json:"address"`
			TLS     bool     `json:"tls"`
			Domains []string `json:"domains"`
		}
		if json.Unmarshal([]byte(line), &r) != nil {
			continue
		}
		switch r.Message {
		case "starting server loop":
			if r.TLS {
				addresses = append(addresses, r.Address)
			}
		case "enabling automatic TLS certificate management":
			names = append(names, r.Domains...)
		}
	}
	if len(addresses) == 0 {
		return nil
	}
	for _, name := range names {
		if strings.Contains(name, "*") {
			continue
		}
		if err := waitForName(ctx, addresses, name); err != nil {
			return fmt.Errorf("the gateway has no certificate for %s: %w", name, err)
		}
	}
	return nil
}

func waitForName(ctx context.Context, addresses []string, name string) error {
	tick := time.NewTicker(retryTime)
	defer tick.Stop()
	for {
		var all error
		for _, address := range addresses {
			err := handshake(ctx, address, name)
			if err == nil {
				return nil
			}
			all = errors.Join(all, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return all
		}
	}
}

func handshake(ctx context.Context, address, name string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	// Only whether there is a certificate matters here, not whose it is.
	return tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).HandshakeContext(ctx)
}

// waitForListener waits until the listener of the configuration before is gone:
// Caddy closes it a moment after it says that the new one is loaded, and with
// it the connections that nobody has accepted yet.
func (g *Gate) waitForListener(ctx context.Context) error {
	const inARow = 5
	tick := time.NewTicker(retryTime / 5)
	defer tick.Stop()
	for good := 0; good < inARow; {
		if answers(ctx, net.JoinHostPort("127.0.0.1", g.Port())) {
			good++
		} else {
			good = 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("the gateway does not answer after a reload")
		}
	}
	return nil
}

// answers reports whether a server says anything to a request on a connection
// of its own, be it that it wants TLS.
func answers(ctx context.Context, address string) bool {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	if _, err := c.Write([]byte("GET /.device/nothing HTTP/1.0\r\n\r\n")); err != nil {
		return false
	}
	n, _ := c.Read(make([]byte, 1))
	return n == 1
}
