package redisstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

const retention = 30 * 24 * time.Hour

// newStore makes a store with fresh keys on a client, and closes both.
func newStore(t testing.TB, client redis.UniversalClient, lanes int) (*Store, *keyring.Ring) {
	t.Helper()
	ring, err := keyring.New()
	if err != nil {
		t.Fatal(err)
	}
	return newStoreWith(t, client, lanes, ring), ring
}

func newStoreWith(t testing.TB, client redis.UniversalClient, lanes int, ring *keyring.Ring) *Store {
	t.Helper()
	s, err := New(Config{Client: client, Sealer: ring, Retention: retention, Lanes: lanes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); _ = client.Close() })
	return s
}

// dial makes a client as the program does, from a URL.
func dial(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	c, err := Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clusterURL(addrs []string) string {
	return "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr=")
}

func flushed(t testing.TB, client redis.UniversalClient) redis.UniversalClient {
	t.Helper()
	flush := func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() }
	var err error
	if c, ok := client.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(context.Background(), flush)
	} else {
		err = client.FlushAll(context.Background()).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestConformance(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
			m := miniredis.RunT(t)
			s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
			return s
		})
	})
	single := redistest.Single(t, documentedUser(t))
	for _, lanes := range []int{0, 2} {
		t.Run(fmt.Sprintf("single/lanes=%d", lanes), func(t *testing.T) {
			handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
				everybody := flushed(t, dial(t, "redis://"+single.Addr()))
				t.Cleanup(func() { _ = everybody.Close() })
				s, _ := newStore(t, dial(t, "redis://latchkey:PASSWORD@"+single.Addr()), lanes)
				return s
			})
		})
	}
	t.Run("sentinel", func(t *testing.T) {
		set := redistest.Sentinel(t)
		url := "redis://" + set.SentinelAddrs()[0] + "?master_name=" + set.MasterName()
		for _, addr := range set.SentinelAddrs()[1:] {
			url += "&addr=" + addr
		}
		handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
			s, _ := newStore(t, flushed(t, dial(t, url)), 2)
			return s
		})
	})
	t.Run("cluster", func(t *testing.T) {
		set := redistest.Cluster(t)
		handofftest.Conformance(t, func(t *testing.T) handofftest.Store {
			s, _ := newStore(t, flushed(t, dial(t, clusterURL(set.Addrs()))), 4)
			return s
		})
	})
}

// wired is a store whose connections can lose replies, and are counted.
func wired(t *testing.T, kind string, lanes int) (*Store, *redistest.Wire) {
	t.Helper()
	wire := redistest.NewWire()
	var client redis.UniversalClient
	switch kind {
	case "single":
		client = redis.NewClient(&redis.Options{Addr: redistest.Single(t).Addr(), Dialer: wire.Dial, MaxRetries: -1})
	case "cluster":
		client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: redistest.Cluster(t).Addrs(), Dialer: wire.Dial})
	}
	s, _ := newStore(t, client, lanes)
	return s, wire
}

// knowScripts spares every node the NOSCRIPT of its first commit.
func knowScripts(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	load := func(ctx context.Context, c *redis.Client) error {
		return errors.Join(c.ScriptLoad(ctx, commitScript.source).Err(), c.ScriptLoad(ctx, countScript.source).Err(), c.ScriptLoad(ctx, seeScript.source).Err())
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), load)
	case *redis.Client:
		err = load(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The script ran and its reply was lost: with go-redis's defaults it would run four
// times. Here one wrong code is one attempt, and a right one is answered "released".
func TestLostReplyOfACommit(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		for _, lanes := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s/lanes=%d", kind, lanes), func(t *testing.T) {
				s, wire := wired(t, kind, lanes)
				w := handofftest.New(t, s)
				w.Cleared(t, "cou_7")
				w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
				knowScripts(t, s.client)
				ctx := t.Context()

				wire.LoseReplies(1, redistest.Command("evalsha"))
				g := w.Dispatch(t, handofftest.Sample("JJD1"))

				wire.LoseReplies(1, redistest.Command("evalsha"))
				_, err := w.Service.Verify(ctx, handofftest.AtDoor("cou_7", "JJD1", handofftest.WrongCode(&g, 1)))
				var refused *handoff.Refusal
				if !errors.As(err, &refused) || refused.Reason != handoff.CodeMismatch || refused.AttemptsLeft != 4 {
					t.Fatalf("a wrong code was answered %v", err)
				}
				if n := len(w.Account(t, "cou_7").Counted); n != 1 {
					t.Errorf("the courier was charged %d wrong codes", n)
				}

				wire.LoseReplies(1, redistest.Command("evalsha"))
				r, err := w.Service.Verify(ctx, handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode()))
				if err != nil || r.Status != handoff.Released {
					t.Fatalf("the right code was answered %v, %v", r.Status, err)
				}
				if lost := wire.LostReplies(); lost != 3 {
					t.Errorf("%d replies were lost, want 3", lost)
				}
				events := w.Events(t)
				for typ, want := range map[handoff.EventType]int{handoff.EventDispatched: 1, handoff.EventCodeRefused: 1, handoff.EventReleased: 1} {
					if n := handofftest.Count(events, typ); n != want {
						t.Errorf("%d events %s, want %d", n, typ, want)
					}
				}
				if got := w.Parcel(t, "JJD1"); got.Code.TotalWrong != 1 || got.Status != handoff.Released {
					t.Errorf("the grant shows %d wrong codes and is %s", got.Code.TotalWrong, got.Status)
				}
				if a := w.Account(t, "cou_7"); len(a.Counted) != 1 || len(a.Reserved) != 0 {
					t.Errorf("the courier's account is %+v", a)
				}
			})
		}
	}
}

// losesClaims loses the first reply to every claim of a permit.
type losesClaims struct {
	handofftest.Store
	wire *redistest.Wire
}

func (l losesClaims) Load(ctx context.Context, q service.Query) (service.Snapshot, error) {
	if q.Permit != nil {
		l.wire.LoseReplies(1, redistest.Command("set"))
	}
	return l.Store.Load(ctx, q)
}

// A claim whose reply was lost is made again, and found to be one's own; a door whose
// reply was lost is written.
func TestLostReplyOfAClaim(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		for _, lanes := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s/lanes=%d", kind, lanes), func(t *testing.T) {
				s, wire := wired(t, kind, lanes)
				w := handofftest.New(t, losesClaims{s, wire})
				w.Cleared(t, "cou_7")
				w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
				putKeypad(t, s)
				knowScripts(t, s.client)
				minute := uint64(w.Clock.Now().Unix() / 60)
				for i := range uint64(2) {
					parcel := fmt.Sprint("JJD", i)
					w.Dispatch(t, handofftest.Sample(parcel))
					p, err := w.Service.Unlock(t.Context(), atPad(parcel))
					if err != nil || p.Minute != minute+i {
						t.Errorf("minute %d, want %d: %v", p.Minute, minute+i, err)
					}
				}
				// Two loads for the first, one that claims in vain more for the second.
				if lost := wire.LostReplies(); lost != 5 {
					t.Errorf("%d replies were lost, want 5", lost)
				}

				d, err := s.Door(t.Context(), "pad")
				if err != nil {
					t.Fatal(err)
				}
				d.Fence = 12
				wire.LoseReplies(1, redistest.Command("evalsha"))
				if err := s.PutDoor(t.Context(), *d); err != nil || wire.LostReplies() != 6 {
					t.Errorf("%v, after %d lost replies", err, wire.LostReplies())
				}
				if got, err := s.Door(t.Context(), "pad"); err != nil || got.Fence != 12 || string(got.Keypad) != string(keypadKey) {
					t.Errorf("the door is %+v, %v", got, err)
				}
				wire.LoseReplies(1, redistest.Command("evalsha"))
				if err := s.PutDoor(t.Context(), handoff.Door{ID: "pad", BuildingID: d.BuildingID, Removed: true}); err != nil || wire.LostReplies() != 7 {
					t.Errorf("removed: %v, after %d lost replies", err, wire.LostReplies())
				}
				if got, err := s.Door(t.Context(), "pad"); err != nil || got != nil {
					t.Errorf("the door that was removed is %+v, %v", got, err)
				}
			})
		}
	}
}

// The request never arrived: the caller cannot tell that from a lost reply, and must
// end at the same answer.
func TestLostRequestOfACommit(t *testing.T) {
	s, wire := wired(t, "single", 2)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	knowScripts(t, s.client)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	wire.LoseRequests(1, redistest.Command("evalsha"))
	if r, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode())); err != nil || r.Status != handoff.Released {
		t.Fatalf("answered %v, %v", r.Status, err)
	}
	if n := handofftest.Count(w.Events(t), handoff.EventReleased); n != 1 || wire.LostRequests() != 1 {
		t.Errorf("%d releases after %d lost requests", n, wire.LostRequests())
	}
}

// Two waits on Redis a verify and a dispatch, and no command more than the design needs.
// A wrong code takes a third trip, which charges the courier's account and for which
// nobody waits: see TestNobodyWaitsForTheCharge.
func TestTwoTrips(t *testing.T) {
	s, wire := wired(t, "single", 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	knowScripts(t, s.client)
	g := w.Dispatch(t, handofftest.Sample("JJD0"))
	code := g.CurrentCode()
	// The carrier's day is seen from now on: the clock stands. See TestNobodyWaitsForTheCarriersDay.
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD9", code)); refusedFor(err, handoff.ParcelUnknown) != nil {
		t.Fatal(err)
	}
	far := handofftest.AtDoor("cou_7", "JJD0", code)
	far.Position.Point.Lat += 5000 // 556 m: farther away it is told, by a commit
	putKeypad(t, s)
	if err := s.PutDoor(t.Context(), handoff.Door{ID: "gate", Kind: handoff.Gate, Mode: handoff.Connected, BuildingID: "bld_turm5", Location: &handofftest.Home}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"pad", "gate"} { // the building of a door is learned once
		if _, err := s.Door(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	unlock := func(door string) func() error {
		return func() error {
			_, err := w.Service.Unlock(t.Context(), service.Knock{Courier: handofftest.Courier("cou_7"), Door: door, Parcel: "JJD0", Position: &handoff.Position{Point: handofftest.Home}})
			return err
		}
	}

	for _, c := range []struct {
		name     string
		do       func() error
		trips    int
		commands string
	}{
		{"dispatch", func() error {
			_, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD1"))
			return err
		}, 2, "evalsha:1 expire:4 get:1 hset:1 zadd:2 zremrangebyscore:1"},
		{"the same again", func() error {
			_, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD1"))
			return err
		}, 1, "expire:4 get:1 hset:1 zadd:2 zremrangebyscore:1"},
		{"wrong code", func() error {
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD0", handofftest.WrongCode(&g, 1)))
			return refusedFor(err, handoff.CodeMismatch)
		}, 3, "evalsha:2 expire:1 get:1 hgetall:1 lrange:1 rpush:2"},
		{"too far away", func() error {
			_, err := w.Service.Verify(t.Context(), far)
			return refusedFor(err, handoff.OutsideGeofence)
		}, 2, "expire:1 get:1 hgetall:1 lrange:1 lrem:1 rpush:1"},
		{"unknown parcel", func() error {
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD9", code))
			return refusedFor(err, handoff.ParcelUnknown)
		}, 2, "expire:1 get:1 hgetall:1 lrange:1 lrem:1 rpush:1"},
		{"unlock", unlock("gate"), 3, "evalsha:2 expire:1 get:3 hgetall:1 lrange:1 set:2"},
		// Before a permit is given out for a place, the courier's being there is noted.
		// Only when all else holds is a PIN claimed, which takes a trip more.
		{"unlock at a keypad", unlock("pad"), 4, "evalsha:2 expire:1 get:6 hgetall:2 lrange:2 set:3"},
		{"right code", func() error {
			_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD0", code))
			return err
		}, 2, "evalsha:1 expire:1 get:1 hgetall:1 lrange:1 lrem:1 rpush:1"},
	} {
		trips, before := wire.Trips(), wire.Commands()
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		s.settling.Wait()
		if n := wire.Trips() - trips; n != c.trips {
			t.Errorf("%s: %d trips, want %d", c.name, n, c.trips)
		}
		if got := sent(before, wire.Commands()); got != c.commands {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.commands)
		}
	}
}

var keypadKey = handoff.KeypadKey("the secret of a keypad")

func putKeypad(t *testing.T, s *Store) {
	t.Helper()
	if err := s.PutBuilding(t.Context(), handoff.Building{ID: "bld_turm5", Zone: handofftest.Zone, Carriers: []string{handofftest.Carrier}}); err != nil {
		t.Fatal(err)
	}
	at := handofftest.Home
	if err := s.PutDoor(t.Context(), handoff.Door{ID: "pad", Kind: handoff.Lobby, Mode: handoff.Keypad, BuildingID: "bld_turm5", Keypad: keypadKey, Location: &at}); err != nil {
		t.Fatal(err)
	}
}

// atPad is the courier cou_7 at that keypad.
func atPad(parcel string) service.Knock {
	return service.Knock{Courier: handofftest.Courier("cou_7"), Door: "pad", Parcel: parcel, Position: &handoff.Position{Point: handofftest.Home}}
}

func refusedFor(err error, want handoff.Reason) error {
	var r *handoff.Refusal
	if errors.As(err, &r) && r.Reason == want {
		return nil
	}
	return fmt.Errorf("got %v, want %s", err, want)
}

func sent(before, after map[string]int) string {
	var lines []string
	for name, n := range after {
		if n -= before[name]; n != 0 {
			lines = append(lines, strings.ToLower(name)+":"+strconv.Itoa(n))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// A copy of Redis yields no code, no secret, no name, no address: no value shows what
// was sent, and none opens under another key or version.
// contents is all that a Redis holds: every key, field, member and value.
func contents(t testing.TB, client redis.UniversalClient) string {
	t.Helper()
	ctx := context.Background()
	var all strings.Builder
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		kind, err := client.Type(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		cmd := map[string][]any{
			"string": {"get", key}, "hash": {"hgetall", key}, "set": {"smembers", key},
			"zset": {"zrange", key, 0, -1}, "list": {"lrange", key, 0, -1}, "stream": {"xrange", key, "-", "+"},
		}[kind]
		if cmd == nil {
			t.Fatalf("%s is a %s, which this test cannot read", key, kind)
		}
		value, err := client.Do(ctx, cmd...).Result()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, key, value)
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestADumpTellsNothing(t *testing.T) {
	m := miniredis.RunT(t)
	client := dial(t, "redis://"+m.Addr())
	s, _ := newStore(t, client, 2)
	w := handofftest.New(t, s)
	name := "Courier Display Name"
	until := handoff.InstantOf(handofftest.Noon.AddDate(1, 0, 0))
	ctx := t.Context()
	if err := s.PutCourier(ctx, handofftest.Courier("cou_7"), service.CourierUpdate{Name: &name, ClearedUntil: &until}); err != nil {
		t.Fatal(err)
	}
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	d := handofftest.Sample("JJD1")
	g := w.Dispatch(t, d)
	wrong := handofftest.WrongCode(&g, 1)
	p := handofftest.AtDoor("cou_7", "JJD1", wrong)
	p.Attempt, p.Device = "attempt-1", "phone-of-somebody"
	_, _ = w.Service.Verify(ctx, p)
	by := handoff.Actor{Role: handoff.RoleShop, Shop: d.Shop, Subject: "https://id.shop.example clerk@shop.example"}
	if _, err := w.Service.Reissue(ctx, by, g.ID); err != nil {
		t.Fatal(err)
	}
	key := identity.APIKey{ID: "k1", Hash: sha256.Sum256([]byte("a secret of 256 bits")), Scopes: []string{"ops"}, Label: "what it is for"}
	if err := s.AddAPIKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	session := identity.Session{ID: sha256.Sum256([]byte("a cookie of 256 bits")), Issuer: "https://id.shop.example", Subject: "cus_of_a_session", Name: "Greeted Name"}
	if err := s.AddSession(ctx, session, time.Hour); err != nil {
		t.Fatal(err)
	}
	newest := w.Parcel(t, "JJD1")
	secret, err := g.Code.Secret.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	putKeypad(t, s)
	granted, err := w.Service.Unlock(ctx, atPad("JJD1"))
	if err != nil {
		t.Fatal(err)
	}
	pad, err := door.ParsePINKey(keypadKey)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := pad.PIN(granted.Minute)
	if err != nil {
		t.Fatal(err)
	}
	by.Person = true
	if _, err := w.Service.AskOverride(ctx, by, g.ID, "why they want it"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Recall(ctx, handoff.Actor{Role: handoff.RoleShop, Shop: d.Shop}, g.ID, "a note that names somebody"); err != nil {
		t.Fatal(err)
	}

	dump := contents(t, client)
	if !strings.Contains(dump, doorKey("pad")) || !strings.Contains(dump, granted.Permit.String()) {
		t.Error("the dump does not show the keypad, or where its PIN's permit is to be found")
	}
	for what, secret := range map[string]string{
		"code": g.CurrentCode().Reveal(), "new code": newest.CurrentCode().Reveal(), "wrong code": wrong.Reveal(),
		"secret": string(secret), "name": d.Customer.Name, "mail": d.Customer.Email, "street": d.To.Lines[0],
		"postal code": d.To.Postal, "unit": d.To.Unit, "order": d.Order, "courier's name": name, "note": "names somebody", "override's reason": "why they want",
		"device": p.Device, "clerk": "clerk@", "key's hash": string(key.Hash[:]), "key's label": key.Label,
		"keypad's key": string(keypadKey), "PIN": pin, "session's subject": session.Subject, "session's issuer": session.Issuer, "session's name": session.Name,
	} {
		if strings.Contains(dump, secret) {
			t.Errorf("the dump shows the %s", what)
		}
	}
	if !strings.Contains(dump, "cou_7") {
		t.Error("the dump shows nothing at all: does this test look at the right place?")
	}
}

func TestSealedValuesDoNotMove(t *testing.T) {
	m := miniredis.RunT(t)
	client := dial(t, "redis://"+m.Addr())
	s, _ := newStore(t, client, 2)
	w := handofftest.New(t, s)
	a, b := w.Dispatch(t, handofftest.Sample("JJD1")), w.Dispatch(t, handofftest.Sample("JJD2"))
	ctx := t.Context()
	load := func(g handoff.Grant) error {
		_, err := s.Load(ctx, service.Query{Parcel: g.ID.Hash})
		return err
	}
	stored, err := client.Get(ctx, grantKey(a.ID.Hash)).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]struct {
		key   handoff.Grant
		value []byte
	}{
		"another parcel":  {b, stored},
		"another version": {a, append(versionBytes(service.Version(7)), stored[versionLen:]...)},
		"a flipped bit":   {a, append(bytes.Clone(stored[:len(stored)-1]), stored[len(stored)-1]^1)},
		"cut short":       {a, stored[:5]},
	} {
		if err := client.Set(ctx, grantKey(forged.key.ID.Hash), forged.value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := load(forged.key); !errors.Is(err, storage.ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", name, err)
		}
	}
	if err := client.Set(ctx, grantKey(a.ID.Hash), stored, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := load(a); err != nil {
		t.Errorf("the value put back: %v", err)
	}
}

func TestOldKeysOpenOldGrants(t *testing.T) {
	m := miniredis.RunT(t)
	before, ring := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	g := handofftest.New(t, before).Dispatch(t, handofftest.Sample("JJD1"))

	rotated, err := ring.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	after := newStoreWith(t, dial(t, "redis://"+m.Addr()), 2, rotated)
	w := handofftest.New(t, after)
	if got := w.Parcel(t, "JJD1"); !got.CurrentCode().Equal(g.CurrentCode()) {
		t.Error("after a rotation the old grant has another code")
	}
	w.Dispatch(t, handofftest.Sample("JJD2"))
	if _, err := before.Load(t.Context(), service.Query{Parcel: w.Parcel(t, "JJD2").ID.Hash}); !errors.Is(err, storage.ErrSealed) {
		t.Errorf("a ring without the new key opened a new grant: %v", err)
	}
}

// A Redis that is gone is told at once and clearly, and what was asked of it did not happen.
func TestUnavailable(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	w := handofftest.New(t, s)
	w.Dispatch(t, handofftest.Sample("JJD1"))
	server.Stop()
	if _, _, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD2")); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
	if _, err := s.Durability(t.Context()); err == nil {
		t.Error("without Redis a durability was promised")
	}
	server.Restart()
	if g, created, err := w.Service.Dispatch(t.Context(), handofftest.Sample("JJD2")); err != nil || !created {
		t.Errorf("with Redis again: %v, %v, %v", g.ID, created, err)
	}
}

func TestDurability(t *testing.T) {
	for conf, want := range map[string]Durability{
		"appendonly no":                         Memory,
		"appendonly yes":                        EverySecond,
		"appendonly yes\nappendfsync always":    Always,
		"appendonly yes\nappendfsync no":        Unsynced,
		"appendonly no\nappendfsync everysec\n": Memory,

		"appendonly yes\nappendfsync always\nno-appendfsync-on-rewrite yes": Unsynced,
	} {
		server := redistest.Single(t, strings.Split(strings.TrimSpace(conf), "\n")...)
		s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
		if got, err := s.Durability(t.Context()); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", conf, got, err, want)
		}
	}
	set := redistest.Cluster(t)
	s, _ := newStore(t, dial(t, clusterURL(set.Addrs())), 2)
	if err := redis.NewClient(&redis.Options{Addr: set.Addrs()[1]}).ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Durability(t.Context()); err != nil || got != Memory {
		t.Errorf("a cluster of which one node keeps a log: %v, %v; the weakest counts", got, err)
	}
}

// An accepted handoff survives a crash of Redis where appendfsync is always.
func TestAcceptedSurvivesACrash(t *testing.T) {
	server := redistest.Single(t, "appendonly yes", "appendfsync always")
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 2)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Restart()
	if got := w.Parcel(t, "JJD1"); got.Status != handoff.Released {
		t.Errorf("after the crash the grant is %s", got.Status)
	}
	if n := handofftest.Count(w.Events(t), handoff.EventReleased); n != 1 {
		t.Errorf("after the crash the log has %d releases", n)
	}
}

// After a failover the store goes on against the new master.
func TestSentinelFailover(t *testing.T) {
	set := redistest.Sentinel(t)
	url := "redis://" + set.SentinelAddrs()[0] + "?master_name=" + set.MasterName()
	s, _ := newStore(t, dial(t, url), 2)
	w := handofftest.New(t, s)
	w.Dispatch(t, handofftest.Sample("JJD1"))
	set.AwaitFailover(set.KillMaster())
	until(t, func() bool {
		_, _, err := w.Service.Dispatch(context.Background(), handofftest.Sample("JJD2"))
		if err != nil && !errors.Is(err, storage.ErrUnavailable) {
			t.Fatalf("during a failover: %v", err)
		}
		return err == nil
	})
	if got := w.Parcel(t, "JJD2"); got.Status != handoff.Active {
		t.Errorf("after the failover the grant is %s", got.Status)
	}
}

func TestDialTellsNoPassword(t *testing.T) {
	const password = "hunter22"
	for _, url := range []string{
		"http://:" + password + "@localhost", "redis://:" + password + "@local host:1", "redis://:" + password + "@localhost/notadb",
		"redis://:" + password + "@localhost?master_name=m&db=x", "redis://:" + password + "@localhost?addr=b:1&pool_size=many",
		"%zz" + password,
	} {
		if _, err := Dial(url); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("Dial(%q) = %v", url, err)
		}
	}
}

func TestNotSent(t *testing.T) {
	_, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second)
	if err == nil || !notSent(err) {
		t.Errorf("a refused dial counts as sent: %v", err)
	}
	if notSent(context.DeadlineExceeded) {
		t.Error("a timeout counts as not sent")
	}
}

func TestKeysStayInTheirSlot(t *testing.T) {
	for p := range handoff.Partitions {
		tag := fmt.Sprintf("{%02x}", p)
		h := handoff.ParcelHash(fmt.Sprintf("%x%023x", p, 1))
		for _, key := range []string{grantKey(h), archiveKey(h, 3), logKey(p), dueKey(p), workKey(p, "mail"), triesKey(p, "mail"), deadKey(p, "mail")} {
			if !strings.Contains(key, tag) || strings.Count(key, "{") != 1 {
				t.Errorf("key %s is not of slot %s", key, tag)
			}
		}
	}
}

// The rules hold over random histories on a real Redis too, lost replies included.
func TestModel(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	s, _ := newStore(t, client, 2)
	rapid.Check(t, handofftest.Model(func() handofftest.Core {
		flushed(t, client)
		return s
	}))
}

// Who may not be asked which readers there are must not trim: an unread event would be
// lost.
func TestTrimNeedsToKnowTheReaders(t *testing.T) {
	server := redistest.Single(t)
	s, _ := newStore(t, dial(t, "redis://"+server.Addr()), 0)
	w := handofftest.New(t, s)
	ctx := t.Context()
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	partition := g.ID.Hash.Partition()
	if err := s.client.Do(ctx, "acl", "setuser", "blind", "on", ">secret", "~*", "+@all", "-xinfo").Err(); err != nil {
		t.Fatal(err)
	}
	blind, _ := newStore(t, dial(t, "redis://blind:secret@"+server.Addr()), 0)
	if n, err := blind.Trim(ctx, partition, time.Now().Add(time.Hour)); n != 0 || err == nil {
		t.Errorf("trimmed %d, %v", n, err)
	}
	if n := s.client.XLen(ctx, logKey(partition)).Val(); n != 1 {
		t.Errorf("%d events are left", n)
	}
}

// An event that this version cannot read becomes a dead letter, and its neighbours are
// delivered.
func TestAnUnreadableEventKeepsNobodyBack(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	ctx := t.Context()
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	p := g.ID.Hash.Partition()
	if err := s.client.XAdd(ctx, &redis.XAddArgs{Stream: logKey(p), Values: []any{"e", "nonsense from a version to come"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Service.Reissue(ctx, handoff.Actor{Role: handoff.RoleShop, Shop: "demo"}, g.ID); err != nil {
		t.Fatal(err)
	}
	taken, err := s.Take(ctx, "mail", w.Clock.Now(), time.Minute, 100)
	if len(taken) != 2 || err == nil {
		t.Errorf("took %d of 2 readable events, %v", len(taken), err)
	}
	if again, err := s.Take(ctx, "mail", w.Clock.Now().Add(time.Hour), time.Minute, 100); len(again) != 2 || err != nil {
		t.Errorf("after the leases: %d, %v", len(again), err)
	}
	letters, err := s.Dead(ctx, "mail")
	if err != nil || len(letters) != 1 || letters[0].Error != undecodable {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
	if ok, err := s.Replay(ctx, "mail", letters[0].ID, w.Clock.Now()); ok || err == nil {
		t.Errorf("replayed what cannot be read: %v, %v", ok, err)
	}
}

// Sending an old file again never makes a parcel's place in an index end sooner.
func TestAnOldDispatchDoesNotHideAParcel(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	d := handofftest.Sample("JJD1")
	g := w.Dispatch(t, d)
	later := d.Day
	for range 40 {
		later = later.Next()
	}
	if _, err := w.Service.Reschedule(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: d.Shop}, g.ID, later, ""); err != nil {
		t.Fatal(err)
	}
	if _, created, err := w.Service.Dispatch(t.Context(), d); created || err != nil { // the morning's file again
		t.Fatal(created, err)
	}
	w.Clock.Advance(retention + 2*24*time.Hour)
	other := handofftest.Sample("JJD2")
	other.Day = handoff.DateOf(w.Clock.Now())
	w.Dispatch(t, other)
	grants, _, err := w.Service.OfCustomer(t.Context(), handoff.CustomerRef{Shop: d.Shop, ID: d.Customer.ID}, service.Listed{}, 10)
	if err != nil || len(grants) != 2 {
		t.Errorf("the customer has %d parcels, %v", len(grants), err)
	}
}

// A process that dies over the commit of a wrong code leaves it in doubt: it counts.
func TestAWrongCodeInDoubtCounts(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	ref := handofftest.Courier("cou_7")
	for i := range 20 {
		r := service.Reservation{Courier: ref, Token: strconv.Itoa(i), At: handoff.InstantOf(w.Clock.Now())}
		if err := s.client.RPush(t.Context(), budgetKey(ref), guess(reserved, r), guess(doubtful, r)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w.Clock.Advance(2 * time.Minute)
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", g.CurrentCode())); refusedFor(err, handoff.BudgetExhausted) != nil {
		t.Errorf("twenty in doubt: %v", err)
	}
}

// A wrong code whose commit is overtaken is counted once, and leaves no doubt behind.
func TestAnOvertakenWrongCodeLeavesNoDoubt(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	faulty := &handofftest.Faulty{Core: s}
	w := handofftest.New(t, faulty)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	snap, err := s.Load(t.Context(), service.Query{Parcel: g.ID.Hash})
	if err != nil {
		t.Fatal(err)
	}
	r := service.Reservation{Courier: handofftest.Courier("cou_7"), Token: "t", At: handoff.InstantOf(w.Clock.Now())}
	c := service.Change{From: snap.Version + 7, Record: *snap.Record, Now: r.At, Settle: &service.Settlement{Reservation: r, Counted: true}}
	if err := s.Commit(t.Context(), c); !errors.Is(err, storage.ErrConflict) {
		t.Fatal(err)
	}
	if a := w.Account(t, "cou_7"); len(a.Doubtful)+len(a.Counted) != 0 {
		t.Errorf("after a conflict the account is %+v", a)
	}
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", handofftest.WrongCode(&g, 1))); refusedFor(err, handoff.CodeMismatch) != nil {
		t.Fatal(err)
	}
	if a := w.Account(t, "cou_7"); len(a.Doubtful)+len(a.Reserved) != 0 || len(a.Counted) != 1 {
		t.Errorf("after a wrong code the account is %+v", a)
	}
}

// Redis began anew while the readers were at work: they join again and nothing that comes
// after is lost; until then the backlog says so.
func TestTheLogBeginsAnew(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { testTheLogBeginsAnew(t, miniredis.RunT(t).Addr()) })
	t.Run("single", func(t *testing.T) { testTheLogBeginsAnew(t, redistest.Single(t).Addr()) })
}

func testTheLogBeginsAnew(t *testing.T, addr string) {
	s, _ := newStore(t, dial(t, "redis://"+addr), 2)
	w := handofftest.New(t, s)
	ctx := t.Context()
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	flushed(t, s.client)
	w.Dispatch(t, handofftest.Sample("JJD1"))
	if _, err := s.Take(ctx, "mail", w.Clock.Now(), time.Minute, 100); !errors.Is(err, eventlog.ErrNotJoined) {
		t.Errorf("took from a log that was lost: %v", err)
	}
	if b, err := s.Backlog(ctx, "mail"); err != nil || b.Waiting != 1 || b.Oldest == 0 {
		t.Errorf("the backlog of a group that is not there: %+v, %v", b, err)
	}
	if err := s.Join(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	if taken, err := s.Take(ctx, "mail", w.Clock.Now(), time.Minute, 100); len(taken) != 1 || err != nil {
		t.Errorf("after joining again: %d, %v", len(taken), err)
	}
}

// Dates beyond reason are refused, and no arithmetic on the way overflows.
func TestAYearOfFourDigitsTooMany(t *testing.T) {
	m := miniredis.RunT(t)
	s, _ := newStore(t, dial(t, "redis://"+m.Addr()), 2)
	w := handofftest.New(t, s)
	for _, year := range []int{2028, 2400, 2926, 9999} {
		d := handofftest.Sample("JJD1")
		d.Day.Year = year
		if _, _, err := w.Service.Dispatch(t.Context(), d); refusedFor(err, handoff.DayTooFar) != nil {
			t.Errorf("%d: %v", year, err)
		}
		r := service.RouteRef{Carrier: "swift", Route: "BER-042", Day: d.Day}
		if err := s.AssignRoute(t.Context(), r, "cou_7", handoff.InstantOf(w.Clock.Now())); err != nil {
			t.Errorf("route of %d: %v", year, err)
		}
		if !m.Exists(routeKey(r)) {
			t.Errorf("the route of %d is gone at once", year)
		}
	}
}

// held is a client hook that keeps back the trips that charge an account.
type held struct{ release chan struct{} }

func (h held) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h held) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h held) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if args := cmd.Args(); len(args) > 1 && args[1] == countScript.hash {
				<-h.release
			}
		}
		return next(ctx, cmds)
	}
}

// A wrong code is answered after its commit and before its courier is charged; until
// then its place stays taken.
func TestNobodyWaitsForTheCharge(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	s, _ := newStore(t, client, 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	h := held{make(chan struct{})}
	client.AddHook(h)
	_, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", handofftest.WrongCode(&g, 1)))
	if refusedFor(err, handoff.CodeMismatch) != nil {
		t.Fatal(err)
	}
	ref := handofftest.Courier("cou_7")
	snap, err := s.Load(t.Context(), service.Query{Parcel: g.ID.Hash, Courier: &ref})
	if err != nil || len(snap.Account.Reserved) != 1 || len(snap.Account.Doubtful) != 1 || len(snap.Account.Counted) != 0 {
		t.Errorf("before the charge: %+v, %v", snap.Account, err)
	}
	close(h.release)
	s.settling.Wait()
	if a := w.Account(t, "cou_7"); len(a.Counted) != 1 || len(a.Reserved) != 0 {
		t.Errorf("after the charge: %+v", a)
	}
}

// The carrier's day is read beside the grant by who has not seen it, and by nobody else
// waited for: a store that keeps it back for long keeps back no verify.
func TestNobodyWaitsForTheCarriersDay(t *testing.T) {
	client := dial(t, "redis://"+redistest.Single(t).Addr())
	s, _ := newStore(t, client, 0)
	w := handofftest.New(t, s)
	w.Cleared(t, "cou_7")
	w.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	one, two := w.Dispatch(t, handofftest.Sample("JJD1")), w.Dispatch(t, handofftest.Sample("JJD2"))
	h := heldDay{asked: make(chan struct{}, 4), release: make(chan struct{}), after: new(atomic.Int64)}
	client.AddHook(h)
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD1", one.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	<-h.asked
	h.after.Store(1) // from now on it is kept back
	w.Clock.Advance(2 * time.Second)
	if _, err := w.Service.Verify(t.Context(), handofftest.AtDoor("cou_7", "JJD2", two.CurrentCode())); err != nil {
		t.Fatal(err)
	}
	<-h.asked // behind the answer
	close(h.release)
	w.Service.Close()
	day, err := s.CarrierDay(t.Context(), handofftest.Carrier, handoff.InstantOf(w.Clock.Now()))
	if err != nil || day.Released != 2 {
		t.Errorf("%+v %v", day, err)
	}
}

// heldDay is a client hook that keeps back, after a while, the trips that read a carrier's day.
type heldDay struct {
	asked, release chan struct{}
	after          *atomic.Int64
}

func (h heldDay) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h heldDay) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h heldDay) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if args := cmds[0].Args(); len(args) > 1 && args[1] == carrierKey(0, handofftest.Carrier) {
			h.asked <- struct{}{}
			if h.after.Load() > 0 {
				<-h.release
			}
		}
		return next(ctx, cmds)
	}
}
