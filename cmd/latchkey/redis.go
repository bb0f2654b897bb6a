package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/door"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/service"
)

// redisAt is how a command reaches the service's Redis: the flags of every command that does.
type redisAt struct {
	RedisURL string `required:"" env:"LATCHKEY_REDIS_URL" placeholder:"URL" help:"redis[s]://[USER@]HOST:PORT; with ?addr=... a Cluster, with ?master_name=...&addr=... Sentinel (${env})."`

	redisAccess
}

// redisAccess is what is shown to Redis, and believed of it, besides what its URL says.
type redisAccess struct {
	RedisPasswordFile         string `env:"LATCHKEY_REDIS_PASSWORD_FILE" placeholder:"FILE" type:"path" help:"The password, in place of one in the URL (${env})."`
	RedisSentinelPasswordFile string `env:"LATCHKEY_REDIS_SENTINEL_PASSWORD_FILE" placeholder:"FILE" type:"path" help:"The Sentinels' password, likewise (${env})."`

	RedisCA         string `name:"redis-ca" env:"LATCHKEY_REDIS_CA" placeholder:"FILE" type:"path" help:"The authorities that sign Redis's certificates, PEM; left out: the system's (${env})."`
	RedisCert       string `env:"LATCHKEY_REDIS_CERT" placeholder:"FILE" type:"path" help:"The certificate that is shown to Redis, PEM; read at each connection (${env})."`
	RedisKey        string `env:"LATCHKEY_REDIS_KEY" placeholder:"FILE" type:"path" help:"Its private key, PEM (${env})."`
	RedisServerName string `env:"LATCHKEY_REDIS_SERVER_NAME" placeholder:"NAME" help:"What Redis's certificates are for, if not the hosts under which the servers are reached (${env})."`
}

// access is what the files say.
func (r *redisAt) access() (a redisstore.Access, err error) {
	for _, p := range []struct {
		path string
		into *string
	}{{r.RedisPasswordFile, &a.Password}, {r.RedisSentinelPasswordFile, &a.SentinelPassword}} {
		if p.path == "" {
			continue
		}
		if *p.into, err = keyring.ReadPassword(p.path); err != nil {
			return a, err
		}
	}
	a.ServerName = r.RedisServerName
	if r.RedisCA != "" {
		content, err := os.ReadFile(r.RedisCA)
		if err != nil {
			return a, err
		}
		if a.Roots = x509.NewCertPool(); !a.Roots.AppendCertsFromPEM(content) {
			return a, fmt.Errorf("%s holds no certificate", r.RedisCA)
		}
	}
	if (r.RedisCert == "") != (r.RedisKey == "") {
		return a, errors.New("--redis-cert and --redis-key go together")
	}
	if r.RedisCert != "" {
		if _, err := r.certificate(); err != nil {
			return a, err
		}
		a.Certificate = r.certificate
	}
	return a, nil
}

func (r *redisAt) certificate() (*tls.Certificate, error) { return readPair(r.RedisCert, r.RedisKey) }

// unsafe says what the URL leaves out, and whether it would believe any certificate. Only
// whether there is a password is asked of the files here.
func (r *redisAt) unsafe() (plain string, unverified bool, err error) {
	given := redisstore.Access{Password: r.RedisPasswordFile, SentinelPassword: r.RedisSentinelPasswordFile}
	if plain, err = redisstore.Plain(r.RedisURL, given); err != nil {
		return "", false, err
	}
	unverified, err = redisstore.Unverified(r.RedisURL)
	return plain, unverified, err
}

// open makes a store on the service's Redis. Done lets go of it. It does not connect yet.
func (r *redisAt) open(c redisstore.Config) (store *redisstore.Store, done func() error, err error) {
	return r.openFor(c, nil)
}

// openFor is open of a store of which nothing is asked that a sentry does not let pass; nil
// lets all pass.
func (r *redisAt) openFor(c redisstore.Config, s *sentry) (store *redisstore.Store, done func() error, err error) {
	a, err := r.access()
	if err != nil {
		return nil, nil, err
	}
	if s != nil {
		a.Admit = s.admit
	}
	if c.Client, err = redisstore.DialWith(r.RedisURL, a); err != nil {
		return nil, nil, err
	}
	if s != nil {
		redisstore.Guard(c.Client, s.closed)
	}
	if store, err = redisstore.New(c); err != nil {
		return nil, nil, errors.Join(err, c.Client.Close())
	}
	return store, c.Client.Close, nil
}

// redisInsecurities are the faults of a Redis that --insecure allows, by its names.
var redisInsecurities = map[string]redisstore.FaultKind{"redis-evicts": redisstore.FaultEvicts, "redis-unknown": redisstore.FaultUnknown, "clock-apart": redisstore.FaultClock}

// insecurityOf is the name by which --insecure allows a fault; empty if none does.
func insecurityOf(kind redisstore.FaultKind) string {
	for name, k := range redisInsecurities {
		if k == kind {
			return name
		}
	}
	return ""
}

// firstLook is how Redis must be for serve to start: it can be reached, it takes writes, it
// loses no more than the operator allowed, and it promises what is demanded.
func (c *serveCmd) firstLook(ctx context.Context, store *redisstore.Store, clk clock.Clock) (*redisstore.Watch, redisstore.Condition, error) {
	var allowed []redisstore.FaultKind
	for _, name := range c.Insecure {
		if kind, ok := redisInsecurities[name]; ok {
			allowed = append(allowed, kind)
		}
	}
	asked, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	watch := redisstore.NewWatch(store, clk.Now, allowed...)
	found, err := watch.Look(asked)
	if err != nil {
		return nil, found, fmt.Errorf("cannot reach Redis: %w", err)
	}
	for _, f := range found.Faults {
		switch name := insecurityOf(f.Kind); {
		case watch.Allows(f.Kind):
		case name == "":
			return nil, found, f
		default:
			return nil, found, fmt.Errorf("%w (or allow it with --insecure=%s)", f, name)
		}
	}
	if demanded, promise := c.Durability, found.Durability; promise < demanded.Disk {
		return nil, found, fmt.Errorf("durability %s is demanded, and Redis promises %s: %s", demanded.Disk, promise, promise.Promise())
	}
	return watch, found, nil
}

// lookEvery is how often a running service looks whether its Redis is fit.
const lookEvery = 5 * time.Second

// watchman tells of a fault when it begins and when it ends.
type watchman struct {
	*redisstore.Watch
	metrics *instruments
	log     *slog.Logger
	known   map[redisstore.FaultKind]string // what was told, by kind
	lost    int64
	masters []string // the processes of the last look

	// signal puts on the log that the clocks differ, for the duty officer. It is tried again while
	// unsaid; nil: it is in the service's own log alone.
	signal func(ctx context.Context) error
	unsaid bool
}

// look is one look. An error is one of the way to Redis.
func (w *watchman) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	found, err := w.Look(ctx)
	if err != nil {
		return err
	}
	w.tell(found)
	if w.unsaid && w.signal != nil {
		err = w.signal(ctx)
		w.unsaid = err != nil
	}
	return err
}

// signalClocks is a watchman's signal on a store.
func signalClocks(store *redisstore.Store, clk clock.Clock) func(context.Context) error {
	return func(ctx context.Context) error {
		now := handoff.InstantOf(clk.Now())
		return store.Append(ctx, now, handoff.Event{Type: handoff.EventSignal, At: now, By: string(handoff.RoleService), Reason: handoff.ClocksApart})
	}
}

func (w *watchman) tell(found redisstore.Condition) {
	w.metrics.redis(found)
	w.switched(found.Processes)
	if w.known == nil {
		w.known = map[redisstore.FaultKind]string{}
	}
	for _, kind := range redisstore.FaultKinds {
		i := slices.IndexFunc(found.Faults, func(f redisstore.Fault) bool { return f.Kind == kind })
		says, was := "", w.known[kind]
		if i >= 0 {
			says = found.Faults[i].Says
		}
		switch {
		case says == "" && was != "":
			w.log.Info(told(kind, "the clocks agree again", "Redis is well again"), "fault", string(kind), "said", was)
			delete(w.known, kind)
		case says != "" && (was == "" || kind == redisstore.FaultEvicts && found.Evicted > w.lost):
			w.log.Error(told(kind, "the clocks differ", "Redis is not fit to keep grants"), "fault", string(kind), "says", says, "allowed", w.Allows(kind), "evicted_keys", found.Evicted)
			w.known[kind] = says
			w.unsaid = w.unsaid || kind == redisstore.FaultClock
		}
	}
	w.lost = found.Evicted
}

// switched tells of masters in the place of others. A Cluster that grows or shrinks is none.
func (w *watchman) switched(masters []string) {
	if len(masters) == 0 {
		return // none says who it is
	}
	missing := func(from []string) (n int) {
		for _, id := range w.masters {
			if !slices.Contains(from, id) {
				n++
			}
		}
		return n
	}
	gone := missing(masters)
	came := len(masters) - (len(w.masters) - gone)
	if n := min(gone, came); n > 0 {
		w.metrics.switches.Add(float64(n))
		w.log.Warn("another Redis is master, or it was started again: writes that were acknowledged just before may be lost", "masters", n)
	}
	w.masters = slices.Clone(masters)
}

// told is what is said of a fault: of the clocks or, of any other kind, of Redis.
func told(kind redisstore.FaultKind, ofClocks, ofRedis string) string {
	if kind == redisstore.FaultClock {
		return ofClocks
	}
	return ofRedis
}

// closer lets go of what newSystem's parts hold, as an io.Closer.
type closer func() error

func (c closer) Close() error { return c() }

var _ io.Closer = closer(nil)

// openStore opens a service's store for a command. Retention is of no effect where the
// command changes no grant. Done lets go of it.
func openStore(at *redisAt, ring *keyring.Ring, retention time.Duration) (store *redisstore.Store, done func(), err error) {
	store, hangUp, err := at.open(redisstore.Config{Sealer: ring, Retention: retention})
	if err != nil {
		return nil, nil, err
	}
	return store, func() { store.Close(); _ = hangUp() }, nil
}

// openService opens a service for a command that changes grants, and its store. Done ends both.
func openService(at *redisAt, ring *keyring.Ring, policyFile string, retention time.Duration) (store *redisstore.Store, grants *service.Service, done func(), err error) {
	policy, err := loadPolicy(policyFile)
	if err != nil {
		return nil, nil, nil, err
	}
	store, hangUp, err := openStore(at, ring, retention)
	if err != nil {
		return nil, nil, nil, err
	}
	grants, err = service.New(service.Config{Store: store, Policy: policy, Clock: wallClock{}, Namer: ring, Random: rand.Reader, Keypads: door.PINs{}})
	if err != nil {
		hangUp()
		return nil, nil, nil, err
	}
	return store, grants, func() { grants.Close(); hangUp() }, nil
}
