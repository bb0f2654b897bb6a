//go:build chaos

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// onDoors are the faults of doors, and of what lies between them and the service. The load goes on
// beside them.
var onDoors = []scenario{
	{name: "a door's network is cut, before and after its lock moves", doors: true, redis: serviceAlone(doorCutOff)},
	{name: "a door's controller is killed with permits in flight", doors: true, redis: serviceAlone(doorKilled)},
	{name: "the service is killed and comes back with other keys for doors", doors: true, redis: serviceAlone(doorsKeyChanged)},
	{name: "a door's clock is an hour ahead, and an hour behind", doors: true, redis: serviceAlone(doorsClockWrong)},
}

// gate is one connected door of a building, with a courier before it. Its controller is the program,
// as a process of its own or, with a clock, in this one; its lock is a script that writes down how
// it was moved.
type gate struct {
	*checker
	site    *doorSite
	wire    *wire // to the service
	run     []string
	process *process
	courier string
	manager string
	passes  []*pass
}

// pass is a permit, and what is known of it.
type pass struct {
	permit
	moved int    // how often the lock had been opened before
	state string // in the end
}

// moves is how long the lock of a gate takes to open.
const moves = 150 * time.Millisecond

func newGateOf(c *checker) *gate {
	c.t.Helper()
	g := &gate{
		checker: c, wire: newWire(c.t), courier: c.token(c.t, auth.Principal{Subject: "cou_g", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}),
		manager: c.token(c.t, auth.Principal{Subject: "m", Building: "bld_g", Scopes: []auth.Scope{auth.Building}}),
	}
	app := client{c.t, c.instances[0].at()}
	g.wire.lead(strings.TrimPrefix(app.url, "http://"))
	published, err := json.Marshal(app.must("GET", "/v1/doors/keys", "", ""))
	if err != nil {
		c.t.Fatal(err)
	}
	g.site = enroll(c.t, "gate", published)
	app.must("PUT", "/v1/buildings/bld_g", g.manager, fmt.Sprintf(`{"name":"G","address":"Turmstr. 5","time_zone":%q,"location":%s,"carriers":["swift"]}`, c.zone, gatePlace))
	app.must("PUT", "/v1/doors/gate", g.manager, fmt.Sprintf(`{"building_id":"bld_g","kind":"gate","mode":"connected","location":%s,"public_key":%q}`, gatePlace, g.site.public.String()))
	app.must("PUT", "/v1/couriers/swift/cou_g", c.operator, `{"name":"Courier","cleared_until":"2099-01-01"}`)
	app.must("PUT", "/v1/routes/swift/G/"+c.day(0), c.operator, `{"courier_id":"cou_g"}`)
	token := secretFile(c.t, c.token(c.t, auth.Principal{Subject: "gate", Scopes: []auth.Scope{auth.Door}}))
	g.run = []string{
		"door", "run", g.site.dir, "--url", "http://" + g.wire.addr(), "--token-file", token, "--socket", g.socket(), "--relock=200ms",
		"--open-command=" + g.site.program("open", fmt.Sprintf("sleep %v", moves.Seconds())), "--close-command=" + g.site.program("close", ""),
	}
	return g
}

func (g *gate) socket() string { return filepath.Join(filepath.Dir(g.site.dir), "socket") }

func (g *gate) start() {
	g.t.Helper()
	g.process = spawn(g.t, nil, g.run...)
	g.process.said("connected to the service")
}

// startUnheard starts the controller while the network is cut.
func (g *gate) startUnheard() {
	g.t.Helper()
	g.process = spawn(g.t, nil, g.run...)
	g.process.said(`"msg":"running"`)
}

// opened is how often the lock was opened.
func (g *gate) opened() int {
	return strings.Count(" "+g.site.moved()+" ", " open ")
}

// ask asks for a permit for the door, for a parcel of its own.
func (g *gate) ask() *pass {
	g.t.Helper()
	n := len(g.passes)
	status, answer := g.until(g.t.Context(), "POST", "/v1/dispatches", g.warehouse, fmt.Sprintf(
		`{"parcel_id":"GATE%d","carrier_id":"swift","route_id":"G","delivery_date":%q,"value":{"amount":"1","currency":"EUR"},"customer":{"id":"cus_gate","email":"gate@home.example"},"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":%q,"building_id":"bld_g"}}`,
		n, g.day(0), g.zone))
	if status != http.StatusCreated && status != http.StatusOK {
		g.t.Fatalf("a dispatch: %d %v", status, answer)
	}
	before := g.opened()
	status, answer = g.until(g.t.Context(), "POST", "/v1/doors/gate/unlock", g.courier, fmt.Sprintf(`{"parcel_id":"GATE%d",%s,"attempt_id":"a"}`, n, gateHere))
	if status != http.StatusOK {
		g.t.Fatalf("an unlock: %d %v", status, answer)
	}
	p := &pass{permit: permit{id: answer["permit_id"].(string), door: "gate", raw: answer["permit"].(string)}, moved: before}
	g.passes = append(g.passes, p)
	return p
}

// becomes waits until the courier is shown one of these states.
func (g *gate) becomes(p *pass, states ...string) {
	g.t.Helper()
	for patience := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, answer := g.until(g.t.Context(), "GET", "/v1/doors/gate/unlocks/"+p.id, g.courier, "")
		if p.state, _ = answer["state"].(string); slices.Contains(states, p.state) {
			break
		}
		if time.Now().After(patience) {
			g.t.Fatalf("the permit %s is %s, and the door opened %d times for it; want %v", p.id, p.state, g.opened()-p.moved, states)
		}
	}
	if n := g.opened() - p.moved; n > 1 || p.state == "relocked" && n == 0 || (p.state == "refused" || p.state == "no-answer") && n > 0 {
		g.t.Errorf("a permit that is %s, and the door opened %d times for it", p.state, n)
	}
}

// carry brings a permit to the door's socket once more. It gives the door's answer.
func (g *gate) carry(raw string) string {
	g.t.Helper()
	conn, err := net.Dial("unix", g.socket())
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, raw+"\n"); err != nil {
		g.t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

// balance holds all that was permitted against what the lock did, what the log says and what the
// building is shown. No permit opens a second time, and nothing opens without one.
func (g *gate) balance() {
	g.t.Helper()
	opened := g.opened()
	for _, p := range g.passes {
		if p.state == "refused" {
			continue
		}
		if answer := g.carry(p.raw); answer != replayed {
			g.t.Errorf("a permit that is %s, shown again: %s", p.state, answer)
		}
	}
	for _, forged := range []string{"AAAA", strings.Repeat("A", 170)} {
		if answer := g.carry(forged); !strings.Contains(answer, `"result":"refused"`) {
			g.t.Errorf("no permit: %s", answer)
		}
	}
	if n := g.opened(); n != opened {
		g.t.Errorf("the door opened %d times for permits that were spent or are none", n-opened)
	}
	if moved := strings.Fields(g.site.moved()); len(moved) > 0 && moved[len(moved)-1] != "close" {
		g.t.Errorf("the door was left unlocked: %v", moved)
	}

	permitted, delivered := map[string]bool{}, map[string]int{}
	g.log()(func(e handoff.Event) {
		switch e.Type {
		case handoff.EventPermitted:
			permitted[e.Permit.String()] = true
		case handoff.EventDoorDelivered:
			delivered[e.Permit.String()]++
		}
	})
	await(g.t, "the building to be shown what became of every permit", func() bool {
		shown := g.shown()
		return !slices.ContainsFunc(g.passes, func(p *pass) bool {
			want := p.state
			if want == "refused" {
				want = "refused-by-door"
			}
			return !slices.Contains(shown[p.id], want)
		})
	})
	reported, refused := 0, 0
	for _, p := range g.passes {
		if !permitted[p.id] {
			g.t.Errorf("a permit of which the log knows nothing")
		}
		if p.state == "refused" {
			refused++
			continue
		}
		if p.state == "no-answer" {
			continue
		}
		reported++
		if delivered[p.id] != 1 {
			g.t.Errorf("of a permit that is %s the door said %d times that it came", p.state, delivered[p.id])
		}
	}
	if len(permitted) != len(g.passes) || opened > reported {
		g.t.Errorf("%d permits on the log, %d asked for; the door opened %d times, and %d were reported", len(permitted), len(g.passes), opened, reported)
	}
	g.note("%d permits: %d opened the door, %d refused by it", len(g.passes), opened, refused)
}

// shown is what the building is shown of each permit.
func (g *gate) shown() map[string][]string {
	g.t.Helper()
	_, answer := g.until(g.t.Context(), "GET", "/v1/buildings/bld_g/access-log?limit=200", g.manager, "")
	content, err := json.Marshal(answer["passages"])
	if err != nil {
		g.t.Fatal(err)
	}
	var passages []struct {
		Permit  string `json:"permit_id"`
		Outcome string
		Steps   []struct{ State string }
	}
	if err := json.Unmarshal(content, &passages); err != nil {
		g.t.Fatal(err)
	}
	shown := map[string][]string{}
	for _, p := range passages {
		shown[p.Permit] = append(shown[p.Permit], p.Outcome)
		for _, step := range p.Steps {
			shown[p.Permit] = append(shown[p.Permit], step.State)
		}
	}
	return shown
}

// doorCutOff cuts the network between door and service before a permit arrives, after the lock moved
// and while the controller starts. Each opening is reported when it is mended.
func doorCutOff(c *checker) {
	g := newGateOf(c)
	g.start()
	g.wire.cut()
	early := g.ask()
	time.Sleep(*chaosSpan)
	if g.opened() > 0 {
		c.t.Error("the network is cut, and the door opens")
	}
	g.wire.mend()
	g.becomes(early, "relocked")

	late := g.ask()
	await(c.t, "the lock to move", func() bool { return g.opened() == 2 })
	g.wire.cut()
	g.process.said(`"state":"relocked"`)
	await(c.t, "the lock to lock", func() bool { return g.site.moved() == "open close open close" })
	if _, answer := g.until(c.t.Context(), "GET", "/v1/doors/gate/unlocks/"+late.id, g.courier, ""); answer["state"] == "relocked" {
		c.t.Error("the network is cut, and the report came")
	}
	g.process.kill()
	g.startUnheard()
	c.saw("nothing came through while it was cut")
	g.wire.mend()
	g.becomes(late, "relocked")
	g.balance()
}

// doorKilled kills the controller at moments from before the permit comes until after the lock is
// locked again, and starts it again. What is in flight then is finished once, or said to have failed.
func doorKilled(c *checker) {
	g := newGateOf(c)
	g.start()
	states := map[string]int{}
	for after := time.Duration(0); after < 5*moves; after += moves / 2 {
		p := g.ask()
		time.Sleep(after)
		g.process.kill()
		var exit interface{ Sys() any }
		if err := g.process.waited(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			c.t.Errorf("the controller was not killed, but ended with %v", err)
		}
		g.start()
		// No answer is right where the kill came after the permit was spent and before anything was
		// said or moved: it must not open any more.
		g.becomes(p, "relocked", "failed", "no-answer")
		states[p.state]++
	}
	c.saw("%d kills: %d relocked, %d failed, %d spent in vain", len(g.passes), states["relocked"], states["failed"], states["no-answer"])
	if states["failed"] == 0 {
		c.t.Error("no kill came while the lock moved")
	}
	g.balance()
}

// doorsKeyChanged kills the service while a permit is on its way, and starts it with signing keys
// that the door does not know. What was signed before opens where the courier carries it; what is
// signed now is refused, and said to be; with the keys of before the door opens again.
func doorsKeyChanged(c *checker) {
	g := newGateOf(c)
	g.start()
	i := c.instances[0]
	serveWith := func(keys string) {
		i.args = with(i.args, "--door-keys", keys)
		i.start(c.t)
		g.wire.lead(strings.TrimPrefix(i.at(), "http://"))
	}
	other := filepath.Join(c.t.TempDir(), "other.json")
	if code, _, errs := once("keys", "doors", "new", other); code != 0 {
		c.t.Fatal(errs)
	}

	g.wire.cut()
	before := g.ask()
	i.killed(c.t)
	serveWith(other)
	g.wire.mend()
	g.becomes(before, "refused") // as the service signs it now
	if answer := g.carry(before.raw); answer != opened {
		c.t.Errorf("the permit that the courier was given before, carried to the door: %s", answer)
	}
	g.becomes(before, "relocked")
	c.saw("the door refused permits with the other key")
	for range 2 {
		g.becomes(g.ask(), "refused")
	}
	if n := c.measured("latchkey_door_refusals_total", `reason="unknown-key"`); n < 2 {
		c.t.Errorf("the metric counts %v permits with an unknown key, want 2 at least", n)
	}
	i.killed(c.t)
	serveWith(c.doorKeys)
	g.becomes(g.ask(), "relocked")
	g.balance()
}

// doorsClockWrong sets a door's clock by more than a permit lives. The door refuses what is good,
// says why, and opens nothing; with the right time it opens.
func doorsClockWrong(c *checker) {
	g := newGateOf(c)
	for _, wrong := range []struct {
		by  time.Duration
		why string
	}{{time.Hour, "expired"}, {-time.Hour, "not-yet"}} {
		p := startBy(c.t, ahead(wrong.by), g.run...)
		await(c.t, "the door to connect", func() bool { return strings.Contains(p.err.String(), "connected to the service") })
		g.becomes(g.ask(), "refused")
		if n := c.measured("latchkey_door_refusals_total", `reason="`+wrong.why+`"`); n != 1 {
			c.t.Errorf("the metric counts %v refusals with %s, want 1", n, wrong.why)
		}
		c.saw("%v ahead: %s", wrong.by, wrong.why)
		if code := p.stop(); code != 0 {
			c.t.Errorf("the door ended with %d", code)
		}
	}
	g.start()
	g.becomes(g.ask(), "relocked")
	g.balance()
}
