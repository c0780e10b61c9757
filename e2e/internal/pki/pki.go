// Package pki makes keys and certificates for a test, in files as an operator
// has them.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The kinds of keys.
const (
	RSA     = "RSA"
	EC      = "EC"
	Ed25519 = "Ed25519"
)

// Pair is a private key with a certificate, and the files of both.
type Pair struct {
	Name              string
	KeyFile, CertFile string
	key               crypto.Signer
	certificate       *x509.Certificate
}

// New makes a pair. It is signed by issuer, or by itself where that is nil, and
// is for the hosts.
func New(t testing.TB, kind, name string, issuer *Pair, hosts ...string) *Pair {
	t.Helper()
	dir := t.TempDir()
	p := &Pair{Name: name, KeyFile: filepath.Join(dir, "key.pem"), CertFile: filepath.Join(dir, "cert.pem"), key: newKey(t, kind)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        issuer == nil, BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	if issuer == nil {
		issuer = &Pair{key: p.key, certificate: template}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, p.key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	write(t, p.CertFile, "CERTIFICATE", der)
	if der, err = x509.MarshalPKCS8PrivateKey(p.key); err != nil {
		t.Fatal(err)
	}
	write(t, p.KeyFile, "PRIVATE KEY", der)
	return p
}

// Pool trusts this pair alone, and what it has signed.
func (p *Pair) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.certificate)
	return pool
}

// JWK is the public half, with the certificate.
func (p *Pair) JWK() jose.JSONWebKey {
	return jose.JSONWebKey{Key: p.key.Public(), KeyID: p.Name, Use: "sig", Certificates: []*x509.Certificate{p.certificate}}
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case EC:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no kind of key is called %s", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
