//go:build chaos

package main

import (


	"latchkey/handoff/redisstore/redistest"
	"latchkey/notify/mail/mailtest"
)

func withMail(plan func(c *checker)) func(*checker, *redistest.Server) {
	return func(c *checker, _ *redistest.Server) { plan(c) }
}

// onService are the faults of the instances, of the mail server, of clocks, clients and doors.
var onService = []scenario{
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
	{name: "the mail server refuses (451)", redis: single(withMail(func(c *checker) {
		c.sink.Inject(20, mailtest.Refuse(mailtest.AtMail, 451))
	}))},
	{name: "the mail server breaks after the last dot", redis: single(withMail(func(c *checker) {
		c.sink.Inject(5, mailtest.Drop(mailtest.AtDot))
	})), mailsTwice: true},
}
