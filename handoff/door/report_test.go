package door

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

var reports = []Report{
	{theDoor, 1, noon, Delivered, PermitID{1}, 0},
	{theDoor, 2, noon, Confirmed, PermitID{1}, 0},
	{theDoor, 3, noon, Opened, PermitID{1}, 0},
	{theDoor, 4, noon, Relocked, PermitID{1}, 0},
	{theDoor, 5, noon, Failed, PermitID{2}, 0},
	{theDoor, 6, noon, Forced, PermitID{}, 0},
	{theDoor, 7, noon, HeldOpen, PermitID{1}, 0},
	{theDoor, 8, noon, HeldOpen, PermitID{}, 0},
	{theDoor, 9, noon, Tamper, PermitID{}, 0},
	{theDoor, 10, noon, Refused, PermitID{}, Malformed},
	{theDoor, math.MaxInt64, noon, Refused, PermitID{3}, OldList},
	{theDoor, 12, noon, NoAnswer, PermitID{4}, 0},
	{theDoor, 13, noon, Jammed, PermitID{}, 0},
	{theDoor, 14, noon, BatteryLow, PermitID{}, 0},
	{theDoor, 15, noon, Unavailable, PermitID{}, 0},
}

func TestReport(t *testing.T) {
	v := ReportVerifier{Door: theDoor, Key: doorKey.Public()}
	for _, r := range reports {
		raw := check(r.Sign(doorKey))(t)
		if got := check(v.Verify(raw))(t); got != r {
			t.Errorf("%+v, want %+v", got, r)
		}
		if len(raw) > maxReport || len(raw)+outboxRecord > outboxSlot-slotFrame {
			t.Errorf("%d bytes", len(raw))
		}
	}
	raw := check(reports[2].Sign(doorKey))(t)
	for bit := range len(raw) * 8 {
		if _, err := v.Verify(flip(raw, bit)); err == nil {
			t.Errorf("bit %d does not matter", bit)
		}
	}
}

func TestReportRejections(t *testing.T) {
	v := ReportVerifier{Door: theDoor, Key: doorKey.Public()}
	verify := func(raw []byte) error {
		_, err := v.Verify(raw)
		return err
	}
	opened := reports[2]
	wants(t, verify(check(opened.Sign(privateKey("another door's")))(t)), UnknownKey)
	other := opened
	other.Door = "door_other"
	wants(t, verify(check(other.Sign(doorKey))(t)), BadSignature)
	wants(t, verify(append(check(opened.Sign(doorKey))(t), 0)), Malformed)
	wants(t, verify(nil), Malformed)
	wants(t, verify(make([]byte, 1<<20)), Malformed)
	if _, err := (ReportVerifier{Door: theDoor}).Verify(check(opened.Sign(doorKey))(t)); !errors.Is(err, UnknownKey) {
		t.Errorf("a door without a key: %v", err)
	}
	null := check(encMode.Marshal(&reportClaims{IssuedAt: 1, Own: reportOwn{Seq: 1, State: Forced}}))(t)
	null[len(null)-2] = 0xf6 // the permit id: null instead of no bytes
	wants(t, verify(check(sign(doorKey, cbor.RawMessage(null), bound(reportPurpose, theDoor)))(t)), Malformed)
	for name, own := range map[string]reportOwn{
		"no number":                {State: Tamper},
		"a number beyond int64":    {Seq: 1 << 63, State: Tamper},
		"no state":                 {Seq: 1, State: 0},
		"an unknown state":         {Seq: 1, State: 14},
		"opened by no permit":      {Seq: 1, State: Opened},
		"forced by a permit":       {Seq: 1, State: Forced, Permit: make([]byte, 16)},
		"no answer to no permit":   {Seq: 1, State: NoAnswer},
		"jammed by a permit":       {Seq: 1, State: Jammed, Permit: make([]byte, 16)},
		"low by a permit":          {Seq: 1, State: BatteryLow, Permit: append(make([]byte, 15), 1)},
		"unavailable by a permit":  {Seq: 1, State: Unavailable, Permit: append(make([]byte, 15), 1)},
		"a permit id of zeros":     {Seq: 1, State: Opened, Permit: make([]byte, 16)},
		"a short permit id":        {Seq: 1, State: Opened, Permit: make([]byte, 15)},
		"refused for no reason":    {Seq: 1, State: Refused},
		"refused for a new reason": {Seq: 1, State: Refused, Refusal: 18},
		"opened for a reason":      {Seq: 1, State: HeldOpen, Refusal: Expired},
	} {
		raw := check(sign(doorKey, &reportClaims{IssuedAt: uint32(noon.Unix()), Own: own}, bound(reportPurpose, theDoor)))(t)
		t.Run(name, func(t *testing.T) { wants(t, verify(raw), Malformed) })
	}
}

func openOutbox(t testing.TB, path string) *Outbox {
	t.Helper()
	o := check(OpenOutbox(path, theDoor, doorKey))(t)
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func seqs(o *Outbox) string {
	var all []uint64
	for _, p := range o.Pending(math.MaxInt) {
		all = append(all, p.Seq)
	}
	return fmt.Sprint(all)
}

func TestOutbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	if err := CreateOutbox(path); err != nil {
		t.Fatal(err)
	}
	o := openOutbox(t, path)
	v := ReportVerifier{Door: theDoor, Key: doorKey.Public()}
	for i, state := range []State{Delivered, Confirmed, Opened, Relocked} {
		r := check(o.Add(state, PermitID{7}, 0, noon.Add(time.Duration(i)*time.Second+time.Millisecond)))(t)
		if got := check(v.Verify(o.Pending(10)[i].Raw))(t); got != r || got.Seq != uint64(i+1) {
			t.Errorf("%+v", got)
		}
	}
	if err := o.Done(2); err != nil || seqs(o) != "[3 4]" {
		t.Errorf("%v %s", err, seqs(o))
	}
	_ = o.Close()
	o = openOutbox(t, path)
	if seqs(o) != "[3 4]" || len(o.Pending(1)) != 1 {
		t.Errorf("after a restart %s", seqs(o))
	}
	if err := o.Done(1 << 40); err != nil || seqs(o) != "[]" { // more than there ever was
		t.Errorf("%v %s", err, seqs(o))
	}
	_ = o.Close()
	o = openOutbox(t, path)
	if r := check(o.Add(Tamper, PermitID{}, 0, noon))(t); r.Seq != 5 {
		t.Errorf("number %d was given before", r.Seq)
	}
	if _, err := o.Add(Opened, PermitID{}, 0, noon); err == nil || seqs(o) != "[5]" {
		t.Errorf("took a report that says nothing: %v", err)
	}
	if err := o.Done(0); err != nil || seqs(o) != "[5]" {
		t.Errorf("%v %s", err, seqs(o))
	}
}

// A power cut at any byte: a report that was acknowledged to the caller is there, and
// no number is ever given to two reports that could have been sent.
func TestOutboxTornAtEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	if err := CreateOutbox(path); err != nil {
		t.Fatal(err)
	}
	o := openOutbox(t, path)
	for range 3 {
		check(o.Add(Tamper, PermitID{}, 0, noon))(t)
	}
	if err := o.Done(1); err != nil {
		t.Fatal(err)
	}
	whole := check(os.ReadFile(path))(t)
	for n := magicSize; n <= len(whole); n++ {
		torn := filepath.Join(t.TempDir(), "outbox")
		if err := os.WriteFile(torn, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		o := openOutbox(t, torn)
		want := []string{"[]", "[1]", "[1 2]", "[1 2 3]", "[2 3]"}[(n-magicSize)/outboxSlot]
		if got := seqs(o); got != want {
			t.Fatalf("%d bytes: %s, want %s", n, got, want)
		}
		last := o.last
		if r := check(o.Add(Tamper, PermitID{}, 0, noon))(t); r.Seq != last+1 {
			t.Fatalf("%d bytes: number %d after %d", n, r.Seq, last)
		}
		_ = o.Close()
	}
}

func TestOutboxIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	if err := CreateOutbox(path); err != nil {
		t.Fatal(err)
	}
	o := openOutbox(t, path)
	o.file.sync = func(*os.File) error { return nil } // ten thousand real ones take a while
	for range maxRefusals {
		check(o.Add(Refused, PermitID{}, BadSignature, noon))(t)
	}
	if _, err := o.Add(Refused, PermitID{}, BadSignature, noon); !errors.Is(err, ErrOutboxFull) {
		t.Errorf("refusals may push openings out: %v", err)
	}
	for range maxPending {
		check(o.Add(Opened, PermitID{1}, 0, noon))(t)
	}
	all := o.Pending(math.MaxInt)
	if len(all) != maxPending || all[0].Seq != maxRefusals+1 || all[maxPending-1].Seq != maxRefusals+maxPending {
		t.Errorf("%d reports from %d", len(all), all[0].Seq)
	}
	if info := check(os.Stat(path))(t); info.Size() > magicSize+outboxSlot*(2*maxPending+outboxSlack+1) {
		t.Errorf("%d bytes", info.Size())
	}
	_ = o.Close()
	o = openOutbox(t, path)
	if again := o.Pending(math.MaxInt); len(again) != maxPending || again[0].Seq != all[0].Seq {
		t.Errorf("after a restart %d reports from %d", len(again), again[0].Seq)
	}
	if err := o.Done(all[maxPending-1].Seq); err != nil {
		t.Fatal(err)
	}
	if o.file.slots > outboxSlack {
		t.Errorf("%d slots for no report", o.file.slots)
	}
	_ = o.Close()
	if o = openOutbox(t, path); o.last != all[maxPending-1].Seq || seqs(o) != "[]" {
		t.Errorf("the numbers began anew at %d", o.last)
	}
}

func TestOutboxFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	if _, err := OpenOutbox(path, theDoor, doorKey); err == nil {
		t.Error("opened without a file")
	}
	if err := CreateOutbox(path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenOutbox(path, theDoor, PrivateKey{}); err == nil {
		t.Error("opened without a key")
	}
	o := openOutbox(t, path)
	d := disk{fails: errors.New("input/output error")}
	o.file.sync = d.sync
	if _, err := o.Add(Tamper, PermitID{}, 0, noon); !errors.Is(err, d.fails) || seqs(o) != "[]" {
		t.Errorf("%v, %s", err, seqs(o))
	}
}
