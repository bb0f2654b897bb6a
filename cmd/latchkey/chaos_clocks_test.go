//go:build chaos

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// clocksApart allows what scenarios need whose clocks are not Redis's.
var clocksApart = []string{"--insecure", "clock-apart"}

// clocksOf are clocks that are ahead by so much.
func clocksOf(by ...time.Duration) func(*checker) []*off {
	return func(*checker) (clocks []*off) {
		for _, d := range by {
			clocks = append(clocks, ahead(d))
		}
		return clocks
	}
}

// onClocks are what happens by time alone, and what clocks do that are wrong.
var onClocks = []scenario{
	midnight(),
	{name: "clocks of two instances 2 min apart", instances: 2, args: clocksApart, clocks: clocksOf(0, 2*time.Minute), redis: serviceAlone(apart)},
	{name: "the clock steps back an hour", args: clocksApart, clocks: clocksOf(0), redis: serviceAlone(stepsBack)},
	{name: "the clock steps forward a day", args: clocksApart, clocks: clocksOf(0), redis: serviceAlone(stepsForward)},
	{name: "the clock of one of two drifts by 3 s and back", instances: 2, args: clocksApart, clocks: clocksOf(0, 0), redis: serviceAlone(drifts)},
}

// midnight has many windows end at one instant beside verifies. Each closes, and once; the note
// says how long verifies took meanwhile.
func midnight() scenario {
	const zone = "Europe/Berlin"
	var end time.Time
	set := func(o *off, before time.Duration) { o.by.Store(int64(time.Until(end) - before)) }
	return scenario{
		name: "midnight", args: clocksApart, pace: 30 * time.Millisecond,
		clocks: func(c *checker) []*off {
			now := time.Now().In(c.place(zone))
			end = time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, now.Location())
			c.zone = "America/Los_Angeles" // where it is the afternoon then
			o := ahead(0)
			set(o, 30*time.Minute) // for dispatching what is to end
			return []*off{o}
		},
		redis: serviceAlone(func(c *checker) {
			quiet := time.Now()
			n := many(5_000, 200_000)
			expired := c.endingAt(n, zone, end)
			expired() // reads all that is on the log yet
			set(c.instances[0].clock, 500*time.Millisecond)
			time.Sleep(time.Second)
			loud := time.Now().Add(-500 * time.Millisecond)
			awaitWithin(c.t, time.Minute+time.Duration(n)*10*time.Millisecond, "all windows to close", func() bool {
				time.Sleep(200 * time.Millisecond) // reading the log is work for Redis too
				return expired() == n
			})
			closed := time.Now()
			half, most, _ := c.verifies(time.Time{}, quiet)
			halfThen, mostThen, of := c.verifies(loud, closed)
			c.saw("%d windows closed within %.1f s; a verify took %v then (p99 %v of 250ms allowed, %d of them), and %v (p99 %v) before", n, closed.Sub(loud).Seconds(), halfThen, mostThen, of, half, most)
		}),
	}
}

// endingAt dispatches n ordinary parcels for the day before an instant, and returns how many of them
// are expired by now. One that expires before the instant, or twice, fails the test.
func (c *checker) endingAt(n int, zone string, end time.Time) (expired func() int) {
	const atOnce = 5_000
	day := end.AddDate(0, 0, -1)
	times := map[string]int{}
	for from := 0; from < n; from += atOnce {
		var lines strings.Builder
		for k := range atOnce {
			fmt.Fprintf(&lines, `{"parcel_id":"M%[1]d","carrier_id":"swift","route_id":"M","delivery_date":%[2]q,"value":{"amount":"1.00","currency":"EUR"},"customer":{"id":"cus_M%[1]d","email":"m%[1]d@home.example"},"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":%[3]q,"location":%[4]s}}`+"\n",
				from+k, day.Format(time.DateOnly), zone, gatePlace)
		}
		c.bulkOf(lines.String(), func(_ int, grant string) { times[grant] = 0 })
	}
	log := c.log()
	done := 0
	return func() int {
		log(func(e handoff.Event) {
			grant := e.Grant.String()
			if _, ours := times[grant]; !ours || e.Type != handoff.EventExpired {
				return
			}
			done++
			if at := e.At.Time(); at.Before(end) {
				c.t.Errorf("%s expired %v before its end", grant, end.Sub(at))
			}
			if times[grant]++; times[grant] > 1 {
				c.t.Errorf("%s expired %d times", grant, times[grant])
			}
		})
		return done
	}
}

// log reads the event log: with each call, what came since the one before.
func (c *checker) log() func(f func(handoff.Event)) {
	store, done, err := (&outboxCmd{redisAt: redisAt{RedisURL: c.redisURL}}).open()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(done)
	after := make([]string, handoff.Partitions)
	return func(f func(handoff.Event)) {
		c.t.Helper()
		for partition := range after {
			for {
				events, err := store.Read(c.t.Context(), partition, after[partition], 1000)
				if err != nil {
					c.t.Fatal(err)
				}
				for _, l := range events {
					after[partition] = l.ID.ID
					f(l.Event)
				}
				if len(events) < 1000 {
					break
				}
			}
		}
	}
}

// verifies are how long the load's verifies took that began between the two: half of them at most
// half, 99 of 100 at most most, and how many they were.
func (c *checker) verifies(from, until time.Time) (half, most time.Duration, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var took []time.Duration
	for _, v := range c.verified {
		if !v.at.Before(from) && v.at.Before(until) {
			took = append(took, v.took)
		}
	}
	if len(took) == 0 {
		c.t.Error("there were no verifies beside it")
		return 0, 0, 0
	}
	slices.Sort(took)
	at := func(part float64) time.Duration {
		return took[int(part*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	return at(0.5), at(0.99), len(took)
}

// verify presents a code at a parcel's door, as the courier of R0.
func (c *checker) verify(l *life, attempt, code string) (int, map[string]any) {
	courier := c.token(c.t, auth.Principal{Subject: "cou_0", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}})
	return c.until(c.t.Context(), "POST", "/v1/parcels/"+l.parcel+"/verify", courier,
		fmt.Sprintf(`{"code":%q,%s,"attempt_id":%q}`, code, gateHere, l.parcel+"-"+attempt))
}

// guess enters a wrong code, which must be counted: so many are left.
func (c *checker) guess(l *life, attempt string, left int) {
	c.t.Helper()
	status, answer := c.verify(l, attempt, wrongFor(l.code))
	if status != http.StatusForbidden || answer["code"] != "code-mismatch" || fmt.Sprint(answer["attempts_left"]) != fmt.Sprint(left) {
		c.t.Errorf("a wrong code at %s: %d %v with %v left, want %d left", l.parcel, status, answer["code"], answer["attempts_left"], left)
	}
}

// release enters the right code, which must be right.
func (c *checker) release(l *life, attempt string) {
	c.t.Helper()
	status, answer := c.verify(l, attempt, l.code)
	if status != http.StatusOK {
		c.t.Errorf("the right code at %s: %d %v", l.parcel, status, answer["code"])
		return
	}
	l.released = true
}

// refusedToStart starts an instance whose clock is ahead by so much, without allowing it. It must
// end and say why.
func (c *checker) refusedToStart(by time.Duration) {
	c.t.Helper()
	args := slices.DeleteFunc(slices.Clone(c.instances[0].args), func(arg string) bool { return slices.Contains(clocksApart, arg) })
	var p program
	done := make(chan int, 1)
	go func() { done <- run(c.t.Context(), args, streams{out: &p.out, err: &p.err, clock: ahead(by)}) }()
	select {
	case code := <-done:
		if code != 1 || !strings.Contains(p.err.String(), "--insecure=clock-apart") {
			c.t.Errorf("%v ahead: %d %s", by, code, p.err.String())
		}
	case <-time.After(15 * time.Second):
		c.t.Fatalf("%v ahead, it starts", by)
	}
}

// apart has two instances share grants and mails by clocks that differ.
func apart(c *checker) {
	c.refusedToStart(2100 * time.Millisecond)
	c.refusedToStart(-2100 * time.Millisecond)
	if by := c.measured("latchkey_clock_ahead_seconds"); by < 118 || by > 121 {
		c.t.Errorf("together the clocks are %v s ahead", by)
	} else {
		c.saw("%.0f s apart, by the metric", by)
	}
	c.sink.Slow(10 * time.Millisecond)
	left := c.leave("P", 40)
	for n := range 5 { // by either instance
		c.guess(left[0], fmt.Sprint(n), 4-n)
	}
	if status, answer := c.verify(left[0], "right", left[0].code); status != http.StatusLocked {
		c.t.Errorf("the right code after five wrong ones: %d %v", status, answer["code"])
	}
	c.goOn()
	c.sink.Slow(0)
}

// stepsBack sets the clock back by an hour between guesses. Each counts, before and after; codes
// are right and wrong as they were.
func stepsBack(c *checker) {
	left := c.leave("H", 20)
	locked, released := left[0], left[1]
	for n := range 3 {
		c.guess(locked, fmt.Sprint(n), 4-n)
	}
	c.guess(released, "0", 4)
	c.instances[0].clock.by.Store(int64(-time.Hour))
	c.awaitClockAlarm()
	for n := 3; n < 5; n++ {
		c.guess(locked, fmt.Sprint(n), 4-n)
	}
	if status, answer := c.verify(locked, "right", locked.code); status != http.StatusLocked {
		c.t.Errorf("the right code after five wrong ones: %d %v", status, answer["code"])
	}
	c.guess(released, "1", 3)
	c.release(released, "right")
	later := c.leave("I", 20) // which begin an hour before the others
	c.guess(later[0], "0", 4)
	c.release(later[0], "right")
}

// stepsForward sets the clock to the same hour of the next day. What was not delivered expires;
// what was stays delivered, and the next day's parcels are.
func stepsForward(c *checker) {
	left := c.leave("F", 20)
	delivered := c.leave("G", 1)[0]
	c.release(delivered, "right")
	c.instances[0].clock.by.Store(int64(24 * time.Hour))
	for _, l := range left {
		if status, answer := c.verify(l, "late", l.code); status != http.StatusGone || answer["code"] != "window-over" {
			c.t.Errorf("the right code a day late: %d %v", status, answer["code"])
		}
		l.over = true
		own := c.token(c.t, auth.Principal{Subject: l.customer, Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
		await(c.t, "the end of "+l.parcel, func() bool {
			_, answer := c.until(c.t.Context(), "GET", "/v1/handoffs/"+l.grant, own, "")
			return answer["status"] == "expired"
		})
	}
	c.saw("%d expired", len(left))
	c.release(delivered, "right") // the same attempt has the same answer
	c.release(c.leave("T", 1)[0], "right")
}

// drifts has one clock gain and lose a little again and again, until it is too far off and until
// it is right. While it is too far off there is an alarm.
func drifts(c *checker) {
	o := c.instances[1].clock
	drift := func(by time.Duration) {
		for range 60 {
			o.by.Add(int64(by))
			time.Sleep(50 * time.Millisecond)
		}
	}
	drift(50 * time.Millisecond)
	c.awaitClockAlarm()
	for n, l := range c.leave("V", 4) {
		c.guess(l, "0", 4)
		if n%2 == 0 {
			c.release(l, "right")
		}
	}
	drift(-50 * time.Millisecond)
}

// awaitClockAlarm waits until one instance finds its clock too far from Redis's.
func (c *checker) awaitClockAlarm() {
	c.t.Helper()
	await(c.t, "the alarm", func() bool { return c.measured("latchkey_redis_fault", `fault="clock"`) == 1 })
	c.saw("the alarm went")
}
