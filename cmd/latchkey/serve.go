package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/notify/mail"
)

// serveCmd is the service. Every flag can also come from the environment or, by
// --config, from a file.
type serveCmd struct {
	Addr string `env:"LATCHKEY_ADDR" default:"127.0.0.1:8080" help:"Where to listen (${env})."`

	RedisURL   string        `required:"" env:"LATCHKEY_REDIS_URL" placeholder:"URL" help:"redis://HOST:PORT; with ?addr=... a Cluster, with &master_name=... Sentinel (${env})."`
	Keyset     string        `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"Keys that seal what is stored, made by: latchkey keys new (${env})."`
	Policy     string        `required:"" env:"LATCHKEY_POLICY" placeholder:"FILE" type:"path" help:"The operator's rules; see docs/policy.md (${env})."`
	Durability string        `env:"LATCHKEY_DURABILITY" default:"memory" enum:"memory,everysec,always" help:"Refuse to start on a Redis that promises less: ${enum} (${env})."`
	Retention  time.Duration `env:"LATCHKEY_RETENTION" default:"720h" help:"How long grants and events are kept after their day (${env})."`
	Lanes      int           `env:"LATCHKEY_LANES" default:"2" help:"Pipelines that concurrent requests share; 0: each its own; 4 for a Cluster (${env})."`

	SMTPURL      mail.Server       `name:"smtp-url" required:"" env:"LATCHKEY_SMTP_URL" placeholder:"URL" help:"smtp://[USER:PASSWORD@]HOST[:PORT] (STARTTLS but on loopback) or smtps://... (${env})."`
	MailFrom     string            `required:"" env:"LATCHKEY_MAIL_FROM" placeholder:"ADDRESS" help:"The sender of mails (${env})."`
	AccountURL   string            `env:"LATCHKEY_ACCOUNT_URL" placeholder:"URL" help:"The customer's page of a grant, with {grant_id}; mails link to it (${env})."`
	ShopNames    map[string]string `env:"LATCHKEY_SHOP_NAMES" placeholder:"ID=NAME;..." help:"What mails call the shops (${env})."`
	CarrierNames map[string]string `env:"LATCHKEY_CARRIER_NAMES" placeholder:"ID=NAME;..." help:"What mails call the carriers (${env})."`
	DKIMKey      string            `name:"dkim-key" env:"LATCHKEY_DKIM_KEY" placeholder:"FILE" type:"path" help:"Sign mails with this RSA or Ed25519 key, PEM (${env})."`
	DKIMDomain   string            `name:"dkim-domain" env:"LATCHKEY_DKIM_DOMAIN" help:"The signing domain (${env})."`
	DKIMSelector string            `name:"dkim-selector" env:"LATCHKEY_DKIM_SELECTOR" help:"The selector of the key (${env})."`

	JWKSURL  string `name:"jwks-url" required:"" env:"LATCHKEY_JWKS_URL" placeholder:"URL" help:"The keys of the issuer whose tokens are accepted (${env})."`
	Issuer   string `env:"LATCHKEY_ISSUER" help:"What its tokens must say as iss; without it, and a warning, anything (${env})."`
	Audience string `env:"LATCHKEY_AUDIENCE" help:"What its tokens must say as aud; without it, and a warning, anything (${env})."`

	DoorKeys       string `env:"LATCHKEY_DOOR_KEYS" placeholder:"FILE" type:"path" help:"Keys that sign permits for doors, made by: latchkey keys doors new; without it no door is opened (${env})."`
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

// Run serves until ctx ends. It starts with everything in its place or not at all, and
// says what is missing.
func (c *serveCmd) Run(ctx context.Context, io streams) error {
	log := newLog(io.err, c.Debug)
	redisstore.LogTo(log)

	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return err
	}
	policy, err := loadPolicy(c.Policy)
	if err != nil {
		return err
	}
	signer, revocation, err := c.doors()
	if err != nil {
		return err
	}
	sender, err := mail.NewSender(mail.Config{Server: c.SMTPURL, From: c.MailFrom, DKIM: c.dkim(), Clock: wallClock{}})
	if err != nil {
		return err
	}
	m, err := newInstruments()
	if err != nil {
		return err
	}
	verifier, err := auth.NewVerifier(ctx, auth.Config{
		URL: c.JWKSURL, Issuer: c.Issuer, Audience: c.Audience,
		Failed: func(err error) { log.Warn("the issuer's keys could not be fetched", "error", err) },
	})
	if err != nil {
		return err
	}
	if c.Issuer == "" || c.Audience == "" {
		log.Warn("tokens are accepted from any issuer and for any audience that the key set signs for; set --issuer and --audience")
	}
	client, err := redisstore.Dial(c.RedisURL)
	if err != nil {
		return err
	}
	defer client.Close()
	redisstore.Observe(client, m.trip)
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: c.Retention, Lanes: c.Lanes})
	if err != nil {
		return err
	}
	defer store.Close()
	promise, err := c.promise(ctx, store)
	if err != nil {
		return err
	}

	s, err := newSystem(parts{
		client: client, store: store, ring: ring, policy: policy, clock: wallClock{}, verifier: verifier, sender: sender,
		mailer: mail.MailerConfig{ShopNames: c.ShopNames, CarrierNames: c.CarrierNames, AccountURL: c.AccountURL},
		log:    log, retention: c.Retention, metrics: m, signer: signer, revocation: revocation,
	})
	if err != nil {
		return err
	}
	ln, err := listen(c.Addr)
	if err != nil {
		return err
	}
	log.Info("serving", "addr", ln.Addr().String(), "durability", promise.String(), "promise", promise.Promise(), "smtp", c.SMTPURL.String())
	return s.run(ctx, ln)
}

// promise reads what Redis promises, and refuses less than was demanded.
func (c *serveCmd) promise(ctx context.Context, store *redisstore.Store) (redisstore.Durability, error) {
	asked, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := store.Ping(asked); err != nil {
		return 0, fmt.Errorf("cannot reach Redis: %w", err)
	}
	demanded, err := redisstore.ParseDurability(c.Durability)
	if err != nil {
		return 0, err
	}
	promise, err := store.Durability(asked)
	if err != nil && demanded > redisstore.Memory {
		return 0, fmt.Errorf("cannot learn how durable Redis is, and durability %s is demanded: %w", demanded, err)
	}
	if promise < demanded {
		return 0, fmt.Errorf("durability %s is demanded, and Redis promises %s: %s", demanded, promise, promise.Promise())
	}
	return promise, nil
}

func (c *serveCmd) dkim() *mail.DKIM {
	if c.DKIMKey == "" {
		return nil
	}
	return &mail.DKIM{Domain: c.DKIMDomain, Selector: c.DKIMSelector, KeyFile: c.DKIMKey}
}
