package main

import (
	"crypto/rand"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/redisstore/redistest"
)

// Who gives a command that makes or revokes a key, or forgets a customer, is on the log before it
// is done, and can be looked up by whoever has the keyset.
func TestOperatorsAreOnTheLog(t *testing.T) {
	redis := redistest.Single(t)
	keyset := filepath.Join(t.TempDir(), "keys.json")
	if code, _, errs := once("keys", "new", keyset); code != 0 {
		t.Fatal(errs)
	}
	command := func(args ...string) string {
		t.Helper()
		args = append(args, "--redis-url", "redis://"+redis.Addr(), "--keyset", keyset, "--policy", "../../docs/policy.json")
		code, out, errs := once(args...)
		if code != 0 {
			t.Fatalf("%v: %d %s", args, code, errs)
		}
		return strings.TrimSpace(out)
	}
	token := command("apikey", "create", "--by", "anna@operator.example", "--scope", "dispatch,shop", "--shop", "demo", "--label", "warehouse 1")
	door := command("apikey", "create", "--scope", "door", "--door", "gate")
	command("apikey", "revoke", token, "--by", "ben")
	command("erase", "--by", "ben", "--customer", "demo/cus_81")
	for _, args := range [][]string{
		{"apikey", "revoke", token, "--by", "ben"}, // gone
		{"apikey", "create", "--by", "two\nlines", "--scope", "door", "--door", "gate"},
		{"apikey", "create", "--scope", "ops"},
	} {
		args = append(args, "--redis-url", "redis://"+redis.Addr(), "--keyset", keyset)
		if code, _, errs := once(args...); code == 0 {
			t.Errorf("%v was done: %s", args, errs)
		}
	}

	ring, err := keyring.Load(keyset)
	if err != nil {
		t.Fatal(err)
	}
	client, err := redisstore.Dial("redis://" + redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(); _ = client.Close() })
	var events []handoff.Event
	for partition := range handoff.Partitions {
		page, err := store.Read(t.Context(), partition, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page {
			events = append(events, l.Event)
		}
	}
	who := func(args ...string) string {
		t.Helper()
		code, out, errs := once(append([]string{"audit", "who", "--keyset", keyset}, args...)...)
		if code != 0 {
			t.Fatalf("%v: %s", args, errs)
		}
		return strings.TrimSpace(out)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	id, gate := strings.Split(token, "_")[1], strings.Split(door, "_")[1]
	type line struct{ what, changes, who, object, scopes, shop, door string }
	var got []line
	for _, e := range events {
		if e.By != "ops" {
			t.Errorf("by %q: %+v", e.By, e)
		}
		got = append(got, line{e.Type.String(), strings.Join(e.Changes, " "), e.Who, e.Object, strings.Join(e.Scopes, " "), e.Shop, e.Door})
	}
	want := []line{
		{"key_changed", "made", who("--operator", "anna@operator.example"), id, "dispatch shop", "demo", ""},
		{"key_changed", "made", who("--operator", me.Username), gate, "door", "", "gate"},
		{"key_changed", "revoked", who("--operator", "ben"), id, "dispatch shop", "demo", ""},
		{"sessions_ended", "", who("--operator", "ben"), "", "", "demo", ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log has\n%+v, want\n%+v", got, want)
	}

	// The others who may be on the log.
	if got, want := who("--api-key", "lk_"+id), handoff.Pseudonym(ring, "who", "key "+id); got != want {
		t.Errorf("a key is %s, want %s", got, want)
	}
	if got, want := who("--issuer", "https://id.example", "--subject", "anna"), handoff.Pseudonym(ring, "who", "https://id.example anna"); got != want {
		t.Errorf("a person is %s, want %s", got, want)
	}
	if code, _, errs := once("audit", "who", "--keyset", keyset, "--subject", "anna"); code == 0 || !strings.Contains(errs, "--issuer") {
		t.Errorf("a subject of no issuer: %d %s", code, errs)
	}
}

// commands are all commands, and what each puts on the log: an event of each type that is named
// first, or nothing, for the reason that is given after a dash. A new command must be given one.
var commands = map[string]string{
	"apikey create":   "key_changed",
	"apikey revoke":   "key_changed",
	"erase":           "sessions_ended erasure_asked",
	"sessions revoke": "sessions_ended",
	"restore begin":   "store_restored distrusted key_changed",
	"restore confirm": "confirmed accounted",

	"serve":    "- what it does for callers is theirs, and logged by operation (TestEveryChangeIsOnTheLog)",
	"demo":     "- keeps nothing when it ends",
	"dispatch": "- calls the service, which logs it",
	"bounce":   "- run by the mail server, with its report of a mail; the event is the service's own (TestBounces)",

	"outbox replay": "- gives readers of the log again what they had not finished: no one may do more for it",
	"outbox forget": "- frees the log of a reader that will not come back; what it had read stays in the chains, whose writer keeps its own place",

	"door enroll": "- on the door's own box; the service hears of the door by PUT /v1/doors/{door_id}",
	"door run":    "- on the door's own box; what it does it reports",

	"keys new":          "- writes a file on the operator's machine",
	"keys rotate":       "- writes a file on the operator's machine, and changes nothing that is kept",
	"keys doors new":    "- writes a file on the operator's machine",
	"keys doors rotate": "- writes a file on the operator's machine; the next start of serve with it is signer_changed (TestTheSignerIsOnTheLog)",
	"keys doors root":   "- writes a file on the operator's machine",
	"keys doors revoke": "- prints a list that the root key signed",
	"keys doors status": "- reads",

	"keys receipts new":    "- writes a file on the operator's machine",
	"keys receipts rotate": "- writes a file on the operator's machine, and changes nothing that is kept",
	"keys receipts forget": "- writes a file on the operator's machine, and changes nothing that is kept",

	"receipt verify": "- reads, and asks no service but for public keys",

	"apikey list":  "- reads",
	"outbox list":  "- reads",
	"restore list": "- reads",
	"subject":      "- reads",
	"audit who":    "- reads",
	"audit key":    "- reads",
	"audit list":   "- reads",
	"audit export": "- reads",
	"audit verify": "- reads",
}

// Every command that changes what a service keeps is on the log, or has a written reason.
func TestEveryCommandIsOnTheLogOrSaysWhyNot(t *testing.T) {
	parser, err := kong.New(new(cli), kong.Vars{"version": ""})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, leaf := range parser.Model.Leaves(true) {
		path := strings.TrimPrefix(leaf.Path(), "latchkey ")
		path, _, _ = strings.Cut(path, " <") // what comes after the command's name
		path, _, _ = strings.Cut(path, " [")
		there[path] = true
		does, listed := commands[path]
		reason, none := strings.CutPrefix(does, "- ")
		if !listed || none && reason == "" {
			t.Errorf("%s: which event does it put on the log, or why none?", path)
		}
		if none {
			continue
		}
		for name := range strings.FieldsSeq(does) {
			if _, known := handoff.ParseEventType(name); !known {
				t.Errorf("%s: there is no event %s", path, name)
			}
		}
		if !strings.Contains(helpOf(t, strings.Fields(path)), "--by") {
			t.Errorf("%s does not ask who gives it", path)
		}
	}
	for path := range commands {
		if !there[path] {
			t.Errorf("there is no command %s", path)
		}
	}
}

func helpOf(t *testing.T, command []string) string {
	t.Helper()
	code, out, errs := once(append(command, "--help")...)
	if code != 0 {
		t.Fatalf("%v --help: %s", command, errs)
	}
	return out
}

// Which key signs permits is on the log from the first start with it on, once, whichever instance
// that was.
func TestTheSignerIsOnTheLog(t *testing.T) {
	store, clock := embedded.New(t), handofftest.NewClock(handofftest.Noon)
	first, err := door.NewSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, start := range []struct {
		signer *door.Signer
		told   bool
	}{{first, true}, {first, false}, {second, true}, {second, false}, {first, true}} {
		s := &system{parts: parts{store: store, clock: clock, signer: start.signer}}
		for range 2 {
			if err := s.tellSigner(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if start.told {
			want = append(want, "ops "+start.signer.Publish()[0].ID().String())
		}
		var got []string
		for partition := range handoff.Partitions {
			page, err := store.Read(t.Context(), partition, "", 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range page {
				if l.Event.Type != handoff.EventSignerChanged {
					t.Errorf("%+v", l.Event)
				}
				got = append(got, l.Event.By+" "+l.Event.Object)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("the log has %v, want %v", got, want)
		}
	}
}
