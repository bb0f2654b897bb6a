package handofftest

import (
	"errors"
	"testing"
	"time"

	"latchkey/handoff"
)

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
		none, err := w.Store.Building(ctx, "b1")
		noError(t, "Building", err)
		equal(t, "a building before it is there", none == nil, true)
		noError(t, "PutBuilding", w.Store.PutBuilding(ctx, b))
		noError(t, "PutDoor", w.Store.PutDoor(ctx, d))
		gotB, err := w.Store.Building(ctx, "b1")
		noError(t, "Building", err)
		equal(t, "building", gotB, &b)
		d.Building = b
		for range 2 { // the second time the store knows the door's building
			gotD, err := w.Store.Door(ctx, "d1")
			noError(t, "Door", err)
			equal(t, "door", gotD, &d)
		}
		ids, err := w.Store.Doors(ctx, "b1")
		noError(t, "Doors", err)
		equal(t, "doors", ids, []string{"d1"})

		b.Carriers = []string{"rival"}
		noError(t, "PutBuilding", w.Store.PutBuilding(ctx, b))
		d.Building, d.Fence = b, 0
		noError(t, "PutDoor", w.Store.PutDoor(ctx, d))
		gotD, err := w.Store.Door(ctx, "d1")
		noError(t, "Door", err)
		equal(t, "door after changes", gotD, &d)
		d.BuildingID = "b2"
		if err := w.Store.PutDoor(ctx, d); !errors.Is(err, handoff.ErrDoorMoved) {
			t.Errorf("a door moved: %v", err)
		}
		gone, err := w.Store.Door(ctx, "d2")
		noError(t, "Door", err)
		equal(t, "a door that is not there", gone == nil, true)
	},

	"LoadReadsTheDoorAsItIsNow": func(t *testing.T, w *World) {
		ctx := t.Context()
		noError(t, "PutBuilding", w.Store.PutBuilding(ctx, handoff.Building{ID: "b1", Zone: Zone, Carriers: []string{Carrier}}))
		noError(t, "PutDoor", w.Store.PutDoor(ctx, handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Carried, BuildingID: "b1"}))
		carriers := func() []string {
			d := load(t, w, handoff.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d1"}).Door
			if d == nil {
				t.Fatalf("no door")
			}
			return d.Building.Carriers
		}
		equal(t, "carriers", carriers(), []string{Carrier})
		noError(t, "PutBuilding", w.Store.PutBuilding(ctx, handoff.Building{ID: "b1", Zone: Zone, Carriers: []string{"rival"}}))
		equal(t, "carriers at once after a change", carriers(), []string{"rival"})
		equal(t, "no door", load(t, w, handoff.Query{Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d9"}).Door == nil, true)
	},

	"PermitsAreFound": func(t *testing.T, w *World) {
		ref := handoff.PermitRef{Permit: handoff.PermitID{1, 2, 3}, Parcel: w.Service.ParcelHash(Carrier, "p1"), Door: "d1"}
		load(t, w, handoff.Query{Parcel: ref.Parcel, Permit: &ref})
		got, err := w.Store.Permit(t.Context(), ref.Permit)
		noError(t, "Permit", err)
		equal(t, "permit", got, &ref)
		none, err := w.Store.Permit(t.Context(), handoff.PermitID{9})
		noError(t, "Permit", err)
		equal(t, "a permit that was never given out", none == nil, true)
	},

	"AFeedIsReadInOrderFromACursor": func(t *testing.T, w *World) {
		ctx := t.Context()
		for _, body := range []string{"one", "two", "three"} {
			noError(t, "Send", w.Store.Send(ctx, "d1", handoff.DoorMessage{Kind: "permit", Body: []byte(body)}))
		}
		noError(t, "Send", w.Store.Send(ctx, "d2", handoff.DoorMessage{Kind: "recall", Body: []byte("other")}))
		read := func(after string, limit int) (bodies []string, cursor string) {
			messages, err := w.Store.Receive(ctx, "d1", after, limit)
			noError(t, "Receive", err)
			for _, m := range messages {
				equal(t, "kind", m.Kind, "permit")
				bodies, cursor = append(bodies, string(m.Body)), m.Cursor
			}
			return bodies, cursor
		}
		first, cursor := read("", 2)
		equal(t, "first", first, []string{"one", "two"})
		rest, last := read(cursor, 10)
		equal(t, "rest", rest, []string{"three"})
		none, _ := read(last, 10)
		equal(t, "nothing new", len(none), 0)
	},

	"ADoorThatDoesNotAnswerIsDue": func(t *testing.T, w *World) {
		ctx := t.Context()
		w.Cleared(t, "c1")
		w.Drives(t, "c1", Route, Today)
		noError(t, "PutBuilding", w.Store.PutBuilding(ctx, handoff.Building{ID: "bld_turm5", Zone: Zone, Carriers: []string{Carrier}}))
		at := Home
		noError(t, "PutDoor", w.Store.PutDoor(ctx, handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Connected, Location: &at, BuildingID: "bld_turm5"}))
		g := w.Dispatch(t, Sample("p1"))
		p, err := w.Service.Unlock(ctx, handoff.Knock{Courier: Courier("c1"), Door: "d1", Parcel: "p1", Position: &handoff.Position{Point: at}})
		noError(t, "Unlock", err)
		due := func() int {
			ids, err := w.Store.Due(ctx, g.ID.Hash.Partition(), handoff.InstantOf(w.Clock.Now()), 10)
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
