package main

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"latchkey/api/metrics"
	"latchkey/handoff"
	"latchkey/notify"
)

// instruments are all that /metrics shows.
type instruments struct {
	registry *prometheus.Registry
	requests *metrics.Metrics

	waiting, dead, age prometheus.Gauge
	mails, doors       *prometheus.CounterVec
	trips              *prometheus.HistogramVec
}

func newInstruments() (*instruments, error) {
	m := &instruments{
		registry: prometheus.NewRegistry(),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_mail_queue_events", Help: "Events that the mail has before it.",
		}),
		dead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_mail_dead_letters", Help: "Mails given up, until they are replayed.",
		}),
		age: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_mail_queue_age_seconds", Help: "Age of the oldest event that the mail has before it; 0 if there is none.",
		}),
		mails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_mail_events_total", Help: "Events that the mail finished, will retry, or gave up, by why.",
		}, []string{"event", "result", "reason"}),
		doors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_door_events_total", Help: "Events that the way to the doors finished, will retry, or gave up, by why.",
		}, []string{"event", "result", "reason"}),
		trips: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "latchkey_redis_trip_duration_seconds", Help: "Time of one trip to Redis.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"result"}),
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.waiting, m.dead, m.age, m.mails, m.doors, m.trips,
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	var err error
	m.requests, err = metrics.New(m.registry)
	return m, err
}

// backlog shows how far the mail is behind.
func (m *instruments) backlog(b handoff.Backlog, now time.Time) {
	m.waiting.Set(float64(b.Waiting))
	m.dead.Set(float64(b.Dead))
	age := 0.0
	if b.Oldest != 0 {
		age = max(0, now.Sub(b.Oldest.Time()).Seconds())
	}
	m.age.Set(age)
}

// trip observes one trip to Redis.
func (m *instruments) trip(took time.Duration, failed bool) {
	result := "ok"
	if failed {
		result = "failed"
	}
	m.trips.WithLabelValues(result).Observe(took.Seconds())
}

// mailObserver counts what becomes of events, and logs what a duty officer should see.
type mailObserver struct {
	*instruments
	log *slog.Logger
}

func (o mailObserver) Delivered(e handoff.EventType) {
	o.mails.WithLabelValues(e.String(), "finished", "").Inc()
}

func (o mailObserver) Retried(e handoff.EventType, r notify.Reason) {
	o.mails.WithLabelValues(e.String(), "retry", r.Class).Inc()
	o.log.Warn("mail will be tried again", "event", e.String(), "reason", r.String())
}

func (o mailObserver) Buried(e handoff.EventType, r notify.Reason) {
	o.mails.WithLabelValues(e.String(), "dead", r.Class).Inc()
	o.log.Error("mail was given up; see: latchkey outbox list", "event", e.String(), "reason", r.String())
}

func (o mailObserver) LogFailed(op string, err error) {
	o.log.Warn("the event log did not answer", "operation", op, "error", err)
}

// doorObserver counts what becomes of events on the way to the doors.
type doorObserver struct {
	*instruments
	log *slog.Logger
}

func (o doorObserver) Delivered(e handoff.EventType) {
	o.doors.WithLabelValues(e.String(), "finished", "").Inc()
}

func (o doorObserver) Retried(e handoff.EventType, r notify.Reason) {
	o.doors.WithLabelValues(e.String(), "retry", r.Class).Inc()
	o.log.Warn("a door will be told again", "event", e.String(), "reason", r.String())
}

func (o doorObserver) Buried(e handoff.EventType, r notify.Reason) {
	o.doors.WithLabelValues(e.String(), "dead", r.Class).Inc()
	o.log.Error("a door was not told", "event", e.String(), "reason", r.String())
}

func (o doorObserver) LogFailed(op string, err error) {
	o.log.Warn("the event log did not answer", "operation", op, "error", err)
}
