//go:build chaos

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"latchkey/api/auth"
)

var (
	chaosSpan  = flag.Duration("chaos.span", time.Second, "how long the load goes on before, between and after the faults")
	chaosTimes = flag.Int("chaos.times", 1, "how often a fault that can be repeated happens")
	chaosPace  = flag.Duration("chaos.pace", 30*time.Millisecond, "how long a courier rests between two parcels, unless a scenario says so itself; without a rest the servers of a small machine could not see one another's signs of life")
	chaosTable = flag.String("chaos.table", "", "a file for the table of results; empty: the log alone")
	chaosLong  = flag.Bool("chaos.long", false, "the long form: as many mails, windows, connections and streams as a large service has")
)

// many is how many there are of something in the short form and in the long one.
func many(short, long int) int {
	if *chaosLong {
		return long
	}
	return short
}

// TestChaos is the checker. It loads running instances, breaks what they stand on, keeps every
// answer that was acknowledged and every mail, and compares them with what the service says when
// all is well again:
//
//	go test -tags chaos ./cmd/latchkey -run TestChaos -v
//	go test -tags chaos ./cmd/latchkey -run TestChaos -v -timeout 2h -chaos.long -chaos.span 30s -chaos.times 20 -parallel 1 -chaos.table FILE
//
// docs/reliability.md has the table of the long form.
func TestChaos(t *testing.T) {
	scenarios := slices.Concat(onRedis, onTheWay, onService)
	rows := make([]string, len(scenarios))
	t.Cleanup(func() { tell(t, rows) }) // after all scenarios, which are parallel
	for n, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			rows[n] = play(t, s).row(s)
		})
	}
}

// tell logs the table of what was played, and writes it to the file that was asked for.
func tell(t *testing.T, rows []string) {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| scenario\t| parcels\t| released\t| lost\t| doubled\t| stuck\t| odd answers\t| mails twice\t| slowest mail\t| longest without an answer\t| note\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, row := range rows {
		if row != "" {
			fmt.Fprintln(w, row)
		}
	}
	_ = w.Flush()
	t.Logf("\n%s", table.String())
	if *chaosTable != "" {
		if err := os.WriteFile(*chaosTable, table.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// scenario is one way in which things go wrong.
type scenario struct {
	name      string
	instances int
	args      []string // of serve, besides
	redis     func(t *testing.T) (url string, broken func(c *checker))

	// mailWay has the service reach its mail server by [checker.mailWay], which may be broken.
	mailWay bool

	// silence is how long the load cannot be answered while the fault lasts, at least.
	silence time.Duration

	// mayLose says that what was acknowledged may be lost with that durability. Each loss must then
	// be noticed: see [notice].
	mayLose bool

	loses bool // something is lost for certain

	// mailsTwice says that a mail may come twice: the link to the mail server, or what finished it
	// on the log, is broken between the last dot and its answer.
	mailsTwice bool

	doors bool // the service opens doors

	pace time.Duration // between two parcels of a courier; 0: as long as -chaos.pace says

	// clocks are those of the instances, which then run in this process, so that their time can be
	// set; nil: each is a process of its own that has the wall's.
	clocks func(c *checker) []*off
}

// checker is one scenario as it is played.
type checker struct {
	*production
	t         *testing.T
	redisURL  string
	pace      time.Duration
	arrivals  func() []time.Time // of the sink's messages
	zone      string             // of the addresses: there it is far from midnight
	warehouse string
	operator  string
	instances []*instance
	http      http.Client
	doorKeys  string // the file, where the service opens doors
	mailWay   *proxy // nil: the service reaches its mail server directly

	turn     atomic.Uint64
	mu       sync.Mutex
	lives    []*life
	answers  []time.Time // of requests that were acknowledged
	verified []timed     // verifies that were acknowledged
	notes    []string    // what a row says besides its figures
	shown    bool        // something of the fault was seen
	losses   *notice     // nil: nothing may be lost
}

// timed is when something was done, and how long it took.
type timed struct {
	at   time.Time
	took time.Duration
}

// instance is one serve.
type instance struct {
	args  []string
	clock *off // nil: it is a process of its own
	mu    sync.Mutex
	url   string
	run   *process // with a clock of its own: nil
	here  *program // then
}

// life is what was acknowledged of one parcel.
type life struct {
	parcel, customer, grant, code string
	dispatched                    time.Time // zero: not acknowledged
	day                           string    // of the delivery
	over                          bool      // the answer was that the window is over, and the day was
	released                      bool      // a 200 was answered
	odd                           string    // an answer that no fault explains
	releases                      int       // receipts that differ
	status                        string    // in the end
}

// verdict is what the comparison found.
type verdict struct {
	parcels, released        int
	lost, doubled, stuck     []string
	unnoticed                []string // of what is lost: nothing was said of it
	odd                      []string
	mailsTwice               int
	slowestMail, longestWait time.Duration
	notes                    []string
}

func (v *verdict) row(s scenario) string {
	return fmt.Sprintf("| %s\t| %d\t| %d\t| %d\t| %d\t| %d\t| %d\t| %d\t| %.1f s\t| %.1f s\t| %s\t|", s.name, v.parcels, v.released, len(v.lost), len(v.doubled), len(v.stuck), len(v.odd),
		v.mailsTwice, v.slowestMail.Seconds(), v.longestWait.Seconds(), strings.Join(v.notes, "; "))
}

const chaosCouriers = 6

// play runs a scenario, and fails the test where anything acknowledged is not so.
func play(t *testing.T, s scenario) *verdict {
	c := &checker{production: newService(t), t: t, http: http.Client{Timeout: 10 * time.Second}}
	url, broken := s.redis(t)
	c.redisURL, c.pace = url, cmp.Or(s.pace, *chaosPace)
	c.settle()
	if s.mailWay {
		c.mailWay = newProxy(t, c.sink.Addr())
		c.args = with(c.args, "--smtp-url", "smtp://"+c.mailWay.addr())
	}
	if s.doors {
		c.doorKeys = filepath.Join(t.TempDir(), "doors.json")
		if code, _, errs := once("keys", "doors", "new", c.doorKeys); code != 0 {
			t.Fatal(errs)
		}
		c.args = append(c.args, "--door-keys", c.doorKeys)
	}
	var clocks []*off
	if s.clocks != nil {
		clocks = s.clocks(c)
	}
	for n := range max(1, s.instances) {
		i := &instance{args: append(with(c.args, "--redis-url", url), append([]string{"--epoch", filepath.Join(t.TempDir(), fmt.Sprint(n))}, s.args...)...)}
		if clocks != nil {
			i.clock = clocks[n]
		}
		i.start(t)
		c.instances = append(c.instances, i)
	}
	c.warehouse = c.token(t, auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}})
	c.operator = c.token(t, auth.Principal{Subject: "ops", Carrier: "swift", Shop: "demo", Scopes: []auth.Scope{auth.Carrier, auth.Ops}})
	setUp := client{t, c.instances[0].at()}
	for n := range chaosCouriers {
		setUp.must("PUT", fmt.Sprintf("/v1/couriers/swift/cou_%d", n), c.operator, `{"name":"Courier","cleared_until":"2099-01-01"}`)
		for day := range 3 { // clocks are set
			setUp.must("PUT", fmt.Sprintf("/v1/routes/swift/R%d/%s", n, c.day(day-1)), c.operator, fmt.Sprintf(`{"courier_id":"cou_%d"}`, n))
		}
	}

	c.arrivals = c.watchMails()
	loading, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for n := range chaosCouriers {
		load.Go(func() { c.deliver(loading, n) })
	}
	c.goOn()
	if s.mayLose {
		c.losses = &notice{}
	}
	broken(c)
	c.awaitAnswers()
	c.goOn()
	c.mu.Lock()
	c.answers = append(c.answers, time.Now()) // what was not answered any more by then is a gap, too
	c.mu.Unlock()
	stop()
	load.Wait()
	if s.mayLose {
		c.listen()
	}
	for _, i := range c.instances {
		ready := client{t, i.at()}
		awaitWithin(t, time.Minute, "readiness", func() bool { status, _ := ready.do("GET", "/readyz", "", ""); return status == http.StatusOK })
	}
	v := c.compare()
	v.notes = c.notes
	lost := v.lost
	if s.mayLose {
		lost = v.unnoticed
	}
	for what, found := range map[string][]string{"lost": lost, "doubled": v.doubled, "stuck": v.stuck, "odd": v.odd} {
		if len(found) > 0 {
			t.Errorf("%d %s: %s", len(found), what, strings.Join(found[:min(len(found), 5)], "; "))
		}
	}
	if s.loses && len(v.lost) == 0 {
		t.Error("nothing is lost, of which the fault loses some")
	}
	if v.mailsTwice > 0 && !s.mailsTwice {
		t.Errorf("%d mails came twice", v.mailsTwice)
	}
	if !c.shown {
		t.Error("nothing shows that the fault happened: a scenario says what it saw of it")
	}
	if v.longestWait < s.silence {
		t.Errorf("the load was never longer than %v without an answer, and the fault takes %v", v.longestWait, s.silence)
	}
	if v.parcels < 10 || v.released < 10 {
		t.Errorf("%d parcels and %d releases: this is no load", v.parcels, v.released)
	}
	return v
}

// goOn lets the load go on for the span.
func (c *checker) goOn() { time.Sleep(*chaosSpan) }

// note adds to what the row says besides its figures.
func (c *checker) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// saw notes how the fault showed. Each scenario does so, and fails where what it broke went on as if
// nothing had happened: a fault that did not happen would be survived each time.
func (c *checker) saw(format string, args ...any) {
	c.shown = true
	c.note(format, args...)
}

// awaitAnswers waits until the load is answered again, or will not be since what may be lost is. The time after the last answer would not be
// counted otherwise.
func (c *checker) awaitAnswers() {
	c.t.Helper()
	from := time.Now()
	awaitWithin(c.t, time.Minute, "an answer after the fault", func() bool {
		return c.answeredSince(from) > 0 || c.losses != nil && c.halted() == len(c.instances)
	})
}

// answeredSince is how many answers of the load came since.
func (c *checker) answeredSince(from time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range slices.Backward(c.answers) {
		if at.Before(from) {
			break
		}
		n++
	}
	return n
}

// settle finds a place where it is far from midnight, and has tokens last for as long as clocks
// may be set.
func (c *checker) settle() {
	c.t.Helper()
	for _, zone := range []string{"Europe/Berlin", "America/Los_Angeles", "Pacific/Auckland"} { // some nine hours apart
		if hour := time.Now().In(c.place(zone)).Hour(); c.zone == "" || hour >= 6 && hour < 18 {
			c.zone = zone
		}
	}
	content, err := os.ReadFile(c.issuers)
	if err != nil {
		c.t.Fatal(err)
	}
	var trusted struct {
		Issuers []map[string]any `json:"issuers"`
	}
	if err := json.Unmarshal(content, &trusted); err != nil {
		c.t.Fatal(err)
	}
	trusted.Issuers[0]["token_life"] = "7d"
	c.trust(c.t, trusted.Issuers...)
	c.late = -2 * time.Hour
}

// token is one that holds two hours ago and in two days.
func (c *checker) token(t *testing.T, p auth.Principal) string {
	t.Helper()
	token, err := c.issuer.Sign(p, 72*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (c *checker) place(zone string) *time.Location {
	place, err := time.LoadLocation(zone)
	if err != nil {
		c.t.Fatal(err)
	}
	return place
}

// now is the first instance's time.
func (c *checker) now() time.Time {
	if len(c.instances) > 0 && c.instances[0].clock != nil {
		return c.instances[0].clock.Now()
	}
	return time.Now()
}

// day is the day at the addresses, so many days from now.
func (c *checker) day(after int) string {
	return c.now().In(c.place(c.zone)).AddDate(0, 0, after).Format(time.DateOnly)
}

func (i *instance) start(t *testing.T) {
	t.Helper()
	var run *process
	var here *program
	var url string
	if i.clock == nil {
		run = spawn(t, nil, i.args...)
		url = announced(t, run.err.String)
	} else {
		here = startBy(t, i.clock, i.args...)
		url = here.url(t)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.run, i.here, i.url = run, here, url
}

func (i *instance) at() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.url
}
