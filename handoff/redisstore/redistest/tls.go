package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Authority is a certificate authority of a test's own, with a certificate for servers on
// 127.0.0.1 and one for clients, as PEM files with mode 0600.
type Authority struct {
	CA                      string
	ServerCert, ServerKey   string
	ClientCert, ClientKey   string
	StrangeCA               string // of an authority that signed none of them
	StrangeCert, StrangeKey string // a client's, signed by that one
}

// NewAuthority makes all of it.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	dir := tb.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	a := &Authority{
		CA: path("ca.pem"), ServerCert: path("server.pem"), ServerKey: path("server.key"),
		ClientCert: path("client.pem"), ClientKey: path("client.key"),
		StrangeCA: path("strange-ca.pem"), StrangeCert: path("strange.pem"), StrangeKey: path("strange.key"),
	}
	own, strange := newIssuer(tb, a.CA), newIssuer(tb, a.StrangeCA)
	own.sign(tb, "server", a.ServerCert, a.ServerKey)
	own.sign(tb, "client", a.ClientCert, a.ClientKey)
	strange.sign(tb, "stranger", a.StrangeCert, a.StrangeKey)
	return a
}

// Conf are the lines by which a server speaks TLS on a port of its own ([Server.TLSAddr]), to
// clients that show a certificate of the authority; servers of a set speak it to each other.
func (a *Authority) Conf() []string {
	return []string{
		"tls-ca-cert-file " + a.CA, "tls-cert-file " + a.ServerCert, "tls-key-file " + a.ServerKey,
		"tls-replication yes", "tls-cluster yes",
	}
}

// ofTLS are the lines of a configuration that are about TLS.
func ofTLS(conf []string) []string {
	return slices.DeleteFunc(slices.Clone(conf), func(line string) bool { return !strings.HasPrefix(line, "tls-") })
}

func isTLS(conf []string) bool {
	return slices.ContainsFunc(conf, func(line string) bool { return strings.HasPrefix(line, "tls-cert-file ") })
}

type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(tb testing.TB, file string) *issuer {
	tb.Helper()
	template := certificate(tb, "authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	key := newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, file, "CERTIFICATE", der)
	return &issuer{template, key}
}

func (i *issuer) sign(tb testing.TB, name, certFile, keyFile string) {
	tb.Helper()
	template, key := certificate(tb, name), newKey(tb)
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.DNSNames = []string{name + ".example"}
	// A server of a set is a client of the others.
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, certFile, "CERTIFICATE", der)
	write(tb, keyFile, "PRIVATE KEY", private)
}

func certificate(tb testing.TB, name string) *x509.Certificate {
	tb.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(1, 0, 0)}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func write(tb testing.TB, file, kind string, der []byte) {
	tb.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
}
