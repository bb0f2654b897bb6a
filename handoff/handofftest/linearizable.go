package handofftest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

// question is one request to one grant.
type question struct {
	Command handoff.Command
	Code    int // which of the grant's codes is said, by its counter; -1 is a wrong one
}

// reply is what a request was told.
type reply struct {
	Unknown bool           // it came to no answer: it was done, or will be, or never is
	Reason  handoff.Reason // of a refusal; empty where it was done
	Left    int            // a refusal's AttemptsLeft
	Grant   string         // what a look or an order showed; empty of a courier's request
}

// shown is what the requests of a history can see of a grant.
func shown(g *handoff.Grant) string {
	by := ""
	if g.Handoff != nil {
		by = g.Handoff.Courier
	}
	return fmt.Sprintf("%v by %q aborted %v codes %v wrong %d of %d reissues %d resends %d attempts %d history %d",
		g.Status, by, g.Aborted, g.Code.Issued, g.Code.Wrong, g.Code.TotalWrong, g.Code.Reissues, g.Code.Resends, g.Attempts, len(g.History))
}

// look is the act of a request that reads the grant. The domain has no such act.
const look handoff.Act = 0

// sequence is the grant as a thing that takes one request after the other, each decided by
// [handoff.Decide] and carried out by [handoff.Apply]. A history of requests that overlapped is
// linearizable if some order of them, in which none stands before one that was answered before
// it was asked, has the same answers.
func sequence(begin handoff.Grant, facts func(handoff.Command) handoff.Facts, now time.Time) porcupine.Model {
	after := func(g handoff.Grant, q question, r reply) []any {
		if q.Command.Act == look {
			if r.Unknown || r.Grant == shown(&g) {
				return []any{g}
			}
			return nil
		}
		d := handoff.Decide(&g, q.Command, facts(q.Command), now)
		then := handoff.Replay(g, d.Events)
		said := reply{}
		switch {
		case r.Unknown:
			return []any{g, then}
		case d.Refusal != nil:
			said.Reason, said.Left = d.Refusal.Reason, d.Refusal.AttemptsLeft
		case r.Grant != "":
			said.Grant = shown(&then)
		}
		if d.Wait || said != r {
			return nil
		}
		return []any{then}
	}
	model := porcupine.NondeterministicModel{
		Init:  func() []any { return []any{begin} },
		Step:  func(state, q, r any) []any { return after(state.(handoff.Grant), q.(question), r.(reply)) },
		Equal: reflect.DeepEqual,
	}
	return model.ToModel()
}

const (
	histories = 12 // of a run; each is of one grant
	each      = 7  // requests of a client
	patience  = 20 // how often a courier asks again
)

// Linearizable has clients ask much of one grant at once, of two services on one store, while
// replies and requests are lost, and checks that the answers are those of a grant that takes one
// request after the other. A courier who gets no answer asks again with the same attempt id, and
// counts as one request.
//
// Disturb is called before they begin; nil disturbs nothing more.
func Linearizable(t *testing.T, open func(t *testing.T) Core, disturb func(t *testing.T)) {
	for seed := range uint64(histories) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, &jostled{Core: open(t)}, seed)
			if disturb != nil {
				disturb(t)
			}
			operations := h.run()
			if unknown := h.end(operations); 2*unknown > len(operations) {
				t.Errorf("%d of %d requests came to no answer: this shows nothing", unknown, len(operations))
			}
			switch h.check(operations) {
			case porcupine.Ok:
			case porcupine.Unknown:
				t.Error("not decided within a minute")
			default:
				for _, o := range operations {
					q, r := o.Input.(question), o.Output.(reply)
					t.Logf("client %d, %d to %d: %v code %d: %+v", o.ClientId, o.Call, o.Return, q.Command.Act, q.Code, r)
				}
				t.Errorf("no order of these requests, one after the other, has these answers (seed %d)", seed)
			}
		})
	}
}

// history is many requests to one grant.
type history struct {
	*World
	services []*service.Service
	seed     uint64
	begin    handoff.Grant
	couriers map[string]*handoff.Courier
}

const linearParcel = "JJD000390007812345678"

func newHistory(t *testing.T, core Core, seed uint64) *history {
	t.Helper()
	faulty := &Faulty{Core: core}
	w := New(t, faulty)
	// What is charged to couriers and carriers is not of one grant: no such limit is reached.
	w.Policy.Limits.CourierDay, w.Policy.Limits.CourierMonth, w.Policy.Limits.CourierCustomer, w.Policy.Limits.CarrierDay = 100, 500, 100, 10_000
	h := &history{World: w, seed: seed, services: w.Instances(t, 2), couriers: map[string]*handoff.Courier{}}
	w.Cleared(t, "driver", "stranger")
	w.Drives(t, "driver", Route, Today)
	w.Dispatch(t, Sample(linearParcel))
	h.begin = w.Parcel(t, linearParcel)
	for _, id := range []string{"driver", "stranger"} {
		ref := Courier(id)
		found, err := core.Load(context.Background(), service.Query{Parcel: h.begin.ID.Hash, Courier: &ref})
		if err != nil {
			t.Fatal(err)
		}
		h.couriers[id] = found.Courier
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for range 100 {
		fate := NoFault
		if random.IntN(3) == 0 {
			fate = []Fault{ReplyLost, RequestLost, Refused, Overtaken}[random.IntN(4)]
		}
		faulty.Next(fate)
	}
	return h
}

func (h *history) facts(c handoff.Command) handoff.Facts {
	return handoff.Facts{Policy: h.Policy, Courier: h.couriers[c.Evidence.Courier.ID], Budget: handoff.Budget{Admitted: true}}
}

func (h *history) check(operations []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(sequence(h.begin, h.facts, h.Clock.Now()), operations, time.Minute)
}

// jostled is a store in which requests get in each other's way, however fast it is.
type jostled struct{ Core }

func yield() {
	for range rand.IntN(20) {
		runtime.Gosched()
	}
}

// Prepare implements service.Grants.
func (j *jostled) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	yield()
	defer yield()
	return j.Core.Prepare(ctx, p)
}

// Commit implements service.Grants.
func (j *jostled) Commit(ctx context.Context, c service.Change) error {
	yield()
	defer yield()
	return j.Core.Commit(ctx, c)
}

// run has all clients ask at once.
func (h *history) run() []porcupine.Operation {
	began := time.Now()
	clients := []func(*rand.Rand, string) (question, func(*service.Service) reply){
		h.courier("driver"), h.courier("driver"), h.courier("stranger"), h.customer, h.shop, h.ops,
	}
	var (
		mu         sync.Mutex
		operations []porcupine.Operation
		all        sync.WaitGroup
	)
	for n, next := range clients {
		all.Go(func() {
			random := rand.New(rand.NewPCG(h.seed, uint64(n)+2))
			for i := range each {
				asked, ask := next(random, fmt.Sprintf("a%d-%d", n, i))
				o := porcupine.Operation{ClientId: n, Input: asked, Call: int64(time.Since(began))}
				o.Output = ask(h.services[random.IntN(len(h.services))])
				o.Return = int64(time.Since(began))
				mu.Lock()
				operations = append(operations, o)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for _, s := range h.services { // what stands in the end
		o := porcupine.Operation{ClientId: len(clients), Input: question{}, Call: int64(time.Since(began))}
		o.Output = h.look(s)
		o.Return = int64(time.Since(began))
		operations = append(operations, o)
	}
	slices.SortFunc(operations, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return operations
}

// end lets what came to no answer take effect at any time until the end, and counts it. Each of
// them is a client of its own from there on, since its client asked again.
func (h *history) end(operations []porcupine.Operation) (unknown int) {
	last := int64(0)
	for _, o := range operations {
		last = max(last, o.Return)
	}
	for i, o := range operations {
		if o.Output.(reply).Unknown {
			unknown++
			operations[i].Return = last + 1
		}
	}
	return unknown
}

// replyOf is what an answer told, with the grant that came with it; nil if none did.
func replyOf(err error, g *handoff.Grant) reply {
	var refused *handoff.Refusal
	switch {
	case errors.As(err, &refused):
		return reply{Reason: refused.Reason, Left: refused.AttemptsLeft}
	case err != nil:
		return reply{Unknown: true}
	case g != nil:
		return reply{Grant: shown(g)}
	}
	return reply{}
}

func (h *history) look(s *service.Service) reply {
	g, err := s.Grant(context.Background(), handoff.Actor{Role: handoff.RoleOps}, h.begin.ID)
	return replyOf(err, &g)
}

// courier is who comes to the door, with a code or with none, takes a handoff back, or meets no one.
func (h *history) courier(id string) func(*rand.Rand, string) (question, func(*service.Service) reply) {
	return func(random *rand.Rand, attempt string) (question, func(*service.Service) reply) {
		p := AtDoor(id, linearParcel, WrongCode(&h.begin, 1))
		q, do := question{Code: -1}, (*service.Service).Verify
		q.Command = handoff.Command{Act: handoff.Release, Target: handoff.Parcel}
		switch random.IntN(6) {
		case 0:
		case 1:
			q.Command.Act, do = handoff.Abort, (*service.Service).Abort
		case 2:
			q.Command.Act, do = handoff.Attempt, (*service.Service).Attempted
		default: // of the codes that the grant may have had by now
			counters := h.begin.Code.Issued
			q.Code = int(counters[len(counters)-1]) + random.IntN(3)
			p.Code = CodeAt(&h.begin, uint64(q.Code))
		}
		p.Attempt = attempt
		q.Command.Evidence = handoff.Evidence{Courier: p.Courier, Parcel: p.Parcel, Position: p.Position, Code: p.Code}
		return q, func(s *service.Service) (r reply) {
			for range patience {
				_, err := do(s, context.Background(), p)
				if r = replyOf(err, nil); !r.Unknown {
					break
				}
			}
			return r
		}
	}
}

// customer is who looks, and asks for another code or for the same again.
func (h *history) customer(random *rand.Rand, _ string) (question, func(*service.Service) reply) {
	by := handoff.Actor{Role: handoff.RoleCustomer, Shop: Shop, Customer: h.begin.Dispatch.Customer.ID, Subject: "customer"}
	switch random.IntN(3) {
	case 0:
		return question{}, h.look
	case 1:
		return h.order(handoff.Resend, by, (*service.Service).Resend)
	}
	return h.order(handoff.Reissue, by, (*service.Service).Reissue)
}

// shop is who holds the parcel and lets it go, and calls it back at times.
func (h *history) shop(random *rand.Rand, _ string) (question, func(*service.Service) reply) {
	by := handoff.Actor{Role: handoff.RoleShop, Shop: Shop, Subject: "shop"}
	noted := func(f func(*service.Service, context.Context, handoff.Actor, handoff.GrantID, string) (handoff.Grant, error)) order {
		return func(s *service.Service, ctx context.Context, by handoff.Actor, id handoff.GrantID) (handoff.Grant, error) {
			return f(s, ctx, by, id, "because")
		}
	}
	switch random.IntN(10) {
	case 0:
		return h.order(handoff.Recall, by, noted((*service.Service).Recall))
	case 1, 2:
		return h.order(handoff.Hold, by, noted((*service.Service).Hold))
	}
	return h.order(handoff.Lift, by, noted((*service.Service).Lift))
}

// ops is who looks.
func (h *history) ops(*rand.Rand, string) (question, func(*service.Service) reply) {
	return question{}, h.look
}

type order func(*service.Service, context.Context, handoff.Actor, handoff.GrantID) (handoff.Grant, error)

func (h *history) order(act handoff.Act, by handoff.Actor, give order) (question, func(*service.Service) reply) {
	q := question{Command: handoff.Command{Act: act, By: by, Who: h.Service.Who(by)}}
	return q, func(s *service.Service) reply {
		g, err := give(s, context.Background(), by, h.begin.ID)
		return replyOf(err, &g)
	}
}
