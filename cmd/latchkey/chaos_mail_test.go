//go:build chaos

package main

import (
	"latchkey/notify/mail/mailtest"
)

// onMail are the moods of the mail server.
var onMail = []scenario{
	{name: "the mail server refuses (451)", redis: serviceAlone(func(c *checker) {
		c.sink.Inject(20, mailtest.Refuse(mailtest.AtMail, 451))
	})},
	{name: "the mail server breaks after the last dot", redis: serviceAlone(func(c *checker) {
		c.sink.Inject(5, mailtest.Drop(mailtest.AtDot))
	}), mailsTwice: true},
}
