package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
)

// compact puts a dispatch on one line.
func compact(d string) string {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(d)); err != nil {
		panic(err)
	}
	return b.String()
}

type result struct {
	Line    int    `json:"line"`
	Status  int    `json:"status"`
	GrantID string `json:"grant_id"`
	Code    string `json:"code"`
	Errors  []struct {
		Location string `json:"location"`
	} `json:"errors"`
	Warnings []struct {
		Code  string `json:"code"`
		Field string `json:"field"`
	} `json:"warnings"`
}

func results(t testing.TB, r io.Reader) []result {
	t.Helper()
	var all []result
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var one result
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		all = append(all, one)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func (h *house) bulk(t testing.TB, body string) (*answer, []result) {
	t.Helper()
	req := h.request(t, warehouse, "POST", "/v1/dispatches/bulk", body)
	req.Header.Set("Content-Type", "application/x-ndjson")
	a := h.send(t, req)
	if a.status != 200 || a.header.Get("Content-Type") != "application/x-ndjson" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Fatalf("%d %v %s", a.status, a.header, a.text)
	}
	return a, results(t, strings.NewReader(a.text))
}

func TestBulk(t *testing.T) {
	h := newHouse(t, nil)
	h.dispatch(t, "P4", nil)
	file := strings.Join([]string{
		compact(sample("P1", nil)) + "\r",
		"",
		`{"parcel_id":"P3","CODE":1}`,
		compact(sample("P4", nil)),
		`{"parcel_id":`,
		compact(sample("P6", map[string]any{"customer.email": "x", "value.amount": "1,5"})),
		"  ",
		compact(sample("P8", map[string]any{"destination.kind": "locker"})),
		strings.Repeat("x", 64<<10+10),
		compact(sample("P4", map[string]any{"customer.name": "Sample Customer 9"})),
		compact(sample("P11", nil)) + strings.Repeat(" ", 64<<10-len(compact(sample("P11", nil)))),
		compact(sample("P12", nil)),
	}, "\n")
	a, got := h.bulk(t, "\xef\xbb\xbf"+file)
	want := []result{
		{Line: 1, Status: 201},
		{Line: 3, Status: 422, Code: "invalid-request"},
		{Line: 4, Status: 200},
		{Line: 5, Status: 400, Code: "bad-request"},
		{Line: 6, Status: 422, Code: "invalid-request"},
		{Line: 8, Status: 422, Code: "destination-not-allowed"},
		{Line: 9, Status: 413, Code: "body-too-large"},
		{Line: 10, Status: 409, Code: "dispatch-conflict"},
		{Line: 11, Status: 201},
		{Line: 12, Status: 201},
	}
	if len(got) != len(want) {
		t.Fatalf("%d results, want %d: %s", len(got), len(want), a.text)
	}
	for i, w := range want {
		if g := got[i]; g.Line != w.Line || g.Status != w.Status || g.Code != w.Code || (g.GrantID != "") != (g.Status < 300) {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	if got[1].Errors[0].Location != "body.CODE" || len(got[4].Errors) != 2 {
		t.Errorf("the faults are not named: %+v %+v", got[1], got[4])
	}
	if single := h.do(t, warehouse, "POST", "/v1/dispatches", sample("P1", nil)); single.status != 200 || single.body["grant_id"] != got[0].GrantID {
		t.Errorf("the single route makes another grant: %s", single.text)
	}
	for _, personal := range []string{"Sample", "shop.example"} {
		if strings.Contains(a.text, personal) || strings.Contains(h.log.String(), personal) {
			t.Errorf("%q is repeated", personal)
		}
	}
	if !strings.Contains(h.log.String(), `"route":"/v1/dispatches/bulk","status":200`) {
		t.Errorf("not logged: %s", h.log)
	}
}

// Lines end as files end them, and are counted as the program counts them that sends them.
func TestBulkLines(t *testing.T) {
	h := newHouse(t, nil)
	line := func(id string) string { return compact(sample(id, nil)) }
	const bom = "\xef\xbb\xbf"
	_, got := h.bulk(t, bom+bom+line("P1")+"\r\r\n"+line("P3")+bom+line("P4")+"\r"+bom+" "+line("P5")+"\n"+bom+"\n"+line("P7"))
	for i, want := range []int{1, 3, 4, 5, 7} {
		if i >= len(got) || got[i].Line != want || got[i].Status != 201 {
			t.Fatalf("%+v", got)
		}
	}
	if len(got) != 5 {
		t.Errorf("%+v", got)
	}
}

func TestBulkAgainIsHarmless(t *testing.T) {
	h := newHouse(t, nil)
	var file strings.Builder
	for n := range 500 {
		file.WriteString(compact(sample(fmt.Sprintf("P%d", n), nil)) + "\n")
	}
	_, first := h.bulk(t, file.String())
	_, second := h.bulk(t, file.String())
	if len(first) != 500 || len(second) != 500 {
		t.Fatalf("%d and %d results", len(first), len(second))
	}
	for n := range first {
		if first[n].Status != 201 || second[n].Status != 200 || first[n].GrantID != second[n].GrantID || first[n].Line != n+1 || second[n].Line != n+1 {
			t.Errorf("%+v, then %+v", first[n], second[n])
		}
	}
	if events := h.Events(t); handofftest.Count(events, handoff.EventDispatched) != 500 {
		t.Errorf("%d dispatched", handofftest.Count(events, handoff.EventDispatched))
	}
}

func TestBulkEdges(t *testing.T) {
	h := newHouse(t, nil, func(c *api.Config) { c.BulkLimit = 100_000 })
	if _, got := h.bulk(t, ""); len(got) != 0 {
		t.Errorf("an empty file: %+v", got)
	}
	if _, got := h.bulk(t, "\n\n"); len(got) != 0 {
		t.Errorf("blank lines: %+v", got)
	}
	req := h.request(t, warehouse, "POST", "/v1/dispatches/bulk", "{}")
	if a := h.send(t, req); a.status != 415 || a.code() != "unsupported-media-type" {
		t.Errorf("as JSON: %d %s", a.status, a.text)
	}
	req = h.request(t, warehouse, "POST", "/v1/dispatches/bulk", strings.Repeat("x", 100_001))
	req.Header.Set("Content-Type", "application/x-ndjson")
	if a := h.send(t, req); a.status != 413 || a.code() != "body-too-large" {
		t.Errorf("too long: %d %s", a.status, a.text)
	}
}

// upload sends a body of unknown length over loopback.
func (h *house) upload(t testing.TB, addr string, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/v1/dispatches/bulk", struct{ io.Reader }{body})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.token(t, warehouse))
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// A result comes while the next line is not even sent.
func TestBulkStreamsBothWays(t *testing.T) {
	h := newHouse(t, nil)
	out, in := io.Pipe()
	first := make(chan struct{})
	go func() {
		fmt.Fprintln(in, compact(sample("P1", nil)))
		<-first
		fmt.Fprintln(in, compact(sample("P2", nil)))
		in.Close()
	}()
	resp := h.upload(t, h.listen(t), out)
	lines := bufio.NewReader(resp.Body)
	one, err := lines.ReadString('\n')
	if err != nil || !strings.Contains(one, `"line":1,"status":201`) {
		t.Fatalf("%q %v", one, err)
	}
	close(first)
	two, err := lines.ReadString('\n')
	if err != nil || !strings.Contains(two, `"line":2,"status":201`) {
		t.Fatalf("%q %v", two, err)
	}
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("%v after the last result", err)
	}
}

// A client that sends everything before it reads anything gets every result: they are
// far more than the buffers of the network hold.
func TestBulkWaitsForAClientThatSendsFirst(t *testing.T) {
	h := newHouse(t, hollow{embedded.New(t)})
	const lines = 300_000
	body := []byte(strings.Repeat("{\"x\":1}\n", lines)) // refused, with an answer that is longer
	conn, err := net.Dial("tcp", h.listen(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/dispatches/bulk HTTP/1.1\r\nHost: latchkey\r\nContent-Type: application/x-ndjson\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
		h.token(t, warehouse), len(body))
	if _, err := conn.Write(body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewScanner(resp.Body)
	n, size := 0, 0
	for answers.Scan() {
		n++
		size += len(answers.Bytes())
		if want := fmt.Sprintf(`{"line":%d,"status":422`, n); !strings.HasPrefix(answers.Text(), want) {
			t.Fatalf("%s, want %s", answers.Text(), want)
		}
	}
	if err := answers.Err(); err != nil || n != lines || size < 16<<20 {
		t.Errorf("%d answers of %d bytes, %v", n, size, err)
	}
}

func TestBulkOfUnknownLengthIsLimited(t *testing.T) {
	h := newHouse(t, nil, func(c *api.Config) { c.BulkLimit = 10_000 })
	resp := h.upload(t, h.listen(t), strings.NewReader(strings.Repeat("{}\n", 5000)))
	got := results(t, resp.Body)
	if last := got[len(got)-1]; last.Status != 413 || len(got) != 10_001/3+1 {
		t.Errorf("%d results, the last %+v", len(got), last)
	}
}

// stuck is a store in which every dispatch waits until it is given up.
type stuck struct {
	handofftest.Store
	waiting atomic.Int64
}

func (s *stuck) Prepare(ctx context.Context, _ service.Preparation) (service.Snapshot, error) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	<-ctx.Done()
	return service.Snapshot{}, ctx.Err()
}

// Who hangs up stops the work: the goroutines end, and the server can shut down.
func TestBulkEndsWithItsClient(t *testing.T) {
	store := &stuck{Store: embedded.New(t)}
	h := newHouse(t, store, func(c *api.Config) { c.RequestTimeout, c.BulkWorkers = 20*time.Millisecond, 64 })
	addr := h.listen(t)
	before := runtime.NumGoroutine()
	ctx, hangUp := context.WithCancel(t.Context())
	out, in := io.Pipe()
	go func() {
		for {
			if _, err := fmt.Fprintln(in, compact(sample("P1", nil))); err != nil {
				return
			}
		}
	}()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr+"/v1/dispatches/bulk", out)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.token(t, warehouse))
	hung := make(chan error, 1)
	client := &http.Client{Transport: &http.Transport{}}
	go func() {
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		hung <- err
	}()
	eventually(t, "work begins", func() bool { return store.waiting.Load() == 64 })
	hangUp()
	if err := <-hung; err == nil {
		t.Error("an answer after hanging up")
	}
	out.Close()
	eventually(t, "work ends", func() bool { return store.waiting.Load() == 0 })
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 20 s", what)
		}
	}
}

// hollow is a store that keeps nothing, so that only the API's memory is measured.
type hollow struct{ handofftest.Store }

func (hollow) Prepare(context.Context, service.Preparation) (service.Snapshot, error) {
	return service.Snapshot{}, nil
}

func (hollow) Commit(context.Context, service.Change) error { return nil }

// A file of 200 MB must pass in less than 64 MB of heap.
func TestBulkMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 200 MB")
	}
	h := newHouse(t, hollow{embedded.New(t)})
	addr := h.listen(t)
	line := compact(sample("P123456", nil)) + "\n"
	padded := line[:len(line)-1] + strings.Repeat(" ", 60_000) + "\n" // and some as long as they may be
	total := 200 << 20
	out, in := io.Pipe()
	lines := 0
	go func() {
		defer in.Close()
		for sent := 0; sent < total; lines++ {
			l := line
			if lines%50 == 0 {
				l = padded
			}
			n, err := io.WriteString(in, l)
			if err != nil {
				return
			}
			sent += n
		}
	}()

	defer debug.SetGCPercent(debug.SetGCPercent(20)) // little of the heap is garbage, whatever else is alive
	runtime.GC()
	var before runtime.MemStats // what earlier tests hold, such as the descriptions
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc-min(m.HeapAlloc, before.HeapAlloc)))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	start, got := time.Now(), 0
	in2 := bufio.NewScanner(h.upload(t, addr, out).Body)
	for in2.Scan() {
		got++
		if !bytes.Contains(in2.Bytes(), []byte(`"status":201`)) {
			t.Fatalf("%s", in2.Bytes())
		}
	}
	close(stop)
	<-stopped
	if err := in2.Err(); err != nil {
		t.Fatal(err)
	}
	if got != lines {
		t.Errorf("%d results for %d lines", got, lines)
	}
	t.Logf("%d lines, %d MB in %.1f s; peak heap %.1f MB", lines, total>>20, time.Since(start).Seconds(), float64(peak.Load())/(1<<20))
	if peak.Load() > 64<<20 {
		t.Errorf("peak heap %d bytes", peak.Load())
	}
}
