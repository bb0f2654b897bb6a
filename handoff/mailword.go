package handoff

import (
	"regexp"
	"slices"
)

// MailState is how far the mail with a grant's newest code came. Its numbers are stored.
type MailState uint8

// The states. Of the mail of a superseded code nothing is asked any more.
const (
	MailNone      MailState = iota // nothing is known yet, or there is no code
	MailAccepted                   // the mail server took it
	MailDelivered                  // the recipient's server says that it has it (RFC 3464)
	MailFailed                     // it was refused, it came back, or no server took it in time
	MailSeen                       // the customer opened the page of the handoff, which shows the code
)

// MailWord is what is known of the mail with one code.
type MailWord struct {
	Issue uint64    `cbor:"1,keyasint"` // the HOTP counter of the code
	State MailState `cbor:"2,keyasint"`
	At    Instant   `cbor:"3,keyasint"`

	// Why it failed: MailRefused, MailBounced or MailLate. It stays when the customer saw the code all
	// the same, until a mail is taken.
	Why Reason `cbor:"4,keyasint,omitempty"`

	// Status is the server's enhanced status code (RFC 3463), such as 5.1.1; empty where it gave none.
	Status string `cbor:"5,keyasint,omitempty"`

	// Told is how many events there were of the mail with this code.
	Told int `cbor:"6,keyasint,omitempty"`
}

// MailFault is why a mail failed: the Reason of an EventMailFailed. No caller is ever refused with one.
type MailFault = Reason

// The faults of a mail.
const (
	MailRefused MailFault = "mail-refused" // a mail server said 5xx, or there is no way to send to the address
	MailBounced MailFault = "mail-bounced" // a mail server took it, and it came back
	MailLate    MailFault = "mail-late"    // no mail server took it within Limits.MailMinutes
)

// mailWords is how often it is told of one code that its mail failed, or did not fail after all. Who
// has a mail's return path can say so again and again.
const mailWords = 6

var statusRule = regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}$`)

// MailStatus is an enhanced status code (RFC 3463), or nothing if a text is none. What servers write
// goes no further than that.
func MailStatus(text string) string {
	if statusRule.MatchString(text) {
		return text
	}
	return ""
}

// MailKnown is how far the mail with the newest code came: by what the grant says, and by what is
// noted beside it of a mail that went well (zero where nothing is).
func (g *Grant) MailKnown(noted MailWord) MailWord {
	newest := g.NewestIssue()
	if !g.CodeRequired() || newest == 0 {
		return MailWord{}
	}
	if noted.Issue != newest {
		noted = MailWord{}
	}
	w := g.Mail
	if w == nil || w.Issue != newest || w.State == MailAccepted && noted.State == MailDelivered {
		return noted
	}
	return *w
}

// MailAwaits reports whether the mail with a code still matters: the code is the newest, and may yet
// be asked for.
func (g *Grant) MailAwaits(issue uint64) bool {
	return g.CodeRequired() && issue != 0 && g.NewestIssue() == issue && !g.Status.Closed()
}

// tellMail takes word of the mail with a code. What goes well makes an event only where it takes
// back that the mail failed; the customer's own look makes one, once, and after it the mail may fail
// unsaid. Of a code that was superseded there is nothing to tell. Only customers, in person, say that
// they saw their code, and of the mail they say nothing.
func tellMail(d *deliberation) Decision {
	said, byCustomer := d.cmd.Mail, d.cmd.By.Role == RoleCustomer
	switch {
	case byCustomer != (said.State == MailSeen):
		return d.refuse(GrantUnknown)
	case byCustomer && !d.cmd.By.Person: // a key, or a shop's link: it may be the shop
		return d.refuse(PersonRequired)
	}
	if !d.grant.MailAwaits(said.Issue) {
		return d.accept()
	}
	var known MailWord
	if w := d.grant.Mail; w != nil && w.Issue == said.Issue {
		known = *w
	}
	e := d.event(EventMailArrived)
	e.Issue, e.Reason = said.Issue, Reason(said.State.String())
	switch said.State {
	case MailSeen:
		if known.State == MailSeen {
			return d.accept()
		}
	case MailAccepted, MailDelivered:
		if known.Why == "" || known.Told >= mailWords {
			return d.accept()
		}
	case MailFailed:
		locked := d.grant.Code.Locked(d.facts.Policy.Limits)
		if known.State == MailFailed || known.State == MailSeen || said.Why == MailLate && locked { // a locked code is not mailed
			return d.accept()
		}
		if !slices.Contains([]Reason{MailRefused, MailBounced, MailLate}, said.Why) {
			return d.refuse(UnknownAct)
		}
		e.Type, e.Reason, e.MailStatus = EventMailFailed, said.Why, MailStatus(said.Status)
	default:
		return d.refuse(UnknownAct)
	}
	return d.accept(e)
}

// mailTold is what the grant knows of its mail after an event.
func (g *Grant) mailTold(e Event) *MailWord {
	w := MailWord{Issue: e.Issue, At: e.At}
	if g.Mail != nil && g.Mail.Issue == e.Issue {
		w = *g.Mail
	}
	w.Told++
	if e.Type == EventMailFailed {
		w.State, w.At, w.Why, w.Status = MailFailed, e.At, e.Reason, e.MailStatus
		return &w
	}
	state, _ := ParseMailState(string(e.Reason))
	if state != MailSeen {
		w.Why, w.Status = "", ""
	}
	if w.State != MailSeen {
		w.State, w.At = state, e.At
	}
	return &w
}
