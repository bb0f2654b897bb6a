//go:build chaos

package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"latchkey/api/auth"
)

// compare holds what was acknowledged against what the service says now, and against the mails.
func (c *checker) compare() *verdict {
	c.t.Helper()
	v := &verdict{}
	slices.SortFunc(c.answers, time.Time.Compare)
	for n := 1; n < len(c.answers); n++ {
		v.longestWait = max(v.longestWait, c.answers[n].Sub(c.answers[n-1]))
	}
	missing := map[*life]bool{}
	lose := func(l *life, what string) {
		missing[l] = true
		v.lost = append(v.lost, what)
		if c.losses != nil && !c.noticed(l) {
			v.unnoticed = append(v.unnoticed, what+", and nothing is said of it")
		}
	}
	for _, l := range c.lives {
		if l.releases > 0 {
			v.doubled = append(v.doubled, l.parcel)
		}
		if l.dispatched.IsZero() {
			continue
		}
		v.parcels++
		// One who asks for many grants that are not there is held up, so each customer asks.
		own := c.token(c.t, auth.Principal{Subject: l.customer, Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
		status, answer := c.until(context.Background(), "GET", "/v1/handoffs/"+l.grant, own, "")
		l.status, _ = answer["status"].(string)
		if l.code == "" { // nobody came to look it up
			l.code, _ = answer["code"].(string)
		}
		switch {
		case status != http.StatusOK:
			lose(l, fmt.Sprintf("the dispatch of %s (%d %v)", l.parcel, status, answer["code"]))
		case l.released && c.was(l) != "released":
			lose(l, fmt.Sprintf("the release of %s, which is %v", l.parcel, l.status))
		case l.over && l.status != "expired":
			v.odd = append(v.odd, fmt.Sprintf("%s, whose window is over, and which is %v", l.parcel, l.status))
		case l.status == "expired" && l.day == c.day(0):
			v.odd = append(v.odd, l.parcel+", which expired in the middle of its day")
		}
		if l.released {
			v.released++
		}
	}

	for _, l := range c.lives {
		if l.odd != "" && !c.explains(l, missing[l]) {
			v.odd = append(v.odd, l.parcel+", "+l.odd)
		}
	}

	// A code that is spent when its turn comes is not mailed: it would be no longer true.
	mails := c.codeMails()
	unmailed := func() (parcels []string) {
		came := mails()
		for _, l := range c.lives {
			if l.code != "" && l.status == "active" && came[l.parcel] == nil {
				parcels = append(parcels, "the mail of "+l.parcel)
			}
		}
		return parcels
	}
	for last, patience := 0, time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if n := c.sink.Taken(); n != last { // they come
			last, patience = n, time.Now().Add(time.Minute)
		}
		if v.stuck = unmailed(); len(v.stuck) == 0 || time.Now().After(patience) {
			break
		}
	}
	for _, l := range c.lives {
		came := mails()[l.parcel]
		if len(came) > 1 {
			v.mailsTwice++
		}
		if len(came) > 0 {
			v.slowestMail = max(v.slowestMail, came[0].Sub(l.dispatched))
		}
	}
	return v
}

// codeMails are when the mails came that tell a parcel's code, by parcel; with those that came
// since, whenever it is asked.
func (c *checker) codeMails() func() map[string][]time.Time {
	of := map[string]*life{}
	for _, l := range c.lives {
		of[l.customer+"@home.example"] = l
	}
	read := 0
	mails := map[string][]time.Time{}
	return func() map[string][]time.Time {
		came := c.arrivals()
		if read == len(came) {
			return mails
		}
		for n, m := range c.sink.Messages()[read:len(came)] {
			l := of[m.To[0]]
			if l == nil || l.code == "" {
				continue
			}
			if text, err := m.Part("text/plain"); err == nil && strings.Contains(strings.ReplaceAll(text, " ", ""), l.code) {
				mails[l.parcel] = append(mails[l.parcel], came[read+n])
			}
		}
		read = len(came)
		return mails
	}
}
