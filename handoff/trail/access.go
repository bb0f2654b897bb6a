package trail

import (
	"context"
	"errors"
	"iter"
	"slices"

	"latchkey/handoff"
	"latchkey/handoff/clock"

	"github.com/go-json-experiment/json"
)

// oneLine is how many entries after the first of a line what became of its permit still
// joins it: doors report within seconds, unless they are without a network.
const oneLine = 256

// Reader reads the access logs of buildings.
type Reader struct {
	store Store
	clock clock.Clock
	names handoff.Namer
}

// NewReader makes a Reader. All three are needed.
func NewReader(store Store, c clock.Clock, names handoff.Namer) *Reader {
	return &Reader{store: store, clock: c, names: names}
}

// AccessLog reads a page of a building's access log.
func (r *Reader) AccessLog(ctx context.Context, building string, page AccessPage) (AccessLog, error) {
	name := BuildingChain(building)
	end, err := r.store.ChainEnd(ctx, name)
	if err != nil {
		return AccessLog{}, err
	}
	var log AccessLog
	if log.Head, err = r.head(name, end); err != nil {
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
	links, err := r.store.Links(ctx, name, from, int(min(end.Seq, before-1+oneLine)-from))
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
func (r *Reader) head(name string, end End) (string, error) {
	if end.Seq > 0 {
		return end.Head, nil
	}
	signer, err := AuditSigner(r.names)
	if err != nil {
		return "", err
	}
	return signer.Head(Head{Chain: name, Hash: Genesis(name), At: r.clock.Now().Unix()})
}

// AuditKey is the key by which the heads of chains are known.
func (r *Reader) AuditKey() (Key, error) {
	signer, err := AuditSigner(r.names)
	if err != nil {
		return Key{}, err
	}
	return signer.Key(), nil
}

// ExportAccess is the whole of a building's chain that is kept, line by line, as
// trail.Verify reads it. It ends with the first error.
func (r *Reader) ExportAccess(ctx context.Context, building string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		name := BuildingChain(building)
		end, err := r.store.ChainEnd(ctx, name)
		if err == nil {
			end.Head, err = r.head(name, end)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		export(ctx, r.store, name, end)(yield)
	}
}

// ErrNoChain says that a chain has not begun: it has no entries and no head.
var ErrNoChain = errors.New("handoff: no such chain, or nothing is in it yet")

// Export is the whole of a chain that is kept, line by line, as trail.Verify reads it. It
// ends with the first error; ErrNoChain if there is nothing to export.
func Export(ctx context.Context, store Store, name string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		end, err := store.ChainEnd(ctx, name)
		if err == nil && end.Seq == 0 {
			err = ErrNoChain
		}
		if err != nil {
			yield(nil, err)
			return
		}
		export(ctx, store, name, end)(yield)
	}
}

const exportPage = 500

func export(ctx context.Context, store Store, name string, end End) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		text, err := Opening(end.CutOff, end.Head)
		if !yield(text, err) || err != nil {
			return
		}
		for after := end.Cut; after < end.Seq; {
			links, err := store.Links(ctx, name, after, exportPage)
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
