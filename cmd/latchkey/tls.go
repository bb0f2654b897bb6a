package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"latchkey/handoff/keyring"
)

// certificate is a TLS key pair of two files, PEM, which may be replaced while it serves.
type certificate struct {
	certFile, keyFile string

	pair atomic.Pointer[tls.Certificate]
	seen [2]stamp // of the files, as they were last looked at
}

// stamp tells whether a file was replaced since.
type stamp struct {
	modified time.Time
	size     int64
}

func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	c.replaced()
	return c, c.load()
}

// load reads the pair. One that is broken changes nothing.
func (c *certificate) load() error {
	pair, err := readPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair.Store(pair)
	return nil
}

// readPair reads a certificate with its chain, and its key, both PEM. One that is over is an error.
func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	key, err := keyring.ReadSecret(keyFile)
	if err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s: the certificate ended at %s", certFile, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &pair, nil
}

// replaced reports whether either file is another than at the last look.
func (c *certificate) replaced() bool {
	before := c.seen
	for i, path := range []string{c.certFile, c.keyFile} {
		c.seen[i] = stamp{}
		if info, err := os.Stat(path); err == nil {
			c.seen[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return c.seen != before
}

// config serves what is the pair at each handshake: TLS 1.2 and newer, HTTP/1.1 alone.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
	}
}

// certificateLook is how often the files are looked at.
const certificateLook = 10 * time.Second

// watch reads the pair at each signal, and when the files were replaced, until ctx ends. Files that
// are replaced one after the other do not fit each other for a moment: they are tried
// again at the next look, and after that only once they change.
func (c *certificate) watch(ctx context.Context, again <-chan os.Signal, look <-chan time.Time, log *slog.Logger) {
	failed := 0
	for {
		told := false
		select {
		case <-ctx.Done():
			return
		case <-again:
			told = true
		case <-look:
		}
		if !c.replaced() && !told && failed != 1 {
			continue
		}
		if err := c.load(); err != nil {
			failed++
			log.Error("the TLS certificate stays as it was: the files are not accepted", "error", err)
			continue
		}
		failed = 0
		log.Info("the TLS certificate was read again", "until", c.pair.Load().Leaf.NotAfter)
	}
}

var errHalfTLS = errors.New("--tls-cert and --tls-key go together")
