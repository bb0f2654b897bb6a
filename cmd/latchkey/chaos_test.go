//go:build chaos

package main

import (
	"bytes"
	"context"
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
	chaosSpan  = flag.Duration("chaos.span", 2*time.Second, "how long the load goes on before, between and after the faults")
	chaosTable = flag.String("chaos.table", "", "a file for the table of results; empty: the log alone")
)

// TestChaos is the checker. It loads running instances, breaks what they stand on, keeps every
// answer that was acknowledged and every mail, and compares them with what the service says when
// all is well again:
//
//	go test -tags chaos ./cmd/latchkey -run TestChaos -v
//	go test -tags chaos ./cmd/latchkey -run TestChaos -v -timeout 2h -chaos.span 30s -chaos.table FILE
//
// docs/reliability.md has the table of the long form.
func TestChaos(t *testing.T) {
	var rows []string
	for _, s := range slices.Concat(onRedis, onService) {
		t.Run(s.name, func(t *testing.T) { rows = append(rows, play(t, s).row(s)) })
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| scenario\t| parcels\t| released\t| lost\t| doubled\t| stuck\t| odd answers\t| mails twice\t| slowest mail\t| longest without an answer\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, row := range rows {
		fmt.Fprintln(w, row)
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

	// mailsTwice says that a mail may come twice: the link to the mail server, or what finished it
	// on the log, is broken between the last dot and its answer.
	mailsTwice bool
}

// checker is one scenario as it is played.
type checker struct {
	*production
	t         *testing.T
	day       string
	warehouse string
	instances []*instance
	http      http.Client

	turn    atomic.Uint64
	mu      sync.Mutex
	lives   []*life
	answers []time.Time // of requests that were acknowledged
}

// instance is one serve, as a process of its own.
type instance struct {
	args []string
	mu   sync.Mutex
	url  string
	run  *process
}

// life is what was acknowledged of one parcel.
type life struct {
	parcel, customer, grant, code string
	dispatched                    time.Time // zero: not acknowledged
	released                      bool      // a 200 was answered
	odd                           string    // an answer that no fault explains
	releases                      int       // receipts that differ
	status                        string    // in the end
}

// verdict is what the comparison found.
type verdict struct {
	parcels, released        int
	lost, doubled, stuck     []string
	odd                      []string
	mailsTwice               int
	slowestMail, longestWait time.Duration
}

func (v *verdict) row(s scenario) string {
	return fmt.Sprintf("| %s\t| %d\t| %d\t| %d\t| %d\t| %d\t| %d\t| %d\t| %.1f s\t| %.1f s\t|", s.name, v.parcels, v.released, len(v.lost), len(v.doubled), len(v.stuck), len(v.odd),
		v.mailsTwice, v.slowestMail.Seconds(), v.longestWait.Seconds())
}

const chaosCouriers = 6

// play runs a scenario, and fails the test where anything acknowledged is not so.
func play(t *testing.T, s scenario) *verdict {
	c := &checker{production: newService(t), t: t, http: http.Client{Timeout: 10 * time.Second}}
	url, broken := s.redis(t)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c.day = time.Now().In(berlin).Format(time.DateOnly)
	c.warehouse = c.token(t, auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}})
	for n := range max(1, s.instances) {
		i := &instance{args: append(with(c.args, "--redis-url", url), append([]string{"--epoch", filepath.Join(t.TempDir(), fmt.Sprint(n))}, s.args...)...)}
		i.start(t)
		c.instances = append(c.instances, i)
	}
	operator := c.token(t, auth.Principal{Subject: "ops", Carrier: "swift", Shop: "demo", Scopes: []auth.Scope{auth.Carrier, auth.Ops}})
	setUp := client{t, c.instances[0].at()}
	for n := range chaosCouriers {
		setUp.must("PUT", fmt.Sprintf("/v1/couriers/swift/cou_%d", n), operator, `{"name":"Courier","cleared_until":"2099-01-01"}`)
		setUp.must("PUT", fmt.Sprintf("/v1/routes/swift/R%d/%s", n, c.day), operator, fmt.Sprintf(`{"courier_id":"cou_%d"}`, n))
	}

	arrivals := c.watchMails()
	loading, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for n := range chaosCouriers {
		load.Go(func() { c.deliver(loading, n) })
	}
	c.goOn()
	broken(c)
	c.goOn()
	stop()
	load.Wait()
	for _, i := range c.instances {
		ready := client{t, i.at()}
		awaitWithin(t, time.Minute, "readiness", func() bool { status, _ := ready.do("GET", "/readyz", "", ""); return status == http.StatusOK })
	}
	v := c.compare(arrivals)
	for what, found := range map[string][]string{"lost": v.lost, "doubled": v.doubled, "stuck": v.stuck, "odd": v.odd} {
		if len(found) > 0 {
			t.Errorf("%d %s: %s", len(found), what, strings.Join(found[:min(len(found), 5)], "; "))
		}
	}
	if v.mailsTwice > 0 && !s.mailsTwice {
		t.Errorf("%d mails came twice", v.mailsTwice)
	}
	if v.parcels < 10 || v.released < 10 {
		t.Errorf("%d parcels and %d releases: this is no load", v.parcels, v.released)
	}
	return v
}

// goOn lets the load go on for the span.
func (c *checker) goOn() { time.Sleep(*chaosSpan) }

func (i *instance) start(t *testing.T) {
	t.Helper()
	run := spawn(t, nil, i.args...)
	url := announced(t, func() string { return run.err.String() })
	i.mu.Lock()
	defer i.mu.Unlock()
	i.run, i.url = run, url
}

func (i *instance) at() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.url
}
