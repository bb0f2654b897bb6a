//go:build chaos

package main

import (
	"time"

	"latchkey/notify/mail/mailtest"
)

// onMail are the moods of the mail server.
var onMail = []scenario{
	{name: "the mail server refuses (451)", redis: serviceAlone(func(c *checker) {
		c.sink.Inject(20, mailtest.Refuse(mailtest.AtMail, 451))
		c.awaitFaults(20)
	})},
	{name: "the mail server breaks after the last dot", redis: serviceAlone(func(c *checker) {
		c.sink.Inject(5, mailtest.Drop(mailtest.AtDot))
		c.awaitFaults(5)
	}), mailsTwice: true},
}

// awaitFaults waits until the mail server has done what was asked of it.
func (c *checker) awaitFaults(n int) {
	c.t.Helper()
	awaitWithin(c.t, time.Minute, "the mail server's faults", func() bool { return c.sink.Faults() == n })
	c.saw("%d times", n)
}
