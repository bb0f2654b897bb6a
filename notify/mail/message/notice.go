package message

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of mail to a building's residents and to its manager.
const (
	ResidentConfirm Kind = "resident-confirm" // notices to this address were asked for
	ResidentActive  Kind = "resident-active"  // the notices begin
	ResidentLeaving Kind = "resident-leaving" // the manager removed the address; it counts at the time told
	UnitRequest     Kind = "unit-request"     // to the manager: does this address live in the unit?
	DoorUnlocked    Kind = "door-unlocked"    // a courier was let through
	DoorAlarm       Kind = "door-alarm"       // something is wrong at a door
	OwnDoorAlarm    Kind = "own-door-alarm"   // the same, to who the garage or home is of
	OwnDoorChanged  Kind = "own-door-changed" // a garage or home was changed, to who it is or was of
	ConsentAsk      Kind = "consent-ask"      // who came by a shop's link asks that the unit's garage or home may be opened
	UnitConsent     Kind = "unit-consent"     // which doors of the unit may be opened for a parcel now
	UnitNoConsent   Kind = "unit-no-consent"  // none of them may, any more
	UnitPermit      Kind = "unit-permit"      // a permit for the unit's garage or home was given out, and the door does not say what became of it
	OwnDoorChange   Kind = "own-door-change"  // a change to a garage or home waits, to those who can object
	OwnDoorStays    Kind = "own-door-stays"   // such a change will not be made
	Enrolled        Kind = "enrolled"         // what is installed in the building
	EnrolledPost    Kind = "enrolled-post"    // to the manager: the same, to be posted
)

// Door is a door as a notice names it.
type Door struct {
	ID   string // may be empty: which one it is would tell of a unit
	Kind string // lobby, gate, garage, home
	Mode string // carried, connected, bridged, keypad; what is installed only
}

// Notice is what one mail to residents, or their manager, tells. Like a View it may hold
// strings from outside, and prints as its kind and locale only.
type Notice struct {
	Kind   Kind
	Locale string // as in View

	BuildingName string // may be empty
	Address      string // of the building; may be empty
	Zone         *time.Location
	At           time.Time // when it happened; of a door's kinds

	Door        Door   // of a door's kinds
	CarrierName string // may be empty
	Alarm       string // DoorAlarm, OwnDoorAlarm: failed, forced, held-open, tampered
	More        int    // DoorAlarm, OwnDoorAlarm: how many entries of the log the mail tells of, where the first was told before; else 0
	Unit        string // of a unit's resident; UnitRequest needs one
	Mailbox     string // UnitRequest: the address that asks

	Changes []string  // OwnDoorChanged, OwnDoorChange, OwnDoorStays: what changed, or would, by the API's names
	From    time.Time // OwnDoorChange: from when on it counts

	// Final says of ResidentLeaving that the link is none to object: it was done too often.
	Final bool

	Own []string  // ConsentAsk, UnitConsent: the kinds of the unit's own doors that it is about, garage and home
	Day time.Time // of the kinds of consents: an instant of the parcel's day

	// Limit is how many notices of unlocking a day may bring, where this is the last of
	// them; else 0.
	Limit int

	// What is installed; Enrolled and EnrolledPost.
	Doors    []Door // those of a garage or home without their id
	Carriers []string
	Hours    string // 07:00-21:00; empty: any
	Quiet    string // empty: none
	Returns  bool
	KeptDays int    // how long the log is kept
	Manager  string // a mail address; may be empty

	ActionURL  string // the button: confirm, the log, or decide
	ConfirmURL string // Enrolled: to hear of openings from now on; may be empty
	LeaveURL   string // may be empty
}

// RenderNotice writes the mail for n, as Render does.
func RenderNotice(n Notice) (Mail, error) { return standard.renderNotice(n) }

// noticeRule says what a Notice must hold.
type noticeRule struct {
	door, alarm, changes, dated, unit, enrolment, waits bool

	consent bool // needs unit, time and day
	own     bool // needs doors of the unit's own
}

var noticeRules = map[Kind]noticeRule{
	ResidentConfirm: {},
	ResidentActive:  {},
	ResidentLeaving: {dated: true},
	UnitRequest:     {unit: true},
	DoorUnlocked:    {door: true},
	UnitPermit:      {door: true},
	DoorAlarm:       {door: true, alarm: true},
	OwnDoorAlarm:    {door: true, alarm: true},
	OwnDoorChanged:  {door: true, changes: true},
	ConsentAsk:      {consent: true, own: true},
	UnitConsent:     {consent: true, own: true},
	UnitNoConsent:   {consent: true},
	OwnDoorChange:   {door: true, changes: true, waits: true},
	OwnDoorStays:    {door: true, changes: true, waits: true},
	Enrolled:        {enrolment: true},
	EnrolledPost:    {enrolment: true},
}

var (
	doorKinds = []string{"lobby", "gate", "garage", "home"}
	ownKinds  = []string{"garage", "home"}
	doorModes = []string{"carried", "connected", "bridged", "keypad"}
	doorFacts = []string{
		"enrolled", "removed", "kind", "mode", "location", "geofence_m", "owner", "unit", "public_key", "keypad_key", "relock_s", "carriers",
	}
	waitingFacts = []string{"owner", "unit", "kind", "mode", "public_key", "keypad_key"} // what can wait

	alarms = []string{"failed", "forced", "held-open", "tampered"}
)

func (n Notice) check() (noticeRule, error) {
	r, known := noticeRules[n.Kind]
	web := func(url string) bool { return url == "" || isWebURL(url) }
	var fault string
	switch {
	case !known:
		return noticeRule{}, fmt.Errorf("%w: unknown kind", ErrView)
	case n.Zone == nil:
		fault = "no time zone"
	case r.door && (n.At.IsZero() || !slices.Contains(doorKinds, n.Door.Kind)):
		fault = "no time or door"
	case r.alarm && !slices.Contains(alarms, n.Alarm):
		fault = "unknown alarm"
	case r.dated && (n.At.IsZero() || clean(n.Unit) == ""):
		fault = "no time or unit"
	case r.changes && (len(n.Changes) == 0 || slices.ContainsFunc(n.Changes, func(c string) bool {
		return !slices.Contains(doorFacts, c) || r.waits && !slices.Contains(waitingFacts, c)
	})):
		fault = "no changes, or an unknown one"
	case r.consent && (n.At.IsZero() || n.Day.IsZero() || clean(n.Unit) == ""):
		fault = "no time, day or unit"
	case r.own != (len(n.Own) > 0) || slices.ContainsFunc(n.Own, func(k string) bool { return !slices.Contains(ownKinds, k) }):
		fault = "no doors of the unit, or an unknown kind"
	case n.Kind == OwnDoorChange && n.From.IsZero():
		fault = "no time from which it counts"
	case r.unit && (clean(n.Unit) == "" || clean(n.Mailbox) == ""):
		fault = "no unit or mailbox"
	case r.enrolment && (len(n.Doors) == 0 || n.KeptDays <= 0):
		fault = "no doors, or no days"
	case r.enrolment && slices.ContainsFunc(n.Doors, func(d Door) bool {
		return !slices.Contains(doorKinds, d.Kind) || !slices.Contains(doorModes, d.Mode)
	}):
		fault = "unknown kind or mode of a door"
	case !isWebURL(n.ActionURL) || !web(n.ConfirmURL) || !web(n.LeaveURL):
		fault = "a URL that is not absolute http or https"
	default:
		return r, nil
	}
	return noticeRule{}, fmt.Errorf("%w: %s: %s", ErrView, n.Kind, fault)
}

// needNotices adds the keys of the notices, of which those that end in [] are lists.
func needNotices(add func(may []string, keys ...string)) {
	const of = "residents."
	where := []string{"building", "zone"}
	door := append(slices.Clone(where), "door", "carrier", "at", "at_date", "at_time")
	installed := append(slices.Clone(where), "carriers", "hours", "quiet", "manager", "days")
	for _, fact := range []string{"building", "unit", "mailbox", "door"} {
		add(nil, of+"facts."+fact)
	}
	for _, kind := range doorKinds {
		add(nil, of+"doors."+kind)
	}
	for _, mode := range doorModes {
		add(append(slices.Clone(installed), "door"), of+"modes."+mode)
	}
	add(append(slices.Clone(installed), "count"), of+"owned")
	for _, alarm := range alarms {
		add(where, of+"alarms."+alarm+".subject")
		add(door, of+"alarms."+alarm+".line")
	}
	for _, fact := range doorFacts {
		add(nil, of+"changes."+fact)
	}
	for _, fact := range waitingFacts {
		add(nil, of+"waiting."+fact)
	}
	add(nil, of+"object.lines[]", of+"object.link")
	add(append(slices.Clone(where), "limit"), of+"last")
	add(append(slices.Clone(where), "more"), of+"more")
	add(where, of+"confirm", of+"leave")
	for _, part := range []string{"what", "may", "attack", "kept"} {
		add(installed, of+"installed."+part+".title", of+"installed."+part+".lines[]")
	}
	for _, line := range []string{"title", "carriers", "no_carriers", "any_hour", "hours", "quiet", "returns", "owned", "lines[]"} {
		add(installed, of+"installed.who."+line)
	}
	for _, line := range []string{"title", "manager", "no_manager"} {
		add(installed, of+"installed.ask."+line)
	}
	for kind, r := range noticeRules {
		may := where
		if r.door {
			may = door
		}
		if r.alarm {
			may = append(slices.Clone(may), "alarm")
		}
		if r.dated {
			may = append(slices.Clone(may), "at_date", "at_time", "unit")
		}
		if r.unit {
			may = append(slices.Clone(may), "unit", "mailbox")
		}
		if r.consent {
			may = append(slices.Clone(may), "unit", "at", "at_date", "at_time", "day")
		}
		if r.waits {
			may = append(slices.Clone(may), "from_date", "from_time")
		}
		mail := of + "messages." + string(kind)
		add(may, mail+".subject", mail+".title", mail+".intro[]", mail+".help.title", mail+".help.lines[]", mail+".link")
	}
}

func (r *renderer) renderNotice(n Notice) (Mail, error) {
	rule, err := n.check()
	if err != nil {
		return Mail{}, err
	}
	l, err := r.catalogue(n.Locale).notice(n, rule)
	if err != nil {
		return Mail{}, fmt.Errorf("message: %s: %w", n.Kind, err)
	}
	return r.lay(n.Kind, l)
}

// notice writes n in c's words.
func (c *catalogue) notice(n Notice, r noticeRule) (letter, error) {
	p := &pen{said: c.said}
	mail := "residents.messages." + string(n.Kind)
	w := values{
		"building": clean(n.BuildingName), "carrier": clean(n.CarrierName), "unit": clean(n.Unit), "mailbox": clean(n.Mailbox),
		"carriers": clean(strings.Join(n.Carriers, ", ")), "hours": clean(n.Hours), "quiet": clean(n.Quiet), "manager": clean(n.Manager),
		"days": strconv.Itoa(n.KeptDays), "limit": strconv.Itoa(n.Limit), "more": strconv.Itoa(n.More), "zone": c.zone(View{Zone: n.Zone, At: n.At}),
		"door": "", "alarm": "", "at": "", "at_date": "", "at_time": "", "from_date": "", "from_time": "", "day": "",
	}
	if !n.From.IsZero() {
		from, _ := c.moment(p, n.From.In(n.Zone))
		w["from_date"], w["from_time"] = from.Date, from.Time
	}
	if w["building"] == "" {
		w["building"] = clean(n.Address)
	}
	if !n.At.IsZero() {
		at, _ := c.moment(p, n.At.In(n.Zone))
		w["at"], w["at_date"], w["at_time"] = at.When, at.Date, at.Time
	}
	if !n.Day.IsZero() {
		day, _ := c.moment(p, n.Day.In(n.Zone))
		w["day"] = day.Date
	}
	if r.door {
		w["door"] = c.door(p, n.Door)
	}
	if r.alarm {
		w["alarm"] = p.write("residents.alarms."+n.Alarm+".subject", w)
	}

	l := letter{
		Lang: c.tag.String(), Shop: w["building"],
		Subject: p.write(mail+".subject", w), Title: p.write(mail+".title", w), Greeting: p.write("greeting_without_name", w),
		Intro: p.writeAll(mail+".intro", w), Facts: c.noticeFacts(p, n, r, w),
		Link: link{Label: p.write(mail+".link", w), URL: n.ActionURL},
	}
	if r.alarm {
		l.Intro = append(l.Intro, p.write("residents.alarms."+n.Alarm+".line", w))
	}
	if r.changes {
		said := "residents.changes."
		if r.waits {
			said = "residents.waiting."
		}
		for _, fact := range n.Changes {
			l.Intro = append(l.Intro, p.write(said+fact, w))
		}
	}
	help := p.section(mail+".help", w)
	if n.Kind == ResidentLeaving && !n.Final {
		help.Lines, l.Link.Label = p.writeAll("residents.object.lines", w), p.write("residents.object.link", w)
	}
	if n.More > 0 {
		l.Intro = append(l.Intro, p.write("residents.more", w))
	}
	if n.Limit > 0 {
		l.Intro = append(l.Intro, p.write("residents.last", w))
	}
	if r.enrolment {
		l.Sections = c.installed(p, n, w)
	}
	l.Sections = append(l.Sections, help)
	if r.door || r.consent {
		l.Footer = p.writeAll("footer", w)
	}
	for _, small := range []link{{p.write("residents.confirm", w), n.ConfirmURL}, {p.write("residents.leave", w), n.LeaveURL}} {
		if small.URL != "" {
			l.Links = append(l.Links, small)
		}
	}
	return l, p.err
}

// door names a door: what it is and, where that tells of no unit, which.
func (c *catalogue) door(p *pen, d Door) string {
	name := p.write("residents.doors."+d.Kind, nil)
	if id := clean(d.ID); id != "" {
		name += " (" + id + ")"
	}
	return name
}

func (c *catalogue) noticeFacts(p *pen, n Notice, r noticeRule, w values) []fact {
	var facts []fact
	add := func(label, value string) {
		if value != "" {
			facts = append(facts, fact{p.write(label, w), value})
		}
	}
	if r.door {
		add("facts.when", w["at"])
		add("residents.facts.door", w["door"])
		add("facts.carrier", w["carrier"])
	}
	if r.consent {
		add("facts.when", w["at"])
		for _, kind := range n.Own {
			add("residents.facts.door", c.door(p, Door{Kind: kind}))
		}
		add("facts.carrier", w["carrier"])
	}
	add("residents.facts.unit", w["unit"])
	if r.unit {
		add("residents.facts.mailbox", w["mailbox"])
	}
	add("residents.facts.building", w["building"])
	if address := clean(n.Address); address != w["building"] {
		add("facts.address", address)
	}
	return facts
}

// installed tells what is installed, what it may do, who may use it, what limits an
// attack, what is kept and whom to ask.
func (c *catalogue) installed(p *pen, n Notice, w values) []section {
	const of = "residents.installed."
	what, owned := p.section(of+"what", w), 0
	for _, d := range n.Doors {
		if d.Kind == "garage" || d.Kind == "home" {
			owned++
			continue
		}
		what.Lines = append(what.Lines, p.write("residents.modes."+d.Mode, w.with(values{"door": c.door(p, d)})))
	}
	who := section{Title: p.write(of+"who.title", w)}
	say := func(key string) { who.Lines = append(who.Lines, p.write(of+"who."+key, w)) }
	choose := func(first bool, a, b string) string {
		if first {
			return a
		}
		return b
	}
	say(choose(w["carriers"] != "", "carriers", "no_carriers"))
	who.Lines = append(who.Lines, p.writeAll(of+"who.lines", w)...)
	say(choose(w["hours"] != "", "hours", "any_hour"))
	if w["quiet"] != "" {
		say("quiet")
	}
	if n.Returns {
		say("returns")
	}
	if owned > 0 {
		what.Lines = append(what.Lines, p.write("residents.owned", w.with(values{"count": strconv.Itoa(owned)})))
		say("owned")
	}
	ask := section{Title: p.write(of+"ask.title", w)}
	ask.Lines = append(ask.Lines, p.write(of+"ask."+choose(w["manager"] != "", "manager", "no_manager"), w))
	return []section{what, p.section(of+"may", w), who, p.section(of+"attack", w), p.section(of+"kept", w), ask}
}

// String names the kind and locale.
func (n Notice) String() string { return fmt.Sprintf("notice %q %q", string(n.Kind), n.Locale) }

// Format prints String whatever the verb.
func (n Notice) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, n.String()) }

// LogValue logs String.
func (n Notice) LogValue() slog.Value { return slog.StringValue(n.String()) }

// MarshalText marshals String.
func (n Notice) MarshalText() ([]byte, error) { return []byte(n.String()), nil }
