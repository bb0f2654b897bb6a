package main

import (
	"strings"
	"testing"
	"time"

	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/notify/doors"
	"latchkey/notify/mail"
	"latchkey/notify/numbers"
)

// Operators see how far the mail and the doors are behind, each on its own, and what
// either gave up.
func TestOutboxesOfBothGroups(t *testing.T) {
	addr := redistest.Single(t).Addr()
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	client, err := redisstore.Dial("redis://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(); _ = client.Close() })
	m, err := newInstruments()
	if err != nil {
		t.Fatal(err)
	}
	w := handofftest.New(t, store)
	server, err := mail.ParseURL("smtp://127.0.0.1:9") // nothing is sent
	if err != nil {
		t.Fatal(err)
	}
	sender, err := mail.NewSender(mail.Config{Server: server, From: "test@shop.example", Clock: w.Clock})
	if err != nil {
		t.Fatal(err)
	}
	s := &system{parts: parts{store: store, clock: w.Clock, metrics: m, sender: sender}, groups: []string{mail.Group, doors.Group}, numbers: numbers.New(store, w.Clock)}
	for _, group := range s.groups {
		if err := store.Join(t.Context(), group); err != nil {
			t.Fatal(err)
		}
	}
	w.Dispatch(t, handofftest.Sample("p1"))
	w.Dispatch(t, handofftest.Sample("p2"))
	taken, err := store.Take(t.Context(), doors.Group, "r1", 1)
	if err != nil || len(taken) != 1 {
		t.Fatal(taken, err)
	}
	if err := store.Bury(t.Context(), doors.Group, eventlog.Failure{Delivery: taken[0], Error: "unsigned", At: w.Clock.Now()}); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Minute)
	if err := s.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if name, ours := strings.CutPrefix(f.GetName(), "latchkey_outbox_"); ours {
			for _, metric := range f.GetMetric() {
				got[name+" "+metric.GetLabel()[0].GetValue()] = metric.GetGauge().GetValue()
			}
		}
	}
	want := map[string]float64{
		"events mail": 2, "dead_letters mail": 0, "age_seconds mail": 60,
		"events doors": 1, "dead_letters doors": 1, "age_seconds doors": 60,
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %v, want %v", name, got[name], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}

	outbox := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := once(append([]string{"outbox", "--redis-url", "redis://" + addr}, args...)...)
		if code != want {
			t.Fatalf("outbox %v: %d, want %d\n%s%s", args, code, want, out, errs)
		}
		return out
	}
	list := outbox(0, "list")
	lines := strings.Split(strings.TrimSpace(list), "\n")
	if len(lines) != 2 || strings.Fields(lines[1])[1] != doors.Group {
		t.Errorf("the list:\n%s", list)
	}
	if list := outbox(0, "--group", mail.Group, "list"); !strings.Contains(list, "no dead letters in mail\n") {
		t.Errorf("the mail's list:\n%s", list)
	}
	id := strings.Fields(lines[1])[0]
	outbox(1, "--group", mail.Group, "replay", id)
	outbox(0, "replay", id)
	if list := outbox(0, "list"); !strings.Contains(list, "no dead letters in mail or residents or doors") {
		t.Errorf("after the replay:\n%s", list)
	}
	outbox(1, "replay", id)
	if out := outbox(0, "replay", "--all"); !strings.HasPrefix(out, "0 letters") {
		t.Errorf("nothing to replay: %s", out)
	}
	outbox(1, "forget", "--sure")
	outbox(0, "--group", doors.Group, "forget", "--sure")
}
