package mail

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
)

// Server is where mail is handed in, as [ParseURL] reads it. It prints without its
// credentials.
type Server struct {
	host, port     string
	user, password string
	security       security
	roots          *x509.CertPool // nil: the system's
}

// security is how the connection is protected.
type security int

const (
	plain       security = iota // loopback only
	startTLS                    // RFC 3207, mandatory
	implicitTLS                 // RFC 8314 section 3.3
)

var schemes = [...]string{plain: "smtp", startTLS: "smtp", implicitTLS: "smtps"}

// The errors of ParseURL. None repeats any of the URL, since it may hold a password.
var (
	ErrURL    = errors.New("mail: the SMTP URL must be smtp://[USER:PASSWORD@]HOST[:PORT] or smtps://..., with ?ca=FILE at most")
	ErrCAFile = errors.New("mail: the file that ca= of the SMTP URL names cannot be read as PEM certificates")
)

// ParseURL reads the address of a mail server:
//
//	smtp://[USER:PASSWORD@]HOST[:PORT][?ca=FILE]   port 587 (RFC 6409), STARTTLS
//	smtps://...                                    port 465 (RFC 8314), TLS from the start
//
// The server's certificate is verified, against the system's roots or those in FILE.
// STARTTLS is mandatory: a server that does not offer it gets no mail. To a loopback
// address smtp:// speaks plainly and leaves STARTTLS alone, even where it is offered:
// that line does not leave the machine, and the certificate of a mail server that serves its
// own host is seldom one that could be verified. With ca= it is mandatory there too.
// On a plain line a password is only used by mechanisms that do not show it.
func ParseURL(text string) (Server, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return Server{}, ErrURL
	}
	s := Server{host: u.Hostname(), user: u.User.Username()}
	var hasPassword bool
	if s.password, hasPassword = u.User.Password(); hasPassword != (s.user != "") {
		return Server{}, ErrURL
	}

	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Server{}, ErrURL
	}
	file := query.Get("ca")
	if query.Del("ca"); len(query) > 0 {
		return Server{}, ErrURL
	}
	if file != "" {
		pem, err := os.ReadFile(file)
		s.roots = x509.NewCertPool()
		if err != nil || !s.roots.AppendCertsFromPEM(pem) {
			return Server{}, ErrCAFile
		}
	}

	switch u.Scheme {
	case "smtp":
		s.security, s.port = startTLS, cmp.Or(u.Port(), "587")
		if s.roots == nil && isLoopback(s.host) {
			s.security = plain
		}
	case "smtps":
		s.security, s.port = implicitTLS, cmp.Or(u.Port(), "465")
	default:
		return Server{}, ErrURL
	}
	if n, err := strconv.ParseUint(s.port, 10, 16); err != nil || n == 0 {
		return Server{}, ErrURL
	}
	return s, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s Server) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: s.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12}
}

func (s Server) address() string { return net.JoinHostPort(s.host, s.port) }

// UnmarshalText is ParseURL, for flags and files.
func (s *Server) UnmarshalText(text []byte) (err error) {
	*s, err = ParseURL(string(text))
	return err
}

// ErrTwice says that credentials were given where the URL has some already.
var ErrTwice = errors.New("mail: the SMTP URL has a user and a password, and others are given besides: leave one out")

// As is the server with a user and a password that its URL leaves out.
func (s Server) As(user, password string) (Server, error) {
	if s.user != "" {
		return s, ErrTwice
	}
	s.user, s.password = user, password
	return s, nil
}

// String is the URL without credentials; empty for no server.
func (s Server) String() string {
	if s.host == "" {
		return ""
	}
	return schemes[s.security] + "://" + s.address()
}

// MarshalText is String.
func (s Server) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Format prints String for every verb.
func (s Server) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }
