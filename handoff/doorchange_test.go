package handoff_test

import (
	"slices"
	"testing"
	"time"

	. "latchkey/handoff"
)

// What has to wait at a garage or home is all by which it would open for others: and nothing
// that only takes away.
func TestWhatWaitsAtADoor(t *testing.T) {
	owner, other := &CustomerRef{Shop: "demo", ID: "cus_4"}, &CustomerRef{Shop: "demo", ID: "cus_9"}
	home := Door{ID: "home-4", Kind: Home, Mode: Connected, Owner: owner, Unit: "4 links", Key: []byte("key"), BuildingID: "b"}
	pad := Door{ID: "home-5", Kind: Home, Mode: Keypad, Owner: owner, Unit: "5", Keypad: KeypadKey("pad"), BuildingID: "b"}
	removed := func(d Door) Door {
		d.Removed = true
		gone, err := d.Replacing(&d)
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	with := func(d Door, change func(*Door)) Door {
		change(&d)
		return d
	}
	revoked := with(home, func(d *Door) { d.Key, d.Keyed = nil, true })
	for name, c := range map[string]struct {
		before Door
		change func(*Door)
		want   []string
	}{
		"the same":              {home, func(*Door) {}, nil},
		"another place":         {home, func(d *Door) { d.Fence = 50; d.Mode = Carried; d.Relock = 5 }, nil},
		"another owner":         {home, func(d *Door) { d.Owner = other }, []string{"owner"}},
		"another unit":          {home, func(d *Door) { d.Unit = "9" }, []string{"unit"}},
		"the unit otherwise":    {home, func(d *Door) { d.Unit = " 4  LINKS" }, nil},
		"a shared door":         {home, func(d *Door) { d.Kind, d.Owner, d.Unit = Lobby, nil, "" }, []string{"kind", "owner", "unit"}},
		"another kind":          {home, func(d *Door) { d.Kind = Garage }, []string{"kind"}},
		"another key":           {home, func(d *Door) { d.Key = []byte("other") }, []string{"public_key"}},
		"no key":                {home, func(d *Door) { d.Key = nil }, nil},
		"a key after none":      {revoked, func(d *Door) { d.Key = []byte("other") }, []string{"public_key"}},
		"the first key":         {with(home, func(d *Door) { d.Key = nil }), func(d *Door) { d.Key = []byte("other") }, nil},
		"a keypad":              {home, func(d *Door) { d.Mode, d.Keypad = Keypad, KeypadKey("pad") }, []string{"mode"}},
		"another keypad key":    {pad, func(d *Door) { d.Keypad = KeypadKey("other") }, []string{"keypad_key"}},
		"no keypad any more":    {pad, func(d *Door) { d.Mode, d.Keypad = Connected, nil }, []string{"mode"}},
		"registered again":      {removed(home), func(d *Door) { d.Kind, d.Owner, d.Unit = Home, owner, "4 links" }, nil},
		"again, another owner":  {removed(home), func(d *Door) { d.Kind, d.Owner, d.Unit = Home, other, "4 links" }, []string{"owner"}},
		"again, another key":    {removed(home), func(d *Door) { d.Kind, d.Owner, d.Unit, d.Key = Home, owner, "4 links", []byte("x") }, []string{"public_key"}},
		"again, a shared door":  {removed(home), func(d *Door) { d.Kind = Lobby }, []string{"kind", "owner", "unit"}},
		"again, another keypad": {removed(pad), func(d *Door) { d.Kind, d.Mode, d.Owner, d.Unit, d.Keypad = Home, Keypad, owner, "5", KeypadKey("x") }, []string{"keypad_key"}},
		"a lobby's key":         {Door{Kind: Lobby, Key: []byte("key")}, func(d *Door) { d.Key = []byte("other") }, nil},
		"its first owner":       {Door{Kind: Home}, func(d *Door) { d.Owner, d.Unit = other, "9" }, nil},
		"after a move-out": {
			with(home, func(d *Door) { d.Owner, d.Former = nil, &Binding{Owner: owner, Unit: d.Unit} }),
			func(d *Door) { d.Owner = other },
			[]string{"owner"},
		},
	} {
		asked := c.before
		asked.Removed, asked.Keyed = false, false
		if c.before.Removed {
			asked = Door{ID: c.before.ID, BuildingID: c.before.BuildingID, Mode: Connected}
		}
		c.change(&asked)
		stands, waits := asked.Wait(&c.before)
		if waits == nil {
			if c.want != nil {
				t.Errorf("%s: nothing waits, want %q", name, c.want)
			}
			continue
		}
		if !slices.Equal(waits.Changes, c.want) {
			t.Errorf("%s: %q waits, want %q", name, waits.Changes, c.want)
		}
		if slices.Contains(c.want, "owner") && stands.Owner != c.before.Owner || slices.Contains(c.want, "kind") && stands.Kind != c.before.Kind {
			t.Errorf("%s: it is %+v at once", name, stands)
		}
		waits.Due, stands.Pending = 1000, waits
		if early := stands.At(999); early != &stands {
			t.Errorf("%s: it counts before it is due", name)
		}
		then := stands.At(1000)
		if _, again := asked.Wait(then); again != nil || then.Pending != nil {
			t.Errorf("%s: when it is due, %q still waits", name, again.Changes)
		}
	}
}

// A change that is due counts in a decision, written or not, and one that is not due does not.
func TestADueChangeCountsInADecision(t *testing.T) {
	all := rows()
	r := all[slices.IndexFunc(all, func(r row) bool { return r.name == "open home" })]
	for name, c := range map[string]struct {
		after  time.Duration // of the door's change
		theirs bool          // whether it makes the door the customer's, or another's
		want   Reason
	}{
		"taken, and not due": {time.Second, false, ""},
		"taken, and due":     {0, false, AccessRefused},
		"given, and not due": {time.Second, true, AccessRefused},
		"given, and due":     {0, true, ""},
	} {
		s := r.scene(t)
		d := s.facts.Door
		d.Pending = &DoorChange{ID: "1", Kind: d.Kind, Mode: d.Mode, Owner: &CustomerRef{Shop: "demo", ID: "another"}, Due: InstantOf(s.now.Add(c.after))}
		if c.theirs {
			d.Owner, d.Pending.Owner = d.Pending.Owner, d.Owner
		}
		before := *d
		if got := reasonOf(s.decide()); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if d.Owner != before.Owner || d.Pending != before.Pending {
			t.Errorf("%s: the decision changed the door", name)
		}
	}
}
