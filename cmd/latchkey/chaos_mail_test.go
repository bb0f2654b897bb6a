//go:build chaos

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"latchkey/notify/mail/mailtest"
)

// onMail are the moods of the mail server.
var onMail = []scenario{
	{name: "the mail server is down", redis: serviceAlone(func(c *checker) {
		c.sink.Close()
		c.leave("D", 30)
		c.goOn()
		if n := c.measured("latchkey_outbox_events_total", `group="mail"`, `result="retry"`, `reason="connect"`); n == 0 {
			c.t.Error("no mail failed to connect")
		} else {
			c.saw("%.0f failed to connect", n)
		}
		c.sink.Start()
	})},
	{name: "the mail server refuses (451)", redis: serviceAlone(func(c *checker) {
		c.sink.Inject(20, mailtest.Refuse(mailtest.AtMail, 451))
		c.leave("R", 20)
		c.awaitFaults(20)
	})},
	{name: "the mail server condemns (550, 554), then a replay", redis: serviceAlone(condemned)},
	{name: "the mail server breaks after the last dot", redis: serviceAlone(func(c *checker) {
		c.sink.Inject(5, mailtest.Drop(mailtest.AtDot))
		c.awaitFaults(5)
	}), mailsTwice: true},
	{name: "the mail server is slow at each command", pace: 50 * time.Millisecond, redis: serviceAlone(func(c *checker) {
		const lag = 30 * time.Millisecond
		c.sink.Lag(lag)
		left := c.leave("S", 20)
		c.goOn()
		mails := c.codeMails()
		await(c.t, "a mail", func() bool { return len(mails()) > 0 })
		c.saw("%v a command", lag)
		for _, l := range left {
			if came := mails()[l.parcel]; len(came) > 0 && came[0].Sub(l.dispatched) < 2*lag { // MAIL at once; RCPT and dot
				c.t.Errorf("the mail of %s took %v: the server was not slow", l.parcel, came[0].Sub(l.dispatched))
			}
		}
		c.sink.Lag(0)
	})},
	{name: "a slow mail server and a backlog", instances: 2, pace: 100 * time.Millisecond, redis: serviceAlone(behindABacklog)},
}

// condemned has the mail server refuse letters for good, the recipient of some and the content of
// others. They are dead letters, which are counted and listed; replayed, they are mailed once.
func condemned(c *checker) {
	c.sink.Inject(10, mailtest.Refuse(mailtest.AtRcpt, 550))
	c.sink.Inject(5, mailtest.Refuse(mailtest.AtDot, 554))
	c.leave("X", 30)
	c.awaitFaults(15)
	await(c.t, "the count of dead letters", func() bool { return c.measured("latchkey_outbox_dead_letters", `group="mail"`) == 15 })
	outbox := func(args ...string) string {
		code, out, errs := once(append([]string{"outbox", "--redis-url", c.redisURL, "--group", "mail"}, args...)...)
		if code != 0 {
			c.t.Errorf("outbox %v: %d %s", args, code, errs)
		}
		return out
	}
	if list := outbox("list"); strings.Count(list, "\n") != 16 { // with its head
		c.t.Errorf("the list of 15 dead letters:\n%s", list)
	}
	if out := outbox("replay", "--all"); out != "15 letters will be tried again\n" {
		c.t.Errorf("the replay said %q", out)
	}
	if list := outbox("list"); !strings.HasPrefix(list, "no dead letters") {
		c.t.Errorf("after the replay:\n%s", list)
	}
}

// behindABacklog measures how long codes wait that are dispatched behind many others, of which the
// mail server takes one at a time.
func behindABacklog(c *checker) {
	lag := 3 * time.Millisecond
	if *chaosLong {
		lag = 30 * time.Millisecond
	}
	c.sink.Lag(250 * time.Millisecond) // a file gives way to requests: the mails must not go as they come
	before := c.bulk("B", many(2000, 20000), "R0")
	began := time.Now()
	c.sink.Lag(lag)
	waiting := func() (n int) {
		mailed := c.mailed()
		for _, l := range before {
			if mailed[l.customer+"@home.example"] == 0 {
				n++
			}
		}
		return n
	}
	ahead := waiting()
	if ahead < len(before)/2 {
		c.t.Errorf("of %d mails %d wait: this is no backlog", len(before), ahead)
	}
	behind := c.leave("A", 10)
	mails := c.codeMails()
	waited := func() (slowest time.Duration, all bool) {
		for _, l := range behind {
			came := mails()[l.parcel]
			if came == nil {
				return 0, false
			}
			slowest = max(slowest, came[0].Sub(l.dispatched))
		}
		return slowest, true
	}
	patience := time.Duration(len(before)) * 10 * lag // if they went one by one, and no faster
	awaitWithin(c.t, patience, "the mails behind the backlog", func() bool { _, all := waited(); return all })
	slowest, _ := waited()
	left := waiting()
	awaitWithin(c.t, patience, "the backlog's end", func() bool { return waiting() == 0 })
	c.saw("%d mails at %v a command: all sent %.1f s after; a code behind %d of them came after %.1f s at most, when %d still waited",
		len(before), lag, time.Since(began).Seconds(), ahead, slowest.Seconds(), left)
	c.sink.Lag(0)
}

// bulk dispatches n parcels in one request, that are not delivered.
func (c *checker) bulk(kind string, n int, route string) []*life {
	c.t.Helper()
	lives := make([]*life, n)
	var body strings.Builder
	for k := range lives {
		parcel := fmt.Sprintf("%s%d", kind, k)
		lives[k] = &life{parcel: parcel, customer: "cus_" + parcel, day: c.day(0)}
		fmt.Fprintln(&body, c.dispatchOf(lives[k], route))
	}
	c.bulkOf(body.String(), func(line int, grant string) {
		lives[line-1].grant, lives[line-1].dispatched = grant, time.Now()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives = append(c.lives, lives...)
	return lives
}

// bulkOf dispatches lines, each of which must be acknowledged with a grant.
func (c *checker) bulkOf(lines string, acknowledged func(line int, grant string)) {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.instances[0].at()+"/v1/dispatches/bulk", strings.NewReader(lines))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+c.warehouse)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	results := json.NewDecoder(resp.Body)
	for n := range strings.Count(lines, "\n") {
		var result struct {
			Line    int
			GrantID string `json:"grant_id"`
			Code    string
		}
		if err := results.Decode(&result); err != nil || result.GrantID == "" {
			c.t.Fatalf("result %d of the file: %v %v", n+1, result, err)
		}
		acknowledged(result.Line, result.GrantID)
	}
}

// awaitFaults waits until the mail server has done what was asked of it.
func (c *checker) awaitFaults(n int) {
	c.t.Helper()
	awaitWithin(c.t, time.Minute, "the mail server's faults", func() bool { return c.sink.Faults() == n })
	c.saw("%d times", n)
}
