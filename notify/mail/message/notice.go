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
	ResidentConfirm Kind = "resident-confirm" // somebody asked for notices to this address
	ResidentActive  Kind = "resident-active"  // the notices begin
	UnitRequest     Kind = "unit-request"     // to the manager: does this address live in the unit?
	DoorUnlocked    Kind = "door-unlocked"    // a courier was let through
	DoorAlarm       Kind = "door-alarm"       // something is wrong at a door
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
	Alarm       string // DoorAlarm: failed, forced, held-open, tampered
	Unit        string // of a unit's resident; UnitRequest needs one
	Mailbox     string // UnitRequest: the address that asks

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
	door, alarm, unit, enrolment bool
}

var noticeRules = map[Kind]noticeRule{
	ResidentConfirm: {},
	ResidentActive:  {},
	UnitRequest:     {unit: true},
	DoorUnlocked:    {door: true},
	DoorAlarm:       {door: true, alarm: true},
	Enrolled:        {enrolment: true},
	EnrolledPost:    {enrolment: true},
}

var (
	doorKinds = []string{"lobby", "gate", "garage", "home"}
	doorModes = []string{"carried", "connected", "bridged", "keypad"}
	alarms    = []string{"failed", "forced", "held-open", "tampered"}
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

// residentWords are a language's sentences for residents.
type residentWords struct {
	Facts struct {
		Building text `yaml:"building"`
		Unit     text `yaml:"unit"`
		Mailbox  text `yaml:"mailbox"`
		Door     text `yaml:"door"`
	} `yaml:"facts"`
	Doors     map[string]text            `yaml:"doors"`  // by kind
	Modes     map[string]text            `yaml:"modes"`  // by mode: what is installed at .Door
	Owned     text                       `yaml:"owned"`  // the same, of .Count doors of garages and homes
	Alarms    map[string]*alarmWords     `yaml:"alarms"` // by alarm
	Last      text                       `yaml:"last"`
	Installed installedWords             `yaml:"installed"`
	Confirm   text                       `yaml:"confirm"`
	Leave     text                       `yaml:"leave"`
	Messages  map[Kind]*residentsWording `yaml:"messages"`
}

type alarmWords struct {
	Subject text `yaml:"subject"`
	Line    text `yaml:"line"`
}

// installedWords tell what is installed, in sections.
type installedWords struct {
	What heading `yaml:"what"` // before the doors
	May  heading `yaml:"may"`
	Who  struct {
		Title      text   `yaml:"title"`
		Carriers   text   `yaml:"carriers"`
		NoCarriers text   `yaml:"no_carriers"`
		AnyHour    text   `yaml:"any_hour"`
		Hours      text   `yaml:"hours"`
		Quiet      text   `yaml:"quiet"`
		Returns    text   `yaml:"returns"`
		Owned      text   `yaml:"owned"`
		Lines      []text `yaml:"lines"`
	} `yaml:"who"`
	Attack heading `yaml:"attack"`
	Kept   heading `yaml:"kept"`
	Ask    struct {
		Title     text `yaml:"title"`
		Manager   text `yaml:"manager"`
		NoManager text `yaml:"no_manager"`
	} `yaml:"ask"`
}

// residentsWording is what one kind says.
type residentsWording struct {
	Subject text    `yaml:"subject"`
	Title   text    `yaml:"title"`
	Intro   []text  `yaml:"intro"`
	Help    heading `yaml:"help"`
	Link    text    `yaml:"link"`
}

// noticeWords are the placeholders.
type noticeWords struct {
	Building           string // its name, or else its address
	Door, Carrier      string
	Unit, Mailbox      string
	Alarm              string // the subject of the alarm
	At, AtDate         string
	AtTime, Zone       string
	Carriers           string
	Hours, Quiet       string
	Manager            string
	Days, Limit, Count string
}

// check is part of catalogue.check.
func (w *residentWords) check(try func(what string, ts ...text)) (missing []string) {
	try("residents.facts", w.Facts.Building, w.Facts.Unit, w.Facts.Mailbox, w.Facts.Door)
	for _, kind := range doorKinds {
		try("residents.doors."+kind, w.Doors[kind])
	}
	for _, mode := range doorModes {
		try("residents.modes."+mode, w.Modes[mode])
	}
	try("residents", w.Owned, w.Last, w.Confirm, w.Leave)
	for _, alarm := range alarms {
		if w.Alarms[alarm] == nil {
			missing = append(missing, "residents.alarms."+alarm)
			continue
		}
		try("residents.alarms."+alarm, w.Alarms[alarm].Subject, w.Alarms[alarm].Line)
	}
	i := &w.Installed
	for name, h := range map[string]heading{"what": i.What, "may": i.May, "attack": i.Attack, "kept": i.Kept} {
		try("residents.installed."+name, h.Title)
		try("residents.installed."+name+".lines", h.Lines...)
	}
	try("residents.installed.who", i.Who.Title, i.Who.Carriers, i.Who.NoCarriers, i.Who.AnyHour, i.Who.Hours, i.Who.Quiet, i.Who.Returns, i.Who.Owned)
	try("residents.installed.who.lines", i.Who.Lines...)
	try("residents.installed.ask", i.Ask.Title, i.Ask.Manager, i.Ask.NoManager)
	for kind := range noticeRules {
		m := w.Messages[kind]
		name := "residents.messages." + string(kind)
		if m == nil {
			missing = append(missing, name)
			continue
		}
		try(name, m.Subject, m.Title, m.Help.Title, m.Link)
		try(name+".intro", m.Intro...)
		try(name+".help.lines", m.Help.Lines...)
	}
	for kind := range w.Messages {
		if _, known := noticeRules[kind]; !known {
			missing = append(missing, "residents.messages."+string(kind)+" (no such mail)")
		}
	}
	return missing
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
	var p pen
	said := c.Residents.Messages[n.Kind]
	w := noticeWords{
		Building: clean(n.BuildingName), Carrier: clean(n.CarrierName), Unit: clean(n.Unit), Mailbox: clean(n.Mailbox),
		Carriers: clean(strings.Join(n.Carriers, ", ")), Hours: clean(n.Hours), Quiet: clean(n.Quiet), Manager: clean(n.Manager),
		Days: strconv.Itoa(n.KeptDays), Limit: strconv.Itoa(n.Limit), Zone: c.Calendar.zone(View{Zone: n.Zone, At: n.At}),
	}
	if w.Building == "" {
		w.Building = clean(n.Address)
	}
	if !n.At.IsZero() {
		at := c.Calendar.moment(&p, n.At.In(n.Zone))
		w.At, w.AtDate, w.AtTime = at.When, at.Date, at.Time
	}
	if r.door {
		w.Door = c.door(&p, n.Door)
	}
	if r.alarm {
		w.Alarm = p.write(c.Residents.Alarms[n.Alarm].Subject, w)
	}

	l := letter{
		Lang: c.tag.String(), Shop: w.Building,
		Subject: p.write(said.Subject, w), Title: p.write(said.Title, w), Greeting: p.write(c.GreetingWithoutName, w),
		Intro: p.writeAll(said.Intro, w), Facts: c.noticeFacts(&p, n, r, w),
		Link: link{Label: p.write(said.Link, w), URL: n.ActionURL},
	}
	if r.alarm {
		l.Intro = append(l.Intro, p.write(c.Residents.Alarms[n.Alarm].Line, w))
	}
	if n.Limit > 0 {
		l.Intro = append(l.Intro, p.write(c.Residents.Last, w))
	}
	if r.enrolment {
		l.Sections = c.installed(&p, n, w)
	}
	l.Sections = append(l.Sections, p.section(said.Help, w))
	if r.door {
		l.Footer = p.writeAll(c.Footer, w)
	}
	for _, small := range []link{{p.write(c.Residents.Confirm, w), n.ConfirmURL}, {p.write(c.Residents.Leave, w), n.LeaveURL}} {
		if small.URL != "" {
			l.Links = append(l.Links, small)
		}
	}
	return l, p.err
}

// door names a door: what it is and, where that tells of no unit, which.
func (c *catalogue) door(p *pen, d Door) string {
	name := p.write(c.Residents.Doors[d.Kind], noticeWords{})
	if id := clean(d.ID); id != "" {
		name += " (" + id + ")"
	}
	return name
}

func (c *catalogue) noticeFacts(p *pen, n Notice, r noticeRule, w noticeWords) []fact {
	var facts []fact
	add := func(label text, value string) {
		if value != "" {
			facts = append(facts, fact{p.write(label, w), value})
		}
	}
	if r.door {
		add(c.Facts.When, w.At)
		add(c.Residents.Facts.Door, w.Door)
		add(c.Facts.Carrier, w.Carrier)
	}
	add(c.Residents.Facts.Unit, w.Unit)
	if r.unit {
		add(c.Residents.Facts.Mailbox, w.Mailbox)
	}
	add(c.Residents.Facts.Building, w.Building)
	if address := clean(n.Address); address != w.Building {
		add(c.Facts.Address, address)
	}
	return facts
}

// installed tells what is installed, what it may do, who may use it, what limits an
// attack, what is kept and whom to ask.
func (c *catalogue) installed(p *pen, n Notice, w noticeWords) []section {
	words := &c.Residents.Installed
	what, owned := p.section(words.What, w), 0
	for _, d := range n.Doors {
		if d.Kind == "garage" || d.Kind == "home" {
			owned++
			continue
		}
		of := w
		of.Door = c.door(p, d)
		what.Lines = append(what.Lines, p.write(c.Residents.Modes[d.Mode], of))
	}
	who := section{Title: p.write(words.Who.Title, w)}
	say := func(t text) { who.Lines = append(who.Lines, p.write(t, w)) }
	choose := func(first bool, a, b text) text {
		if first {
			return a
		}
		return b
	}
	say(choose(w.Carriers != "", words.Who.Carriers, words.Who.NoCarriers))
	for _, t := range words.Who.Lines {
		say(t)
	}
	say(choose(w.Hours != "", words.Who.Hours, words.Who.AnyHour))
	if w.Quiet != "" {
		say(words.Who.Quiet)
	}
	if n.Returns {
		say(words.Who.Returns)
	}
	if owned > 0 {
		of := w
		of.Count = strconv.Itoa(owned)
		what.Lines = append(what.Lines, p.write(c.Residents.Owned, of))
		say(words.Who.Owned)
	}
	ask := section{Title: p.write(words.Ask.Title, w)}
	ask.Lines = append(ask.Lines, p.write(choose(w.Manager != "", words.Ask.Manager, words.Ask.NoManager), w))
	return []section{what, p.section(words.May, w), who, p.section(words.Attack, w), p.section(words.Kept, w), ask}
}

// String names the kind and locale.
func (n Notice) String() string { return fmt.Sprintf("notice %q %q", string(n.Kind), n.Locale) }

// Format prints String whatever the verb.
func (n Notice) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, n.String()) }

// LogValue logs String.
func (n Notice) LogValue() slog.Value { return slog.StringValue(n.String()) }

// MarshalText marshals String.
func (n Notice) MarshalText() ([]byte, error) { return []byte(n.String()), nil }
