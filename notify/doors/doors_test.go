package doors_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
	"latchkey/notify"
	"latchkey/notify/doors"
)

// hall is a world with a building, and the dispatcher that reads its log.
type hall struct {
	*handofftest.World
	signer     *door.Signer
	dispatcher *doors.Dispatcher
	doorFeed   *doorFeed
	grant      handoff.Grant
	read       map[eventlog.ID]bool
}

// doorFeed keeps the messages to doors in memory, in the order in which they were sent.
type doorFeed struct {
	mu   sync.Mutex
	sent map[string][]door.Message
}

func (f *doorFeed) Send(_ context.Context, id string, m door.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent == nil {
		f.sent = map[string][]door.Message{}
	}
	m.Cursor = fmt.Sprintf("%d-0", len(f.sent[id])+1)
	f.sent[id] = append(f.sent[id], m)
	return nil
}

func (f *doorFeed) Receive(_ context.Context, id, after string, limit int) ([]door.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	messages := slices.DeleteFunc(slices.Clone(f.sent[id]), func(m door.Message) bool { return eventlog.CompareIDs(m.Cursor, after) <= 0 })
	return messages[:min(limit, len(messages))], nil
}

func newHall(t *testing.T) *hall {
	t.Helper()
	h := &hall{World: handofftest.New(t, handofftest.NewMemory()), doorFeed: &doorFeed{}, read: map[eventlog.ID]bool{}}
	var err error
	if h.signer, err = door.NewSigner(rand.Reader); err != nil {
		t.Fatal(err)
	}
	h.dispatcher, err = doors.New(doors.Config{Grants: h.Service, Couriers: h.Core, Events: h.Core, Feed: h.doorFeed, Signer: h.signer, Namer: handofftest.Namer{}, Clock: h.Clock})
	if err != nil {
		t.Fatal(err)
	}
	h.Cleared(t, "cou_7")
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	place := handofftest.Home
	b := handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}, Location: &place}
	if err := h.Core.PutBuilding(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	owner := &handoff.CustomerRef{Shop: handofftest.Shop, ID: "cus_81"}
	for _, d := range []handoff.Door{
		{ID: "gate", Kind: handoff.Gate, Mode: handoff.Connected, Relock: 9},
		{ID: "lobby", Kind: handoff.Lobby, Mode: handoff.Carried},
		{ID: "bridge", Kind: handoff.Lobby, Mode: handoff.Bridged},
		{ID: "pad", Kind: handoff.Lobby, Mode: handoff.Keypad, Keypad: handoff.KeypadKey("a keypad's key of 25 byte")},
		{ID: "garage", Kind: handoff.Garage, Mode: handoff.Connected, Owner: owner},
	} {
		d.BuildingID, d.Location = b.ID, &place
		if err := h.Core.PutDoor(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	h.grant = h.Dispatch(t, handofftest.Sample("P1"))
	return h
}

func (h *hall) unlock(t *testing.T, id string) service.Permission {
	t.Helper()
	p, err := h.Service.Unlock(t.Context(), service.UnlockRequest{
		Courier: handofftest.Courier("cou_7"), Door: id, Parcel: "P1", Challenge: []byte("challenge of a door"),
		Position: &handoff.Position{Point: handofftest.Home, Accuracy: 5},
	})
	if err != nil {
		t.Fatalf("unlock %s: %v", id, err)
	}
	return p
}

// deliver hands the dispatcher every event that it has not had yet; again as well those
// that it had.
func (h *hall) deliver(t *testing.T, again bool) {
	t.Helper()
	for n := range handoff.Partitions {
		page, err := h.Core.Read(t.Context(), n, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page {
			if h.read[l.ID] && !again {
				continue
			}
			h.read[l.ID] = true
			if err := h.dispatcher.Handle(t.Context(), eventlog.Delivery{Logged: l}); err != nil {
				t.Fatalf("%s: %v", l.Event.Type, err)
			}
		}
	}
}

// feed is what a door was sent so far.
func (h *hall) feed(t *testing.T, id string) []door.Message {
	t.Helper()
	messages, err := h.doorFeed.Receive(t.Context(), id, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func (h *hall) kinds(t *testing.T, id string) (kinds []string) {
	t.Helper()
	for _, m := range h.feed(t, id) {
		kinds = append(kinds, m.Kind)
	}
	return kinds
}

func (h *hall) verifier(t *testing.T, id string) *door.Verifier {
	t.Helper()
	root, err := door.NewPrivateKey(rand.Reader)
	trustFile, replayFile := filepath.Join(t.TempDir(), "trust"), filepath.Join(t.TempDir(), "replay")
	if err := errors.Join(err, door.CreateTrust(trustFile), door.CreateReplay(replayFile)); err != nil {
		t.Fatal(err)
	}
	trust, err1 := door.OpenTrust(trustFile, root.Public(), h.signer.Publish()...)
	replay, err2 := door.OpenReplay(replayFile)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(trust.Close(), replay.Close()) })
	v, err := door.NewVerifier(id, trust, replay, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What the door is sent is what the permission says, and a door believes it.
func TestPermitReachesTheDoor(t *testing.T) {
	h := newHall(t)
	p := h.unlock(t, "gate")
	h.unlock(t, "bridge")
	h.unlock(t, "lobby")
	h.unlock(t, "pad")
	h.deliver(t, false)
	if n := len(h.feed(t, "pad")); n != 0 {
		t.Errorf("%d messages for a keypad, whose door the courier opens", n)
	}
	if n := len(h.feed(t, "bridge")); n != 1 {
		t.Errorf("%d messages for a bridged door", n)
	}
	if n := len(h.feed(t, "lobby")); n != 0 {
		t.Errorf("%d messages for a door that nobody hears", n)
	}
	feed := h.feed(t, "gate")
	if len(feed) != 1 || feed[0].Kind != "permit" {
		t.Fatalf("the gate was sent %v", feed)
	}
	want, err := h.signer.Permit(door.Permit{
		ID: door.PermitID(p.Permit), Door: "gate", Grant: door.GrantRef(p.Ref), Act: door.Open,
		NotBefore: p.At, Expires: p.At.Add(door.MaxLife), Relock: 9 * time.Second,
	})
	if err != nil || string(want) != string(feed[0].Body) {
		t.Errorf("the permit differs from the courier's: %v", err)
	}
	gate := h.verifier(t, "gate")
	if got, err := gate.Admit(feed[0].Body, h.Clock.Now()); err != nil || got.ID != door.PermitID(p.Permit) || got.Relock != 9*time.Second {
		t.Errorf("the gate: %+v %v", got, err)
	}
	h.deliver(t, true)
	for _, m := range h.feed(t, "gate")[1:] {
		if _, err := gate.Admit(m.Body, h.Clock.Now()); !errors.Is(err, door.Replayed) {
			t.Errorf("delivered again: %v", err)
		}
	}
}

// A permit that is bound to a challenge is sent bound to it, as the courier's is.
func TestBoundPermitIsSentBound(t *testing.T) {
	h := newHall(t)
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: "cus_81"}
	if _, err := h.Service.Consent(t.Context(), by, h.grant.ID, []handoff.TargetKind{handoff.Garage}); err != nil {
		t.Fatal(err)
	}
	p := h.unlock(t, "garage")
	h.deliver(t, false)
	feed := h.feed(t, "garage")
	if len(feed) != 1 {
		t.Fatalf("the garage was sent %d messages", len(feed))
	}
	want, err := h.signer.Permit(door.Permit{
		ID: door.PermitID(p.Permit), Door: "garage", Grant: door.GrantRef(p.Ref), Act: door.Open,
		NotBefore: p.At, Expires: p.At.Add(door.MaxLife), Challenge: p.Challenge,
	})
	if err != nil || len(p.Challenge) == 0 || string(want) != string(feed[0].Body) {
		t.Errorf("the permit differs from the courier's: %v", err)
	}
}

// What comes too late is not sent.
func TestLatePermit(t *testing.T) {
	for after, want := range map[time.Duration]int{59 * time.Second: 1, time.Minute: 0} {
		h := newHall(t)
		h.unlock(t, "gate")
		h.Clock.Advance(after)
		h.deliver(t, false)
		if n := len(h.feed(t, "gate")); n != want {
			t.Errorf("after %v: %d messages, want %d", after, n, want)
		}
	}
}

// Whatever ends the grant takes back what is on its way: a door that hears of it
// refuses the permit.
func TestRecall(t *testing.T) {
	shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	ends := map[string]func(*hall, context.Context) error{
		"recalled": func(h *hall, ctx context.Context) error {
			_, err := h.Service.Recall(ctx, shop, h.grant.ID, "Cancelled")
			return err
		},
		"held": func(h *hall, ctx context.Context) error {
			_, err := h.Service.Hold(ctx, shop, h.grant.ID, "Disputed")
			return err
		},
		"released": func(h *hall, ctx context.Context) error {
			_, err := h.Service.Verify(ctx, handofftest.AtDoor("cou_7", "P1", h.grant.CurrentCode()))
			return err
		},
		"released by hand": func(h *hall, ctx context.Context) error {
			one, other := shop, shop
			one.Subject, one.Person, other.Subject, other.Person = "one", true, "other", true
			if _, err := h.Service.AskOverride(ctx, one, h.grant.ID, "x"); err != nil {
				return err
			}
			_, err := h.Service.Override(ctx, other, h.grant.ID, "")
			return err
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			h := newHall(t)
			h.unlock(t, "gate")
			h.deliver(t, false)
			permit := h.feed(t, "gate")[0]
			h.Clock.Advance(2 * time.Second)
			if err := end(h, t.Context()); err != nil {
				t.Fatal(err)
			}
			h.deliver(t, false)
			feed := h.feed(t, "gate")
			if len(feed) != 2 || feed[1].Kind != "recall" {
				t.Fatalf("the gate was sent %v", h.kinds(t, "gate"))
			}
			gate := h.verifier(t, "gate")
			if _, err := gate.Recall(feed[1].Body, h.Clock.Now()); err != nil {
				t.Fatal(err)
			}
			if _, err := gate.Admit(permit.Body, h.Clock.Now()); !errors.Is(err, door.Recalled) {
				t.Errorf("after the recall: %v", err)
			}
		})
	}

	t.Run("before it was sent", func(t *testing.T) {
		h := newHall(t)
		h.unlock(t, "gate")
		if err := ends["recalled"](h, t.Context()); err != nil {
			t.Fatal(err)
		}
		h.deliver(t, false)
		if kinds := h.kinds(t, "gate"); len(kinds) != 1 || kinds[0] != "recall" {
			t.Errorf("the gate was sent %v", kinds)
		}
	})
	t.Run("used", func(t *testing.T) {
		h := newHall(t)
		p := h.unlock(t, "gate")
		if err := h.Service.Reported(t.Context(), "gate", p.Permit, handoff.DoorConfirmed); err != nil {
			t.Fatal(err)
		}
		if err := ends["recalled"](h, t.Context()); err != nil {
			t.Fatal(err)
		}
		h.deliver(t, false)
		if kinds := h.kinds(t, "gate"); len(kinds) != 0 {
			t.Errorf("the gate was sent %v", kinds)
		}
	})
	t.Run("over", func(t *testing.T) {
		h := newHall(t)
		h.unlock(t, "gate")
		h.deliver(t, false)
		h.Clock.Advance(door.MaxLife + 2*door.Skew)
		if err := ends["recalled"](h, t.Context()); err != nil {
			t.Fatal(err)
		}
		h.deliver(t, false)
		if kinds := h.kinds(t, "gate"); len(kinds) != 1 {
			t.Errorf("the gate was sent %v", kinds)
		}
	})
	t.Run("lifted", func(t *testing.T) {
		h := newHall(t)
		if err := ends["held"](h, t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Service.Lift(t.Context(), shop, h.grant.ID, "Settled"); err != nil {
			t.Fatal(err)
		}
		h.Clock.Advance(time.Second)
		h.unlock(t, "gate")
		h.deliver(t, false) // the hold as well: it must not take back what came after it
		if kinds := h.kinds(t, "gate"); len(kinds) != 1 || kinds[0] != "permit" {
			t.Errorf("the gate was sent %v", kinds)
		}
	})
}

// A permit that waits goes to the door only while its courier may open doors.
func TestPermitOfACourierWhoMayNot(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		meanwhile func(*hall, context.Context) error
		want      []string
	}{
		"nothing": {func(*hall, context.Context) error { return nil }, []string{"permit"}},
		"suspended": {func(h *hall, ctx context.Context) error {
			return h.Core.PutCourier(ctx, handofftest.Courier("cou_7"), service.CourierUpdate{Suspended: &yes})
		}, nil},
		"clearance over": {func(h *hall, ctx context.Context) error {
			now := handoff.InstantOf(h.Clock.Now())
			return h.Core.PutCourier(ctx, handofftest.Courier("cou_7"), service.CourierUpdate{ClearedUntil: &now})
		}, nil},
		"the route is another's": {func(h *hall, _ context.Context) error {
			h.Cleared(t, "cou_8")
			h.Drives(t, "cou_8", handofftest.Route, handofftest.Today)
			return nil
		}, nil},
		"signed out": {func(h *hall, ctx context.Context) error {
			return h.Core.SignOutCourier(ctx, handofftest.Courier("cou_7"), handoff.InstantOf(h.Clock.Now()))
		}, nil},
		"signed out before, and in again": {func(h *hall, ctx context.Context) error {
			return h.Core.SignOutCourier(ctx, handofftest.Courier("cou_7"), handoff.InstantOf(h.Clock.Now().Add(-time.Second)))
		}, []string{"permit"}},
		"another courier is signed out": {func(h *hall, ctx context.Context) error {
			return h.Core.SignOutCourier(ctx, handofftest.Courier("cou_8"), handoff.InstantOf(h.Clock.Now()))
		}, []string{"permit"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHall(t)
			h.unlock(t, "gate")
			if err := c.meanwhile(h, t.Context()); err != nil {
				t.Fatal(err)
			}
			h.deliver(t, false)
			if kinds := h.kinds(t, "gate"); !slices.Equal(kinds, c.want) {
				t.Errorf("the gate was sent %v, want %v", kinds, c.want)
			}
		})
	}
}

// A sign-out takes back every open permit of the courier, and of no other.
func TestSignOutTakesPermitsBack(t *testing.T) {
	carrier := handoff.Actor{Role: handoff.RoleCarrier, Subject: "dispatcher"}
	signOut := func(t *testing.T, h *hall, id string) {
		t.Helper()
		if _, err := h.Service.SignOutCourier(t.Context(), carrier, handofftest.Courier(id)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("of the courier", func(t *testing.T) {
		h := newHall(t)
		h.unlock(t, "gate")
		h.unlock(t, "bridge")
		h.deliver(t, false)
		permit := h.feed(t, "gate")[0]
		h.Clock.Advance(2 * time.Second)
		h.Cleared(t, "cou_8") // the route has gone to another meanwhile
		h.Drives(t, "cou_8", handofftest.Route, handofftest.Today)
		signOut(t, h, "cou_7")
		h.deliver(t, false)
		for _, id := range []string{"gate", "bridge"} {
			if kinds := h.kinds(t, id); !slices.Equal(kinds, []string{"permit", "recall"}) {
				t.Errorf("the %s was sent %v", id, kinds)
			}
		}
		gate := h.verifier(t, "gate")
		if _, err := gate.Recall(h.feed(t, "gate")[1].Body, h.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := gate.Admit(permit.Body, h.Clock.Now()); !errors.Is(err, door.Recalled) {
			t.Errorf("after the sign-out: %v", err)
		}
	})
	t.Run("of another", func(t *testing.T) {
		h := newHall(t)
		h.Cleared(t, "cou_8")
		h.unlock(t, "gate")
		signOut(t, h, "cou_8")
		h.deliver(t, false)
		if kinds := h.kinds(t, "gate"); !slices.Equal(kinds, []string{"permit"}) {
			t.Errorf("the gate was sent %v", kinds)
		}
	})
	t.Run("used, or over", func(t *testing.T) {
		h := newHall(t)
		p := h.unlock(t, "gate")
		h.unlock(t, "bridge")
		h.deliver(t, false)
		if err := h.Service.Reported(t.Context(), "gate", p.Permit, handoff.DoorConfirmed); err != nil {
			t.Fatal(err)
		}
		h.Clock.Advance(door.MaxLife + 2*door.Skew)
		signOut(t, h, "cou_7")
		h.deliver(t, false)
		for _, id := range []string{"gate", "bridge"} {
			if kinds := h.kinds(t, id); !slices.Equal(kinds, []string{"permit"}) {
				t.Errorf("the %s was sent %v", id, kinds)
			}
		}
	})
	t.Run("suspended", func(t *testing.T) {
		h := newHall(t)
		yes, no, name, over := true, false, "Courier 7", handoff.InstantOf(h.Clock.Now())
		for _, c := range []struct {
			change service.CourierUpdate
			want   []string
		}{
			{service.CourierUpdate{Name: &name}, []string{"permit"}},
			{service.CourierUpdate{Suspended: &yes}, []string{"permit", "recall"}},
			{service.CourierUpdate{Suspended: &no}, []string{"permit", "recall"}},
			{service.CourierUpdate{ClearedUntil: &over}, []string{"permit", "recall", "permit", "recall"}},
		} {
			if n := len(h.kinds(t, "gate")); n == 0 || c.change.ClearedUntil != nil {
				h.unlock(t, "gate")
				h.deliver(t, false)
			}
			h.Clock.Advance(time.Second)
			if err := h.Service.UpdateCourier(t.Context(), carrier, handofftest.Courier("cou_7"), c.change); err != nil {
				t.Fatal(err)
			}
			h.deliver(t, false)
			// A recall twice does no harm.
			if kinds := slices.Compact(h.kinds(t, "gate")); !slices.Equal(kinds, c.want) {
				t.Errorf("after %+v the gate was sent %v, want %v", c.change, kinds, c.want)
			}
		}
	})
	t.Run("logged, and then the instance died", func(t *testing.T) {
		h := newHall(t)
		at := handoff.InstantOf(h.Clock.Now())
		e := handoff.Event{Type: handoff.EventCourierSignedOut, At: at, Carrier: handofftest.Carrier, Courier: "cou_7"}
		if err := h.Core.Append(t.Context(), at, e); err != nil {
			t.Fatal(err)
		}
		h.deliver(t, false)
		if c, err := h.Core.Courier(t.Context(), handofftest.Courier("cou_7")); err != nil || c.SignedOut != at {
			t.Errorf("%+v %v", c, err)
		}
	})
}

// A store that fails is asked again; a grant that is gone is nobody's.
func TestFailures(t *testing.T) {
	h := newHall(t)
	h.unlock(t, "gate")
	broken, err := doors.New(doors.Config{Grants: failing{}, Couriers: h.Core, Events: h.Core, Feed: h.doorFeed, Signer: h.signer, Namer: handofftest.Namer{}, Clock: h.Clock})
	if err != nil {
		t.Fatal(err)
	}
	e := handoff.Event{
		Type: handoff.EventPermitted, Grant: h.grant.ID, Carrier: handofftest.Carrier, Courier: "cou_7",
		At: handoff.InstantOf(h.Clock.Now()), Awaited: true, Door: "gate", Target: handoff.Gate,
	}
	if err := broken.Handle(t.Context(), eventlog.Delivery{Logged: eventlog.Logged{Event: e}}); !errors.Is(err, storage.ErrUnavailable) || notify.IsPermanent(err) {
		t.Errorf("a store that fails: %v", err)
	}
	if err := h.dispatcher.Handle(t.Context(), eventlog.Delivery{Logged: eventlog.Logged{Event: e}}); !notify.IsPermanent(err) {
		t.Errorf("an event without a permit id: %v", err)
	}
	e.Grant.Hash = "000000000000000000000000"
	if err := h.dispatcher.Handle(t.Context(), eventlog.Delivery{Logged: eventlog.Logged{Event: e}}); err != nil {
		t.Errorf("a grant that is gone: %v", err)
	}
	if _, err := doors.New(doors.Config{}); err == nil {
		t.Error("made of nothing")
	}
}

type failing struct{}

func (failing) Grant(context.Context, handoff.Actor, handoff.GrantID) (handoff.Grant, error) {
	return handoff.Grant{}, storage.ErrUnavailable
}

// With a reader of the group a permit is with the door a moment after it was granted.
func TestReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t)
		r, err := notify.NewReader(notify.Config{Log: h.Core, Group: doors.Group, Handle: h.dispatcher.Handle, Clock: h.Clock, Poll: doors.Poll})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		time.Sleep(time.Second)
		h.unlock(t, "gate")
		time.Sleep(2 * doors.Poll)
		synctest.Wait()
		if kinds := h.kinds(t, "gate"); len(kinds) != 1 {
			t.Errorf("after %v the gate was sent %v", 2*doors.Poll, kinds)
		}
		stop()
		<-ended
	})
}
