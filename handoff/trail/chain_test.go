package trail_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"latchkey/handoff/trail"
)

type entry struct {
	Seq  uint64 `json:"seq"`
	At   int64  `json:"at"`
	What string `json:"what"`
	Door string `json:"door,omitempty"`
}

func signer(t testing.TB, seed string) trail.Signer {
	t.Helper()
	sum := sha256.Sum256([]byte(seed))
	s, err := trail.NewSigner(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sample is a chain of n entries, its opening not included.
func sample(t testing.TB, name string, n int) *trail.Builder {
	t.Helper()
	b := trail.Build(name, 0, trail.Genesis(name))
	for i := range n {
		if err := b.Add(entry{Seq: b.Next(), At: 1795514400 + int64(i), What: "door_opened", Door: "lobby\u00e4 <1>"}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// head signs the end of the first n entries.
func head(t testing.TB, s trail.Signer, name string, n int) string {
	t.Helper()
	text, err := s.Head(sample(t, name, n).Head(1795520000))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// export is the entries after cut of a chain of n.
func export(t testing.TB, s trail.Signer, name string, cut, n int) []string {
	t.Helper()
	signed := ""
	if cut > 0 {
		var err error
		if signed, err = s.Cut(sample(t, name, cut).Head(1795519000)); err != nil {
			t.Fatal(err)
		}
	}
	first, err := trail.Opening(signed, head(t, s, name, n))
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{string(first)}
	for _, l := range sample(t, name, n).Links()[cut:] {
		text, err := l.Line()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	return lines
}

func verify(lines []string, o trail.Options) (trail.Report, error) {
	return trail.Verify(strings.NewReader(strings.Join(lines, "")), o)
}

func faultOf(t testing.TB, err error) trail.Fault {
	t.Helper()
	var f *trail.Fault
	if !errors.As(err, &f) {
		t.Fatalf("error %v, want a fault", err)
	}
	return *f
}

const house = "building:bld_turm5"

func TestWhatHolds(t *testing.T) {
	s := signer(t, "a")
	for _, c := range []struct{ cut, n int }{{0, 0}, {0, 1}, {0, 9}, {4, 9}, {9, 9}} {
		r, err := verify(export(t, s, house, c.cut, c.n), trail.Options{Key: s.Key(), Kept: []string{head(t, s, house, c.n)}})
		if err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if r.Entries != uint64(c.n-c.cut) || r.Head.Seq != uint64(c.n) || r.Cut.Seq != uint64(c.cut) || r.Key != s.Key() {
			t.Errorf("%+v: %+v", c, r)
		}
		if c.n > c.cut && (r.First.Unix() != 1795514400+int64(c.cut) || r.Last.Unix() != 1795514400+int64(c.n)-1) {
			t.Errorf("%+v: from %s to %s", c, r.First, r.Last)
		}
	}
}

// The definition, by hand and with nothing of the package but its input.
func TestByHand(t *testing.T) {
	s := signer(t, "a")
	lines := export(t, s, house, 0, 2)
	hash := sha256.Sum256([]byte("latchkey/chain/v1\x00" + house))
	for _, text := range lines[1:] {
		var l struct {
			Entry json.RawMessage `json:"entry"`
			Hash  string          `json:"hash"`
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		hash = sha256.Sum256(slices.Concat([]byte("latchkey/chain/v1\x00"+house+"\x00"), hash[:], l.Entry))
		if got := base64.RawURLEncoding.EncodeToString(hash[:]); got != l.Hash {
			t.Errorf("hash %s, by hand %s", l.Hash, got)
		}
	}
	var first struct {
		Head string `json:"head"`
	}
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(first.Head, ".")
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	want := fmt.Sprintf(`{"at":1795520000,"chain":"%s","hash":"%s","seq":2}`, house, base64.RawURLEncoding.EncodeToString(hash[:]))
	if string(payload) != want {
		t.Errorf("the head says %s, want %s", payload, want)
	}
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	key := s.Key()
	if !ed25519.Verify(key[:], []byte(parts[0]+"."+parts[1]), signature) {
		t.Error("the head's signature is no JWS's")
	}
	if len(first.Head) > 400 {
		t.Errorf("a head of %d characters is none to keep", len(first.Head))
	}
}

func TestWhatWasDoneToLines(t *testing.T) {
	s := signer(t, "a")
	const n = 9
	for _, cut := range []int{0, 3} {
		for i := 1; i <= n-cut; i++ {
			seq := uint64(cut + i)
			do := func(what string, want trail.Kind, wantSeq uint64, change func([]string) []string) {
				t.Helper()
				_, err := verify(change(export(t, s, house, cut, n)), trail.Options{Key: s.Key()})
				if err == nil {
					t.Fatalf("%s %d: not found", what, seq)
				}
				if f := faultOf(t, err); f.Kind != want || f.Seq != wantSeq {
					t.Errorf("%s %d: %v, want %s of %d", what, seq, &f, want, wantSeq)
				}
			}
			do("drop", trail.Dropped, seq, func(l []string) []string { return slices.Delete(l, i, i+1) })
			inserted := seq + 1
			do("double", trail.Inserted, inserted, func(l []string) []string { return slices.Insert(l, i, l[i]) })
			do("cut off from", trail.Dropped, seq, func(l []string) []string { return l[:i] })
			do("splice", trail.Changed, seq, func(l []string) []string {
				l[i] = export(t, s, "building:other", 0, n)[seq]
				return l
			})
			for j := i + 1; j <= n-cut; j++ {
				do(fmt.Sprintf("swap with %d", cut+j), trail.Reordered, seq, func(l []string) []string {
					l[i], l[j] = l[j], l[i]
					return l
				})
			}
		}
		lines := export(t, s, house, cut, n)
		for _, more := range []string{"\n", "x", lines[1], "{}\n"} {
			_, err := verify(append(slices.Clone(lines), more), trail.Options{Key: s.Key()})
			if f := faultOf(t, err); f.Kind != trail.Inserted || f.Seq != n+1 {
				t.Errorf("%q at the end: %v", more, &f)
			}
		}
	}
}

func TestEveryByte(t *testing.T) {
	s := signer(t, "a")
	for _, cut := range []int{0, 2} {
		lines := export(t, s, house, cut, 5)
		whole := []byte(strings.Join(lines, ""))
		start := 0
		for i, text := range lines {
			want := uint64(0)
			if i > 0 {
				want = uint64(cut + i)
			}
			for at := start; at < start+len(text); at++ {
				for _, flip := range []byte{1, 7, 32, 128} {
					b := bytes.Clone(whole)
					b[at] ^= flip
					_, err := trail.Verify(bytes.NewReader(b), trail.Options{Key: s.Key()})
					if err == nil {
						t.Fatalf("byte %d of line %d, %q to %q: not found", at-start, i+1, whole[at], b[at])
					}
					if f := faultOf(t, err); f.Seq != want {
						t.Errorf("byte %d of line %d, %q to %q: %v, want entry %d", at-start, i+1, whole[at], b[at], &f, want)
					}
				}
				if at == start+len(text)-1 {
					continue // all of the line but its feed: then the next one is missing, or none
				}
				_, err := trail.Verify(bytes.NewReader(whole[:at]), trail.Options{Key: s.Key()})
				if err == nil {
					t.Fatalf("cut off at byte %d of line %d: not found", at-start, i+1)
				}
				if f := faultOf(t, err); i > 0 && f.Seq != want {
					t.Errorf("cut off at byte %d of line %d: %v, want entry %d", at-start, i+1, &f, want)
				}
			}
			start += len(text)
		}
	}
}

// Whoever holds no key can chain anew, and never signs the end; whoever holds it can,
// and contradicts what was given out.
func TestRewritten(t *testing.T) {
	s := signer(t, "a")
	lines := export(t, s, house, 0, 5)
	forged := trail.Build(house, 0, trail.Genesis(house))
	for i := range 5 {
		what := "door_opened"
		if i == 2 {
			what = "door_refused"
		}
		if err := forged.Add(entry{Seq: forged.Next(), At: 1795514400 + int64(i), What: what, Door: "lobby\u00e4 <1>"}); err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range forged.Links() {
		text, err := l.Line()
		if err != nil {
			t.Fatal(err)
		}
		lines[i+1] = string(text)
	}
	_, err := verify(lines, trail.Options{Key: s.Key()})
	if f := faultOf(t, err); f.Kind != trail.Rewritten {
		t.Errorf("chained anew: %v", &f)
	}

	signed, err := s.Head(forged.Head(1795520000))
	if err != nil {
		t.Fatal(err)
	}
	first, err := trail.Opening("", signed)
	if err != nil {
		t.Fatal(err)
	}
	lines[0] = string(first)
	if _, err := verify(lines, trail.Options{Key: s.Key()}); err != nil {
		t.Errorf("signed anew by the key itself: %v", err)
	}
	if _, err := verify(lines, trail.Options{Key: s.Key(), Kept: []string{head(t, s, house, 2)}}); err != nil {
		t.Errorf("a head of what was not changed: %v", err)
	}
	_, err = verify(lines, trail.Options{Key: s.Key(), Kept: []string{head(t, s, house, 4), head(t, s, house, 2), head(t, s, house, 3)}})
	if f := faultOf(t, err); f.Kind != trail.Rewritten || f.Seq != 3 {
		t.Errorf("a head of what was changed: %v", &f)
	}
}

func TestKeptHeads(t *testing.T) {
	s := signer(t, "a")
	cutHead := func(n int) string {
		text, err := s.Cut(sample(t, house, n).Head(1))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	wrapped := head(t, s, house, 4)
	wrapped = wrapped[:76] + "\r\n " + wrapped[76:] + "\n"
	for _, c := range []struct {
		what   string
		cut    int
		kept   string
		want   trail.Kind
		before int
	}{
		{"of an entry", 0, head(t, s, house, 4), "", 0},
		{"broken over lines", 0, wrapped, "", 0},
		{"of the beginning", 0, head(t, s, house, 0), "", 0},
		{"of the cut", 3, head(t, s, house, 3), "", 0},
		{"of what was cut off", 3, head(t, s, house, 2), "", 1},
		{"of what is to come", 0, head(t, s, house, 6), trail.Older, 0},
		{"of another building", 0, head(t, s, "building:other", 4), trail.Foreign, 0},
		{"of another key", 0, head(t, signer(t, "b"), house, 4), trail.Unsigned, 0},
		{"that is a cut", 0, cutHead(4), trail.Unsigned, 0},
		{"that is nothing", 0, "x.y.z", trail.Unsigned, 0},
		{"that is empty", 0, "", trail.Unsigned, 0},
	} {
		r, err := verify(export(t, s, house, c.cut, 5), trail.Options{Key: s.Key(), Kept: []string{c.kept}})
		switch {
		case c.want == "" && (err != nil || r.Before != c.before):
			t.Errorf("a head %s: %v, %d before", c.what, err, r.Before)
		case c.want != "" && err == nil:
			t.Errorf("a head %s: accepted", c.what)
		case c.want != "" && faultOf(t, err).Kind != c.want:
			t.Errorf("a head %s: %v, want %s", c.what, err, c.want)
		}
	}
}

func TestSignatures(t *testing.T) {
	s, other := signer(t, "a"), signer(t, "b")
	if _, err := verify(export(t, other, house, 0, 3), trail.Options{Key: s.Key()}); err == nil || faultOf(t, err).Kind != trail.Unsigned {
		t.Errorf("another key's export: %v", err)
	}
	if r, err := verify(export(t, other, house, 0, 3), trail.Options{}); err != nil || r.Key != other.Key() {
		t.Errorf("with no key asked for: %v, %v", r.Key, err)
	}
	// A head that was given out is no cut: else anyone could leave the beginning out.
	lines := export(t, s, house, 0, 5)
	first, err := trail.Opening(head(t, s, house, 2), head(t, s, house, 5))
	if err != nil {
		t.Fatal(err)
	}
	_, err = verify(append([]string{string(first)}, lines[3:]...), trail.Options{Key: s.Key()})
	if f := faultOf(t, err); f.Kind != trail.Unsigned {
		t.Errorf("a head as a cut: %v", &f)
	}
	if text := fmt.Sprintf("%v %+v %s", s, s, s); strings.Trim(text, "* ") != "" {
		t.Errorf("a signer prints as %s", text)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{house, "log:0f"} {
		if trail.CheckName(name) != nil {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", "building:", "bld", "building:a b", "building:a}:x", "Building:a"} {
		if trail.CheckName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	b := trail.Build(house, 0, trail.Genesis(house))
	if b.Add(entry{Seq: 2}) == nil || b.Add(struct{}{}) == nil {
		t.Error("an entry out of its turn was added")
	}
}

// Whatever is verified holds what was signed, and nothing makes the verifier fall over.
func FuzzVerify(f *testing.F) {
	s := signer(f, "a")
	for _, cut := range []int{0, 2} {
		f.Add([]byte(strings.Join(export(f, s, house, cut, 5), "")))
	}
	f.Add([]byte("{}\n"))
	whole := map[string]bool{}
	for _, cut := range []int{0, 2} {
		whole[strings.TrimSuffix(strings.Join(export(f, s, house, cut, 5), ""), "\n")] = true
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := trail.Verify(bytes.NewReader(raw), trail.Options{Key: s.Key(), Kept: []string{head(t, s, house, 3)}})
		var fault *trail.Fault
		if err != nil && !errors.As(err, &fault) {
			t.Errorf("an error that is no fault: %v", err)
		}
		if err == nil && !whole[strings.TrimSuffix(string(raw), "\n")] {
			t.Errorf("accepted %q", raw)
		}
	})
}
