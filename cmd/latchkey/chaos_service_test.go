//go:build chaos

package main

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"latchkey/handoff/redisstore/redistest"
)

// serviceAlone is a scenario on a Redis that is well.
func serviceAlone(broken func(c *checker)) func(*testing.T) (string, func(*checker)) {
	return single(func(c *checker, _ *redistest.Server) { broken(c) })
}

// onService are the faults of the instances, of the mail server, of clocks, clients and doors.
var onService = slices.Concat(onInstances, onMail, onClocks, onClients, onDoors)

// onInstances are the deaths of instances.
var onInstances = []scenario{
	{name: "the instances killed in turn, three times each", instances: 2, redis: serviceAlone(func(c *checker) {
		c.sink.Slow(10 * time.Millisecond) // so that each has mails in hand
		c.inTurn(3, (*instance).killed)
		c.sink.Slow(0)
	}), mailsTwice: true},
	{name: "the instances ended in turn, three times each", instances: 2, redis: serviceAlone(func(c *checker) {
		c.inTurn(3, (*instance).ended)
	})},
	{name: "both instances killed at once, twice", instances: 2, redis: serviceAlone(func(c *checker) {
		for range 2 {
			for _, i := range c.instances {
				i.killed(c.t)
			}
			if status, _ := c.ask(c.t.Context(), http.MethodGet, c.instances[0].at()+"/readyz", "", ""); status != 0 {
				c.t.Errorf("an instance that was killed answers %d", status)
			}
			for _, i := range c.instances {
				i.start(c.t)
			}
			c.goOn()
		}
		c.saw("both gone, twice")
	}), mailsTwice: true},
}

// inTurn ends each instance so many times while the others serve, and starts it again.
func (c *checker) inTurn(times int, end func(*instance, *testing.T)) {
	for n := range times {
		for m, i := range c.instances {
			c.leave(fmt.Sprintf("L%d-%d-", n, m), 10)
			end(i, c.t)
			time.Sleep(*chaosSpan / 4)
			i.start(c.t)
		}
	}
	c.saw("%d ended", times*len(c.instances))
}

// killed ends an instance as a power cut does.
func (i *instance) killed(t *testing.T) {
	t.Helper()
	i.run.kill()
	var exit *exec.ExitError
	if err := i.run.waited(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it was not killed, but ended with %v", err)
	}
}

// ended ends an instance as an init system does, which must end well.
func (i *instance) ended(t *testing.T) {
	t.Helper()
	began := time.Now()
	i.run.stop()
	if took := time.Since(began); took > 15*time.Second || !strings.Contains(i.run.err.String(), `"msg":"stopped"`) {
		t.Errorf("it took %v to end, and said\n%s", took, withoutRequests(i.run.err.String()))
	}
}
