package redisstore

import (
	"context"
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

// Dial makes a client from a URL:
//
//	redis://user:password@host:6379/0                                      one server
//	rediss://...                                                           the same over TLS
//	redis://host:26379/0?master_name=NAME&addr=host2:26379                 Sentinel
//	redis://host:7000?addr=host2:7001&addr=host3:7002                      Cluster
//
// Further parameters are go-redis's own (pool_size, read_timeout, ...). It does not
// connect yet. The error does not repeat the URL, which may hold a password.
func Dial(rawURL string) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, errBadScheme
	}
	switch q := u.Query(); {
	case q.Has("master_name"):
		o, err := redis.ParseFailoverURL(rawURL)
		if err != nil {
			return nil, badURL(err, rawURL)
		}
		o.MaxRetries, o.ContextTimeoutEnabled = -1, true
		orTimeouts(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		return redis.NewFailoverClient(o), nil
	case q.Has("addr"):
		o, err := redis.ParseClusterURL(rawURL)
		if err != nil {
			return nil, badURL(err, rawURL)
		}
		o.ContextTimeoutEnabled = true
		orTimeouts(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		return redis.NewClusterClient(o), nil
	default:
		o, err := redis.ParseURL(rawURL)
		if err != nil {
			return nil, badURL(err, rawURL)
		}
		o.MaxRetries, o.ContextTimeoutEnabled = -1, true
		orTimeouts(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		return redis.NewClient(o), nil
	}
}

var errBadScheme = errors.New("redisstore: the Redis URL must begin with redis:// or rediss://")

// Plain says what a URL leaves out that a Redis needs which is reached over a network: TLS,
// a password. Empty: nothing, or all its hosts are on this machine.
func Plain(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" {
		return "", errBadScheme
	}
	away := slices.ContainsFunc(append([]string{u.Host}, u.Query()["addr"]...), func(host string) bool {
		name := (&url.URL{Host: host}).Hostname()
		ip, err := netip.ParseAddr(name)
		return name != "" && name != "localhost" && (err != nil || !ip.Unmap().IsLoopback())
	})
	_, password := u.User.Password()
	switch {
	case !away:
		return "", nil
	case u.Scheme != "rediss":
		return "Redis is reached over a network without TLS, and the log and the password travel in the clear; begin with rediss://", nil
	case !password:
		return "Redis is reached over a network without a password, and whoever reaches it could delete what limits guessing; say rediss://:PASSWORD@HOST", nil
	}
	return "", nil
}

// orTimeouts sets what the URL left open. A courier at a door is told "try again" after
// a second rather than kept waiting for three.
func orTimeouts(dial, read, write *time.Duration) {
	for _, d := range []*time.Duration{dial, read, write} {
		if *d == 0 {
			*d = time.Second
		}
	}
}

func badURL(err error, rawURL string) error {
	if strings.Contains(err.Error(), rawURL) {
		return fmt.Errorf("redisstore: the Redis URL cannot be read")
	}
	return fmt.Errorf("redisstore: the Redis URL: %w", err)
}

// Durability is what an accepted handoff survives, as Redis is configured.
type Durability int

// From weakest to strongest.
const (
	Memory      Durability = iota // nothing: a restart of Redis loses everything since its last snapshot
	EverySecond                   // a crash of Redis or its machine loses up to about two seconds
	Always                        // an acknowledged write is on disk
)

var durabilityNames = [...]string{"memory", "everysec", "always"}

func (d Durability) String() string { return durabilityNames[d] }

// ParseDurability reads what String writes.
func ParseDurability(name string) (Durability, error) {
	for d, n := range durabilityNames {
		if n == name {
			return Durability(d), nil
		}
	}
	return 0, fmt.Errorf("durability must be one of %s", strings.Join(durabilityNames[:], ", "))
}

// Promise says in a sentence what d means to an operator.
func (d Durability) Promise() string {
	return [...]string{
		"appendonly is off: a restart of Redis loses what came after its last snapshot",
		"appendfsync everysec: a crash loses up to about two seconds of accepted handoffs",
		"appendfsync always: an accepted handoff survives a crash; a failover may still lose what no replica had",
	}[d]
}

// Durability asks every node that takes writes, and answers with the weakest. Where CONFIG
// is not allowed the error says so, and the answer is Memory: a promise is stated, not hoped for.
func (s *Store) Durability(ctx context.Context) (Durability, error) {
	weakest := Always
	ask := func(ctx context.Context, c *redis.Client) error {
		conf, err := c.ConfigGet(ctx, "append*").Result()
		if err != nil {
			return err
		}
		d := Memory
		if conf["appendonly"] == "yes" {
			d = EverySecond
			if conf["appendfsync"] == "always" {
				d = Always
			}
		}
		if conf["appendfsync"] == "no" {
			d = Memory
		}
		weakest = min(weakest, d)
		return nil
	}
	var err error
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		// ForEachMaster asks in parallel; one at a time is soon enough at start.
		err = c.ForEachMaster(ctx, lockstep(ask))
	case *redis.Client:
		err = ask(ctx, c)
	default:
		err = fmt.Errorf("redisstore: cannot ask a %T", c)
	}
	if err != nil {
		return Memory, err
	}
	return weakest, nil
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
