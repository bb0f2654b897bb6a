package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/redisstore"
)

// lossyDay is what a shop and a carrier do on a service that is going to lose part of it.
type lossyDay struct {
	*production
	client
	warehouse, courier, customer, operator, today string
}

func newLossyDay(t *testing.T, s *production, url string) *lossyDay {
	t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return &lossyDay{
		production: s, client: client{t, url}, today: time.Now().In(berlin).Format(time.DateOnly),
		warehouse: s.token(t, auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}}),
		courier:   s.token(t, auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}),
		customer:  s.token(t, auth.Principal{Subject: "cus_1", Shop: "demo", Scopes: []auth.Scope{auth.Customer}}),
		operator:  s.token(t, auth.Principal{Subject: "ops", Carrier: "swift", Shop: "demo", Scopes: []auth.Scope{auth.Carrier, auth.Ops, auth.Shop}}),
	}
}

func (d *lossyDay) line(parcel, street string) string {
	return fmt.Sprintf(`{"parcel_id":%q,"order_id":"302-1","carrier_id":"swift","route_id":"R1","delivery_date":%q,"value":{"amount":"1299.00","currency":"EUR"},"customer":{"id":"cus_1","name":"Customer","email":"c@home.example"},"destination":{"kind":"residence","lines":[%q],"city":"Berlin","country":"DE","time_zone":"Europe/Berlin","location":%s}}`,
		parcel, d.today, street, gatePlace)
}

func (d *lossyDay) dispatch(parcel string) (grant string) {
	d.client.t.Helper()
	return d.must("POST", "/v1/dispatches", d.warehouse, d.line(parcel, "Turmstr. 5"))["grant_id"].(string)
}

func (d *lossyDay) code(grant string) string {
	d.client.t.Helper()
	code, _ := d.must("GET", "/v1/handoffs/"+grant, d.customer, "")["code"].(string)
	return code
}

func (d *lossyDay) verify(parcel, code string) (int, any) {
	d.client.t.Helper()
	status, answer := d.do("POST", "/v1/parcels/"+parcel+"/verify", d.courier, `{"code":"`+code+`",`+gateHere+`}`)
	return status, answer["code"]
}

func (d *lossyDay) epoch() (f epochFile) {
	d.client.t.Helper()
	f, err := readEpoch(epochPath("", d.args[index(d.args, "--keyset")+1]))
	if err != nil {
		d.client.t.Fatal(err)
	}
	return f
}

// admin runs a command with the service's Redis and keys.
func (d *lossyDay) admin(want int, args ...string) string {
	d.client.t.Helper()
	keyset := d.args[index(d.args, "--keyset")+1]
	args = append(args, "--redis-url", d.args[index(d.args, "--redis-url")+1])
	if args[0] != "audit" {
		args = append(args, "--keyset", keyset, "--policy", "../../docs/policy.json")
	}
	code, out, errs := once(args...)
	if code != want {
		d.client.t.Fatalf("latchkey %s: %d %s%s", strings.Join(args[:2], " "), code, out, errs)
	}
	return out + errs
}

func (d *lossyDay) mailsWith(text string) (n int) {
	for _, m := range d.sink.Messages() {
		if plain, err := m.Part("text/plain"); err == nil && strings.Contains(plain, text) {
			n++
		}
	}
	return n
}

// A copy of Redis is put back while requests come in. Not one is answered from it: not by the
// instance that runs, nor by one that starts. After latchkey restore a code of before opens
// nothing, a parcel that was handed over is over, and what its shop confirms has a new code,
// mailed once.
func TestARestoredRedisHandsNothingOver(t *testing.T) {
	for name, conf := range map[string][]string{
		"RDB": nil,
		"AOF": {"appendonly yes", "appendfsync always"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, conf...)
			first := start(t, s.args...)
			d := newLossyDay(t, s, first.url(t))
			d.must("PUT", "/v1/couriers/swift/cou_7", d.operator, `{"name":"C","cleared_until":"2099-01-01"}`)
			d.must("PUT", "/v1/routes/swift/R1/"+d.today, d.operator, `{"courier_id":"cou_7"}`)
			gone, kept := d.dispatch("GONE1"), d.dispatch("KEPT1")
			d.dispatch("MOVED1")
			goneCode, keptCode := d.code(gone), d.code(kept)
			revoked := strings.Fields(d.admin(0, "apikey", "create", "--scope", "dispatch", "--shop", "demo", "--label", "revoked"))[0]

			// Load, and in the middle of it a copy.
			var load sync.WaitGroup
			stop, putBack := make(chan struct{}), new(atomic.Bool)
			var served, after atomic.Int64
			for n := range 4 {
				load.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						lost := putBack.Load()
						req, _ := http.NewRequest("POST", d.url+"/v1/dispatches", strings.NewReader(d.line(fmt.Sprintf("LOAD%d-%d", n, i), "Turmstr. 5")))
						req.Header.Set("Content-Type", "application/json")
						req.Header.Set("Authorization", "Bearer "+d.warehouse)
						resp, err := http.DefaultClient.Do(req)
						if err != nil {
							continue
						}
						resp.Body.Close()
						if resp.StatusCode < 300 {
							served.Add(1)
							if lost {
								after.Add(1)
							}
						}
					}
				})
			}
			await(t, "load", func() bool { return served.Load() > 100 })
			copied := s.redis.Copy()
			at := served.Load()
			await(t, "more load", func() bool { return served.Load() > at+100 })

			// What will be lost: a release, a new parcel, a key, the end of another.
			if status, why := d.verify("GONE1", goneCode); status != http.StatusOK {
				t.Fatalf("%d %v", status, why)
			}
			lost := d.dispatch("LOST1")
			lostCode := d.code(lost)
			made := strings.Fields(d.admin(0, "apikey", "create", "--scope", "dispatch", "--shop", "demo", "--label", "made"))[0]
			keys := d.admin(0, "apikey", "list")
			var revokedID, madeID string
			for _, line := range strings.Split(keys, "\n") {
				switch f := strings.Fields(line); {
				case strings.Contains(line, "revoked"):
					revokedID = f[0]
				case strings.Contains(line, "made"):
					madeID = f[0]
				}
			}
			if revokedID == "" || madeID == "" || revoked == made {
				t.Fatalf("the keys are %s", keys)
			}
			d.admin(0, "apikey", "revoke", revokedID)
			await(t, "the epoch file to know the keys", func() bool { return slices.Equal(d.epoch().Keys, []string{madeID}) })

			putBack.Store(true)
			s.redis.PutBack(copied)
			await(t, "the reason", func() bool {
				status, answer := d.do("GET", "/readyz", "", "")
				detail, _ := answer["detail"].(string)
				return status == http.StatusServiceUnavailable && strings.Contains(detail, "older than what it acknowledged")
			})
			if status, why := d.verify("GONE1", goneCode); status != http.StatusServiceUnavailable || why != "service-halted" {
				t.Errorf("a used code: %d %v", status, why)
			}
			close(stop)
			load.Wait()
			// What was under way when the server was killed may have been answered before.
			if n := after.Load(); n > 0 {
				t.Errorf("%d of the requests that began after it was put back were served", n)
			}
			first.stop()
			known := d.epoch()
			second := start(t, s.args...)
			d.url = second.url(t)
			if status, answer := d.do("GET", "/readyz", "", ""); status != http.StatusServiceUnavailable || answer["code"] != "service-halted" {
				t.Errorf("one that starts: %d %v", status, answer)
			}
			if status, why := d.verify("GONE1", goneCode); status != http.StatusServiceUnavailable {
				t.Errorf("a used code, at one that starts: %d %v", status, why)
			}
			if d.epoch().Epoch != known.Epoch || d.epoch().Marks != known.Marks {
				t.Error("a store that is refused changed the epoch file")
			}

			said := d.admin(0, "restore", "--quiet", "0s")
			for _, want := range []string{"older than what it acknowledged", "grants are held", "API key " + revokedID + " (", "is closed", "API key " + madeID + " is lost", "sessions of browsers are ended"} {
				if !strings.Contains(said, want) {
					t.Errorf("restore does not say %q: %s", want, said)
				}
			}
			if said := d.admin(1, "restore", "--quiet", "0s"); !strings.Contains(said, "nothing is done") {
				t.Errorf("twice: %s", said)
			}
			await(t, "service", func() bool { status, _ := d.do("GET", "/readyz", "", ""); return status == http.StatusOK })
			for parcel, code := range map[string]string{"GONE1": goneCode, "KEPT1": keptCode} {
				if status, why := d.verify(parcel, code); status != http.StatusConflict || why != "on-hold" {
					t.Errorf("%s, not confirmed: %d %v", parcel, status, why)
				}
			}
			clerk := s.token(t, auth.Principal{Subject: "clerk", Shop: "demo", Scopes: []auth.Scope{auth.Shop}})
			if status, answer := d.do("POST", "/v1/dispatches/"+kept+"/lift", clerk, `{"reason":"it is fine"}`); status != http.StatusConflict || answer["code"] != "not-confirmed" {
				t.Errorf("a shop lifts it: %d %v", status, answer)
			}
			if status, answer := d.do("POST", "/v1/dispatches", d.warehouse, d.line("KEPT1", "Turmstr. 5")); status != http.StatusOK || answer["status"] != "held" {
				t.Errorf("the same dispatch alone: %d %v", status, answer)
			}

			file := filepath.Join(t.TempDir(), "day.ndjson")
			handed := filepath.Join(t.TempDir(), "handed")
			for path, content := range map[string]string{
				file:   strings.Join([]string{d.line("GONE1", "Turmstr. 5"), d.line("KEPT1", "Turmstr. 5"), d.line("MOVED1", "Elsewhere 1"), d.line("LOST1", "Turmstr. 5")}, "\n") + "\n",
				handed: "swift GONE1\n",
			} {
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			confirm := []string{"restore", "confirm", "--shop", "demo", "--dispatches", file, "--handed-over", handed}
			said = d.admin(0, confirm...)
			for _, want := range []string{"line 3: MOVED1 stays held", "line 4: LOST1 is lost", "1 confirmed", "1 closed as handed over", "2 lines for a person", "MOVED1 of swift stays held"} {
				if !strings.Contains(said, want) {
					t.Errorf("confirm does not say %q: %s", want, said)
				}
			}
			if said = d.admin(0, confirm...); !strings.Contains(said, "0 confirmed") {
				t.Errorf("again: %s", said)
			}
			if list := d.admin(0, "restore", "list"); !strings.Contains(list, "MOVED1") || strings.Contains(list, "KEPT1") || strings.Contains(list, "GONE1") {
				t.Errorf("in doubt are: %s", list)
			}

			if status, why := d.verify("GONE1", goneCode); status != http.StatusConflict || why != "already-released" {
				t.Errorf("what was handed over: %d %v", status, why)
			}
			fresh := d.code(kept)
			if fresh == keptCode {
				t.Fatal("the confirmed parcel has its old code")
			}
			await(t, "the mail with the new code", func() bool { return d.mailsWith(fresh) == 1 })
			if status, why := d.verify("KEPT1", keptCode); status != http.StatusForbidden || why != "code-mismatch" {
				t.Errorf("the old code: %d %v", status, why)
			}
			if status, why := d.verify("KEPT1", fresh); status != http.StatusOK {
				t.Errorf("the new code: %d %v", status, why)
			}
			if again := d.code(d.dispatch("LOST1")); again == lostCode {
				t.Error("a lost parcel that is dispatched again has its old code")
			}
			if n := d.mailsWith(fresh); n != 1 {
				t.Errorf("the new code was mailed %d times", n)
			}

			// The chain has the gap: until when events were acknowledged, and who closed it.
			folder := filepath.Join(t.TempDir(), "trail")
			await(t, "the gap in the chain", func() bool {
				_ = os.RemoveAll(folder)
				d.admin(0, "audit", "export", "--out", folder)
				files, _ := filepath.Glob(filepath.Join(folder, "*"))
				for _, f := range files {
					if content, err := os.ReadFile(f); err == nil && strings.Contains(string(content), `"store_restored"`) {
						return strings.Contains(string(content), fmt.Sprintf(`"claimed":%d`, known.At.Unix()))
					}
				}
				return false
			})
		})
	}
}

// A Redis that comes back with all that it acknowledged is served again, by itself.
func TestARestartedRedisIsServed(t *testing.T) {
	s := newService(t, "appendonly yes", "appendfsync always")
	p := start(t, s.args...)
	d := newLossyDay(t, s, p.url(t))
	grant := d.dispatch("P1")
	await(t, "the epoch file", func() bool { return d.epoch().Marks != redisstore.Marks{} })
	s.redis.Kill()
	s.redis.Restart()
	await(t, "service", func() bool {
		status, answer := d.do("GET", "/v1/handoffs/"+grant, d.customer, "")
		return status == http.StatusOK && answer["code"] != ""
	})
	if strings.Contains(p.err.String(), "nothing is served") {
		t.Error("it was taken for one that lost something")
	}
	s.redis.PutBack(t.TempDir()) // and an empty one is not
	await(t, "the reason", func() bool {
		_, answer := d.do("GET", "/readyz", "", "")
		detail, _ := answer["detail"].(string)
		return strings.Contains(detail, "has no epoch")
	})
}

// What is compared: each case is what an instance knows, and what it then finds.
func TestEpochJudge(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	id := func(at time.Time) string { return fmt.Sprintf("%d-0", at.UnixMilli()) }
	recent, old := id(now.Add(-time.Minute)), id(now.Add(-40*24*time.Hour))
	missing := [handoff.Partitions]bool{3: true}
	for name, c := range map[string]struct {
		epoch, mark string
		found       redisstore.Standing
		want        string // of the refusal; empty: served
	}{
		"a first instance":           {"", "", redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E1"}}, ""},
		"all is there":               {"E1", recent, redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E1"}}, ""},
		"an event is gone":           {"E1", recent, redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E1"}, Missing: missing}, "older than what it acknowledged"},
		"an event was trimmed":       {"E1", old, redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E1"}, Missing: missing}, ""},
		"it is empty":                {"E1", recent, redisstore.Standing{Missing: missing}, "no epoch"},
		"another store":              {"E1", recent, redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E9"}}, "another epoch"},
		"a copy of before a restore": {"E2", recent, redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E1"}}, "another epoch"},
		"another instance restored":  {"E1", recent, redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E2", Before: []string{"E1"}}, Missing: missing}, ""},
		"a restore is under way":     {"E1", recent, redisstore.Standing{Epoch: &redisstore.Epoch{ID: "E2", Before: []string{"E1"}, Restoring: 1}}, "under way"},
	} {
		f := epochFile{Format: epochFormat, Epoch: c.epoch}
		f.Marks[3] = c.mark
		next, err := f.judge(c.found, now, 30*24*time.Hour)
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		case err == nil && (next.Epoch != c.found.Epoch.ID || next.Marks != c.found.Ends):
			t.Errorf("%s: from here on %+v", name, next)
		}
	}
}

// A file that cannot be read is no reason to begin anew, and one that can be is whole.
func TestEpochFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json.epoch")
	if f, err := readEpoch(path); err != nil || f.Epoch != "" {
		t.Fatalf("none: %+v %v", f, err)
	}
	f := epochFile{Format: epochFormat, Epoch: "E1", At: time.Unix(1700000000, 0).UTC(), Keys: []string{"k1"}}
	f.Marks[15] = "1700000000000-3"
	if err := f.write(path); err != nil {
		t.Fatal(err)
	}
	if back, err := readEpoch(path); err != nil || fmt.Sprint(back) != fmt.Sprint(f) {
		t.Errorf("%+v, %v", back, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	content, _ := os.ReadFile(path)
	for name, bad := range map[string][]byte{
		"cut":             content[:len(content)/2],
		"empty":           {},
		"a later version": []byte(strings.Replace(string(content), `"format": 2`, `"format": 3`, 1)),
		"no epoch":        []byte(strings.Replace(string(content), `"E1"`, `""`, 1)),
		"a mark":          []byte(strings.Replace(string(content), "1700000000000-3", "yesterday", 1)),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readEpoch(path); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	var members map[string]any
	if err := json.Unmarshal(content, &members); err != nil || len(members) != 5 {
		t.Errorf("it holds %v, %v", members, err)
	}
}
