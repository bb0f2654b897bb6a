package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/handoff/eventlog"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
)

// watchedDay is a lossyDay on a master and its replica under Sentinels, with two instances that
// each have an epoch file.
func watchedDay(t *testing.T) (d *lossyDay, set *redistest.SentinelSet, instances [2]*program) {
	t.Helper()
	set = redistest.Sentinel(t)
	s := newService(t)
	addrs := set.SentinelAddrs()
	s.args[index(s.args, "--redis-url")+1] = "redis://" + addrs[0] + "?master_name=" + set.MasterName() + "&addr=" + strings.Join(addrs[1:], "&addr=")
	for i, more := range [][]string{nil, {"--epoch", filepath.Join(t.TempDir(), "second.epoch")}} {
		instances[i] = start(t, append(slices.Clone(s.args), more...)...)
	}
	d = newLossyDay(t, s, instances[0].url(t))
	set.AwaitUptime(promotedWithin)
	d.must("PUT", "/v1/couriers/swift/cou_7", d.operator, `{"name":"C","cleared_until":"2099-01-01"}`)
	d.must("PUT", "/v1/routes/swift/R1/"+d.today, d.operator, `{"courier_id":"cou_7"}`)
	return d, set, instances
}

// promotedWithin is longer than a failover takes here: a replica that ran no longer than that when
// all was well cannot be told from a server that was started since.
const promotedWithin = 8 * time.Second

// told are the events of a type, by what they were done to, each with its count.
func (d *lossyDay) told(kind string) map[string][]int {
	d.client.t.Helper()
	told := map[string][]int{}
	for _, e := range d.must("GET", "/v1/events?limit=500&type="+kind, d.operator, "")["events"].([]any) {
		event := e.(map[string]any)
		data := event["data"].(map[string]any)
		count, _ := data["count"].(float64)
		of, _ := data["object"].(string)
		if of == "" {
			of, _ = event["subject"].(string)
		}
		told[of] = append(told[of], int(count))
	}
	return told
}

// lostOnMetrics is what an instance's metric says of lost events.
func lostOnMetrics(t *testing.T, url string) (sum int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^latchkey_redis_lost_events_total\{partition="[0-9a-f]{2}"\} (\d+)$`).FindAllStringSubmatch(got(t, url+"/metrics"), -1) {
		var n int
		_, _ = fmt.Sscan(m[1], &n)
		sum += n
	}
	return sum
}

// A failover loses a release and a dispatch that were acknowledged. The parcel that was handed over
// is held, the dispatch is listed, and all else goes on, at both instances; each loss is told once.
func TestWhatAFailoverLosesIsHeld(t *testing.T) {
	d, set, instances := watchedDay(t)
	gone, kept := d.dispatch("GONE1"), d.dispatch("KEPT1")
	goneCode, keptCode := d.code(gone), d.code(kept)
	var lost, lostCode string
	set.LosingFailover(func() {
		if status, why := d.verify("GONE1", goneCode); status != http.StatusOK {
			t.Errorf("%d %v", status, why)
		}
		lost = d.dispatch("LOST1")
		lostCode = d.code(lost)
		await(t, "the signal of a release so soon", func() bool { return len(d.told("signal")) == 1 })
	})
	for _, p := range instances {
		d.url = p.url(t)
		await(t, "service", func() bool { status, _ := d.do("GET", "/readyz", "", ""); return status == http.StatusOK })
		await(t, "the hold", func() bool {
			status, why := d.verify("GONE1", goneCode)
			if status == http.StatusOK {
				t.Fatal("a parcel was handed over twice")
			}
			return status == http.StatusConflict && why == "on-hold"
		})
		if status, why := d.verify("LOST1", lostCode); status != http.StatusNotFound {
			t.Errorf("a lost dispatch: %d %v", status, why)
		}
		if !strings.Contains(p.err.String(), "Redis has lost events that were acknowledged") {
			t.Error("an instance does not say that something is lost")
		}
		if strings.Contains(p.err.String(), "nothing is served") {
			t.Error("an instance halted")
		}
		if n := lostOnMetrics(t, d.url); n != 4 { // the release, its signal, the dispatch, and the customer's look at the code
			t.Errorf("%d events are lost, by the metric", n)
		}
	}
	if status, why := d.verify("KEPT1", keptCode); status != http.StatusOK {
		t.Errorf("another parcel: %d %v", status, why)
	}

	if got := d.told("distrusted"); len(got) != 1 || len(got[gone]) != 1 {
		t.Errorf("held are %v", got)
	}
	if got := d.told("dispatch_lost"); len(got) != 1 || len(got[lost]) != 1 {
		t.Errorf("lost dispatches are %v", got)
	}
	sum := 0
	for of, counts := range d.told("events_lost") {
		if len(counts) != 1 || !strings.HasPrefix(of, "log:") {
			t.Errorf("of %s %v are told", of, counts)
		}
		sum += counts[0]
	}
	if sum != 4 {
		t.Errorf("%d events are told to be lost", sum)
	}

	list := d.admin(0, "restore", "list")
	for _, want := range []string{"GONE1", "LOST1 of swift is lost: its shop demo has to dispatch it again"} {
		if !strings.Contains(list, want) {
			t.Errorf("restore list does not say %q: %s", want, list)
		}
	}
	if again := d.code(d.dispatch("LOST1")); again == lostCode {
		t.Error("a lost parcel that is dispatched again has its old code")
	}
	if list = d.admin(0, "restore", "list"); strings.Contains(list, "LOST1") || strings.Contains(list, "KEPT1") {
		t.Errorf("in doubt are: %s", list)
	}
	file, handed := filepath.Join(t.TempDir(), "day.ndjson"), filepath.Join(t.TempDir(), "handed")
	for path, content := range map[string]string{file: d.line("GONE1", "Turmstr. 5") + "\n", handed: "swift GONE1\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.admin(0, "restore", "confirm", "--shop", "demo", "--dispatches", file, "--handed-over", handed)
	if status, why := d.verify("GONE1", goneCode); status != http.StatusConflict || why != "already-released" {
		t.Errorf("what was handed over: %d %v", status, why)
	}
}

// An instance that was started since a failover lost something cannot say what it was: it refuses
// the partition, and goes on with the others, also after another start. latchkey restore holds the
// partition's grants alone, and has it served again.
func TestWhatIsNotKnownOfALossRefusesItsPartition(t *testing.T) {
	d, set, instances := watchedDay(t)
	instances[1].stop()
	gone := d.dispatch("GONE1")
	goneCode := d.code(gone)
	kept, codes := map[string]string{}, map[string]string{} // other parcels
	for i := range 24 {
		parcel := fmt.Sprintf("KEPT%d", i)
		kept[parcel] = d.dispatch(parcel)
		codes[parcel] = d.code(kept[parcel])
	}
	part := "0" + gone[:1]
	set.LosingFailover(func() {
		if status, why := d.verify("GONE1", goneCode); status != http.StatusOK {
			t.Errorf("%d %v", status, why)
		}
		await(t, "the signal of a release so soon", func() bool { return len(d.told("signal")) == 1 })
		released := d.must("GET", "/v1/events?type=released", d.operator, "")["events"].([]any)[0].(map[string]any)["id"].(string)
		p, _ := partitionOf(part)
		await(t, "a look", func() bool {
			id, _, _ := strings.Cut(d.epoch().Marks[p], "/")
			return eventlog.CompareIDs(id, released) >= 0
		})
		instances[0].stop()
	})
	var p *program
	for again := range 2 {
		p = start(t, d.args...)
		d.url = p.url(t)
		if n := lostOnMetrics(t, d.url); again == 0 && n == 0 || again == 1 && n > 0 {
			t.Errorf("start %d: %d events are lost, by the metric", again, n)
		}
		if status, why := d.verify("GONE1", goneCode); status != http.StatusServiceUnavailable || why != "partition-refused" {
			t.Errorf("a parcel of the refused partition: %d %v", status, why)
		}
		status, answer := d.do("GET", "/readyz", "", "")
		if detail, _ := answer["detail"].(string); status != http.StatusOK || answer["status"] != "degraded" || !strings.Contains(detail, part) {
			t.Errorf("/readyz: %d %v", status, answer)
		}
		if !slices.Contains(slices.Collect(maps.Keys(d.epoch().Refused)), part) {
			t.Errorf("the epoch file has %v", d.epoch().Refused)
		}
		p.stop()
	}
	p = start(t, d.args...)
	d.url = p.url(t)
	if status, answer := d.do("POST", "/v1/dispatches", d.warehouse, d.line("GONE1", "Turmstr. 5")); status != http.StatusServiceUnavailable || answer["code"] != "partition-refused" {
		t.Errorf("its dispatch: %d %v", status, answer)
	}
	if stops := d.must("GET", "/v1/courier/stops", d.courier, "")["stops"].([]any); len(stops) != 1+len(kept) {
		t.Errorf("a route of which some parcels are refused has %d stops", len(stops))
	}
	statuses := map[any]any{}
	for _, h := range d.must("GET", "/v1/customers/cus_1/handoffs", d.customer, "")["handoffs"].([]any) {
		statuses[h.(map[string]any)["grant_id"]] = h.(map[string]any)["status"]
	}
	if len(statuses) != 1+len(kept) || statuses[gone] != "held" {
		t.Errorf("the customer's parcels are %v", statuses)
	}
	refused := d.epoch().Refused
	for parcel, grant := range kept {
		if _, is := refused["0"+grant[:1]]; !is {
			if status, why := d.verify(parcel, codes[parcel]); status != http.StatusOK {
				t.Errorf("a parcel of another partition: %d %v", status, why)
			}
			delete(kept, parcel)
		}
	}
	if len(refused) > 2 || len(kept) > 20 {
		t.Errorf("refused are %v", refused)
	}
	if got := d.told("partition_refused"); len(got["log:"+part]) != 1 {
		t.Errorf("told is %v", got)
	}

	said := d.admin(0, "restore", "--quiet", "0s")
	if !strings.Contains(said, "restoring the partitions") || !strings.Contains(said, part) || strings.Contains(said, "no instance serves") {
		t.Errorf("restore says %s", said)
	}
	await(t, "the partition", func() bool {
		status, why := d.verify("GONE1", goneCode)
		if status == http.StatusOK {
			t.Fatal("a parcel was handed over twice")
		}
		return status == http.StatusConflict && why == "on-hold"
	})
	if status, answer := d.do("GET", "/readyz", "", ""); status != http.StatusOK || answer["status"] != "ready" {
		t.Errorf("/readyz: %d %v", status, answer)
	}
	if len(d.epoch().Refused) != 0 {
		t.Errorf("the epoch file has %v", d.epoch().Refused)
	}
	list := d.admin(0, "restore", "list")
	if !strings.Contains(list, "GONE1") || strings.Count(list, "\n") != 1+len(kept) {
		t.Errorf("in doubt are, but for GONE1 and %v: %s", kept, list)
	}
	if said := d.admin(1, "restore", "--quiet", "0s"); !strings.Contains(said, "nothing is done") {
		t.Errorf("twice: %s", said)
	}
}

// A server that was running when all was well is a promoted replica; one that was started since may
// have been put back to any earlier state.
func TestPromoted(t *testing.T) {
	now := 100 * time.Second
	s := &sentry{file: epochFile{Servers: []string{"a", "b"}}, wellAt: 90 * time.Second, elapsed: func() time.Duration { return now }}
	for name, c := range map[string]struct {
		found []redisstore.Server
		want  bool
	}{
		"none that says who it is":          {nil, false},
		"the same":                          {[]redisstore.Server{{ID: "a", Ran: time.Hour}, {ID: "b", Ran: time.Hour}}, false},
		"a replica":                         {[]redisstore.Server{{ID: "a", Ran: time.Hour}, {ID: "c", Ran: 15 * time.Second}}, true},
		"started since":                     {[]redisstore.Server{{ID: "a", Ran: time.Hour}, {ID: "c", Ran: 8 * time.Second}}, false},
		"started about then":                {[]redisstore.Server{{ID: "c", Ran: 11 * time.Second}}, false},
		"a replica, and one started since":  {[]redisstore.Server{{ID: "c", Ran: time.Hour}, {ID: "d", Ran: time.Second}}, false},
		"one started since, and a replica":  {[]redisstore.Server{{ID: "d", Ran: time.Second}, {ID: "c", Ran: time.Hour}}, false},
		"a replica, and one as it was then": {[]redisstore.Server{{ID: "c", Ran: time.Hour}, {ID: "a", Ran: time.Second}}, true},
	} {
		if got := s.promoted(c.found, time.Time{}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
