// This file holds the way to an identity provider: whom TLS trusts, what it
// shows of itself, and the proxy.

package idp

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// Network is a way to an identity provider that is not the plain one. A nil
// one is that.
type Network struct {
	// TLS says whom to trust, which name to look for, and which certificate
	// to show; nil is the default for all of it. Its other fields do not count.
	TLS *tls.Config
	// Proxy returns the proxy for a request, nil for none. It is not asked
	// about requests to loopback, and no environment variable is read.
	Proxy func(*http.Request) (*url.URL, error)
	// Settings are what the way was made from. Two are equal where these are,
	// and the certificates that were read.
	Settings secret.String
}

// Equal reports whether both lead the same way, trusting and showing the same.
func (n *Network) Equal(other *Network) bool {
	if n == nil || other == nil {
		return n == other
	}
	if n.TLS == nil || other.TLS == nil {
		return n.Settings == other.Settings && n.TLS == other.TLS
	}
	return n.Settings == other.Settings && equalPools(n.TLS.RootCAs, other.TLS.RootCAs) &&
		slices.EqualFunc(n.TLS.Certificates, other.TLS.Certificates, equalCertificates)
}

func equalPools(a, b *x509.CertPool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}

func equalCertificates(a, b tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// ForOthers is the same way to another issuer: what is about this one alone,
// its name and what it is shown, is left out, and its certificate is checked.
func (n *Network) ForOthers() *Network {
	if n == nil {
		return nil
	}
	others := &Network{Proxy: n.Proxy, Settings: n.Settings}
	if n.TLS != nil {
		others.TLS = &tls.Config{RootCAs: n.TLS.RootCAs, MinVersion: tls.VersionTLS12}
	}
	return others
}

// showsCertificate reports whether there is a client certificate to show.
func (n *Network) showsCertificate() bool {
	return n != nil && n.TLS != nil && (len(n.TLS.Certificates) > 0 || n.TLS.GetClientCertificate != nil)
}

// transport has our bounds, whichever way it goes.
func (n *Network) transport(timeout time.Duration) *http.Transport {
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    timeout,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
	}
	if n == nil {
		return t
	}
	if n.Proxy != nil {
		t.Proxy = n.proxyUnlessLoopback
	}
	if n.TLS != nil {
		t.TLSClientConfig.RootCAs = n.TLS.RootCAs
		t.TLSClientConfig.ServerName = n.TLS.ServerName
		t.TLSClientConfig.InsecureSkipVerify = n.TLS.InsecureSkipVerify
		t.TLSClientConfig.Certificates = n.TLS.Certificates
		t.TLSClientConfig.GetClientCertificate = n.TLS.GetClientCertificate
	}
	return t
}

// proxyUnlessLoopback keeps a request to this machine from being made by the
// proxy to its own, over a network that plain http must not cross.
func (n *Network) proxyUnlessLoopback(r *http.Request) (*url.URL, error) {
	if isLoopback(r.URL.Hostname()) {
		return nil, nil
	}
	return n.Proxy(r)
}
