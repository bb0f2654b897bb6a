package door

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Outbox numbers, signs and keeps a door's reports until the service has them: each is
// on the disk before Add returns, and is given out again until it is acknowledged. It
// may be used concurrently, by one process.
//
// It holds 4096 reports. Beyond that the oldest are dropped, and the gap in the numbers shows
// it. A passer-by can cause refusals, so these get only half of the places and can push no
// opening out.
type Outbox struct {
	door string
	key  PrivateKey

	mu      sync.Mutex
	file    *recordFile
	pending []SignedReport // oldest first
	last    uint64         // the newest number given
}

// SignedReport is a report as it travels.
type SignedReport struct {
	Seq uint64
	Raw []byte
}

// ErrOutboxFull says that a refusal found no place, and was not recorded.
var ErrOutboxFull = errors.New("door: too many refusals wait to be reported")

const (
	outboxMagic = "latchkey outbox1"
	outboxSlot  = 192

	// A record's kind and number; a report's bytes follow.
	outboxReport = 1
	outboxDone   = 2 // all up to this number are done with

	outboxRecord = 1 + 8

	maxPending  = 4096
	maxRefusals = maxPending / 2

	outboxSlack = 256
)

// CreateOutbox makes the outbox of a door with a new key. It is part of enrolling a door,
// never of starting one: numbers that began anew under the same key would be taken for
// reports that come again.
func CreateOutbox(path string) error { return createRecordFile(path, outboxMagic, outboxSlot) }

// OpenOutbox reads a door's outbox. The error is ErrKey, ErrInUse while another process has
// the file open, or says what is wrong with the file.
func OpenOutbox(path, door string, key PrivateKey) (*Outbox, error) {
	if key.IsZero() || !doorID.MatchString(door) {
		return nil, ErrKey
	}
	file, records, err := openRecordFile(path, outboxMagic, outboxSlot)
	if err != nil {
		return nil, err
	}
	o := &Outbox{door: door, key: key, file: file}
	for _, b := range records {
		if len(b) < outboxRecord || b[0] < outboxReport || b[0] > outboxDone {
			_ = file.Close()
			return nil, fmt.Errorf("door: %s holds a record of a newer version", path)
		}
		seq := binary.BigEndian.Uint64(b[1:])
		if b[0] == outboxDone {
			o.drop(seq)
		} else {
			o.pending = append(o.pending, SignedReport{seq, b[outboxRecord:]})
		}
		o.last = max(o.last, seq)
	}
	o.bound()
	return o, nil
}

// Known signs the door's word about the keys that it knows, with the door's key. It is not kept:
// the door says it anew whenever it connects.
func (o *Outbox) Known(t *Trust, at time.Time) ([]byte, error) {
	k := Known{Door: o.door, At: at.Truncate(time.Second)}
	k.Serial, k.Keys = t.Known()
	return k.Sign(o.key)
}

// Add reports that the door is in a state, at now by its clock. The permit is zero where the
// state is about none; the refusal is zero for every state but Refused. The error is
// ErrOutboxFull, Malformed for a report that contradicts itself, or that of the disk.
func (o *Outbox) Add(state State, permit PermitID, refusal Refusal, now time.Time) (Report, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if state == Refused && len(o.pending) >= maxRefusals {
		return Report{}, ErrOutboxFull
	}
	r := Report{
		Door: o.door, Seq: o.last + 1, At: time.Unix(now.Unix(), 0).UTC(),
		State: state, Permit: permit, Refusal: refusal,
	}
	raw, err := r.Sign(o.key)
	if err != nil {
		return Report{}, err
	}
	if err := o.file.append(append(outboxHead(outboxReport, r.Seq), raw...)); err != nil {
		return Report{}, err
	}
	o.last = r.Seq
	o.pending = append(o.pending, SignedReport{r.Seq, raw})
	o.bound()
	o.compact()
	return r, nil
}

// Pending are the oldest reports, at most limit of them, that were not acknowledged.
func (o *Outbox) Pending(limit int) []SignedReport {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]SignedReport(nil), o.pending[:max(0, min(limit, len(o.pending)))]...)
}

// About are the reports about one permit that were not acknowledged and, if there are any,
// the newest reports about no permit; oldest first, at most limit of them. A phone that knows
// a permit's id may read them: they tell nothing of another courier.
func (o *Outbox) About(permit PermitID, limit int) []SignedReport {
	o.mu.Lock()
	defer o.mu.Unlock()
	if permit.IsZero() {
		return nil
	}
	var about, alarms []SignedReport
	for _, p := range o.pending {
		switch id, err := reportedPermit(p.Raw); {
		case err != nil:
		case id == permit && len(about) < limit:
			about = append(about, p)
		case id.IsZero():
			alarms = append(alarms, p)
		}
	}
	if len(about) == 0 {
		return nil
	}
	about = append(about, alarms[max(0, len(alarms)+len(about)-limit):]...)
	slices.SortFunc(about, func(a, b SignedReport) int { return cmp.Compare(a.Seq, b.Seq) })
	return about
}

// Done drops all reports up to seq, because the service has them. The error is that of the
// disk; the reports are then given out again.
func (o *Outbox) Done(seq uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) == 0 || seq < o.pending[0].Seq {
		return nil
	}
	seq = min(seq, o.last) // a service that is ahead of us must not raise our numbers
	if err := o.file.append(outboxHead(outboxDone, seq)); err != nil {
		return err
	}
	o.drop(seq)
	o.compact()
	return nil
}

func outboxHead(kind byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, seq)
}

func (o *Outbox) drop(seq uint64) {
	n := 0
	for n < len(o.pending) && o.pending[n].Seq <= seq {
		n++
	}
	o.pending = o.pending[n:]
}

// bound drops the oldest reports beyond maxPending. When the file is read, the same ones are
// dropped again.
func (o *Outbox) bound() {
	if over := len(o.pending) - maxPending; over > 0 {
		o.pending = o.pending[over:]
	}
}

// compact rewrites the file once most of its records are done with. A failure loses nothing:
// the old file stands, or the next Add returns the error.
func (o *Outbox) compact() {
	if o.file.slots <= 2*len(o.pending)+outboxSlack {
		return
	}
	var records [][]byte
	for _, p := range o.pending {
		records = append(records, append(outboxHead(outboxReport, p.Seq), p.Raw...))
	}
	if len(records) == 0 {
		records = append(records, outboxHead(outboxDone, o.last)) // the numbers go on
	}
	_ = o.file.rewrite(records)
}

// Close releases the file.
func (o *Outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.file.Close()
}
