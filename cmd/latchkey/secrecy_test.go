package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/notify/mail"
	"latchkey/notify/mail/mailtest"
)

// A whole day through the running program, with all that goes wrong in one: wrong codes,
// broken requests, mails that bounce, a Redis that dies, a panic. Whatever it logged,
// answered to those whom it does not concern, put on the event log or wrote to Redis, even
// for a moment, holds no code, no secret, no mail address and no name.
func TestNothingTellsASecret(t *testing.T) {
	s := newService(t, "appendonly yes", "appendfsync always")
	w := &witness{t: t}
	w.watch(s.redis.Addr())
	keys := filepath.Join(t.TempDir(), "doors.json")
	w.command("keys", "doors", "new", keys)
	receipts := filepath.Join(t.TempDir(), "receipts.json")
	w.command("keys", "receipts", "new", receipts)
	serve := start(t, append(s.args, "--debug", "--door-keys", keys, "--receipt-keys", receipts, "--public-url", public)...)
	w.url = serve.url(t)
	redisURL, keyset := "redis://"+s.redis.Addr(), s.args[index(s.args, "--keyset")+1]

	token := func(p auth.Principal) string {
		token := s.token(t, p)
		w.words(token)
		return token
	}
	manager, courier, operator := token(theManager), token(theCourier), token(theOperator)
	customer := token(auth.Principal{Subject: "cus_1", Shop: "demo", Scopes: []auth.Scope{auth.Customer}})
	clerk := token(auth.Principal{Subject: "clerk.quince@shop.example", Shop: "demo", Scopes: []auth.Scope{auth.Shop}})
	_, warehouse, _ := once("apikey", "create", "--redis-url", redisURL, "--keyset", keyset, "--policy", "../../docs/policy.json", "--scope", "dispatch", "--shop", "demo", "--label", "packing line 3")
	warehouse = strings.TrimSpace(warehouse)
	secret := make([]byte, 20)
	_, _ = rand.Read(secret)
	pinKey := base64.RawURLEncoding.EncodeToString(secret)
	w.words(
		warehouse, warehouse[len(warehouse)-20:], pinKey, "clerk.quince",
		"Customer Quince", "quince@home.example", "Quittenweg", "Hinterhaus 4 links", "302-7654321",
		"Courier Medlar", "manager.sorb@building.example", "Haus Elsbeere", "resident.rowan@home.example",
		"Neighbour Rowan", "broken.line@home.example",
	)

	// The carrier and the building.
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().In(berlin).Format(time.DateOnly)
	w.say(meant, 200, "PUT", "/v1/couriers/swift/cou_7", operator, `{"name":"Courier Medlar","cleared_until":"2099-01-01"}`)
	w.say(known, 200, "PUT", "/v1/routes/swift/R1/"+day, operator, `{"courier_id":"cou_7"}`)
	w.say(meant, 200, "PUT", "/v1/buildings/bld_1", manager, `{"name":"Haus Elsbeere","address":"Quittenweg 5","time_zone":"Europe/Berlin","location":`+gatePlace+`,"carriers":["swift"],"manager":"manager.sorb@building.example","locale":"de"}`)
	for id, about := range map[string]string{
		"gate": `"kind":"gate","mode":"connected"`, "pad": `"kind":"lobby","mode":"keypad","keypad_key":"` + pinKey + `"`,
		"garage": `"kind":"garage","mode":"carried","owner":{"shop_id":"demo","customer_id":"cus_1"}`,
	} {
		w.say(known, 200, "PUT", "/v1/doors/"+id, manager, `{"building_id":"bld_1","location":`+gatePlace+`,`+about+`}`)
	}

	// A resident subscribes, by mail.
	w.say(known, 202, "POST", "/v1/buildings/bld_1/subscriptions", "", `{"email":"resident.rowan@home.example","unit":"Hinterhaus 4 links"}`)
	confirm := link(t, w.mail(s.sink, "resident.rowan@"), "/residents/confirm/")
	w.say(meant, 200, "GET", confirm, "", "")
	w.say(meant, 200, "POST", confirm, "", "")
	w.mail(s.sink, "manager.sorb@") // is asked to approve
	w.say(meant, 200, "GET", "/v1/buildings/bld_1/residents", manager, "")
	w.say(known, 422, "POST", "/v1/buildings/bld_1/subscriptions", "", `{"email":"resident.rowan@home.example\n","unit":"Hinterhaus 4 links"}`)

	// Parcels leave the warehouse, one by one and in bulk, some of them broken.
	dispatch := func(parcel, more string) string {
		return `{"parcel_id":"` + parcel + `","order_id":"302-7654321","carrier_id":"swift","route_id":"R1","delivery_date":"` + day + `","value":{"amount":"1299.00","currency":"EUR"},` +
			`"customer":{"id":"cus_1","name":"Customer Quince","email":"quince@home.example"},"destination":{"kind":"residence","lines":["Quittenweg 5"],"city":"Berlin","country":"DE",` +
			`"time_zone":"Europe/Berlin","location":` + gatePlace + `,"building_id":"bld_1","unit":"Hinterhaus 4 links"}` + more + `}`
	}
	w.say(known, 201, "POST", "/v1/dispatches", warehouse, dispatch("P1", ""))
	w.say(known, 200, "POST", "/v1/dispatches", warehouse, dispatch("P1", ""))
	w.say(known, 409, "POST", "/v1/dispatches", warehouse, strings.Replace(dispatch("P1", ""), "Quittenweg 5", "Quittenweg 6", 1))
	w.say(known, 422, "POST", "/v1/dispatches", warehouse, dispatch("P9", `,"Customer Quince":"quince@home.example"`))
	w.say(known, 400, "POST", "/v1/dispatches", warehouse, dispatch("P9", `,`))
	w.say(known, 413, "POST", "/v1/dispatches", warehouse, dispatch("P9", `,"note":"`+strings.Repeat("Customer Quince ", 5000)+`"`))
	s.sink.Inject(1, mailtest.Refuse(mailtest.AtRcpt, 550)) // of P2: its mail is given up
	w.say(known, 201, "POST", "/v1/dispatches", warehouse, dispatch("P2", ""))
	awaitLetter := func() (out string) {
		await(t, "a dead letter", func() bool {
			out = w.command("outbox", "list", "--redis-url", redisURL)
			return strings.Contains(out, "dispatched")
		})
		return out
	}
	letter := awaitLetter()
	w.command("outbox", "replay", strings.Fields(strings.Split(letter, "\n")[1])[0], "--redis-url", redisURL)
	bulk := filepath.Join(t.TempDir(), "day.ndjson")
	lines := []string{
		dispatch("P3", ""), strings.Replace(dispatch("P4", ""), "quince@home.example", "broken.line@home.example, Customer Quince", 1),
		dispatch("P5", `,"resident.rowan@home.example":1`), `{"Customer Quince`, dispatch("P6", "")[:200],
	}
	if err := os.WriteFile(bulk, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := w.command("dispatch", bulk, "--url", w.url, "--token", warehouse); !strings.Contains(out, "1 new") || !strings.Contains(out, "4 refused") {
		t.Error(out)
	}

	// The customer looks, and asks for more.
	code := func(parcel string) (grant, code string) {
		t.Helper()
		for _, h := range w.say(theirs, 200, "GET", "/v1/customers/cus_1/handoffs", customer, "").body["handoffs"].([]any) {
			if h := h.(map[string]any); h["parcel_id"] == parcel {
				grant = h["grant_id"].(string)
			}
		}
		code, _ = w.say(theirs, 200, "GET", "/v1/handoffs/"+grant, customer, "").body["code"].(string)
		if len(code) != 6 {
			t.Fatalf("%s has the code %q", parcel, code)
		}
		w.codes(code)
		await(t, "the mail with a code", func() bool {
			return slices.ContainsFunc(s.sink.Messages(), func(m mailtest.Message) bool { return strings.Contains(text(t, m), code) })
		})
		return grant, code
	}
	verify := func(status int, parcel, code, more string) {
		t.Helper()
		w.say(known, status, "POST", "/v1/parcels/"+parcel+"/verify", courier, `{"code":"`+code+`",`+gateHere+more+`}`)
	}
	grant, first := code("P1")
	w.say(theirs, 200, "POST", "/v1/handoffs/"+grant+"/resend", customer, "")
	w.say(theirs, 429, "POST", "/v1/handoffs/"+grant+"/resend", customer, "")
	wrong := strings.Map(func(r rune) rune { return '0' + (r-'0'+5)%10 }, first)
	slip := first[:5] + string('0'+(first[5]-'0'+1)%10)
	w.codes(wrong, slip)
	w.say(meant, 200, "GET", "/v1/courier/stops", courier, "")
	verify(403, "P1", wrong, `,"attempt_id":"a1"`)
	verify(403, "P1", wrong, `,"attempt_id":"a1"`)
	verify(403, "P1", slip, "")
	verify(422, "P1", first+"0", "")
	verify(422, "P1", "x"+first, "")
	verify(422, "P1", first, `,"CODE":"`+first+`","Customer Quince":1`)
	verify(404, "NONE", first, "")
	w.say(known, 401, "POST", "/v1/parcels/P1/verify?code="+first, courier+"x", `{"code":"`+first+`"}`)
	w.say(known, 404, "POST", "/v1/parcels/P1/"+first, courier, "")
	w.say(known, 404, "GET", "/quince@home.example/"+first, "", "")
	w.say(known, 405, "DELETE", "/v1/parcels/P1/verify?"+url.Values{"mail": {"quince@home.example"}}.Encode(), courier, "")
	w.say(theirs, 200, "POST", "/v1/handoffs/"+grant+"/reissue", customer, "")
	_, second := code("P1")
	verify(409, "P1", first, "")
	verify(200, "P1", second, `,"attempt_id":"a2"`)
	w.say(known, 200, "GET", "/v1/receipts/"+grant+"-h1", customer, "")
	w.say(known, 200, "GET", "/v1/receipts/"+grant+"-h1", courier, "")
	w.say(known, 404, "GET", "/v1/receipts/"+grant+"-h2", courier, "")
	w.say(known, 200, "POST", "/v1/parcels/P1/abort", courier, `{"reason":"Neighbour Rowan took it",`+gateHere+`}`)
	_, third := code("P1")
	w.say(known, 200, "POST", "/v1/parcels/P1/attempted", courier, `{"reason":"Neighbour Rowan says they moved",`+gateHere+`}`)
	w.say(known, 409, "POST", "/v1/parcels/P1/verify", courier, `{"code":"`+second+`",`+gateHere+`}`)

	// Doors.
	w.say(theirs, 200, "POST", "/v1/handoffs/"+grant+"/consent", customer, `{"doors":["garage"]}`)
	challenge := base64.RawURLEncoding.EncodeToString([]byte("challenge-of-a-door"))
	for _, unlock := range []string{"gate", "pad", "garage"} {
		body := `{"parcel_id":"P1",` + gateHere
		if unlock == "garage" {
			body += `,"challenge":"` + challenge + `"`
		}
		answer := w.say(carried, 200, "POST", "/v1/doors/"+unlock+"/unlock", courier, body+"}").body
		for _, name := range []string{"permit", "pin"} {
			if text, ok := answer[name].(string); ok {
				w.words(text)
			}
		}
	}
	w.say(known, 403, "POST", "/v1/doors/gate/unlock", courier, `{"parcel_id":"`+first+`"}`)
	w.say(meant, 200, "GET", "/v1/buildings/bld_1/access-log", manager, "")

	// A code is locked; notes of the shop name people.
	other, right := code("P2")
	number, err := strconv.Atoi(right)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		guess := fmt.Sprintf("%06d", (number+100_000*(n+1)+11_111)%1_000_000)
		w.codes(guess)
		status := 403
		if n == 5 {
			status = 423
		}
		verify(status, "P2", guess, "")
	}
	w.say(known, 200, "POST", "/v1/dispatches/"+other+"/hold", clerk, `{"reason":"Neighbour Rowan complained"}`)
	verify(409, "P2", right, "")
	w.say(known, 200, "POST", "/v1/dispatches/"+other+"/lift", clerk, `{"reason":"Neighbour Rowan found it"}`)
	w.say(known, 200, "POST", "/v1/dispatches/"+other+"/recall", clerk, `{"reason":"Neighbour Rowan again"}`)

	// A release by hand.
	byHand, _ := code("P3")
	colleague := token(auth.Principal{Subject: "second.quince@shop.example", Shop: "demo", Scopes: []auth.Scope{auth.Shop}})
	w.say(meant, 200, "POST", "/v1/dispatches/"+byHand+"/override", clerk, `{"reason":"Neighbour Rowan called"}`)
	w.say(known, 200, "POST", "/v1/dispatches/"+byHand+"/override/approve", colleague, "")

	// The customer disputes it, and the duty officer decides.
	w.say(theirs, 200, "POST", "/v1/handoffs/"+byHand+"/dispute", customer, `{"reason":"Neighbour Rowan took it"}`)
	w.say(meant, 200, "GET", "/v1/dispatches/"+byHand+"/dispute", clerk, "")
	w.say(known, 409, "POST", "/v1/dispatches/"+byHand+"/lift", clerk, `{"reason":"Neighbour Rowan has it"}`)
	w.say(meant, 200, "POST", "/v1/dispatches/"+byHand+"/dispute/settle", operator, `{"ruling":"handed-over","reason":"Neighbour Rowan said so"}`)
	w.say(known, 409, "POST", "/v1/handoffs/"+byHand+"/dispute/withdraw", customer, "")

	// The shop lets its customer in by a link, and a browser has a session.
	way := w.say(theirs, 201, "POST", "/v1/customers/cus_1/page-link", clerk, "").body["path"].(string)
	w.words(way[strings.LastIndexByte(way, '/')+1:])
	w.browse(known, 200, "GET", way, "", nil)
	session := w.browse(theirs, 303, "POST", way, "", nil).cookie
	w.words(session)
	w.browse(known, 410, "POST", way, "", nil) // it holds once
	page := w.browse(theirs, 200, "GET", "/account", session, nil).text
	csrf := csrfField.FindStringSubmatch(page)
	if csrf == nil || len(session) < 40 || !strings.Contains(page, "/account/"+byHand) {
		t.Fatalf("the customer's page is %s", page)
	}
	w.words(csrf[1])
	w.browse(known, 403, "POST", "/account/"+byHand, session, url.Values{"act": {"resend"}, "csrf": {"x"}})
	w.browse(known, 404, "GET", "/account/000000000000000000000000-1", session, nil)
	w.browse(known, 403, "GET", "/courier", session, nil)
	w.browse(known, 303, "POST", "/sign-out", session, url.Values{"csrf": {csrf[1]}})
	w.browse(known, 303, "GET", "/account", session, nil)

	// Redis dies in the middle.
	s.redis.Kill()
	verify(503, "P1", third, "")
	w.say(known, 503, "POST", "/v1/dispatches", warehouse, dispatch("P7", ""))
	s.redis.Restart()
	w.watch(s.redis.Addr())
	await(t, "Redis again", func() bool {
		return w.try(known, "POST", "/v1/parcels/P1/verify", courier, `{"code":"`+third+`",`+gateHere+`,"attempt_id":"a9"}`).status == 200
	})

	// What operators see.
	erased := w.command("erase", "--customer", "demo/cus_1", "--redis-url", redisURL, "--keyset", keyset, "--policy", "../../docs/policy.json")
	if !strings.Contains(erased, "3 deliveries erased") || !strings.Contains(erased, "door garage of building bld_1") || strings.Contains(erased, "door gate") {
		t.Errorf("erase says %s", erased)
	}
	w.command("apikey", "list", "--redis-url", redisURL, "--keyset", keyset)
	var events reply
	await(t, "the log", func() bool { // a connection from before may still fail
		events = w.try(known, "GET", "/v1/events?limit=500", operator, "")
		return events.status == 200
	})
	for _, kind := range []string{"dispatched", "code_refused", "code_locked", "code_resent", "code_reissued", "released", "aborted", "attempted", "permitted", "consented", "held", "override_asked", "overridden", "disputed", "dispute_settled", "recalled", "erased", "resident_changed"} {
		if !strings.Contains(events.text, `"type":"`+kind+`"`) {
			t.Errorf("this day has no %s", kind)
		}
	}
	w.say(known, 200, "GET", "/metrics", "", "")
	for _, line := range strings.Split(w.command("audit", "list", "--redis-url", redisURL), "\n") {
		if name, _, _ := strings.Cut(line, "\t"); name != "" {
			w.command("audit", "export", name, "--redis-url", redisURL)
		}
	}
	w.tell("the store at the end", s.everything(t))
	if code := serve.stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	w.tell("the log", serve.out.String()+serve.err.String())
	w.panics(s, keyset, "Customer Quince's code is "+third)

	// The mails are the one way out; the links in them are somebody's alone.
	for _, m := range s.sink.Messages() {
		for _, l := range publicLink.FindAllStringSubmatch(text(t, m), -1) {
			if l[1] != accountLink {
				w.words(l[2])
			}
		}
	}
	w.judge()
}

// audience is whom an answer is for.
type audience int

const (
	known   audience = iota // nobody whom it concerns: it may tell nothing
	carried                 // the courier who asked for a permit
	meant                   // who wrote or runs what it shows, a name or an address: but no code
	theirs                  // the customer: it is theirs
)

// witness takes part in a day and keeps all that was said in it.
type witness struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	heard  []testimony
	code   []string
	secret []string
}

type testimony struct {
	where, text string
	codesOnly   bool
}

type reply struct {
	status int
	text   string
	body   map[string]any
}

func (w *witness) codes(codes ...string) { w.code = append(w.code, codes...) }

func (w *witness) words(words ...string) { w.secret = append(w.secret, words...) }

func (w *witness) tell(where, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, testimony{where: where, text: text})
}

// try is a request, whose answer is kept unless it is for the one who asked. A refusal is
// for nobody.
func (w *witness) try(to audience, method, path, token, body string) reply {
	w.t.Helper()
	req, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "/residents/") {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := reply{status: resp.StatusCode, text: string(content)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(content, &a.body); err != nil {
			w.t.Fatalf("%s %s: %v in %s", method, path, err, content)
		}
	}
	if a.status >= 400 {
		to = known
	}
	if to == known || to == meant {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.heard = append(w.heard, testimony{fmt.Sprintf("the answer %d to %s", a.status, method), fmt.Sprint(resp.Header) + a.text, to == meant})
	}
	return a
}

func (w *witness) say(to audience, status int, method, path, token, body string) reply {
	w.t.Helper()
	a := w.try(to, method, path, token, body)
	if a.status != status {
		w.t.Fatalf("%s %s: %d %s", method, path, a.status, a.text)
	}
	return a
}

var csrfField = regexp.MustCompile(`name="csrf" content="([A-Za-z0-9_-]+)"`)

// page is what a browser got.
type page struct {
	text   string
	cookie string // that it sets, the value alone
}

// browse asks for a page as a browser does that has a session, and keeps the page likewise.
func (w *witness) browse(to audience, status int, method, path, session string, form url.Values) (p page) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if session != "" {
		req.AddCookie(&http.Cookie{Name: sessionCookie, Value: session})
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // which follows nobody
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		w.t.Fatalf("%s of a page: %d, want %d, %v: %.600s", method, resp.StatusCode, status, err, content)
	}
	for _, c := range resp.Cookies() {
		if c.Name == sessionCookie {
			p.cookie = c.Value
		}
	}
	p.text = string(content)
	if to == known {
		text := p.text
		if own := csrfField.FindStringSubmatch(text); own != nil { // its reader's, who has the session
			text = strings.ReplaceAll(text, own[1], "")
		}
		w.tell(fmt.Sprintf("the page %d to %s", status, method), fmt.Sprint(resp.Header)+text)
	}
	return p
}

// sessionCookie is the name of a session's cookie where the public URL is https.
const sessionCookie = "__Host-latchkey"

// command runs the program and keeps what it says.
func (w *witness) command(args ...string) string {
	_, out, errs := once(args...)
	w.tell("latchkey "+args[0], out+errs)
	return out
}

// watch keeps every command that Redis is sent, and every one that a script runs there.
func (w *witness) watch(addr string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		w.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if ok, err := r.ReadString('\n'); err != nil || ok != "+OK\r\n" {
		w.t.Fatalf("MONITOR: %q, %v", ok, err)
	}
	go func() {
		for {
			line, err := r.ReadString('\n')
			if _, command, found := strings.Cut(line, "] "); found { // without its time
				w.tell("a command to Redis", unescaped(command))
			}
			if err != nil {
				return
			}
		}
	}()
}

var escape = regexp.MustCompile(`\\x[0-9a-f]{2}`)

// unescaped undoes what MONITOR writes for bytes that do not print.
func unescaped(command string) string {
	return escape.ReplaceAllStringFunc(command, func(e string) string {
		b, _ := hex.DecodeString(e[2:])
		return string(b)
	})
}

// mail waits for a mail to somebody.
func (w *witness) mail(sink *mailtest.SinkServer, to string) (m mailtest.Message) {
	w.t.Helper()
	await(w.t, "a mail to "+to, func() bool {
		messages := sink.Messages()
		i := slices.IndexFunc(messages, func(m mailtest.Message) bool { return strings.HasPrefix(m.To[0], to) })
		if i >= 0 {
			m = messages[i]
		}
		return i >= 0
	})
	return m
}

// panics has the same program fall over what it was sent, in a handler and in a page.
func (w *witness) panics(s *production, keyset, words string) {
	w.t.Helper()
	ring, err := keyring.Load(keyset)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := redisstore.Dial("redis://" + s.redis.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: time.Hour, Lanes: 2})
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := newInstruments()
	if err != nil {
		w.t.Fatal(err)
	}
	server, err := mail.ParseURL("smtp://" + s.sink.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	sender, err := mail.NewSender(mail.Config{Server: server, From: "latchkey@shop.example", Clock: wallClock{}})
	if err != nil {
		w.t.Fatal(err)
	}
	var log output
	system, err := newSystem(parts{
		client: client, store: store, ring: ring, policy: handofftest.Policy(), clock: wallClock{}, sender: sender,
		verifier: falling(words), log: newLog(&log, true), retention: time.Hour, metrics: m,
		site: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(words) }),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := listen("127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- system.run(ctx, ln) }()
	w.url = "http://" + ln.Addr().String()
	w.say(known, 500, "GET", "/v1/events", "token", "")
	w.say(known, 500, "GET", "/page", "", "")
	cancel()
	if err := <-ended; err != nil {
		w.t.Error(err)
	}
	if n := strings.Count(log.String(), `"stack"`); n != 2 {
		w.t.Errorf("%d panics are in the log", n)
	}
	w.tell("the log of the panics", log.String())
}

// falling is a verifier that panics, with words of its own.
type falling string

func (f falling) Verify(context.Context, string) (*auth.Principal, error) { panic(string(f)) }

// duration is a number in the log that may have as many digits as a code.
var duration = regexp.MustCompile(`"took_ms":[\d.]+`)

// judge looks for everything in everything.
func (w *witness) judge() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	found := func(text string, codesOnly bool) (what []string) {
		text = duration.ReplaceAllString(text, "")
		for _, c := range w.code {
			for rest := text; ; {
				i := strings.Index(rest, c)
				if i < 0 {
					break
				}
				// Part of a longer number or hash it is no code. CBOR writes f before a text of six.
				before, after := rest[:i], rest[i+len(c):]
				if !wordEnd.MatchString(before) || !wordBegin.MatchString(after) {
					rest = after
					continue
				}
				what = append(what, "the code "+c)
				break
			}
		}
		if codesOnly {
			return what
		}
		lower := strings.ToLower(text)
		for _, word := range w.secret {
			for _, spelling := range []string{
				strings.ToLower(word), strings.ToLower(url.QueryEscape(word)), strings.ToLower(url.PathEscape(word)), hex.EncodeToString([]byte(word)),
			} {
				if strings.Contains(lower, spelling) {
					what = append(what, fmt.Sprintf("%.12q...", word))
					break
				}
			}
		}
		return what
	}
	places := map[string]int{}
	for _, h := range w.heard {
		places[h.where]++
		if what := found(h.text, h.codesOnly); len(what) > 0 {
			w.t.Errorf("%s tells %v:\n%.2000s", h.where, what, h.text)
		}
	}
	if places["a command to Redis"] < 200 || len(w.code) < 12 || len(w.secret) < 20 {
		w.t.Errorf("too little was heard: %v, of %d codes and %d words", places, len(w.code), len(w.secret))
	}
	// What is looked for would be found.
	code, word := w.code[0], w.secret[len(w.secret)-1]
	for _, planted := range []string{`{"code":"` + code + `"}`, "?code=" + code, "\x04codef" + code, code, "to=" + url.QueryEscape(word), strings.ToUpper(word), hex.EncodeToString([]byte(word))} {
		if len(found(planted, false)) != 1 {
			w.t.Errorf("%q was not found", planted)
		}
	}
	for _, innocent := range []string{"1" + code, "abc" + code, code + "e", `"took_ms":` + code + `,`} {
		if len(found(innocent, false)) != 0 {
			w.t.Errorf("%q was taken for a code", innocent)
		}
	}
}

var (
	wordEnd   = regexp.MustCompile(`(^|[^0-9A-Za-z.]|[^0-9A-Za-z]?codef|[^0-9A-Za-z]f)$`)
	wordBegin = regexp.MustCompile(`^($|[^0-9A-Za-z])`)
)
