package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/api/auth"
	"latchkey/handoff/door"
	"latchkey/notify/mail/mailtest"
)

const public = "https://latchkey.example"

// accountLink is the link that holds no token: its page asks who is there.
const accountLink = "/account/"

var publicLink = regexp.MustCompile(regexp.QuoteMeta(public) + `(/[a-z/]+/)([A-Za-z0-9_-]+)`)

// The whole way of a resident through the running program, on a real Redis: asking,
// confirming by mail, being approved, hearing of what is installed and of an opening, and
// leaving. Who did not confirm, was not approved or lives elsewhere hears nothing.
func TestResidents(t *testing.T) {
	s := newService(t)
	keys := t.TempDir() + "/doors.json"
	if code, _, errs := once("keys", "doors", "new", keys); code != 0 {
		t.Fatal(errs)
	}
	serve := start(t, append(s.args, "--door-keys", keys, "--public-url", public, "--carrier-names", "swift=Swift Parcels")...)
	c := client{t, serve.url(t)}
	manager := s.token(t, auth.Principal{Subject: "m", Building: "bld_1", Scopes: []auth.Scope{auth.Building}})
	must := func(want int, method, path, token, body string) map[string]any {
		t.Helper()
		status, answer := c.do(method, path, token, body)
		if status != want {
			t.Fatalf("%s %s: %d %v", method, path, status, answer)
		}
		return answer
	}
	var read []mailtest.Message
	// mails waits for n more and gives them by recipient.
	mails := func(what string, n int) map[string]mailtest.Message {
		t.Helper()
		await(t, what, func() bool { return len(s.sink.Messages()) >= len(read)+n })
		all := s.sink.Messages()
		got := map[string]mailtest.Message{}
		for _, m := range all[len(read):] {
			got[m.To[0]+" "+subject(t, m)+" "+m.ID()] = m
		}
		if len(all) != len(read)+n || len(got) != n {
			t.Fatalf("%s: %d mails, want %d different ones: %q", what, len(all)-len(read), n, slices.Collect(maps.Keys(got)))
		}
		read = all
		return got
	}

	own, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	must(200, "PUT", "/v1/buildings/bld_1", manager, `{"name":"Haus Eins","address":"Turmstr. 5, Berlin","time_zone":"Europe/Berlin","location":`+gatePlace+`,"carriers":["swift"],"manager":"manager@building.example","locale":"de"}`)
	must(200, "PUT", "/v1/doors/gate", manager, `{"building_id":"bld_1","kind":"gate","mode":"connected","location":`+gatePlace+`,"public_key":"`+own.Public().String()+`"}`)

	subscribe := func(building, body string) map[string]any {
		t.Helper()
		return must(202, "POST", "/v1/buildings/"+building+"/subscriptions", "", body)
	}
	first := subscribe("bld_1", `{"email":"anna@home.example","unit":"4 links","locale":"de"}`)
	for _, body := range []string{
		`{"email":"bert@home.example","unit":"5 rechts"}`, `{"email":"cara@home.example"}`,
		`{"email":"dora@home.example","unit":"4 links"}`, `{"email":"emil@home.example","unit":"4 links"}`,
	} {
		subscribe("bld_1", body)
	}
	again, nowhere := subscribe("bld_1", `{"email":"anna@home.example","unit":"4 links","locale":"de"}`), subscribe("nowhere", `{"email":"anna@home.example"}`)
	if fmt.Sprint(first) != fmt.Sprint(again) || fmt.Sprint(first) != fmt.Sprint(nowhere) {
		t.Errorf("a stranger can tell: %v, %v, %v", first, again, nowhere)
	}
	asked := mails("five questions", 5)

	// Looking at a link changes nothing; the button does.
	confirm := func(name string) string {
		t.Helper()
		for key, m := range asked {
			if strings.HasPrefix(key, name+"@") {
				path := link(t, m, "/residents/confirm/")
				if status, page := get(t, c.url+path); status != 200 || !strings.Contains(page, `<form method="post">`) {
					t.Fatalf("the question: %d %s", status, page)
				}
				return path
			}
		}
		t.Fatalf("no question to %s", name)
		return ""
	}
	for _, name := range []string{"anna", "bert", "cara", "dora", "emil"} {
		confirm(name)
	}
	list := must(200, "GET", "/v1/buildings/bld_1/residents", manager, "")
	if n := len(list["residents"].([]any)); n != 0 || list["followers"] != 0.0 {
		t.Fatalf("after looking at links: %v", list)
	}
	for _, name := range []string{"anna", "bert", "cara", "dora"} {
		if status, _ := post(t, c.url+confirm(name), nil); status != 200 {
			t.Fatalf("%s confirms: %d", name, status)
		}
	}
	requests := mails("three requests to the manager and a welcome", 4)
	must(200, "GET", "/v1/buildings/bld_1/residents", manager, "")
	for key, m := range requests {
		if strings.Contains(text(t, m), "anna@home.example") {
			path := link(t, m, "/residents/decide/")
			if status, page := get(t, c.url+path); status != 200 || !strings.Contains(page, "Zustimmen") || !strings.Contains(page, "anna@home.example") {
				t.Errorf("the manager's page: %d %s", status, page)
			}
			if status, _ := post(t, c.url+path, url.Values{"do": {"approve"}}); status != 200 {
				t.Errorf("approving by mail: %d", status)
			}
		}
		if name, _, _ := strings.Cut(key, "@"); name != "manager" && name != "cara" {
			t.Errorf("a mail %s", key)
		}
	}
	list = must(200, "GET", "/v1/buildings/bld_1/residents", manager, "")
	if list["followers"] != 1.0 || strings.Contains(fmt.Sprint(list), "cara") || strings.Contains(fmt.Sprint(list), "emil") {
		t.Errorf("the manager sees %v", list)
	}
	for _, r := range list["residents"].([]any) {
		if r := r.(map[string]any); r["email"] == "bert@home.example" {
			must(204, "POST", "/v1/buildings/bld_1/residents/"+r["resident_id"].(string)+"/approve", manager, "")
		}
	}
	mails("two welcomes", 2)
	must(404, "POST", "/v1/buildings/bld_1/residents/"+strings.Repeat("0", 24)+"/approve", manager, "")

	// Who is on file is told what is installed without having confirmed; and so is who
	// follows. Saying it again tells nobody twice.
	must(200, "PUT", "/v1/buildings/bld_1/residents", manager, `{"residents":[{"email":"fritz@home.example","unit":"4 links","locale":"de"}]}`)
	must(202, "POST", "/v1/buildings/bld_1/announce", manager, "")
	must(202, "POST", "/v1/buildings/bld_1/announce", manager, "")
	told := mails("what is installed", 5)
	for key, m := range told {
		name, _, _ := strings.Cut(key, "@")
		want := map[string]string{"anna": "Was Kuriere in Ihrem Haus", "fritz": "Was Kuriere in Ihrem Haus", "bert": "What couriers can open", "cara": "What couriers can open", "manager": "Bitte hängen Sie"}[name]
		if want == "" || !strings.Contains(text(t, m), want) || !strings.Contains(text(t, m), "(gate)") || !strings.Contains(text(t, m), "Swift Parcels") {
			t.Errorf("%s is told\n%s", name, text(t, m))
		}
	}

	courier := s.token(t, auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}})
	operator := s.token(t, auth.Principal{Subject: "o", Scopes: []auth.Scope{auth.Ops}})
	warehouse := s.token(t, auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}})
	controller := s.token(t, auth.Principal{Subject: "gate", Scopes: []auth.Scope{auth.Door}})
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().In(berlin).Format(time.DateOnly)
	must(200, "PUT", "/v1/couriers/swift/cou_7", operator, `{"name":"Courier 7","cleared_until":"2030-01-01"}`)
	must(200, "PUT", "/v1/routes/swift/R1/"+day, operator, `{"courier_id":"cou_7"}`)
	seq := uint64(0)
	deliver := func(parcel string) {
		t.Helper()
		must(201, "POST", "/v1/dispatches", warehouse, `{"parcel_id":"`+parcel+`","carrier_id":"swift","route_id":"R1","delivery_date":"`+day+`",
			"value":{"amount":"1","currency":"EUR"},"customer":{"id":"cus_1","name":"Sample Customer 1","email":"customer@shop.example"},
			"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":"Europe/Berlin","building_id":"bld_1","unit":"4  Links"}}`)
		permit := must(200, "POST", "/v1/doors/gate/unlock", courier, `{"parcel_id":"`+parcel+`",`+gateHere+`}`)
		var id door.PermitID
		if err := id.UnmarshalText([]byte(permit["permit_id"].(string))); err != nil {
			t.Fatal(err)
		}
		var reports []string
		for _, state := range []door.State{door.Confirmed, door.Opened, door.Relocked} {
			seq++
			raw, err := door.Report{Door: "gate", Seq: seq, At: time.Now().Truncate(time.Second), State: state, Permit: id}.Sign(own)
			if err != nil {
				t.Fatal(err)
			}
			reports = append(reports, `"`+base64.RawURLEncoding.EncodeToString(raw)+`"`)
		}
		must(200, "POST", "/v1/doors/gate/reports", controller, `{"reports":[`+strings.Join(reports, ",")+`]}`)
	}
	deliver("P1")
	notices := mails("the customer's mail and two notices", 3)
	var leave, follow string
	for key, m := range notices {
		switch name, _, _ := strings.Cut(key, "@"); name {
		case "customer":
		case "anna":
			if !strings.Contains(text(t, m), "4 links") || !strings.Contains(key, "Tor (gate): entriegelt um") {
				t.Errorf("%s\n%s", key, text(t, m))
			}
		case "cara":
			if strings.Contains(string(m.Raw), "links") || !strings.Contains(text(t, m), "Swift Parcels") {
				t.Errorf("%s\n%s", key, text(t, m))
			}
			follow = link(t, m, "/log/")
			leave = strings.Trim(m.Header.Get("List-Unsubscribe"), "<>")
			if m.Header.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" {
				t.Error("no one-click")
			}
		default:
			t.Errorf("a notice to %s", key)
		}
		if strings.Contains(key, "home.example") && strings.Contains(string(m.Raw), "Customer 1") || strings.Contains(key, "home.example") && strings.Contains(string(m.Raw), "P1") {
			t.Errorf("it names the customer or the parcel: %s", key)
		}
	}

	// The link leads to the log, which has what the mail told, and no unit and no parcel.
	await(t, "the log behind the link", func() bool {
		status, page := get(t, c.url+follow)
		if status != 200 || strings.Contains(page, "4 links") || strings.Contains(page, "P1") || strings.Contains(page, "Customer 1") {
			t.Fatalf("the log: %d %s", status, page)
		}
		return strings.Contains(page, "Swift Parcels") && strings.Contains(page, ">gate<")
	})

	path, found := strings.CutPrefix(leave, public)
	if !found {
		t.Fatalf("List-Unsubscribe: %q", leave)
	}
	for range 2 { // the second time it is done already
		if status, page := post(t, c.url+path, url.Values{"List-Unsubscribe": {"One-Click"}}); status != 200 {
			t.Errorf("leaving: %d %s", status, page)
		}
	}
	deliver("P2")
	for key := range mails("the customer's mail and one notice", 2) {
		if !strings.HasPrefix(key, "customer@") && !strings.HasPrefix(key, "anna@") {
			t.Errorf("after leaving: %s", key)
		}
	}
	if code := serve.stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}

	// Nobody's address is anywhere but in sealed values, and no token in a log.
	dump := s.everything(t)
	if !strings.Contains(dump, "lk:building:bld_1:residents") {
		t.Fatal("the dump does not show the residents: does this test look at the right place?")
	}
	logs := serve.out.String() + serve.err.String()
	if !strings.Contains(logs, `"/residents/confirm/{token}"`) {
		t.Error("the log does not name the route")
	}
	for _, m := range s.sink.Messages() {
		for _, name := range []string{m.To[0], strings.ToUpper(m.To[0])} {
			if strings.Contains(dump+logs, name) {
				t.Errorf("%s is shown", name)
			}
		}
		for _, l := range publicLink.FindAllStringSubmatch(text(t, m), -1) {
			if l[1] != accountLink && strings.Contains(dump+logs, l[2]) {
				t.Errorf("a token of %s is shown", l[1])
			}
		}
	}
}

// everything is what a stolen Redis shows, but for keys with some prefixes.
func (s *production) everything(t *testing.T, but ...string) string {
	t.Helper()
	r := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer r.Close()
	names, err := r.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		if slices.ContainsFunc(but, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		var value any
		switch kind := r.Type(t.Context(), name).Val(); kind {
		case "hash":
			value, err = r.HGetAll(t.Context(), name).Result()
		case "stream":
			value, err = r.XRange(t.Context(), name, "-", "+").Result()
		case "string":
			value, err = r.Get(t.Context(), name).Result()
		case "set":
			value, err = r.SMembers(t.Context(), name).Result()
		case "zset":
			value, err = r.ZRange(t.Context(), name, 0, -1).Result()
		case "list":
			value, err = r.LRange(t.Context(), name, 0, -1).Result()
		case "none": // its time ran out
		default:
			t.Fatalf("%s is a %s", name, kind)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %v\n", name, value)
	}
	return b.String()
}

func subject(t *testing.T, m mailtest.Message) string {
	t.Helper()
	s, err := m.Subject()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func text(t *testing.T, m mailtest.Message) string {
	t.Helper()
	s, err := m.Part("text/plain")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(s, "\r\n", "\n")
}

// link is the path of the mail's link to a page.
func link(t *testing.T, m mailtest.Message, page string) string {
	t.Helper()
	for _, l := range publicLink.FindAllStringSubmatch(text(t, m), -1) {
		if l[1] == page {
			return l[1] + l[2]
		}
	}
	t.Fatalf("no link to %s in\n%s", page, text(t, m))
	return ""
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return answered(t)(http.Get(url))
}

func post(t *testing.T, url string, form url.Values) (int, string) {
	t.Helper()
	return answered(t)(http.PostForm(url, form))
}

func answered(t *testing.T) func(*http.Response, error) (int, string) {
	return func(resp *http.Response, err error) (int, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		content, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(content)
	}
}
