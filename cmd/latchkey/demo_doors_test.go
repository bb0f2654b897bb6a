package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/cmd/latchkey/sample"
)

// sampleHouse is the sample building of a running demo, and the parcel of its garage's owner.
type sampleHouse struct {
	client
	courier, customer string
	parcel, grant     string
	at                sample.Location
}

func newBuilding(t *testing.T, url string) *sampleHouse {
	t.Helper()
	c := client{t, url}
	var first struct {
		Parcel   string                             `json:"parcel_id"`
		Customer struct{ ID string }                `json:"customer"`
		To       struct{ Location sample.Location } `json:"destination"`
	}
	line, _, _ := bytes.Cut(sample.Day(), []byte("\n"))
	if err := json.Unmarshal(line, &first); err != nil {
		t.Fatal(err)
	}
	b := &sampleHouse{client: c, parcel: first.Parcel, at: first.To.Location}
	b.courier = c.token(`{"scope":"courier","sub":"cou_7","carrier_id":"swift"}`)
	b.customer = c.token(`{"scope":"customer","sub":"` + first.Customer.ID + `"}`)
	_, list := c.do("GET", "/v1/customers/"+first.Customer.ID+"/handoffs", b.customer, "")
	for _, h := range list["handoffs"].([]any) {
		if h := h.(map[string]any); h["parcel_id"] == b.parcel {
			b.grant = h["grant_id"].(string)
		}
	}
	return b
}

func (b *sampleHouse) here(meters float64) string {
	return fmt.Sprintf(`"location":{"lat":%f,"lon":%f,"accuracy_m":5}`, b.at.Lat+meters/111_000, b.at.Lon)
}

func (b *sampleHouse) unlock(door, more string) (int, map[string]any) {
	b.t.Helper()
	return b.do("POST", "/v1/doors/"+door+"/unlock", b.courier, fmt.Sprintf(`{"parcel_id":"%s",%s%s}`, b.parcel, b.here(0), more))
}

func (b *sampleHouse) challenge(door string) string {
	b.t.Helper()
	status, answer := b.do("POST", "/demo/doors/"+door+"/challenge", "", "")
	if status != http.StatusOK {
		b.t.Fatalf("%s shows no challenge: %d %v", door, status, answer)
	}
	return fmt.Sprintf(`,"challenge":"%s"`, answer["challenge"])
}

// shown is what the page's data say of a door: its state, and the steps to it.
func (b *sampleHouse) shown(door string) (state, steps string) {
	b.t.Helper()
	_, answer := b.do("GET", "/demo/doors", "", "")
	for _, d := range answer["doors"].([]any) {
		if d := d.(map[string]any); d["door_id"] == door {
			var names []string
			for _, s := range d["steps"].([]any) {
				names = append(names, s.(map[string]any)["state"].(string))
			}
			return d["state"].(string), strings.Join(names, " ")
		}
	}
	b.t.Fatalf("no door %s in %v", door, answer)
	return "", ""
}

func (b *sampleHouse) network(door string, cut bool) {
	b.t.Helper()
	if status, answer := b.do("POST", "/demo/doors/"+door+"/network", "", fmt.Sprintf(`{"cut":%t}`, cut)); status != http.StatusOK || answer["cut"] != cut {
		b.t.Fatalf("the network of %s: %d %v", door, status, answer)
	}
}

// forward moves the demo's clock on.
func (b *sampleHouse) forward(d time.Duration) {
	b.t.Helper()
	_, answer := b.do("GET", "/demo/clock", "", "")
	now, err := time.Parse(time.RFC3339Nano, answer["now"].(string))
	if err != nil {
		b.t.Fatal(err)
	}
	if status, _ := b.do("POST", "/demo/clock", "", fmt.Sprintf(`{"now":"%s"}`, now.Add(d).Format(time.RFC3339Nano))); status != http.StatusOK {
		b.t.Fatalf("the clock: %d", status)
	}
}

const wholeWay = "authorised delivered confirmed opened relocked"

// The sample building as a person walks through it: each door's state is what the door
// said, in its order, and the demo ends without leaving anything behind.
func TestDemoDoors(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	before := goleak.IgnoreCurrent()
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T09:00:00Z")
	await(t, "the demo", func() bool { return strings.Contains(demo.out.String(), "ready") })
	b := newBuilding(t, demo.url(t))

	for _, door := range []string{"turm5-gate", "turm5-lobby", "turm5-garage"} {
		if state, steps := b.shown(door); state != "" || steps != "" {
			t.Errorf("before anything happened %s is %q %q", door, state, steps)
		}
	}
	far := fmt.Sprintf(`{"parcel_id":"%s",%s}`, b.parcel, b.here(2000))
	if status, answer := b.do("POST", "/v1/doors/turm5-gate/unlock", b.courier, far); status != http.StatusForbidden || answer["proofs"].(map[string]any)["place"] != "failed" {
		t.Errorf("from afar: %d %v", status, answer)
	}
	if status, answer := b.unlock("turm5-lobby", ""); status != http.StatusForbidden || answer["proofs"].(map[string]any)["presence"] != "missing" {
		t.Errorf("the lobby without its challenge: %d %v", status, answer)
	}
	if status, answer := b.unlock("turm5-garage", b.challenge("turm5-garage")); status != http.StatusForbidden || answer["proofs"].(map[string]any)["consent"] != "missing" {
		t.Errorf("the garage without consent: %d %v", status, answer)
	}

	if status, answer := b.do("POST", "/v1/handoffs/"+b.grant+"/consent", b.customer, `{"doors":["garage"]}`); status != http.StatusOK {
		t.Fatalf("consent: %d %v", status, answer)
	}
	if status, answer := b.unlock("turm5-gate", ""); status != http.StatusOK {
		t.Fatalf("the gate: %d %v", status, answer)
	}
	if status, answer := b.unlock("turm5-garage", b.challenge("turm5-garage")); status != http.StatusOK {
		t.Fatalf("the garage: %d %v", status, answer)
	}
	status, permit := b.unlock("turm5-lobby", b.challenge("turm5-lobby"))
	if status != http.StatusOK {
		t.Fatalf("the lobby: %d %v", status, permit)
	}
	carried := fmt.Sprintf(`{"permit":"%s"}`, permit["permit"])
	if status, answer := b.do("POST", "/demo/doors/turm5-lobby/permit", "", carried); status != http.StatusOK || answer["result"] != "opened" {
		t.Errorf("the permit held to the lobby: %d %v", status, answer)
	}
	if status, answer := b.do("POST", "/demo/doors/turm5-lobby/permit", "", carried); status != http.StatusOK || answer["result"] != "refused" || answer["reason"] != "challenge-mismatch" {
		t.Errorf("the same permit again: %d %v", status, answer)
	}
	for _, door := range []string{"turm5-gate", "turm5-lobby", "turm5-garage"} {
		await(t, door+" to lock again", func() bool {
			state, steps := b.shown(door)
			if !strings.HasPrefix(wholeWay, steps) || !strings.HasSuffix(steps, state) {
				t.Fatalf("%s is %s after %s", door, state, steps)
			}
			return steps == wholeWay
		})
	}

	// Without its network the gate says nothing, and nothing is said for it. The permit is
	// good for a minute: when the network is back in time, the gate opens and says so.
	b.network("turm5-gate", true)
	if status, answer := b.unlock("turm5-gate", ""); status != http.StatusOK {
		t.Fatalf("the gate: %d %v", status, answer)
	}
	b.forward(16 * time.Second)
	await(t, "no answer", func() bool {
		_, steps := b.shown("turm5-gate")
		if !strings.HasPrefix("authorised no-answer", steps) && steps != wholeWay { // of the permit before
			t.Fatalf("without its network the gate came by %s", steps)
		}
		return steps == "authorised no-answer"
	})
	b.network("turm5-gate", false)
	await(t, "the gate to be heard again", func() bool {
		_, steps := b.shown("turm5-gate")
		return steps == "authorised no-answer delivered confirmed opened relocked"
	})

	// A carried door needs no network to open. What it did is known when it has one again.
	b.network("turm5-lobby", true)
	if status, permit = b.unlock("turm5-lobby", b.challenge("turm5-lobby")); status != http.StatusOK {
		t.Fatalf("the lobby: %d %v", status, permit)
	}
	if _, answer := b.do("POST", "/demo/doors/turm5-lobby/permit", "", fmt.Sprintf(`{"permit":"%s"}`, permit["permit"])); answer["result"] != "opened" {
		t.Errorf("the lobby without its network: %v", answer)
	}
	await(t, "the lobby's permit", func() bool {
		_, steps := b.shown("turm5-lobby")
		return steps == "authorised"
	})
	b.network("turm5-lobby", false)
	await(t, "the lobby to be heard again", func() bool {
		_, steps := b.shown("turm5-lobby")
		return steps == wholeWay
	})

	_, account := b.do("GET", "/v1/handoffs/"+b.grant, b.customer, "")
	if status, answer := b.do("POST", "/v1/parcels/"+b.parcel+"/verify", b.courier, fmt.Sprintf(`{"code":"%s",%s}`, account["code"], b.here(0))); answer["status"] != "released" {
		t.Fatalf("the handover: %d %v", status, answer)
	}
	if status, answer := b.unlock("turm5-gate", ""); status != http.StatusForbidden || answer["reason"] != "already-released" {
		t.Errorf("after the handover: %d %v", status, answer)
	}

	if code := demo.stop(); code != 0 {
		t.Errorf("the demo ended with %d", code)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before, // two that sleep in fasthttp, and look around when they wake up
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// The clock may jump a day ahead: the doors stay dialed in, and judge permits by it.
func TestDemoDoorsAfterTheClockMoved(t *testing.T) {
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T09:00:00Z")
	await(t, "the demo", func() bool { return strings.Contains(demo.out.String(), "ready") })
	b := newBuilding(t, demo.url(t))
	b.forward(24 * time.Hour)
	if status, answer := b.unlock("turm5-gate", ""); status != http.StatusForbidden || answer["proofs"].(map[string]any)["time"] != "failed" {
		t.Errorf("yesterday's parcel: %d %v", status, answer)
	}
	line, _, _ := bytes.Cut(sample.Day(), []byte("\n"))
	tomorrow := strings.NewReplacer(b.parcel, "JJD000390001200", sample.Date, "2026-11-25").Replace(string(line))
	carrier := b.token(`{"scope":"carrier","sub":"dispatcher","carrier_id":"swift"}`)
	if status, answer := b.do("PUT", "/v1/routes/swift/BER-042/2026-11-25", carrier, `{"courier_id":"cou_7"}`); status != http.StatusOK {
		t.Fatalf("the route: %d %v", status, answer)
	}
	if status, answer := b.do("POST", "/v1/dispatches", b.token(`{"scope":"dispatch","sub":"w"}`), tomorrow); status != http.StatusCreated {
		t.Fatalf("the parcel: %d %v", status, answer)
	}
	b.parcel = "JJD000390001200"
	if status, answer := b.unlock("turm5-gate", ""); status != http.StatusOK {
		t.Fatalf("the gate: %d %v", status, answer)
	}
	await(t, "the gate to open", func() bool {
		_, steps := b.shown("turm5-gate")
		return steps == "authorised delivered confirmed opened"
	})
}

// A demo that is stopped while a door is open locks it first.
func TestDemoEndsWithItsDoorsLocked(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T09:00:00Z")
	await(t, "the demo", func() bool { return strings.Contains(demo.out.String(), "ready") })
	b := newBuilding(t, demo.url(t))
	b.network("turm5-garage", true) // a cut cable holds nothing up
	if status, answer := b.unlock("turm5-gate", ""); status != http.StatusOK {
		t.Fatalf("the gate: %d %v", status, answer)
	}
	await(t, "the gate", func() bool {
		state, _ := b.shown("turm5-gate")
		return state == "confirmed"
	})
	if code := demo.stop(); code != 0 {
		t.Errorf("the demo ended with %d: %s", code, demo.err.String())
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestDemoWithoutItsBuilding(t *testing.T) {
	c := client{t, start(t, "demo", "--addr", "127.0.0.1:0", "--empty").url(t)}
	if status, _ := c.do("GET", "/demo/doors", "", ""); status != http.StatusNotFound {
		t.Errorf("an empty demo has doors: %d", status)
	}
}
