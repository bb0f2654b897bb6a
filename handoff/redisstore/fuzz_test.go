package redisstore

import (
	"bytes"
	"testing"

	"latchkey/handoff"
)

// An event that is read from the log is written again as it was, as far as this version knows it:
// what it writes it reads as the same.
func FuzzEvent(f *testing.F) {
	b, err := encodeEvent(&handoff.Event{
		Type: handoff.EventReleased, At: 1_763_985_600, Courier: "cou_7",
		Grant: handoff.GrantID{Hash: "0f3b2c1d4e5f60718293a4b5", Generation: 1},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:3])
	f.Fuzz(func(t *testing.T, stored []byte) {
		e, err := decodeEvent(stored)
		if err != nil {
			return
		}
		first, err := encodeEvent(&e)
		if err != nil {
			return // of an event without a grant's id this version makes none
		}
		again, err := decodeEvent(first)
		if err != nil {
			t.Fatalf("%x is written as %x, which is not read: %v", stored, first, err)
		}
		if second, err := encodeEvent(&again); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%x is written as %x, and then as %x, %v", stored, first, second, err)
		}
	})
}

// An address of Redis that is refused is not in the refusal: it may hold a password.
func FuzzAddress(f *testing.F) {
	f.Add("redis://user:s3cr3tpassword@localhost:6379/0")
	f.Add("redis://:s3cr3tpassword@[::1")
	f.Add("redis://localhost:6379?addr=s3cr3tpassword&master_name=%zz")
	f.Fuzz(func(t *testing.T, url string) {
		if _, err := parse(url); err != nil && bytes.Contains([]byte(err.Error()), []byte("s3cr3tpassword")) {
			t.Errorf("the refusal of %q says %v", url, err)
		}
	})
}
