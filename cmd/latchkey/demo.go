package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/api/web/frame"
	"latchkey/cmd/latchkey/demo"
	"latchkey/cmd/latchkey/sample"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/keyring"
	"latchkey/handoff/receipt"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/service"
	"latchkey/notify"
	"latchkey/notify/mail"
)

// demoCmd is the whole service in one process, on loopback, with nothing installed: an
// embedded Redis, an embedded mailbox, an issuer that gives anyone any role.
type demoCmd struct {
	Addr  string    `default:"127.0.0.1:8080" help:"Where to listen; loopback only."`
	Now   time.Time `help:"Where the demo's clock starts (RFC 3339); it then ticks." placeholder:"TIME"`
	Empty bool      `help:"Leave out the sample day and its building."`
	Debug bool      `help:"Log requests."`
}

// Validate is called by the command line's parser.
func (c *demoCmd) Validate() error {
	if err := demo.LoopbackOnly(c.Addr); err != nil {
		return fmt.Errorf("--addr %w", err)
	}
	return nil
}

const (
	demoAudience  = "latchkey-demo"
	demoClient    = "latchkey-pages"
	demoRetention = 30 * 24 * time.Hour
	demoSession   = 30 * 24 * time.Hour
	demoToken     = 30 * 24 * time.Hour // by the machine's clock: moving the demo's ends no session
	demoMails     = 2000
)

// Run serves the demonstration until ctx ends.
func (c *demoCmd) Run(ctx context.Context, streams streams) error {
	log := slog.New(slog.DiscardHandler)
	if c.Debug {
		log = newLog(streams.err, true)
	}
	redisstore.LogTo(log)
	ln, err := listen(c.Addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	clock := demo.NewClock(c.Now)
	mailbox, err := demo.NewMailbox(clock.Now, demoMails)
	if err != nil {
		return err
	}
	defer mailbox.Close()
	var house *demo.House
	if !c.Empty {
		house = demo.NewHouse(clock, log)
	}
	// The service outlives ctx for as long as the doors need to lock and to say so.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s, keys, sign, err := c.system(serving, ln.Addr(), clock, mailbox, house, log)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(serving, ln) }()
	url := "http://" + ln.Addr().String()
	if err = c.furnish(ctx, s, house, url, keys, sign); err == nil {
		fmt.Fprintf(streams.out, "Latchkey demo is ready: open %s/ and follow a parcel from the warehouse to the door (Ctrl-C ends it).\n", url)
		select {
		case <-ctx.Done():
		case err = <-ended:
			ended <- nil
		}
	}
	if house != nil {
		err = errors.Join(err, house.Close())
	}
	stop()
	return errors.Join(err, <-ended)
}

// furnish brings in the sample day and opens the building that it goes to.
func (c *demoCmd) furnish(ctx context.Context, s *system, house *demo.House, url string, keys door.KeySet, sign signer) error {
	if c.Empty {
		return nil
	}
	if err := s.loadSample(ctx, url, sign); err != nil {
		return errors.Join(fmt.Errorf("the sample day: %w", err), ctx.Err())
	}
	if err := house.Open(ctx, url, keys, sign); err != nil {
		return errors.Join(fmt.Errorf("the sample building: %w", err), ctx.Err())
	}
	return nil
}

// signer makes a token that the demo accepts.
type signer func(auth.Principal) (string, error)

func (c *demoCmd) system(ctx context.Context, addr net.Addr, clock *demo.Clock, mailbox *demo.Mailbox, house *demo.House, log *slog.Logger) (*system, door.KeySet, signer, error) {
	ring, err := keyring.New()
	if err != nil {
		return nil, nil, nil, err
	}
	m, err := newInstruments()
	if err != nil {
		return nil, nil, nil, err
	}
	redis, password := miniredis.NewMiniRedis(), rand.Text()
	redis.RequireAuth(password) // it listens on loopback, where others may live too
	if err := redis.Start(); err != nil {
		return nil, nil, nil, err
	}
	client, err := redisstore.Dial("redis://:" + password + "@" + redis.Addr())
	if err != nil {
		return nil, nil, nil, err
	}
	redisstore.Observe(client, m.trip)
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: demoRetention, Lanes: 2})
	if err != nil {
		return nil, nil, nil, err
	}

	// One issuer signs the tokens that are there for the asking, and the pages' visitors in.
	url := "http://" + addr.String()
	issuer, err := authtest.NewIssuer(rand.Reader, url+demo.IssuerPath, demoAudience, time.Now)
	if err != nil {
		return nil, nil, nil, err
	}
	provider := authtest.NewProvider(authtest.ProviderConfig{
		Issuer: issuer, Random: rand.Reader, ClientID: demoClient, Redirect: url + auth.CallbackPath,
	})
	trust := issuer.Trust()
	trust.Login = provider.Login("Latchkey demo")
	verifier, err := auth.NewIssuers(ctx, auth.Config{Names: ring}, trust)
	if err != nil {
		return nil, nil, nil, err
	}
	sign := func(p auth.Principal) (string, error) { return issuer.Sign(p, demoToken) }
	server, err := mail.ParseURL("smtp://" + mailbox.Addr())
	if err != nil {
		return nil, nil, nil, err
	}
	sender, err := mail.NewSender(mail.Config{Server: server, From: "Latchkey demo <latchkey@shop.example>", Clock: clock})
	if err != nil {
		return nil, nil, nil, err
	}
	signer, err := door.NewSigner(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	receipts, err := receipt.NewKeys(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	pages := demo.New(demo.Config{
		Clock: clock, Mailbox: mailbox, House: house, Log: log,
		Sign: sign, Provider: provider,
	})
	s, err := newSystem(parts{
		client: closers{client, redis}, store: store, ring: ring, policy: demoPolicy(), clock: clock, verifier: verifier, sender: sender,
		mailer: mail.MailerConfig{
			ShopNames:    map[string]string{"demo": "Demo Shop"},
			CarrierNames: map[string]string{"swift": "Swift", "rival": "Rival"},
		},
		publicURL: url, issuers: verifier,
		// By the demo's clock, which Redis's keys run out by too; long, so that moving it ends no session.
		sessions: sessionTimes{life: demoSession, idle: demoSession, now: clock.Now},
		log:      log, retention: demoRetention, metrics: m, signer: signer, receipts: receipts,
		site: pages, sets: []frame.Set{pages.Set()},
		allowHost: demo.LoopbackHost,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	if house != nil {
		if err := s.read(notify.Config{Group: "demo", Handle: house.Handle}); err != nil {
			return nil, nil, nil, err
		}
	}
	clock.Moving(redis.FastForward)
	go forget(ctx, redis)
	return s, signer.Publish(), sign, nil
}

// forget lets the embedded Redis's keys run out by the demo's clock. It has no clock of
// its own that ticks without looking at every key on every command. When the demo's clock is
// moved, [demo.Clock.Moving] lets them run out, before anything is written by its new time.
func forget(ctx context.Context, redis *miniredis.Miniredis) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		redis.FastForward(now.Sub(last))
		last = now
	}
}

func demoPolicy() *handoff.Policy {
	p := handoff.DefaultPolicy()
	p.Carriers = []string{"swift", "rival"}
	p.Shops = map[string]handoff.ShopPolicy{"demo": {Carriers: p.Carriers}}
	return p
}

// closers closes what the store stands on, in order.
type closers struct {
	io.Closer
	redis *miniredis.Miniredis
}

func (c closers) Close() error {
	err := c.Closer.Close()
	c.redis.Close()
	return err
}

// loadSample registers the sample's couriers and routes and sends its day through the
// service's own bulk route, as a warehouse would.
func (s *system) loadSample(ctx context.Context, url string, sign signer) error {
	now := s.clock.Now()
	cleared := handoff.InstantOf(now.AddDate(1, 0, 0))
	for _, c := range sample.Couriers() {
		ref := handoff.CourierRef{Carrier: c.CarrierID, ID: c.CourierID}
		if err := s.store.PutCourier(ctx, ref, service.CourierUpdate{Name: &c.Name, ClearedUntil: &cleared}); err != nil {
			return err
		}
	}
	for _, r := range sample.Routes() {
		day := handoff.DateOf(now.In(r.Zone))
		ref := service.RouteRef{Carrier: r.CarrierID, Route: r.RouteID, Day: day}
		if err := s.store.AssignRoute(ctx, ref, r.CourierID, handoff.InstantOf(now)); err != nil {
			return err
		}
	}
	day := sample.On(func(zone *time.Location) string { return handoff.DateOf(now.In(zone)).String() })
	token, err := sign(auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "warehouse", Shop: demo.DefaultShop})
	if err != nil {
		return err
	}
	sent, err := sendDispatches(ctx, url, token, bytes.NewReader(day), func() {})
	if err == nil && len(sent.refused) > 0 {
		err = fmt.Errorf("%d lines were refused", len(sent.refused))
	}
	return err
}
