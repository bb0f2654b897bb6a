// Package mailtest gives tests of mail two peers: [Postfix], a real mail server
// that keeps what it was given in a mailbox, and [Sink], a server inside the test
// that fails on demand and at the exact moment.
//
// The methods of both report failure through the test they belong to, so they are
// called from its goroutine. The package needs a Unix.
package mailtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	waitFor   = 20 * time.Second      // a server answers, and mail arrives, by then or the test fails
	pollEvery = 10 * time.Millisecond // between two looks
)

// Message is one mail that a server took.
type Message struct {
	From   string      // envelope sender, RFC 5321 MAIL FROM
	To     []string    // envelope recipients; Postfix files one message for each
	Header mail.Header // names canonical, values still encoded (RFC 2047)
	Body   []byte      // as transferred: multipart and encodings unresolved
	Raw    []byte      // header and body; those of Postfix have its own fields on top
}

func parse(raw []byte) (Message, error) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return Message{}, err
	}
	body, err := io.ReadAll(m.Body)
	return Message{Header: m.Header, Body: body, Raw: raw}, err
}

// ID returns the Message-ID without its angle brackets.
func (m Message) ID() string {
	return strings.Trim(m.Header.Get("Message-ID"), "<> ")
}

// Subject returns the decoded subject.
func (m Message) Subject() (string, error) {
	return new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
}

var errNoPart = errors.New("no such part")

// Part returns the first part of a media type such as "text/plain", freed from its
// transfer encoding. Its character set is not converted.
func (m Message) Part(mediaType string) (string, error) {
	text, err := findPart(textproto.MIMEHeader(m.Header), bytes.NewReader(m.Body), mediaType)
	if err != nil {
		return "", fmt.Errorf("%s: %w", mediaType, err)
	}
	return text, nil
}

func findPart(h textproto.MIMEHeader, body io.Reader, want string) (string, error) {
	got, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return "", err
	}
	if got == want {
		text, err := io.ReadAll(decoder(h.Get("Content-Transfer-Encoding"), body))
		return string(text), err
	}
	if !strings.HasPrefix(got, "multipart/") {
		return "", errNoPart
	}
	parts := multipart.NewReader(body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return "", errNoPart
		}
		if err != nil {
			return "", err
		}
		text, err := findPart(part.Header, part, want)
		if !errors.Is(err, errNoPart) {
			return text, err
		}
	}
}

func decoder(encoding string, r io.Reader) io.Reader {
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	}
	return r
}

// Option changes how a server is started.
type Option func(*options)

type options struct {
	startTLS bool
	bounces  []string
}

// StartTLS makes the server offer STARTTLS (RFC 3207) with a certificate of its own
// making, which clients trust through the server's ClientTLS.
func StartTLS() Option { return func(o *options) { o.startTLS = true } }

// Bounces has [Postfix] give mail to [Bounced] addresses to a program, with the recipient as its last
// argument, as a user without rights. Mail to [Gone] is taken, and comes back.
func Bounces(program string, args ...string) Option {
	return func(o *options) { o.bounces = append([]string{program}, args...) }
}

func apply(opts []Option) options {
	var o options
	for _, f := range opts {
		f(&o)
	}
	return o
}

// selfSigned returns a certificate for 127.0.0.1 and localhost, and the
// configuration of a client that trusts nothing else.
func selfSigned(tb testing.TB) (tls.Certificate, *tls.Config) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("mailtest: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatalf("mailtest: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatalf("mailtest: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		&tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

// missing skips the test for want of what a real server needs, so that a laptop
// can run the rest, and fails it where a silent skip would hide that nothing was
// proven: when CI=true or LATCHKEY_REAL=required.
func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "true" || os.Getenv("LATCHKEY_REAL") == "required" {
		tb.Fatal(what)
	}
	tb.Skip(what)
}
