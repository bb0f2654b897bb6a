package residents

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"latchkey/api/web/frame"
	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/residents"
)

// asking is a consent that waits, and the resident whose link leads to it.
type asking struct {
	link     residents.ConsentLink
	grant    handoff.Grant
	kinds    []handoff.TargetKind // that would be agreed to
	resident residents.Resident
}

// waiting reads what a link can confirm now. It is identity.ErrLink where its resident cannot
// any more, and a handoff.Refusal where nothing waits.
func (p *pages) waiting(ctx context.Context, token string, now time.Time) (asking, error) {
	a := asking{}
	var err error
	if a.link, err = p.Links.ReadConsentLink(token); err != nil {
		return a, err
	}
	if a.grant, err = p.Grants.Grant(ctx, handoff.Actor{Role: handoff.RoleService}, a.link.Grant); err != nil {
		return a, err
	}
	ask := a.grant.ConsentAsked(now)
	if ask == nil || ask.ID() != a.link.Ask {
		return a, &handoff.Refusal{Reason: handoff.ConfirmationOver}
	}
	a.kinds = a.grant.NewConsents(ask.Consents)
	who, err := p.Links.Confirmers(ctx, &a.grant, a.kinds)
	if err != nil {
		return a, err
	}
	i := slices.IndexFunc(who, func(r residents.Resident) bool { return r.ID == a.link.Resident })
	if i < 0 || a.grant.Dispatch.To.Building != a.link.Building {
		return a, identity.ErrLink
	}
	a.resident = who[i]
	return a, nil
}

// failConsent is fail of these pages: what does not wait any more has words of its own.
func failConsent(v *frame.Visit, err error) {
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		v.Render(http.StatusGone, "answer", "late")
		return
	}
	fail(v, err)
}

// wanted is what the page asks.
type wanted struct {
	Building, Unit, Carrier string
	Day                     time.Time // its first instant
	Zone                    string    // of the address
	Until                   time.Time
	Kinds                   []string
}

func (p *pages) askConsent(v *frame.Visit) {
	ctx, cancel := context.WithTimeout(v.R.Context(), within)
	defer cancel()
	a, err := p.waiting(ctx, v.R.PathValue("token"), v.Now)
	if err != nil {
		failConsent(v, err)
		return
	}
	b, err := p.Buildings.Building(ctx, a.link.Building)
	if err != nil {
		fail(v, err)
		return
	}
	about := wanted{
		Building: a.link.Building, Unit: a.resident.Unit, Carrier: a.grant.Dispatch.Carrier,
		Day: a.grant.Window.From.Time(), Zone: a.grant.Dispatch.To.Zone, Until: a.link.Until,
	}
	if b != nil && b.Name != "" {
		about.Building = b.Name
	}
	if name := p.CarrierNames[about.Carrier]; name != "" {
		about.Carrier = name
	}
	for _, kind := range a.kinds {
		about.Kinds = append(about.Kinds, kind.String())
	}
	v.Lang = frame.LanguageOf(a.resident.Locale)
	v.Render(http.StatusOK, "consent", about)
}

func (p *pages) agree(v *frame.Visit) {
	ctx, cancel := context.WithTimeout(v.R.Context(), within)
	defer cancel()
	a, err := p.waiting(ctx, v.R.PathValue("token"), v.Now)
	if err != nil {
		failConsent(v, err)
		return
	}
	v.Lang = frame.LanguageOf(a.resident.Locale)
	if v.R.PostFormValue("do") != "agree" {
		fail(v, identity.ErrLink)
		return
	}
	by := handoff.Actor{Role: handoff.RoleResident, Subject: "resident " + a.link.Building + " " + string(a.link.Resident)}
	if _, err := p.Grants.ConfirmConsent(ctx, by, a.link.Grant, a.link.Ask); err != nil {
		failConsent(v, err)
		return
	}
	v.Render(http.StatusOK, "answer", "agreed")
}
