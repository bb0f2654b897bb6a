package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/api/auth"
)

// twoInstances are two of serve behind one Redis and one address, in turn, as a load
// balancer does it, with a place to sign in.
type twoInstances struct {
	*production
	client           // by API, at the first
	base   string    // where people reach them
	each   [2]string // where each is
	idp    *idp
}

func newTwoInstances(t *testing.T) *twoInstances {
	t.Helper()
	s := &twoInstances{production: newService(t)}
	var turn atomic.Uint64
	var to [2]*httputil.ReverseProxy
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { to[turn.Add(1)%2].ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	s.base = front.URL
	var trusted struct{ Issuers []map[string]any }
	content, err := os.ReadFile(s.issuers)
	if err == nil {
		err = json.Unmarshal(content, &trusted)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.idp = newIDP(t, s.base, auth.Principal{})
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.issuers), "secret"), []byte(s.idp.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.trust(t, append(trusted.Issuers, map[string]any{
		"issuer": s.idp.url, "audience": "latchkey", "carriers": []string{"*"}, "shops": []string{"*"}, "buildings": []string{"*"},
		"scopes": []auth.Scope{auth.Shop, auth.Customer, auth.Courier, auth.Building, auth.Ops},
		"login":  map[string]any{"name": "Example", "client_id": s.idp.ClientID, "client_secret_file": "secret"},
	})...)
	for i := range s.each {
		s.each[i] = start(t, append(s.args, "--public-url", s.base, "--trusted-proxies", "127.0.0.0/8")...).url(t)
		u, err := url.Parse(s.each[i])
		if err != nil {
			t.Fatal(err)
		}
		to[i] = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		}}
	}
	s.client = client{t, s.each[0]}
	return s
}

// signIn is the browser of somebody who signed in, one after the other.
func (s *twoInstances) signIn(t *testing.T, p auth.Principal) *surfer {
	t.Helper()
	s.idp.who = p
	b := newSurfer(t)
	if v := b.get(b.leave(s.base, "/sign-in")); v.status != http.StatusOK {
		t.Fatalf("signing in: %d %s", v.status, v.text)
	}
	return b
}

// parcel dispatches one for a customer.
func (s *twoInstances) parcel(t *testing.T, parcel, customer string) (grant string) {
	t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	warehouse := s.production.token(t, auth.Principal{Subject: "w", Shop: "demo", Scopes: []auth.Scope{auth.Dispatch}})
	return s.must("POST", "/v1/dispatches", warehouse, fmt.Sprintf(`{"parcel_id":%q,"order_id":"302-1","carrier_id":"swift","route_id":"R1","delivery_date":%q,"value":{"amount":"1299.00","currency":"EUR"},
		"customer":{"id":%q,"name":"Name of %s","email":"%s@home.example"},"destination":{"kind":"residence","lines":["Turmstr. 5"],"city":"Berlin","country":"DE","time_zone":"Europe/Berlin","location":%s}}`,
		parcel, time.Now().In(berlin).Format(time.DateOnly), customer, customer, customer, gatePlace))["grant_id"].(string)
}

func customerOf(id string) auth.Principal {
	return auth.Principal{Subject: id, Shop: "demo", Scopes: []auth.Scope{auth.Customer}}
}

// Two people at once on two instances never see each other's, and who signs out is signed
// out of both.
func TestTwoInstances(t *testing.T) {
	s := newTwoInstances(t)
	names := [2]string{"cus_quince", "cus_medlar"}
	parcels := [2]string{"PARCEL-QUINCE-1111", "PARCEL-MEDLAR-2222"}
	var grants [2]string
	var people [2]*surfer
	for i := range names {
		grants[i] = s.parcel(t, parcels[i], names[i])
		people[i] = s.signIn(t, customerOf(names[i]))
	}
	var all sync.WaitGroup
	var seen [2]atomic.Int64
	for i := range people {
		own, others := parcels[i], parcels[1-i]
		for n := range 20 {
			all.Go(func() {
				for round := range 10 {
					at := []string{s.base, s.each[0], s.each[1]}[(n+round)%3]
					for path, want := range map[string]int{
						"/account": 200, "/account/" + grants[i]: 200, "/account/" + grants[1-i]: 404,
						"/v1/handoffs/" + grants[i]: 200, "/v1/handoffs/" + grants[1-i]: 404,
						"/v1/customers/" + names[i] + "/handoffs": 200, "/v1/customers/" + names[1-i] + "/handoffs": 404,
					} {
						if want == 404 && (n%2 == 1 || round != n/2) {
							continue // thirty in all: who looks for others' more than sixty times a minute is stopped
						}
						status, text, err := fetch(people[i], at+path, fmt.Sprintf("10.0.%d.%d", i, n))
						switch {
						case err != nil:
							t.Error(err)
						case status != want:
							t.Errorf("%s asks for %s: %d", names[i], path, status)
						case strings.Contains(text, others) || strings.Contains(text, "ending in "+others[len(others)-4:]) || strings.Contains(text, "Name of "+names[1-i]):
							t.Errorf("%s sees at %s what is not theirs", names[i], path)
						case want == 200 && (strings.Contains(text, own) || strings.Contains(text, "ending in "+own[len(own)-4:])):
							seen[i].Add(1)
						}
					}
				}
			})
		}
	}
	all.Wait()
	for i := range seen {
		if n := seen[i].Load(); n != 20*10*4 {
			t.Errorf("%s saw their own %d times", names[i], n)
		}
	}

	// One signs out, by the way of either instance, and is so everywhere; the other is not.
	kept := "latchkey=" + people[0].cookies(s.base)["latchkey"]
	csrf := people[0].get(s.base+"/account").find(t, `name="csrf" content="([^"]+)"`)
	if v := people[0].do("POST", s.base+"/sign-out", url.Values{"csrf": {csrf}}); v.status != http.StatusOK {
		t.Fatalf("signing out: %d", v.status)
	}
	for _, at := range append(s.each[:], s.base) {
		if v := newSurfer(t).do("GET", at+"/v1/handoffs/"+grants[0], nil, "Cookie", kept); v.status != http.StatusUnauthorized {
			t.Errorf("signed out, and at %s: %d", at, v.status)
		}
		if v := newSurfer(t).do("GET", at+"/account", nil, "Cookie", kept); strings.Contains(v.text, "1111") {
			t.Errorf("signed out, and the page at %s still shows it", at)
		}
		if v := people[1].get(at + "/account/" + grants[1]); v.status != http.StatusOK {
			t.Errorf("the other one at %s: %d", at, v.status)
		}
	}
}

// fetch asks as a browser somewhere does, with its cookies, from any goroutine.
func fetch(s *surfer, target, from string) (int, string, error) {
	r, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		return 0, "", err
	}
	for name, value := range s.cookies(target) {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	r.Header.Set("X-Forwarded-For", from)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// No GET and no HEAD of any page, by anybody, changes anything in the store but the customer's first
// look at the code: mail scanners open links, and browsers fetch ahead.
func TestNoGetChangesAnything(t *testing.T) {
	s := newTwoInstances(t)
	grant := s.parcel(t, "PARCEL-QUINCE-1111", "cus_quince")
	manager := s.production.token(t, theManager)
	s.must("PUT", "/v1/buildings/bld_1", manager, `{"name":"Haus Eins","address":"Turmstr. 5","time_zone":"Europe/Berlin","location":`+gatePlace+`,"carriers":["swift"]}`)
	clerk := s.production.token(t, auth.Principal{Subject: "clerk", Shop: "demo", Scopes: []auth.Scope{auth.Shop}})
	link := s.must("POST", "/v1/customers/cus_quince/page-link", clerk, "")["path"].(string)
	people := map[string]*surfer{
		"nobody": newSurfer(t), "the customer": s.signIn(t, customerOf("cus_quince")), "another customer": s.signIn(t, customerOf("cus_medlar")),
		"a courier": s.signIn(t, theCourier), "the manager": s.signIn(t, theManager), "the officer": s.signIn(t, theOperator),
		"a clerk": s.signIn(t, auth.Principal{Subject: "clerk", Shop: "demo", Scopes: []auth.Scope{auth.Shop}}),
	}
	fill := strings.NewReplacer("{grant_id}", grant, "{building_id}", "bld_1", "{token}", strings.TrimPrefix(link, "/account/link/"), "{own}", "own")
	await(t, "the mail and the figures", func() bool { return len(s.sink.Messages()) == 1 })
	people["the customer"].get(s.base + "/account/" + grant) // that the customer saw the code is noted, once
	var before string
	await(t, "the store to rest", func() bool {
		last := before
		before = s.unchanging(t)
		if last != before {
			time.Sleep(1200 * time.Millisecond) // the readers look once a second
		}
		return last == before
	})
	asked := 0
	for who, b := range people {
		for _, pattern := range patterns(t) {
			_, path, _ := strings.Cut(pattern, " ") // of a POST's, too
			for _, query := range []string{"", "?act=reissue&agree=yes&kind=garage&reason=x&grant=" + grant, "?carrier=swift&courier=cou_7&act=suspend&done=approve"} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					if v := b.do(method, s.base+fill.Replace(path)+query, nil); v.status >= 500 {
						t.Errorf("%s, %s %s: %d", who, method, path, v.status)
					}
					asked++
				}
			}
		}
	}
	if asked < 500 {
		t.Errorf("only %d were asked", asked)
	}
	if after := s.unchanging(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if v := people["the customer"].get(s.base + "/account/" + grant); v.status != http.StatusOK || !strings.Contains(v.text, "1111") {
		t.Errorf("the customer was shown %d", v.status)
	}
}

// unchanging is the whole store but for what lives by itself: sessions, which note that
// they are used, the leases and signs of life of work in the background, and how often an address was refused.
func (s *production) unchanging(t *testing.T) string {
	t.Helper()
	return s.everything(t, "lk:session:", "lk:lease:", "lk:readers", "lk:rate:refused:")
}
