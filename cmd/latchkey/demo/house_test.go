package demo

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/door/controller"
	"latchkey/handoff/eventlog"
)

// said makes the ledger hear of a door, one second after the other.
func said(t *testing.T, l *ledger, from time.Time, permit byte, types ...handoff.EventType) {
	t.Helper()
	for i, e := range types {
		err := l.handle(t.Context(), eventlog.Delivery{Logged: eventlog.Logged{
			ID: eventlog.ID{ID: from.Format(time.RFC3339) + string('a'+permit) + e.String()},
			Event: handoff.Event{
				Type: e, Door: "turm5-gate", Permit: handoff.PermitID{permit}, Parcel: "JJD000390001187",
				At: handoff.InstantOf(from.Add(time.Duration(i) * time.Second)),
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func shownOf(l *ledger, now time.Time) string {
	u := l.shown("turm5-gate", now)
	if u == nil {
		return ""
	}
	return u.state
}

func TestLedgerTellsWhatIsSoOfADoor(t *testing.T) {
	const (
		permitted, delivered, confirmed = handoff.EventPermitted, handoff.EventDoorDelivered, handoff.EventDoorConfirmed
		opened, relocked, silent        = handoff.EventDoorOpened, handoff.EventDoorRelocked, handoff.EventDoorSilent
	)
	l := newLedger()
	if got := shownOf(l, noon); got != "" {
		t.Errorf("at the start the gate is %s", got)
	}
	said(t, l, noon, 1, permitted, delivered, confirmed, opened)
	said(t, l, noon.Add(10*time.Second), 2, permitted, silent)
	if got := shownOf(l, noon.Add(20*time.Second)); got != "opened" {
		t.Errorf("another permit hides that the door is open: %s", got)
	}
	said(t, l, noon.Add(30*time.Second), 1, relocked)
	if got := shownOf(l, noon.Add(40*time.Second)); got != "no-answer" {
		t.Errorf("after the first permit's end the gate is %s", got)
	}
	said(t, l, noon.Add(50*time.Second), 3, permitted)
	if got := shownOf(l, noon.Add(60*time.Second)); got != "authorised" {
		t.Errorf("with a new permit the gate is %s", got)
	}
	if got := shownOf(l, noon.Add(140*time.Second)); got != "" {
		t.Errorf("a permit that opens nothing any more shows as %s", got)
	}

	before := len(l.latest())
	said(t, l, noon, 1, permitted)
	if again := l.latest(); len(again) != before || again[0].At.Before(again[len(again)-1].At) || again[0].Parcel != "1187" {
		t.Errorf("an event told twice, or not the newest first: %+v", again)
	}
	for i := range 100 {
		said(t, l, noon.Add(time.Hour+time.Duration(i)*time.Second), byte(i), permitted)
	}
	if got := len(l.latest()); got != eventsShown {
		t.Errorf("%d events are kept", got)
	}
}

// A door that fell silent while it was unlocked is not shown as unlocked for ever.
func TestDoorsAnswerSaysWhatIsStale(t *testing.T) {
	h := NewHouse(NewClock(noon), slog.New(slog.DiscardHandler))
	said(t, h.ledger, noon.Add(-10*time.Second), 1, handoff.EventPermitted, handoff.EventDoorConfirmed)
	if d := h.answer().Doors[0]; d.State != "confirmed" || d.Stale {
		t.Errorf("9 s after the unlock: %+v", d)
	}
	if _, err := h.clock.Forward(noon.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if d := h.answer().Doors[0]; d.State != "confirmed" || !d.Stale {
		t.Errorf("a minute later: %+v", d)
	}
}

func TestDoorsOverHTTP(t *testing.T) {
	s := newStage(t)
	var answer doorsAnswer
	if w := ask(s, "GET", "/demo/doors", ""); w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &answer) != nil || len(answer.Doors) != 3 || answer.Events == nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for target, body := range map[string]string{
		"/demo/doors/none/network": `{"cut":true}`, "/demo/doors/none/challenge": "", "/demo/doors/none/permit": `{"permit":"AAAA"}`,
		"/demo/doors/turm5-gate/challenge": "", "/demo/doors/turm5-gate/permit": `{"permit":"AAAA"}`, // it has no reader
	} {
		wantProblem(t, ask(s, "POST", target, body), 404, "not-found")
	}
	for target, body := range map[string]string{
		"/demo/doors/turm5-gate/network": `{}`, "/demo/doors/turm5-lobby/permit": `{}`,
	} {
		wantProblem(t, ask(s, "POST", target, body), 422, "invalid-request")
	}
	for _, line := range []string{"tamper", "contact open", "pin 12345678", `AAAA\nchallenge`, "AAAA="} {
		wantProblem(t, ask(s, "POST", "/demo/doors/turm5-lobby/permit", `{"permit":"`+line+`"}`), 422, "invalid-request", line)
	}
}

func TestReaderWithoutAController(t *testing.T) {
	r := newReader()
	r.close()
	if _, err := r.ask("challenge"); err == nil {
		t.Error("a reader answers whose controller has ended")
	}
}

// A person walks through each time that the bolt lets go, and the contact reports it.
func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		l := newLock()
		var told []controller.Signal
		go l.watch(ctx, func(s controller.Signal) { told = append(told, s) })
		for range 2 {
			if err := l.Unlock(ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if err := l.Lock(ctx); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		synctest.Wait()
		want := []controller.Signal{controller.ContactClosed, controller.ContactOpen, controller.ContactClosed, controller.ContactOpen, controller.ContactClosed}
		if len(told) != len(want) {
			t.Fatalf("the contact told %v", told)
		}
		for i := range want {
			if told[i] != want[i] {
				t.Errorf("the contact told %v", told)
			}
		}
		if l.Unlock(ctx) == nil || l.Lock(ctx) == nil {
			t.Error("the bolt says that it moved when it was not waited for")
		}
	})
}

// A cut cable breaks what is connected, lets nothing through, and carries again when it
// is whole.
func TestCable(t *testing.T) {
	arrived, hold := make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/long") {
			arrived <- struct{}{}
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
	}))
	defer server.Close()
	defer close(hold)
	c := newCable()
	defer c.transport.CloseIdleConnections()
	get := func(ctx context.Context, path string) error {
		req, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
		if err != nil {
			return err
		}
		resp, err := c.transport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	broken := make(chan error, 1)
	go func() { broken <- get(t.Context(), "/long") }()
	<-arrived
	c.cut(true)
	c.cut(true)
	if err := <-broken; err == nil {
		t.Error("a request came through a cable that was cut")
	}
	if !c.isCut() {
		t.Error("the cable does not know that it is cut")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := get(ctx, "/"); err == nil || ctx.Err() == nil {
		t.Errorf("through a cut cable: %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- get(t.Context(), "/") }()
	c.cut(false)
	c.cut(false)
	if err := <-waiting; err != nil || c.isCut() {
		t.Errorf("through a whole cable: %v", err)
	}
}
