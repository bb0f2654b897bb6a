package handofftest

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
	"latchkey/otp"
)

// Conformance is the suite that every [handofftest.Store] passes. Open gives each test an
// empty store of its own and cleans up after it by t.Cleanup.
//
// The suite lives by an injected clock: a store must judge schedules and budgets by the times
// that it is given. What it judges by its own clock (leases, and when an event is due again), it
// judges by the world's, which New sets where the store has a method LiveBy(func() time.Time). The ids
// of the log may come from its server's.
func Conformance(t *testing.T, open func(t *testing.T) Store) {
	CoreConformance(t, func(t *testing.T) Core { return open(t) })
	run(t, func(t *testing.T) Core { return open(t) }, []topic{
		{"Feed", feedTests},
		{"Credentials", credentialTests},
		{"Trail", trailTests},
		{"Residents", residentTests},
		{"Patterns", patternTests},
		{"OneUse", oneUseTests},
		{"Sessions", sessionTests},
		{"Numbers", numberTests},
	})
}

// CoreConformance is the part of the suite that a Core passes.
func CoreConformance(t *testing.T, open func(t *testing.T) Core) {
	run(t, open, []topic{
		{"Grants", grantTests},
		{"Budget", budgetTests},
		{"Mails", mailTests},
		{"Registry", registryTests},
		{"Log", logTests},
		{"Doors", doorTests},
		{"Faults", faultTests},
		{"Contention", contentionTests},
		{"Clocks", clockTests},
	})
}

// topic is a group of tests, by name.
type topic struct {
	name  string
	tests map[string]func(*testing.T, *World)
}

// run runs the tests of each topic in the order of their names, each on a store of its own.
func run(t *testing.T, open func(t *testing.T) Core, topics []topic) {
	for _, topic := range topics {
		t.Run(topic.name, func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(topic.tests)) {
				t.Run(name, func(t *testing.T) { topic.tests[name](t, New(t, open(t))) })
			}
		})
	}
}

// minted is the first commit of a parcel, as the service would make it, over a version.
func minted(t TB, w *World, from service.Version, d handoff.Dispatch) service.Change {
	t.Helper()
	id := w.Service.ParcelHash(d.Carrier, d.Parcel)
	decision := handoff.Decide(nil, handoff.Command{Act: handoff.Mint, Parcel: id, Dispatch: &d}, handoff.Facts{Policy: w.Policy}, w.Clock.Now())
	if decision.Refusal != nil {
		t.Fatalf("mint: %v", decision.Refusal)
	}
	for i := range decision.Events {
		decision.Events[i].Grant.Generation = from.Generation() + 1
	}
	secret, err := otp.NewSecret(rand.Reader)
	if err != nil {
		t.Fatalf("NewSecret: %v", err)
	}
	g := handoff.Seed(decision.Events[0].Grant, d, handoff.CodeState{Secret: secret})
	return service.Change{
		From: from, Record: service.Record{Grant: handoff.Replay(g, decision.Events), Commits: []service.CommitID{1}},
		Events: decision.Events, Now: handoff.InstantOf(w.Clock.Now()),
	}
}

// follows is a commit after another, with one event.
func follows(w *World, c service.Change, event handoff.EventType) service.Change {
	g := c.Record.Grant
	e := handoff.Event{Type: event, Grant: g.ID, At: handoff.InstantOf(w.Clock.Now()), Shop: g.Dispatch.Shop, Carrier: g.Dispatch.Carrier, Parcel: g.Dispatch.Parcel}
	next := service.Change{From: c.From.Next(g.ID.Generation), Record: c.Record, Events: []handoff.Event{e}, Now: e.At}
	next.Record.Grant = handoff.Apply(g, e)
	next.Record.Commits = append(slices.Clone(c.Record.Commits), service.CommitID(len(c.Record.Commits)+1))
	return next
}

func load(t *testing.T, w *World, q service.Query) service.Snapshot {
	t.Helper()
	snap, err := w.Core.Load(t.Context(), q)
	if err != nil {
		t.Fatalf("Load(%+v): %v", q, err)
	}
	return snap
}

func prepare(t *testing.T, w *World, p service.Preparation) service.Snapshot {
	t.Helper()
	snap, err := w.Core.Prepare(t.Context(), p)
	if err != nil {
		t.Fatalf("Prepare(%+v): %v", p, err)
	}
	return snap
}

func commit(t *testing.T, w *World, c service.Change) service.Change {
	t.Helper()
	if err := w.Core.Commit(t.Context(), c); err != nil {
		t.Fatalf("Commit over %d: %v", c.From, err)
	}
	return c
}

func noError(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

var grantTests = map[string]func(*testing.T, *World){
	"UnknownIsNilAndNoError": func(t *testing.T, w *World) {
		ref := Courier("nobody")
		equal(t, "snapshot of nothing", load(t, w, service.Query{Parcel: w.Service.ParcelHash(Carrier, "nothing"), Courier: &ref}), service.Snapshot{})
	},

	"RoundTrip": func(t *testing.T, w *World) {
		c := minted(t, w, 0, Sample("p1"))
		c.Record.Answers = []service.Answer{{Attempt: "a1", Courier: "c1", Digest: []byte{1, 2}, At: 7, Distance: 10, Reason: handoff.CodeMismatch, Left: 4, Verdict: []byte{1, 1, 2}}}
		c.Record.Notes = []service.Note{{At: 9, Act: handoff.Hold, Text: "the customer called"}}
		commit(t, w, c)
		id := c.Record.Grant.ID
		for _, generation := range []int{0, 1} {
			snap := load(t, w, service.Query{Parcel: id.Hash, Generation: generation})
			equal(t, "record", snap.Record, &c.Record)
			equal(t, "version", snap.Version, service.Version(0).Next(1))
			equal(t, "archived", snap.Archived, false)
		}
		equal(t, "a generation not yet there", load(t, w, service.Query{Parcel: id.Hash, Generation: 2}).Record, (*service.Record)(nil))
	},

	"NoCallerSharesMemoryWithTheStore": func(t *testing.T, w *World) {
		c := commit(t, w, minted(t, w, 0, Sample("p1")))
		q := service.Query{Parcel: c.Record.Grant.ID.Hash}
		want := load(t, w, q).Record
		loaded := load(t, w, q).Record
		for _, r := range []*service.Record{&c.Record, loaded} {
			r.Grant.Rights[0].Uses = 99
			r.Grant.History[0].Type = handoff.EventRecalled
			r.Grant.Dispatch.To.Location.Lat = 1
			r.Commits[0] = 99
		}
		c.Events[0].Rights[0].Uses = 99
		equal(t, "record", load(t, w, q).Record, want)
		for _, e := range w.Events(t) {
			equal(t, "uses in the log", e.Rights[0].Uses, 1)
		}
	},

	"CommitsOverTheLoadedVersionOnly": func(t *testing.T, w *World) {
		first := commit(t, w, minted(t, w, 0, Sample("p1")))
		second := commit(t, w, follows(w, first, handoff.EventAttempted))
		q := service.Query{Parcel: first.Record.Grant.ID.Hash}
		before := load(t, w, q)
		equal(t, "version", before.Version, second.From.Next(1))

		stale := follows(w, first, handoff.EventRecalled)
		ahead := stale
		ahead.From = before.Version.Next(1)
		reservation := service.Guess{Courier: Courier("c1"), ID: "t1", At: handoff.InstantOf(Noon)}
		prepare(t, w, service.Preparation{Query: service.Query{Parcel: q.Parcel, Courier: &reservation.Courier}, Guess: &reservation})
		for name, c := range map[string]service.Change{"stale": stale, "ahead": ahead, "again": second, "from nothing": minted(t, w, 0, Sample("p1"))} {
			c.Settle = &service.Settlement{Guess: reservation, Counted: true}
			if err := w.Core.Commit(t.Context(), c); !errors.Is(err, storage.ErrConflict) {
				t.Errorf("%s: got %v, want ErrConflict", name, err)
			}
		}
		equal(t, "snapshot after conflicts", load(t, w, q), before)
		if n := len(w.Events(t)); n != 2 {
			t.Errorf("%d events in the log after conflicts, want 2", n)
		}
		until := first.Record.Grant.Window.Until
		due, err := w.Core.Due(t.Context(), q.Parcel.Partition(), until, 10)
		noError(t, "Due", err)
		equal(t, "due after a refused recall", due, []handoff.GrantID{first.Record.Grant.ID})
		equal(t, "account after conflicts that would have counted", w.Account(t, "c1"), handoff.Account{Reserved: []handoff.Instant{reservation.At}})
	},

	"TimeChangesAnArchivedGeneration": func(t *testing.T, w *World) {
		first := commit(t, w, minted(t, w, 0, Sample("p1")))
		closed := commit(t, w, follows(w, first, handoff.EventRecalled))
		later := Sample("p1")
		later.Day = Today.Next()
		second := commit(t, w, minted(t, w, closed.From.Next(1), later))
		hash := first.Record.Grant.ID.Hash

		never := handoff.InstantOf(Noon.AddDate(1, 0, 0))
		due := func() []handoff.GrantID {
			t.Helper()
			ids, err := w.Core.Due(t.Context(), hash.Partition(), never, 10)
			noError(t, "Due", err)
			slices.SortFunc(ids, func(a, b handoff.GrantID) int { return a.Generation - b.Generation })
			return ids
		}
		equal(t, "due: both generations", due(), []handoff.GrantID{{Hash: hash, Generation: 1}, {Hash: hash, Generation: 2}})

		old := load(t, w, service.Query{Parcel: hash, Generation: 1})
		scrubbed := follows(w, closed, handoff.EventScrubbed)
		scrubbed.From, scrubbed.Archived = old.Version, true
		scrubbed.Record.Grant.Scrubbed = []byte("a digest")
		commit(t, w, scrubbed)
		if err := w.Core.Commit(t.Context(), scrubbed); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("the same commit again: got %v, want ErrConflict", err)
		}
		old = load(t, w, service.Query{Parcel: hash, Generation: 1})
		equal(t, "the archived generation", old.Record, &scrubbed.Record)
		newest := load(t, w, service.Query{Parcel: hash})
		equal(t, "the newest", newest.Record, &second.Record)
		equal(t, "its version", newest.Version.Generation(), 2)
		equal(t, "due: the newest alone", due(), []handoff.GrantID{{Hash: hash, Generation: 2}})
	},

	"UnlistTakesOneParcelOfOneCustomer": func(t *testing.T, w *World) {
		index := service.Index{
			Customer: handoff.CustomerRef{Shop: Shop, ID: "cus_81"}, Route: service.RouteRef{Carrier: Carrier, Route: Route, Day: Today},
			Until: handoff.InstantOf(Noon.Add(time.Hour)), Now: handoff.InstantOf(Noon),
		}
		other := index
		other.Customer.ID = "cus_82"
		ids := []handoff.ParcelHash{w.Service.ParcelHash(Carrier, "p1"), w.Service.ParcelHash(Carrier, "p2")}
		for _, id := range ids {
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: id}, Index: &index})
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: id}, Index: &other})
		}
		for range 2 {
			noError(t, "Unlist", w.Core.Unlist(t.Context(), index.Customer, ids[0]))
		}
		left, err := w.Core.OfCustomer(t.Context(), index.Customer, service.Listed{}, 10)
		noError(t, "OfCustomer", err)
		equal(t, "left", left, []service.Listed{{Parcel: ids[1], Until: index.Until}})
		theirs, err := w.Core.OfCustomer(t.Context(), other.Customer, service.Listed{}, 10)
		noError(t, "OfCustomer", err)
		equal(t, "the other's", len(theirs), 2)
	},

	"EventsLandInOrderInTheGrantsPartition": func(t *testing.T, w *World) {
		c := minted(t, w, 0, Sample("p1"))
		second := follows(w, c, handoff.EventAttempted)
		c.Events = append(c.Events, second.Events...)
		c.Record.Grant = second.Record.Grant
		commit(t, w, c)
		id := c.Record.Grant.ID
		page, err := w.Core.Read(t.Context(), id.Hash.Partition(), "", 10)
		noError(t, "Read", err)
		if len(page) != 2 {
			t.Fatalf("%d events in the log, want 2", len(page))
		}
		for i, l := range page {
			equal(t, "event", l.Event, c.Events[i])
			equal(t, "partition", l.ID.Partition, id.Hash.Partition())
		}
	},

	"GenerationsAreArchived": func(t *testing.T, w *World) {
		first := commit(t, w, minted(t, w, 0, Sample("p1")))
		closed := commit(t, w, follows(w, first, handoff.EventRecalled))
		later := Sample("p1")
		later.Day = Today.Next()
		second := commit(t, w, minted(t, w, closed.From.Next(1), later))
		hash := first.Record.Grant.ID.Hash

		newest := load(t, w, service.Query{Parcel: hash})
		equal(t, "newest", newest.Record, &second.Record)
		equal(t, "newest is archived", newest.Archived, false)
		equal(t, "generation of the version", newest.Version.Generation(), 2)
		old := load(t, w, service.Query{Parcel: hash, Generation: 1})
		equal(t, "first generation", old.Record, &closed.Record)
		equal(t, "first generation is archived", old.Archived, true)
		if err := w.Core.Commit(t.Context(), follows(w, closed, handoff.EventHeld)); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("a commit on the first generation: got %v, want ErrConflict", err)
		}

		grants, err := w.Core.Many(t.Context(), []handoff.ParcelHash{hash})
		noError(t, "Many", err)
		equal(t, "many", grants, []handoff.Grant{second.Record.Grant})
		due, err := w.Core.Due(t.Context(), hash.Partition(), second.Record.Grant.Window.Until-1, 10)
		noError(t, "Due", err)
		if len(due) != 0 {
			t.Errorf("the second generation is due by the first one's window: %v", due)
		}
	},

	"ManyLeavesOutWhatIsGone": func(t *testing.T, w *World) {
		var ids []handoff.ParcelHash
		want := map[handoff.GrantID]handoff.Grant{}
		for i := range 40 { // over all partitions
			c := commit(t, w, minted(t, w, 0, Sample(fmt.Sprintf("p%d", i))))
			ids = append(ids, c.Record.Grant.ID.Hash, w.Service.ParcelHash(Carrier, fmt.Sprintf("gone%d", i)))
			want[c.Record.Grant.ID] = c.Record.Grant
		}
		grants, err := w.Core.Many(t.Context(), ids)
		noError(t, "Many", err)
		got := map[handoff.GrantID]handoff.Grant{}
		for _, g := range grants {
			got[g.ID] = g
		}
		equal(t, "many", got, want)
		equal(t, "count", len(grants), len(want))
		none, err := w.Core.Many(t.Context(), nil)
		if len(none) != 0 || err != nil {
			t.Errorf("Many(nil) = %v, %v", none, err)
		}
	},

	"ACustomersListIsPaged": func(t *testing.T, w *World) {
		index := service.Index{
			Customer: handoff.CustomerRef{Shop: Shop, ID: "cus_81"},
			Route:    service.RouteRef{Carrier: Carrier, Route: Route, Day: Today}, Now: handoff.InstantOf(Noon),
		}
		var want []service.Listed
		for n := range 9 { // three days, of two, five and two parcels
			l := service.Listed{Parcel: w.Service.ParcelHash(Carrier, fmt.Sprint("p", n)), Until: handoff.InstantOf(Noon.AddDate(0, 0, (n+3)/5))}
			index.Until = l.Until
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: l.Parcel}, Index: &index})
			want = append(want, l)
		}
		index.Until = want[8].Until - 24*3600 // an older end does not count
		prepare(t, w, service.Preparation{Query: service.Query{Parcel: want[8].Parcel}, Index: &index})
		slices.SortFunc(want, func(a, b service.Listed) int {
			return cmp.Or(cmp.Compare(b.Until, a.Until), cmp.Compare(b.Parcel, a.Parcel))
		})
		for limit := 1; limit <= 10; limit++ {
			var got []service.Listed
			for after := (service.Listed{}); ; after = got[len(got)-1] {
				page, err := w.Core.OfCustomer(t.Context(), index.Customer, after, limit)
				noError(t, "OfCustomer", err)
				if len(page) > limit {
					t.Fatalf("%d entries, asked for %d", len(page), limit)
				}
				if got = append(got, page...); len(page) < limit || len(got) > len(want) {
					break
				}
			}
			equal(t, fmt.Sprint("pages of ", limit), got, want)
		}
	},

	"IndexIsWrittenAhead": func(t *testing.T, w *World) {
		index := service.Index{
			Customer: handoff.CustomerRef{Shop: Shop, ID: "cus_81"},
			Route:    service.RouteRef{Carrier: Carrier, Route: Route, Day: Today},
			Order:    service.OrderRef{Name: [8]byte{1, 2, 3, 0, 255, 10, 13, 8}, Day: Today},
			Until:    handoff.InstantOf(Noon.Add(12 * time.Hour)), Now: handoff.InstantOf(Noon),
		}
		a, b := w.Service.ParcelHash(Carrier, "a"), w.Service.ParcelHash(Carrier, "b")
		for _, id := range []handoff.ParcelHash{a, b, a} {
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: id}, Index: &index})
		}
		sorted := func(ids []handoff.ParcelHash, err error) []handoff.ParcelHash {
			t.Helper()
			noError(t, "list", err)
			return slices.Sorted(slices.Values(ids))
		}
		want := slices.Sorted(slices.Values([]handoff.ParcelHash{a, b}))
		ofCustomer := func(c handoff.CustomerRef) (ids []handoff.ParcelHash, err error) {
			list, err := w.Core.OfCustomer(t.Context(), c, service.Listed{}, 10)
			for _, l := range list {
				ids = append(ids, l.Parcel)
			}
			return ids, err
		}
		equal(t, "of customer", sorted(ofCustomer(index.Customer)), want)
		equal(t, "on route", sorted(w.Core.OnRoute(t.Context(), index.Route)), want)
		equal(t, "of order", sorted(w.Core.OfOrder(t.Context(), index.Order)), want)
		nextDay, another := index.Order, index.Order
		nextDay.Day, another.Name[7] = Today.Next(), another.Name[7]^1 // kept beside each other
		for _, o := range []service.OrderRef{nextDay, another} {
			equal(t, fmt.Sprint("of order ", o), sorted(w.Core.OfOrder(t.Context(), o)), []handoff.ParcelHash(nil))
		}

		var none []handoff.ParcelHash
		otherShop := handoff.CustomerRef{Shop: "other", ID: index.Customer.ID}
		equal(t, "same id of another shop", sorted(ofCustomer(otherShop)), none)
		for _, r := range []service.RouteRef{
			{Carrier: "rival", Route: Route, Day: Today},
			{Carrier: Carrier, Route: "BER-043", Day: Today},
			{Carrier: Carrier, Route: Route, Day: Today.Next()},
		} {
			equal(t, fmt.Sprint("on route ", r), sorted(w.Core.OnRoute(t.Context(), r)), none)
		}
	},

	"Schedule": func(t *testing.T, w *World) {
		c := commit(t, w, minted(t, w, 0, Sample("p1")))
		id, until := c.Record.Grant.ID, c.Record.Grant.Window.Until
		due := func(now handoff.Instant) bool {
			t.Helper()
			ids, err := w.Core.Due(t.Context(), id.Hash.Partition(), now, 10)
			noError(t, "Due", err)
			return slices.Contains(ids, id)
		}
		elsewhere, err := w.Core.Due(t.Context(), (id.Hash.Partition()+1)%handoff.Partitions, until, 10)
		noError(t, "Due", err)
		if due(until-1) || !due(until) || slices.Contains(elsewhere, id) {
			t.Errorf("an active grant is due from the end of its window on, in its partition: %v before, %v at the end, %v elsewhere", due(until-1), due(until), elsewhere)
		}
		for _, step := range []struct {
			event handoff.EventType
			due   bool
		}{
			{handoff.EventHeld, false},
			{handoff.EventLifted, true},
			{handoff.EventReleased, false},
			{handoff.EventAborted, true},
			{handoff.EventExpired, false},
		} {
			c = commit(t, w, follows(w, c, step.event))
			if due(until) != step.due {
				t.Errorf("after %v the grant is due: %v, want %v", step.event, due(until), step.due)
			}
		}
	},

	"ScheduleFollowsTheWindow": func(t *testing.T, w *World) {
		c := commit(t, w, minted(t, w, 0, Sample("p1")))
		old := c.Record.Grant.Window.Until
		c = follows(w, c, handoff.EventAttempted)
		c.Record.Grant.Window.Until += 24 * 3600
		commit(t, w, c)
		id := c.Record.Grant.ID.Hash
		ids, err := w.Core.Due(t.Context(), id.Partition(), c.Record.Grant.Window.Until-1, 10)
		if len(ids) != 0 || err != nil {
			t.Errorf("still due at %v after its window moved: %v, %v", old, ids, err)
		}
	},

	"DueIsLimited": func(t *testing.T, w *World) {
		due := map[int]int{}
		for i := range 64 {
			due[commit(t, w, minted(t, w, 0, Sample(fmt.Sprintf("p%d", i)))).Record.Grant.ID.Hash.Partition()]++
		}
		for partition, n := range due {
			for _, limit := range []int{1, 2, 100} {
				ids, err := w.Core.Due(t.Context(), partition, handoff.InstantOf(Noon.AddDate(0, 0, 2)), limit)
				if err != nil || len(ids) != min(n, limit) {
					t.Errorf("partition %d, limit %d of %d: got %d, %v", partition, limit, n, len(ids), err)
				}
			}
		}
	},

	"UnscheduleIsHarmless": func(t *testing.T, w *World) {
		noError(t, "Unschedule", w.Core.Unschedule(t.Context(), handoff.GrantID{Hash: w.Service.ParcelHash(Carrier, "gone"), Generation: 1}))
	},
}

var budgetTests = map[string]func(*testing.T, *World){
	"ReserveGiveBackCount": func(t *testing.T, w *World) {
		ref, at := Courier("c1"), handoff.InstantOf(Noon)
		reserve := func(token string) service.Guess {
			t.Helper()
			r := service.Guess{Courier: ref, ID: token, At: at}
			snap := prepare(t, w, service.Preparation{Query: service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Courier: &ref}, Guess: &r})
			if len(snap.Account.Reserved) == 0 {
				t.Errorf("%s: the load that reserves does not see its own reservation", token)
			}
			return r
		}
		settle := func(r service.Guess, counted bool) {
			t.Helper()
			noError(t, "Settle", w.Core.Settle(t.Context(), service.Settlement{Guess: r, Counted: counted}))
		}
		account := func(when string, counted, reserved int) {
			t.Helper()
			a := w.Account(t, "c1")
			if len(a.Counted) != counted || len(a.Reserved) != reserved {
				t.Errorf("%s: %d counted, %d reserved, want %d and %d", when, len(a.Counted), len(a.Reserved), counted, reserved)
			}
		}
		one, two := reserve("one"), reserve("two")
		account("two reserved", 0, 2)
		reserve("one")
		account("the same reserved again", 0, 2)
		settle(one, false)
		settle(one, false)
		account("one given back, twice", 0, 1)
		reserve("one")
		account("reserved after it was given back", 0, 2)
		settle(two, true)
		settle(two, true)
		account("one counted, twice", 1, 1)
		settle(two, false)
		account("a counted one is not given back", 1, 1)
		settle(one, true)
		account("both counted", 2, 0)
		equal(t, "times", w.Account(t, "c1").Counted, []handoff.Instant{at, at})
		equal(t, "another courier", w.Account(t, "c2"), handoff.Account{})
		noError(t, "ClearBudget", w.Core.ClearBudget(t.Context(), ref, service.Clearing{}))
		account("cleared", 0, 0)
	},

	"ReservationsQueueInTheOrderOfTheirArrival": func(t *testing.T, w *World) {
		ref := Courier("c1")
		ahead := func(token string, at handoff.Instant) int {
			r := service.Guess{Courier: ref, ID: token, At: at}
			return len(prepare(t, w, service.Preparation{Query: service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Courier: &ref}, Guess: &r}).Account.Reserved)
		}
		noon := handoff.InstantOf(Noon)
		// Neither tokens nor the clocks of those who ask decide who came first.
		equal(t, "places", []int{ahead("m", noon), ahead("a", noon+1), ahead("z", noon-1)}, []int{1, 2, 3})
		equal(t, "places, asked again", []int{ahead("z", noon-1), ahead("a", noon+1), ahead("m", noon)}, []int{3, 2, 1})
		noError(t, "Settle", w.Core.Settle(t.Context(), service.Settlement{Guess: service.Guess{Courier: ref, ID: "m", At: noon}}))
		equal(t, "places once the first is gone", []int{ahead("a", noon+1), ahead("z", noon-1)}, []int{1, 2})
		equal(t, "the first, come again", ahead("m", noon), 3)
	},

	"AHeldPlaceThatIsGoneIsNoPlace": func(t *testing.T, w *World) {
		ref := Courier("c1")
		ask := func(token string, held bool) handoff.Account {
			r := service.Guess{Courier: ref, ID: token, At: handoff.InstantOf(Noon), Held: held}
			return prepare(t, w, service.Preparation{Query: service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Courier: &ref}, Guess: &r}).Account
		}
		equal(t, "placed at first", ask("a", false).Placed, true)
		equal(t, "placed while held", ask("a", true).Placed, true)
		noError(t, "ClearBudget", w.Core.ClearBudget(t.Context(), ref, service.Clearing{}))
		equal(t, "placed after clearing", ask("a", true).Placed, false)
		equal(t, "reserved by asking for what is held", len(ask("a", true).Reserved), 0)
		equal(t, "placed anew", ask("a", false).Placed, true)
	},

	"ReadingDoesNotReserve": func(t *testing.T, w *World) {
		w.Account(t, "c1")
		equal(t, "account", w.Account(t, "c1"), handoff.Account{})
	},

	"CommitSettles": func(t *testing.T, w *World) {
		c := commit(t, w, minted(t, w, 0, Sample("p1")))
		for i, counted := range []bool{false, true, true} {
			r := service.Guess{Courier: Courier("c1"), ID: fmt.Sprint(i), At: handoff.InstantOf(Noon) + handoff.Instant(i)}
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: c.Record.Grant.ID.Hash, Courier: &r.Courier}, Guess: &r})
			c = follows(w, c, handoff.EventAttempted)
			c.Settle = &service.Settlement{Guess: r, Counted: counted}
			commit(t, w, c)
			noError(t, "Settle", w.Core.Settle(t.Context(), *c.Settle)) // as after a lost answer
		}
		a := w.Account(t, "c1")
		slices.Sort(a.Counted)
		equal(t, "account", a, handoff.Account{Counted: []handoff.Instant{handoff.InstantOf(Noon) + 1, handoff.InstantOf(Noon) + 2}})
	},

	"ACarriersDayIsCountedWithTheCommit": func(t *testing.T, w *World) {
		hour := handoff.HourOf(handoff.InstantOf(Noon))
		parcels := map[int]service.Change{} // two, in different partitions
		var order []int
		for n := 0; len(order) < 2; n++ {
			c := minted(t, w, 0, Sample(fmt.Sprintf("p%d", n)))
			if p := c.Record.Grant.ID.Hash.Partition(); parcels[p].Record.Commits == nil {
				parcels[p], order = commit(t, w, c), append(order, p)
			}
		}
		one, two := order[0], order[1]
		count := func(partition int, n service.CarrierCount) error {
			n.Carrier = Carrier
			c := follows(w, parcels[partition], handoff.EventAttempted)
			c.Count = &n
			err := w.Core.Commit(t.Context(), c)
			if err == nil {
				parcels[partition] = c
			}
			return err
		}
		day := func(hour int64, first, second, released int) {
			t.Helper()
			want := handoff.CarrierDay{Hour: hour, Released: released}
			want.Wrong[one], want.Wrong[two] = first, second
			got, err := w.Core.CarrierDay(t.Context(), Carrier, handoff.Instant(hour*3600+1800))
			noError(t, "CarrierDay", err)
			equal(t, "day", got, want)
		}
		day(hour, 0, 0, 0)
		noError(t, "a wrong code", count(one, service.CarrierCount{Hour: hour, Wrong: 1}))
		noError(t, "a wrong code elsewhere", count(two, service.CarrierCount{Hour: hour, Wrong: 1}))
		for _, before := range []int{0, 2} { // it has one
			if err := count(one, service.CarrierCount{Hour: hour, Wrong: 1, Before: before}); !errors.Is(err, storage.ErrConflict) {
				t.Errorf("a wrong code judged with %d: %v", before, err)
			}
		}
		day(hour, 1, 1, 0)
		equal(t, "version", load(t, w, service.Query{Parcel: parcels[one].Record.Grant.ID.Hash}).Version, parcels[one].From+1)
		noError(t, "the next", count(one, service.CarrierCount{Hour: hour, Wrong: 1, Before: 1}))
		for range 3 { // a release need not have seen anything
			noError(t, "a release", count(one, service.CarrierCount{Hour: hour, Released: 1, Before: 7}))
		}
		noError(t, "taken back", count(one, service.CarrierCount{Hour: hour + 1, Released: -1}))
		day(hour+1, 2, 1, 2)
		day(hour+24, 2, 1, 2)
		noError(t, "a day later", count(two, service.CarrierCount{Hour: hour + 24, Wrong: 1, Before: 1}))
		day(hour+25, 0, 1, -1)
		noError(t, "later still", count(one, service.CarrierCount{Hour: hour + 25, Wrong: 1}))
		day(hour+25, 1, 1, -1)
		other, err := w.Core.CarrierDay(t.Context(), "rival", handoff.InstantOf(Noon))
		noError(t, "CarrierDay", err)
		equal(t, "another carrier's", other, handoff.CarrierDay{Hour: hour})
	},

	"AnExcusedCodeIsKeptApart": func(t *testing.T, w *World) {
		c := commit(t, w, minted(t, w, 0, Sample("p1")))
		at := handoff.InstantOf(Noon)
		for i, excused := range []bool{true, false, true} {
			r := service.Guess{Courier: Courier("c1"), ID: fmt.Sprint(i), At: at + handoff.Instant(i)}
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: c.Record.Grant.ID.Hash, Courier: &r.Courier}, Guess: &r})
			st := service.Settlement{Guess: r, Counted: true, Excused: excused}
			if i == 0 {
				c = follows(w, c, handoff.EventAttempted)
				c.Settle = &st
				commit(t, w, c)
			}
			noError(t, "Settle", w.Core.Settle(t.Context(), st)) // the first for the second time
			noError(t, "Settle", w.Core.Settle(t.Context(), service.Settlement{Guess: r}))
		}
		a := w.Account(t, "c1")
		slices.Sort(a.Excused)
		equal(t, "account", a, handoff.Account{Counted: []handoff.Instant{at + 1}, Excused: []handoff.Instant{at, at + 2}})
	},

	"AWrongCodeKeepsToWhomItWasSaid": func(t *testing.T, w *World) {
		c := commit(t, w, minted(t, w, 0, Sample("p1")))
		at := handoff.InstantOf(Noon)
		for i, st := range []service.Settlement{{Counted: true, To: "c0ffee01"}, {Counted: true, Excused: true, To: "c0ffee02"}, {Counted: true, To: "c0ffee01"}, {To: "c0ffee01"}} {
			st.Guess = service.Guess{Courier: Courier("c1"), ID: fmt.Sprint(i), At: at + handoff.Instant(i)}
			own := st.Guess
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: c.Record.Grant.ID.Hash, Courier: &own.Courier}, Guess: &own})
			c = follows(w, c, handoff.EventAttempted)
			c.Settle = &st
			commit(t, w, c)
			noError(t, "Settle", w.Core.Settle(t.Context(), st)) // for the second time
		}
		a := w.Account(t, "c1")
		for _, times := range a.By {
			slices.Sort(times)
		}
		equal(t, "by customer", a.By, map[string][]handoff.Instant{"c0ffee01": {at, at + 2}, "c0ffee02": {at + 1}})
		equal(t, "all", fmt.Sprint(len(a.Counted), len(a.Excused), len(a.Reserved)), "2 1 0")
	},

	"ACountedGuessLoadedAgainIsOneGuess": func(t *testing.T, w *World) {
		// The commit was done and its answer lost: the next load carries the same token.
		c := commit(t, w, minted(t, w, 0, Sample("p1")))
		r := service.Guess{Courier: Courier("c1"), ID: "t", At: handoff.InstantOf(Noon)}
		q := service.Preparation{Query: service.Query{Parcel: c.Record.Grant.ID.Hash, Courier: &r.Courier}, Guess: &r}
		prepare(t, w, q)
		c = follows(w, c, handoff.EventAttempted)
		c.Settle = &service.Settlement{Guess: r, Counted: true}
		commit(t, w, c)
		prepare(t, w, q)
		noError(t, "Settle", w.Core.Settle(t.Context(), *c.Settle))
		equal(t, "account", w.Account(t, "c1"), handoff.Account{Counted: []handoff.Instant{r.At}})
	},

	"AWrongCodeIsRememberedForThirtyDays": func(t *testing.T, w *World) {
		ref := Courier("c1")
		for day := range 30 {
			r := service.Guess{Courier: ref, ID: fmt.Sprint(day), At: handoff.InstantOf(Noon.AddDate(0, 0, day))}
			prepare(t, w, service.Preparation{Query: service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Courier: &ref}, Guess: &r})
			if day%2 == 0 { // the others are never settled: their process died
				noError(t, "Settle", w.Core.Settle(t.Context(), service.Settlement{Guess: r, Counted: true}))
			}
		}
		a := w.Account(t, "c1")
		if len(a.Counted) != 15 || len(a.Reserved) != 15 {
			t.Errorf("%d counted, %d abandoned, want 15 of each", len(a.Counted), len(a.Reserved))
		}
	},
}

var registryTests = map[string]func(*testing.T, *World){
	"PutKeepsWhatIsNotGiven": func(t *testing.T, w *World) {
		ref := Courier("c1")
		if c, err := w.Core.Courier(t.Context(), ref); c != nil || err != nil {
			t.Fatalf("an unknown courier is %+v, %v", c, err)
		}
		name, until, suspended := "Sample Courier 1", handoff.InstantOf(Noon), true
		want := handoff.Courier{CourierRef: ref}
		for _, step := range []struct {
			update service.CourierUpdate
			change func()
		}{
			{service.CourierUpdate{Name: &name}, func() { want.Name = name }},
			{service.CourierUpdate{ClearedUntil: &until}, func() { want.ClearedUntil = until }},
			{service.CourierUpdate{Suspended: &suspended}, func() { want.Suspended = true }},
			{service.CourierUpdate{}, func() {}},
			{service.CourierUpdate{Suspended: new(bool)}, func() { want.Suspended = false }},
		} {
			noError(t, "PutCourier", w.Core.PutCourier(t.Context(), ref, step.update))
			step.change()
			got, err := w.Core.Courier(t.Context(), ref)
			noError(t, "Courier", err)
			if got == nil || got.Name != want.Name || got.ClearedUntil != want.ClearedUntil || got.Suspended != want.Suspended || got.CourierRef != ref || len(got.Drives) != 0 {
				t.Errorf("got %+v, want %+v", got, want)
			}
			snap := load(t, w, service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Courier: &ref})
			facts, loaded := *got, *snap.Courier
			facts.Name, loaded.Name = "", "" // no decision needs it, so that Load may leave it out
			equal(t, "the courier as loaded", loaded, facts)
		}
		if c, err := w.Core.Courier(t.Context(), handoff.CourierRef{Carrier: "rival", ID: "c1"}); c != nil || err != nil {
			t.Errorf("the same id of another carrier is %+v, %v", c, err)
		}
	},

	"ClearBudgetKeepsWhy": func(t *testing.T, w *World) {
		ref := Courier("c1")
		none, err := w.Core.Clearings(t.Context(), ref)
		noError(t, "Clearings", err)
		equal(t, "reasons before", len(none), 0)
		var want []service.Clearing
		for i := range 18 {
			c := service.Clearing{At: handoff.InstantOf(Noon) + handoff.Instant(i), Who: "aaaa", Reason: fmt.Sprintf("reason %d", i)}
			noError(t, "ClearBudget", w.Core.ClearBudget(t.Context(), ref, c))
			want = append([]service.Clearing{c}, want...)
		}
		got, err := w.Core.Clearings(t.Context(), ref)
		noError(t, "Clearings", err)
		equal(t, "the newest sixteen", got, want[:16])
		other, err := w.Core.Clearings(t.Context(), Courier("c2"))
		noError(t, "Clearings", err)
		equal(t, "another's", len(other), 0)
	},

	"SignOutCourierNeverGoesBack": func(t *testing.T, w *World) {
		w.Cleared(t, "c1", "c2")
		w.Drives(t, "c1", Route, Today)
		ref, noon := Courier("c1"), handoff.InstantOf(Noon)
		for _, step := range []struct{ at, want handoff.Instant }{{noon, noon}, {noon, noon}, {noon - 1, noon}, {noon + 1, noon + 1}} {
			noError(t, "SignOutCourier", w.Core.SignOutCourier(t.Context(), ref, step.at))
			got, err := w.Core.Courier(t.Context(), ref)
			noError(t, "Courier", err)
			equal(t, "the sign-out", got.SignedOut, step.want)
			snap := load(t, w, service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Courier: &ref})
			equal(t, "the sign-out as loaded", snap.Courier.SignedOut, step.want)
			equal(t, "the routes beside it", len(got.Drives), 1)
		}
		other, err := w.Core.Courier(t.Context(), Courier("c2"))
		noError(t, "Courier", err)
		equal(t, "another's sign-out", other.SignedOut, handoff.Instant(0))
	},

	"AssignRouteTakesItFromTheOther": func(t *testing.T, w *World) {
		w.Cleared(t, "c1", "c2")
		w.Drives(t, "c1", Route, Today)
		w.Drives(t, "c1", "BER-043", Today)
		w.Drives(t, "c1", Route, Today.Next())
		w.Drives(t, "c1", Route, Today) // again
		equal(t, "drivers", drivers(t, w, Route, "c1", "c2"), []string{"c1"})
		w.Drives(t, "c2", Route, Today)
		equal(t, "drivers", drivers(t, w, Route, "c1", "c2"), []string{"c2"})
		for r, want := range map[service.RouteRef]string{
			{Carrier: Carrier, Route: Route, Day: Today}:               "c2",
			{Carrier: Carrier, Route: "BER-043", Day: Today}:           "c1",
			{Carrier: Carrier, Route: "BER-043", Day: Today.Next()}:    "",
			{Carrier: "rival", Route: Route, Day: Today}:               "",
			{Carrier: Carrier, Route: Route, Day: Today.Next().Next()}: "",
		} {
			driver, err := w.Core.Driver(t.Context(), r)
			if err != nil || driver != want {
				t.Errorf("the driver of %v is %q, %v, want %q", r, driver, err, want)
			}
		}
		c, err := w.Core.Courier(t.Context(), Courier("c1"))
		noError(t, "Courier", err)
		slices.SortFunc(c.Drives, func(a, b handoff.Drive) int {
			return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Day.String(), b.Day.String()))
		})
		equal(t, "the other drives", c.Drives, []handoff.Drive{{Day: Today.Next(), Route: Route}, {Day: Today, Route: "BER-043"}})
		w.Drives(t, "c1", Route, Today)
		equal(t, "drivers", drivers(t, w, Route, "c1", "c2"), []string{"c1"})
	},

	"ARouteMayComeBeforeItsCourier": func(t *testing.T, w *World) {
		w.Drives(t, "c1", Route, Today)
		w.Cleared(t, "c1")
		equal(t, "drivers", drivers(t, w, Route, "c1"), []string{"c1"})
	},

	"ConcurrentAssignmentsLeaveOneDriver": func(t *testing.T, w *World) {
		const rounds = 20
		ids := []string{"c1", "c2", "c3", "c4"}
		w.Cleared(t, ids...)
		for round := range rounds {
			route := fmt.Sprintf("R-%d", round)
			together(8, func(i int) error {
				r := service.RouteRef{Carrier: Carrier, Route: route, Day: Today}
				if err := w.Core.AssignRoute(t.Context(), r, ids[i%len(ids)], handoff.InstantOf(Noon)); err != nil {
					t.Errorf("AssignRoute: %v", err)
				}
				return nil
			})
			if d := drivers(t, w, route, ids...); len(d) != 1 {
				t.Errorf("route %s is driven by %v, want exactly one", route, d)
			}
		}
	},
}

// drivers lists those of the couriers who drive a route today.
func drivers(t *testing.T, w *World, route string, ids ...string) []string {
	t.Helper()
	var found []string
	for _, id := range ids {
		c, err := w.Core.Courier(t.Context(), Courier(id))
		noError(t, "Courier", err)
		if slices.Contains(c.Drives, handoff.Drive{Day: Today, Route: route}) {
			found = append(found, id)
		}
	}
	return found
}

// together runs f n times at once and returns what each run answered.
func together(n int, f func(i int) error) []error {
	errs, done, start := make([]error, n), make(chan struct{}), make(chan struct{})
	for i := range n {
		go func() {
			<-start
			errs[i] = f(i)
			done <- struct{}{}
		}()
	}
	close(start)
	for range n {
		<-done
	}
	return errs
}

// reason tells an answer by its slug: "" for success, "unavailable", or the refusal's.
func reason(err error) string {
	var refused *handoff.Refusal
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return string(refused.Reason)
	case errors.Is(err, storage.ErrUnavailable):
		return "unavailable"
	}
	return err.Error()
}

// tally counts answers by their slug.
func tally(errs []error) map[string]int {
	n := map[string]int{}
	for _, err := range errs {
		n[reason(err)]++
	}
	return n
}
