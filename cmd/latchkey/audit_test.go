package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff/door"
)

// What happens at a door of the running program is in the building's log within
// moments, and who exported it can verify it anywhere.
func TestAudit(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "doors.json")
	if code, _, errs := once("keys", "doors", "new", keys); code != 0 {
		t.Fatal(errs)
	}
	s := newService(t)
	serve := start(t, append(s.args, "--door-keys", keys)...)
	c := client{t, serve.url(t)}
	manager := s.token(t, auth.Principal{Subject: "m", Building: "bld_1", Scopes: []auth.Scope{auth.Building}})
	controller := s.token(t, auth.Principal{Subject: "gate", Scopes: []auth.Scope{auth.Door}})
	courier := s.token(t, auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}})
	must := func(method, path, token, body string) map[string]any {
		t.Helper()
		status, answer := c.do(method, path, token, body)
		if status != http.StatusOK {
			t.Fatalf("%s %s: %d %v", method, path, status, answer)
		}
		return answer
	}
	own, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	must("PUT", "/v1/buildings/bld_1", manager, `{"name":"One","address":"Turmstr. 5","time_zone":"Europe/Berlin","location":`+gatePlace+`,"carriers":["swift"]}`)
	must("PUT", "/v1/doors/gate", manager, `{"building_id":"bld_1","kind":"gate","mode":"connected","location":`+gatePlace+`,"public_key":"`+own.Public().String()+`"}`)
	if status, _ := c.do("POST", "/v1/doors/gate/unlock", courier, `{"parcel_id":"NONE",`+gateHere+`}`); status != http.StatusForbidden {
		t.Fatal(status)
	}
	report, err := door.Report{Door: "gate", Seq: 1, At: time.Now().Truncate(time.Second), State: door.Forced}.Sign(own)
	if err != nil {
		t.Fatal(err)
	}
	must("POST", "/v1/doors/gate/reports", controller, fmt.Sprintf(`{"reports":["%s"]}`, base64.RawURLEncoding.EncodeToString(report)))
	var page map[string]any
	await(t, "the building's log", func() bool {
		page = must("GET", "/v1/buildings/bld_1/access-log", manager, "")
		return len(page["passages"].([]any)) == 6 // the building and its door were registered, too: told to residents, and by whom
	})
	head := page["head"].(string)

	flag := func(name string) string {
		for i, arg := range s.args {
			if arg == name {
				return s.args[i+1]
			}
		}
		t.Fatalf("no %s", name)
		return ""
	}
	audit := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := once(append([]string{"audit"}, args...)...)
		if code != want {
			t.Fatalf("audit %v: %d, want %d\n%s%s", args, code, want, out, errs)
		}
		return out + errs
	}
	key := strings.TrimSpace(audit(0, "key", "--keyset", flag("--keyset")))
	if published := must("GET", "/v1/audit/keys", "", "")["keys"].([]any)[0].(map[string]any)["x"]; published != key {
		t.Errorf("published %v, printed %s", published, key)
	}
	ofRedis := flag("--redis-url")
	if list := audit(0, "list", "--redis-url", ofRedis); !strings.Contains(list, "building:bld_1\t6\t"+head) || !strings.Contains(list, "log:0") {
		t.Errorf("list:\n%s", list)
	}

	file := filepath.Join(t.TempDir(), "log.ndjson")
	audit(0, "export", "building:bld_1", "--redis-url", ofRedis, "--out", file)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("GET", c.url+"/v1/buildings/bld_1/access-log/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+manager)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if served, err := io.ReadAll(resp.Body); err != nil || string(served) != string(content) {
		t.Errorf("exported\n%s\nserved, %v\n%s", content, err, served)
	}
	if said := audit(0, "export", "building:bld_1", "--redis-url", ofRedis); said != string(content) {
		t.Errorf("to standard output\n%s", said)
	}

	if said := audit(0, "verify", file, "--key="+key, "--head", head); !strings.Contains(said, "building:bld_1 holds: 6 entries, 1 to 6") || !strings.Contains(said, "1 kept heads agree") {
		t.Errorf("verify: %s", said)
	}
	if said := audit(0, "verify", file); !strings.Contains(said, "signed by "+key) {
		t.Errorf("verify without a key: %s", said)
	}
	changed := strings.Replace(string(content), "parcel-unknown", "visit-over", 1)
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := audit(1, "verify", file, "--key="+key); !strings.Contains(said, "entry 5: changed") {
		t.Errorf("verify of a changed file: %s", said)
	}
	audit(2, "verify", file, "--key", "x")
	audit(1, "verify", file+"x")
	audit(1, "export", "building:none", "--redis-url", ofRedis, "--out", file+"y")
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); err != nil || len(left) != 1 || left[0] != file {
		t.Errorf("left behind: %v %v", left, err)
	}

	// The trail of the partition holds what the building does not see.
	trail := ""
	for p := range 16 {
		name := fmt.Sprintf("log:%02x", p)
		if code, out, _ := once("audit", "export", name, "--redis-url", ofRedis, "--out", file); code == 0 {
			audit(0, "verify", file, "--key="+key)
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			trail += out + string(content)
		}
	}
	if !strings.Contains(trail, `"courier":"cou_7"`) || !strings.Contains(trail, `"what":"door_forced"`) || strings.Contains(string(content), "cou_7") {
		t.Errorf("the trail:\n%s", trail)
	}

	// All of it at once: every chain is in the folder, and none can be taken out or changed.
	folder := filepath.Join(t.TempDir(), "trail")
	audit(0, "export", "--redis-url", ofRedis, "--out", folder)
	audit(1, "export", "--redis-url", ofRedis)
	said := audit(0, "verify", folder, "--key="+key, "--head", head)
	if n := strings.Count(said, " holds: "); n != strings.Count(audit(0, "list", "--redis-url", ofRedis), "\n") || n < 2 || !strings.Contains(said, "1 kept heads agree") {
		t.Errorf("verify of the folder: %s", said)
	}
	building := filepath.Join(folder, "building-bld_1.ndjson")
	if err := os.WriteFile(building, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := audit(1, "verify", folder); !strings.Contains(said, "building-bld_1.ndjson: ") || !strings.Contains(said, "entry 5: changed") {
		t.Errorf("verify of a folder with a changed chain: %s", said)
	}
	if err := os.Remove(building); err != nil {
		t.Fatal(err)
	}
	audit(0, "verify", folder, "--key="+key)
	if said := audit(1, "verify", folder, "--key="+key, "--head", head); !strings.Contains(said, "building:bld_1") {
		t.Errorf("verify of a folder without a chain of which a head was kept: %s", said)
	}
	audit(1, "verify", t.TempDir())
	if code := serve.stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}
