package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/cmd/latchkey/sample"
	"latchkey/handoff/clock"
	"latchkey/handoff/door"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/notify/mail/mailtest"
)

// output collects what a command writes while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// program is a latchkey command that runs until it is stopped.
type program struct {
	out, err output
	stop     func() int // asks it to end and returns its exit code
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	return startBy(t, nil, args...)
}

// startBy is start of a process that has a clock of its own; nil: the wall's.
func startBy(t *testing.T, by clock.Clock, args ...string) *program {
	t.Helper()
	p := new(program)
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, streams{out: &p.out, err: &p.err, clock: by}) }()
	p.stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("latchkey %s\n%s%s", strings.Join(args, " "), p.out.String(), p.err.String())
		}
	})
	return p
}

// await polls what another process or goroutine will make true; the deadline only
// bounds a failure.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	awaitWithin(t, 30*time.Second, what, ok)
}

func awaitWithin(t *testing.T, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

var address = regexp.MustCompile(`http://(127\.0\.0\.1:\d+)|"addr":"(127\.0\.0\.1:\d+)"`)

// url waits until the program says where it listens.
func (p *program) url(t *testing.T) string {
	t.Helper()
	return announced(t, func() string { return p.out.String() + p.err.String() })
}

// announced is the address that a program wrote that it listens on.
func announced(t *testing.T, said func() string) string {
	t.Helper()
	var found []string
	await(t, "the program's address", func() bool {
		found = address.FindStringSubmatch(said())
		return found != nil
	})
	return "http://" + found[1] + found[2]
}

func once(args ...string) (code int, out, errs string) {
	var o, e output
	code = run(context.Background(), args, streams{out: &o, err: &e})
	return code, o.String(), e.String()
}

// client calls a service's JSON.
type client struct {
	t   *testing.T
	url string
}

func (c client) do(method, path, token, body string) (int, map[string]any) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var answer map[string]any
	if len(content) > 0 && content[0] == '{' {
		if err := json.Unmarshal(content, &answer); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, content)
		}
	}
	return resp.StatusCode, answer
}

// must is do where nothing but success is an answer.
func (c client) must(method, path, token, body string) map[string]any {
	c.t.Helper()
	status, answer := c.do(method, path, token, body)
	if status != http.StatusOK && status != http.StatusCreated {
		c.t.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return answer
}

func (c client) token(claims string) string {
	c.t.Helper()
	status, answer := c.do("POST", "/demo/token", "", claims)
	if status != http.StatusOK {
		c.t.Fatalf("token: %d %v", status, answer)
	}
	return answer["token"].(string)
}

// The README's lines are run as they stand, against the demo that its first line starts.
func TestREADME(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the README's lines need %s", tool)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```sh\n")
	lines, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("the README has no sh block")
	}
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T08:00:00Z")
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", lines)
	cmd.Env = append(os.Environ(), "BASE="+demo.url(t))
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	text := string(said)
	for _, want := range []string{
		"the code is ", `"code":"code-mismatch"`, `"attempts_left":4`, `"status":"released"`, `"code":"already-released"`, "7827",
	} {
		before := text
		if _, text, ok = strings.Cut(text, want); !ok && !strings.Contains(string(said), want) {
			t.Errorf("no %q in\n%s", want, said)
		} else if !ok {
			text = before
		}
	}
	if code := demo.stop(); code != 0 {
		t.Errorf("the demo ended with %d", code)
	}
}

func TestDemoContract(t *testing.T) {
	demo := start(t, "demo", "--addr", "127.0.0.1:0", "--now", "2026-11-24T08:00:00Z", "--empty")
	c := client{t, demo.url(t)}

	_, answer := c.do("GET", "/demo/clock", "", "")
	if now, err := time.Parse(time.RFC3339Nano, answer["now"].(string)); err != nil || now.Sub(time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)) > time.Minute {
		t.Errorf("the clock started at %v, %v", answer, err)
	}
	warehouse := c.token(`{"scope":"dispatch","sub":"w1"}`)
	customer := c.token(`{"scope":"customer","sub":"cus_1"}`)
	line, _, _ := bytes.Cut(sample.Day(), []byte("\n"))
	status, answer := c.do("POST", "/v1/dispatches", warehouse, string(line))
	if status != http.StatusCreated || answer["code_required"] != true {
		t.Fatalf("dispatch: %d %v", status, answer)
	}
	if again, same := c.do("POST", "/v1/dispatches", warehouse, string(line)); again != http.StatusOK || same["grant_id"] != answer["grant_id"] {
		t.Errorf("the same again: %d %v", again, same)
	}
	await(t, "the mail", func() bool { return len(c.mails()) == 1 })
	mail := c.mails()[0]
	for _, field := range []string{"to", "subject", "text", "html", "at"} {
		if s, _ := mail[field].(string); s == "" {
			t.Errorf("the mailbox's mail has no %s", field)
		}
	}
	owner := c.token(`{"scope":"customer","sub":"cus_101"}`)
	grant := answer["grant_id"].(string)
	_, handoff := c.do("GET", "/v1/handoffs/"+grant, owner, "")
	code, _ := handoff["code"].(string)
	if len(code) != 6 || !strings.Contains(mail["text"].(string), code) || strings.Contains(mail["subject"].(string), code) {
		t.Errorf("the mail and the account differ on the code, or the subject shows it: %v", mail["subject"])
	}
	page := c.url + "/account/" + grant
	if !strings.Contains(mail["text"].(string), "\n"+page+"\n") {
		t.Errorf("the mail does not lead to %s:\n%s", page, mail["text"])
	}
	if v := newSurfer(t).get(page); v.status != http.StatusOK || !strings.Contains(v.url.String(), "/sign-in?next=%2Faccount%2F"+grant) {
		t.Errorf("the mail's link leads to %d %s", v.status, v.url)
	}
	if status, _ := c.do("GET", "/v1/handoffs/"+grant, customer, ""); status != http.StatusNotFound {
		t.Errorf("another customer got %d", status)
	}

	if status, _ := c.do("POST", "/demo/clock", "", `{"now":"2026-11-24T07:00:00Z"}`); status != http.StatusConflict {
		t.Errorf("the clock went back: %d", status)
	}
	if status, _ := c.do("POST", "/demo/clock", "", `{"now":"2026-11-25T00:00:01+01:00"}`); status != http.StatusOK {
		t.Errorf("the clock did not go forward: %d", status)
	}
	await(t, "the day to end", func() bool {
		_, over := c.do("GET", "/v1/dispatches/"+grant, warehouse, "")
		return over["status"] == "expired"
	})
	await(t, "the mail that says so", func() bool { return len(c.mails()) == 2 })

	req, _ := http.NewRequest("GET", c.url+"/", nil)
	req.Host = "latchkey.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a foreign Host header: %v, %v", resp.StatusCode, err)
	}
	for _, page := range []string{"/", "/docs/", "/openapi.json", "/healthz", "/readyz", "/metrics"} {
		if status, _ := c.do("GET", page, "", ""); status != http.StatusOK {
			t.Errorf("GET %s: %d", page, status)
		}
	}
}

func (c client) mails() []map[string]any {
	c.t.Helper()
	resp, err := http.Get(c.url + "/demo/mailbox")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var mails []map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&mails); err != nil {
		c.t.Fatal(err)
	}
	return mails
}

// The sample day arrives whole, and its mails go out.
func TestDemoSampleDay(t *testing.T) {
	demo := start(t, "demo", "--addr", "127.0.0.1:0")
	c := client{t, demo.url(t)}
	lines := bytes.Count(sample.Day(), []byte("\n"))
	await(t, "a mail for each parcel", func() bool {
		parcels := 0
		for _, mail := range c.mails() { // whose garage it is may be told of its door besides, if the readers come late
			if strings.Contains(mail["subject"].(string), "…") {
				parcels++
			}
		}
		return parcels == lines
	})
	courier := c.token(`{"scope":"courier","sub":"cou_7","carrier_id":"swift"}`)
	status, stops := c.do("GET", "/v1/courier/stops", courier, "")
	if list, _ := stops["stops"].([]any); status != http.StatusOK || len(list) < 10 {
		t.Errorf("cou_7 has the stops %d %v", status, stops)
	}
}

func TestDemoStaysOnLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:8080", ":8080", "192.168.1.1:80", "example.com:80"} {
		if code, _, errs := once("demo", "--addr", addr); code != 2 || !strings.Contains(errs, "loopback") {
			t.Errorf("--addr %s: exit code %d, %s", addr, code, errs)
		}
	}
}

// production is everything that serve needs, real where it matters.
type production struct {
	redis  *redistest.Server
	sink   *mailtest.SinkServer
	issuer *authtest.Issuer
	args   []string

	issuers string // the file

	late time.Duration // how far the issuer's clock is ahead
}

func newService(t *testing.T, redisConf ...string) *production {
	t.Helper()
	s := &production{redis: redistest.Single(t, redisConf...), sink: mailtest.Sink(t)}
	var err error
	if s.issuer, err = authtest.NewIssuer(rand.Reader, "issuer", "latchkey", func() time.Time { return time.Now().Add(s.late) }); err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.issuer.JWKS()) }))
	t.Cleanup(keys.Close)
	keyset := filepath.Join(t.TempDir(), "keys.json")
	if code, _, errs := once("keys", "new", keyset); code != 0 {
		t.Fatal(errs)
	}
	s.issuers = filepath.Join(t.TempDir(), "issuers.json")
	s.trust(t, map[string]any{
		"issuer": "issuer", "audience": "latchkey", "jwks_url": keys.URL, "carriers": []string{"*"}, "shops": []string{"*"}, "buildings": []string{"*"},
		"scopes": []auth.Scope{auth.Dispatch, auth.Shop, auth.Customer, auth.Carrier, auth.Courier, auth.Building, auth.Door, auth.Ops},
	})
	s.args = []string{
		"serve", "--addr", "127.0.0.1:0", "--redis-url", "redis://" + s.redis.Addr(), "--smtp-url", "smtp://" + s.sink.Addr(),
		"--mail-from", "Latchkey <latchkey@shop.example>", "--keyset", keyset, "--policy", "../../docs/policy.json",
		"--issuers", s.issuers,
	}
	return s
}

// trust writes the file of issuers.
func (s *production) trust(t *testing.T, entries ...map[string]any) {
	t.Helper()
	content, err := json.Marshal(map[string]any{"issuers": entries})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.issuers, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *production) token(t *testing.T, p auth.Principal) string {
	t.Helper()
	token, err := s.issuer.Sign(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A day of real parts: serve on a real Redis, a file sent twice with the dispatch
// command, mails, a dead letter listed and replayed, a verify after a restart with
// rotated keys.
func TestServe(t *testing.T) {
	s := newService(t)
	first := start(t, s.args...)
	url := first.url(t)
	warehouse := s.token(t, auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "w", Shop: "demo"})

	day := sample.On(func(zone *time.Location) string { return time.Now().In(zone).Format(time.DateOnly) })
	lines := bytes.SplitAfter(day, []byte("\n"))[:20]
	lines[2] = bytes.Replace(lines[2], []byte(`"categories":["books"]`), []byte(`"categories":["grimoires"]`), 1)
	file := filepath.Join(t.TempDir(), "day.ndjson")
	broken := append(bytes.Join(lines, nil), []byte(`{"parcel_id":"X","extra":1}`+"\n")...)
	if err := os.WriteFile(file, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	s.sink.Inject(1, mailtest.Refuse(mailtest.AtRcpt, 550))
	code, out, _ := once("dispatch", file, "--url", url, "--token", warehouse)
	if code != 1 || !strings.Contains(out, "21 lines: 20 new, 0 known before, 1 refused") || !strings.Contains(out, "line 21: invalid-request; ") ||
		!strings.Contains(out, "taken with a warning:\n       1  category-unknown\nline 3: category-unknown; body.categories[0]: is in no list of the policy: the parcel needs a code\n") {
		t.Errorf("dispatch: %d\n%s", code, out)
	}
	if code, out, _ = once("dispatch", file, "--url", url, "--token", warehouse); code != 1 || !strings.Contains(out, "0 new, 20 known before") {
		t.Errorf("the same again: %d\n%s", code, out)
	}
	await(t, "19 mails", func() bool { return len(s.sink.Messages()) == 19 })

	outbox := []string{"outbox", "--redis-url", "redis://" + s.redis.Addr()}
	await(t, "a dead letter", func() bool {
		_, out, _ = once(append(outbox, "list")...)
		return strings.Contains(out, "dispatched")
	})
	id := strings.Fields(strings.Split(out, "\n")[1])[0]
	if strings.Contains(out, "@") {
		t.Errorf("the list shows an address:\n%s", out)
	}
	if code, out, errs := once(append(outbox, "replay", id)...); code != 0 {
		t.Errorf("replay: %d %s%s", code, out, errs)
	}
	await(t, "the replayed mail", func() bool { return len(s.sink.Messages()) == 20 })
	if code, _, _ := once(append(outbox, "replay", id)...); code != 1 {
		t.Errorf("replaying it twice: %d", code)
	}

	if code := first.stop(); code != 0 {
		t.Fatalf("serve ended with %d", code)
	}
	keyset := s.args[index(s.args, "--keyset")+1]
	if code, _, errs := once("keys", "rotate", keyset); code != 0 {
		t.Fatal(errs)
	}
	second := start(t, s.args...)
	c := client{t, second.url(t)}
	shop := s.token(t, auth.Principal{Scopes: []auth.Scope{auth.Shop}, Subject: "clerk", Shop: "demo"})
	_, list := c.do("GET", "/v1/customers/cus_101/handoffs", shop, "")
	handoffs, _ := list["handoffs"].([]any)
	if len(handoffs) != 1 {
		t.Fatalf("after a restart the customer has %v", list)
	}
	logs := first.err.String() + second.err.String()
	for _, secret := range []string{"@shop.example", "Turmstr", "Sample Customer", warehouse, shop} {
		if strings.Contains(logs, secret) {
			t.Errorf("the logs show %q", secret)
		}
	}
	if !strings.Contains(logs, `"promise"`) {
		t.Error("serve does not say which durability holds")
	}
}

func index(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return -1
}

// serve starts with everything in its place or not at all, and says what is missing.
func TestServeRefuses(t *testing.T) {
	s := newService(t)
	with := func(name, value string) []string {
		args := append([]string{}, s.args...)
		args[index(args, name)+1] = value
		return args
	}
	open := filepath.Join(t.TempDir(), "open.json")
	if err := os.WriteFile(open, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no flags":             {[]string{"serve"}, "missing flags"},
		"no keyset":            {with("--keyset", "/nowhere/keys.json"), "/nowhere/keys.json"},
		"a readable keyset":    {with("--keyset", open), "chmod 600"},
		"no policy":            {with("--policy", "/nowhere/policy.json"), "/nowhere/policy.json"},
		"an unknown rule":      {with("--policy", open), "missing"},
		"no Redis":             {with("--redis-url", "redis://127.0.0.1:1"), "cannot reach Redis"},
		"not a Redis URL":      {with("--redis-url", "http://:hunter2@x"), "redis://"},
		"not an SMTP URL":      {with("--smtp-url", "ftp://:hunter2@x"), "smtp://"},
		"no issuers":           {with("--issuers", "/nowhere/issuers.json"), "/nowhere/issuers.json"},
		"issuers with a slip":  {with("--issuers", "../../docs/policy.json"), "docs/policy.json: issuers: /code_from"},
		"durability":           {append(with("--addr", "127.0.0.1:0"), "--durability", "always"), "durability always is demanded"},
		"a port that is taken": {with("--addr", s.redis.Addr()), "cannot listen"},
	} {
		code, out, errs := once(c.args...)
		if code == 0 || !strings.Contains(errs, c.want) || strings.Contains(out+errs, "hunter2") {
			t.Errorf("%s: exit code %d: %s", name, code, errs)
		}
	}
}

func TestKeysCommands(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if code, _, errs := once("keys", "rotate", path); code == 0 {
		t.Errorf("rotated a keyset that is not there: %s", errs)
	}
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"keys", "new", path}, 0, "fresh keys"},
		{[]string{"keys", "new", path}, 1, "would lose every grant"},
		{[]string{"keys", "rotate", "--stage", path}, 0, "staged"},
		{[]string{"keys", "rotate", path}, 0, "2 keys open"},
		{[]string{"keys", "rotate", path}, 0, "3 keys open"},
	} {
		code, out, errs := once(step.args...)
		if code != step.code || !strings.Contains(out+errs, step.want) {
			t.Errorf("%v: %d %s%s", step.args, code, out, errs)
		}
	}
}

// A configuration file says the same as flags.
func TestConfigFile(t *testing.T) {
	s := newService(t)
	conf := map[string]any{}
	for i := 1; i < len(s.args); i += 2 {
		conf[strings.ReplaceAll(strings.TrimPrefix(s.args[i], "--"), "-", "_")] = s.args[i+1]
	}
	content, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "latchkey.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c := client{t, start(t, "--config", path, "serve").url(t)}
	if status, _ := c.do("GET", "/readyz", "", ""); status != http.StatusOK {
		t.Errorf("readyz: %d", status)
	}
}

func TestVersion(t *testing.T) {
	if code, out, _ := once("--version"); code != 0 || strings.TrimSpace(out) == "" {
		t.Errorf("--version: %d %q", code, out)
	}
	if code, _, errs := once("frobnicate"); code != 2 || errs == "" {
		t.Errorf("an unknown command: %d %q", code, errs)
	}
}

// The answer to a stolen signing key: a list that the root key signed, which serve takes
// and doors verify.
func TestRevokingASigningKey(t *testing.T) {
	dir := t.TempDir()
	rootFile, keys, list := filepath.Join(dir, "root.json"), filepath.Join(dir, "doors.json"), filepath.Join(dir, "revoked")
	code, out, errs := once("keys", "doors", "root", rootFile)
	_, pin, ok := strings.Cut(out, "--root=")
	if code != 0 || !ok {
		t.Fatal(out, errs)
	}
	if info, err := os.Stat(rootFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the root key's file: %v, %v", info.Mode(), err)
	}
	if code, _, _ := once("keys", "doors", "root", rootFile); code == 0 {
		t.Error("a root key was overwritten")
	}
	if code, _, errs := once("keys", "doors", "new", keys); code != 0 {
		t.Fatal(errs)
	}
	signer, err := loadSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	stolen := signer.Publish()[0].ID()
	code, out, errs = once("keys", "doors", "revoke", "--root", rootFile, "--serial", "1", "--", stolen.String())
	if code != 0 {
		t.Fatal(errs)
	}
	if err := os.WriteFile(list, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	_, raw, err := (&serveCmd{DoorKeys: keys, DoorRevocation: list}).doors()
	if err != nil {
		t.Fatal(err)
	}
	var root door.PublicKey
	if err := root.UnmarshalText([]byte(strings.TrimSpace(pin))); err != nil {
		t.Fatal(err)
	}
	got, err := door.ParseRevocation(raw, root)
	if err != nil || got.Serial != 1 || len(got.Revoked) != 1 || got.Revoked[0] != stolen {
		t.Errorf("a door reads %+v, %v", got, err)
	}
	if code, _, errs := once("keys", "doors", "revoke", "--root", rootFile, "--serial", "2", "nonsense"); code == 0 {
		t.Error("revoked nonsense: ", errs)
	}
}

// A policy from before there was code_by_value starts, and serve says what it means.
func TestServeSaysWhatAnOldPolicyMeans(t *testing.T) {
	s := newService(t)
	content, err := os.ReadFile("../../docs/policy.json")
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "policy.json")
	content = regexp.MustCompile(`(?m)^  "code_by_value".*\n`).ReplaceAll(content, nil)
	if err := os.WriteFile(old, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"../../docs/policy.json": false, old: true} {
		args := slices.Clone(s.args)
		args[slices.Index(args, "--policy")+1] = path
		p := start(t, args...)
		p.url(t)
		if got := strings.Contains(p.err.String(), "the policy has no code_by_value"); got != want {
			t.Errorf("%s: said %v, want %v", path, got, want)
		}
	}
}
