package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/handoff/door"
)

const testDoor = "turm5-lobby"

// doorSite is an enrolled door with its lock, which writes down how it was moved, and
// the service that signs for it.
type doorSite struct {
	t      *testing.T
	id     string
	dir    string
	moves  string       // a file
	signer *door.Signer // nil where a real service signs
	public door.PublicKey
	root   door.PrivateKey // which signs the lists that it takes
}

func newDoorSite(t *testing.T) *doorSite {
	t.Helper()
	signer, err := door.NewSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(signer.Publish())
	if err != nil {
		t.Fatal(err)
	}
	s := enroll(t, testDoor, append(bytes.TrimSuffix(set, []byte("}")), `,"revocation":null}`...)) // as the service answers
	s.signer = signer
	return s
}

// enroll makes the folder of a door that believes a service, of which it is given the
// answer of GET /v1/doors/keys.
func enroll(t *testing.T, id string, published []byte, args ...string) *doorSite {
	t.Helper()
	s := &doorSite{t: t, id: id, dir: filepath.Join(t.TempDir(), "door")}
	s.moves = filepath.Join(filepath.Dir(s.dir), "moves")
	root, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.root = root
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, published, 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"door", "enroll", s.dir, "--door", id, "--root=" + root.Public().String(), "--keys", keys}, args...)
	code, out, errs := once(args...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if err := s.public.UnmarshalText([]byte(strings.TrimSpace(out))); err != nil {
		t.Fatalf("printed %q, want a public key", out)
	}
	return s
}

// program writes a shell script that writes down a word and then does something.
func (s *doorSite) program(word, then string) string {
	path := filepath.Join(s.t.TempDir(), word)
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+word+" >>'"+s.moves+"'\n"+then+"\n"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *doorSite) moved() string {
	content, err := os.ReadFile(s.moves)
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(content)), " ")
}

func (s *doorSite) permit() string {
	p, err := door.NewPermit(rand.Reader, s.id, door.GrantRef{1}, nil, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := s.signer.Permit(p)
	if err != nil {
		s.t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// words verifies reports and writes them in words.
func (s *doorSite) words(raw ...[]byte) string {
	s.t.Helper()
	var all []string
	for _, b := range raw {
		verifier := door.ReportVerifier{Door: s.id, Key: s.public}
		if _, err := verifier.Known(b); err == nil { // what it says of its keys is no report
			continue
		}
		r, err := verifier.Verify(b)
		if err != nil {
			s.t.Fatal(err)
		}
		word := r.State.String()
		if r.Refusal != 0 {
			word += "/" + r.Refusal.String()
		}
		all = append(all, word)
	}
	return strings.Join(all, " ")
}

// said are the reports that lie in the door's folder, while no controller runs.
func (s *doorSite) said() string {
	s.t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, "key.jwk"))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := door.ParsePrivateKey(content)
	if err != nil {
		s.t.Fatal(err)
	}
	o, err := door.OpenOutbox(filepath.Join(s.dir, "outbox"), s.id, key)
	if err != nil {
		s.t.Fatal(err)
	}
	defer o.Close()
	var raw [][]byte
	for _, p := range o.Pending(1000) {
		raw = append(raw, p.Raw)
	}
	return s.words(raw...)
}

// run starts the door's controller with a lock that programs move.
func (s *doorSite) run(open, closed string, args ...string) *process {
	s.t.Helper()
	return spawn(s.t, []string{"LATCHKEY_DOOR_TOKEN=door-token"},
		append([]string{"door", "run", s.dir, "--open-command=" + open, "--close-command=" + closed}, args...)...)
}

func is(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestDoorEnrollRefuses(t *testing.T) {
	s := newDoorSite(t)
	key := s.public.String()
	other := s.signer.Publish()[0].String()
	for name, args := range map[string][]string{
		"an enrolled door": {s.dir, "--door=x", "--root=" + key, "--pin=" + other},
		"no keys":          {s.dir + "2", "--door=x", "--root=" + key},
		"no root":          {s.dir + "2", "--door=x", "--pin=" + other},
		"half a key":       {s.dir + "2", "--door=x", "--root=" + key, "--pin=" + other[:20]},
		"the root signs":   {s.dir + "2", "--door=x", "--root=" + key, "--pin=" + key},
		"a path for an id": {s.dir + "2", "--door=../x", "--root=" + key, "--pin=" + other},
	} {
		var out output
		if code := run(t.Context(), append([]string{"door", "enroll"}, args...), streams{out: &out, err: &out}); code == 0 {
			t.Errorf("%s: enrolled: %s", name, out.String())
		}
	}
	if _, err := os.Stat(s.dir + "2"); !os.IsNotExist(err) {
		t.Errorf("a refused enrollment left a folder: %v", err)
	}
	var out, problems output
	keypad := s.dir + "3"
	args := []string{"door", "enroll", keypad, "--door=x", "--root=" + key, "--pin=" + other, "--pin=" + s.signer.Publish()[1].String(), "--keypad"}
	if code := run(t.Context(), args, streams{out: &out, err: &problems}); code != 0 {
		t.Fatal(problems.String())
	}
	secret, err := os.ReadFile(filepath.Join(keypad, "keypad.key"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String()+problems.String(), strings.TrimSpace(string(secret))) {
		t.Error("the keypad's key was printed")
	}
}

func TestDoorCarried(t *testing.T) {
	s := newDoorSite(t)
	p := s.run(s.program("open", ""), s.program("close", ""), "--stdin", "--relock=50ms")
	permit := s.permit()
	is(t, p.ask(permit), `{"result":"opened"}`)
	is(t, p.ask(permit), `{"result":"refused","reason":"replayed"}`)
	await(t, "the lock to lock", func() bool { return s.moved() == "open close" })
	second := s.permit()
	is(t, p.ask(second), `{"result":"opened"}`)
	p.stop() // at which it locks first
	is(t, s.moved(), "open close open close")
	said := strings.Fields(s.said())
	refusal := slices.Index(said, "refused/replayed") // before or after the lock locked
	is(t, strings.Join(slices.Delete(said, refusal, refusal+1), " "), "delivered confirmed relocked delivered confirmed relocked")
	if log := p.err.String(); strings.Contains(log, permit) || strings.Contains(log, second) {
		t.Error("the log holds a permit")
	}
}

// doorService is a service that says the same permit to whoever dials, and hears reports.
type doorService struct {
	*httptest.Server
	permit string

	mu      sync.Mutex
	dialed  int
	reports [][]byte
}

func newDoorService(t *testing.T, permit string) *doorService {
	s := &doorService{permit: permit}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/doors/"+testDoor+"/permits", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer door-token" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: permit\ndata: %s\nid: 1\n\n", s.permit)
		_ = http.NewResponseController(w).Flush()
		s.mu.Lock()
		s.dialed++
		s.mu.Unlock()
		<-r.Context().Done()
	})
	mux.HandleFunc("POST /v1/doors/"+testDoor+"/reports", func(_ http.ResponseWriter, r *http.Request) {
		var body struct{ Reports []string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, text := range body.Reports {
			b, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil {
				t.Error(err)
			}
			if !slices.ContainsFunc(s.reports, func(had []byte) bool { return bytes.Equal(had, b) }) {
				s.reports = append(s.reports, b)
			}
		}
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (d *doorService) heard(s *doorSite) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.words(d.reports...)
}

// The controller is killed in the moment in which the lock has opened and it does not
// know yet. The lock opened once; the next controller locks it and claims nothing else.
func TestDoorKilledAfterOpening(t *testing.T) {
	t.Run("carried", func(t *testing.T) {
		s := newDoorSite(t)
		permit := s.permit()
		p := s.run(s.program("open", "kill -9 $PPID"), s.program("close", ""), "--stdin")
		is(t, p.ask(permit), "")
		if err := p.waited(); err == nil {
			t.Fatal("it was not killed")
		}
		is(t, s.moved(), "open")

		p = s.run(s.program("open", ""), s.program("close", ""), "--stdin")
		is(t, p.ask(permit), `{"result":"refused","reason":"replayed"}`)
		p.stop()
		is(t, s.moved(), "open close")
		is(t, s.said(), "delivered failed refused/replayed")
	})
	t.Run("connected", func(t *testing.T) {
		s := newDoorSite(t)
		service := newDoorService(t, s.permit())
		p := s.run(s.program("open", "kill -9 $PPID"), s.program("close", ""), "--url", service.URL)
		if err := p.waited(); err == nil {
			t.Fatal("it was not killed")
		}
		p = s.run(s.program("open", ""), s.program("close", ""), "--url", service.URL)
		await(t, "the reports", func() bool { return service.heard(s) == "delivered failed" })
		await(t, "the service to say it again", func() bool {
			service.mu.Lock()
			defer service.mu.Unlock()
			return service.dialed == 2
		})
		p.stop()
		is(t, s.moved(), "open close")
		is(t, service.heard(s), "delivered failed")
		is(t, s.said(), "")
	})
	t.Run("while unlocked", func(t *testing.T) {
		s := newDoorSite(t)
		p := s.run(s.program("open", ""), s.program("close", ""), "--stdin", "--relock=1h")
		is(t, p.ask(s.permit()), `{"result":"opened"}`)
		await(t, "the record of it", func() bool {
			record, _ := os.ReadFile(filepath.Join(s.dir, "unlock.json"))
			return bytes.Contains(record, []byte("confirmed"))
		})
		_ = p.cmd.Process.Kill()
		_ = p.waited()
		p = s.run(s.program("open", ""), s.program("close", ""), "--stdin")
		await(t, "the lock to lock", func() bool { return s.moved() == "open close" })
		p.stop()
		said := s.said()
		if said != "delivered confirmed relocked" && said != "delivered relocked" { // killed between two writes
			t.Errorf("said %q", said)
		}
	})
}

// Killed at any moment, a controller opens at most once for a permit, and the next one
// leaves the lock locked.
func TestDoorKilledAnytime(t *testing.T) {
	s := newDoorSite(t)
	opened, closed := s.program("open", ""), s.program("close", "")
	var permits []string
	for range 12 {
		permits = append(permits, s.permit())
		p := s.run(opened, closed, "--stdin", "--relock=5ms")
		is(t, p.ask("challenge"), `{"result":"failed","reason":"no-presence-asked"}`) // it runs
		kill := time.AfterFunc(mathrand.N(25*time.Millisecond), func() { _ = p.cmd.Process.Kill() })
		for _, permit := range permits {
			p.ask(permit)
		}
		_ = p.waited()
		kill.Stop()
	}
	p := s.run(opened, closed, "--stdin", "--relock=1ms")
	for _, permit := range permits {
		p.ask(permit)
	}
	p.stop()

	moves := strings.Fields(s.moved())
	opens := 0
	for _, m := range moves {
		if m == "open" {
			opens++
		}
	}
	if opens == 0 || opens > len(permits) {
		t.Errorf("%d permits opened %d times", len(permits), opens)
	}
	if last := moves[len(moves)-1]; last != "close" {
		t.Errorf("the last movement is %q", last)
	}
	said := strings.Fields(s.said())
	count := func(word string) (n int) {
		for _, w := range said {
			if w == word {
				n++
			}
		}
		return n
	}
	if delivered, confirmed := count("delivered"), count("confirmed"); delivered > len(permits) || confirmed > opens {
		t.Errorf("%d permits, %d opens: %d delivered, %d confirmed", len(permits), opens, delivered, confirmed)
	}
}

// A running controller, with every source it can have, listens on no network.
func TestDoorListensOnNothing(t *testing.T) {
	s := newDoorSite(t)
	service := newDoorService(t, s.permit())
	socket := filepath.Join(filepath.Dir(s.dir), "socket")
	p := s.run(s.program("open", ""), s.program("close", ""), "--url", service.URL, "--socket", socket, "--relock=1ms")
	await(t, "a whole unlock", func() bool { return service.heard(s) == "delivered confirmed relocked" })

	listens, dialed := p.sockets()
	if len(listens) > 0 {
		t.Errorf("it listens: %q", listens)
	}
	if dialed == 0 {
		t.Error("the look at /proc does not even find the connection that it dialed")
	}
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode.Perm() != 0o600 {
		t.Errorf("the socket's mode is %s", mode)
	}
	p.stop()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}
