// Package metrics counts what a duty officer needs to see: dispatches, verifies by
// result, locked codes, commit conflicts, and how requests fare.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

// Metrics implements service.Observer. No label holds an id, so that their number is
// bounded and no person can be told from them.
type Metrics struct {
	dispatches *prometheus.CounterVec
	verifies   *prometheus.CounterVec
	acts       *prometheus.CounterVec
	locks      prometheus.Counter
	conflicts  *prometheus.CounterVec
	unsettled  prometheus.Counter
	requests   *prometheus.HistogramVec
	reports    *prometheus.CounterVec
	alarms     *prometheus.CounterVec
	refusals   *prometheus.CounterVec
}

var _ service.Observer = (*Metrics)(nil)

// New makes the metrics and registers them.
func New(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		dispatches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_dispatches_total", Help: "Dispatches by result: created, repeated, or the reason of the refusal.",
		}, []string{"result"}),
		verifies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_verifies_total", Help: "Verifies by result: released, collected, or the reason of the refusal.",
		}, []string{"result"}),
		acts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_acts_total", Help: "Every other act by result: done, or the reason of the refusal.",
		}, []string{"act", "result"}),
		locks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_code_locks_total", Help: "Codes locked by wrong guesses.",
		}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_commit_conflicts_total", Help: "Commits that another one overtook, and that were tried again.",
		}, []string{"act"}),
		unsettled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_unsettled_guesses_total", Help: "Guesses that could not be settled, and take up a place in a courier's budget for a while.",
		}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "latchkey_http_request_duration_seconds", Help: "Time to answer a request.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_door_reports_total", Help: "Reports of doors by what became of them: recorded, alarm, refused (a door that refuses whatever is signed), counted (one of many alarms of a kind within an hour), ignored, permit-unknown, bad-report.",
		}, []string{"result"}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_door_alarms_total", Help: "Doors that were forced, held open or tampered with, as they say themselves.",
		}, []string{"kind"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_door_refusals_total", Help: "Permits and PINs that doors refused, by the door's reason; of unknown-key and revoked-key no permit opens the door any more.",
		}, []string{"reason"}),
	}
	for _, c := range []prometheus.Collector{m.dispatches, m.verifies, m.acts, m.locks, m.conflicts, m.unsettled, m.requests, m.reports, m.alarms, m.refusals} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Decided implements service.Observer.
func (m *Metrics) Decided(act handoff.Act, reason handoff.Reason, events []handoff.Event) {
	for _, e := range events {
		if e.Type == handoff.EventCodeLocked {
			m.locks.Inc()
		}
	}
	result := string(reason)
	switch act {
	case handoff.Mint:
		if reason == "" {
			result = "repeated"
			if len(events) > 0 {
				result = "created"
			}
		}
		m.dispatches.WithLabelValues(result).Inc()
	case handoff.Release, handoff.Collect:
		if reason == "" {
			result = "released"
			if act == handoff.Collect {
				result = "collected"
			}
		}
		m.verifies.WithLabelValues(result).Inc()
	default:
		if reason == "" {
			result = "done"
		}
		m.acts.WithLabelValues(act.String(), result).Inc()
	}
}

// Conflicted implements service.Observer.
func (m *Metrics) Conflicted(act handoff.Act) { m.conflicts.WithLabelValues(act.String()).Inc() }

// Unsettled implements service.Observer.
func (m *Metrics) Unsettled() { m.unsettled.Inc() }

// Served observes an answer. Route is the pattern and not the path.
func (m *Metrics) Served(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// DoorReported observes one report of a door.
func (m *Metrics) DoorReported(result string) { m.reports.WithLabelValues(result).Inc() }

// DoorRefused observes a report that a door refused what it was brought.
func (m *Metrics) DoorRefused(reason string) { m.refusals.WithLabelValues(reason).Inc() }

// DoorAlarmed observes a report that calls for a person.
func (m *Metrics) DoorAlarmed(kind string) { m.alarms.WithLabelValues(kind).Inc() }
