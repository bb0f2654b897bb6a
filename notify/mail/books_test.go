package mail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/notify"
	"latchkey/otp"
)

// A day of ten thousand parcels: dispatched at five, in groups and by themselves, some of them
// recalled, moved, met nobody, handed over in part, taken back, disputed. At its end every parcel is
// in exactly one place, and every customer got exactly the mails that the day called for.
func TestTheBooksBalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(t, 10_000)
		b.at(5, b.dispatch)
		b.at(6, b.recall)
		b.at(9, b.deliver)
		b.at(18, b.dispute)
		b.at(25, b.sweep)
		b.balance()
	})
}

// books is the day, and what each parcel and each customer should have at its end.
type books struct {
	*handofftest.World
	t       *testing.T
	random  *rand.Rand
	morning time.Time // midnight at the addresses
	office  *office

	stops   []*stop
	parcels int
}

// stop is one grant: what one customer gets.
type stop struct {
	grant    handoff.GrantID
	route    int
	parcels  []string
	coded    bool
	email    string
	where    map[string]string // by parcel: where it is
	mails    int               // that the day called for
	disputed bool
}

// Where a parcel is.
const (
	there    = "there" // on the route, not handed over
	handed   = "handed over"
	recalled = "recalled"
)

// parcelsOnRoute is about how many parcels a courier has on a day.
const parcelsOnRoute = 250

// office is a transport that keeps each letter by its recipient.
type office struct {
	mu      sync.Mutex
	letters map[string][]Letter
	ids     map[string]bool
	twice   int
}

func (o *office) Send(_ context.Context, l Letter) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids[l.ID] {
		o.twice++
	}
	o.ids[l.ID] = true
	o.letters[l.To] = append(o.letters[l.To], l)
	return nil
}

// sent is how many letters were sent.
func (o *office) sent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.ids)
}

var sixDigits = regexp.MustCompile(`(?m)^\s*(\d{6})\s*$`)

// code is the one that a customer reads in the newest mail that has one.
func (o *office) code(t *testing.T, email string) otp.Code {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range slices.Backward(o.letters[email]) {
		if digits := sixDigits.FindStringSubmatch(l.Mail.Text); digits != nil {
			code, err := otp.Parse(digits[1])
			if err != nil {
				t.Fatal(err)
			}
			return code
		}
	}
	t.Fatalf("no mail to %s has a code (%d mails in all): %v", email, len(o.ids), o.letters[email])
	return otp.Code{}
}

func newBooks(t *testing.T, parcels int) *books {
	t.Helper()
	b := &books{
		World: handofftest.New(t, handofftest.NewMemory()), t: t, parcels: parcels, random: rand.New(rand.NewPCG(1, 2)),
		morning: handofftest.Noon.Add(-12 * time.Hour), office: &office{letters: map[string][]Letter{}, ids: map[string]bool{}},
	}
	b.Clock.Set(b.morning)
	for route := range parcels/parcelsOnRoute + 1 {
		b.Cleared(t, courierOf(route))
		b.Drives(t, courierOf(route), routeOf(route), handofftest.Today)
	}
	m, err := NewMailer(MailerConfig{
		Grants: b.Service, Mails: b.Service, Couriers: b.Core, Transport: b.office, Clock: b.Clock, Limits: b.Policy.Limits, Observer: newTally(),
		ShopNames: map[string]string{handofftest.Shop: "Sample Shop"}, AccountURL: "https://shop.example/handoffs/{grant_id}",
	})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := notify.NewReader(notify.Config{
		Log: b.Core, Group: Group, Handle: m.Handle, Clock: b.Clock, Observer: newTally(), Poll: time.Second, Parallel: 8,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); reader.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

func courierOf(route int) string { return fmt.Sprintf("cou_%d", route) }

func routeOf(route int) string { return fmt.Sprintf("R%d", route) }

// at plays a part of the day from an hour on, and waits until its mails are sent.
func (b *books) at(hour int, play func()) {
	b.Clock.Set(b.morning.Add(time.Duration(hour) * time.Hour))
	play()
	for sent := -1; sent != b.office.sent(); {
		sent = b.office.sent()
		time.Sleep(time.Minute) // in the bubble
		synctest.Wait()
	}
}

// one is true once in n times.
func (b *books) one(n int) bool { return b.random.IntN(n) == 0 }

// dispatch makes the grants, one in five with several parcels, and one in five without a code.
func (b *books) dispatch() {
	for n := 0; n < b.parcels; {
		s := &stop{route: n / parcelsOnRoute, email: fmt.Sprintf("c%d@shop.example", n), where: map[string]string{}}
		size := 1
		if b.one(5) {
			size = min(2+b.random.IntN(4), b.parcels-n)
		}
		for range size {
			s.parcels = append(s.parcels, fmt.Sprintf("JJD%06d", n))
			n++
		}
		d := handofftest.Sample(s.parcels[0])
		for _, parcel := range s.parcels[1:] {
			if d.Together == nil {
				d.Together = &handoff.Together{}
			}
			d.Together.More = append(d.Together.More, handoff.Piece{Parcel: parcel})
		}
		d.Route, d.Customer.ID, d.Customer.Email = routeOf(s.route), s.parcels[0], s.email
		if b.one(5) {
			d.Value, d.Categories = handoff.Money{Amount: "9.90", Currency: "EUR"}, nil
		}
		g := b.Dispatch(b.t, d)
		s.grant, s.coded, s.mails = g.ID, g.CodeRequired(), 1
		for _, parcel := range s.parcels {
			s.where[parcel] = there
		}
		b.stops = append(b.stops, s)
	}
}

// left are the parcels of a stop that are there.
func (s *stop) left() []string {
	return slices.DeleteFunc(slices.Clone(s.parcels), func(p string) bool { return s.where[p] != there })
}

// recall takes back one grant in fifty, of several parcels some.
func (b *books) recall() {
	for _, s := range b.stops {
		if !b.one(50) {
			continue
		}
		some := s.parcels[:1+b.random.IntN(len(s.parcels))]
		if _, err := b.Service.RecallSome(b.t.Context(), shop, s.grant, some, ""); err != nil {
			b.t.Fatalf("recalling %d of %d: %v", len(some), len(s.parcels), err)
		}
		for _, p := range some {
			s.where[p] = recalled
		}
		s.mails++
	}
}

// deliver is the day of the couriers.
func (b *books) deliver() {
	for _, s := range b.stops {
		left := s.left()
		switch {
		case len(left) == 0:
			if err := b.verify(s, s.parcels[:1]); reasonOf(err) != handoff.IsRecalled {
				b.t.Fatalf("a recalled parcel: %v", err)
			}
		case b.one(30): // nobody is at home
			if _, err := b.Service.Attempted(b.t.Context(), b.presentation(s, left[:1])); err != nil {
				b.t.Fatal(err)
			}
			s.mails++
		default:
			b.meet(s, left)
		}
	}
}

// meet is what happens at a door that is answered.
func (b *books) meet(s *stop, left []string) {
	if len(left) > 1 && b.one(4) { // some now, and the rest later
		some := left[:1+b.random.IntN(len(left)-1)]
		before := b.presentation(s, left)
		b.handOver(s, some)
		if s.coded {
			before.Parcels = left[len(some):]
			before.Parcel = before.Parcels[0]
			if _, err := b.Service.Verify(b.t.Context(), before); reasonOf(err) != handoff.CodeSuperseded {
				b.t.Fatalf("the rest by the code of before: %v", err)
			}
		}
		if b.one(2) {
			return // the rest stays in the van
		}
		b.drain()
		left = s.left()
	}
	b.handOver(s, left)
	if b.one(40) {
		b.drain()
		b.takeBack(s, left)
		if b.one(2) {
			b.drain()
			b.handOver(s, left)
		}
	}
}

// drain waits until what was written by now is mailed.
func (b *books) drain() {
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

func (b *books) presentation(s *stop, parcels []string) service.Presentation {
	p := handofftest.AtDoor(courierOf(s.route), parcels[0], otp.Code{})
	p.Parcels = parcels
	if s.coded {
		p.Code = b.office.code(b.t, s.email)
	}
	return p
}

func (b *books) verify(s *stop, parcels []string) error {
	_, err := b.Service.Verify(b.t.Context(), b.presentation(s, parcels))
	return err
}

func (b *books) handOver(s *stop, parcels []string) {
	b.t.Helper()
	if err := b.verify(s, parcels); err != nil {
		b.t.Fatalf("handing over %d of %d: %v", len(parcels), len(s.parcels), err)
	}
	for _, p := range parcels {
		s.where[p] = handed
	}
	s.mails++
}

// takeBack is a courier's correction of the newest handoff.
func (b *books) takeBack(s *stop, parcels []string) {
	p := b.presentation(s, parcels)
	p.Parcels, p.Code = nil, otp.Code{}
	if _, err := b.Service.Abort(b.t.Context(), p); err != nil {
		b.t.Fatal(err)
	}
	for _, p := range parcels {
		s.where[p] = there
	}
	s.mails++
}

// dispute is one customer in a hundred to whom all was handed over.
func (b *books) dispute() {
	for _, s := range b.stops {
		if !b.one(100) || slices.Contains(slices.Collect(maps.Values(s.where)), there) || s.where[s.parcels[len(s.parcels)-1]] != handed {
			continue
		}
		by := handoff.Actor{Role: handoff.RoleCustomer, Shop: handofftest.Shop, Customer: s.parcels[0], Person: true}
		if _, err := b.Service.Dispute(b.t.Context(), by, s.grant, ""); err != nil {
			b.t.Fatal(err)
		}
		s.disputed = true
		s.mails++
	}
}

// sweep closes what the day left open.
func (b *books) sweep() {
	for n := 1; n > 0; {
		var err error
		if n, err = b.Service.Sweep(b.t.Context(), 1000); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, s := range b.stops {
		if len(s.left()) > 0 {
			s.mails++
		}
	}
}

// balance holds what stands in the store and in the mailboxes against the books.
func (b *books) balance() {
	count, mails := map[string]int{}, 0
	for _, s := range b.stops {
		g, err := b.Service.Grant(b.t.Context(), handoff.Actor{Role: handoff.RoleOps}, s.grant)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, parcel := range s.parcels {
			want := map[string]handoff.Status{there: handoff.Expired, handed: handoff.Released, recalled: handoff.Recalled}[s.where[parcel]]
			if got := g.StatusOf(parcel, b.Clock.Now()); got != want && !s.disputed {
				b.t.Errorf("a parcel of %d that is %s is %v", len(s.parcels), s.where[parcel], got)
			}
			count[s.where[parcel]]++
		}
		if s.disputed != (g.Status == handoff.Held) {
			b.t.Errorf("disputed: %v, and the status is %v", s.disputed, g.Status)
		}
		mails += s.mails
		if got := len(b.office.letters[s.email]); got != s.mails {
			b.t.Errorf("%d mails to the customer of %v, of which %d were called for", got, s.where, s.mails)
			for _, l := range b.office.letters[s.email] {
				b.t.Log(l.Mail.Subject)
			}
		}
		if b.t.Failed() {
			b.t.FailNow()
		}
	}
	all := 0
	for _, n := range count {
		all += n
	}
	if all != b.parcels || b.office.twice > 0 {
		b.t.Errorf("%d parcels of %d; %d mails came twice", all, b.parcels, b.office.twice)
	}
	for _, where := range []string{there, handed, recalled} {
		if count[where] < b.parcels/200 {
			b.t.Errorf("only %d parcels are %s: the day does not try that", count[where], where)
		}
	}
	b.t.Logf("%v, %d mails", count, mails)
}

func reasonOf(err error) handoff.Reason {
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}
