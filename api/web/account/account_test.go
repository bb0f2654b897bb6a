package account_test

import (
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/api/web/account"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/words"
)

func house(t testing.TB) *frametest.House {
	t.Helper()
	h := frametest.New(t, nil, func(w *handofftest.World) []frame.Set { return []frame.Set{account.Set(w.PageLinks)} })
	h.Cleared(t, "cou_7")
	return h
}

// of makes a grant, and the page's path of it.
func of(t testing.TB, h *frametest.House, parcel string, change ...func(*handoff.Dispatch)) (path, id string) {
	t.Helper()
	d := handofftest.Sample(parcel)
	for _, c := range change {
		c(&d)
	}
	g := h.Dispatch(t, d)
	return "/account/" + g.ID.String(), g.ID.String()
}

func codeOf(t testing.TB, h *frametest.House, parcel string) string {
	t.Helper()
	g := h.Parcel(t, parcel)
	return g.CurrentCode().Reveal()
}

// verify is a try of the courier cou_7 at the sample address.
func verify(t testing.TB, h *frametest.House, parcel, code string, status int) {
	t.Helper()
	h.Do(t, frametest.Courier, "POST", "/v1/parcels/"+parcel+"/verify", atDoor(code), status)
}

func atDoor(code string) string {
	return `{"code":"` + code + `","location":{"lat":52.52561,"lon":13.34209,"accuracy_m":12,"age_s":3}}`
}

func wrong(t testing.TB, h *frametest.House, parcel string, n int) string {
	t.Helper()
	g := h.Parcel(t, parcel)
	return handofftest.WrongCode(&g, n).Reveal()
}

// text is what a reader sees of a page: no tags, one space between words.
func text(page string) string {
	page = regexp.MustCompile(`(?s)<head>.*?</head>`).ReplaceAllString(page, "")
	page = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	page = strings.Join(strings.Fields(html.UnescapeString(page)), " ")
	return regexp.MustCompile(` ([.,:;])`).ReplaceAllString(page, "$1")
}

// Every state of a delivery, as its customer reads it.
func TestStates(t *testing.T) {
	drive := func(t *testing.T, h *frametest.House) { h.Drives(t, "cou_7", handofftest.Route, handofftest.Today) }
	shop := func(act string) func(*testing.T, *frametest.House, string) {
		return func(t *testing.T, h *frametest.House, id string) {
			h.Do(t, frametest.Clerk, "POST", "/v1/dispatches/"+id+"/"+act, `{"reason":"x"}`, 200)
		}
	}
	guess := func(n int) func(*testing.T, *frametest.House, string) {
		return func(t *testing.T, h *frametest.House, _ string) {
			drive(t, h)
			for i := range n {
				verify(t, h, "PARCEL-7827", wrong(t, h, "PARCEL-7827", i), 403)
			}
		}
	}
	for name, test := range map[string]struct {
		do   func(*testing.T, *frametest.House, string)
		code bool // whether the page has it
		en   []string
		not  []string
		de   []string
	}{
		"left the warehouse": {
			func(*testing.T, *frametest.House, string) {}, true,
			[]string{"Parcel ending in 7827", "It has left the warehouse", "It counts until tonight, 24:00.", "Left the warehouse today, 12:00", "Out for delivery not yet", "Say it at the door only", "Never say it by phone", "Mail it again", "New code", "You can do so 3 times."},
			[]string{"Your own doors", "This is the newest one"},
			[]string{"Paket mit den Endziffern 7827", "Er gilt bis heute, 24:00 Uhr.", "Neuer Code"},
		},
		"out for delivery": {
			func(t *testing.T, h *frametest.House, _ string) { drive(t, h) }, true,
			[]string{"It is out for delivery", "Out for delivery done", "At your door not yet"},
			nil,
			[]string{"Das Paket ist in Zustellung"},
		},
		"at the door": {guess(1), true, []string{"The courier is at your door", "At your door today, 12:00", "A wrong code was tried."}, nil, []string{"Der Kurier ist vor Ihrer Tür"}},
		"at the door an hour ago": {
			func(t *testing.T, h *frametest.House, id string) {
				guess(1)(t, h, id)
				h.Clock.Advance(time.Hour)
			}, true,
			[]string{"It is out for delivery", "At your door today, 12:00"},
			[]string{"The courier is at your door"},
			nil,
		},
		"nobody answered": {
			func(t *testing.T, h *frametest.House, _ string) {
				drive(t, h)
				h.Do(t, frametest.Courier, "POST", "/v1/parcels/PARCEL-7827/attempted", `{"reason":"x"}`, 200)
			}, true,
			[]string{"The courier reported that nobody answered: today, 12:00."},
			nil,
			[]string{"niemand geöffnet hat: heute, 12:00 Uhr."},
		},
		"locked": {guess(5), false, []string{"The code is locked", "Ask for a new code", "New code"}, []string{"Mail it again"}, []string{"Der Code ist gesperrt"}},
		"locked for good": {
			func(t *testing.T, h *frametest.House, id string) {
				guess(5)(t, h, id)
				h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+id+"/reissue", "", 200)
				guess(5)(t, h, id)
			}, false,
			[]string{"The code is locked for good", "There are no more new codes"},
			[]string{"Mail it again", "Make a new code"},
			[]string{"endgültig gesperrt"},
		},
		"a new code": {
			func(t *testing.T, h *frametest.House, id string) {
				h.Clock.Advance(2*time.Hour + 2*time.Minute)
				h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+id+"/reissue", "", 200)
			}, true,
			[]string{"This is the newest one, from today, 14:02. Older codes count no longer", "You can do so 2 times."},
			nil,
			[]string{"Ältere Codes gelten nicht mehr"},
		},
		"handed over": {
			func(t *testing.T, h *frametest.House, _ string) {
				drive(t, h)
				verify(t, h, "PARCEL-7827", codeOf(t, h, "PARCEL-7827"), 200)
			}, false,
			[]string{"It was handed over", "cou_7 of swift handed over parcel PARCEL-7827: today, 12:00.", "say so here at once.", "I do not have it", "Handed over today, 12:00"},
			[]string{"Mail it again", "Your code", "not yet"},
			[]string{"Das Paket wurde übergeben", "cou_7 (swift) hat das Paket PARCEL-7827 übergeben: heute, 12:00 Uhr."},
		},
		"disputed": {
			func(t *testing.T, h *frametest.House, id string) { disputed(t, h, id) }, false,
			[]string{
				"You do not have it, and we look into it", "recorded as handed over: today, 12:00.", "decides by Thursday, 26 November, 12:00; the shop cannot end this by itself",
				"I have it after all", "Handed over today, 12:00", "How to reach the shop: help@shop.example",
			},
			[]string{"It was handed over cou_7", "I do not have it", "Mail it again"},
			[]string{"Sie haben es nicht, und wir prüfen es", "Der Bereitschaftsdienst entscheidet bis Donnerstag, 26. November, 12:00 Uhr", "Ich habe es doch"},
		},
		"disputed, and taken back": {
			func(t *testing.T, h *frametest.House, id string) {
				disputed(t, h, id)
				h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+id+"/dispute/withdraw", "", 200)
			}, false,
			[]string{"It was handed over", "You told us that you have it after all: today, 12:00."},
			[]string{"I do not have it", "I have it after all"},
			[]string{"dass Sie es doch haben: heute, 12:00 Uhr."},
		},
		"disputed, and it stands": {
			func(t *testing.T, h *frametest.House, id string) {
				disputed(t, h, id)
				h.Do(t, frametest.Operator, "POST", "/v1/dispatches/"+id+"/dispute/settle", `{"ruling":"handed-over","reason":"x"}`, 200)
			}, false,
			[]string{"It was handed over", "decided that the handover stands: today, 12:00."},
			[]string{"I do not have it", "I have it after all"},
			[]string{"dass die Übergabe bestehen bleibt: heute, 12:00 Uhr."},
		},
		"disputed, and not received": {
			func(t *testing.T, h *frametest.House, id string) {
				disputed(t, h, id)
				h.Do(t, frametest.Operator, "POST", "/v1/dispatches/"+id+"/dispute/settle", `{"ruling":"not-received","reason":"x"}`, 200)
			}, false,
			[]string{"It is decided: you did not receive it", "another parcel, or your money back", "How to reach the shop: help@shop.example"},
			[]string{"It was handed over cou_7", "I do not have it", "I have it after all"},
			[]string{"Entschieden: Sie haben es nicht bekommen", "So erreichen Sie den Shop: help@shop.example"},
		},
		"taken back": {
			func(t *testing.T, h *frametest.House, _ string) {
				drive(t, h)
				verify(t, h, "PARCEL-7827", codeOf(t, h, "PARCEL-7827"), 200)
				h.Do(t, frametest.Courier, "POST", "/v1/parcels/PARCEL-7827/abort", `{"reason":"x"}`, 200)
			}, true,
			[]string{"The courier took a handoff back: today, 12:00.", "This is the newest one", "Handed over not yet"},
			nil, nil,
		},
		"recalled": {shop("recall"), false, []string{"The shop called it back", "Out for delivery did not happen"}, []string{"Your code", "Mail it again"}, []string{"zurückgerufen"}},
		"held":     {shop("hold"), false, []string{"It is on hold", "No code counts until then"}, []string{"Your code", "Mail it again"}, []string{"angehalten"}},
		"held after it was handed over": {
			func(t *testing.T, h *frametest.House, id string) {
				drive(t, h)
				verify(t, h, "PARCEL-7827", codeOf(t, h, "PARCEL-7827"), 200)
				shop("hold")(t, h, id)
			}, false,
			[]string{"It is on hold", "Handed over today, 12:00"},
			[]string{"It was handed over cou_7"},
			[]string{"angehalten"},
		},
		"expired": {
			func(_ *testing.T, h *frametest.House, _ string) { h.Clock.Advance(13 * time.Hour) }, false,
			[]string{"Its day is over", "did not happen", "Day yesterday"},
			[]string{"Your code", "Mail it again"},
			[]string{"Sein Tag ist vorbei"},
		},
		"forgotten": {
			func(t *testing.T, h *frametest.House, id string) {
				h.Clock.Advance(13 * time.Hour)
				sweep(t, h)
				h.Clock.Advance(9 * 24 * time.Hour)
				sweep(t, h)
			}, false,
			[]string{"Its day is over", "Address Forgotten."},
			[]string{"Turmstr"},
			[]string{"Adresse Vergessen."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := house(t)
			path, id := of(t, h, "PARCEL-7827")
			setContact(h)
			test.do(t, h, id)
			c := h.SignIn(frametest.Customer, "")
			code := codeOf(t, h, "PARCEL-7827")
			for lang, want := range map[string][]string{"en": test.en, "de": test.de} {
				c.Language = lang
				p := c.Get(t, path)
				said := text(p.Text)
				if p.Status != 200 {
					t.Fatalf("%d %s", p.Status, said)
				}
				for _, w := range want {
					if !strings.Contains(said, w) {
						t.Errorf("%s: no %q in\n%s", lang, w, said)
					}
				}
				for _, w := range test.not {
					if lang == "en" && strings.Contains(said, w) {
						t.Errorf("%q is in\n%s", w, said)
					}
				}
				if code == "" { // forgotten
					continue
				}
				shown := strings.Contains(p.Text, "<b>"+code[:3]+"</b>") && strings.Contains(p.Text, "<b>"+code[3:]+"</b>")
				if shown != test.code {
					t.Errorf("the code is there: %v", shown)
				}
			}
			c.Language = "en"
			if p := c.Get(t, "/account"); p.Status != 200 || !strings.Contains(text(p.Text), "7827") {
				t.Errorf("the list: %d %s", p.Status, text(p.Text))
			}
		})
	}
}

// disputed is a handoff that its customer says did not happen.
func disputed(t testing.TB, h *frametest.House, id string) {
	t.Helper()
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	verify(t, h, "PARCEL-7827", codeOf(t, h, "PARCEL-7827"), 200)
	h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+id+"/dispute", `{"reason":"x"}`, 200)
}

func setContact(h *frametest.House) {
	own := h.Policy.Shops[handofftest.Shop]
	own.Contact = "help@shop.example"
	h.Policy.Shops[handofftest.Shop] = own
}

// The page's own forms: what they say is done, and what is in the way is said.
// The page says that the mail failed, until it arrives or there is another code; looking at the page
// is noted, and changes nothing of that.
func TestAMailThatFailedOnThePage(t *testing.T) {
	h := house(t)
	path, id := of(t, h, "P1", func(d *handoff.Dispatch) { d.Customer.Email = "gone@shop.example" })
	c := h.SignIn(frametest.Customer, "")
	says := func(want bool) {
		t.Helper()
		for range 2 {
			p := c.Get(t, path)
			if got := strings.Contains(text(p.Text), "We could not reach you by mail."); got != want || strings.Contains(p.Text, "gone@") {
				t.Errorf("says so: %v, want %v: %s", got, want, text(p.Text))
			}
		}
	}
	says(false)
	g := h.Parcel(t, "P1")
	if g.Mail == nil || g.Mail.State != handoff.MailSeen {
		t.Fatalf("the look was not noted: %+v", g.Mail)
	}
	h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+id+"/reissue", "", 200)
	if err := h.Service.MailFailed(t.Context(), g.ID, 2, handoff.MailRefused, "5.1.1"); err != nil {
		t.Fatal(err)
	}
	says(true)
	if p := h.ByLink(frametest.Customer).Get(t, path); !strings.Contains(text(p.Text), "We could not reach you by mail.") {
		t.Error("who came by a link is not told")
	}
	c.Language = "de"
	if p := c.Get(t, path); !strings.Contains(text(p.Text), "Wir konnten Sie per E-Mail nicht erreichen.") {
		t.Error(text(p.Text))
	}
	c.Language = "en"
	g = h.Parcel(t, "P1")
	if err := h.Service.MailTaken(t.Context(), &g, handoff.MailAccepted); err != nil {
		t.Fatal(err)
	}
	says(false)
}

func TestDisputeOnThePage(t *testing.T) {
	h := house(t)
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	path, _ := of(t, h, "PARCEL-7827")
	c := h.SignIn(frametest.Customer, "")
	act := func(values url.Values, status int, want string) {
		t.Helper()
		p := c.Post(t, path, values)
		if p.Status != status {
			t.Fatalf("%v: %d %s", values, p.Status, text(p.Text))
		}
		if status == 303 {
			p = c.Get(t, p.Header.Get("Location"))
		}
		if !strings.Contains(text(p.Text), want) {
			t.Errorf("%v: no %q in %s", values, want, text(p.Text))
		}
	}
	act(url.Values{"act": {"dispute"}, "reason": {"x"}}, 409, "It is over already.")
	verify(t, h, "PARCEL-7827", codeOf(t, h, "PARCEL-7827"), 200)
	act(url.Values{"act": {"dispute"}}, 422, "Say in a few words what happened")
	act(url.Values{"act": {"dispute"}, "reason": {"I was not at home"}}, 303, "Everything is stopped, and the shop and our duty officer know of it.")
	act(url.Values{"act": {"dispute"}, "reason": {"again"}}, 409, "You told us before.")
	act(url.Values{"act": {"withdraw"}}, 303, "It is closed, and nothing more is looked into.")

	// Who came by a shop's link is offered no withdrawal: the shop could have come so.
	path, id := of(t, h, "PARCEL-7828")
	verify(t, h, "PARCEL-7828", codeOf(t, h, "PARCEL-7828"), 200)
	h.Do(t, frametest.Customer, "POST", "/v1/handoffs/"+id+"/dispute", `{"reason":"x"}`, 200)
	c = h.ByLink(frametest.Customer)
	if said := text(c.Get(t, path).Text); strings.Contains(said, "I have it after all") || !strings.Contains(said, "you came by a link of the shop") {
		t.Error(said)
	}
	act(url.Values{"act": {"withdraw"}}, 403, "That was not done.")
}

func sweep(t *testing.T, h *frametest.House) {
	t.Helper()
	if _, err := h.Service.Sweep(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
}

// A return reads otherwise: a courier comes to take it, and nothing has to be said.
func TestReturns(t *testing.T) {
	h := house(t)
	c := h.SignIn(frametest.Customer, "")
	pickUp := func(parcel string, day handoff.Date) string {
		path, _ := of(t, h, parcel, func(d *handoff.Dispatch) { d.Purpose, d.Day = handoff.PurposeReturn, day })
		return path
	}
	path, called, later := pickUp("BACK-0001", handofftest.Today), pickUp("BACK-0002", handofftest.Today), pickUp("BACK-0003", handofftest.Today.Next())
	reads := func(path string, en, de string) {
		t.Helper()
		for lang, want := range map[string]string{"en": en, "de": de} {
			c.Language = lang
			if p := c.Get(t, path); p.Status != 200 || !strings.Contains(text(p.Text), want) || strings.Contains(p.Text, "details class=\"code\"") {
				t.Errorf("no %q in %d %s", want, p.Status, text(p.Text))
			}
			if p := c.Get(t, "/account"); p.Status != 200 {
				t.Errorf("the list: %d", p.Status)
			}
		}
	}
	reads(path, "It is to be picked up today", "wird heute abgeholt")
	reads(path, "No code is needed Give the parcel to the courier.", "Kein Code nötig")
	reads(later, "The courier comes on this day: tomorrow.", "an diesem Tag: morgen.")
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	reads(path, "A courier is on the way", "Ein Kurier ist unterwegs")
	h.Do(t, frametest.Clerk, "POST", "/v1/dispatches/"+strings.TrimPrefix(called, "/account/")+"/recall", `{"reason":"x"}`, 200)
	reads(called, "The shop called the pick-up off. today, 12:00 The pick-up was ordered.", "hat die Abholung abgesagt. heute, 12:00 Uhr Die Abholung wurde beauftragt.")
	h.Do(t, frametest.Courier, "POST", "/v1/parcels/BACK-0001/verify", `{"location":{"lat":52.52561,"lon":13.34209,"accuracy_m":12,"age_s":3}}`, 200)
	reads(path, "cou_7 of swift took parcel BACK-0001 along: today, 12:00.", "mitgenommen: heute, 12:00 Uhr.")
	h.Clock.Advance(48 * time.Hour)
	reads(later, "It was not picked up.", "wurde nicht abgeholt")
}

// The list has a place for each day, and what still needs the customer stands first.
func TestDeliveries(t *testing.T) {
	h := house(t)
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	c := h.SignIn(frametest.Customer, "Sample Customer 81")
	if p := c.Get(t, "/account"); !strings.Contains(text(p.Text), "Nothing comes today.") || !strings.Contains(p.Text, "Sample Customer 81") {
		t.Error(text(p.Text))
	}
	of(t, h, "OVER-0001")
	of(t, h, "HERE-0002")
	of(t, h, "NEXT-0003", func(d *handoff.Dispatch) { d.Day = handofftest.Today.Next() })
	of(t, h, "LATE-0004", func(d *handoff.Dispatch) { d.Day = handoff.Date{Year: 2026, Month: time.December, Day: 1} })
	of(t, h, "ELSE-0005", func(d *handoff.Dispatch) { d.Customer.ID = "cus_82" })
	verify(t, h, "OVER-0001", codeOf(t, h, "OVER-0001"), 200)
	order := func() string {
		p := c.Get(t, "/account")
		var found []string
		for _, m := range regexp.MustCompile(`<h2[^>]*>([^<]+)|ending in (\d+)`).FindAllStringSubmatch(p.Text, -1) {
			found = append(found, m[1]+m[2])
		}
		return strings.Join(found, " ")
	}
	if got, want := order(), "Today 0002 0001 Coming 0003 0004"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	h.Clock.Advance(24 * time.Hour)
	if got, want := order(), "Today 0003 Coming 0004 Before 0001 0002"; got != want && got != "Today 0003 Coming 0004 Before 0002 0001" {
		t.Errorf("a day later: %s, want %s", got, want)
	}
	if p := c.Get(t, "/account"); strings.Contains(p.Text, "0005") || strings.Contains(p.Text, "Older ones") {
		t.Error("another customer's, or older ones that are not")
	}
	for n := range 60 {
		of(t, h, fmt.Sprintf("MANY-%04d", 1000+n), func(d *handoff.Dispatch) { d.Day = handofftest.Today.Next() })
	}
	p := c.Get(t, "/account")
	more := regexp.MustCompile(`href="(/account\?cursor=[^"]+)"`).FindStringSubmatch(p.Text)
	if more == nil {
		t.Fatal(text(p.Text))
	}
	seen := regexp.MustCompile(`ending in \d+`).FindAllString(p.Text+c.Get(t, html.UnescapeString(more[1])).Text, -1)
	if slices.Sort(seen); len(slices.Compact(seen)) != 64 {
		t.Errorf("%d deliveries on two pages", len(seen))
	}
	if p := c.Get(t, "/account?cursor=nonsense"); p.Status != 404 {
		t.Errorf("a made-up cursor: %d", p.Status)
	}
}

func TestActs(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "P1")
	c := h.SignIn(frametest.Customer, "")
	first := codeOf(t, h, "P1")
	act := func(act string, status int, want string) {
		t.Helper()
		p := c.Post(t, path, url.Values{"act": {act}})
		if p.Status == 303 {
			if to := p.Header.Get("Location"); to != path+"?done="+act {
				t.Errorf("%s leads to %s", act, to)
			}
			if follow := c.Get(t, p.Header.Get("Location")); !strings.Contains(text(follow.Text), want) {
				t.Errorf("%s: no %q in %s", act, want, text(follow.Text))
			}
		} else if !strings.Contains(text(p.Text), want) {
			t.Errorf("%s: no %q in %s", act, want, text(p.Text))
		}
		if p.Status != status {
			t.Errorf("%s: %d, want %d", act, p.Status, status)
		}
	}
	act("resend", 303, "mailed to you again")
	if codeOf(t, h, "P1") != first {
		t.Error("another code was mailed")
	}
	act("resend", 429, "That was not done. The code was mailed a moment ago. Look into your mailbox, and at what it takes for junk. Try again in 60 seconds.")
	for range 4 {
		h.Clock.Advance(time.Minute)
		act("resend", 303, "mailed to you again")
	}
	h.Clock.Advance(time.Minute)
	act("resend", 429, "as often as we do")
	for range 3 {
		act("reissue", 303, "There is a new code")
	}
	act("reissue", 409, "There are no more new codes for this parcel.")
	if codeOf(t, h, "P1") == first {
		t.Error("still the first code")
	}
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	verify(t, h, "P1", codeOf(t, h, "P1"), 200)
	act("reissue", 409, "The parcel was handed over.")
	if p := c.Post(t, path, url.Values{"act": {"recall"}}); p.Status != 404 {
		t.Errorf("an act that is none: %d", p.Status)
	}
	if p := c.Get(t, path+"?done=%3Cb%3E"); p.Status != 200 || strings.Contains(p.Text, "<b>") {
		t.Errorf("a made-up word: %d", p.Status)
	}
}

// Every refusal that a customer can meet has words of its own.
func TestRefusalsHaveWords(t *testing.T) {
	all, err := words.Load(account.Set(nil).Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []handoff.Reason{
		handoff.ResendTooSoon, handoff.ResendLimit, handoff.ReissueLimit, handoff.CodeLocked, handoff.NoCode, handoff.AlreadyReleased,
		handoff.AlreadyCollected, handoff.IsRecalled, handoff.OnHold, handoff.WindowOver, handoff.ConsentUsed, handoff.NoConsentNeeded,
		handoff.ConfirmationLimit, handoff.NoConfirmedAddress,
	} {
		if !all.In(words.English).Has("refused." + string(reason)) {
			t.Errorf("no words for %s", reason)
		}
	}
}

func garage(t *testing.T, h *frametest.House, kind string, owner string) {
	t.Helper()
	h.Do(t, frametest.Manager, "PUT", "/v1/buildings/bld_turm5", `{"name":"Turmstr. 5","address":"Turmstr. 5, Berlin","time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"carriers":["swift"]}`, 200)
	h.Do(t, frametest.Manager, "PUT", "/v1/doors/door_"+kind+owner, `{"building_id":"bld_turm5","kind":"`+kind+`","mode":"connected","location":{"lat":52.5256,"lon":13.3421},"owner":{"shop_id":"demo","customer_id":"`+owner+`"}}`, 200)
}

// Consent is asked for the customer's own doors, and for no other's.
func TestConsent(t *testing.T) {
	h := house(t)
	garage(t, h, "garage", "cus_81")
	garage(t, h, "home", "cus_81")
	garage(t, h, "garage", "cus_82")
	path, _ := of(t, h, "P1")
	c := h.SignIn(frametest.Customer, "")
	said := text(c.Get(t, path).Text)
	if strings.Count(said, "Let the garage be opened") != 1 || !strings.Contains(said, "Your garage: stays closed.") || !strings.Contains(said, "Let my home be opened") {
		t.Fatal(said)
	}
	agree := func(kind, answer, want string) {
		t.Helper()
		if p := c.Post(t, path, url.Values{"act": {"consent"}, "kind": {kind}, "agree": {answer}}); p.Status != 303 {
			t.Fatalf("%d %s", p.Status, text(p.Text))
		}
		if got := fmt.Sprint(h.Parcel(t, "P1").Consents); got != want {
			t.Errorf("consents %s, want %s", got, want)
		}
	}
	agree("garage", "yes", "[garage]")
	agree("home", "yes", "[garage home]")
	agree("home", "no", "[garage]")
	if said := text(c.Get(t, path).Text); !strings.Contains(said, "Your garage: may be opened.") || !strings.Contains(said, "Keep the garage closed") {
		t.Error(said)
	}
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	h.Do(t, frametest.Courier, "POST", "/v1/doors/door_garagecus_81/unlock", `{"parcel_id":"P1","challenge":"AAAAAAAAAAAAAAAA","location":{"lat":52.52561,"lon":13.34209,"accuracy_m":12,"age_s":3}}`, 200)
	if said := text(c.Get(t, path).Text); !strings.Contains(said, "a courier was let through. That cannot be taken back.") || strings.Contains(said, "Keep the garage closed") {
		t.Error(said)
	}
	if p := c.Post(t, path, url.Values{"act": {"consent"}, "kind": {"garage"}, "agree": {"no"}}); p.Status != 409 || !strings.Contains(text(p.Text), "cannot be taken back any more") {
		t.Errorf("%d %s", p.Status, text(p.Text))
	}
}

// Who came by a shop's link opens nothing: the page says that the flat was asked by mail, and
// the door stays closed. What was asked for can be taken back, and one door's question does not
// undo another's.
func TestConsentByALink(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "P1", func(d *handoff.Dispatch) { d.Day = handoff.DateOf(h.Clock.Now().AddDate(0, 0, 3)) })
	garage(t, h, "garage", "cus_81")
	garage(t, h, "home", "cus_81")
	c := h.ByLink(frametest.Customer)
	press := func(c *frametest.Client, kind, answer string, status int, want string) {
		t.Helper()
		p := c.Post(t, path, url.Values{"act": {"consent"}, "kind": {kind}, "agree": {answer}})
		if p.Status == 303 {
			p.Text = c.Get(t, p.Header.Get("Location")).Text
		}
		if p.Status != status || !strings.Contains(text(p.Text), want) {
			t.Errorf("%s %s: %d, no %q in %s", kind, answer, p.Status, want, text(p.Text))
		}
	}
	if said := text(c.Get(t, path).Text); !strings.Contains(said, "we ask the residents of your flat by mail") {
		t.Error(said)
	}
	press(c, "home", "yes", 403, "none of them has a confirmed address yet")

	ctx := t.Context()
	for _, id := range []string{"door_garagecus_81", "door_homecus_81"} {
		d, err := h.Store.Door(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		d.Unit = "4 links"
		_, stands, err := h.Registry.ReplaceDoor(ctx, registry.By{}, *d, registry.Match{})
		if err == nil && stands.Pending != nil { // its people agree, so that it counts now
			err = h.Registry.Approve(ctx, registry.By{}, &stands, stands.Pending.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Which unit a door is of counts two days after it changed.
	h.Clock.Advance(49 * time.Hour)
	if err := h.Residents.PutOnFile(ctx, "bld_turm5", []residents.Subscription{{Address: "resident@home.example", Unit: "4 links"}}); err != nil {
		t.Fatal(err)
	}
	all, err := h.Residents.List(ctx, "bld_turm5")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Residents.Confirm(ctx, "bld_turm5", all[0].ID); err != nil {
		t.Fatal(err)
	}
	press(c, "home", "yes", 303, "Nothing opens yet. We sent a mail to the residents of your flat")
	said := text(c.Get(t, path).Text)
	for _, want := range []string{"Your home: stays closed until somebody agrees by the link in our mail to your flat.", "Keep my home closed", "Your garage: stays closed.", "asked that a door of yours may be opened"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
	for _, address := range []string{"resident@home.example", "@"} {
		if strings.Contains(said, address) {
			t.Errorf("the page shows %q", address)
		}
	}
	h.Clock.Advance(time.Minute)
	press(c, "garage", "yes", 303, "Nothing opens yet.")
	if g := h.Parcel(t, "P1"); fmt.Sprint(g.ConsentAsked(h.Clock.Now()).Consents) != "[garage home]" || len(g.Consents) > 0 {
		t.Errorf("%+v waits, %v is agreed to", g.ConsentAsk, g.Consents)
	}
	// The customer in person agrees to what they press, and not to what a link asked for.
	press(h.SignIn(frametest.Customer, ""), "garage", "yes", 303, "Your answer counts from now on.")
	if g := h.Parcel(t, "P1"); fmt.Sprint(g.Consents) != "[garage]" || g.ConsentAsked(h.Clock.Now()) != nil {
		t.Errorf("%+v waits, %v is agreed to", g.ConsentAsk, g.Consents)
	}
	press(c, "home", "yes", 303, "Nothing opens yet.")
	press(c, "home", "no", 303, "Your answer counts from now on.")
	press(c, "garage", "no", 303, "Your answer counts from now on.")
	if g := h.Parcel(t, "P1"); len(g.Consents) > 0 || g.ConsentAsked(h.Clock.Now()) != nil {
		t.Errorf("%+v waits, %v is agreed to", g.ConsentAsk, g.Consents)
	}
	for range 2 {
		h.Clock.Advance(time.Minute)
		press(c, "home", "yes", 303, "Nothing opens yet.")
	}
	h.Clock.Advance(time.Minute)
	press(c, "home", "yes", 429, "We asked by mail as often as we do for this parcel.")
}

// No visitor finds a parcel of another customer.
func TestOthers(t *testing.T) {
	h := house(t)
	mine, _ := of(t, h, "P1")
	theirs, _ := of(t, h, "P2", func(d *handoff.Dispatch) { d.Customer.ID = "cus_82" })
	unknown := "/account/000000000000000000000000-1"
	c := h.SignIn(frametest.Customer, "")
	other := frametest.Customer
	other.Shop = handofftest.Other // the same id of another shop
	var pages []string
	for _, path := range []string{theirs, unknown, "/account/nonsense", "/account/%2e%2e"} {
		p := c.Get(t, path)
		if p.Status != 404 {
			t.Errorf("%s: %d", path, p.Status)
		}
		pages = append(pages, strings.ReplaceAll(p.Text, path, ""))
	}
	if pages[0] != pages[1] {
		t.Error("another's parcel is told from an unknown one")
	}
	if p := h.SignIn(other, "").Get(t, mine); p.Status != 404 {
		t.Errorf("the same id of another shop: %d", p.Status)
	}
	if p := c.Post(t, theirs, url.Values{"act": {"reissue"}}); p.Status != 404 {
		t.Errorf("a new code for another's: %d", p.Status)
	}
	if p := h.Anonymous().Get(t, mine); p.Status != 303 || p.Header.Get("Location") != "/sign-in?next="+url.QueryEscape(mine) {
		t.Errorf("without a session: %d", p.Status)
	}
}

// A shop sends its customer here: one press, within five minutes, once.
func TestPageLink(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "P1")
	link := func() string {
		t.Helper()
		var answer struct {
			Path      string    `json:"path"`
			ExpiresAt time.Time `json:"expires_at"`
		}
		h.Do(t, frametest.Clerk, "POST", "/v1/customers/cus_81/page-link", "", 201).Read(t, &answer)
		if want := h.Clock.Now().Add(5 * time.Minute); !answer.ExpiresAt.Equal(want) {
			t.Errorf("until %v, want %v", answer.ExpiresAt, want)
		}
		return answer.Path
	}
	first := link()
	token := strings.TrimPrefix(first, "/account/link/")
	for range 3 { // a scanner looks at it
		p := h.Anonymous().Get(t, first)
		if p.Status != 200 || p.Header.Get("Set-Cookie") != "" || strings.Count(p.Text, "<button") != 1 || strings.Contains(p.Text, token) {
			t.Fatalf("%d %v %s", p.Status, p.Header, p.Text)
		}
	}
	r := httptest.NewRequest("POST", first, nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if p := h.Anonymous().Send(t, r); p.Status != 403 {
		t.Errorf("from another site: %d", p.Status)
	}
	p := h.Anonymous().Post(t, first, nil)
	if p.Status != 303 || p.Header.Get("Location") != "/account" {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	cookie, err := http.ParseSetCookie(p.Header.Get("Set-Cookie"))
	if err != nil || cookie.Name != frametest.Cookie {
		t.Fatalf("%v %v", cookie, err)
	}
	in := h.Anonymous()
	in.Cookie = cookie.Value
	if p := in.Get(t, path); p.Status != 200 {
		t.Errorf("signed in: %d", p.Status)
	}
	for name, after := range map[string]string{"used": first, "changed": "/account/link/" + strings.ToUpper(token[:8]) + token[8:], "none": "/account/link/AAAA"} {
		if p := h.Anonymous().Post(t, after, nil); p.Status != 410 || p.Header.Get("Set-Cookie") != "" || !strings.Contains(text(p.Text), "This link is over") {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
	second := link()
	h.Clock.Advance(5 * time.Minute)
	if p := h.Anonymous().Get(t, second); p.Status != 410 {
		t.Errorf("five minutes later: %d", p.Status)
	}
	if p := h.Anonymous().Post(t, second, nil); p.Status != 410 || p.Header.Get("Set-Cookie") != "" {
		t.Errorf("five minutes later: %d", p.Status)
	}
	if strings.Contains(h.Log(), token) {
		t.Error("the log has a token")
	}
	h.Do(t, frametest.Customer, "POST", "/v1/customers/cus_81/page-link", "", 403)
}

// No GET changes anything: scanners open links, and browsers fetch ahead. That the customer, signed in,
// saw the code is noted at the first look.
func TestNoGetChangesAnything(t *testing.T) {
	h := house(t)
	garage(t, h, "garage", "cus_81")
	path, id := of(t, h, "P1")
	c := h.SignIn(frametest.Customer, "")
	var link struct {
		Path string `json:"path"`
	}
	h.Do(t, frametest.Clerk, "POST", "/v1/customers/cus_81/page-link", "", 201).Read(t, &link)
	c.Get(t, path)
	before := h.Versions(t, "P1")
	walked := 0
	for _, pattern := range h.Site.Patterns() {
		method, at, _ := strings.Cut(pattern, " ")
		if at == "" {
			continue // every path that is none
		}
		at = strings.NewReplacer("{grant_id}", id, "{token}", strings.TrimPrefix(link.Path, "/account/link/")).Replace(at)
		for _, query := range []string{"", "?act=resend", "?act=reissue", "?act=consent&kind=garage&agree=yes", "?done=reissue", "?language=de"} {
			for _, asked := range []string{"GET", "HEAD"} {
				p := c.Send(t, httptest.NewRequest(asked, at+query, nil))
				if p.Status >= 500 || p.Header.Get("Set-Cookie") != "" {
					t.Errorf("%s %s%s: %d, sets %q", asked, at, query, p.Status, p.Header.Get("Set-Cookie"))
				}
				if method == "GET" && p.Status != 200 {
					t.Errorf("%s %s%s: %d", asked, at, query, p.Status)
				}
				walked++
			}
		}
	}
	if after := h.Versions(t, "P1"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if walked < 50 {
		t.Errorf("%d requests walked", walked)
	}
	if p := h.Anonymous().Post(t, link.Path, nil); p.Status != 303 {
		t.Error("looking used the link up")
	}
	if p := c.Get(t, path); p.Status != 200 {
		t.Error(p.Status)
	}
}

// The code stands in the body of its page, and nowhere else.
func TestTheCodeStaysOnThePage(t *testing.T) {
	h := house(t)
	path, _ := of(t, h, "P1")
	code := codeOf(t, h, "P1")
	c := h.SignIn(frametest.Customer, "")
	for _, at := range []string{"/account", path, path + "?done=resend"} {
		p := c.Get(t, at)
		head, body, _ := strings.Cut(p.Text, "<body>")
		if strings.Contains(head, code) || strings.Contains(head, code[:3]) && strings.Contains(head, code[3:]) {
			t.Errorf("%s: in the head: %s", at, head)
		}
		digits := regexp.MustCompile(`<details class="code"(?s:.*?)</details>`)
		if n := len(digits.FindAllString(body, -1)); n != 1 {
			t.Errorf("%s: %d codes", at, n)
		}
		if rest := digits.ReplaceAllString(body, ""); strings.Contains(rest, code) || strings.Contains(rest, "<b>"+code[:3]) {
			t.Errorf("%s: not only where it can be hidden", at)
		}
		if strings.Contains(body, "<details class=\"code\" open") {
			t.Errorf("%s: shown without asking", at)
		}
		for name, values := range p.Header {
			if strings.Contains(strings.Join(values, " "), code) {
				t.Errorf("%s: in %s", at, name)
			}
		}
		if p.Header.Get("Cache-Control") != "no-store" || p.Header.Get("Referrer-Policy") != "no-referrer" || p.Header.Get("Content-Security-Policy") != frame.Policy {
			t.Errorf("%s: %v", at, p.Header)
		}
	}
	if p := c.Post(t, path, url.Values{"act": {"resend"}}); strings.Contains(p.Header.Get("Location"), code) {
		t.Error("in an address")
	}
	if strings.Contains(h.Log(), code) || strings.Contains(h.Log(), "Turmstr") {
		t.Error("in the log")
	}
}

// A page with all its assets is small.
func TestWeight(t *testing.T) {
	h := house(t)
	garage(t, h, "garage", "cus_81")
	path, _ := of(t, h, "P1")
	c := h.SignIn(frametest.Customer, "Sample Customer 81")
	page := c.Get(t, path).Text
	assets := map[string]bool{h.Site.Asset("frame/live.js"): true} // a module's import
	for _, m := range regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		assets[m[1]] = true
	}
	total := len(page)
	for at := range assets {
		p := c.Get(t, at)
		if p.Status != 200 {
			t.Errorf("%s: %d", at, p.Status)
		}
		total += len(p.Text)
	}
	if len(assets) < 5 || total > 100_000 {
		t.Errorf("%d bytes with %v", total, slices.Sorted(maps.Keys(assets)))
	}
	t.Logf("%d bytes, uncompressed", total)
}

// Two customers at once see each their own.
func TestTwoCustomers(t *testing.T) {
	h := house(t)
	of(t, h, "ONE-1111")
	of(t, h, "TWO-2222", func(d *handoff.Dispatch) { d.Customer.ID = "cus_82" })
	one := h.SignIn(frametest.Customer, "")
	two := h.SignIn(auth.Principal{Subject: "cus_82", Shop: handofftest.Shop, Scopes: []auth.Scope{auth.Customer}}, "")
	for range 5 {
		a, b := text(one.Get(t, "/account").Text), text(two.Get(t, "/account").Text)
		if !strings.Contains(a, "1111") || strings.Contains(a, "2222") || !strings.Contains(b, "2222") || strings.Contains(b, "1111") {
			t.Fatalf("%s\n%s", a, b)
		}
	}
}

// Of several parcels the page names each, how many were handed over and which are still to come,
// and shows the code for those.
func TestSeveralParcels(t *testing.T) {
	for language, want := range map[string][3][]string{
		"en": {
			{"3 parcels that arrive together", "The one code is for all", "PARCEL-0022: still to come", "Its seal has the number S-1."},
			{"1 of 3 handed over; …0022, …0033 is still to come.", "PARCEL-0011: handed over", "PARCEL-0022: still to come", "there is a new code for the others"},
			{"PARCEL-0022: called back by the shop", "The shop called some of the parcels back", "handed over parcel PARCEL-0011"},
		},
		"de": {
			{"3 Pakete, die zusammen ankommen", "Der eine Code gilt für alle", "PARCEL-0022: kommt noch"},
			{"1 von 3 übergeben; …0022, …0033 kommt noch."},
			{"PARCEL-0022: vom Shop zurückgerufen", "hat das Paket PARCEL-0011 übergeben"},
		},
	} {
		h := house(t)
		path, id := of(t, h, "PARCEL-0011", func(d *handoff.Dispatch) {
			d.Together = &handoff.Together{Seal: "S-1", More: []handoff.Piece{{Parcel: "PARCEL-0022"}, {Parcel: "PARCEL-0033"}}}
		})
		h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
		c := h.SignIn(frametest.Customer, "Sample Customer 81")
		c.Language = language
		for i, act := range []func(){
			func() {},
			func() { verify(t, h, "PARCEL-0011", codeOf(t, h, "PARCEL-0011"), 200) },
			func() {
				h.Do(t, frametest.Clerk, "POST", "/v1/dispatches/"+id+"/recall", `{"reason":"x"}`, 200)
			},
		} {
			act()
			page := text(c.Get(t, path).Text)
			for _, sentence := range want[i] {
				if !strings.Contains(page, sentence) {
					t.Errorf("%s %d: %q is not in\n%s", language, i, sentence, page)
				}
			}
		}
	}
}
