package redisstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Access is what a client shows and believes besides what its URL says, so that no secret
// has to stand in an argument or the environment.
type Access struct {
	Password         string // of the servers that hold data; empty: the URL's, if it has one
	SentinelPassword string // likewise of the Sentinels

	// Roots are the authorities whose certificates are believed; nil: the system's.
	Roots *x509.CertPool

	// Certificate is shown to a server that asks for one, and called at each handshake, so
	// that a renewed one is shown without a restart; nil: none is shown.
	Certificate func() (*tls.Certificate, error)

	// ServerName is what every server's certificate must be for; empty: the host under which
	// each is dialed, which is the URL's, or what Sentinels or the Cluster announce.
	ServerName string

	// Admit says whether anything may be asked of a server, by what its process is called
	// (empty: it does not say). It is called for each new connection; nil: of any.
	Admit func(process string) bool
}

// onConnect asks Admit; nil where there is none.
func (a Access) onConnect() func(context.Context, *redis.Conn) error {
	if a.Admit == nil {
		return nil
	}
	return func(ctx context.Context, c *redis.Conn) error {
		process, err := processOf(ctx, c)
		if err == nil && !a.Admit(process) {
			return ErrOlder
		}
		return err
	}
}

// Dial makes a client from a URL:
//
//	redis://user:password@host:6379/0                                      one server
//	rediss://...                                                           the same over TLS
//	redis://host:26379/0?master_name=NAME&addr=host2:26379                 Sentinel
//	redis://host:7000?addr=host2:7001&addr=host3:7002                      Cluster
//
// For Sentinel the user and password before the @ are those of the Sentinels, and those of
// the servers that hold data are the parameters username and password. Further parameters
// are go-redis's own (pool_size, read_timeout, ...). It does not connect yet. The error
// does not repeat the URL, which may hold a password.
func Dial(rawURL string) (redis.UniversalClient, error) { return DialWith(rawURL, Access{}) }

// DialWith is Dial with more than a URL should say.
func DialWith(rawURL string, a Access) (redis.UniversalClient, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	for _, name := range fromReplicas {
		if u.Query().Has(name) {
			return nil, fmt.Errorf("redisstore: the Redis URL: %s would read from replicas, which may not know yet what was revoked or counted", name)
		}
	}
	secure := u.Scheme == "rediss"
	if !secure && (a.Roots != nil || a.Certificate != nil || a.ServerName != "") {
		return nil, errors.New("redisstore: certificates are of use over TLS alone: the Redis URL must begin with rediss://")
	}
	switch kindOf(u) {
	case sentinel:
		o, err := redis.ParseFailoverURL(rawURL)
		if err != nil {
			return nil, badURL(err, rawURL)
		}
		if err := errors.Join(either(&o.Password, a.Password), either(&o.SentinelPassword, a.SentinelPassword)); err != nil {
			return nil, err
		}
		o.TLSConfig = a.tls(o.TLSConfig)
		o.MaxRetries, o.ContextTimeoutEnabled, o.OnConnect = -1, true, a.onConnect()
		orPatience(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.DialerRetries)
		return redis.NewFailoverClient(o), nil
	case cluster:
		o, err := redis.ParseClusterURL(rawURL)
		if err != nil {
			return nil, badURL(err, rawURL)
		}
		if err := errors.Join(either(&o.Password, a.Password), unasked(a.SentinelPassword)); err != nil {
			return nil, err
		}
		o.TLSConfig = a.tls(o.TLSConfig)
		o.ContextTimeoutEnabled, o.OnConnect = true, a.onConnect()
		o.ClusterStateReloadInterval = topologyKept
		if o.MaxRetryBackoff == 0 {
			o.MaxRetryBackoff = topologyKept / 10
		}
		orPatience(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.DialerRetries)
		return redis.NewClusterClient(o), nil
	default:
		o, err := redis.ParseURL(rawURL)
		if err != nil {
			return nil, badURL(err, rawURL)
		}
		if err := errors.Join(either(&o.Password, a.Password), unasked(a.SentinelPassword)); err != nil {
			return nil, err
		}
		o.TLSConfig = a.tls(o.TLSConfig)
		o.MaxRetries, o.ContextTimeoutEnabled, o.OnConnect = -1, true, a.onConnect()
		orPatience(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.DialerRetries)
		return redis.NewClient(o), nil
	}
}

// fromReplicas are go-redis's parameters by which it would read from replicas.
var fromReplicas = []string{"read_only", "route_by_latency", "route_randomly", "replica_only", "use_disconnected_replicas"}

// kind is which sort of Redis a URL is of.
type kind int

const (
	single kind = iota
	sentinel
	cluster
)

func kindOf(u *url.URL) kind {
	switch q := u.Query(); {
	case q.Has("master_name"):
		return sentinel
	case q.Has("addr"):
		return cluster
	}
	return single
}

func parse(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, errBadScheme
	}
	return u, nil
}

// either takes a password from a file where the URL has none. Two are refused: which
// one is meant is not known.
func either(password *string, given string) error {
	switch {
	case given == "":
	case *password != "":
		return errors.New("redisstore: a password is in the Redis URL and given besides: leave one out")
	default:
		*password = given
	}
	return nil
}

func unasked(password string) error {
	if password != "" {
		return errors.New("redisstore: a password for Sentinels is given, and the Redis URL has no master_name")
	}
	return nil
}

// tls is how servers are known over TLS; nil without TLS. Go-redis would ask every server of a
// set for a certificate of the URL's first host. Left empty, the name is that of each dial.
func (a Access) tls(parsed *tls.Config) *tls.Config {
	if parsed == nil {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.ServerName, RootCAs: a.Roots, InsecureSkipVerify: parsed.InsecureSkipVerify}
	if a.Certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return a.Certificate() }
	}
	return c
}

var errBadScheme = errors.New("redisstore: the Redis URL must begin with redis:// or rediss://")

// Plain says what a URL leaves out that a Redis needs which is reached over a network: TLS,
// a password. Empty: nothing, or all its hosts are on this machine.
func Plain(rawURL string, a Access) (string, error) {
	u, err := parse(rawURL)
	if err != nil {
		return "", err
	}
	away := slices.ContainsFunc(append([]string{u.Host}, u.Query()["addr"]...), func(host string) bool {
		name := (&url.URL{Host: host}).Hostname()
		ip, err := netip.ParseAddr(name)
		return name != "" && name != "localhost" && (err != nil || !ip.Unmap().IsLoopback())
	})
	before, _ := u.User.Password()
	const reached = "Redis is reached over a network without "
	switch {
	case !away:
		return "", nil
	case u.Scheme != "rediss":
		return reached + "TLS, and the log and the password travel in the clear; begin with rediss://", nil
	case kindOf(u) != sentinel && before == "" && a.Password == "":
		return reached + "a password, and anyone who reaches it could delete what limits guessing; say rediss://:PASSWORD@HOST, or give the password by a file", nil
	case kindOf(u) == sentinel && before == "" && a.SentinelPassword == "":
		return reached + "a password for its Sentinels, and anyone who reaches them could name another master; say rediss://:PASSWORD@HOST, or give the password by a file", nil
	case kindOf(u) == sentinel && u.Query().Get("password") == "" && a.Password == "":
		return reached + "a password for the servers behind its Sentinels, and anyone who reaches them could delete what limits guessing; say &password=PASSWORD, or give the password by a file", nil
	}
	return "", nil
}

// Unverified reports whether a URL asks to believe any certificate.
func Unverified(rawURL string) (bool, error) {
	u, err := parse(rawURL)
	if err != nil {
		return false, err
	}
	// Read as go-redis does, and in doubt as if it meant it.
	return slices.ContainsFunc(u.Query()["skip_verify"], func(v string) bool { return v != "" && v != "0" && v != "false" }), nil
}

// topologyKept is how long it is believed, while nothing says otherwise, which server of a Cluster
// serves what: it is asked anew by the first command after that, behind its answer. MOVED and a
// lost connection have it asked at once ([lanes.execute]). go-redis's own value is a minute, and
// for as long nothing that a dead master served would be served.
const topologyKept = time.Second

// orPatience sets what the URL left open. A courier at a door is told "try again" after a second
// rather than kept waiting for three, and a dial that failed is not tried again: go-redis would
// dial five times in a row a server that is gone, and what waits for it is tried again anyway.
func orPatience(dial, read, write *time.Duration, dials *int) {
	for _, d := range []*time.Duration{dial, read, write} {
		if *d == 0 {
			*d = time.Second
		}
	}
	if *dials == 0 {
		*dials = 1
	}
}

func badURL(err error, rawURL string) error {
	if strings.Contains(err.Error(), rawURL) {
		return fmt.Errorf("redisstore: the Redis URL cannot be read")
	}
	return fmt.Errorf("redisstore: the Redis URL: %w", err)
}

func lockstep(f func(context.Context, *redis.Client) error) func(context.Context, *redis.Client) error {
	turn := make(chan struct{}, 1)
	return func(ctx context.Context, c *redis.Client) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		return f(ctx, c)
	}
}

// Observe reports how long each trip to Redis took, and whether it failed.
func Observe(client redis.UniversalClient, trip func(took time.Duration, failed bool)) {
	client.AddHook(stopwatch(trip))
}

type stopwatch func(took time.Duration, failed bool)

func (stopwatch) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s stopwatch) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		s(time.Since(began), err != nil && !isReply(err))
		return err
	}
}

func (s stopwatch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		s(time.Since(began), err != nil && !isReply(err))
		return err
	}
}

// LogTo sends what the Redis client says of itself (dials that fail, masters that
// change) to a logger. It is process-wide, as in the client.
func LogTo(log *slog.Logger) { redis.SetLogger(clientLog{log}) }

type clientLog struct{ *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	l.WarnContext(ctx, "redis client", "said", fmt.Sprintf(format, v...))
}
