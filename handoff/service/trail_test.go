package service_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
)

// The events of a day say who did what on which device and when by its clock, and name
// neither a person nor a device.
func TestTheTrailSaysWho(t *testing.T) {
	w := world(t)
	ctx, at := t.Context(), handofftest.Home
	if err := w.Core.PutBuilding(ctx, handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Core.PutDoor(ctx, handoff.Door{ID: "d1", Kind: handoff.Lobby, Mode: handoff.Connected, Location: &at, BuildingID: "bld_turm5"}); err != nil {
		t.Fatal(err)
	}
	must := func(err error, want handoff.Reason) {
		t.Helper()
		if refusal(err) != want {
			t.Fatal(err)
		}
	}
	claimed := w.Clock.Now().Add(-time.Hour)
	clerk, wms := shop, shop
	clerk.Subject, wms.Subject = "https://id.shop.example clerk@shop.example", "key k1"
	g, _, err := w.Service.DispatchBy(ctx, wms, handofftest.Sample("p1"))
	must(err, "")
	_, err = w.Service.Reissue(ctx, clerk, g.ID)
	must(err, "")
	g = w.Parcel(t, "p1")
	r := service.UnlockRequest{Courier: handofftest.Courier("c1"), Door: "d1", Parcel: "p1", Position: &handoff.Position{Point: at}, Device: "phone-3", Claimed: claimed}
	_, err = w.Service.Unlock(ctx, r)
	must(err, "")
	r.Position, r.Device = nil, "phone-4"
	_, err = w.Service.Unlock(ctx, r)
	must(err, handoff.OutsideGeofence)
	p := handofftest.AtDoor("c1", "p1", handofftest.WrongCode(&g, 1))
	p.Device, p.Claimed = "phone-3", claimed
	_, err = w.Service.Verify(ctx, p)
	must(err, handoff.CodeMismatch)
	p.Code = g.CurrentCode()
	_, err = w.Service.Verify(ctx, p)
	must(err, "")
	_, err = w.Service.Abort(ctx, p)
	must(err, "")
	p.Device, p.Claimed = "", time.Time{}
	_, err = w.Service.Attempted(ctx, p)
	must(err, "")
	_, err = w.Service.Recall(ctx, clerk, g.ID, "")
	must(err, "")

	phone := handoff.Pseudonym(handofftest.Namer{}, "device", handofftest.Carrier+" phone-3")
	other := handoff.Pseudonym(handofftest.Namer{}, "device", handofftest.Carrier+" phone-4")
	clerkName, wmsName := handoff.Pseudonym(handofftest.Namer{}, "who", clerk.Subject), handoff.Pseudonym(handofftest.Namer{}, "who", wms.Subject)
	type trail struct {
		device, who string
		claimed     handoff.Instant
	}
	onPhone := trail{phone, "", handoff.InstantOf(claimed)}
	want := map[handoff.EventType]trail{
		handoff.EventDispatched: {who: wmsName}, handoff.EventCodeReissued: {who: clerkName}, handoff.EventRecalled: {who: clerkName},
		handoff.EventPermitted: onPhone, handoff.EventAccessRefused: {other, "", handoff.InstantOf(claimed)}, handoff.EventCodeRefused: onPhone,
		handoff.EventReleased: onPhone, handoff.EventAborted: onPhone, handoff.EventAttempted: {},
	}
	pseudonym := regexp.MustCompile(`^([0-9a-f]{16})?$`)
	events := w.Events(t)
	for _, e := range events {
		if got := (trail{e.Device, e.Who, e.Claimed}); got != want[e.Type] {
			t.Errorf("%s: %+v, want %+v", e.Type, got, want[e.Type])
		}
		if !pseudonym.MatchString(e.Device) || !pseudonym.MatchString(e.Who) || strings.Contains(e.Device+e.Who, "phone") {
			t.Errorf("%s: device %q, who %q", e.Type, e.Device, e.Who)
		}
		delete(want, e.Type)
	}
	if len(want) > 0 {
		t.Errorf("no event of %v among %d", want, len(events))
	}
}

// The same device id of two carriers is two devices.
func TestDevicesOfTwoCarriers(t *testing.T) {
	names := handofftest.Namer{}
	if handoff.Pseudonym(names, "device", "swift 1") == handoff.Pseudonym(names, "device", "rival 1") {
		t.Error("two carriers' devices have one name")
	}
	if handoff.Pseudonym(names, "who", "") != "" {
		t.Error("nobody has a name")
	}
}

// An attempt that is repeated with another claimed time is another attempt.
func TestAnAttemptIsRepeatedWithItsTime(t *testing.T) {
	w := world(t)
	g := w.Dispatch(t, handofftest.Sample("p1"))
	p := handofftest.AtDoor("c1", "p1", handofftest.WrongCode(&g, 1))
	p.Attempt, p.Claimed = "a1", w.Clock.Now()
	for range 2 {
		if _, err := w.Service.Verify(t.Context(), p); refusal(err) != handoff.CodeMismatch {
			t.Fatal(err)
		}
	}
	p.Claimed = p.Claimed.Add(time.Second)
	if _, err := w.Service.Verify(t.Context(), p); refusal(err) != handoff.AttemptReused {
		t.Error(err)
	}
	p.Claimed = p.Claimed.Add(-time.Second).In(time.FixedZone("", 3600)) // the same instant
	if _, err := w.Service.Verify(t.Context(), p); refusal(err) != handoff.CodeMismatch {
		t.Error(err)
	}
	if g := w.Parcel(t, "p1"); g.Code.TotalWrong != 1 {
		t.Errorf("%d wrong codes", g.Code.TotalWrong)
	}
}
