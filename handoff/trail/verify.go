package trail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An export is a file of lines, each one JSON object in the form of RFC 8785, each with
// a line feed: first the opening, then the entries from the first one to the head's.
//
//	{"cut":"eyJ...","format":"latchkey/chain/v1","head":"eyJ..."}
//	{"entry":{"at":1795514400,"seq":12,...},"hash":"..."}
//
// The cut is there only where older entries were dropped. That the head comes first
// lets a reader know from the start what is to come.
type opening struct {
	Cut    string `json:"cut,omitempty"`
	Format string `json:"format"`
	Head   string `json:"head"`
}

type line struct {
	Entry jsontext.Value `json:"entry"`
	Hash  Hash           `json:"hash"`
}

// Opening is an export's first line. Cut is empty for a chain that is whole.
func Opening(cut, head string) ([]byte, error) {
	return ended(Canonical(opening{Cut: cut, Format: domain, Head: head}))
}

// Line is the line of one entry.
func (l *Link) Line() ([]byte, error) {
	return ended(Canonical(line{Entry: l.Entry, Hash: l.Hash}))
}

func ended(b []byte, err error) ([]byte, error) { return append(b, '\n'), err }

// strictly reads one JSON object in its canonical form, with the members of v and no
// others.
func strictly(raw []byte, v any) error {
	again, err := canonical(raw)
	if err != nil || !bytes.Equal(again, raw) {
		return errors.New("chain: not canonical JSON")
	}
	if err := json.Unmarshal(raw, v, json.RejectUnknownMembers(true)); err != nil {
		return errors.New("chain: not of this form") // the parser's own words could repeat the content
	}
	return nil
}

// Fault is what is wrong with an export, and where first.
type Fault struct {
	Kind Kind
	Seq  uint64 // the first entry that is concerned; 0: no one entry
	Line int    // of the file, from 1; 0: no line

	// Detail says more, for people.
	Detail string
}

// Kind is a kind of fault.
type Kind string

// The kinds.
const (
	Unreadable Kind = "unreadable" // the file cannot be read, or is no export
	Unsigned   Kind = "unsigned"   // a signature is wrong, or not of the key asked for
	Changed    Kind = "changed"    // the entry is not what was chained
	Dropped    Kind = "dropped"    // the entry is missing
	Reordered  Kind = "reordered"  // the entry stands elsewhere in the file
	Inserted   Kind = "inserted"   // something stands before the entry that was not chained there
	Rewritten  Kind = "rewritten"  // entries were changed and chained anew: they contradict a signed head
	Older      Kind = "older"      // a kept head is of an entry that the export does not reach
	Foreign    Kind = "foreign"    // a kept head is of another chain
)

// Error implements error.
func (f *Fault) Error() string {
	text := string(f.Kind)
	if f.Seq != 0 {
		text = fmt.Sprintf("entry %d: %s", f.Seq, f.Kind)
	}
	if f.Line != 0 {
		text = fmt.Sprintf("line %d: %s", f.Line, text)
	}
	return text + ": " + f.Detail
}

// Options are what a verifier knows besides the export.
type Options struct {
	// Key is whose signature is believed, learned elsewhere; zero: the one that the export
	// itself names, which shows only that the export agrees with itself.
	Key Key

	// Kept are signed heads that were kept elsewhere.
	Kept []string
}

// Report is what an export that holds was found to be.
type Report struct {
	Key  Key
	Head Head
	Cut  Head // zero: nothing was cut off

	Entries     uint64
	First, Last time.Time // of the entries' own; zero where there are none

	// Before counts the kept heads of entries that were cut off: nothing is known of them.
	Before int
}

// maxLine bounds a line, in bytes. Entries are ten times shorter.
const maxLine = 64 << 10

// Verify reads an export to its end. The error is a *[Fault] that names the first entry
// that was changed, dropped, inserted or put elsewhere.
func Verify(r io.Reader, o Options) (Report, error) {
	v := verification{lines: bufio.NewReaderSize(r, maxLine)}
	if err := v.open(o); err != nil {
		return v.Report, err
	}
	kept, err := v.kept(o.Kept)
	if err != nil {
		return v.Report, err
	}
	for v.seq < v.Head.Seq {
		if err := v.step(); err != nil {
			return v.Report, err
		}
		for len(kept) > 0 && kept[0].Seq == v.seq {
			if kept[0].Hash != v.hash {
				return v.Report, v.fault(Rewritten, v.seq, "a head that was kept says otherwise: this entry or one before it was changed after the head was given out")
			}
			kept = kept[1:]
		}
	}
	if _, err := v.next(); !errors.Is(err, io.EOF) {
		return v.Report, &Fault{Kind: Inserted, Seq: v.seq + 1, Line: v.line, Detail: "it stands after the entry with which the signed head ends"}
	}
	if v.hash != v.Head.Hash {
		return v.Report, &Fault{Kind: Rewritten, Detail: fmt.Sprintf("the entries %d to %d hold together, and do not end with the signed head: one of them was changed, and what follows chained anew", v.Cut.Seq+1, v.Head.Seq)}
	}
	return v.Report, nil
}

// verification is one run of Verify.
type verification struct {
	Report
	lines *bufio.Reader
	line  int

	seq  uint64 // of the last entry that holds
	hash Hash
}

func (v *verification) fault(k Kind, seq uint64, detail string) *Fault {
	return &Fault{Kind: k, Seq: seq, Line: v.line, Detail: detail}
}

// next takes a line, without its end.
func (v *verification) next() ([]byte, error) {
	v.line++
	text, err := v.lines.ReadSlice('\n')
	if len(text) > 0 && (err == nil || errors.Is(err, io.EOF)) {
		return bytes.Clone(bytes.TrimSuffix(text, []byte("\n"))), nil
	}
	return nil, err
}

func (v *verification) open(o Options) error {
	text, err := v.next()
	var first opening
	if err != nil || strictly(text, &first) != nil || first.Format != domain {
		return v.fault(Unreadable, 0, "it does not begin as an export does")
	}
	named, err := SignedBy(first.Head)
	if err != nil {
		return v.fault(Unsigned, 0, "the head is none")
	}
	v.Key = o.Key
	if v.Key == (Key{}) {
		v.Key = named
	}
	if v.Head, err = v.Key.VerifyHead(first.Head); err != nil {
		return v.fault(Unsigned, 0, "the head is not signed by this key")
	}
	v.hash = Genesis(v.Head.Chain)
	if first.Cut == "" {
		return nil
	}
	if v.Cut, err = v.Key.VerifyCut(first.Cut); err != nil {
		return v.fault(Unsigned, 0, "the cut is not signed by this key")
	}
	if v.Cut.Chain != v.Head.Chain || v.Cut.Seq > v.Head.Seq {
		return v.fault(Unsigned, 0, "the cut does not belong to the head")
	}
	v.seq, v.hash = v.Cut.Seq, v.Cut.Hash
	return nil
}

// kept reads the kept heads, in the order of their entries.
func (v *verification) kept(texts []string) ([]Head, error) {
	var heads []Head
	for _, text := range texts {
		h, err := v.Key.VerifyHead(text)
		switch {
		case err != nil:
			return nil, &Fault{Kind: Unsigned, Detail: "a head that was kept is not signed by this key"}
		case h.Chain != v.Head.Chain:
			return nil, &Fault{Kind: Foreign, Detail: "a head that was kept is of the chain " + h.Chain + ", and the export of " + v.Head.Chain}
		case h.Seq > v.Head.Seq:
			return nil, &Fault{Kind: Older, Seq: v.Head.Seq + 1, Detail: fmt.Sprintf(
				"the export ends before it, and a head of entry %d was kept: the export is older, or its end was cut off", h.Seq)}
		case h.Seq < v.Cut.Seq:
			v.Before++
		case h.Seq == v.seq && h.Hash != v.hash:
			return nil, &Fault{Kind: Rewritten, Seq: h.Seq, Detail: "what the export begins after contradicts a head that was kept"}
		case h.Seq > v.seq:
			heads = append(heads, h)
		}
	}
	slices.SortStableFunc(heads, func(a, b Head) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return heads, nil
}

// step verifies one entry.
func (v *verification) step() error {
	want := v.seq + 1
	text, err := v.next()
	if errors.Is(err, io.EOF) {
		return v.fault(Dropped, want, fmt.Sprintf("the export ends before it, and the signed head is of entry %d", v.Head.Seq))
	}
	var l line
	if err == nil {
		err = strictly(text, &l)
	}
	seq, numbered := seqOf(l.Entry)
	if err != nil || !numbered {
		return v.fault(Changed, want, "its line is not one that was exported")
	}
	if seq != want {
		return v.misplaced(want, seq)
	}
	hash := Next(v.Head.Chain, v.hash, l.Entry)
	if hash != l.Hash {
		return v.fault(Changed, want, "its hash is not that of what stands there")
	}
	v.seq, v.hash = want, hash
	v.Entries++
	v.Last = At(l.Entry)
	if v.First.IsZero() {
		v.First = v.Last
	}
	return nil
}

// misplaced finds out why another entry stands where one is due: what follows tells.
func (v *verification) misplaced(want, found uint64) *Fault {
	at := v.fault(Dropped, want, fmt.Sprintf("entry %d stands in its place", found))
	after, comes := uint64(0), false
	for i := 0; !comes; i++ {
		text, err := v.next()
		if err != nil {
			break
		}
		seq := lineSeq(text)
		if i == 0 {
			after = seq
		}
		comes = seq == want
	}
	switch {
	case comes && found < want:
		at.Kind, at.Detail = Inserted, fmt.Sprintf("entry %d stands before it once more", found)
	case comes:
		at.Kind, at.Detail = Reordered, at.Detail+", and it comes later"
	case found < want, after == want+1, after == 0 && want == v.Head.Seq:
		at.Kind = Changed
	}
	return at
}

// lineSeq is the number of a line's entry, whatever its hash; 0 for none.
func lineSeq(text []byte) uint64 {
	var l line
	if text == nil || strictly(text, &l) != nil {
		return 0
	}
	seq, _ := seqOf(l.Entry)
	return seq
}
