package service

import (
	"bytes"
	"strconv"
	"time"

	"latchkey/handoff"
)

// attempt is a request that its caller may send again: the first answer is given again. The
// zero attempt is a request without an id, which is a new one each time.
type attempt struct {
	id      string
	courier string // ids of two couriers may be equal
	digest  []byte // keyed, of everything else that the request says
}

// Answer is what one attempt was told. The same attempt id gets it again.
type Answer struct {
	Attempt  string          `cbor:"1,keyasint"`
	Courier  string          `cbor:"2,keyasint"`
	Digest   []byte          `cbor:"3,keyasint"`           // keyed, of everything else the request said
	At       handoff.Instant `cbor:"4,keyasint"`           // when it was decided
	Distance int             `cbor:"5,keyasint,omitempty"` // meters from the place, rounded to ten
	Reason   handoff.Reason  `cbor:"6,keyasint,omitempty"` // empty: it was done
	Left     int             `cbor:"7,keyasint,omitempty"` // of a wrong code: how many more may be entered
	Verdict  []byte          `cbor:"8,keyasint"`           // handoff.Verdict's results, a byte each

	Permit handoff.PermitID `cbor:"9,keyasint,omitzero"`   // of an unlock
	Relock int              `cbor:"10,keyasint,omitempty"` // of an unlock: what the permit says, in seconds

	Replaced handoff.Instant `cbor:"11,keyasint,omitempty"` // of a superseded code: when

	// Of several parcels: which a courier's act was about, and which were still there after it.
	Parcels []string `cbor:"12,keyasint,omitempty"`
	There   []string `cbor:"13,keyasint,omitempty"`

	retry time.Duration // never remembered: by then it would be wrong
}

// statusAfter is what a courier's act, once done, left behind; the grant may have moved on.
var statusAfter = map[handoff.Act]handoff.Status{handoff.Release: handoff.Released, handoff.Collect: handoff.Collected, handoff.Abort: handoff.Active, handoff.Attempt: handoff.Active, handoff.Open: handoff.Active}

// toldBefore finds what this courier's attempt was told before. The id with other content is
// handoff.AttemptReused, and nothing more is told.
func (a *attempt) toldBefore(r *Record, act handoff.Act) (outcome, bool) {
	if a.id == "" {
		return outcome{}, false
	}
	for _, told := range r.Answers {
		if told.Attempt != a.id || told.Courier != a.courier {
			continue
		}
		if !bytes.Equal(told.Digest, a.digest) {
			told.Reason, told.Verdict, told.Left, told.Replaced = handoff.AttemptReused, nil, 0, 0
			told.Parcels, told.There = nil, nil
		}
		after := statusAfter[act]
		if len(told.There) > 0 {
			after = handoff.Active
		}
		return outcome{act: act, status: after, grant: r.Grant, answer: told}, true
	}
	return outcome{}, false
}

// answer puts a decision into the form that is remembered and told.
func (a *attempt) answer(p *pass) Answer {
	d := &p.decision
	told := Answer{Attempt: a.id, Courier: p.command.Evidence.Courier.ID, Digest: a.digest, At: handoff.InstantOf(p.now), Verdict: d.Verdict.Bytes()}
	if d.Refusal != nil {
		told.Reason, told.Left, told.retry = d.Refusal.Reason, d.Refusal.AttemptsLeft, d.Refusal.RetryAfter
		told.Replaced = d.Refusal.ReplacedAt
	} else if len(d.Events) > 0 {
		told.Distance = d.Events[0].Distance
		told.Permit, told.Relock = d.Events[0].Permit, d.Events[0].Relock
		if g := p.grant(); g != nil && g.Group != nil && d.Events[0].Parcels != nil {
			after := handoff.Replay(*g, d.Events)
			told.Parcels, told.There = d.Events[0].Parcels, after.There()
		}
	}
	return told
}

// refusal is the answer as the error it is: a *handoff.Refusal, or nil.
func (a *Answer) refusal() error {
	if a.Reason == "" {
		return nil
	}
	r := &handoff.Refusal{Reason: a.Reason, AttemptsLeft: a.Left, ReplacedAt: a.Replaced, RetryAfter: a.retry}
	for i, b := range a.Verdict {
		if i < len(r.Verdict) {
			r.Verdict[i] = handoff.Result(b)
		}
	}
	return r
}

// attemptOf is the attempt of a courier's request. The digest is kept with the sealed grant,
// for as long as the grant.
func (s *Service) attemptOf(id string, courier handoff.CourierRef, deviceTime time.Time, said ...string) attempt {
	if id == "" {
		return attempt{}
	}
	said = append([]string{courier.Carrier, courier.ID, id}, said...)
	if !deviceTime.IsZero() {
		said = append(said, deviceTime.UTC().Format(time.RFC3339))
	}
	return attempt{id: id, courier: courier.ID, digest: s.names.Name("attempt", said...)[:8]}
}

// positionText is a position as it goes into an attempt's digest. Its age is left out: the same
// request, sent again, has the same position, which is older then.
func positionText(p *handoff.Position) string {
	if p == nil {
		return "none"
	}
	b := strconv.AppendInt(make([]byte, 0, 64), int64(p.Point.Lat), 10)
	b = strconv.AppendInt(append(b, ' '), int64(p.Point.Lon), 10)
	return string(strconv.AppendFloat(append(b, ' '), p.Accuracy, 'g', -1, 64))
}
