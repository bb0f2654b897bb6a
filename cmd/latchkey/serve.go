package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/door"
	"latchkey/handoff/identity"
	"latchkey/handoff/keyring"
	"latchkey/handoff/receipt"
	"latchkey/handoff/redisstore"
	"latchkey/notify/mail"
)

// serveCmd is the service. Every flag can also come from the environment or, by
// --config, from a file.
type serveCmd struct {
	Addr string `env:"LATCHKEY_ADDR" default:"127.0.0.1:8080" help:"Where to listen (${env})."`

	TLSCert        string         `name:"tls-cert" env:"LATCHKEY_TLS_CERT" placeholder:"FILE" type:"path" help:"Serve TLS with this certificate and its chain, PEM; read again when it changes and on SIGHUP (${env})."`
	TLSKey         string         `name:"tls-key" env:"LATCHKEY_TLS_KEY" placeholder:"FILE" type:"path" help:"The certificate's private key, PEM (${env})."`
	Hosts          []string       `env:"LATCHKEY_HOSTS" placeholder:"NAME,..." help:"The names by which the service is asked for; others are refused (${env})."`
	TrustedProxies []netip.Prefix `env:"LATCHKEY_TRUSTED_PROXIES" placeholder:"CIDR,..." help:"Networks of the proxies whose X-Forwarded-For is believed (${env})."`

	MaxConnections           int `env:"LATCHKEY_MAX_CONNECTIONS" default:"8192" help:"Connections open at once (${env})."`
	MaxConnectionsPerAddress int `env:"LATCHKEY_MAX_CONNECTIONS_PER_ADDRESS" default:"1024" help:"Connections of one address, or of one IPv6 /64, but for trusted proxies (${env})."`

	Insecure []string `env:"LATCHKEY_INSECURE" placeholder:"NAME,..." help:"Allow by name what is refused as unsafe: plain-http, any-host, any-proxy, redis-plain, redis-skip-verify, redis-evicts, redis-unknown, clock-apart, debug (${env})."`

	redisAt

	Keyset     string            `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"Keys that seal what is stored, made by: latchkey keys new (${env})."`
	Epoch      string            `env:"LATCHKEY_EPOCH" placeholder:"FILE" type:"path" help:"Where this instance notes what Redis acknowledged, by which it knows a Redis that was put back to an earlier state; left out: KEYSET.epoch. Never back it up with Redis (${env})."`
	Policy     string            `required:"" env:"LATCHKEY_POLICY" placeholder:"FILE" type:"path" help:"The operator's rules; see docs/policy.md (${env})."`
	Durability redisstore.Demand `env:"LATCHKEY_DURABILITY" default:"memory" help:"Refuse to start on a Redis that promises less: memory, everysec or always; replicated:N acknowledges what N replicas have; both with a comma (${env})."`
	Retention  time.Duration     `env:"LATCHKEY_RETENTION" default:"720h" help:"How long grants and events are kept after their day (${env})."`
	Lanes      int               `env:"LATCHKEY_LANES" default:"2" help:"Pipelines that concurrent requests share; 0: each its own; 4 for a Cluster (${env})."`

	SMTPURL          mail.Server `name:"smtp-url" required:"" env:"LATCHKEY_SMTP_URL" placeholder:"URL" help:"smtp://[USER:PASSWORD@]HOST[:PORT] (STARTTLS but on loopback) or smtps://... (${env})."`
	SMTPUser         string      `name:"smtp-user" env:"LATCHKEY_SMTP_USER" placeholder:"USER" help:"The user at the mail server, in place of one in the URL (${env})."`
	SMTPPasswordFile string      `name:"smtp-password-file" env:"LATCHKEY_SMTP_PASSWORD_FILE" placeholder:"FILE" type:"path" help:"The password of --smtp-user (${env})."`
	SMTPConnections  int         `name:"smtp-connections" env:"LATCHKEY_SMTP_CONNECTIONS" default:"32" help:"Connections to the mail server at once, at most; how many it is adapts to what the server bears (${env})."`

	BounceAddress string `env:"LATCHKEY_BOUNCE_ADDRESS" placeholder:"ADDRESS" help:"To where mails with codes come back that cannot be delivered; latchkey bounce reads them there (${env})."`
	MailReceipts  bool   `env:"LATCHKEY_MAIL_RECEIPTS" help:"Ask to be told when mails with codes were delivered, where the mail server offers that; takes --bounce-address (${env})."`

	MailFrom     string            `required:"" env:"LATCHKEY_MAIL_FROM" placeholder:"ADDRESS" help:"The sender of mails (${env})."`
	AccountURL   string            `env:"LATCHKEY_ACCOUNT_URL" placeholder:"URL" help:"The customer's page of a parcel, with {grant_id} where its grant's id belongs, for a shop that has one of its own; mails link to it, and without it to this service's page below --public-url (${env})."`
	PublicURL    string            `name:"public-url" env:"LATCHKEY_PUBLIC_URL" placeholder:"URL" help:"Where people reach this service, such as https://HOST: for its pages, for sign-in and for links in mails to residents; without it there are none of these (${env})."`
	ShopNames    map[string]string `env:"LATCHKEY_SHOP_NAMES" placeholder:"ID=NAME;..." help:"What mails call the shops (${env})."`
	CarrierNames map[string]string `env:"LATCHKEY_CARRIER_NAMES" placeholder:"ID=NAME;..." help:"What mails call the carriers (${env})."`
	DKIMKey      string            `name:"dkim-key" env:"LATCHKEY_DKIM_KEY" placeholder:"FILE" type:"path" help:"Sign mails with this RSA or Ed25519 key, PEM (${env})."`
	DKIMDomain   string            `name:"dkim-domain" env:"LATCHKEY_DKIM_DOMAIN" help:"The signing domain (${env})."`
	DKIMSelector string            `name:"dkim-selector" env:"LATCHKEY_DKIM_SELECTOR" help:"The selector of the key (${env})."`

	Issuers string `required:"" env:"LATCHKEY_ISSUERS" placeholder:"FILE" type:"path" help:"Whose tokens are accepted, and for what; see docs/issuers.md. Read again on SIGHUP (${env})."`

	MaxKeyLife span `env:"LATCHKEY_MAX_KEY_LIFE" default:"365d" placeholder:"90d" help:"How long an API key works at most, whatever it was made with; a year at most (${env})."`

	SessionLife time.Duration `env:"LATCHKEY_SESSION_LIFE" default:"12h" help:"How long a browser stays signed in at most (${env})."`
	SessionIdle time.Duration `env:"LATCHKEY_SESSION_IDLE" default:"2h" help:"How long it stays so unused (${env})."`

	DoorKeys    string `env:"LATCHKEY_DOOR_KEYS" placeholder:"FILE" type:"path" help:"Keys that sign permits for doors, made by: latchkey keys doors new; without it no door is opened (${env})."`
	ReceiptKeys string `env:"LATCHKEY_RECEIPT_KEYS" placeholder:"FILE" type:"path" help:"The key that signs receipts, made by: latchkey keys receipts new; without it there are none (${env})."`

	DoorRevocation string `env:"LATCHKEY_DOOR_REVOCATION" placeholder:"FILE" type:"path" help:"The newest revocation list that the doors' root key signed, base64url (${env})."`

	Debug bool `env:"LATCHKEY_DEBUG" help:"Log more (${env})."`
}

func loadPolicy(path string) (*handoff.Policy, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	policy, err := handoff.ParsePolicy(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return policy, nil
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// settings are what the flags, and the files that they name, say. Reading them asks no server.
type settings struct {
	hosts      func(string) bool // nil: any
	pair       *certificate      // nil: no TLS
	ring       *keyring.Ring
	policy     *handoff.Policy
	signer     *door.Signer  // nil: no door is opened
	receipts   *receipt.Keys // nil: no receipts are given
	revocation []byte
	sender     *mail.Sender
	trust      []auth.Trust
}

// mostSMTPConnections is more than any mail server lets one client have.
const mostSMTPConnections = 1000

// settings reads them, and refuses what is unsafe or cannot be.
func (c *serveCmd) settings(clk clock.Clock) (*settings, error) {
	if err := c.unsafe(); err != nil {
		return nil, err
	}
	if c.MaxConnections < 1 || c.MaxConnectionsPerAddress < 1 {
		return nil, errors.New("--max-connections and --max-connections-per-address must be at least 1")
	}
	if err := mail.CheckBounces(c.BounceAddress); err != nil {
		return nil, fmt.Errorf("--bounce-address: %w", err)
	}
	if c.MailReceipts && c.BounceAddress == "" {
		return nil, errors.New("--mail-receipts takes --bounce-address: the receipts are sent there")
	}
	if c.SMTPConnections < 1 || c.SMTPConnections > mostSMTPConnections {
		return nil, fmt.Errorf("--smtp-connections must be from 1 to %d", mostSMTPConnections)
	}
	if err := c.checkTimes(); err != nil {
		return nil, err
	}
	if err := mail.CheckAccountURL(c.AccountURL); err != nil {
		return nil, fmt.Errorf("--account-url: %w", err)
	}
	var s settings
	var err error
	if s.hosts, err = allowHost(c.Hosts, c.PublicURL); err != nil {
		return nil, err
	}
	if c.TLSCert != "" {
		if s.pair, err = loadCertificate(c.TLSCert, c.TLSKey); err != nil {
			return nil, err
		}
	}
	if s.ring, err = keyring.Load(c.Keyset); err != nil {
		return nil, err
	}
	if s.policy, err = loadPolicy(c.Policy); err != nil {
		return nil, err
	}
	if s.signer, s.revocation, err = c.doors(); err != nil {
		return nil, err
	}
	if c.ReceiptKeys != "" {
		if s.receipts, err = loadReceiptKeys(c.ReceiptKeys); err != nil {
			return nil, err
		}
	}
	server, err := c.mailServer()
	if err != nil {
		return nil, err
	}
	if s.sender, err = mail.NewSender(mail.Config{Server: server, From: c.MailFrom, DKIM: c.dkim(), Clock: clk, Connections: c.SMTPConnections, Receipts: c.MailReceipts}); err != nil {
		return nil, err
	}
	s.trust, err = c.readIssuers()
	return &s, err
}

// hints warns of settings that are allowed, and may not be meant.
func (c *serveCmd) hints(s *settings, log *slog.Logger) {
	if c.PublicURL == "" {
		log.Warn("there are no pages, and residents are told nothing of the doors of their buildings; set --public-url")
	}
	if s.receipts == nil {
		log.Warn("handoffs have no signed receipts; set --receipt-keys")
	}
	if len(s.policy.CodeByValue) == 0 {
		log.Warn("every parcel that names a category needs a code: the policy has no code_by_value")
	}
	for _, name := range c.Insecure {
		log.Warn("an unsafe setting is allowed", "insecure", name)
	}
}

// vault is the store, with what watches its Redis.
type vault struct {
	store    *redisstore.Store
	watchman *watchman
	sentry   *sentry
	found    redisstore.Condition // at the first look
	replicas int                  // that must have a write before it is acknowledged
	keys     []identity.APIKey
	hangUp   func() error
	closing  []func() // in the order in which it was opened
}

func (v *vault) close() {
	for _, end := range slices.Backward(v.closing) {
		end()
	}
}

// vault opens the store. It is refused where its Redis is unfit. One that is older than what it
// acknowledged is halted, and serves when all is there again: the store asks the sentry before
// every connection. To close it is the caller's, also after an error.
func (c *serveCmd) vault(ctx context.Context, ring *keyring.Ring, policy *handoff.Policy, m *instruments, clk clock.Clock, log *slog.Logger) (*vault, error) {
	v := &vault{}
	opened := func(store *redisstore.Store, hangUp func() error) {
		v.closing = append(v.closing, func() { _ = hangUp() }, store.Close)
	}
	unheld, letGo, err := c.open(redisstore.Config{Sealer: ring, Retention: c.Retention, Replicas: c.Durability.Replicas})
	if err != nil {
		return v, err
	}
	opened(unheld, letGo)
	watch, found, err := c.firstLook(ctx, unheld, clk)
	if err != nil {
		return v, err
	}
	v.replicas = c.Durability.Replicas
	v.found, v.watchman = found, &watchman{Watch: watch, metrics: m, log: log}
	if v.sentry, err = newSentry(epochPath(c.Epoch, c.Keyset), unheld, c.Retention, clk.Now, m, log); err != nil {
		return v, err
	}
	if v.sentry.mender, err = newMender(unheld, policy, ring, clk.Now); err != nil {
		return v, err
	}
	v.closing = append(v.closing, v.sentry.mender.grants.Close)
	if err := v.sentry.look(ctx); err != nil {
		return v, err
	}
	if v.store, v.hangUp, err = c.openFor(redisstore.Config{Sealer: ring, Retention: c.Retention, Lanes: c.Lanes, Replicas: c.Durability.Replicas, Trip: m.trip, LogMemory: v.sentry.memory, Refused: v.sentry.refuses}, v.sentry); err != nil {
		return v, err
	}
	opened(v.store, v.hangUp)
	v.watchman.signal = signalClocks(v.store, clk)
	if err := m.topology(v.store); err != nil {
		return v, err
	}
	v.keys, err = unheld.APIKeys(ctx)
	return v, err
}

// Run serves until ctx ends. It starts with everything in its place or not at all, and
// says what is missing.
func (c *serveCmd) Run(ctx context.Context, io streams) error {
	clk := io.now()
	given, err := c.settings(clk)
	if err != nil {
		return err
	}
	log := newLog(io.err, c.Debug)
	redisstore.LogTo(log)
	c.hints(given, log)
	m, err := newInstruments()
	if err != nil {
		return err
	}
	issuers, err := auth.NewIssuers(ctx, auth.Config{
		Names: given.ring, Now: clk.Now,
		Failed: func(issuer string, err error) {
			log.Warn("an issuer's keys could not be fetched; those that are known stay in use", "issuer", issuer, "error", err)
		},
	}, given.trust...)
	if err != nil {
		return err
	}
	v, err := c.vault(ctx, given.ring, given.policy, m, clk, log)
	defer v.close()
	if err != nil {
		return err
	}
	compare := func(trust []auth.Trust) {
		warnOf(mismatches(given.policy, trust, v.keys, c.ShopNames, c.CarrierNames), log)
	}
	compare(given.trust)

	s, err := newSystem(parts{
		client: closer(v.hangUp), store: v.store, watchman: v.watchman, sentry: v.sentry,
		keys: &keyWatch{store: v.store, life: time.Duration(c.MaxKeyLife), now: clk.Now, metrics: m, log: log},
		ring: given.ring, policy: given.policy, clock: clk, sender: given.sender,
		verifier: auth.Either(issuers, auth.NewKeys(v.store, given.ring, clk.Now).Within(time.Duration(c.MaxKeyLife))),
		mailer:   mail.MailerConfig{ShopNames: c.ShopNames, CarrierNames: c.CarrierNames, AccountURL: c.AccountURL, Bounces: c.BounceAddress},
		log:      log, retention: c.Retention, metrics: m, signer: given.signer, receipts: given.receipts, revocation: given.revocation,
		publicURL: c.PublicURL, issuers: issuers, sessions: sessionTimes{life: c.SessionLife, idle: c.SessionIdle, keyLife: time.Duration(c.MaxKeyLife)},
		allowHost: given.hosts, proxies: c.TrustedProxies, tls: given.pair != nil, limited: true,
	})
	if err != nil {
		return err
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP) // from before it says that it serves
	defer signal.Stop(again)
	reloading, stop := context.WithCancel(ctx)
	defer stop()
	go c.reload(reloading, again, issuers, compare, log)

	ln, done, err := c.listener(reloading, given.pair, log)
	if err != nil {
		return err
	}
	defer done()
	v.watchman.tell(v.found)
	promise := v.found.Durability
	log.Info("serving", "addr", ln.Addr().String(), "tls", given.pair != nil, "durability", promise.String(), "promise", promise.Promise(), "replicas", v.replicas, "smtp", c.SMTPURL.String())
	return s.run(ctx, ln)
}

// listener listens, by TLS where there is a certificate, which is read again when it is replaced.
// Done ends what it began, but for the listener.
func (c *serveCmd) listener(ctx context.Context, pair *certificate, log *slog.Logger) (ln net.Listener, done func(), err error) {
	if ln, err = listen(c.Addr); err != nil {
		return nil, nil, err
	}
	ln = api.LimitListener(ln, c.MaxConnections, c.MaxConnectionsPerAddress, c.TrustedProxies)
	if pair == nil {
		return ln, func() {}, nil
	}
	replaced := make(chan os.Signal, 1)
	signal.Notify(replaced, syscall.SIGHUP)
	look := time.NewTicker(certificateLook)
	go pair.watch(ctx, replaced, look.C, log)
	return tls.NewListener(ln, pair.config()), func() { signal.Stop(replaced); look.Stop() }, nil
}

// readIssuers reads the file of issuers. The files that it names are found from its folder.
func (c *serveCmd) readIssuers() ([]auth.Trust, error) {
	content, err := os.ReadFile(c.Issuers)
	if err != nil {
		return nil, err
	}
	trust, err := auth.ParseTrust(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Issuers, err)
	}
	for _, t := range trust {
		if u, err := url.Parse(t.JWKSURL); err == nil && u.RawQuery != "" { // where a token would stand
			if _, err := keyring.ReadSecret(c.Issuers); err != nil {
				return nil, fmt.Errorf("jwks_url of %s has a query, which may hold a secret: %w", t.Issuer, err)
			}
		}
		switch {
		case t.Login == nil:
		case c.PublicURL == "":
			return nil, fmt.Errorf("%s: %s has login, which needs --public-url: where people come back to", c.Issuers, t.Issuer)
		case t.Login.SecretFile != "" && !filepath.IsAbs(t.Login.SecretFile):
			t.Login.SecretFile = filepath.Join(filepath.Dir(c.Issuers), t.Login.SecretFile)
		}
	}
	return trust, nil
}

// reload reads the file of issuers at each signal until ctx ends. One that is broken
// changes nothing.
func (c *serveCmd) reload(ctx context.Context, again <-chan os.Signal, issuers *auth.Issuers, compare func([]auth.Trust), log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
		}
		trust, err := c.readIssuers()
		if err == nil {
			err = issuers.Trust(trust...)
		}
		if err != nil {
			log.Error("the issuers stay as they were: the file is not accepted", "error", err)
			continue
		}
		log.Info("the issuers were read again", "file", c.Issuers, "entries", len(trust))
		compare(trust)
	}
}

// mailServer is the mail server with its credentials, wherever they come from.
func (c *serveCmd) mailServer() (mail.Server, error) {
	if (c.SMTPUser == "") != (c.SMTPPasswordFile == "") {
		return mail.Server{}, errors.New("--smtp-user and --smtp-password-file go together")
	}
	if c.SMTPUser == "" {
		return c.SMTPURL, nil
	}
	password, err := keyring.ReadPassword(c.SMTPPasswordFile)
	if err != nil {
		return mail.Server{}, err
	}
	return c.SMTPURL.As(c.SMTPUser, password)
}

const (
	// leastRetention is a day: what a handoff left has to be there for who asks the day after.
	leastRetention = 24 * time.Hour
	// longestSession is a week: a lost browser does not stay signed in for ever.
	longestSession = 7 * 24 * time.Hour
	leastIdle      = time.Minute // how exactly use is noted
)

// checkTimes refuses times that are too short or too long.
func (c *serveCmd) checkTimes() error {
	switch {
	case c.Retention < leastRetention:
		return fmt.Errorf("--retention %v is too short: what happened must stay for %v at least", c.Retention, leastRetention)
	case time.Duration(c.MaxKeyLife) > auth.LongestKeyLife:
		return errKeyLife
	case c.SessionLife > longestSession:
		return fmt.Errorf("--session-life %v is too long: a browser stays signed in for %v at most", c.SessionLife, longestSession)
	case c.SessionIdle < leastIdle:
		return fmt.Errorf("--session-idle %v is too short: it must be %v at least", c.SessionIdle, leastIdle)
	case c.SessionIdle > c.SessionLife:
		return fmt.Errorf("--session-idle %v is above --session-life %v", c.SessionIdle, c.SessionLife)
	}
	return nil
}

func (c *serveCmd) dkim() *mail.DKIM {
	if c.DKIMKey == "" {
		return nil
	}
	return &mail.DKIM{Domain: c.DKIMDomain, Selector: c.DKIMSelector, KeyFile: c.DKIMKey}
}
