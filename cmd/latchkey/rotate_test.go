package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/handoff/door"
)

// Door keys are rotated with real doors on a real Redis: a connected door that does not know the
// next key stops the rotation, one that learnt it from the list opens before and after, and a door
// without a network learns it from the telephone.
func TestRotatingTheDoorKeys(t *testing.T) {
	t.Parallel()
	s := newStreet(t).run()
	keys := s.serveArgs[len(s.serveArgs)-1]
	root := filepath.Join(t.TempDir(), "root.json")
	content, err := s.gate.root.JWK()
	if err == nil {
		err = os.WriteFile(root, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	flag := func(name string) string { return s.args[slices.Index(s.args, name)+1] }
	at := []string{"--redis-url", flag("--redis-url"), "--keyset", flag("--keyset")}
	tool := func(args ...string) (code int, out, errs string) {
		return once(append(append([]string{"keys", "doors"}, args...), keys)...)
	}
	asking := func(args ...string) (code int, out, errs string) { return tool(append(args, at...)...) }
	line := func(name string) string {
		t.Helper()
		code, out, errs := asking("status")
		if code != 0 {
			t.Fatal(errs)
		}
		for l := range strings.Lines(out) {
			if strings.HasPrefix(l, name+" ") {
				return strings.Join(strings.Fields(l), " ")
			}
		}
		t.Fatalf("no %s in\n%s", name, out)
		return ""
	}
	restart := func(more ...string) {
		t.Helper()
		s.serve.kill()
		s.serveArgs = append(s.serveArgs, more...)
		s.startServe()
	}
	opens := func() {
		t.Helper()
		s.awaitState(s.unlock("gate"), "relocked")
	}

	// Both doors pinned the next key when they were enrolled: the gate says so.
	await(t, "the gate to tell its keys", func() bool { return strings.HasSuffix(line("gate"), " yes") })
	if got := line("lobby"); !strings.HasSuffix(got, " carried never - - by telephones") {
		t.Errorf("the lobby is %q", got)
	}
	if code, _, errs := asking("rotate"); code != 0 || !strings.Contains(errs, "telephones, and refuse permits until then: lobby") {
		t.Fatalf("%d: %s", code, errs)
	}
	restart()
	opens()

	// A fresh key is known to no door, until the list reaches it.
	code, list, errs := tool("rotate", "--stage", "--root", root, "--serial", "3")
	if code != 0 {
		t.Fatal(errs)
	}
	list = strings.TrimSpace(list[strings.LastIndex(strings.TrimSpace(list), "\n")+1:])
	if got := line("gate"); !strings.HasSuffix(got, " no") {
		t.Errorf("before the list the gate is %q", got)
	}
	before, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := asking("rotate"); code != 1 || !strings.Contains(errs, "would refuse every permit: gate") {
		t.Errorf("rotated before the gate knows: %d %s", code, errs)
	}
	if code, _, errs := asking("rotate", "--leave", "gte"); code != 1 || !strings.Contains(errs, "no door gte") {
		t.Errorf("a door that is not there is left: %d %s", code, errs)
	}
	if after, err := os.ReadFile(keys); err != nil || string(after) != string(before) {
		t.Errorf("a refused rotation changed the keys: %v", err)
	}
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte(list+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	restart("--door-revocation", file)
	await(t, "the gate to learn", func() bool { return strings.HasSuffix(line("gate"), " yes") })
	if fields := strings.Fields(line("gate")); fields[4] != "3" {
		t.Errorf("the gate's list is %q", fields)
	}
	opens() // with the old key
	if code, _, errs := asking("rotate"); code != 0 {
		t.Fatalf("rotate: %d %s", code, errs)
	}
	restart()
	opens() // with the new one

	// The lobby pinned another root: its own list, by the telephone, is what it takes.
	refused := s.carry(s.unlockLobby())
	is(t, refused, `{"result":"refused","reason":"unknown-key"}`)
	signer, err := loadSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	own, err := door.Revocation{Serial: 1, At: time.Now().Truncate(time.Second), Trusted: signer.Publish()}.Sign(s.lobby.root)
	if err != nil {
		t.Fatal(err)
	}
	is(t, s.lobbyRun.ask("revocation "+base64.RawURLEncoding.EncodeToString(own)), `{"result":"ok"}`)
	is(t, s.carry(s.unlockLobby()), opened)
}
