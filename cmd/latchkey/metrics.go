package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"latchkey/api/metrics"
	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
	"latchkey/notify"
	"latchkey/notify/mail/message"
)

// instruments are all that /metrics shows.
type instruments struct {
	registry *prometheus.Registry
	requests *metrics.Metrics

	waiting, dead, age *prometheus.GaugeVec // by group of readers
	orphaned           *prometheus.GaugeVec
	freed              *prometheus.CounterVec
	lost               prometheus.Counter
	events             *prometheus.CounterVec
	entered            *prometheus.CounterVec
	unchained          prometheus.Counter
	notices            *prometheus.CounterVec
	trips              *prometheus.HistogramVec
	faults             *prometheus.GaugeVec // of Redis, by kind
	evicted            prometheus.Gauge
	ahead              prometheus.Gauge
	switches           prometheus.Counter
	unreachable        prometheus.Gauge
	lostEvents         *prometheus.CounterVec // by partition
	refused            prometheus.Gauge
	keyEnd, keysEnding prometheus.Gauge
	mailing, mailsMost prometheus.Gauge // connections to the mail server
	mailsWaiting       *prometheus.GaugeVec
}

func newInstruments() (*instruments, error) {
	m := &instruments{
		registry: prometheus.NewRegistry(),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_outbox_events", Help: "Events that a group of readers has before it.",
		}, []string{"group"}),
		dead: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_outbox_dead_letters", Help: "Events that a group of readers gave up, until they are replayed.",
		}, []string{"group"}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_outbox_age_seconds", Help: "Age of the oldest event that a group of readers has before it; 0 if there is none.",
		}, []string{"group"}),
		orphaned: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_outbox_orphaned_events", Help: "Events of a group in the hands of instances that give no sign of life; another takes them within 15 seconds.",
		}, []string{"group"}),
		freed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_outbox_freed_events_total", Help: "Events that this instance freed out of the hands of dead ones.",
		}, []string{"group"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_readers_found_dead_total", Help: "Times that this instance was taken for dead by another.",
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_outbox_events_total", Help: "Events that a group of readers finished, will retry, or gave up, by why.",
		}, []string{"group", "event", "result", "reason"}),
		entered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_audit_entries_total", Help: "Entries added to hash chains, by what the chain is of.",
		}, []string{"chain"}),
		unchained: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_audit_failures_total", Help: "Times that the log could not be chained; the service's log says why.",
		}),
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_resident_mails_total", Help: "Mails to residents and managers that were sent, or refused for good, by why.",
		}, []string{"kind", "result", "reason"}),
		trips: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "latchkey_redis_trip_duration_seconds", Help: "Time of one trip to Redis.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"result"}),
		faults: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_redis_fault", Help: "1 while the last look at Redis found this to be wrong with it; the service's log says what.",
		}, []string{"fault"}),
		evicted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_redis_evicted_keys", Help: "Keys that Redis deleted because memory was short; above 0 grants may be lost.",
		}),
		ahead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_clock_ahead_seconds", Help: "How far this instance's clock is ahead of Redis's, at least; below 0: behind.",
		}),
		switches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_redis_master_switches_total", Help: "Times that another Redis was master, or was started again; writes acknowledged just before may be lost.",
		}),
		unreachable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_cluster_unreachable_slots", Help: "Slots of a Redis Cluster that no server serves, as the last look found; 0 without a Cluster.",
		}),
		lostEvents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_redis_lost_events_total", Help: "Events that were acknowledged or read and that Redis has no more, by partition; at least one where their number is not known.",
		}, []string{"partition"}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_refused_partitions", Help: "Partitions of the grants that this instance does not serve until they are restored.",
		}),
		keyEnd: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_api_key_soonest_end_timestamp_seconds", Help: "When the next API key ends by itself; 0 if there is none.",
		}),
		keysEnding: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_api_keys_ending", Help: "API keys that end within fourteen days; latchkey apikey list says which.",
		}),
		mailing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_mail_connections", Help: "Connections to the mail server that this instance sends over now.",
		}),
		mailsMost: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_mail_connections_limit", Help: "Connections to the mail server that this instance may send over now; it adapts to what the server bears.",
		}),
		mailsWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_mail_waiting_events", Help: "Events that wait for a connection to the mail server, by what their mail is for: code, notice, unknown (an older version wrote it), none (there is no mail).",
		}, []string{"class"}),
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.waiting, m.dead, m.age, m.orphaned, m.freed, m.lost, m.events, m.notices, m.entered, m.unchained, m.trips, m.faults, m.evicted, m.ahead, m.switches, m.unreachable, m.lostEvents, m.refused, m.keyEnd, m.keysEnding, m.mailing, m.mailsMost, m.mailsWaiting,
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	var err error
	m.requests, err = metrics.New(m.registry)
	return m, err
}

// topology shows how old it is what is known of a Cluster; nothing of a store that is on none.
func (m *instruments) topology(store *redisstore.Store) error {
	if _, cluster := store.TopologyAge(); !cluster {
		return nil
	}
	return m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "latchkey_cluster_topology_age_seconds", Help: "Time since a Redis Cluster last said which server serves which slots.",
	}, func() float64 {
		age, _ := store.TopologyAge()
		return age.Seconds()
	}))
}

// backlog shows how far a group of readers is behind, and returns by how much time.
func (m *instruments) backlog(group string, b eventlog.Backlog, now time.Time) time.Duration {
	m.waiting.WithLabelValues(group).Set(float64(b.Waiting))
	m.dead.WithLabelValues(group).Set(float64(b.Dead))
	var age time.Duration
	if b.Oldest != 0 {
		age = max(0, now.Sub(b.Oldest.Time()))
	}
	m.age.WithLabelValues(group).Set(age.Seconds())
	return age
}

// mails shows what the mail has before it.
func (m *instruments) mails(b eventlog.Backlog) {
	for class, n := range b.Classes {
		m.mailsWaiting.WithLabelValues(handoff.Class(class).String()).Set(float64(n))
	}
}

// mailConnections shows how many connections to the mail server are in use, and may be.
func (m *instruments) mailConnections(used, limit int) {
	m.mailing.Set(float64(used))
	m.mailsMost.Set(float64(limit))
}

// observers hear of the same decisions.
type observers []service.Observer

func (all observers) Decided(act handoff.Act, reason handoff.Reason, events []handoff.Event) {
	for _, o := range all {
		o.Decided(act, reason, events)
	}
}

func (all observers) Conflicted(act handoff.Act) {
	for _, o := range all {
		o.Conflicted(act)
	}
}

func (all observers) Unsettled() {
	for _, o := range all {
		o.Unsettled()
	}
}

// trip observes one trip to Redis.
func (m *instruments) trip(took time.Duration, failed bool) {
	result := "ok"
	if failed {
		result = "failed"
	}
	m.trips.WithLabelValues(result).Observe(took.Seconds())
}

// redis shows what a look at Redis found.
func (m *instruments) redis(found redisstore.Condition) {
	m.evicted.Set(float64(found.Evicted))
	m.ahead.Set(found.Ahead.Seconds())
	m.unreachable.Set(float64(found.Unreachable))
	for _, kind := range redisstore.FaultKinds {
		is := 0.0
		if slices.ContainsFunc(found.Faults, func(f redisstore.Fault) bool { return f.Kind == kind }) {
			is = 1
		}
		m.faults.WithLabelValues(string(kind)).Set(is)
	}
}

// keysEnd shows when the next API key ends, and how many do soon.
func (m *instruments) keysEnd(soonest time.Time, ending int) {
	at := 0.0
	if !soonest.IsZero() {
		at = float64(soonest.Unix())
	}
	m.keyEnd.Set(at)
	m.keysEnding.Set(float64(ending))
}

// groupObserver counts what becomes of a group's events, and logs what a duty officer
// should see.
type groupObserver struct {
	*instruments
	group string
	log   *slog.Logger
}

func (o groupObserver) Delivered(e handoff.EventType) {
	o.events.WithLabelValues(o.group, e.String(), "finished", "").Inc()
}

func (o groupObserver) Retried(e handoff.EventType, r notify.Reason) {
	o.events.WithLabelValues(o.group, e.String(), "retry", r.Class).Inc()
	o.log.Warn("an event will be tried again", "group", o.group, "event", e.String(), "reason", r.String())
}

func (o groupObserver) Buried(e handoff.EventType, r notify.Reason) {
	o.events.WithLabelValues(o.group, e.String(), "dead", r.Class).Inc()
	o.log.Error("an event was given up; see: latchkey outbox list", "group", o.group, "event", e.String(), "reason", r.String())
}

func (o groupObserver) LogFailed(op string, err error) {
	o.log.Warn("the event log did not answer", "group", o.group, "operation", op, "error", err)
}

// pulseObserver counts what becomes of events in the hands of dead readers.
type pulseObserver struct {
	*instruments
	log *slog.Logger
}

const missedBeat = "this instance's sign of life did not reach Redis; without one for six seconds it sends nothing"

func (o pulseObserver) Freed(group string, events int) {
	o.freed.WithLabelValues(group).Add(float64(events))
	o.log.Warn("an instance ended with events in hand; another takes them", "group", group, "events", events)
}

func (o pulseObserver) Orphaned(group string, events int) {
	o.orphaned.WithLabelValues(group).Set(float64(events))
}

func (o pulseObserver) Missed(err error) {
	o.log.Warn(missedBeat, "error", err)
}

func (o pulseObserver) Lost() {
	o.lost.Inc()
	o.log.Error("this instance was found dead by another, which has its events now; it goes on with new ones")
}

// ledgerObserver counts what is chained, and says when something cannot be.
type ledgerObserver struct {
	*instruments
	log *slog.Logger
}

func (o ledgerObserver) Entered(name string, n int) {
	of, _, _ := strings.Cut(name, ":")
	o.entered.WithLabelValues(of).Add(float64(n))
}

func (o ledgerObserver) Failed(err error) {
	o.unchained.Inc()
	level := slog.LevelWarn
	if errors.Is(err, trail.ErrForged) {
		level = slog.LevelError
	}
	o.log.Log(context.Background(), level, "the log was not chained", "error", err)
}

// residentObserver counts the mails to residents.
type residentObserver struct {
	*instruments
	log *slog.Logger
}

func (o residentObserver) Sent(k message.Kind) {
	o.notices.WithLabelValues(string(k), "sent", "").Inc()
}

func (o residentObserver) Undeliverable(k message.Kind, r notify.Reason) {
	o.notices.WithLabelValues(string(k), "refused", r.Class).Inc()
	o.log.Warn("a resident cannot be mailed", "kind", string(k), "reason", r.String())
}
