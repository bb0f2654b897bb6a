//go:build chaos

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"latchkey/api/auth"
)

// notice is what the service says by itself of what Redis lost, before an operator did anything.
// Redis may lose what was acknowledged where no replica had to have it; that nothing is said of it
// must not be.
type notice struct {
	halted  bool              // an instance serves nothing any more
	refused map[*life]string  // parcels of which it answers nothing, and with what
	before  map[string]string // by grant: what it was before it was held for a doubt
}

// noticed reports whether something is said of the loss of a parcel's dispatch or release: all
// stands still, it is refused or held, or the events name it.
func (c *checker) noticed(l *life) bool {
	if c.losses.halted || c.losses.refused[l] != "" || l.status == "held" {
		return true
	}
	status, answer := c.ask(c.t.Context(), http.MethodGet, c.instances[0].at()+"/v1/events?type=dispatch_lost&limit=500", c.ops(), "")
	return status == http.StatusOK && strings.Contains(fmt.Sprint(answer), l.grant)
}

// explains reports whether an answer is odd for the only reason that its parcel is lost, or held for
// that: the service says so, and does not hand it over.
func (c *checker) explains(l *life, missing bool) bool {
	if c.losses == nil || !missing && l.status != "held" {
		return false
	}
	return slices.ContainsFunc([]string{"grant-unknown", "parcel-unknown", "on-hold"}, func(code string) bool { return strings.HasSuffix(l.odd, " "+code) })
}

// halted is how many instances say that they serve nothing.
func (c *checker) halted() (n int) {
	for _, i := range c.instances {
		if _, answer := c.ask(c.t.Context(), http.MethodGet, i.at()+"/readyz", "", ""); answer["code"] == "service-halted" {
			n++
		}
	}
	return n
}

// listen finds what the service says of losses, and restores as docs/restore.md has it where it
// refuses anything, so that it can be asked what it has.
func (c *checker) listen() {
	c.t.Helper()
	c.losses.refused = map[*life]string{}
	awaitWithin(c.t, time.Minute, "instances that are ready or have halted", func() bool {
		ready := 0
		for _, i := range c.instances {
			if status, _ := c.ask(c.t.Context(), http.MethodGet, i.at()+"/readyz", "", ""); status == http.StatusOK {
				ready++
			}
		}
		return ready+c.halted() == len(c.instances)
	})
	by := c.instances[0]
	for _, i := range c.instances {
		if _, answer := c.ask(c.t.Context(), http.MethodGet, i.at()+"/readyz", "", ""); answer["code"] == "service-halted" {
			by, c.losses.halted = i, true
		}
	}
	patience := time.Now().Add(5 * time.Second) // what is away for a moment is not refused
	for _, l := range c.lives {
		if l.grant == "" || c.losses.halted {
			continue
		}
		own := c.token(c.t, auth.Principal{Subject: l.customer, Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
		for {
			status, answer := c.ask(c.t.Context(), http.MethodGet, by.at()+"/v1/handoffs/"+l.grant, own, "")
			if status != 0 && status != http.StatusServiceUnavailable {
				break
			}
			if time.Now().After(patience) {
				c.losses.refused[l] = fmt.Sprint(status, answer["code"])
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if !c.losses.halted && len(c.losses.refused) == 0 {
		return
	}
	c.restore(by, "begin", "--quiet", "0s")
	c.note("refused, and restored by the operator")
}

// restore is a command of an operator beside an instance. It returns what it wrote.
func (c *checker) restore(by *instance, command string, args ...string) string {
	c.t.Helper()
	args = append([]string{"restore", command}, args...)
	for _, name := range []string{"--redis-url", "--keyset", "--policy", "--epoch"} {
		args = append(args, name, by.args[index(by.args, name)+1])
	}
	code, out, errs := once(args...)
	if code != 0 {
		c.t.Fatalf("latchkey restore %s: %d\n%s%s", command, code, out, errs)
	}
	return out
}

// was is a parcel's status but for a hold by which its grant waits for its shop.
func (c *checker) was(l *life) string {
	if l.status != "held" || c.losses == nil {
		return l.status
	}
	if c.losses.before == nil {
		c.losses.before = map[string]string{}
		for line := range strings.Lines(c.restore(c.instances[0], "list")) {
			fields := strings.Fields(line) // grant, ..., status
			c.losses.before[fields[0]] = fields[len(fields)-1]
		}
	}
	return c.losses.before[l.grant]
}

func (c *checker) ops() string {
	return c.token(c.t, auth.Principal{Subject: "ops", Carrier: "swift", Shop: "demo", Scopes: []auth.Scope{auth.Ops}})
}
