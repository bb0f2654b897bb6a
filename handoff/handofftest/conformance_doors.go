package handofftest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// keypad registers a door with one, at the sample address.
func keypad(t *testing.T, w *World) {
	t.Helper()
	ctx, at := t.Context(), Home
	noError(t, "PutBuilding", w.Core.PutBuilding(ctx, handoff.Building{ID: "bld_turm5", Zone: Zone, Carriers: []string{Carrier}}))
	noError(t, "PutDoor", w.Core.PutDoor(ctx, handoff.Door{
		ID: "pad", Kind: handoff.Lobby, Mode: handoff.Keypad, BuildingID: "bld_turm5", Location: &at, Keypad: handoff.KeypadKey("a keypad's key of 25 byte"),
	}))
}

// askAtPad is a courier of the carrier swift at that door.
func askAtPad(courier, parcel string) service.UnlockRequest {
	return service.UnlockRequest{Courier: Courier(courier), Door: "pad", Parcel: parcel, Position: &handoff.Position{Point: Home, Accuracy: 10, Age: 1}}
}

var doorTests = map[string]func(*testing.T, *World){
	"BuildingsAndDoorsAreKept": func(t *testing.T, w *World) {
		ctx := t.Context()
		at := Home
		hours, _ := handoff.ParseHours("07:00", "21:00")
		b := handoff.Building{
			ID: "b1", Name: "Sample House", Address: "Turmstr. 5", Zone: Zone, Location: &at, Manager: "manager@building.example",
			Carriers: []string{Carrier}, Returns: true, Hours: &hours,
		}
		d := handoff.Door{
			ID: "d1", Kind: handoff.Garage, Mode: handoff.Connected, Location: &at, Fence: 12.5,
			Owner: &handoff.CustomerRef{Shop: Shop, ID: "cus_81"}, Key: []byte("a public key of a door, 32 bytes"), Relock: 5, BuildingID: "b1",
		}
		none, err := w.Core.Building(ctx, "b1")
		noError(t, "Building", err)
		equal(t, "a building before it is there", none == nil, true)
		noError(t, "PutBuilding", w.Core.PutBuilding(ctx, b))
		noError(t, "PutDoor", w.Core.PutDoor(ctx, d))
		gotB, err := w.Core.Building(ctx, "b1")
		noError(t, "Building", err)
		equal(t, "building", gotB, &b)
		d.Building = b
		for range 2 { // the second time the store knows the door's building
			gotD, err := w.Core.Door(ctx, "d1")
			noError(t, "Door", err)
			equal(t, "door", gotD, &d)
		}
		ids, err := w.Core.Doors(ctx, "b1")
		noError(t, "Doors", err)
		equal(t, "doors", ids, []string{"d1"})

		b.Carriers = []string{"rival"}
		noError(t, "PutBuilding", w.Core.PutBuilding(ctx, b))
		d.Building, d.Fence = b, 0
		noError(t, "PutDoor", w.Core.PutDoor(ctx, d))
		gotD, err := w.Core.Door(ctx, "d1")
		noError(t, "Door", err)
		equal(t, "door after changes", gotD, &d)
		for _, d.Carriers = range [][]string{{Carrier}, {}, nil} { // an empty list is not the absent one
			noError(t, "PutDoor", w.Core.PutDoor(ctx, d))
			gotD, err := w.Core.Door(ctx, "d1")
			noError(t, "Door", err)
			equal(t, "door with carriers of its own", gotD, &d)
		}
		d.BuildingID = "b2"
		if err := w.Core.PutDoor(ctx, d); !errors.Is(err, handoff.ErrDoorMoved) {
			t.Errorf("a door moved: %v", err)
		}
		gone, err := w.Core.Door(ctx, "d2")
		noError(t, "Door", err)
		equal(t, "a door that is not there", gone == nil, true)
	},

	"ARemovedDoorIsNoneAndItsBuildings": func(t *testing.T, w *World) {
		ctx := t.Context()
		for _, id := range []string{"b1", "b2"} {
			noError(t, "PutBuilding", w.Core.PutBuilding(ctx, handoff.Building{ID: id, Zone: Zone}))
		}
		d := handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Keypad, BuildingID: "b1", Keypad: handoff.KeypadKey("key")}
		there := func(want bool) {
			t.Helper()
			got, err := w.Core.Door(ctx, "d1")
			noError(t, "Door", err)
			loaded := load(t, w, service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d1"}).Door
			equal(t, "read, loaded", []bool{got != nil, loaded != nil}, []bool{want, want})
			for _, building := range []string{"b1", "b2"} {
				ids, err := w.Core.Doors(ctx, building)
				noError(t, "Doors", err)
				equal(t, "listed by "+building, slices.Contains(ids, "d1"), want && building == "b1")
			}
		}
		remove := func(building string) error {
			return w.Core.PutDoor(ctx, handoff.Door{ID: "d1", BuildingID: building, Removed: true})
		}
		noError(t, "PutDoor", w.Core.PutDoor(ctx, d))
		there(true)
		if err := remove("b2"); !errors.Is(err, handoff.ErrDoorMoved) {
			t.Errorf("removed by another building: %v", err)
		}
		there(true)
		for range 2 {
			noError(t, "removal", remove("b1"))
			there(false)
		}
		taken := d
		taken.BuildingID = "b2"
		if err := w.Core.PutDoor(ctx, taken); !errors.Is(err, handoff.ErrDoorMoved) {
			t.Errorf("another building took the id of a removed door: %v", err)
		}
		there(false)
		bare := d
		bare.Keypad = nil
		if err := w.Core.PutDoor(ctx, bare); !errors.Is(err, handoff.ErrKeypadKey) {
			t.Errorf("the key of a removed keypad was kept: %v", err)
		}
		noError(t, "PutDoor", w.Core.PutDoor(ctx, d))
		there(true)

		// However many write and remove it at once, the list says what the door says.
		for n := range 10 {
			id := fmt.Sprint("e", n)
			for i, err := range together(16, func(i int) error {
				return w.Core.PutDoor(ctx, handoff.Door{ID: id, Kind: handoff.Lobby, Mode: handoff.Carried, BuildingID: "b1", Removed: i%2 == 0})
			}) {
				noError(t, fmt.Sprint("PutDoor ", i), err)
			}
			got, err := w.Core.Door(ctx, id)
			noError(t, "Door", err)
			ids, err := w.Core.Doors(ctx, "b1")
			noError(t, "Doors", err)
			equal(t, "listed", slices.Contains(ids, id), got != nil)
		}
	},

	"LoadReadsTheDoorAsItIsNow": func(t *testing.T, w *World) {
		ctx := t.Context()
		noError(t, "PutBuilding", w.Core.PutBuilding(ctx, handoff.Building{ID: "b1", Zone: Zone, Carriers: []string{Carrier}}))
		noError(t, "PutDoor", w.Core.PutDoor(ctx, handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Carried, BuildingID: "b1"}))
		carriers := func() []string {
			d := load(t, w, service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d1"}).Door
			if d == nil {
				t.Fatalf("no door")
			}
			return d.Building.Carriers
		}
		equal(t, "carriers", carriers(), []string{Carrier})
		noError(t, "PutBuilding", w.Core.PutBuilding(ctx, handoff.Building{ID: "b1", Zone: Zone, Carriers: []string{"rival"}}))
		equal(t, "carriers at once after a change", carriers(), []string{"rival"})
		equal(t, "no door", load(t, w, service.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d9"}).Door == nil, true)
	},

	"PermitsAreFound": func(t *testing.T, w *World) {
		ref := service.PermitRef{Permit: handoff.PermitID{1, 2, 3}, Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d1", Holder: "c1"}
		prepare(t, w, service.Preparation{Query: service.Query{Parcel: ref.Parcel}, Permit: &ref})
		got, err := w.Core.Permit(t.Context(), ref.Permit)
		noError(t, "Permit", err)
		equal(t, "permit", got, &ref)
		none, err := w.Core.Permit(t.Context(), handoff.PermitID{9})
		noError(t, "Permit", err)
		equal(t, "a permit that was never given out", none == nil, true)
	},

	"APermitIsReservedByOne": func(t *testing.T, w *World) {
		ctx := t.Context()
		own := service.PermitRef{Permit: handoff.PermitID{1}, Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d1", Holder: "c1"}
		held := func(ref service.PermitRef) bool {
			t.Helper()
			return prepare(t, w, service.Preparation{Query: service.Query{Parcel: ref.Parcel}, Permit: &ref}).PermitHeld
		}
		equal(t, "held", []bool{held(own), held(own)}, []bool{true, true})
		another := []service.PermitRef{own, own, own}
		another[0].Holder = "c2" // the same grant, another request
		another[1].Parcel, another[1].Holder = w.Service.ParcelHash(Carrier, "p2"), "c3"
		another[2].Door, another[2].Holder = "d2", "c4"
		for _, ref := range another {
			equal(t, "held by another", held(ref), false)
			noError(t, "GiveBackPermit", w.Core.GiveBackPermit(ctx, ref)) // what is not one's own is left alone
		}
		got, err := w.Core.Permit(ctx, own.Permit)
		noError(t, "Permit", err)
		equal(t, "whose it is", got, &own)

		// A commit, even one that is overtaken, leaves the reservation as it stands.
		c := minted(t, w, 0, Sample("p1"))
		c.Permit = &own
		commit(t, w, c)
		if err := w.Core.Commit(ctx, c); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("a commit twice: %v", err)
		}
		equal(t, "after a commit", []bool{held(own), held(another[0]), held(another[1])}, []bool{true, false, false})
		noError(t, "GiveBackPermit", w.Core.GiveBackPermit(ctx, own))
		noError(t, "GiveBackPermit", w.Core.GiveBackPermit(ctx, own))
		equal(t, "given back", []bool{held(another[1]), held(own)}, []bool{true, false})
		equal(t, "nothing asked", load(t, w, service.Query{Parcel: own.Parcel}).PermitHeld, false)
	},

	"AKeypadKeepsItsKey": func(t *testing.T, w *World) {
		ctx := t.Context()
		put := func(d handoff.Door) error {
			d.ID, d.BuildingID, d.Kind = "d1", "b1", handoff.Lobby
			return w.Core.PutDoor(ctx, d)
		}
		key := func() string {
			d, err := w.Core.Door(ctx, "d1")
			noError(t, "Door", err)
			return string(d.Keypad)
		}
		if err := put(handoff.Door{Mode: handoff.Keypad}); !errors.Is(err, handoff.ErrKeypadKey) {
			t.Errorf("a keypad without a key: %v", err)
		}
		noError(t, "PutDoor", put(handoff.Door{Mode: handoff.Keypad, Keypad: handoff.KeypadKey("one")}))
		noError(t, "PutDoor", put(handoff.Door{Mode: handoff.Keypad, Fence: 9}))
		equal(t, "key", key(), "one")

		// A key that was replaced does not come back with a door that was written beside it.
		for i, err := range together(24, func(i int) error {
			if i == 12 {
				return put(handoff.Door{Mode: handoff.Keypad, Keypad: handoff.KeypadKey("two")})
			}
			return put(handoff.Door{Mode: handoff.Keypad, Fence: float64(i)})
		}) {
			noError(t, fmt.Sprint("PutDoor ", i), err)
		}
		equal(t, "key", key(), "two")
		noError(t, "PutDoor", put(handoff.Door{Mode: handoff.Carried, Keypad: handoff.KeypadKey("three")}))
		equal(t, "key of a door without a keypad", key(), "")
		if err := put(handoff.Door{Mode: handoff.Keypad}); !errors.Is(err, handoff.ErrKeypadKey) {
			t.Errorf("a keypad whose key was forgotten: %v", err)
		}
	},

	"ADoorIsOfOneBuilding": func(t *testing.T, w *World) {
		ctx := t.Context()
		for n := range 10 {
			id := fmt.Sprint("d", n)
			errs := together(16, func(i int) error {
				return w.Core.PutDoor(ctx, handoff.Door{ID: id, Kind: handoff.Lobby, Mode: handoff.Carried, BuildingID: fmt.Sprint("b", i%2)})
			})
			d, err := w.Core.Door(ctx, id)
			noError(t, "Door", err)
			for i, err := range errs {
				if own := fmt.Sprint("b", i%2) == d.BuildingID; own && err != nil || !own && !errors.Is(err, handoff.ErrDoorMoved) {
					t.Errorf("the door is of %s, and b%d was told %v", d.BuildingID, i%2, err)
				}
			}
			for i := range 2 {
				building := fmt.Sprint("b", i)
				ids, err := w.Core.Doors(ctx, building)
				noError(t, "Doors", err)
				equal(t, "listed by "+building, slices.Contains(ids, id), building == d.BuildingID)
			}
		}
	},

	"NoTwoCouriersGetOnePIN": func(t *testing.T, w *World) {
		const couriers = 50
		keypad(t, w)
		for i := range couriers {
			id := fmt.Sprint("c", i)
			w.Cleared(t, id)
			w.Drives(t, id, id, Today)
			d := Sample(id)
			d.Route = id
			w.Dispatch(t, d)
		}
		instances := []*service.Service{w.Service, New(t, w.Core).Service}
		given := map[handoff.PermitID]int{}
		for minute, want := range []int{2, 1} { // the first minute gives out the second's as well
			var mu sync.Mutex
			errs := together(couriers, func(i int) error {
				id := fmt.Sprint("c", i)
				p, err := instances[i%2].Unlock(t.Context(), askAtPad(id, id))
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					given[p.Permit]++
				}
				return err
			})
			equal(t, fmt.Sprint("answers in minute ", minute), tally(errs), map[string]int{"": want, string(handoff.KeypadBusy): couriers - want})
			w.Clock.Advance(time.Minute)
		}
		equal(t, "PINs", len(given), 3)
		for id, times := range given {
			equal(t, "times that a PIN was given out", times, 1)
			_, _, err := w.Service.UnlockOf(t.Context(), "pad", id)
			noError(t, "UnlockOf", err)
		}
	},

	"OneGrantGetsNoPINTwice": func(t *testing.T, w *World) {
		keypad(t, w)
		ready(t, w)
		w.Dispatch(t, Sample("p1"))
		permits := make([]handoff.PermitID, 50)
		errs := together(len(permits), func(i int) error {
			p, err := w.Service.Unlock(t.Context(), askAtPad("c1", "p1"))
			permits[i] = p.Permit
			return err
		})
		equal(t, "answers", tally(errs), map[string]int{"": 2, string(handoff.KeypadBusy): 48})
		slices.SortFunc(permits, func(a, b handoff.PermitID) int { return bytes.Compare(a[:], b[:]) })
		equal(t, "PINs, and none", len(slices.Compact(permits)), 3)

		// One attempt is one unlock: its repetitions get its PIN, or are told to ask again.
		w.Clock.Advance(2 * time.Minute)
		w.Dispatch(t, Sample("p2"))
		k := askAtPad("c1", "p2")
		k.Attempt = "a1"
		together(20, func(int) error {
			_, err := w.Service.Unlock(t.Context(), k)
			return err
		})
		first, err := w.Service.Unlock(t.Context(), k)
		noError(t, "Unlock", err)
		again, err := w.Service.Unlock(t.Context(), k)
		noError(t, "Unlock", err)
		equal(t, "the same attempt", again, first)
		equal(t, "unlocks", len(w.Parcel(t, "p2").Unlocks), 1)
		// The others of that attempt gave back what they had reserved.
		other, err := w.Service.Unlock(t.Context(), askAtPad("c1", "p2"))
		noError(t, "the minute's other PIN", err)
		equal(t, "another PIN", other.Permit != first.Permit, true)
	},

	"APINIsGivenOutOnceThoughRepliesAreLost": func(t *testing.T, w *World) {
		faulty := &Faulty{Core: w.Core}
		w = New(t, faulty)
		keypad(t, w)
		w.Cleared(t, "c1", "c2")
		w.Drives(t, "c1", Route, Today)
		w.Drives(t, "c2", "other", Today)
		given := map[handoff.PermitID]bool{}
		for i, faults := range [][]Fault{
			{ReplyLost},
			{RequestLost},
			{Overtaken},
			{RequestLost, ReplyLost},
			{Overtaken, RequestLost, RequestLost, ReplyLost},
			slices.Repeat([]Fault{RequestLost}, 39),
			{Refused}, // of forty passes one reserves
		} {
			about := fmt.Sprint(" after ", faults)
			first, second := fmt.Sprint("p", i), fmt.Sprint("q", i)
			w.Dispatch(t, Sample(first))
			d := Sample(second)
			d.Route = "other"
			w.Dispatch(t, d)
			minute := uint64(w.Clock.Now().Unix() / 60)

			faulty.Next(faults...)
			p, err := w.Service.Unlock(t.Context(), askAtPad("c1", first))
			equal(t, "faults left"+about, faulty.Calm(), 0)
			want, left := "", minute+1
			switch {
			case len(faults) == 39: // in doubt: no other unlock gets the PIN
				want = "unavailable"
			case faults[0] == Refused: // surely not: another may have it
				want, left = "unavailable", minute
			default:
				equal(t, "minute"+about, p.Minute, minute)
				equal(t, "unlocks"+about, len(w.Parcel(t, first).Unlocks), 1)
			}
			equal(t, "answer"+about, reason(err), want)
			other, err := w.Service.Unlock(t.Context(), askAtPad("c2", second))
			noError(t, "the other courier"+about, err)
			equal(t, "the other courier's minute"+about, other.Minute, left)
			for _, id := range []handoff.PermitID{p.Permit, other.Permit} {
				if id != (handoff.PermitID{}) && given[id] {
					t.Errorf("a PIN was given out twice%s", about)
				}
				given[id] = true
			}
			w.Clock.Advance(2 * time.Minute)
		}
	},

	"ACourierIsAtOnePlace": func(t *testing.T, w *World) {
		ctx := t.Context()
		w.Cleared(t, "c1")
		ref := Courier("c1")
		at := func(second int, lat float64) handoff.LastDoor {
			return handoff.LastDoor{At: handoff.InstantOf(Noon) + handoff.Instant(second), Place: handoff.PointOf(lat, 13)}
		}
		note := func(ref handoff.CourierRef, from *handoff.LastDoor, to handoff.LastDoor, want bool) {
			t.Helper()
			noted, err := w.Core.MoveLastDoor(ctx, ref, from, to)
			noError(t, "MoveLastDoor", err)
			equal(t, fmt.Sprint("noted ", to), noted, want)
		}
		here, there, later := at(0, 52), at(1, 48), at(9, 52)
		note(ref, nil, here, true)
		note(ref, nil, here, true) // its answer was lost
		note(ref, nil, there, false)
		note(ref, &there, later, false)
		note(ref, &here, later, true)
		c, err := w.Core.Courier(ctx, ref)
		noError(t, "Courier", err)
		equal(t, "last door", c.LastDoor, &later)
		note(Courier("nobody"), nil, here, false)

		noted := make([]bool, 20)
		for _, err := range together(20, func(i int) (err error) {
			noted[i], err = w.Core.MoveLastDoor(ctx, ref, &later, at(100+i, 50))
			return err
		}) {
			noError(t, "MoveLastDoor", err)
		}
		n := 0
		for _, won := range noted {
			if won {
				n++
			}
		}
		equal(t, "of those who ask at once", n, 1)
	},

	"ADoorThatDoesNotAnswerIsDue": func(t *testing.T, w *World) {
		ctx := t.Context()
		w.Cleared(t, "c1")
		w.Drives(t, "c1", Route, Today)
		noError(t, "PutBuilding", w.Core.PutBuilding(ctx, handoff.Building{ID: "bld_turm5", Zone: Zone, Carriers: []string{Carrier}}))
		at := Home
		noError(t, "PutDoor", w.Core.PutDoor(ctx, handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Connected, Location: &at, BuildingID: "bld_turm5"}))
		g := w.Dispatch(t, Sample("p1"))
		p, err := w.Service.Unlock(ctx, service.UnlockRequest{Courier: Courier("c1"), Door: "d1", Parcel: "p1", Position: &handoff.Position{Point: at}})
		noError(t, "Unlock", err)
		due := func() int {
			ids, err := w.Core.Due(ctx, g.ID.Hash.Partition(), handoff.InstantOf(w.Clock.Now()), 10)
			noError(t, "Due", err)
			return len(ids)
		}
		equal(t, "due at once", due(), 0)
		w.Clock.Advance(15 * time.Second)
		equal(t, "due after 15 s", due(), 1)
		_, err = w.Service.Sweep(ctx, 10)
		noError(t, "Sweep", err)
		u, _, err := w.Service.UnlockOf(ctx, "d1", p.Permit)
		noError(t, "UnlockOf", err)
		equal(t, "state", u.State, handoff.DoorSilent)
		noError(t, "Reported", w.Service.Reported(ctx, "d1", p.Permit, handoff.DoorOpened)) // heard after all
		u, _, err = w.Service.UnlockOf(ctx, "d1", p.Permit)
		noError(t, "UnlockOf", err)
		equal(t, "state", u.State, handoff.DoorOpened)
		equal(t, "due again only at the day's end", due(), 0)
		if err := w.Service.Reported(ctx, "d2", p.Permit, handoff.DoorRelocked); err == nil {
			t.Error("another door reported on this one's permit")
		}
	},
}
