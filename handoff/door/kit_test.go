package door

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stream is an endless, reproducible source of bytes: SHA-256 of a name and a counter.
type stream struct {
	name    string
	counter uint64
	rest    []byte
}

func (s *stream) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(s.name), s.counter))
		s.counter++
		s.rest = sum[:]
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func check[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func privateKey(name string) PrivateKey {
	k, err := NewPrivateKey(&stream{name: name})
	if err != nil {
		panic(err)
	}
	return k
}

func newSigner(name string) *Signer {
	s, err := NewSigner(&stream{name: name})
	if err != nil {
		panic(err)
	}
	return s
}

// The fixed world of the tests and of the golden vectors.
var (
	noon          = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	theGrant      = GrantRef{1, 2, 3, 4, 5, 6, 7, 8}
	theDoor       = "door_turm5-lobby"
	signer        = newSigner("signer")
	foreignSigner = newSigner("stranger")
	root          = privateKey("root")
	doorKey       = privateKey("door")
	longest64     = strings.Repeat("d", 64)
)

// station is a door with its files, as it stands in a lobby.
type station struct {
	dir        string
	trust      *Trust
	replay     *Replay
	challenges *Challenges
	verifier   *Verifier
}

func newStation(t testing.TB, id string, presence bool) *station {
	t.Helper()
	s := &station{dir: t.TempDir()}
	for _, err := range []error{CreateTrust(s.path("trust")), CreateReplay(s.path("replay"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.start(t, id, presence)
	return s
}

func (s *station) path(name string) string { return filepath.Join(s.dir, name) }

func (s *station) start(t testing.TB, id string, presence bool) {
	t.Helper()
	s.trust = check(OpenTrust(s.path("trust"), root.Public(), signer.Publish()...))(t)
	s.replay = check(OpenReplay(s.path("replay")))(t)
	t.Cleanup(func() { _, _ = s.trust.Close(), s.replay.Close() })
	if presence {
		s.challenges = NewChallenges(&stream{name: "challenges"})
	}
	s.verifier = check(NewVerifier(id, s.trust, s.replay, s.challenges))(t)
}

func (s *station) restart(t testing.TB) {
	t.Helper()
	for _, err := range []error{s.trust.Close(), s.replay.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.start(t, s.verifier.door, s.challenges != nil)
}

func newPermit(t testing.TB, name, door string, challenge []byte, now time.Time) Permit {
	t.Helper()
	return check(NewPermit(&stream{name: name}, door, theGrant, challenge, now))(t)
}

func signed(t testing.TB, s *Signer, p Permit) []byte {
	t.Helper()
	return check(s.Permit(p))(t)
}

// wants fails unless err names exactly this refusal; 0 stands for none.
func wants(t testing.TB, err error, want Refusal) {
	t.Helper()
	if want == 0 {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	var got Refusal
	if !errors.As(err, &got) || got != want {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func flip(raw []byte, bit int) []byte {
	b := bytes.Clone(raw)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}
