//go:build chaos

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
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
	"latchkey/handoff/redisstore/redistest"
	"latchkey/notify/mail/mailtest"
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
	for _, s := range scenarios {
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

// deliver is a courier's day: a parcel is dispatched, looked up, sometimes mistyped, verified, and
// verified again, each until it is answered.
func (c *checker) deliver(ctx context.Context, courier int) {
	token := c.token(c.t, auth.Principal{Subject: fmt.Sprintf("cou_%d", courier), Carrier: "swift", Scopes: []auth.Scope{auth.Courier}})
	for n := 0; ctx.Err() == nil; n++ {
		l := &life{parcel: fmt.Sprintf("C%dN%d", courier, n)}
		l.customer = "cus_" + l.parcel
		c.mu.Lock()
		c.lives = append(c.lives, l)
		c.mu.Unlock()
		c.live(ctx, l, courier, token, n%40 == 7)
	}
}

func (c *checker) live(ctx context.Context, l *life, courier int, token string, mistype bool) {
	status, answer := c.until(ctx, "POST", "/v1/dispatches", c.warehouse, fmt.Sprintf(
		`{"parcel_id":%q,"order_id":"302-1","carrier_id":"swift","route_id":"R%d","delivery_date":%q,"value":{"amount":"1299.00","currency":"EUR"},"customer":{"id":%q,"name":"Customer","email":"%s@home.example"},"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":"Europe/Berlin","location":%s}}`,
		l.parcel, courier, c.day, l.customer, l.customer, gatePlace))
	if !c.expected(ctx, l, "a dispatch", status, answer, http.StatusCreated, http.StatusOK) {
		return
	}
	l.dispatched = time.Now()
	l.grant, _ = answer["grant_id"].(string)
	own := c.token(c.t, auth.Principal{Subject: l.customer, Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
	status, answer = c.until(ctx, "GET", "/v1/handoffs/"+l.grant, own, "")
	if !c.expected(ctx, l, "a look", status, answer, http.StatusOK) {
		return
	}
	l.code, _ = answer["code"].(string)
	verify := func(attempt, code string) (int, map[string]any) {
		return c.until(ctx, "POST", "/v1/parcels/"+l.parcel+"/verify", token, fmt.Sprintf(`{"code":%q,%s,"attempt_id":%q}`, code, gateHere, attempt))
	}
	if mistype {
		status, answer = verify(l.parcel+"-wrong", wrongFor(l.code))
		if !c.expected(ctx, l, "a wrong code", status, answer, http.StatusForbidden) {
			return
		}
	}
	var first map[string]any
	for range 2 {
		status, answer = verify(l.parcel+"-right", l.code)
		if !c.expected(ctx, l, "the right code", status, answer, http.StatusOK) {
			return
		}
		l.released = true
		if first == nil {
			first = answer
		} else if a, b := fmt.Sprint(first["released_at"]), fmt.Sprint(answer["released_at"]); a != b {
			l.releases++
		}
	}
}

// wrongFor is another code.
func wrongFor(code string) string {
	last := (code[len(code)-1]-'0'+5)%10 + '0'
	return code[:len(code)-1] + string(rune(last))
}

// expected notes an answer that no fault explains. It reports whether there is an answer to go on
// with.
func (c *checker) expected(ctx context.Context, l *life, what string, status int, answer map[string]any, want ...int) bool {
	if status == 0 { // the load is over, and it was not answered
		return false
	}
	if !slices.Contains(want, status) {
		c.mu.Lock()
		l.odd = fmt.Sprintf("%s: %d %v", what, status, answer["code"])
		c.mu.Unlock()
		return false
	}
	return true
}

// until asks an instance, and then another, as a client does that wants an answer. The status is 0
// where the load was over before there was one.
func (c *checker) until(ctx context.Context, method, path, token, body string) (int, map[string]any) {
	for ctx.Err() == nil {
		i := c.instances[c.turn.Add(1)%uint64(len(c.instances))]
		status, answer := c.ask(ctx, method, i.at()+path, token, body)
		switch {
		case status == 0, status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests, status == http.StatusBadGateway:
			time.Sleep(20 * time.Millisecond)
			continue
		}
		c.mu.Lock()
		c.answers = append(c.answers, time.Now())
		c.mu.Unlock()
		return status, answer
	}
	return 0, nil
}

func (c *checker) ask(ctx context.Context, method, url, token, body string) (int, map[string]any) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	var answer map[string]any
	if err != nil || json.Unmarshal(content, &answer) != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// watchMails notes when each mail came.
func (c *checker) watchMails() func() []time.Time {
	var mu sync.Mutex
	var came []time.Time
	go func() {
		for c.t.Context().Err() == nil {
			n, now := len(c.sink.Messages()), time.Now()
			mu.Lock()
			for len(came) < n {
				came = append(came, now)
			}
			mu.Unlock()
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(came)
	}
}

// compare holds what was acknowledged against what the service says now, and against the mails.
func (c *checker) compare(arrivals func() []time.Time) *verdict {
	c.t.Helper()
	v := &verdict{}
	slices.SortFunc(c.answers, time.Time.Compare)
	for n := 1; n < len(c.answers); n++ {
		v.longestWait = max(v.longestWait, c.answers[n].Sub(c.answers[n-1]))
	}
	for _, l := range c.lives {
		if l.odd != "" {
			v.odd = append(v.odd, l.parcel+", "+l.odd)
		}
		if l.releases > 0 {
			v.doubled = append(v.doubled, l.parcel)
		}
		if l.dispatched.IsZero() {
			continue
		}
		v.parcels++
		own := c.token(c.t, auth.Principal{Subject: l.customer, Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
		status, answer := c.until(context.Background(), "GET", "/v1/handoffs/"+l.grant, own, "")
		l.status, _ = answer["status"].(string)
		switch {
		case status != http.StatusOK:
			v.lost = append(v.lost, fmt.Sprintf("the dispatch of %s (%d %v)", l.parcel, status, answer["code"]))
		case l.released && l.status != "released":
			v.lost = append(v.lost, fmt.Sprintf("the release of %s, which is %v", l.parcel, l.status))
		}
		if l.released {
			v.released++
		}
	}

	// A code that is spent when its turn comes is not mailed: it would be no longer true.
	var mails map[string][]time.Time
	unmailed := func() (parcels []string) {
		mails = c.codeMails(arrivals())
		for _, l := range c.lives {
			if l.code != "" && l.status == "active" && mails[l.parcel] == nil {
				parcels = append(parcels, "the mail of "+l.parcel)
			}
		}
		return parcels
	}
	for patience := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if v.stuck = unmailed(); len(v.stuck) == 0 || time.Now().After(patience) {
			break
		}
	}
	for _, l := range c.lives {
		came := mails[l.parcel]
		if len(came) > 1 {
			v.mailsTwice++
		}
		if len(came) > 0 {
			v.slowestMail = max(v.slowestMail, came[0].Sub(l.dispatched))
		}
	}
	return v
}

// codeMails are when the mails came that tell a parcel's code, by parcel.
func (c *checker) codeMails(came []time.Time) map[string][]time.Time {
	of := map[string]*life{}
	for _, l := range c.lives {
		of[l.customer+"@home.example"] = l
	}
	mails := map[string][]time.Time{}
	for n, m := range c.sink.Messages() {
		l := of[m.To[0]]
		if l == nil || l.code == "" || n >= len(came) {
			continue
		}
		if text, err := m.Part("text/plain"); err == nil && strings.Contains(strings.ReplaceAll(text, " ", ""), l.code) {
			mails[l.parcel] = append(mails[l.parcel], came[n])
		}
	}
	return mails
}

// single is a server by itself, with what is to happen to it.
func single(broken func(c *checker, r *redistest.Server), conf ...string) func(*testing.T) (string, func(*checker)) {
	return func(t *testing.T) (string, func(*checker)) {
		r := redistest.Single(t, conf...)
		return "redis://" + r.Addr(), func(c *checker) { broken(c, r) }
	}
}

// watched is a master and its replica under Sentinels.
func watched(broken func(c *checker, set *redistest.SentinelSet), conf ...string) func(*testing.T) (string, func(*checker)) {
	return func(t *testing.T) (string, func(*checker)) {
		set := redistest.Sentinel(t, conf...)
		addrs := set.SentinelAddrs()
		return "redis://" + addrs[0] + "?master_name=" + set.MasterName() + "&addr=" + strings.Join(addrs[1:], "&addr="), func(c *checker) { broken(c, set) }
	}
}

var (
	onDisk     = []string{"appendonly yes", "appendfsync always"}
	everySec   = []string{"appendonly yes", "appendfsync everysec"}
	replicated = []string{"--durability", "replicated:1"}
)

func killTwice(c *checker, r *redistest.Server) {
	for range 2 {
		r.Kill()
		r.Restart()
		c.goOn()
	}
}

func withMail(plan func(c *checker)) func(*checker, *redistest.Server) {
	return func(c *checker, _ *redistest.Server) { plan(c) }
}

var scenarios = []scenario{
	{name: "Redis killed twice, appendfsync always", redis: single(killTwice, onDisk...), mailsTwice: true},
	{name: "Redis killed twice, appendfsync everysec", redis: single(killTwice, everySec...), mailsTwice: true},
	{name: "Redis frozen for 3 s", instances: 2, redis: single(func(c *checker, r *redistest.Server) {
		r.Pause()
		time.Sleep(3 * time.Second)
		r.Resume()
	}), mailsTwice: true},
	{name: "an instance of two killed", instances: 2, redis: single(func(c *checker, _ *redistest.Server) {
		c.instances[0].run.kill()
		c.goOn()
		c.instances[0].start(c.t)
	}), mailsTwice: true},
	{name: "an instance of two ended", instances: 2, redis: single(func(c *checker, _ *redistest.Server) {
		c.instances[0].run.stop()
		c.goOn()
		c.instances[0].start(c.t)
	})},
	{name: "Redis out of memory", redis: single(func(c *checker, r *redistest.Server) {
		r.Set("maxmemory", "1mb")
		c.goOn()
		r.Set("maxmemory", "0")
	})},
	{name: "the mail server refuses (451)", redis: single(withMail(func(c *checker) {
		c.sink.Inject(20, mailtest.Refuse(mailtest.AtMail, 451))
	}))},
	{name: "the mail server breaks after the last dot", redis: single(withMail(func(c *checker) {
		c.sink.Inject(5, mailtest.Drop(mailtest.AtDot))
	})), mailsTwice: true},
	{name: "Sentinel: a planned failover, writes paused", instances: 2, redis: watched(func(c *checker, set *redistest.SentinelSet) {
		set.PlannedFailover()
	})},
	{name: "Sentinel: failover at once, replicated:1", instances: 2, args: replicated, redis: watched(func(c *checker, set *redistest.SentinelSet) {
		set.Failover()
	}), mailsTwice: true},
	{name: "Sentinel: the master killed, replicated:1", instances: 2, args: replicated, redis: watched(func(c *checker, set *redistest.SentinelSet) {
		old := set.KillMaster()
		set.AwaitFailover(old)
		old.Restart()
	}), mailsTwice: true},
	{name: "Cluster: a master dies and stays dead", instances: 2, redis: func(t *testing.T) (string, func(*checker)) {
		set := redistest.ReplicatedCluster(t, "cluster-require-full-coverage no")
		addrs := set.Addrs()
		return "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr="), func(c *checker) {
			set.Nodes()[1].Kill()
			set.AwaitTakeover(set.Nodes()[1])
		}
	}, mailsTwice: true},
}
