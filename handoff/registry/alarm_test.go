package registry_test

import (
	"math"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/registry"
)

// doorway is a building of two doors, each with a key, in a store of memory.
type doorway struct {
	*handofftest.World
	t *testing.T
}

func newDoorway(t *testing.T) *doorway {
	t.Helper()
	return &doorway{World: handofftest.New(t, handofftest.NewMemory()), t: t}
}

func (w *doorway) says(door string, kind handoff.EventType, n uint64, age time.Duration) registry.Heard {
	w.t.Helper()
	heard, err := w.Registry.Alarmed(w.t.Context(), registry.Alarm{
		Door: handoff.Door{ID: door, Kind: handoff.Lobby, BuildingID: "b1", Key: []byte(door)}, Type: kind, Seq: n,
		At: handoff.InstantOf(w.Clock.Now().Add(-age)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return heard
}

func (w *doorway) told(door string, kind handoff.EventType) (n, alarms int) {
	for _, e := range w.Events(w.t) {
		if e.Door == door && e.Type == kind {
			n++
			alarms += max(1, e.Count)
		}
	}
	return n, alarms
}

// One door's key writes a bounded number of events whatever it reports, and costs no other
// door, and no other kind of alarm, one of its own.
func TestOneDoorsAlarmsAreBoundedByNews(t *testing.T) {
	w := newDoorway(t)
	for n := range uint64(2000) {
		w.says("d1", handoff.EventDoorForced, n+1, 0)
	}
	if n, alarms := w.told("d1", handoff.EventDoorForced); n != 13 || alarms != 1280 {
		t.Errorf("2000 alarms are %d events of %d alarms, want 13 of 1280", n, alarms)
	}
	for _, c := range []struct {
		door string
		kind handoff.EventType
	}{{"d2", handoff.EventDoorForced}, {"d1", handoff.EventDoorTampered}} {
		if heard := w.says(c.door, c.kind, 2001, 0); heard != registry.AlarmTold {
			t.Errorf("%s of %s is not told: %d", c.kind, c.door, heard)
		}
	}
	// What no event told of stands in the first of the next hour.
	w.Clock.Advance(time.Hour)
	if heard := w.says("d1", handoff.EventDoorForced, 2002, 0); heard != registry.AlarmTold {
		t.Errorf("an hour later it is not told: %d", heard)
	}
	if n, alarms := w.told("d1", handoff.EventDoorForced); n != 14 || alarms != 2001 {
		t.Errorf("then there are %d events of %d alarms, want 14 of 2001", n, alarms)
	}
}

func TestAnAlarmCountsOnce(t *testing.T) {
	w := newDoorway(t)
	for i, c := range []struct {
		n    uint64
		want registry.Heard
	}{
		{9, registry.AlarmTold},
		{9, registry.AlarmRepeated},
		{10, registry.AlarmTold},
		{8, registry.AlarmTold}, // late
		{8, registry.AlarmRepeated},
		{9, registry.AlarmRepeated},
	} {
		if heard := w.says("d1", handoff.EventDoorForced, c.n, 0); heard != c.want {
			t.Errorf("%d: the alarm %d is heard as %d, want %d", i, c.n, heard, c.want)
		}
	}
}

// Whoever holds a door's key can send any number. None makes the door's own alarms silent.
func TestNoNumberMutesADoor(t *testing.T) {
	far := func(i uint64) uint64 { return math.MaxInt64/2 + i }
	creeping := func(i uint64) uint64 { return 100 + (i+1)*(1<<20) }
	for name, number := range map[string]func(uint64) uint64{"far": far, "creeping": creeping} {
		t.Run(name, func(t *testing.T) {
			w := newDoorway(t)
			w.says("d1", handoff.EventDoorForced, 100, 0)
			for i := range uint64(600) {
				w.says("d1", handoff.EventDoorHeldOpen, number(i), 0)
			}
			w.Clock.Advance(time.Minute)
			for i := range uint64(3) {
				if heard := w.says("d1", handoff.EventDoorForced, 101+i, 0); heard != registry.AlarmTold {
					t.Errorf("the door's alarm %d is heard as %d", 101+i, heard)
				}
				w.Clock.Advance(time.Minute)
			}
		})
	}
}

// A report of a number that says nothing may have been kept, to be told again and again.
func TestAKeptAlarmIsNotNews(t *testing.T) {
	w := newDoorway(t)
	const far = math.MaxInt64 / 2
	for _, c := range []struct {
		name string
		age  time.Duration
		want registry.Heard
	}{
		{"new", 0, registry.AlarmTold},
		{"the same again", 0, registry.AlarmRepeated},
		{"an earlier one", time.Minute, registry.AlarmRepeated},
		{"from tomorrow", -24 * time.Hour, registry.AlarmRepeated},
	} {
		if heard := w.says("d1", handoff.EventDoorForced, far, c.age); heard != c.want {
			t.Errorf("%s: heard as %d, want %d", c.name, heard, c.want)
		}
	}
	if heard := w.says("d1", handoff.EventDoorTampered, far, 2*time.Hour); heard != registry.AlarmRepeated {
		t.Errorf("one of two hours ago: heard as %d", heard)
	}
}

// What an earlier version noted are bare numbers.
func TestTheNoteOfAnEarlierVersion(t *testing.T) {
	w := newDoorway(t)
	e := handoff.Event{Building: "b1"}
	_, err := w.Core.AppendNoted(t.Context(), 0, eventlog.Note{Partition: e.Partition(), Name: "d1:6431", Is: "7 8 9"})
	if err != nil {
		t.Fatal(err)
	}
	if heard := w.says("d1", handoff.EventDoorForced, 8, 0); heard != registry.AlarmRepeated {
		t.Errorf("heard as %d", heard)
	}
	if heard := w.says("d1", handoff.EventDoorForced, 10, 0); heard != registry.AlarmTold {
		t.Errorf("heard as %d", heard)
	}
}
