package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/notify/mail"
)

// keyRow is a row of the table of keys.
type keyRow struct {
	pattern string
	match   *regexp.Regexp
	ends    string
}

var (
	placeholder = regexp.MustCompile(`[A-Z]+`)
	columns     = regexp.MustCompile(` {2,}`)
)

// keyTable reads the table in keys.go, which says of every key when it ends.
func keyTable(t *testing.T) []keyRow {
	t.Helper()
	source, err := os.ReadFile("../../handoff/redisstore/keys.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []keyRow
	for line := range strings.Lines(string(source)) {
		text, comment := strings.CutPrefix(strings.TrimSpace(line), "//\t")
		if !comment || !strings.HasPrefix(text, "lk:") {
			continue
		}
		// key, type, what it holds, ends
		cells := columns.Split(text, -1)
		if len(cells) != 4 {
			t.Fatalf("the table of keys has a row of %d columns: %s", len(cells), line)
		}
		for pattern := range strings.SplitSeq(cells[0], ", ") {
			expression := regexp.QuoteMeta(pattern)
			expression = strings.ReplaceAll(expression, `\{pp\}`, `\{0[0-9a-f]\}`)
			expression = placeholder.ReplaceAllStringFunc(expression, func(name string) string {
				if name == "NAME" || name == "KEY" { // may have parts
					return `[^{}]+`
				}
				return `[^:{}]+`
			})
			rows = append(rows, keyRow{pattern, regexp.MustCompile(`^` + expression + `$`), cells[len(cells)-1]})
		}
	}
	if len(rows) < 25 {
		t.Fatalf("only %d rows were found", len(rows))
	}
	return rows
}

// standing are the keys that stay: what is registered, and what is one small value for
// each thing that is registered. None of them grows with the parcels.
var standing = []string{
	"lk:courier:CARRIER:ID", "lk:buildings", "lk:building:ID", "lk:door:ID", "lk:building:ID:doors", "lk:building:ID:residents",
	"lk:apikey:ID", "lk:apikeys", // until revoked
	"lk:{pp}:once",         // the last report of each door
	"lk:{pp}:counted",      // how far the log was counted
	"lk:chain:{NAME}:head", // where a chain stands, so that it goes on
	"lk:chains", "lk:lease:NAME",
	"lk:epoch", // which state of the store this is
}

// emptied are the keys that stay, with nothing in them.
var emptied = []string{"lk:{pp}:log", "lk:chain:{NAME}:entries"}

// Every key has its end, as the table of keys says it, or is registry: after a day in
// which every kind of key is written, and six weeks in which only the program's own
// background work goes on, nothing is left of the parcels.
func TestEveryKeyHasItsEnd(t *testing.T) {
	const kept = 30 * 24 * time.Hour
	table := keyTable(t)
	for _, row := range table {
		if stays := row.ends == "never" || row.ends == "until removed"; stays != slices.Contains(standing, row.pattern) {
			t.Errorf("%s ends %q, which is not what this test thinks of it", row.pattern, row.ends)
		}
	}

	m := miniredis.RunT(t)
	clock := handofftest.NewClock(handofftest.Noon)
	m.SetTime(clock.Now())
	client, err := redisstore.Dial("redis://" + m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: kept, Lanes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(); _ = client.Close() })
	instruments, err := newInstruments()
	if err != nil {
		t.Fatal(err)
	}
	server, err := mail.ParseURL("smtp://127.0.0.1:9") // nobody is there: the mails are the test's
	if err != nil {
		t.Fatal(err)
	}
	sender, err := mail.NewSender(mail.Config{Server: server, From: "latchkey@shop.example", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := door.NewSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSystem(parts{
		client: client, store: store, ring: ring, policy: handofftest.Policy(), clock: clock, sender: sender, verifier: nobody{},
		log: slog.New(slog.DiscardHandler), retention: kept, metrics: instruments, signer: signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(store.Join(ctx, "mail"))
	must(store.BeginEpoch(ctx, "an epoch"))

	// A day.
	w := &handofftest.World{Core: store, Store: store, Clock: clock, Service: s.service, Policy: handofftest.Policy()}
	at := handofftest.Home
	d := handoff.Door{ID: "gate", Kind: handoff.Gate, Mode: handoff.Connected, BuildingID: "bld_turm5", Location: &at}
	must(s.registry.Enroll(ctx, handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}))
	must(s.registry.EnrollDoor(ctx, d))
	must(s.residents.Subscribe(ctx, "bld_turm5", residents.Subscription{Address: "anna@home.example", Unit: "4 links"}))
	w.Cleared(t, "c1")
	w.Drives(t, "c1", handofftest.Route, handofftest.Today)
	must(store.ClearBudget(ctx, handofftest.Courier("c1"), service.Clearing{Reason: "a reason"}))
	must(store.AddAPIKey(ctx, identity.APIKey{ID: "k1", Scopes: []string{"ops"}}))
	for _, parcel := range []string{"p1", "p2", "p3"} {
		g := w.Dispatch(t, handofftest.Sample(parcel))
		if parcel == "p1" { // the mails of the others are told of as late
			must(w.Service.MailTaken(ctx, &g, handoff.MailAccepted))
		}
	}
	request := service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: "gate", Parcel: "p1", Position: &handoff.Position{Point: at}}
	_, err = s.service.Unlock(ctx, request)
	must(err)
	request.Parcel = "unknown"
	if _, err = s.service.Unlock(ctx, request); err == nil {
		t.Fatal("a permit for nobody's parcel")
	}
	_, err = s.registry.Alarmed(ctx, registry.Alarm{Door: d, Type: handoff.EventDoorForced, Seq: 1, At: handoff.InstantOf(clock.Now())})
	must(err)
	g := w.Parcel(t, "p1")
	if _, err := s.service.Verify(ctx, handofftest.AtDoor("c1", "p1", handofftest.WrongCode(&g, 1))); err == nil {
		t.Fatal("a wrong code passed")
	}
	_, err = s.service.Verify(ctx, handofftest.AtDoor("c1", "p1", g.CurrentCode()))
	must(err)
	shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	_, err = s.service.Recall(ctx, shop, w.Parcel(t, "p3").ID, "a reason")
	must(err)
	again := handofftest.Sample("p3")
	again.Day = again.Day.Next()
	w.Dispatch(t, again) // p3's next generation; p2 nobody brings
	must(store.Send(ctx, "gate", door.Message{Kind: "permit", Body: []byte("x")}))
	_, _, err = store.Mark(ctx, residents.Mark{Building: "bld_turm5", Of: "r1", Day: handofftest.Today, Topic: "t"})
	must(err)

	_, _, err = store.Recur(ctx, "device:1234", "swift c1", handoff.InstantOf(clock.Now()), time.Hour)
	must(err)
	must(store.AddSession(ctx, identity.Session{ID: identity.SessionID{1}, Subject: "s", Began: handoff.InstantOf(clock.Now())}, 2*time.Hour))
	must(store.AddSession(ctx, identity.Session{
		ID: identity.SessionID{2}, Subject: "cus_81", Shop: handofftest.Shop, Scopes: []string{"customer"}, Began: handoff.InstantOf(clock.Now()), Seen: handoff.InstantOf(clock.Now()),
	}, 2*time.Hour))
	_, err = store.Spend(ctx, "token", handoff.InstantOf(clock.Now().Add(time.Minute)), handoff.InstantOf(clock.Now()))
	must(err)

	_, err = store.Limit(ctx, "refused:1234", 5, time.Minute)
	must(err)
	must(store.Writable(ctx))

	// The mail fails for one event, is given up for another, does not finish a third, and does not
	// begin a fourth.
	_, err = store.Beat(ctx, "r1", true)
	must(err)
	taken, err := store.TakeUrgent(ctx, "mail", "r1", 1000)
	if err != nil || len(taken) < 6 {
		t.Fatal(len(taken), err)
	}
	must(store.Retry(ctx, "mail", eventlog.Failure{Delivery: taken[0], Error: "timeout", At: clock.Now()}, time.Hour))
	must(store.Bury(ctx, "mail", eventlog.Failure{Delivery: taken[1], Error: "rejected", At: clock.Now()}))
	must(store.Release(ctx, "mail", taken[3]))
	if _, err := store.TakeUrgent(ctx, "mail", "r1", 0); err != nil {
		t.Fatal(err)
	}
	for _, d := range taken[4:] {
		must(store.Done(ctx, "mail", d.ID))
	}
	if _, err := s.ledger.Work(ctx); err != nil {
		t.Fatal(err)
	}
	must(s.numbers.Work(ctx))

	seen := map[string][]string{}
	look := func() (keys []string) {
		t.Helper()
		keys = m.Keys()
		for _, key := range keys {
			rows := 0
			for _, row := range table {
				if row.match.MatchString(key) {
					rows++
					if !slices.Contains(seen[row.pattern], key) {
						seen[row.pattern] = append(seen[row.pattern], key)
					}
				}
			}
			if rows != 1 {
				t.Errorf("%s is in %d rows of the table", key, rows)
			}
		}
		return keys
	}
	look()
	for _, row := range table {
		if len(seen[row.pattern]) == 0 {
			t.Errorf("this day wrote no %s: let it, so that its end is seen", row.pattern)
		}
	}

	// Six weeks: time passes, the program works, and the mail goes out in the end.
	for range 45 {
		clock.Advance(24 * time.Hour)
		m.SetTime(clock.Now())
		m.FastForward(24 * time.Hour)
		must(s.sweep(ctx))
		must(s.sweepMails(ctx))
		_, err := store.Free(ctx, "mail", "r1")
		must(err)
		late, err := store.TakeUrgent(ctx, "mail", "r1", 1000)
		must(err)
		for _, d := range late {
			must(store.Done(ctx, "mail", d.ID))
		}
		if _, err := s.ledger.Work(ctx); err != nil {
			t.Fatal(err)
		}
		must(s.trim(ctx))
		must(s.residents.Tidy(ctx))
		look()
	}
	if _, err := store.Forget(ctx, "r1", 1); err != nil {
		t.Fatal(err)
	}
	letters, err := store.Dead(ctx, "mail")
	must(err)
	for _, l := range letters { // a dead letter waits for a person
		if _, err := store.Replay(ctx, "mail", l.ID); err != nil {
			t.Fatal(err)
		}
		must(store.Done(ctx, "mail", l.ID))
	}
	if len(letters) != 1 {
		t.Errorf("%d dead letters", len(letters))
	}

	for _, key := range look() {
		for _, row := range table {
			switch {
			case !row.match.MatchString(key) || slices.Contains(standing, row.pattern):
			case slices.Contains(emptied, row.pattern):
				if n := client.XLen(ctx, key).Val(); n != 0 {
					t.Errorf("%s still has %d entries, and ends: %s", key, n, row.ends)
				}
			default:
				t.Errorf("%s is still there, and ends: %s", key, row.ends)
			}
		}
	}
	// What stays knows no more of those days: who never confirmed was forgotten, and the
	// courier's routes are with the next one.
	if n := client.HLen(ctx, "lk:building:bld_turm5:residents").Val(); n != 0 {
		t.Errorf("%d residents who never confirmed", n)
	}
	w.Drives(t, "c1", "R9", handoff.DateOf(clock.Now()))
	for field := range client.HGetAll(ctx, "lk:courier:swift:c1").Val() {
		if strings.HasPrefix(field, "d:") && !strings.HasSuffix(field, "/R9") {
			t.Errorf("the courier still has %s", field)
		}
	}
}

// nobody is a verifier that knows nobody.
type nobody struct{}

func (nobody) Verify(context.Context, string) (*auth.Principal, error) { return nil, auth.ErrToken }
