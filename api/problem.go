package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
	"latchkey/handoff/trail"
)

// Problem is an error as callers see it: RFC 9457 problem details. It never repeats
// what was sent.
type Problem struct {
	_ struct{} `additionalProperties:"true"`

	Type   string `json:"type" format:"uri" example:"urn:latchkey:problem:code-mismatch" doc:"urn:latchkey:problem: and the code"`
	Code   string `json:"code" example:"code-mismatch" doc:"What went wrong, for programs"`
	Title  string `json:"title" example:"Wrong code" doc:"What went wrong, for people"`
	Status int    `json:"status" example:"403" doc:"The HTTP status"`
	Detail string `json:"detail,omitempty" doc:"What to do next"`
	Reason string `json:"reason,omitempty" example:"visit-over" doc:"Of access-refused: what it came to, as far as it is told"`

	Errors       []violation `json:"errors,omitempty" doc:"The rules that the request breaks"`
	Proofs       proofs      `json:"proofs,omitzero" doc:"What each proof was worth, where a courier was judged"`
	AttemptsLeft *int        `json:"attempts_left,omitempty" example:"4" doc:"How many wrong codes are still let pass"`

	ReplacedAt *time.Time `json:"replaced_at,omitempty" doc:"Of code-superseded: when a newer code took its place"`

	retryAfter time.Duration // Retry-After; 0 sends none
	challenge  string        // WWW-Authenticate
	cause      error         // of a failure of ours, for the log alone

	why *auth.Refusal // of a token, key or session that is not believed, for the log alone
}

// Error implements error, GetStatus and ContentType what huma asks of an error body.
func (p *Problem) Error() string { return p.Code }

func (p *Problem) GetStatus() int { return p.Status }

func (*Problem) ContentType(string) string { return problemJSON }

const problemJSON = "application/problem+json"

// proofs writes a verdict as {"route":"ok","place":"failed",...}, leaving out what was
// not asked for.
type proofs handoff.Verdict

// MarshalJSONTo implements json.MarshalerTo, in the order in which proofs are named.
func (v proofs) MarshalJSONTo(enc *jsontext.Encoder) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for p, result := range v {
		if result == handoff.NotAsked {
			continue
		}
		if err := enc.WriteToken(jsontext.String(handoff.Proof(p).String())); err != nil {
			return err
		}
		if err := enc.WriteToken(jsontext.String(result.String())); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

// Schema documents it.
func (*proofs) Schema(huma.Registry) *huma.Schema {
	result := &huma.Schema{Type: huma.TypeString, Enum: []any{"ok", "failed", "missing", "not-checked"}}
	known := map[string]*huma.Schema{}
	for p := range (handoff.Verdict{}) {
		known[handoff.Proof(p).String()] = result
	}
	return &huma.Schema{
		Type: huma.TypeObject, Properties: known,
		AdditionalProperties: result, // what a later version asks for
		Examples:             []any{map[string]string{"courier": "ok", "route": "ok", "place": "failed", "code": "not-checked"}},
	}
}

// kind is how one reason looks over HTTP.
type kind struct {
	status int
	title  string
	detail string // what to do next; empty where the title says it all

	// asInput is the status where the reason lies in what the request itself asks for,
	// and not in the state of a grant. 0: the same.
	asInput int

	// field is where in such a request the reason lies, and rule what it breaks there; empty
	// where no single field is at fault.
	field, rule string
}

// kinds is the one map from the domain's reasons to HTTP. A test holds it complete.
var kinds = map[handoff.Reason]kind{
	handoff.ParcelUnknown:     {status: 404, title: "Parcel unknown", detail: "Check the label. The parcel may be another carrier's."},
	handoff.SignedOut:         {status: 401, title: "Signed out by the carrier", detail: "Sign in again. The carrier ended what this token or session rests on."},
	handoff.CourierNotCleared: {status: 403, title: "Courier not cleared", detail: "The carrier must register this courier, clear the courier and not suspend the courier."},
	handoff.BudgetExhausted:   {status: 429, title: "Too many wrong codes by this courier", detail: "A person must clear the courier's budget before the courier can verify again."},
	handoff.NotYourRoute:      {status: 403, title: "Not your route", detail: "The carrier must assign the parcel's route of that day to this courier."},
	handoff.AlreadyReleased:   {status: 409, title: "Already handed over"},
	handoff.AlreadyCollected:  {status: 409, title: "Already collected"},
	handoff.IsRecalled:        {status: 409, title: "Recalled by the shop", detail: "Take the parcel back to the depot."},
	handoff.OnHold:            {status: 409, title: "On hold", detail: "Do not hand the parcel over. A person must decide first."},
	handoff.NotYetValid:       {status: 409, title: "Not valid yet", detail: "The parcel may be handed over on its delivery day only."},
	handoff.WindowOver:        {status: 410, title: "Its time is over", detail: "The shop can reschedule it to a later day.", asInput: 422},
	handoff.OutsideGeofence:   {status: 403, title: "Not at the place", detail: "Send a fresh and precise position, taken at the address."},
	handoff.AccessRefused:     {status: 403, title: "Access refused"},
	handoff.AllOrNothing:      {status: 409, title: "All or nothing", detail: "These parcels are handed over together. Scan all that are still there, or hand none over."},
	handoff.CodeLocked:        {status: 423, title: "Code locked", detail: "The customer can ask for a new code while any is left."},
	handoff.CustomerLimit:     {status: 429, title: "Too many wrong codes at this customer", detail: "No code of this customer's is taken from this courier for a day. Another courier can hand the parcel over, or two people of the shop can release it."},
	handoff.CarrierLimit:      {status: 429, title: "Too many wrong codes at this carrier", detail: "The carrier's couriers have entered too many wrong codes in a day, and this courier two of them. A courier who entered fewer can hand the parcel over."},
	handoff.CodeRequired:      {status: 403, title: "Code required", detail: "Ask the customer for the six digits."},
	handoff.CodeSuperseded:    {status: 409, title: "Code superseded", detail: "Ask the customer for the newest code."},
	handoff.CodeMismatch:      {status: 403, title: "Wrong code", detail: "Ask the customer to read the code out again."},

	handoff.GrantUnknown:          {status: 404, title: "Grant unknown"},
	handoff.WrongStatus:           {status: 409, title: "Not possible in this status"},
	handoff.NotConfirmed:          {status: 409, title: "Not confirmed", detail: "The service's records were restored from an earlier state. The operator goes on with this parcel when its shop has sent the dispatch again."},
	handoff.NotYourHandoff:        {status: 403, title: "Not your handoff", detail: "Only the courier who made the handoff can take it back."},
	handoff.AlreadyAborted:        {status: 409, title: "Taken back before", detail: "A handoff can be taken back once."},
	handoff.AbortTooLate:          {status: 410, title: "Too late to take back", detail: "The handoff stands. Tell the shop."},
	handoff.ReissueLimit:          {status: 409, title: "No new codes left", detail: "The shop can reschedule the parcel."},
	handoff.ResendLimit:           {status: 429, title: "Mailed too often", detail: "The code is shown on the handoff's page."},
	handoff.ResendTooSoon:         {status: 429, title: "Mailed a moment ago", detail: "Look into the mailbox, or ask again later."},
	handoff.NoCode:                {status: 409, title: "This parcel needs no code"},
	handoff.DispatchConflict:      {status: 409, title: "The parcel was dispatched otherwise", detail: "The parcel id is taken by a dispatch that says something else. If that one was wrong, recall the parcel and dispatch it again."},
	handoff.CarrierNotEnabled:     {status: 422, title: "Carrier not enabled", detail: "The carrier cannot verify, or the shop may not dispatch with it."},
	handoff.ParcelNotAllowed:      {status: 422, title: "Parcel not allowed", detail: "The shop may not dispatch parcels whose ids begin like this with this carrier."},
	handoff.ParcelMalformed:       {status: 422, title: "Not a parcel id of this carrier", detail: "Send the id as the carrier's label gives it. A spreadsheet may have changed it."},
	handoff.ParcelCheckDigit:      {status: 422, title: "The parcel id is mistyped", detail: "Its check digit does not fit. Read the label again."},
	handoff.ParcelTwice:           {status: 422, title: "The same parcel twice", field: "parcels", rule: "must not name a parcel twice; labels of one parcel in different forms are one id"},
	handoff.ParcelNotNamed:        {status: 422, title: "The path's parcel is missing", detail: "parcel_ids must name the parcel of the path, too."},
	handoff.DestinationNotAllowed: {status: 422, title: "Destination not allowed", detail: "No one there can say the code that this parcel needs."},
	handoff.DayNotLater:           {status: 422, title: "Not a later day", detail: "Choose a day after the present delivery date."},
	handoff.DayUnknown:            {status: 422, title: "No such day at the address"},
	handoff.DayTooFar:             {status: 422, title: "Too far ahead", detail: "Check the year of the delivery date."},
	handoff.PositionRequired: {
		status: 422, title: "Position of the address required", detail: "Send destination.location: a parcel that needs a code is released at its address only.",
		field: "destination.location", rule: "is required for a parcel that needs a code, unless the policy says allow_without_position for this kind of destination",
	},
	handoff.ZoneUnknown: {
		status: 422, title: "Time zone unknown", detail: "Name the zone of the address in the IANA time zone database, such as Europe/Berlin.",
		field: "destination.time_zone", rule: handoff.ErrZone.Error(),
	},
	handoff.AttemptedLimit:     {status: 409, title: "Recorded often enough", detail: "Take the parcel back to the depot."},
	handoff.VisitOver:          {status: 403, title: "The visit is over", detail: "A visit gives three permits in five minutes. At a lobby or gate it may be begun again after them, within limits; else record that no one answered, if it is so."},
	handoff.ImpossibleJourney:  {status: 403, title: "Too far from the last door"},
	handoff.TooManyPermits:     {status: 403, title: "Too many permits at once", detail: "Try again once the oldest is over."},
	handoff.KeypadBusy:         {status: 429, title: "All PINs of this minute are taken", detail: "Others were given them. Ask again in the next minute."},
	handoff.PermitUnknown:      {status: 404, title: "Permit unknown"},
	handoff.ConsentUsed:        {status: 409, title: "Already used", detail: "A permit for the door was given out with this consent."},
	handoff.NoConsentNeeded:    {status: 422, title: "No door that asks for consent", detail: "Consent is for a garage or a home of a parcel that goes to a building."},
	handoff.ConfirmationSent:   {status: 403, title: "Not agreed yet", detail: "A mail asks a resident of the door's unit, at an address confirmed there. The door stays closed until they agree."},
	handoff.ConfirmationLimit:  {status: 429, title: "Asked too often", detail: "The customer can sign in and agree, without a link of the shop."},
	handoff.ConfirmationOver:   {status: 410, title: "Nothing to confirm any more", detail: "It was decided meanwhile, asked for anew, or too long ago."},
	handoff.NoConfirmedAddress: {status: 403, title: "No one can be asked", detail: "Who came by a shop's link agrees to a garage or home only with a resident of its unit. The door has no unit, or no resident of it has a confirmed address. The customer can sign in and agree, without a link."},
	handoff.AttemptReused:      {status: 422, title: "Attempt id used before", detail: "The attempt id was sent with another request. Choose a new one."},
	handoff.ApprovalMissing:    {status: 409, title: "Nothing to approve", detail: "No one asked for a release by hand, or it was too long ago. Ask anew."},
	handoff.OverrideReplaced:   {status: 409, title: "Another wish", detail: "The release by hand was asked for again, perhaps for another reason. Read it, and approve it by its override_id."},
	handoff.SelfApproval:       {status: 403, title: "A second person is needed", detail: "Who asked for a release by hand cannot approve it. Another person of the shop must."},
	handoff.PersonRequired:     {status: 403, title: "A person is needed", detail: "Use a person's own token. A key stands for no person, and who came by a shop's link has to sign in."},
	handoff.DisputeOpen:        {status: 409, title: "The customer disputes the handoff", detail: "The customer withdraws the dispute, or the duty officer decides it. Neither a shop nor a lift ends it."},
	handoff.AlreadyDisputed:    {status: 409, title: "Disputed before", detail: "A handoff can be disputed once. Its page says how that stands."},
	handoff.NoDispute:          {status: 409, title: "No dispute is open"},
	handoff.UnknownAct:         {status: 422, title: "Unknown act"},
}

// The codes of problems that HTTP itself brings.
const (
	codeInsufficientScope = "insufficient-scope"
	codeCustomerUnknown   = "customer-unknown"
	codeBuildingUnknown   = "building-unknown"
	codeCourierUnknown    = "courier-unknown"
	codeRouteUnknown      = "route-unknown"
	codeDoorUnknown       = "door-unknown"
	codeDoorMoved         = "door-moved"
	codeNoDoors           = "doors-not-configured"
	codeNoReceipts        = "receipts-not-configured"
	codeReceiptUnknown    = "receipt-unknown"
	codeTakenBack         = "handoff-taken-back"
	codeStale             = "stale"
	codeNoChange          = "no-such-change"
	codeTooManyChanges    = "too-many-changes"
	codeHalted            = "service-halted"
	codePartitionRefused  = "partition-refused"
	codeResidentUnknown   = "resident-unknown"
	codeNoResidents       = "residents-not-configured"
	codeLinkUnknown       = "link-unknown"
	codeCrossSite         = "cross-site"
	codeUnauthorized      = "unauthorized"
	codeUnavailable       = "unavailable"
	codeInternal          = "internal-error"
)

// plain are the problems that are no refusal of the domain, by status.
var plain = map[int]struct{ code, title, detail string }{
	400: {"bad-request", "Not understood", ""},
	401: {codeUnauthorized, "Not authenticated", "Send a valid token as Authorization: Bearer."},
	403: {codeInsufficientScope, "Not allowed with this token", ""},
	404: {"not-found", "No such page", ""},
	405: {"method-not-allowed", "Method not allowed", ""},
	408: {"request-timeout", "The request took too long to arrive", ""},
	412: {codeStale, "It changed meanwhile", "Read it again, and send what is to stand there with its new ETag."},
	413: {"body-too-large", "Body too large", ""},
	415: {"unsupported-media-type", "Unsupported content type", ""},
	421: {"misdirected-request", "Not a host of this service", ""},
	422: {"invalid-request", "The request breaks a rule", ""},
	429: {"too-many-requests", "Too many at once", "Ask again in a moment."},
	431: {"headers-too-large", "Headers too large", ""},
	500: {codeInternal, "Something broke", ""},
	503: {codeUnavailable, "Not available now", "Ask again in a moment."},
}

// special are problems of their own code at a plain status.
var special = map[string]struct {
	status        int
	title, detail string
}{
	codeCustomerUnknown:  {404, "Customer unknown", ""},
	codeBuildingUnknown:  {404, "Building unknown", ""},
	codeCourierUnknown:   {404, "Courier unknown", ""},
	codeRouteUnknown:     {404, "Route unknown", ""},
	codeDoorUnknown:      {404, "Door unknown", ""},
	codeDoorMoved:        {409, "A door does not change its building", "Enroll it under a new id."},
	codeNoChange:         {404, "No such change waits", "It was taken back, someone objected, or it counts by now. Or the door is not yours."},
	codeTooManyChanges:   {409, "Too many changes of this door", "Its people are mailed of each, and must be able to read them. Ask again in some days, or remove the door."},
	codeResidentUnknown:  {404, "Resident unknown", ""},
	codeNoResidents:      {503, "This service tells no residents", "It was started without its public URL, or keeps no access log."},
	codeLinkUnknown:      {404, "This link does not hold", "Take the one of the newest notice."},
	codeCrossSite:        {403, "Not sent by a page of this service", "By cookie, repeat the session's token in " + auth.CSRFHeader + ", from a page of the same origin."},
	codeHalted:           {503, "Nothing is served for now", "The service's records may be older than what it acknowledged. Its operator has to restore them."},
	codePartitionRefused: {503, "This parcel is not served for now", "What the service knows of it may be older than what it acknowledged. Its operator has to restore it. Other parcels are not concerned."},
	codeReceiptUnknown:   {404, "Receipt unknown", ""},
	codeTakenBack:        {410, "The handoff was taken back", "A later handoff has a receipt of its own."},
	codeNoReceipts:       {503, "This service gives no receipts", "It was started without a key for receipts."},
	codeNoDoors:          {503, "This service opens no doors", "It was started without signing keys for doors."},
}

// problemOfCode is the problem of a code: one of the special ones, or of a plain status.
func problemOfCode(code string) *Problem {
	s, known := special[code]
	if !known {
		for status, p := range plain {
			if p.code == code {
				return newProblem(status)
			}
		}
	}
	return &Problem{Type: problemType + code, Code: code, Title: s.title, Status: s.status, Detail: s.detail}
}

const problemType = "urn:latchkey:problem:"

// newProblem is the problem of a plain status. What is not in the table is a failure
// of ours, or of the request.
func newProblem(status int) *Problem {
	p, known := plain[status]
	if !known {
		if status >= 400 && status < 500 {
			return newProblem(http.StatusBadRequest)
		}
		return newProblem(http.StatusInternalServerError)
	}
	return &Problem{Type: problemType + p.code, Code: p.code, Title: p.title, Status: status, Detail: p.detail}
}

// errorRow is how one error of a room below looks over HTTP.
type errorRow struct {
	err  error
	code string // of the problem

	// Where the error lies in one field of the request, the problem is invalid-request and
	// says so: field is where, rule what is broken there.
	field, rule string

	retry time.Duration // Retry-After; 0 sends none
}

// errorRows is the one map from the errors of the rooms below to HTTP, beside kinds, which
// has the domain's refusals. An error that means a fault of ours says internal-error: no
// caller can bring it about, and none is told more. A test holds the list complete.
var errorRows = []errorRow{
	{err: storage.ErrPartitionRefused, code: codePartitionRefused, retry: time.Minute},
	{err: storage.ErrUnavailable, code: codeUnavailable, retry: time.Second},
	{err: storage.ErrUnknownOutcome, code: codeUnavailable, retry: time.Second},
	{err: storage.ErrConflict, code: codeUnavailable, retry: time.Second},
	{err: context.DeadlineExceeded, code: codeUnavailable, retry: time.Second},
	{err: storage.ErrSealed, code: codeInternal},
	{err: storage.ErrFormat, code: codeInternal},

	{err: auth.ErrToken, code: codeUnauthorized},
	{err: service.ErrCourierUnknown, code: codeCourierUnknown},
	{err: identity.ErrLink, code: codeLinkUnknown},
	{err: residents.ErrResidentUnknown, code: codeResidentUnknown},
	{err: handoff.ErrDoorMoved, code: codeDoorMoved},
	{err: registry.ErrStale, code: codeStale},
	{err: registry.ErrNoChange, code: codeNoChange},
	{err: registry.ErrTooManyChanges, code: codeTooManyChanges},
	{err: handoff.ErrKeypadKey, field: "body.keypad_key", rule: "is required: the door has none yet"},

	{err: handoff.ErrReceiptID, code: codeReceiptUnknown},
	{err: handoff.ErrNoReceipt, code: codeReceiptUnknown},
	{err: handoff.ErrTakenBack, code: codeTakenBack},

	// A path or a parameter is held to these rules where it is read; past that point they
	// are faults of ours.
	{err: handoff.ErrID, code: codeInternal},
	{err: handoff.ErrLabel, code: codeInternal},
	{err: handoff.ErrGrantID, code: codeInternal},
	{err: handoff.ErrDate, code: codeInternal},
	{err: handoff.ErrDomain, code: codeInternal},
	{err: handoff.ErrZone, code: codeInternal},
	{err: handoff.ErrNoSuchDay, code: codeInternal},

	{err: eventlog.ErrNotJoined, code: codeInternal},
	{err: trail.ErrForged, code: codeInternal},
	{err: trail.ErrSignature, code: codeInternal},
	{err: trail.ErrNoChain, code: codeInternal},
}

// problemOf turns any error into the problem that a caller may see. What is not known
// here is a failure of ours: it stays inside, but for its cause, which the log tells.
func problemOf(err error) *Problem { return problemFor(err, false) }

// inputProblem is problemOf where the command itself names a day and a destination.
func inputProblem(err error) *Problem { return problemFor(err, true) }

func problemFor(err error, input bool) *Problem {
	var ready *Problem
	if errors.As(err, &ready) {
		return ready
	}
	var refused *handoff.Refusal
	if errors.As(err, &refused) {
		if k, known := kinds[refused.Reason]; known {
			return refusal(refused, k, input)
		}
	}
	row := errorRow{code: codeInternal}
	if i := slices.IndexFunc(errorRows, func(r errorRow) bool { return errors.Is(err, r.err) }); i >= 0 {
		row = errorRows[i]
	}
	if row.field != "" {
		return invalid(violations{{Location: row.field, Message: row.rule}})
	}
	p := problemOfCode(row.code)
	if p.retryAfter = row.retry; p.Status >= http.StatusInternalServerError {
		p.cause = err
	}
	return p
}

// refusedAtDoor makes every refusal at a door access-refused. Why is told beside it, but
// for a parcel that is not the courier's: there all look alike.
func refusedAtDoor(err error) error {
	var refused *handoff.Refusal
	saysOfRequest := []handoff.Reason{handoff.SignedOut, handoff.AttemptReused, handoff.ParcelMalformed, handoff.ParcelCheckDigit}
	if !errors.As(err, &refused) || slices.Contains(saysOfRequest, refused.Reason) {
		return err
	}
	told := handoff.Refusal{Reason: handoff.AccessRefused, Verdict: refused.Verdict, RetryAfter: refused.RetryAfter}
	p := kinds[handoff.AccessRefused]
	if refused.Reason == handoff.ParcelUnknown {
		told.Verdict = handoff.Verdict{}
		told.Verdict[handoff.ProofParcel] = handoff.Failed
		return refusal(&told, p, false)
	}
	p.detail = kinds[refused.Reason].detail
	problem := refusal(&told, p, false)
	if refused.Reason != handoff.AccessRefused {
		problem.Reason = string(refused.Reason)
	}
	return problem
}

func refusal(r *handoff.Refusal, k kind, input bool) *Problem {
	p := &Problem{
		Type: problemType + string(r.Reason), Code: string(r.Reason), Title: k.title, Status: k.status, Detail: k.detail,
		Proofs: proofs(r.Verdict), retryAfter: r.RetryAfter,
	}
	if input && k.asInput != 0 {
		p.Status = k.asInput
	}
	if input && k.field != "" {
		p.Errors = []violation{{Location: "body." + k.field, Message: k.rule}}
	}
	if r.Reason == handoff.CodeMismatch || r.Reason == handoff.CodeSuperseded {
		left := r.AttemptsLeft
		p.AttemptsLeft = &left
	}
	p.ReplacedAt = timeOf(r.ReplacedAt)
	if p.Status == http.StatusUnauthorized {
		p.challenge = realm + invalidToken
	}
	return p
}

// invalid is the problem of a request that breaks rules.
func invalid(bad violations) *Problem {
	p := newProblem(http.StatusUnprocessableEntity)
	for i := range bad {
		if bad[i].status != 0 {
			p = newProblem(bad[i].status)
		}
	}
	p.Errors = bad
	return p
}

// Huma makes errors through two variables of its package. Its own bodies repeat the
// value that was sent, which may be a code.
func init() {
	huma.NewErrorWithContext = func(_ huma.Context, status int, _ string, errs ...error) huma.StatusError {
		return humaProblem(status, errs)
	}
	huma.NewError = func(status int, _ string, errs ...error) huma.StatusError { return humaProblem(status, errs) }
	huma.DefaultArrayNullable = false
}

func humaProblem(status int, errs []error) *Problem {
	p := newProblem(status)
	for _, err := range errs {
		var ready *Problem
		var bad *violation
		var detail *huma.ErrorDetail
		switch {
		case errors.As(err, &ready):
			return ready
		case errors.As(err, &bad):
			p.Errors = append(p.Errors, *bad)
		case status < 500 && errors.As(err, &detail):
			p.Errors = append(p.Errors, violation{Location: detail.Location, Message: detail.Message})
		default:
			p.cause = err
		}
	}
	return p
}

// retrySeconds rounds up: who waits that long does not come too early (RFC 9110 section 10.2.3).
func retrySeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// annotate puts a problem's headers, and its code for the log, where they belong.
func (p *Problem) annotate(c *fasthttp.RequestCtx) {
	if x := exchangeOf(c); x != nil {
		x.code, x.cause, x.why = p.Code, p.cause, p.why
	}
	if p.retryAfter > 0 {
		c.Response.Header.Set(fasthttp.HeaderRetryAfter, retrySeconds(p.retryAfter))
	}
	if p.challenge != "" {
		c.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, p.challenge)
	}
}

// write answers with the problem, where huma does not.
func (p *Problem) write(c *fasthttp.RequestCtx) {
	p.annotate(c)
	c.Response.ResetBody()
	c.SetStatusCode(p.Status)
	c.SetContentType(problemJSON)
	_ = json.MarshalWrite(c, p)
}
