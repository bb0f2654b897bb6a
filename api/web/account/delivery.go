package account

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"latchkey/handoff"
)

// delivery is a handoff as the API tells it. Only what the pages show is read.
type delivery struct {
	GrantID      string    `json:"grant_id"`
	ParcelID     string    `json:"parcel_id"`
	Parcels      []piece   `json:"parcels"` // of several
	OrderID      string    `json:"order_id"`
	CarrierID    string    `json:"carrier_id"`
	CarrierName  string    `json:"carrier_name"`
	Status       string    `json:"status"`
	Purpose      string    `json:"purpose"`
	Code         string    `json:"code"` // empty where the API says null
	CodeState    string    `json:"code_state"`
	ValidFrom    time.Time `json:"valid_from"`
	ValidUntil   time.Time `json:"valid_until"`
	AttemptsLeft int       `json:"attempts_left"`
	ResendsLeft  int       `json:"resends_left"`
	ReissuesLeft int       `json:"reissues_left"`
	Journey      struct {
		LeftWarehouseAt *time.Time `json:"left_warehouse_at"`
		OutForDelivery  bool       `json:"out_for_delivery"`
		AtDoorAt        *time.Time `json:"at_door_at"`
		HandedOverAt    *time.Time `json:"handed_over_at"`
	} `json:"journey"`
	Destination struct {
		Lines      []string `json:"lines"`
		Unit       string   `json:"unit"`
		PostalCode string   `json:"postal_code"`
		City       string   `json:"city"`
		TimeZone   string   `json:"time_zone"`
	} `json:"destination"`
	Handoff *struct {
		At      time.Time `json:"at"`
		Courier string    `json:"courier"`
		Parcels []string  `json:"parcel_ids"` // of several
	} `json:"handoff"`
	OwnDoors    []ownDoor `json:"own_doors"`
	History     []event   `json:"history"`
	Disputable  bool      `json:"disputable"`
	Dispute     *dispute  `json:"dispute"`
	ShopContact string    `json:"shop_contact"`
	MailFailed  bool      `json:"mail_failed"`

	now time.Time
}

type ownDoor struct {
	DoorID string `json:"door_id"`
	Kind   string `json:"kind"`
	Agreed bool   `json:"agreed"`
	Used   bool   `json:"used"`

	AskedUntil *time.Time `json:"asked_until"` // a resident can agree until then to what a shop's link asked for
}

// dispute is the customer's word against the recorded handoff.
type dispute struct {
	Status   string     `json:"status"` // open, withdrawn, handed-over, not-received
	DecideBy time.Time  `json:"decide_by"`
	EndedAt  *time.Time `json:"ended_at"`
}

type event struct {
	Type string    `json:"type"`
	At   time.Time `json:"at"`
	Left int       `json:"parcels_left"` // of several
}

// Name is the event as a key of the words: of several parcels it may be about some.
func (e event) Name() string {
	if e.Left > 0 && (e.Type == "released" || e.Type == "collected") {
		return "part_" + e.Type
	}
	return e.Type
}

// piece is one of several parcels, or one with a seal.
type piece struct {
	ParcelID string `json:"parcel_id"`
	Status   string `json:"status"`
	Seal     string `json:"seal"`
}

// Coming reports whether the parcel is still to be handed over.
func (p piece) Coming() bool { return p.Status == "active" }

// Several reports whether more than one parcel arrives.
func (d *delivery) Several() bool { return len(d.Parcels) > 1 }

// Handed is the parcel that changed hands, or of several those that did last.
func (d *delivery) Handed() string {
	if d.Handoff == nil || len(d.Handoff.Parcels) == 0 {
		return d.ParcelID
	}
	return strings.Join(d.Handoff.Parcels, ", ")
}

// Parts is how many of several parcels changed hands, while others are still to come; 0 else.
func (d *delivery) Parts() (n int) {
	coming := false
	for _, p := range d.Parcels {
		coming = coming || p.Coming()
		if p.Status == "released" || p.Status == "collected" {
			n++
		}
	}
	if !coming {
		return 0
	}
	return n
}

// Rest are the tails of the parcels that are still to come.
func (d *delivery) Rest() string {
	var tails []string
	for _, p := range d.Parcels {
		if p.Coming() {
			tails = append(tails, "…"+handoff.Tail(p.ParcelID))
		}
	}
	return strings.Join(tails, ", ")
}

func (d *delivery) begun() bool { return !d.now.Before(d.ValidFrom) }

// rank orders a day: what is still to come before what is over.
func (d *delivery) rank() int {
	if d.Status == "active" || d.Status == "held" {
		return 0
	}
	return 1
}

// Zone is the IANA zone of the address.
func (d *delivery) Zone() string { return d.Destination.TimeZone }

// Carrier is what to call the carrier.
func (d *delivery) Carrier() string { return cmp.Or(d.CarrierName, d.CarrierID) }

// Tail is how people tell parcels apart.
func (d *delivery) Tail() string { return handoff.Tail(d.ParcelID) }

// Halves are the digits in two groups of three, as people say them.
func (d *delivery) Halves() []string {
	if len(d.Code) != 6 {
		return []string{d.Code}
	}
	return []string{d.Code[:3], d.Code[3:]}
}

// Digits are the digits one by one, as a screen reader should say them.
func (d *delivery) Digits() string {
	var b []byte
	for i := range len(d.Code) {
		b = append(b, d.Code[i], ' ')
	}
	return string(b)
}

// stays is how long a courier who was at a door is taken to be there.
const stays = 15 * time.Minute

// State is where the parcel stands, as a key of the words.
func (d *delivery) State() string {
	state := d.state()
	if d.Purpose == "return_pickup" && slices.Contains(ofReturns, state) {
		return "return_" + state
	}
	return state
}

// ofReturns are the states that read otherwise for what is picked up.
var ofReturns = []string{"left", "coming", "out", "at_door", "recalled", "expired", "disputed", "not_received"}

func (d *delivery) state() string {
	switch {
	case d.Disputed():
		return "disputed"
	case d.Dispute != nil && d.Dispute.Status == "not-received" && d.Status != "held":
		return "not_received"
	case d.Status != "active":
		return d.Status
	case d.CodeState == "locked" && d.ReissuesLeft == 0:
		return "locked_for_good"
	case d.CodeState == "locked":
		return "locked"
	case !d.begun():
		return "coming"
	case d.Journey.AtDoorAt != nil && d.now.Sub(*d.Journey.AtDoorAt) < stays:
		return "at_door"
	case d.Journey.OutForDelivery:
		return "out"
	}
	return "left"
}

// Coming reports whether its day is yet to come.
func (d *delivery) Coming() bool { return d.state() == "coming" }

// Over reports whether the parcel changed hands, and that stands unquestioned.
func (d *delivery) Over() bool { return d.Handoff != nil && !d.Live() && d.state() != "not_received" }

// Disputed reports whether the customer said that the handoff did not happen, and that is not
// decided yet.
func (d *delivery) Disputed() bool { return d.Dispute != nil && d.Dispute.Status == "open" }

// Settled is how a dispute ended that left the handoff as it was recorded: withdrawn or
// handed-over; empty if none did.
func (d *delivery) Settled() string {
	if d.Dispute == nil || !d.Over() {
		return ""
	}
	return d.Dispute.Status
}

// Tone is how a state feels: good, warn, bad, or plain.
func (d *delivery) Tone() string {
	switch d.state() {
	case "released", "collected":
		return "good"
	case "locked", "expired", "held", "disputed":
		return "warn"
	case "locked_for_good", "recalled", "not_received":
		return "bad"
	}
	return "plain"
}

// Live reports whether anything can still happen.
func (d *delivery) Live() bool { return d.Status == "active" || d.Status == "held" }

// CanResend and CanReissue report whether the buttons are worth offering: the API decides.
func (d *delivery) CanResend() bool { return d.CodeState == "active" && d.ResendsLeft > 0 }

func (d *delivery) CanReissue() bool {
	return d.Status == "active" && d.CodeState != "none" && d.ReissuesLeft > 0
}

// Step is one step of the parcel's day.
type Step struct {
	Name string // of the words
	Done bool
	Now  bool // the last that is done, while more is to come
	At   *time.Time
}

// Steps are the parcel's day: left the warehouse, out for delivery, at the door, handed
// over. A later step that is done says that the ones before it were.
func (d *delivery) Steps() []Step {
	j := d.Journey
	steps := []Step{
		{Name: "left", Done: true, At: j.LeftWarehouseAt},
		{Name: "out", Done: j.OutForDelivery},
		{Name: "door", Done: j.AtDoorAt != nil, At: j.AtDoorAt},
		{Name: "over", Done: j.HandedOverAt != nil, At: j.HandedOverAt},
	}
	last := 0
	for i := range steps {
		if steps[i].Done {
			last = i
		}
	}
	for i := range last {
		steps[i].Done = true
	}
	steps[last].Now = d.Live() && last < len(steps)-1
	return steps
}

// since is the newest of the history's events of some types; nil if there is none.
func (d *delivery) since(types ...string) *time.Time {
	for _, e := range slices.Backward(d.History) {
		if slices.Contains(types, e.Type) {
			return &e.At
		}
	}
	return nil
}

// Replaced is when the code took the place of another one; nil if it is the first.
func (d *delivery) Replaced() *time.Time { return d.since("code_reissued", "aborted", "rescheduled") }

// Missed is when the courier last reported that no one answered; nil if that was before
// another day was set.
func (d *delivery) Missed() *time.Time { return d.today("attempted") }

// TakenBack is when a handoff of this day was taken back.
func (d *delivery) TakenBack() *time.Time { return d.today("aborted") }

// today is since, within the delivery's present day.
func (d *delivery) today(kind string) *time.Time {
	at := d.since(kind)
	if at == nil || at.Before(d.ValidFrom) {
		return nil
	}
	return at
}

// consents are the kinds of door agreed to, with one of them changed. For who came by a shop's
// link, what they asked for and waits is among them: else each question would undo the last.
func (d *delivery) consents(kind string, agree, byLink bool) []string {
	kinds := []string{}
	for _, door := range d.OwnDoors {
		if agreed := door.Agreed || byLink && door.AskedUntil != nil; door.Kind == kind && agree || door.Kind != kind && agreed {
			kinds = append(kinds, door.Kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// Kinds are the customer's doors by kind, since consent is given to a kind.
func (d *delivery) Kinds() []ownDoor {
	var kinds []ownDoor
	for _, door := range d.OwnDoors {
		if !slices.ContainsFunc(kinds, func(k ownDoor) bool { return k.Kind == door.Kind }) {
			kinds = append(kinds, door)
		}
	}
	return kinds
}

// Past is the history, newest first.
func (d *delivery) Past() []event {
	past := slices.Clone(d.History)
	slices.Reverse(past)
	for i := range past {
		if t := past[i].Type; d.Purpose == "return_pickup" && (t == "dispatched" || t == "recalled") {
			past[i].Type = "return_" + t
		}
	}
	return past
}
