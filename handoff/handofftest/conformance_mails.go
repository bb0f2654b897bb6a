package handofftest

import (
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

var mailTests = map[string]func(*testing.T, *World){
	"ACommitWithANewCodeAwaitsItsMail": func(t *testing.T, w *World) {
		g := w.Dispatch(t, Sample("p1"))
		by := handoff.InstantOf(Noon.Add(30 * time.Minute))
		first := service.AwaitedMail{Grant: g.ID, Issue: 1, By: by}
		equal(t, "before it is late", len(w.late(t, by-1)), 0)
		equal(t, "when it is late", w.late(t, by), []service.AwaitedMail{first})

		w.Clock.Advance(time.Minute)
		if _, err := w.Service.Reissue(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: Shop}, g.ID); err != nil {
			t.Fatal(err)
		}
		second := service.AwaitedMail{Grant: g.ID, Issue: 2, By: by + 60}
		equal(t, "both", w.late(t, by+60), []service.AwaitedMail{first, second})
		noError(t, "DropMail", w.Core.DropMail(t.Context(), first))
		noError(t, "DropMail", w.Core.DropMail(t.Context(), first))
		equal(t, "the newer", w.late(t, by+60), []service.AwaitedMail{second})

		w.Clock.Advance(time.Minute)
		if _, err := w.Service.Resend(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: Shop}, g.ID); err != nil {
			t.Fatal(err)
		}
		equal(t, "the same code again is not waited for", w.late(t, by+6000), []service.AwaitedMail{second})
	},

	"AnOrdinaryParcelAwaitsNoMail": func(t *testing.T, w *World) {
		d := Sample("p1")
		d.Value.Amount, d.Categories = "10", nil
		if g := w.Dispatch(t, d); g.CodeRequired() {
			t.Fatal("it needs a code")
		}
		equal(t, "late", len(w.late(t, handoff.InstantOf(Noon.Add(time.Hour)))), 0)
	},

	"LateMailsAreTheEarliest": func(t *testing.T, w *World) {
		for _, parcel := range []string{"p1", "p2", "p3"} {
			w.Dispatch(t, Sample(parcel))
			w.Clock.Advance(time.Minute)
		}
		for p := range handoff.Partitions {
			all, err := w.Core.LateMails(t.Context(), p, handoff.InstantOf(Noon.Add(time.Hour)), 10)
			noError(t, "LateMails", err)
			if len(all) < 2 {
				continue
			}
			one, err := w.Core.LateMails(t.Context(), p, handoff.InstantOf(Noon.Add(time.Hour)), 1)
			noError(t, "LateMails", err)
			equal(t, "the first", one, all[:1])
			if all[0].By > all[1].By {
				t.Errorf("%v", all)
			}
		}
	},

	"TheNewestAndBestNoteStands": func(t *testing.T, w *World) {
		g := w.Dispatch(t, Sample("p1"))
		ref := service.MailRef{Grant: g.ID, Day: g.Day()}
		at := handoff.InstantOf(Noon)
		for i, c := range []struct {
			issue   uint64
			state   handoff.MailState
			want    handoff.MailWord
			awaited bool
		}{
			{1, handoff.MailAccepted, handoff.MailWord{Issue: 1, State: handoff.MailAccepted, At: at}, true},
			{1, handoff.MailDelivered, handoff.MailWord{Issue: 1, State: handoff.MailDelivered, At: at + 1}, false},
			{1, handoff.MailAccepted, handoff.MailWord{Issue: 1, State: handoff.MailDelivered, At: at + 1}, false},
			{10, handoff.MailAccepted, handoff.MailWord{Issue: 10, State: handoff.MailAccepted, At: at + 3}, false},
			{9, handoff.MailDelivered, handoff.MailWord{Issue: 10, State: handoff.MailAccepted, At: at + 3}, false},
		} {
			note := service.MailNote{MailRef: ref, Word: handoff.MailWord{Issue: c.issue, State: c.state, At: at + handoff.Instant(i)}, Until: g.Window.Until}
			awaited, err := w.Core.NoteMail(t.Context(), note)
			noError(t, "NoteMail", err)
			equal(t, "awaited", awaited, c.awaited)
			next := ref
			next.Grant.Generation++
			tomorrow := ref
			tomorrow.Day = tomorrow.Day.Next()
			notes, err := w.Core.MailNotes(t.Context(), []service.MailRef{next, ref, tomorrow})
			noError(t, "MailNotes", err)
			equal(t, "the notes", notes, []handoff.MailWord{{}, c.want, {}})
		}
		none, err := w.Core.MailNotes(t.Context(), nil)
		noError(t, "MailNotes", err)
		equal(t, "of nothing", len(none), 0)
	},

	"AMailThatNoServerTookIsToldOf": func(t *testing.T, w *World) {
		taken, late, gone, locked := w.Dispatch(t, Sample("p1")), w.Dispatch(t, Sample("p2")), w.Dispatch(t, Sample("p3")), w.Dispatch(t, Sample("p4"))
		shop := handoff.Actor{Role: handoff.RoleShop, Shop: Shop}
		if _, err := w.Service.Recall(t.Context(), shop, gone.ID, ""); err != nil {
			t.Fatal(err)
		}
		w.Cleared(t, "c1")
		w.Drives(t, "c1", Route, Today)
		for n := range 5 {
			_, err := w.Service.Verify(t.Context(), AtDoor("c1", "p4", WrongCode(&locked, n)))
			if reason(err) != string(handoff.CodeMismatch) {
				t.Fatal(err)
			}
		}
		noError(t, "MailTaken", w.Service.MailTaken(t.Context(), &taken, handoff.MailAccepted))
		w.Clock.Advance(30*time.Minute - time.Second)
		w.sweepMails(t, 0)
		w.Clock.Advance(time.Second)
		w.sweepMails(t, 3)
		w.sweepMails(t, 0)
		for _, c := range []struct {
			parcel string
			want   handoff.MailState
		}{{"p1", handoff.MailAccepted}, {"p2", handoff.MailFailed}, {"p3", handoff.MailNone}, {"p4", handoff.MailNone}} {
			g := w.Parcel(t, c.parcel)
			known, err := w.Service.MailOf(t.Context(), &g)
			noError(t, "MailOf", err)
			if known.State != c.want || c.want == handoff.MailFailed && known.Why != handoff.MailLate {
				t.Errorf("%s: %+v, want %s", c.parcel, known, c.want)
			}
		}
		if n := len(w.mailEvents(t)); n != 1 {
			t.Errorf("%d events of mails", n)
		}

		// A server takes it after all: who notes that finds the wait over, and tells. The grant was read before.
		noError(t, "MailTaken", w.Service.MailTaken(t.Context(), &late, handoff.MailAccepted))
		g := w.Parcel(t, "p2")
		if g.Mail == nil || g.Mail.State != handoff.MailAccepted || g.Mail.Told != 2 {
			t.Errorf("taken after all: %+v", g.Mail)
		}
	},

	"AMailThatCameBackCountsForItsCodeAlone": func(t *testing.T, w *World) {
		g := w.Dispatch(t, Sample("p1"))
		old := w.Service.MailToken(&g)
		g, err := w.Service.Reissue(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: Shop}, g.ID)
		noError(t, "Reissue", err)
		token := w.Service.MailToken(&g)
		for _, c := range []struct {
			name, token string
			state       handoff.MailState
			known       bool
			want        handoff.MailState
		}{
			{"of the older code", old, handoff.MailFailed, true, handoff.MailNone},
			{"the older code's, delivered", old, handoff.MailDelivered, true, handoff.MailNone},
			{"of no token", "abc", handoff.MailFailed, false, handoff.MailNone},
			{"delivered", token, handoff.MailDelivered, true, handoff.MailDelivered},
			{"back", token, handoff.MailFailed, true, handoff.MailFailed},
			{"back again", token, handoff.MailFailed, true, handoff.MailFailed},
			{"delivered after all", token, handoff.MailDelivered, true, handoff.MailDelivered},
		} {
			known, err := w.Service.MailReported(t.Context(), c.token, c.state, "5.1.1")
			noError(t, c.name, err)
			now := w.Parcel(t, "p1")
			word, err := w.Service.MailOf(t.Context(), &now)
			noError(t, c.name, err)
			if known != c.known || word.State != c.want || (c.want == handoff.MailFailed) != (word.Status == "5.1.1") {
				t.Errorf("%s: %v, %+v, want %s", c.name, known, word, c.want)
			}
		}
		if n := len(w.mailEvents(t)); n != 2 {
			t.Errorf("%d events of mails", n)
		}
	},

	"MailsThatGoWellMakeNoCommit": func(t *testing.T, w *World) {
		g := w.Dispatch(t, Sample("p1"))
		before := load(t, w, service.Query{Parcel: g.ID.Hash}).Version
		for range 3 {
			noError(t, "MailTaken", w.Service.MailTaken(t.Context(), &g, handoff.MailAccepted))
		}
		equal(t, "the version", load(t, w, service.Query{Parcel: g.ID.Hash}).Version, before)
		for range 2 {
			g = w.Parcel(t, "p1")
			noError(t, "MailSeen", w.Service.MailSeen(t.Context(), handoff.Actor{Role: handoff.RoleCustomer, Shop: Shop, Customer: g.Dispatch.Customer.ID, Subject: "ada", Person: true}, &g))
		}
		equal(t, "the version once it was seen", load(t, w, service.Query{Parcel: g.ID.Hash}).Version, before+1)
	},

	"TheReadinessOfARoute": func(t *testing.T, w *World) {
		route := service.RouteRef{Carrier: Carrier, Route: Route, Day: Today}
		for _, parcel := range []string{"p1", "p2", "p3", "p4", "p5"} {
			w.Dispatch(t, Sample(parcel))
		}
		moved := w.Dispatch(t, Sample("p6"))
		if _, err := w.Service.Reschedule(t.Context(), handoff.Actor{Role: handoff.RoleShop, Shop: Shop}, moved.ID, Today.Next(), ""); err != nil {
			t.Fatal(err)
		}
		g := w.Parcel(t, "p1")
		noError(t, "MailTaken", w.Service.MailTaken(t.Context(), &g, handoff.MailAccepted))
		g = w.Parcel(t, "p2")
		noError(t, "MailFailed", w.Service.MailFailed(t.Context(), g.ID, 1, handoff.MailRefused, "5.1.1"))
		states := map[handoff.MailState]int{}
		for after, pages := handoff.ParcelHash(""), 0; ; pages++ {
			list, next, err := w.Service.Readiness(t.Context(), Shop, route, nil, after, 2)
			noError(t, "Readiness", err)
			for _, r := range list {
				states[r.Mail.State]++
			}
			if after = next; next == "" {
				equal(t, "pages", pages, 2)
				break
			}
		}
		equal(t, "states", states, map[handoff.MailState]int{handoff.MailNone: 3, handoff.MailAccepted: 1, handoff.MailFailed: 1})
		failed := handoff.MailFailed
		list, next, err := w.Service.Readiness(t.Context(), Shop, route, &failed, "", 1)
		noError(t, "Readiness", err)
		if len(list) != 1 || list[0].Grant.Dispatch.Parcel != "p2" || next != "" {
			t.Errorf("failed: %v, then %q", list, next)
		}
		list, _, err = w.Service.Readiness(t.Context(), "other", route, nil, "", 10)
		noError(t, "Readiness", err)
		equal(t, "of another shop", len(list), 0)
	},
}

// sweepMails sweeps, and holds how many mails were looked at.
func (w *World) sweepMails(t *testing.T, want int) {
	t.Helper()
	n, err := w.Service.SweepMails(t.Context(), 100)
	noError(t, "SweepMails", err)
	equal(t, "mails that were looked at", n, want)
}

// mailEvents is what the log tells of mails.
func (w *World) mailEvents(t *testing.T) (told []handoff.Event) {
	t.Helper()
	for p := range handoff.Partitions {
		page, err := w.Core.Read(t.Context(), p, "", 1000)
		noError(t, "Read", err)
		for _, l := range page {
			if l.Event.Type == handoff.EventMailFailed || l.Event.Type == handoff.EventMailArrived {
				told = append(told, l.Event)
			}
		}
	}
	return told
}

// late is every mail that is late at a time.
func (w *World) late(t *testing.T, now handoff.Instant) (all []service.AwaitedMail) {
	t.Helper()
	for p := range handoff.Partitions {
		list, err := w.Core.LateMails(t.Context(), p, now, 100)
		noError(t, "LateMails", err)
		all = append(all, list...)
	}
	return all
}
