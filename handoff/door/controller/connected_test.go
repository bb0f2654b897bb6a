package controller

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/handoff/door"
)

// office is the service as a door sees it: a stream that resumes, and a place for reports.
type office struct {
	t    testing.TB
	site *site
	addr string

	mu       sync.Mutex
	messages []string // events without their ids
	changed  chan struct{}
	reports  [][]byte
	known    []door.Known // what the door said of its keys
	answer   string
	loses    int // replies to reports that get lost, though the reports arrived
	server   *httptest.Server
}

func newOffice(t testing.TB, s *site) *office {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, site: s, addr: ln.Addr().String(), changed: make(chan struct{}), answer: `{"accepted":1,"refused":[]}`}
	o.serve(ln)
	t.Cleanup(o.cut)
	return o
}

func (o *office) serve(ln net.Listener) {
	o.server = &httptest.Server{Listener: ln, Config: &http.Server{Handler: o}}
	o.server.Start()
}

// cut takes the service off the network.
func (o *office) cut() {
	if o.server != nil {
		o.server.CloseClientConnections()
		o.server.Close()
		o.server = nil
	}
}

func (o *office) restore() {
	ln, err := net.Listen("tcp", o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	o.serve(ln)
}

func (o *office) service() *Service {
	u, err := ParseURL("http://" + o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	transport := NewTransport()
	o.t.Cleanup(transport.CloseIdleConnections)
	return &Service{URL: u, Token: token, Transport: transport}
}

func (o *office) push(kind, data string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.messages = append(o.messages, "event: "+kind+"\ndata: "+data+"\n")
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Authorization") != "Bearer door-token":
		http.Error(w, "no", http.StatusForbidden)
	case r.Method == http.MethodGet && r.URL.Path == "/v1/doors/"+theDoor+"/permits":
		o.stream(w, r)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/doors/"+theDoor+"/reports":
		o.collect(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (o *office) stream(w http.ResponseWriter, r *http.Request) {
	at, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		_ = http.NewResponseController(w).Flush()
		o.mu.Lock()
		fresh, changed := o.messages[at:], o.changed
		o.mu.Unlock()
		for _, m := range fresh {
			at++
			fmt.Fprintf(w, "%sid: %d\n\n", m, at)
		}
		if len(fresh) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (o *office) collect(w http.ResponseWriter, r *http.Request) {
	var body struct{ Reports []string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		o.t.Errorf("reports: %v", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, text := range body.Reports {
		b, err := base64url.DecodeString(text)
		if err != nil {
			o.t.Errorf("a report: %v", err)
		}
		if k, err := (door.ReportVerifier{Door: theDoor, Key: o.site.public}).Known(b); err == nil {
			o.known = append(o.known, k)
			return
		}
		o.reports = append(o.reports, b)
	}
	if o.loses > 0 {
		o.loses--
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, o.answer)
}

// heard are the reports so far, in the order in which they came.
func (o *office) heard(s *site) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	words, _ := s.read(o.t, o.reports...)
	return words
}

// once is the reports without those that came again: the answer to one may be lost with the network.
func (o *office) once() (once [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.reports {
		if !slices.ContainsFunc(once, func(other []byte) bool { return bytes.Equal(r, other) }) {
			once = append(once, r)
		}
	}
	return once
}

// soon waits until something is so.
func soon(t testing.TB, what func() (got, want string)) {
	t.Helper()
	var got, want string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got, want = what(); got == want {
			return
		}
	}
	t.Fatalf("got %q in time, want %q", got, want)
}

func TestConnected(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	r := s.run(t, &lock{}, func(c *Config) { c.Service, c.Relock = o.service(), 50*time.Millisecond })
	p, permit := s.permit(t, nil)
	o.push("permit", permit)
	o.push("weather", "c3Vubnk") // for doors newer than this one
	soon(t, func() (string, string) { return o.heard(s), "delivered confirmed relocked" })
	_, about := s.read(t, o.reports...)
	for _, id := range about {
		wants(t, id, p.ID)
	}
	soon(t, func() (string, string) { return r.folder.cursor(), "2" })
	wants(t, r.end(), "") // nothing is kept that the service has
}

// The stream says again what was under way when it broke. That is no second attempt, and
// from a reader it would be one.
func TestRepeatedByTheStream(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	_, permit := s.permit(t, nil)
	o.push("permit", permit)
	o.push("permit", permit)
	r := s.run(t, &lock{}, func(c *Config) { c.Service, c.Relock = o.service(), time.Millisecond })
	soon(t, func() (string, string) { return o.heard(s), "delivered confirmed relocked" })
	soon(t, func() (string, string) { return r.folder.cursor(), "2" })
	wants(t, r.ask(permit), Answer{Result: "refused", Reason: "replayed"})
	r.end()
	wants(t, o.heard(s), "delivered confirmed relocked refused/replayed")
	wants(t, r.lock.moved(), "unlock lock")
}

// A permit that waits for the lock when the controller ends, however it ends, comes again to the next
// one, with all that came after it. What the lock acted on does not.
func TestAPermitThatWaitsForTheLockComesAgain(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	moving, move := make(chan struct{}), make(chan struct{})
	l := &lock{fails: func(what string) error {
		if what == "unlock" {
			close(moving)
			<-move
		}
		return nil
	}}
	connect := func(c *Config) { c.Service, c.Relock = o.service(), 10*time.Millisecond }
	r := s.run(t, l, connect)
	_, first := s.permit(t, nil)
	o.push("permit", first)
	<-moving
	_, second := s.permit(t, nil)
	o.push("permit", second)
	o.push("revocation", second) // is none
	soon(t, func() (string, string) {
		return strconv.Itoa(strings.Count(r.log.String(), "a message was not taken")), "1"
	})
	soon(t, func() (string, string) { return r.folder.cursor(), "1" })
	r.stop()
	close(move)
	wants(t, r.end(), "")
	wants(t, l.moved(), "unlock lock")

	l.mu.Lock()
	l.fails = nil
	l.mu.Unlock()
	r = s.run(t, l, connect)
	soon(t, func() (string, string) { return l.moved(), "unlock lock unlock lock" })
	soon(t, func() (string, string) { return r.folder.cursor(), "3" })
	wants(t, r.end(), "")
	wants(t, o.heard(s), "delivered confirmed relocked delivered confirmed relocked")
}

// A rotation that went on before the door learnt the key: it says of which permit it refuses
// the signature, so that the unlock is shown as refused. Of what a reader brings it
// believes no id.
func TestAnUnknownKeyIsSaidOfItsPermit(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	stranger, err := door.NewSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.signer = stranger
	p, permit := s.permit(t, nil)
	o.push("permit", permit)
	r := s.run(t, &lock{}, func(c *Config) { c.Service = o.service() })
	soon(t, func() (string, string) { return o.heard(s), "refused/unknown-key" })
	wants(t, r.ask(permit), Answer{Result: "refused", Reason: "unknown-key"})
	soon(t, func() (string, string) { return o.heard(s), "refused/unknown-key refused/unknown-key" })
	_, about := s.read(t, o.reports...)
	wants(t, about[0], p.ID)
	wants(t, about[1], door.PermitID{})
	r.end()
	wants(t, r.lock.moved(), "")
}

// The network goes away in the middle of an unlock. Reports come later, all, in order.
func TestNetworkCut(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	cut := make(chan struct{})
	l := &lock{fails: func(move string) error { // the lock moves while the network goes
		if move == "unlock" {
			o.cut()
			close(cut)
		}
		return nil
	}}
	r := s.run(t, l, func(c *Config) { c.Service, c.Relock = o.service(), 10*time.Millisecond })
	_, permit := s.permit(t, nil)
	o.push("permit", permit)
	<-cut
	l.mu.Lock()
	l.fails = nil
	l.mu.Unlock()
	soon(t, func() (string, string) { return l.moved(), "unlock lock" })
	_, second := s.permit(t, nil)
	wants(t, r.ask(second), Answer{Result: "opened"}) // carried, while there is no network
	wants(t, r.ask("tamper"), Answer{Result: "ok"})
	soon(t, func() (string, string) { return l.moved(), "unlock lock unlock lock" })
	o.restore()
	soon(t, func() (string, string) {
		words, _ := s.read(t, o.once()...)
		return without(words, "tamper"), "delivered confirmed relocked delivered confirmed relocked"
	})
	var last uint64
	for _, b := range o.once() {
		rep, err := reportsOf(s).Verify(b)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Seq != last+1 {
			t.Errorf("report %d came after %d", rep.Seq, last)
		}
		last = rep.Seq
	}
	wants(t, last, 7)
	_, third := s.permit(t, nil)
	o.push("permit", third) // the stream too came back, and went on where it was
	soon(t, func() (string, string) { return l.moved(), "unlock lock unlock lock unlock lock" })
	wants(t, r.end(), "")
}

// The reports arrived and the reply was lost: they come again, under the same numbers.
func TestLostReply(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	o.loses = 1
	r := s.run(t, &lock{}, func(c *Config) { c.Service = o.service() })
	r.ask("tamper")
	soon(t, func() (string, string) { return o.heard(s), "tamper tamper" })
	wants(t, string(o.reports[0]), string(o.reports[1]))
	wants(t, r.end(), "")
}

// When the service is there again, reports do not wait for the end of their own pause.
func TestReportsGoWithTheStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		folder := newSite(t).open(t)
		if _, err := folder.outbox.Add(door.Tamper, door.PermitID{}, 0, time.Now()); err != nil {
			t.Fatal(err)
		}
		var up atomic.Bool
		var tries atomic.Int32
		back := make(chan struct{}, 1)
		l := newLink(Service{
			URL: &url.URL{Scheme: "https", Host: "service.example"}, Token: func() (string, error) { return "token", nil },
			Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				tries.Add(1)
				if !up.Load() {
					return nil, errors.New("no network")
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			}),
		}, theDoor)
		r := &reporter{link: l, outbox: folder.outbox, back: back, failed: func(error) {}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			r.run(ctx)
			close(ended)
		}()
		for n := int32(0); ; n = tries.Load() { // until it has just failed, and pauses for 15 s or more
			time.Sleep(time.Second)
			synctest.Wait()
			if tries.Load() > max(6, n) {
				break
			}
		}
		up.Store(true)
		back <- struct{}{}
		synctest.Wait()
		wants(t, len(folder.outbox.Pending(1)), 0)
		stop()
		<-ended
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What the service cannot verify it cannot verify the next time either; it is told, and
// the outbox goes on.
func TestRefusedReports(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	o.answer = `{"accepted":0,"refused":[{"index":0,"code":"bad-report"}]}`
	r := s.run(t, &lock{}, func(c *Config) { c.Service = o.service() })
	r.ask("tamper")
	soon(t, func() (string, string) { return o.heard(s), "tamper" })
	wants(t, r.end(), "")
	if !strings.Contains(r.log.String(), "is this door's key the registered one?") {
		t.Error("the refusal is not in the log")
	}
}

// A service that is down keeps no controller from stopping, and loses no report.
func TestStopWithoutNetwork(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	service := o.service()
	o.cut()
	r := s.run(t, &lock{}, func(c *Config) { c.Service, c.Relock = service, time.Millisecond })
	_, permit := s.permit(t, nil)
	wants(t, r.ask(permit), Answer{Result: "opened"})
	wants(t, r.end(), "delivered confirmed relocked")
	o.restore()
	r = s.run(t, &lock{}, func(c *Config) { c.Service = service })
	soon(t, func() (string, string) { return o.heard(s), "delivered confirmed relocked" })
	wants(t, r.end(), "")
}

func TestSocketReaders(t *testing.T) {
	s := newSite(t)
	ln, err := ListenSocket(filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	l := &lock{}
	r := s.run(t, l, func(c *Config) { c.Socket, c.Relock = ln, time.Millisecond })
	var all sync.WaitGroup
	answers := make(chan string, 2)
	_, permit := s.permit(t, nil)
	for range 2 { // two readers bring the same permit at once
		all.Go(func() {
			conn, err := net.Dial("unix", ln.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintln(conn, permit)
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				t.Error(err)
			}
			answers <- strings.TrimSpace(line)
		})
	}
	all.Wait()
	close(answers)
	got := map[string]int{}
	for a := range answers {
		got[a]++
	}
	if got[`{"result":"opened"}`] != 1 || got[`{"result":"refused","reason":"replayed"}`] != 1 {
		t.Errorf("answers: %v", got)
	}
	idle, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	r.end() // an idle reader keeps no controller from stopping
	wants(t, l.moved(), "unlock lock")
}

// The service hears which keys the door knows when it connects, and when a list changes them.
func TestTheDoorTellsItsKeys(t *testing.T) {
	s := newSite(t)
	o := newOffice(t, s)
	r := s.run(t, &lock{}, func(c *Config) { c.Service = o.service() })
	defer r.end()
	said := func() string {
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.known) == 0 {
			return ""
		}
		last := o.known[len(o.known)-1]
		return fmt.Sprint(last.Serial, last.Keys)
	}
	ids := func(keys ...door.PublicKey) string {
		var all []door.KeyID
		for _, k := range keys {
			all = append(all, k.ID())
		}
		slices.SortFunc(all, func(a, b door.KeyID) int { return slices.Compare(a[:], b[:]) })
		return fmt.Sprint(all)
	}
	pinned := s.signer.Publish()
	soon(t, func() (string, string) { return said(), "0 " + ids(pinned...) })
	next, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list, err := door.Revocation{Serial: 7, At: time.Now().Truncate(time.Second), Trusted: []door.PublicKey{next.Public()}, Revoked: []door.KeyID{pinned[1].ID()}}.Sign(s.root)
	if err != nil {
		t.Fatal(err)
	}
	o.push("revocation", base64url.EncodeToString(list))
	soon(t, func() (string, string) { return said(), "7 " + ids(pinned[0], next.Public()) })
}
