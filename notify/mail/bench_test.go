package mail

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	gomail "github.com/wneessen/go-mail"

	"latchkey/handoff/handofftest"
	"latchkey/notify"
	"latchkey/notify/mail/mailtest"
	"latchkey/notify/mail/message"
)

// BenchmarkMail is our whole way of a mail (lease, load, choose, render, send,
// acknowledge, over a store in memory) beside a bare go-mail loop that sends the same
// mail, rendered once, over one kept connection to the same kind of server.
//
//	go test -run '^$' -bench Mail -benchtime 3000x ./notify/mail
func BenchmarkMail(b *testing.B) {
	b.Run("bare", func(b *testing.B) { benchmarkBare(b) })
	b.Run("bare without NOOP and RSET", func(b *testing.B) { benchmarkBare(b, gomail.WithoutNoop(), gomail.WithoutRset()) })
	b.Run("ours over 1", func(b *testing.B) { benchmarkOurs(b, 1) })
	b.Run("ours over 4", func(b *testing.B) { benchmarkOurs(b, 4) })
}

func benchmarkBare(b *testing.B, options ...gomail.Option) {
	sink := mailtest.Sink(b)
	rendered := sampleMail(b)
	s := sender(b, sink.Addr())
	to, err := parseAddress("customer@shop.example")
	if err != nil {
		b.Fatal(err)
	}
	k := dialBare(b, s, options...)
	for b.Loop() {
		m := s.compose(Letter{Mail: rendered, ID: "a", Date: handofftest.Noon}, to)
		if err := k.Send(m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
}

func dialBare(b *testing.B, s *Sender, options ...gomail.Option) *gomail.Client {
	b.Helper()
	c, err := gomail.NewClient("127.0.0.1", append(options, gomail.WithTLSPolicy(gomail.NoTLS), gomail.WithPort(portOf(b, s)))...)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.DialWithContext(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

func portOf(b *testing.B, s *Sender) int {
	b.Helper()
	port, err := strconv.Atoi(s.Server.port)
	if err != nil {
		b.Fatal(err)
	}
	return port
}

func sampleMail(b *testing.B) message.Mail {
	b.Helper()
	sink := &collected{}
	p := newPost(b, freePort(b))
	p.mailer.Transport = sink
	p.dispatches(1)
	p.read()
	p.tally.wait(b, "delivered", 1)
	return sink.letter.Mail
}

type collected struct{ letter Letter }

func (c *collected) Send(_ context.Context, l Letter) error {
	c.letter = l
	return nil
}

func benchmarkOurs(b *testing.B, connections int) {
	sink := mailtest.Sink(b)
	p := newPost(b, sink.Addr(), func(c *Config) { c.Connections = connections })
	for i := range b.N {
		p.Dispatch(b, handofftest.Sample(fmt.Sprintf("P%07d", i)))
	}
	b.ResetTimer()
	stop := p.read(func(c *notify.Config) { c.Poll = 10 * time.Millisecond })
	p.tally.wait(b, "delivered", b.N)
	b.StopTimer()
	stop()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
	if got := sink.Connections(); got > connections {
		b.Errorf("%d connections, want %d", got, connections)
	}
	onlyOnce(b, sink.Messages(), b.N)
}
