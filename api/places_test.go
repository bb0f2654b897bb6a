package api

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// The places for bulk requests end for all shops together too, and what was left is free.
func TestBulkPlaces(t *testing.T) {
	b := bulks{of: map[string]int{}}
	for n := range bulksAtOnce {
		if shop := fmt.Sprint("shop", n/bulksOfShop); !b.enter(shop) {
			t.Fatalf("no place for request %d", n)
		}
	}
	if !b.enter("shop9") {
		t.Error("four shops keep a fifth one out")
	}
	if b.enter("shop9") {
		t.Error("more than there are places")
	}
	b.leave("shop0")
	b.leave("shop0")
	if !b.enter("shop9") {
		t.Error("a place that was left is not free")
	}
	for n := range bulksAtOnce - 2 {
		b.leave(fmt.Sprint("shop", (n+2)/bulksOfShop))
	}
	b.leave("shop9")
	if b.leave("shop9"); b.total != 0 || len(b.of) != 0 {
		t.Errorf("all left, and %d stay: %v", b.total, b.of)
	}
}

// deadlines is a connection that keeps its newest deadline of a read.
type deadlines struct {
	net.Conn
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { return nil }

// drip gives so many bytes a read, each read taking a while.
type drip struct {
	bytes int
	takes time.Duration
	clock *time.Time
}

func (d *drip) Read(b []byte) (int, error) {
	*d.clock = d.clock.Add(d.takes)
	return d.bytes, nil
}

// A body that trickles keeps its place for 30 seconds, however often a byte comes; one that gets
// on is waited for without end, and what the service takes for a line is not the sender's.
func TestBulkPlacesAreForWhatGetsOn(t *testing.T) {
	for name, c := range map[string]struct {
		bytes    int
		takes    time.Duration
		left     time.Duration // for the read after these
		lineTook time.Duration
	}{
		"a byte every nine seconds":     {1, 9 * time.Second, 3 * time.Second, 0},
		"1 KiB every nine seconds":      {1 << 10, 9 * time.Second, lineTimeout - 3*9*time.Second, 0},
		"2 KiB every nine seconds":      {2 << 10, 9 * time.Second, lineTimeout - 9*time.Second, 0},
		"4 KiB every twenty seconds":    {4 << 10, 20 * time.Second, lineTimeout, 0},
		"nothing kept waiting, no data": {1, 0, lineTimeout, time.Minute},
	} {
		at := time.Unix(1_800_000_000, 0)
		conn := &deadlines{}
		p := &pacedReader{body: &drip{c.bytes, c.takes, &at}, conn: conn, write: time.Second, now: func() time.Time { return at }}
		for range 3 {
			if _, err := p.Read(nil); err != nil {
				t.Fatal(err)
			}
			at = at.Add(c.lineTook)
		}
		asked := at
		if _, err := p.Read(nil); err != nil {
			t.Fatal(err)
		}
		if got := conn.read.Sub(asked); got != c.left {
			t.Errorf("%s: the fourth read may take %v, want %v", name, got, c.left)
		}
	}
}
