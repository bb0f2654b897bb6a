//go:build chaos

package main

import (
	"bytes"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/redisstore/redistest"
)

var chaosSoak = flag.Duration("chaos.soak", 0, "how long TestChaosSoak loads two instances, such as 1h; 0: not at all")

// TestChaosSoak loads two instances for long and samples what they and Redis take up. It fails where
// a line through the samples rises by more than a bound, and where anything acknowledged is not so:
//
//	go test -tags chaos ./cmd/latchkey -run TestChaosSoak -v -timeout 2h -chaos.soak 1h
//
// Redis keeps every parcel and what happened to it for the retention, so its memory is held against
// the number of parcels, and all else against the time.
func TestChaosSoak(t *testing.T) {
	if *chaosSoak == 0 {
		t.Skip("a soak takes long: ask for it by -chaos.soak 1h")
	}
	if *chaosSoak < 2*time.Minute {
		t.Fatalf("%v is too short for a line through samples after the warm-up: 2m at least", *chaosSoak)
	}
	s := scenario{
		name: "soak", instances: 2,
		pace: max(200*time.Millisecond, *chaosSoak/3600), // the checker keeps every mail
		redis: single(func(c *checker, r *redistest.Server) {
			c.soak(r)
		}),
	}
	v := play(t, s)
	t.Logf("\n%s", v.row(s))
}

// reading is what is taken up at a moment: by both instances together, and by Redis.
type reading struct {
	after                           time.Duration
	parcels                         int
	memory, goroutines, descriptors float64
	redis, clients                  float64 // Redis's memory in bytes, and its connections
}

// held are the bounds: by how much the line through the samples may rise from the end of the warm-up,
// a quarter of the time, to the end of the soak.
var held = []struct {
	what  string
	bound float64 // of the whole rise; of Redis's memory for each parcel
	value func(reading) float64
	per   func(reading) float64 // nil: by the time
}{
	{"memory of both instances, bytes", 64 * mebibyte, func(s reading) float64 { return s.memory }, nil},
	{"goroutines of both", 40, func(s reading) float64 { return s.goroutines }, nil},
	{"descriptors of both", 40, func(s reading) float64 { return s.descriptors }, nil},
	{"connections of Redis", 20, func(s reading) float64 { return s.clients }, nil},
	{"Redis's memory for each parcel, bytes", 8 << 10, func(s reading) float64 { return s.redis }, func(s reading) float64 { return float64(s.parcels) }},
}

// soak samples until the time is over.
func (c *checker) soak(r *redistest.Server) {
	every := min(time.Minute, *chaosSoak/20)
	info := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer info.Close()
	figure := func(section, name string) float64 {
		text, err := info.Info(c.t.Context(), section).Result()
		if err != nil {
			c.t.Fatal(err)
		}
		_, after, _ := strings.Cut(text, "\n"+name+":")
		value, _, _ := strings.Cut(after, "\r")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			c.t.Fatal(err)
		}
		return v
	}
	var samples []reading
	began := time.Now()
	for time.Since(began) < *chaosSoak {
		time.Sleep(every)
		room := c.room()
		s := reading{
			after: time.Since(began).Round(time.Second), memory: room.memory, goroutines: room.goroutines, descriptors: room.descriptors,
			redis: figure("memory", "used_memory"), clients: figure("clients", "connected_clients"),
		}
		c.mu.Lock()
		s.parcels = len(c.lives)
		c.mu.Unlock()
		samples = append(samples, s)
	}
	c.t.Logf("\n%s", tableOf(samples))
	c.saw("%d samples in %v", len(samples), *chaosSoak)
	warm := samples[len(samples)/4:]
	for _, h := range held {
		x := h.per
		if x == nil {
			x = func(s reading) float64 { return s.after.Seconds() }
		}
		rise := slope(warm, x, h.value)
		if h.per == nil {
			rise *= x(warm[len(warm)-1]) - x(warm[0])
		}
		c.note("%s: %+.0f (bound %.0f)", h.what, rise, h.bound)
		if rise > h.bound {
			c.t.Errorf("%s: rises by %.0f, and may by %.0f", h.what, rise, h.bound)
		}
	}
}

// slope is that of the line through the samples with the least squares.
func slope(samples []reading, x, y func(reading) float64) float64 {
	var meanX, meanY, both, square float64
	for _, s := range samples {
		meanX += x(s) / float64(len(samples))
		meanY += y(s) / float64(len(samples))
	}
	for _, s := range samples {
		both += (x(s) - meanX) * (y(s) - meanY)
		square += (x(s) - meanX) * (x(s) - meanX)
	}
	return both / square
}

func tableOf(samples []reading) string {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| after\t| parcels\t| memory of both\t| goroutines\t| descriptors\t| Redis's memory\t| its connections\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, s := range samples {
		fmt.Fprintf(w, "| %v\t| %d\t| %.1f MiB\t| %.0f\t| %.0f\t| %.1f MiB\t| %.0f\t|\n", s.after, s.parcels, s.memory/mebibyte, s.goroutines, s.descriptors, s.redis/mebibyte, s.clients)
	}
	_ = w.Flush()
	return table.String()
}

// The line through samples rises as they do.
func TestSlope(t *testing.T) {
	var samples []reading
	for n := range 10 {
		samples = append(samples, reading{parcels: n, memory: 3*float64(n) + 7, goroutines: 5})
	}
	parcels := func(s reading) float64 { return float64(s.parcels) }
	if got := slope(samples, parcels, func(s reading) float64 { return s.memory }); got < 2.999 || got > 3.001 {
		t.Errorf("%v, want 3", got)
	}
	if got := slope(samples, parcels, func(s reading) float64 { return s.goroutines }); got != 0 {
		t.Errorf("%v, want 0", got)
	}
}
