package handoff

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/handoff/chain"
)

// Alarm is what a door says of itself, and of no permit.
type Alarm struct {
	Door Door      // with its building
	Type EventType // EventDoorForced, EventDoorHeldOpen or EventDoorTampered

	// Seq counts the door's reports under its present key: one that comes again has the
	// number it had.
	Seq uint64
	At  Instant // by the door's clock
}

// Alarmed puts an alarm on the log, once, however often the door reports it, and tells
// whether it was news. After an error the door should report it again.
func (s *Service) Alarmed(ctx context.Context, a Alarm) (bool, error) {
	switch a.Type {
	case EventDoorForced, EventDoorHeldOpen, EventDoorTampered:
	default:
		return false, fmt.Errorf("handoff: %s is no alarm", a.Type)
	}
	now := InstantOf(s.clock.Now())
	e := Event{
		Type: a.Type, At: now, By: string(RoleDoor), Claimed: a.At,
		Door: a.Door.ID, Target: a.Door.Kind, Building: a.Door.BuildingID,
	}
	mark := fmt.Sprintf("%s:%x", a.Door.ID, a.Door.Key) // under a new key a door counts anew
	return s.store.AppendOnce(ctx, now, mark, a.Seq, e)
}

// strangersKept is how many refusals of no grant the log keeps for each door and carrier
// in an hour. Of what comes beyond it, one event tells at 40, the next at 80, and so on:
// a courier who knocks with parcels that do not exist fills nobody's log.
const strangersKept = 20

// strangers says whether the n-th refusal of an hour is told, and of how many.
func strangers(n int) (count int, told bool) {
	if n <= strangersKept {
		return 0, true
	}
	for m := 2 * strangersKept; m <= n; m *= 2 {
		if m == n {
			return m / 2, true
		}
	}
	return 0, false
}

// turnStranger tells a building of a courier who came without a parcel of the carrier's.
// There is no grant to tell it by. An unknown and another carrier's parcel are one case:
// nobody here knows which it was.
func (s *Service) turnStranger(ctx context.Context, k *Knock, d *Door) error {
	now := s.clock.Now()
	hour := now.Unix() / int64(time.Hour/time.Second)
	n, err := s.store.Tally(ctx, fmt.Sprintf("stranger:%s:%s:%d", d.ID, k.Courier.Carrier, hour), 2*time.Hour)
	if err != nil {
		return err
	}
	count, told := strangers(n)
	if !told {
		return nil
	}
	return s.store.Append(ctx, InstantOf(now), Event{
		Type: EventAccessRefused, At: InstantOf(now), Reason: ParcelUnknown, Count: count,
		Carrier: k.Courier.Carrier, Courier: k.Courier.ID, Device: s.device(k.Courier, k.Device), Claimed: claimed(k.Claimed),
		Door: d.ID, Target: d.Kind, Building: d.BuildingID,
	})
}

// oneLine is how many entries after the first of a line what became of its permit still
// joins it: doors report within seconds, unless they are without a network.
const oneLine = 256

// AccessLog reads a page of a building's access log.
func (s *Service) AccessLog(ctx context.Context, building string, page AccessPage) (AccessLog, error) {
	name := BuildingChain(building)
	end, err := s.store.ChainEnd(ctx, name)
	if err != nil {
		return AccessLog{}, err
	}
	var log AccessLog
	if log.Head, err = s.head(name, end); err != nil {
		return AccessLog{}, err
	}
	before := end.Seq + 1
	if page.Before > 0 {
		before = min(before, page.Before)
	}
	after := end.Cut
	if limit := uint64(max(page.Limit, 1)); before > after+1+limit {
		after = before - 1 - limit
	}
	if before <= after+1 {
		return log, nil
	}
	// Which lines an entry joins or begins is the same on every page, or one opening would
	// stand on two: what is before the page tells which of its entries belong to older lines,
	// and, twice as far, where these began.
	from := after - min(after-end.Cut, 2*oneLine)
	links, err := s.store.Links(ctx, name, from, int(min(end.Seq, before-1+oneLine)-from))
	if err != nil {
		return AccessLog{}, err
	}
	entries := make([]Entry, 0, len(links))
	for i := range links {
		var e Entry
		if json.Unmarshal(links[i].Entry, &e) == nil { // one that was changed outside shows in the export
			entries = append(entries, e)
		}
	}
	for _, p := range slices.Backward(passages(entries)) {
		if p.Seq > after && p.Seq < before {
			log.Passages = append(log.Passages, p)
		}
	}
	if after > end.Cut {
		log.Before = after + 1
	}
	return log, nil
}

// head is the signed end of a chain. One that has not begun has no writer yet.
func (s *Service) head(name string, end ChainEnd) (string, error) {
	if end.Seq > 0 {
		return end.Head, nil
	}
	signer, err := AuditSigner(s.names)
	if err != nil {
		return "", err
	}
	return signer.Head(chain.Head{Chain: name, Hash: chain.Genesis(name), At: s.clock.Now().Unix()})
}

// AuditKey is the key by which the heads of chains are known.
func (s *Service) AuditKey() (chain.Key, error) {
	signer, err := AuditSigner(s.names)
	if err != nil {
		return chain.Key{}, err
	}
	return signer.Key(), nil
}

// ExportAccess is the whole of a building's chain that is kept, line by line, as
// chain.Verify reads it. It ends with the first error.
func (s *Service) ExportAccess(ctx context.Context, building string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		name := BuildingChain(building)
		end, err := s.store.ChainEnd(ctx, name)
		if err == nil {
			end.Head, err = s.head(name, end)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		export(ctx, s.store, name, end)(yield)
	}
}

// ErrNoChain says that a chain has not begun: it has no entries and no head.
var ErrNoChain = errors.New("handoff: no such chain, or nothing is in it yet")

// Export is the whole of a chain that is kept, line by line, as chain.Verify reads it. It
// ends with the first error; ErrNoChain if there is nothing to export.
func Export(ctx context.Context, j Journal, name string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		end, err := j.ChainEnd(ctx, name)
		if err == nil && end.Seq == 0 {
			err = ErrNoChain
		}
		if err != nil {
			yield(nil, err)
			return
		}
		export(ctx, j, name, end)(yield)
	}
}

const exportPage = 500

func export(ctx context.Context, j Journal, name string, end ChainEnd) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		text, err := chain.Opening(end.CutOff, end.Head)
		if !yield(text, err) || err != nil {
			return
		}
		for after := end.Cut; after < end.Seq; {
			links, err := j.Links(ctx, name, after, exportPage)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range links {
				if links[i].Seq > end.Seq { // entered since
					return
				}
				after = links[i].Seq
				if text, err = links[i].Line(); err != nil {
					text, err = []byte("{}\n"), nil // was changed outside, and is no JSON any more: for Verify to find
				}
				if !yield(text, err) {
					return
				}
			}
			if len(links) == 0 { // for Verify to find
				return
			}
		}
	}
}
