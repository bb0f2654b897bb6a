package ops_test

import (
	"fmt"
	"html"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest"
	"latchkey/api/web/ops"
	"latchkey/api/web/webtest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/service"
	"latchkey/handoff/words"
	"latchkey/notify/numbers"
)

func house(t testing.TB) *frametest.House {
	t.Helper()
	h := frametest.New(t, nil, func(*handofftest.World) []frame.Set { return []frame.Set{ops.Set()} })
	h.Cleared(t, "cou_7")
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	return h
}

// verify is a try of the courier cou_7 at the sample address.
func verify(t testing.TB, h *frametest.House, parcel, code string, status int) {
	t.Helper()
	h.Do(t, frametest.Courier, "POST", "/v1/parcels/"+parcel+"/verify", `{"code":"`+code+`","location":{"lat":52.52561,"lon":13.34209,"accuracy_m":12,"age_s":3}}`, status)
}

// day is an hour of wrong codes, and one of handoffs.
func day(t testing.TB, h *frametest.House) (grant string) {
	t.Helper()
	for _, parcel := range []string{"PARCEL-1", "PARCEL-2", "PARCEL-3"} {
		h.Dispatch(t, handofftest.Sample(parcel))
	}
	g := h.Parcel(t, "PARCEL-1")
	for n := range 5 {
		verify(t, h, "PARCEL-1", handofftest.WrongCode(&g, n).Reveal(), 403)
	}
	h.Clock.Advance(time.Hour)
	two := h.Parcel(t, "PARCEL-2")
	verify(t, h, "PARCEL-2", two.CurrentCode().Reveal(), 200)
	counter := numbers.New(h.Store, h.Clock)
	counter.MailAge(75 * time.Second)
	counter.Decided(handoff.Release, handoff.OutsideGeofence, nil)
	counter.Decided(handoff.Release, handoff.CodeMismatch, []handoff.Event{{Carrier: "swift"}})
	counter.Decided(handoff.Release, handoff.CodeMismatch, []handoff.Event{{Carrier: "swift"}})
	if err := counter.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g.ID.String()
}

func text(page string) string {
	page = regexp.MustCompile(`(?s)<head>.*?</head>`).ReplaceAllString(page, "")
	page = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	return regexp.MustCompile(` ([.,:;])`).ReplaceAllString(strings.Join(strings.Fields(html.UnescapeString(page)), " "), "$1")
}

func says(t testing.TB, p *frametest.Page, want ...string) {
	t.Helper()
	if p.Status != 200 {
		t.Errorf("%d", p.Status)
	}
	said := text(p.Text)
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("no %q in\n%s", w, said)
		}
	}
}

func TestNumbers(t *testing.T) {
	h := house(t)
	c := h.SignIn(frametest.Operator, "Operator 1")
	says(t, c.Get(t, "/ops"), "Nothing failed.")
	day(t, h)
	p := c.Get(t, "/ops?zone=Europe/Berlin")
	says(t, p, "Dispatched 3", "Handed over 1", "Wrong codes 5", "Codes locked 1", "Oldest mail in the queue 75 s",
		"A wrong code 2 At the address · swift", "Too far away 1 At the address", "12:00 3 0 0 5 1 0 0 0", "13:00 0 0 1 0 0 0 75 0", "All day 3 0 1 5 1 0 75 0")
	if bars := strings.Count(p.Text, `class="bar`); bars != 5+2 { // of the fails, two
		t.Errorf("%d bars", bars)
	}
	if !strings.Contains(p.Text, `aria-label="Wrong codes, by the hour. 5 in the whole day, at most 5 in an hour."`) {
		t.Error("the drawing says nothing to who cannot see it")
	}
	says(t, c.Get(t, "/ops?day=2026-11-23&zone=Europe/Berlin"), "Dispatched 0", "Nothing failed.", "The day after")
	says(t, c.Get(t, "/ops?day=tomorrow&zone=Nowhere"), "That is no day or no time zone.")
	c.Language = "de"
	says(t, c.Get(t, "/ops"), "Versandt 3", "Ein falscher Code 2", "Wo Übergaben scheitern")
}

func TestStory(t *testing.T) {
	h := house(t)
	grant, order := day(t, h), handofftest.Sample("PARCEL-1").Order
	c := h.SignIn(frametest.Operator, "")
	for _, query := range []string{"grant=" + grant, "carrier=swift&parcel=PARCEL-1"} {
		says(t, c.Get(t, "/ops/parcel?"+query), "Left the warehouse today, 11:00", "Code refused", "A wrong code", "Courier cou_7", "Code locked", "Stop everything", "A release by hand takes two people of the shop.")
	}
	says(t, c.Get(t, "/ops/parcel?shop=demo&order="+order), "Parcel PARCEL-1 swift · under way", "Parcel PARCEL-2 swift · handed over")
	says(t, c.Get(t, "/ops/parcel?shop=demo&order="+order+"&day=2026-11-25"), "Nothing is known of it")
	for query, want := range map[string]string{
		"shop=other&order=" + order: "Nothing is known of it", "shop=demo&order=": "A parcel needs its carrier",
		"carrier=swift&parcel=NONE": "Nothing is known of it", "grant=nonsense": "A parcel needs its carrier", "parcel=PARCEL-1": "A parcel needs its carrier",
		"carrier=rival&parcel=PARCEL-1": "Nothing is known of it",
	} {
		says(t, c.Get(t, "/ops/parcel?"+query), want)
	}
	act := func(act, reason string, status int) *frametest.Page {
		t.Helper()
		p := c.Post(t, "/ops/parcel", url.Values{"act": {act}, "grant": {grant}, "reason": {reason}})
		if p.Status != status {
			t.Fatalf("%s: %d %s", act, p.Status, text(p.Text))
		}
		return p
	}
	act("hold", "a courier was robbed", 303)
	if g := h.Parcel(t, "PARCEL-1"); g.Status != handoff.Held {
		t.Errorf("it is %v", g.Status)
	}
	says(t, c.Get(t, "/ops/parcel?done=hold&grant="+grant), "It is on hold.", "Put on hold", "Lift the hold")
	if p := act("hold", "again", 409); !strings.Contains(text(p.Text), "It was not done.") {
		t.Error(text(p.Text))
	}
	act("lift", "all is well", 303)
	if p := act("hold", "", 422); !strings.Contains(text(p.Text), "Something is missing") {
		t.Error(text(p.Text))
	}
	act("recall", "x", 404)
	h.Do(t, frametest.Clerk, "POST", "/v1/dispatches/"+grant+"/recall", `{"reason":"x"}`, 200)
	says(t, c.Get(t, "/ops/parcel?grant="+grant), "Called back", "It is over.")
	code := h.Parcel(t, "PARCEL-3")
	for _, path := range []string{"/ops/parcel?carrier=swift&parcel=PARCEL-3", "/ops"} {
		if strings.Contains(c.Get(t, path).Text, code.CurrentCode().Reveal()) {
			t.Errorf("%s has a code", path)
		}
	}
}

// A release by hand is approved here by who is of the shop, too, and did not ask for it.
func TestOverride(t *testing.T) {
	h := house(t)
	grant := day(t, h)
	h.Do(t, frametest.Clerk, "POST", "/v1/dispatches/"+grant+"/override", `{"reason":"the phone is broken"}`, 200)
	of := func(subject string) *frametest.Client {
		return h.SignIn(auth.Principal{Subject: subject, Shop: handofftest.Shop, Scopes: []auth.Scope{auth.Ops, auth.Shop}}, "")
	}
	story, approve := "/ops/parcel?grant="+grant, url.Values{"act": {"approve"}, "grant": {grant}}
	says(t, h.SignIn(frametest.Operator, "").Get(t, story), "A release by hand takes two people of the shop.", "Release by hand asked for")
	says(t, of("clerk").Get(t, story), "You asked for it yourself")
	if p := of("clerk").Post(t, "/ops/parcel", approve); p.Status != 403 || !strings.Contains(text(p.Text), "Who asked cannot approve") {
		t.Errorf("who asked: %d %s", p.Status, text(p.Text))
	}
	if p := h.SignIn(frametest.Operator, "").Post(t, "/ops/parcel", approve); p.Status != 403 {
		t.Errorf("who is not of the shop: %d", p.Status)
	}
	second := of("second")
	says(t, second.Get(t, story), "the phone is broken", "Approve it only if you have spoken")
	if p := second.Post(t, "/ops/parcel", approve); p.Status != 303 {
		t.Fatalf("%d %s", p.Status, text(p.Text))
	}
	says(t, second.Get(t, story+"&done=approve"), "It is released by hand.", "Released by hand", "It is over.")
	says(t, second.Get(t, "/ops/alarms"), "Released by hand", "Release by hand asked for")
}

// Mails with codes that failed are among the alarms until they arrive, the customer sees the code, or
// there is another; where all fail, the newest are shown and the others counted.
func TestFailedMails(t *testing.T) {
	h := house(t)
	duty := h.SignIn(frametest.Operator, "")
	if said := text(duty.Get(t, "/ops/alarms").Text); strings.Contains(said, "did not arrive") {
		t.Error(said)
	}
	failed := map[string]handoff.GrantID{}
	for n := range 23 {
		g := h.Dispatch(t, handofftest.Sample(fmt.Sprintf("PARCEL-%d", n)))
		failed[g.Dispatch.Parcel] = g.ID
		h.Clock.Advance(time.Second)
		if err := h.Service.MailFailed(t.Context(), g.ID, 1, handoff.MailRefused, "5.1.1"); err != nil {
			t.Fatal(err)
		}
	}
	p := duty.Get(t, "/ops/alarms")
	says(t, p, "Mails that did not arrive", "Mail with the code failed", "The mail server refused it", "And 3 more")
	if n := strings.Count(p.Text, "The mail server refused it"); n != 20 || strings.Contains(p.Text, "shop.example") {
		t.Errorf("%d mails are shown: %s", n, text(p.Text))
	}
	shop := handoff.Actor{Role: handoff.RoleShop, Shop: handofftest.Shop}
	if _, err := h.Service.Reissue(t.Context(), shop, failed["PARCEL-22"]); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Service.Recall(t.Context(), shop, failed["PARCEL-21"], ""); err != nil {
		t.Fatal(err)
	}
	h.Do(t, frametest.Customer, "GET", "/v1/handoffs/"+failed["PARCEL-20"].String(), "", 200)
	p = duty.Get(t, "/ops/alarms")
	if said := text(p.Text); strings.Count(said, "The mail server refused it") != 20 || strings.Contains(said, "more") || strings.Contains(p.Text, failed["PARCEL-20"].String()) {
		t.Error(said)
	}
	p = duty.Get(t, "/ops/parcel?grant="+failed["PARCEL-20"].String())
	says(t, p, "Mail with the code failed", "Customer has the code", "The customer saw the code on the page")
	h.Clock.Advance(25 * time.Hour)
	if said := text(duty.Get(t, "/ops/alarms").Text); strings.Contains(said, "did not arrive") {
		t.Error(said)
	}
}

// The duty officer finds an open dispute among the alarms, however old, reads what is on record
// and decides it; a clerk of the shop reads the same and decides nothing.
func TestDispute(t *testing.T) {
	h := house(t)
	day(t, h)
	g := h.Parcel(t, "PARCEL-2")
	story := "/ops/parcel?grant=" + g.ID.String()
	duty, clerk := h.SignIn(frametest.Operator, ""), h.SignIn(frametest.Clerk, "")
	says(t, duty.Get(t, "/ops/alarms"), "Alarms")
	h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+g.ID.String()+"/dispute", `{"reason":"I was not at home"}`, 200)
	h.Clock.Advance(47 * time.Hour)
	says(t, duty.Get(t, "/ops/alarms"), "Customers wait for a decision Customer disputes the handoff", "Courier cou_7", "Look into it and decide")
	p := duty.Get(t, story)
	says(t, p, "The customer says that it did not happen", "I was not at home", "Courier cou_7", "Distance to the address 0 m", "Code no. 1", "It was not received")
	if said := text(p.Text); strings.Contains(said, "Lift the hold") || strings.Contains(said, "That time is over.") {
		t.Error(said)
	}
	p = clerk.Get(t, story)
	says(t, p, "I was not at home", "Only the customer or the duty officer ends it.")
	if said := text(p.Text); strings.Contains(said, "It was not received") || strings.Contains(said, "Lift the hold") {
		t.Error(said)
	}
	settle := url.Values{"act": {"not-received"}, "grant": {g.ID.String()}, "reason": {"two streets away"}}
	if p := clerk.Post(t, "/ops/parcel", settle); p.Status != 403 {
		t.Errorf("a clerk decides: %d", p.Status)
	}
	if p := clerk.Post(t, "/ops/parcel", url.Values{"act": {"lift"}, "grant": {g.ID.String()}, "reason": {"x"}}); p.Status != 409 || !strings.Contains(text(p.Text), "The customer disputes it") {
		t.Errorf("a clerk lifts: %d %s", p.Status, text(p.Text))
	}
	h.Clock.Advance(2 * time.Hour)
	says(t, duty.Get(t, story), "That time is over.")
	if p := duty.Post(t, "/ops/parcel", settle); p.Status != 303 || !strings.HasSuffix(p.Header.Get("Location"), "&grant="+g.ID.String()) {
		t.Fatalf("%d %s", p.Status, text(p.Text))
	}
	says(t, duty.Get(t, story+"&done=settle"), "It is decided. The customer was mailed.", "Dispute decided", "It was not received", "It is over.")
	if said := text(duty.Get(t, "/ops/alarms").Text); strings.Contains(said, "Customers wait") {
		t.Error(said)
	}
}

// Two clerks of a shop, who are nothing else, release by hand in their browsers; the rest
// of the board, the log and another shop's parcels are not theirs.
func TestClerks(t *testing.T) {
	h := house(t)
	grant, order := day(t, h), handofftest.Sample("PARCEL-1").Order
	one := h.SignIn(frametest.Clerk, "")
	second := h.SignIn(auth.Principal{Subject: "second", Shop: handofftest.Shop, Scopes: []auth.Scope{auth.Shop}}, "")
	foreign := h.SignIn(auth.Principal{Subject: "foreign", Shop: "other", Scopes: []auth.Scope{auth.Shop}}, "")
	for _, path := range []string{"/ops", "/ops/alarms", "/ops/courier"} {
		if p := one.Get(t, path); p.Status != 403 {
			t.Errorf("%s: %d", path, p.Status)
		}
	}
	if p := one.Post(t, "/ops/courier", url.Values{"act": {"suspend"}, "carrier": {"swift"}, "courier": {"cou_7"}}); p.Status != 403 {
		t.Errorf("suspending a courier: %d", p.Status)
	}
	first := one.Get(t, "/ops/parcel")
	says(t, first, "What a shop sees of its parcels", "Find it by its handoff", "Find it by its order")
	for _, theirs := range []string{`href="/ops`, `name="carrier"`, `name="shop"`} {
		if strings.Contains(first.Text, theirs) {
			t.Errorf("the page offers %s", theirs)
		}
	}
	says(t, one.Get(t, "/ops/parcel?order="+order), "Parcel PARCEL-1 swift · under way")
	story := "/ops/parcel?grant=" + grant
	p := one.Get(t, story)
	says(t, p, "under way Parcel PARCEL-1 · Carrier swift · 2026-11-24", "Stop everything", "Ask for a release by hand")
	if said := text(p.Text); strings.Contains(said, "Code refused") || strings.Contains(said, "cou_7") {
		t.Errorf("a clerk reads the log: %s", said)
	}
	for _, query := range []string{"grant=" + grant, "order=" + order, "shop=demo&order=" + order} {
		says(t, foreign.Get(t, "/ops/parcel?"+query), "Nothing is known of it")
	}
	ask := url.Values{"act": {"ask"}, "grant": {grant}, "reason": {"the phone is broken"}}
	approve := url.Values{"act": {"approve"}, "grant": {grant}}
	if p := foreign.Post(t, "/ops/parcel", ask); p.Status != 404 {
		t.Errorf("another shop asks: %d", p.Status)
	}
	if p := h.SignIn(frametest.Operator, "").Post(t, "/ops/parcel", ask); p.Status != 403 {
		t.Errorf("the duty officer asks: %d", p.Status)
	}
	if p := one.Post(t, "/ops/parcel", ask); p.Status != 303 {
		t.Fatalf("asking: %d %s", p.Status, text(p.Text))
	}
	says(t, one.Get(t, story+"&done=ask"), "It is asked for.", "You asked for it yourself")
	if p := one.Post(t, "/ops/parcel", approve); p.Status != 403 || !strings.Contains(text(p.Text), "Who asked cannot approve") {
		t.Errorf("who asked: %d %s", p.Status, text(p.Text))
	}
	says(t, second.Get(t, story), "the phone is broken", "Approve it only if you have spoken")
	if p := second.Post(t, "/ops/parcel", approve); p.Status != 303 {
		t.Fatalf("approving: %d %s", p.Status, text(p.Text))
	}
	if g := h.Parcel(t, "PARCEL-1"); g.Status != handoff.Released {
		t.Errorf("it is %v", g.Status)
	}
	says(t, second.Get(t, story+"&done=approve"), "It is released by hand.", "handed over Parcel PARCEL-1", "It is over.")
}

// A suspended courier is refused at the next door, and a budget is cleared by a person.
func TestCourier(t *testing.T) {
	h := house(t)
	day(t, h)
	c := h.SignIn(frametest.Operator, "")
	act := func(act string) {
		t.Helper()
		p := c.Post(t, "/ops/courier", url.Values{"act": {act}, "carrier": {"swift"}, "courier": {"cou_7"}, "reason": {"Spoke with the courier"}})
		if p.Status != 303 {
			t.Fatalf("%s: %d %s", act, p.Status, text(p.Text))
		}
		says(t, c.Get(t, p.Header.Get("Location")), "cou_7")
	}
	three := h.Parcel(t, "PARCEL-3")
	code := three.CurrentCode().Reveal()
	act("suspend")
	says(t, c.Get(t, "/ops/courier?carrier=swift&courier=cou_7"), "Name cou_7 State Suspended")
	verify(t, h, "PARCEL-3", code, 403)
	act("admit")
	ref := handoff.CourierRef{Carrier: "swift", ID: "cou_7"}
	spent := func() int {
		t.Helper()
		snap, err := h.Store.Load(t.Context(), service.Query{Parcel: three.ID.Hash, Courier: &ref})
		if err != nil {
			t.Fatal(err)
		}
		return len(snap.Account.Counted)
	}
	if spent() != 5 {
		t.Errorf("%d wrong codes are counted", spent())
	}
	unfounded := c.Post(t, "/ops/courier", url.Values{"act": {"clear"}, "carrier": {"swift"}, "courier": {"cou_7"}})
	if !strings.Contains(text(unfounded.Text), "Something is missing") || unfounded.Status != 422 || spent() != 5 {
		t.Errorf("cleared without a reason: %d, %d wrong codes", unfounded.Status, spent())
	}
	act("clear")
	if spent() != 0 {
		t.Errorf("%d wrong codes are left", spent())
	}
	says(t, c.Get(t, "/ops/courier?carrier=swift&courier=cou_7"), "Why wrong codes were forgotten", "Spoke with the courier",
		"Wrong codes were forgotten today", "A courier's record was changed today", "reinstated")
	act("sign-out")
	if c, err := h.Store.Courier(t.Context(), ref); err != nil || c.SignedOut != handoff.InstantOf(h.Clock.Now()) {
		t.Errorf("signed out: %+v %v", c, err)
	}
	says(t, c.Get(t, "/ops/courier?carrier=swift&courier=cou_7"), "Signed out")
	verify(t, h, "PARCEL-3", code, 401)
	h.Clock.Advance(time.Second)
	verify(t, h, "PARCEL-3", code, 200)
	for _, form := range []url.Values{{"act": {"erase"}, "carrier": {"swift"}, "courier": {"cou_7"}}, {"act": {"suspend"}, "carrier": {"../x"}, "courier": {"cou_7"}}} {
		if p := c.Post(t, "/ops/courier", form); p.Status != 404 {
			t.Errorf("%v: %d", form, p.Status)
		}
	}
	says(t, c.Get(t, "/ops/courier?carrier=swift"), "both are needed")
}

func TestAlarms(t *testing.T) {
	h := house(t)
	c := h.SignIn(frametest.Operator, "")
	says(t, c.Get(t, "/ops/alarms"), "Nothing to look at.")
	now := handoff.InstantOf(h.Clock.Now())
	for _, e := range []handoff.Event{
		{Type: handoff.EventDoorForced, At: now - 100_000, Building: "bld_old", Door: "old"},
		{Type: handoff.EventDoorTampered, At: now - 60, Building: "bld_turm5", Door: "gate", Target: handoff.Gate},
		{Type: handoff.EventKeyChanged, At: now - 90_000, Object: "older", Changes: []string{handoff.Made}},
		{Type: handoff.EventKeyChanged, At: now - 60, By: "ops", Who: "0123456789abcdef", Object: "abcdefgh", Scopes: []string{"ops"}, Changes: []string{handoff.Made}},
		{Type: handoff.EventBudgetCleared, At: now, By: "ops", Who: "0123456789abcdef", Carrier: "swift", Courier: "cou_7"},
		{Type: handoff.EventSignal, At: now, Building: "bld_turm5", Carrier: "swift", Courier: "cou_7", Reason: handoff.WrongCodesByCourier},
	} {
		if err := h.Store.Append(t.Context(), now, e); err != nil {
			t.Fatal(err)
		}
	}
	p := c.Get(t, "/ops/alarms")
	says(t, p, "Signal today, 11:00 Wrong codes on several parcels, by one courier Courier cou_7", "Door tampered with today, 10:59", "Gate gate")
	says(t, p, "What people and keys changed Wrong codes were forgotten today, 11:00", "An API key was made or revoked today, 10:59", "API key abcdefgh ops", "made")
	if said := text(p.Text); strings.Contains(said, "bld_old") || strings.Contains(said, "older") || strings.Index(said, "Signal today") > strings.Index(said, "Door tampered") {
		t.Error(said)
	}
}

// Every event and figure has words. A visitor who is neither on duty nor a clerk sees nothing.
func TestWordsAndScopes(t *testing.T) {
	h := house(t)
	day(t, h)
	all, err := words.Load(ops.Set().Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range handoff.EventTypes() {
		if !all.In(words.English).Has("event." + name) {
			t.Errorf("no words for %s", name)
		}
	}
	for _, path := range []string{"/ops", "/ops/alarms", "/ops/parcel", "/ops/courier"} {
		for _, who := range []auth.Principal{frametest.Customer, frametest.Courier, frametest.Warehouse, frametest.Manager} {
			if p := h.SignIn(who, "").Get(t, path); p.Status != 403 {
				t.Errorf("%s, %s: %d", who.Subject, path, p.Status)
			}
		}
		if p := h.Anonymous().Get(t, path); p.Status != 303 {
			t.Errorf("without a session, %s: %d", path, p.Status)
		}
	}
}

// No GET changes anything, and every page has its headers.
func TestNoGetChangesAnything(t *testing.T) {
	h := house(t)
	grant := day(t, h)
	c := h.SignIn(frametest.Operator, "")
	before := h.Versions(t, "PARCEL-1", "PARCEL-2", "PARCEL-3")
	for _, pattern := range h.Site.Patterns() {
		_, at, _ := strings.Cut(pattern, " ")
		if at == "" {
			continue
		}
		for _, query := range []string{"", "?act=hold&reason=x&grant=" + grant, "?act=suspend&carrier=swift&courier=cou_7", "?done=approve"} {
			p := c.Send(t, httptest.NewRequest("GET", at+query, nil))
			if p.Status >= 500 || p.Status == 200 && (p.Header.Get("Cache-Control") != "no-store" || p.Header.Get("Content-Security-Policy") != frame.Policy) {
				t.Errorf("GET %s%s: %d %v", at, query, p.Status, p.Header)
			}
		}
	}
	if after := h.Versions(t, "PARCEL-1", "PARCEL-2", "PARCEL-3"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// The board in a real browser: the reader's own zone, live, by keyboard, in each window.
func TestInTheBrowser(t *testing.T) {
	h := house(t)
	grant := day(t, h)
	at, b := h.Listen(t), webtest.Start(t)
	b.Cookie(at, frametest.Cookie, h.SignIn(frametest.Operator, "Operator 1").Cookie)
	b.Zone("Asia/Tokyo")
	b.Open(at + "/ops")
	b.Await("location.search", "zone=Asia%2FTokyo")
	b.Await(`document.getElementById("plots")?.textContent`, "Dispatched 3")
	h.Dispatch(t, handofftest.Sample("PARCEL-4"))
	if err := numbers.New(h.Store, h.Clock).Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Await(`document.getElementById("plots").textContent`, "Dispatched 4")
	now := handoff.InstantOf(h.Clock.Now())
	if err := h.Store.Append(t.Context(), now, handoff.Event{Type: handoff.EventDoorForced, At: now, Building: "bld_turm5", Door: "gate", Target: handoff.Gate}); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"numbers": "/ops?zone=Europe/Berlin", "alarms": "/ops/alarms", "parcel": "/ops/parcel?grant=" + grant, "courier": "/ops/courier?carrier=swift&courier=cou_7",
	} {
		b.Fits("ops-"+name, at, path)
	}
	b.Open(at + "/ops/parcel?grant=" + grant)
	b.TabTo("reason")
	b.Keys("a courier was robbed", kb.Tab, kb.Enter)
	b.Await(`document.querySelector("main")?.textContent`, "It is on hold.")
	if g := h.Parcel(t, "PARCEL-1"); g.Status != handoff.Held {
		t.Errorf("it is %v", g.Status)
	}
	b.Cookie(at, frametest.Cookie, h.SignIn(frametest.Clerk, "Clerk 1").Cookie)
	g := h.Parcel(t, "PARCEL-3")
	b.Fits("ops-clerk", at, "/ops/parcel?grant="+g.ID.String())
	b.Open(at + "/ops/parcel?grant=" + g.ID.String())
	b.TabTo("why")
	b.Keys("the phone is broken", kb.Tab, kb.Enter)
	b.Await(`document.querySelector("main")?.textContent`, "It is asked for.")
}
