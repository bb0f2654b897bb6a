package redisstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// shut is a Sealer that opens nothing.
type shut struct{ open }

var errShut = errors.New("the sealer says why")

func (shut) Open(_, _ []byte) ([]byte, error) { return nil, errShut }

// A stored value that cannot be read is told by its kind and the step that failed, with the
// cause; never by its key or content. What was opened and cannot be decoded is no tampering.
func TestErrorsOfStoredValues(t *testing.T) {
	const id = "secret-id"
	hash := handoff.ParcelHash(strings.Repeat("0a", 12))
	version := versionBytes(service.Version(1))
	kinds := []struct {
		kind string
		head []byte // before what is sealed
		put  func(m *miniredis.Miniredis, value string)
		get  func(ctx context.Context, s *Store) error
		raw  bool // what is sealed is no CBOR
	}{
		{
			kind: "grant", head: version,
			put: func(m *miniredis.Miniredis, v string) { _ = m.Set(grantKey(hash), v) },
			get: func(ctx context.Context, s *Store) error {
				_, err := s.Load(ctx, service.Query{Parcel: hash})
				return err
			},
		},
		{
			kind: "grant", head: version,
			put: func(m *miniredis.Miniredis, v string) { _ = m.Set(grantKey(hash), v) },
			get: func(ctx context.Context, s *Store) error {
				_, err := s.Many(ctx, []handoff.ParcelHash{hash})
				return err
			},
		},
		{
			kind: "building",
			put:  func(m *miniredis.Miniredis, v string) { _ = m.Set(buildingKey(id), v) },
			get:  func(ctx context.Context, s *Store) error { _, err := s.Building(ctx, id); return err },
		},
		{
			kind: "door",
			put:  func(m *miniredis.Miniredis, v string) { _ = m.Set(doorKey(id), v) },
			get:  func(ctx context.Context, s *Store) error { _, err := s.Door(ctx, id); return err },
		},
		{
			kind: "building residents", head: version,
			put: func(m *miniredis.Miniredis, v string) { m.HSet(residentsKey("b"), id, v) },
			get: func(ctx context.Context, s *Store) error { _, err := s.Residents(ctx, "b"); return err },
		},
		{
			kind: "apikey",
			put:  func(m *miniredis.Miniredis, v string) { _ = m.Set(apiKeyKey(id), v) },
			get:  func(ctx context.Context, s *Store) error { _, err := s.APIKey(ctx, id); return err },
		},
		{
			kind: "session",
			put:  func(m *miniredis.Miniredis, v string) { _ = m.Set(sessionKey(identity.SessionID{1}), v) },
			get:  func(ctx context.Context, s *Store) error { _, err := s.Session(ctx, identity.SessionID{1}); return err },
		},
		{
			kind: "courier's name", raw: true,
			put: func(m *miniredis.Miniredis, v string) { m.HSet(courierKey(handofftest.Courier(id)), fieldName, v) },
			get: func(ctx context.Context, s *Store) error {
				_, err := s.Courier(ctx, handofftest.Courier(id))
				return err
			},
		},
		{
			kind: "message for a door", raw: true,
			put: func(m *miniredis.Miniredis, v string) { _, _ = m.XAdd(feedKey(id), "*", []string{"permit", v}) },
			get: func(ctx context.Context, s *Store) error { _, err := s.Receive(ctx, id, "", 5); return err },
		},
	}
	for _, k := range kinds {
		t.Run(k.kind, func(t *testing.T) {
			for what, c := range map[string]struct {
				sealer Sealer
				sealed string
				is     error
				says   string
			}{
				"cannot be opened": {shut{}, "\x01\xa0", storage.ErrSealed, k.kind + ": decryption: the sealer says why"},
				"unknown format":   {open{}, "\x07\xa0", storage.ErrFormat, k.kind + ": format 7"},
				"not CBOR":         {open{}, "\x01\xff" + id, storage.ErrFormat, k.kind + ": decoding: cbor: "},
				"another type":     {open{}, "\x01\x63" + id[:3], storage.ErrFormat, k.kind + ": decoding: cbor: "},
			} {
				if k.raw && strings.Contains(c.says, "decoding") {
					continue
				}
				m := miniredis.RunT(t)
				k.put(m, string(k.head)+c.sealed)
				s := storeWith(t, m, c.sealer)
				err := k.get(t.Context(), s)
				other := storage.ErrSealed
				if errors.Is(c.is, storage.ErrSealed) {
					other = storage.ErrFormat
				}
				if !errors.Is(err, c.is) || errors.Is(err, other) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v, want %v and %q", what, err, c.is, c.says)
				}
				if errors.Is(c.is, storage.ErrSealed) && !errors.Is(err, errShut) {
					t.Errorf("%s: the cause is lost: %v", what, err)
				}
				if strings.Contains(err.Error(), id) || strings.Contains(err.Error(), string(hash)) {
					t.Errorf("%s: %v tells an id", what, err)
				}
			}
			if k.head == nil {
				return
			}
			m := miniredis.RunT(t)
			k.put(m, "\x01")
			if err := k.get(t.Context(), storeWith(t, m, open{})); !errors.Is(err, storage.ErrSealed) || !strings.Contains(err.Error(), k.kind+": version: the value has 1 bytes") {
				t.Errorf("cut within its version: %v", err)
			}
		})
	}
}

func storeWith(t *testing.T, m *miniredis.Miniredis, sealer Sealer) *Store {
	t.Helper()
	client := dial(t, "redis://"+m.Addr())
	s, err := New(Config{Client: client, Sealer: sealer, Retention: retention})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); _ = client.Close() })
	return s
}

// What the log holds and cannot be decoded says so, too.
func TestErrorsOfTheLog(t *testing.T) {
	for what, c := range map[string]struct{ stored, says string }{
		"nothing":        {"", "log: format: the value is empty"},
		"unknown format": {"\x09" + strings.Repeat("\x00", 30), "log: format 9"},
		"cut short":      {"\x01\x00", "log: decoding: an event of 2 bytes"},
		"not CBOR":       {"\x01" + strings.Repeat("\x00", eventHead-1) + "\xff", "log: decoding: cbor: "},
	} {
		if _, err := decodeEvent([]byte(c.stored)); !errors.Is(err, storage.ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
}

// An error of Redis keeps what Redis said, and says to which command and which kind of key.
func TestErrorsKeepWhatRedisSaid(t *testing.T) {
	ctx := t.Context()
	ref := handofftest.Courier("cou_7")
	for _, c := range []struct {
		name, said string
		do         func(s *Store, change service.Change) error
		is         error
		says       string
	}{
		{"a read", "LOADING it is starting", func(s *Store, _ service.Change) error {
			_, err := s.Courier(ctx, ref)
			return err
		}, storage.ErrUnavailable, "hgetall courier: LOADING it is starting"},
		{"a write", "OOM no room", func(s *Store, _ service.Change) error {
			return s.RemoveSession(ctx, identity.SessionID{1})
		}, storage.ErrUnavailable, "del session: OOM no room"},
		{"a script", "BUSY wait", func(s *Store, _ service.Change) error {
			_, err := s.Lease(ctx, "l", "h", time.Second)
			return err
		}, storage.ErrUnavailable, "evalsha lease: BUSY wait"},
		{"a command on its own", "NOPERM not you", func(s *Store, _ service.Change) error {
			_, err := s.Read(ctx, 0, "", 1)
			return err
		}, storage.ErrUnavailable, "xrange log: NOPERM not you"},
		{"an append", "READONLY replica", func(s *Store, _ service.Change) error {
			return s.Append(ctx, 1, handoff.Event{Type: handoff.EventBuildingEnrolled, Building: "b1"})
		}, storage.ErrUnavailable, "xadd log: READONLY replica"},
		{"a limit", "ERR oops", func(s *Store, _ service.Change) error {
			_, err := s.Limit(ctx, "refused:abc", 1, time.Minute)
			return err
		}, storage.ErrUnavailable, "evalsha rate: ERR oops"},
		{"a command that Redis does not know", "ERR unknown command 'del', with args beginning with: 'lk:session:0100' ", func(s *Store, _ service.Change) error {
			return s.RemoveSession(ctx, identity.SessionID{1})
		}, storage.ErrUnavailable, "del session: ERR unknown command 'del'"},
		{"a commit that was refused", "MISCONF disk full", func(s *Store, c service.Change) error { return s.Commit(ctx, c) }, storage.ErrUnavailable, "evalsha grant: MISCONF disk full"},
		{"a commit that may have run", "ERR oops", func(s *Store, c service.Change) error { return s.Commit(ctx, c) }, storage.ErrUnknownOutcome, "evalsha grant: ERR oops"},
		{"a commit whose slot moves", "TRYAGAIN soon", func(s *Store, c service.Change) error { return s.Commit(ctx, c) }, storage.ErrConflict, "evalsha grant: TRYAGAIN soon"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := miniredis.RunT(t)
			s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
			g := handofftest.New(t, s).Dispatch(t, handofftest.Sample("JJD1"))
			snap, err := s.Load(ctx, service.Query{Parcel: g.ID.Hash})
			if err != nil {
				t.Fatal(err)
			}
			m.SetError(c.said)
			err = c.do(s, service.Change{From: snap.Version, Record: *snap.Record, Now: 1})
			var reply redis.Error
			if !errors.Is(err, c.is) || !strings.HasSuffix(err.Error(), c.says) || !errors.As(err, &reply) {
				t.Errorf("got %v, want %v and %q", err, c.is, c.says)
			}
			if strings.Contains(err.Error(), ref.ID) || strings.Contains(err.Error(), string(g.ID.Hash)) {
				t.Errorf("%v tells an id", err)
			}
		})
	}

	t.Run("no Redis", func(t *testing.T) {
		m := miniredis.RunT(t)
		s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
		m.Close()
		if _, err := s.Courier(ctx, ref); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "hgetall courier: dial tcp") {
			t.Error(err)
		}
	})
	t.Run("no time", func(t *testing.T) {
		m := miniredis.RunT(t)
		s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
		over, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Courier(over, ref); !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "hgetall courier: ") {
			t.Error(err)
		}
	})
}

// What is kept as plain text says its format too. Another one is refused by what it is, and no
// default takes its place: without a last door every way would be possible.
func TestErrorsOfPlainValues(t *testing.T) {
	courier, id := handoff.CourierRef{Carrier: "swift", ID: "c1"}, handoff.PermitID{7}
	query := service.Query{Parcel: handoff.ParcelHash("00112233445566778899aabb"), Courier: &courier}
	load := func(ctx context.Context, s *Store) error { _, err := s.Load(ctx, query); return err }
	for kind, c := range map[string]struct {
		put  func(m *miniredis.Miniredis, format string)
		get  func(context.Context, *Store) error
		says string
	}{
		"a permit": {
			func(m *miniredis.Miniredis, format string) { _ = m.Set(permitKey(id), format+"hash door holder") },
			func(ctx context.Context, s *Store) error { _, err := s.Permit(ctx, id); return err }, "permit: format",
		},
		"a last door": {
			func(m *miniredis.Miniredis, format string) {
				m.HSet(courierKey(courier), fieldLastDoor, format+"1795518000 52525600 13342100")
			}, load, "courier's last door: format",
		},
		"a last door's place": {
			func(m *miniredis.Miniredis, format string) {
				m.HSet(courierKey(courier), fieldLastDoor, format+map[bool]string{true: "1795518000 52525600 13342100", false: "secret"}[format == plainFormat])
			}, load, "courier's last door",
		},
		"a sign-out": {
			func(m *miniredis.Miniredis, format string) {
				m.HSet(courierKey(courier), fieldSignedOut, format+map[bool]string{true: "1795518000", false: "secret"}[format == plainFormat])
			}, load, "courier's sign-out",
		},
		"a sign-out that is overwritten": {
			func(m *miniredis.Miniredis, format string) {
				m.HSet(courierKey(courier), fieldSignedOut, format+"1795518000")
			}, func(ctx context.Context, s *Store) error { return s.SignOutCourier(ctx, courier, 1795518001) }, "courier's sign-out",
		},
		"a guess": {
			func(m *miniredis.Miniredis, format string) {
				_, _ = m.RPush(budgetKey(courier), map[bool]string{true: "c", false: "z"}[format == plainFormat]+"1795518000.secret")
			}, load, "courier's budget",
		},
	} {
		for _, format := range []string{plainFormat, "2 ", ""} {
			m := miniredis.RunT(t)
			c.put(m, format)
			err := c.get(t.Context(), storeWith(t, m, open{}))
			if format == plainFormat && err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if format != plainFormat && (!errors.Is(err, storage.ErrFormat) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%s of format %q: %v", kind, format, err)
			}
		}
	}
}
