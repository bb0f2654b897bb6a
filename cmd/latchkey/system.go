package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/handoff"
	"latchkey/handoff/clock"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/identity"
	"latchkey/handoff/keyring"
	"latchkey/handoff/receipt"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
	"latchkey/notify"
	"latchkey/notify/doors"
	"latchkey/notify/mail"
	"latchkey/notify/numbers"
	notices "latchkey/notify/residents"
	"latchkey/notify/signals"
	"latchkey/notify/trailwriter"
)

// parts are what differs between a demonstration, a service and a test.
type parts struct {
	client    io.Closer // of the store
	watchman  *watchman // looks at the store's Redis; nil: not watched
	keys      *keyWatch // looks when API keys end; nil: not watched
	sentry    *sentry   // knows a Redis that lost what it acknowledged; nil: does not look
	store     *redisstore.Store
	ring      *keyring.Ring
	policy    *handoff.Policy
	clock     clock.Clock
	verifier  auth.Verifier
	sender    *mail.Sender
	mailer    mail.MailerConfig // newSystem adds the other fields
	log       *slog.Logger
	retention time.Duration
	metrics   *instruments

	signer     *door.Signer  // of permits; nil where no doors are opened
	receipts   *receipt.Keys // nil where no receipts are given
	revocation []byte        // the root key's newest list; empty for none

	publicURL string        // where people reach the pages; empty: there are none, and residents are not told
	issuers   *auth.Issuers // at which people sign in
	sessions  sessionTimes

	site      http.Handler      // pages besides the API; nil for none
	sets      []frame.Set       // pages besides those of package api/web
	allowHost func(string) bool // which Host headers are served; nil for any
	proxies   []netip.Prefix    // whose word counts on where requests come from
	tls       bool              // it is reached over TLS alone
	limited   bool              // addresses may fail only so often
}

// system is the whole program: the HTTP service, the readers that mail and that bring
// permits to doors, the ledger that chains the log, the sweeper.
type system struct {
	parts
	service *service.Service

	registry  *registry.Registry
	residents *residents.Directory
	pageLinks *identity.PageLinks

	app     server
	readers []*notify.Reader
	pulse   *notify.Pulse
	groups  []string // the readers' names in the log
	ledger  *trailwriter.Writer
	numbers *numbers.Counter

	signerTold bool // see tellSigner
}

// server is what a fiber application is to us.
type server interface {
	Listener(net.Listener) error
	ShutdownWithContext(context.Context) error
}

func newSystem(p parts) (*system, error) {
	s := &system{
		parts: p, numbers: numbers.New(p.store, p.clock), pulse: notify.NewPulse(p.store, pulseObserver{p.metrics, p.log}),
	}
	var err error
	s.service, err = service.New(service.Config{
		Store: p.store, Policy: p.policy, Clock: p.clock, Namer: p.ring, Random: rand.Reader, Keypads: door.PINs{}, Observer: observers{p.metrics.requests, s.numbers},
	})
	if err != nil {
		return nil, err
	}
	s.registry = registry.New(p.store, p.store, p.clock)
	s.registry.ChangeAfter = time.Duration(p.policy.Limits.DoorChangeHours) * time.Hour
	s.residents = residents.NewDirectory(p.store, s.registry, p.store, p.clock, p.ring)
	s.pageLinks = identity.NewPageLinks(p.store, p.clock, p.ring, rand.Reader)
	ready := redisstore.NewWatch(p.store, nil).Ready
	if p.watchman != nil {
		ready = p.watchman.Ready
	}
	config := api.Config{
		Rooms: api.Rooms{
			Service: s.service, Couriers: p.store, Registry: s.registry, Directory: s.residents, PageLinks: s.pageLinks,
			Access: trail.NewReader(p.store, p.clock, p.ring), Events: p.store, Figures: p.store, Receipts: p.receipts,
		},
		Callers: api.Callers{Verifier: p.verifier, AllowHost: p.allowHost, TrustedProxies: p.proxies},
		Clock:   p.clock, Ready: ready, Halted: p.sentry.reason, Degraded: p.sentry.degraded,
		Metrics: p.metrics.requests, Gatherer: p.metrics.registry, Log: p.log, Version: version(), PublicURL: p.publicURL,
		Site: p.site, TLS: p.tls,
	}
	if p.limited {
		config.Limits = api.Limits{Limiter: p.store, Names: p.ring}
	}
	if p.signer != nil {
		config.Doors = &api.Doors{Signer: p.signer, Feed: p.store, Revocation: p.revocation}
	}
	if p.publicURL != "" {
		config.Residents = &api.Residents{CarrierNames: p.mailer.CarrierNames}
	}
	var way *frame.API
	if p.publicURL != "" {
		if way, err = s.pages(&config); err != nil {
			return nil, err
		}
	}
	app, err := api.New(config)
	if err != nil {
		return nil, err
	}
	if s.app = app; way != nil {
		way.Serve(app.Handler())
	}

	signer, err := trail.AuditSigner(p.ring)
	if err != nil {
		return nil, err
	}
	s.ledger, err = trailwriter.New(trailwriter.Config{
		Store: p.store, Signer: signer, Clock: p.clock, Observer: ledgerObserver{p.metrics, p.log}, Retention: p.retention,
	})
	if err != nil {
		return nil, err
	}
	s.groups = append(s.groups, trailwriter.Group)

	p.mailer.Grants, p.mailer.Mails, p.mailer.Couriers, p.mailer.Transport = s.service, s.service, p.store, p.sender
	p.mailer.ShopContacts = p.policy.Contacts()
	if p.mailer.AccountURL == "" && p.publicURL != "" {
		p.mailer.AccountURL = strings.TrimSuffix(p.publicURL, "/") + "/account/" + mail.GrantID
	}
	p.mailer.Clock, p.mailer.Limits, p.mailer.Observer = p.clock, p.policy.Limits, mailObserver{s.numbers, p.log}
	mailer, err := mail.NewMailer(p.mailer)
	if err != nil {
		return nil, err
	}
	if err := s.read(notify.Config{Group: mail.Group, Handle: mailer.Handle, Room: p.sender.Limit}); err != nil {
		return nil, err
	}
	if p.publicURL != "" {
		notifier, err := notices.New(notices.Config{
			Grants: s.service, Residents: s.residents, Registry: s.registry, Store: p.store, Transport: p.sender, Clock: p.clock, Observer: residentObserver{p.metrics, p.log},
			PublicURL: p.publicURL, CarrierNames: p.mailer.CarrierNames, Kept: p.retention,
		})
		if err != nil {
			return nil, err
		}
		err = s.read(notify.Config{
			Group: notices.Group, Handle: notifier.Handle, Timeout: notices.Timeout,
			Parallel: residentsAtOnce,
		})
		if err != nil {
			return nil, err
		}
	}
	watcher, err := signals.New(signals.Config{
		Grants: s.service, Patterns: p.store, Log: p.store, Limits: p.policy.Signals, Clock: p.clock,
	})
	if err != nil {
		return nil, err
	}
	if err := s.read(notify.Config{Group: signals.Group, Handle: watcher.Handle, Timeout: signalsTimeout}); err != nil {
		return nil, err
	}
	if p.signer == nil {
		return s, nil
	}
	dispatcher, err := doors.New(doors.Config{Grants: s.service, Couriers: p.store, Events: p.store, Feed: p.store, Signer: p.signer, Namer: p.ring, Clock: p.clock})
	if err != nil {
		return nil, err
	}
	return s, s.read(notify.Config{
		Group: doors.Group, Handle: dispatcher.Handle, Poll: doors.Poll, Timeout: doorsTimeout,
	})
}

// residentsAtOnce leaves connections to the mail server to those who wait for a code.
const residentsAtOnce = 2

// signalsTimeout bounds what one event asks of the store.
const signalsTimeout = 5 * time.Second

// doorsTimeout bounds one message to a door, of which the minute is soon over.
const doorsTimeout = 5 * time.Second

// read adds a reader of the event log.
func (s *system) read(c notify.Config) error {
	c.Log, c.Clock, c.Observer, c.Pulse = s.store, s.clock, groupObserver{s.metrics, c.Group, s.log}, s.pulse
	r, err := notify.NewReader(c)
	s.readers, s.groups = append(s.readers, r), append(s.groups, c.Group)
	return err
}

// run serves on ln until ctx ends, then closes in reverse: no new requests, those under
// way are answered, mails in hand are sent, and only then is the store let go.
func (s *system) run(ctx context.Context, ln net.Listener) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	var workers, readers sync.WaitGroup
	for _, r := range s.readers {
		readers.Go(func() { r.Run(working) })
	}
	beating, still := context.WithCancel(context.WithoutCancel(ctx))
	workers.Go(func() { s.pulse.Run(beating) })
	workers.Go(func() { readers.Wait(); still() }) // what is in hand is this process's to its end
	workers.Go(func() { s.ledger.Run(working) })
	workers.Go(func() { s.every(working, time.Second, "sweep", s.sweep) })
	workers.Go(func() { s.every(working, mailsEvery, "late mails", s.sweepMails) })
	workers.Go(func() { s.every(working, time.Minute, "trim", s.trim) })
	workers.Go(func() { s.every(working, time.Hour, "tidy", s.residents.Tidy) })
	workers.Go(func() { s.every(working, settleEvery, "changes of doors", s.registry.SettleAll) })
	workers.Go(func() { s.every(working, 5*time.Second, "backlog", s.measure) })
	workers.Go(func() { s.every(working, time.Second, "numbers", s.numbers.Work) })
	if s.signer != nil {
		workers.Go(func() { s.every(working, time.Hour, "tell the signing key", s.tellSigner) })
	}
	if t, ok := s.log.Handler().(*thin); ok {
		workers.Go(func() {
			s.every(working, 5*time.Second, "summaries", func(ctx context.Context) error { return t.tell(ctx, false) })
			_ = t.tell(context.WithoutCancel(ctx), true)
		})
	}
	if s.watchman != nil {
		workers.Go(func() { s.every(working, lookEvery, "look at Redis", s.watchman.look) })
	}

	if s.sentry != nil {
		workers.Go(func() { s.sentry.watch(working) })
	}
	if s.keys != nil {
		workers.Go(func() { s.every(working, time.Hour, "API keys", s.keys.look) })
	}

	served := make(chan error, 1)
	go func() { served <- s.app.Listener(ln) }()
	var err error
	select {
	case err = <-served:
		s.log.Error("stopping", "why", "the listener ended", "error", fmt.Sprint(err))
	case <-ctx.Done():
		s.log.Info("stopping", "why", context.Cause(ctx).Error())
	}
	began := time.Now()
	ctx = context.WithoutCancel(ctx)
	gone := s.gone(ctx)
	if gone != nil {
		s.log.Warn("Redis does not answer: what is under way is not waited for", "error", gone)
	}
	if err == nil {
		within := shutdownWithin
		if gone != nil {
			within = cutWithin
		}
		closing, cancel := context.WithTimeout(ctx, within)
		err = s.app.ShutdownWithContext(closing)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) { // a client never ended its request: not our failure
			s.log.Warn("connections were still open at the end")
			err = nil
		}
	}
	stop()
	ended := make(chan error, 1)
	go func() { ended <- s.end(ctx, &workers, gone != nil) }()
	if gone == nil {
		err = errors.Join(err, <-ended)
	} else {
		select {
		case e := <-ended:
			err = errors.Join(err, e)
		case <-time.After(cutWithin):
			s.log.Warn("background work did not end in time")
		}
	}
	s.log.Info("stopped", "took_ms", time.Since(began).Milliseconds())
	return err
}

// gone is why Redis cannot be asked any more; nil while it can.
func (s *system) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askedWithin)
	defer cancel()
	_, err := s.store.APIKey(ctx, "none") // any read
	return err
}

// end waits for the workers and lets go of all that the system holds. Where Redis is gone its
// connections are closed first, so that no client waits for an answer.
func (s *system) end(ctx context.Context, workers *sync.WaitGroup, gone bool) error {
	var err error
	if gone {
		err = s.client.Close()
	}
	workers.Wait()
	if !gone {
		last, cancel := context.WithTimeout(ctx, shutdownWithin)
		if err := s.numbers.Work(last); err != nil { // what the last requests noted
			s.log.Warn("figures were not noted", "error", err)
		}
		cancel()
	}
	s.sender.Close()
	s.service.Close()
	s.store.Close()
	if !gone {
		err = s.client.Close()
	}
	return err
}

const (
	// shutdownWithin bounds how long requests under way may take at shutdown.
	shutdownWithin = 10 * time.Second

	// askedWithin is how long Redis may take to answer then; where it does not, requests under
	// way and background work have cutWithin each, so that all is over within five seconds.
	askedWithin = 500 * time.Millisecond
	cutWithin   = 2 * time.Second
)

// every calls f at once and at each tick until ctx ends. What fails is told and tried
// again at the next tick.
func (s *system) every(ctx context.Context, tick time.Duration, what string, f func(context.Context) error) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("background work failed", "work", what, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// tellSigner puts on the log, once for each start, that permits are signed by another key than
// the one before, on whatever instance that was: keys are rotated in a file, of which the service
// hears by being started with it.
func (s *system) tellSigner(ctx context.Context) error {
	if s.signerTold {
		return nil
	}
	now := handoff.InstantOf(s.clock.Now())
	e := handoff.Event{Type: handoff.EventSignerChanged, At: now, By: string(handoff.RoleOps), Object: s.signer.Publish()[0].ID().String()}
	was, err := s.store.Noted(ctx, e.Partition(), "signer")
	if err != nil || was == e.Object {
		s.signerTold = err == nil
		return err
	}
	s.signerTold, err = s.store.AppendNoted(ctx, now, eventlog.Note{Partition: e.Partition(), Name: "signer", Was: was, Is: e.Object}, e)
	return err
}

// settleEvery is how often changes of doors that are due are written and told. They count
// when they are due, written or not.
const settleEvery = 15 * time.Minute

// sweepAtOnce is how many grants of a partition one sweep closes: after a night, all of
// a day's parcels are due at once.
const sweepAtOnce = 500

func (s *system) sweep(ctx context.Context) error {
	for {
		n, err := s.service.Sweep(ctx, sweepAtOnce)
		if err != nil || n < sweepAtOnce {
			return err
		}
	}
}

// mailsEvery is how often it is looked for mails that no mail server took in time.
const mailsEvery = 15 * time.Second

func (s *system) sweepMails(ctx context.Context) error {
	for {
		n, err := s.service.SweepMails(ctx, sweepAtOnce)
		if err != nil || n < sweepAtOnce {
			return err
		}
	}
}

// mailObserver counts mails, and logs what could not be noted of them.
type mailObserver struct {
	*numbers.Counter
	log *slog.Logger
}

// Unnoted implements mail.Observer.
func (o mailObserver) Unnoted() {
	o.log.Warn("a mail was sent, and this could not be noted: it will be told of as late")
}

func (s *system) trim(ctx context.Context) error {
	now, err := s.store.Time(ctx) // by which the log's ids are made
	if err != nil {
		return err
	}
	for partition := range handoff.Partitions {
		if _, err := s.store.Trim(ctx, partition, now.Add(-s.retention)); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) measure(ctx context.Context) error {
	s.metrics.mailConnections(s.sender.InUse(), s.sender.Limit())
	var failed []error
	for _, group := range s.groups {
		b, err := s.store.Backlog(ctx, group)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", group, err))
			continue
		}
		age := s.metrics.backlog(group, b, s.clock.Now())
		if group == mail.Group {
			s.numbers.MailAge(age)
			s.metrics.mails(b)
		}
	}
	return errors.Join(failed...)
}

// newLog writes JSON lines. Debug adds what is only good to know when something is wrong.
func newLog(w io.Writer, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(newThin(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), clock.Elapsed(wallClock{})))
}

// listen opens a TCP port, and says so in words an operator can use.
func listen(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return ln, nil
}
