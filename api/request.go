package api

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"latchkey/handoff"
)

// violation is a rule that a request breaks, and where. It never holds what was sent.
type violation struct {
	Location string `json:"location" doc:"Where, such as body.customer.email"`
	Message  string `json:"message" doc:"The rule that is broken there"`

	status int // 0 is 422
}

func (v *violation) Error() string { return v.Location + " " + v.Message }

// GetStatus is how huma asks an error which status it calls for.
func (v *violation) GetStatus() int { return cmp.Or(v.status, http.StatusUnprocessableEntity) }

// wire is the JSON shape W of a request, which knows how to become what it says: a D
// of the domain. Huma documents the shape; parse holds the rules, for a single request
// and for a line of a bulk file alike. A test holds the documentation to the rules.
type wire[W, D any] interface {
	*W
	parse(*violations) D
}

// body is a request's JSON body, already parsed. D is its meaning.
type body[W, D any, P wire[W, D]] struct {
	value D
	bad   violations
}

// decoder is how the JSON format of the API tells a body from any other value.
type decoder interface{ decode([]byte) }

func (b *body[W, D, P]) decode(data []byte) { b.value, b.bad = parse[W, D, P](data) }

// Resolve reports to huma what decode found.
func (b *body[W, D, P]) Resolve(huma.Context) []error {
	errs := make([]error, len(b.bad))
	for i := range b.bad {
		errs[i] = &b.bad[i]
	}
	return errs
}

// Schema documents the shape.
func (*body[W, D, P]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[W](), true, "")
}

// parse reads one JSON value and holds it to every rule of its shape.
func parse[W, D any, P wire[W, D]](data []byte) (D, violations) {
	var w W
	var bad violations
	if v := decodeStrictly(data, &w); v != nil {
		var zero D
		return zero, violations{*v}
	}
	value := P(&w).parse(&bad)
	return value, bad
}

var strict = json.JoinOptions(json.RejectUnknownMembers(true))

// decodeStrictly reads exactly one JSON value. Unknown, misspelt and repeated names,
// invalid UTF-8 and trailing bytes are refused.
func decodeStrictly(data []byte, into any) *violation {
	err := json.Unmarshal(data, into, strict)
	if err == nil {
		return nil
	}
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &semantic) && errors.Is(semantic.Err, json.ErrUnknownName):
		return &violation{Location: location(semantic.JSONPointer), Message: "is not a known field"}
	case errors.As(err, &syntactic) && errors.Is(syntactic.Err, jsontext.ErrDuplicateName):
		return &violation{Location: location(syntactic.JSONPointer), Message: "is given twice"}
	case errors.As(err, &semantic):
		return &violation{Location: location(semantic.JSONPointer), Message: "must be " + kindOf(semantic.GoType)}
	}
	return &violation{Location: "body", Message: "must be one JSON value in UTF-8", status: http.StatusBadRequest}
}

func kindOf(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == nil:
	case t.Kind() == reflect.Struct:
		return "an object"
	case t.Kind() == reflect.Slice:
		return "an array"
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Int:
		return "a whole number"
	}
	return "of another type"
}

// What a path may repeat of names that a caller made up: it must not be long, and six
// digits may be a code.
var (
	fieldName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,39}$`)
	itemNumber = regexp.MustCompile(`^[0-9]{1,2}$`)
)

// location writes an RFC 6901 pointer as huma writes paths: body.lines[0].
func location(p jsontext.Pointer) string {
	at := "body"
	for token := range p.Tokens() {
		switch {
		case itemNumber.MatchString(token):
			at += "[" + token + "]"
		case fieldName.MatchString(token):
			at += "." + token
		default:
			return at
		}
	}
	return at
}

// violations collects what is wrong with a request: all of it, so that a caller mends
// it in one go.
type violations []violation

func (vs *violations) add(at, message string) {
	*vs = append(*vs, violation{Location: "body." + at, Message: message})
}

// given reports whether a required text is there.
func (vs *violations) given(at, value string) bool {
	if value == "" {
		vs.add(at, "is required")
	}
	return value != ""
}

// idRule is what handoff.CheckID holds an id to, as the documentation writes it. Tags say
// format:"id"; see patterns.
const idRule = `^[A-Za-z0-9._-]{1,64}$`

func (vs *violations) id(at, value string) string {
	if vs.given(at, value) && handoff.CheckID(value) != nil {
		vs.add(at, handoff.ErrID.Error())
	}
	return value
}

// label is a parcel id in any of the forms that labels and scanners give it. The service
// makes them one (handoff.Policy.Label), since carriers have rules of their own.
func (vs *violations) label(at, value string) string {
	if vs.given(at, value) && handoff.CheckLabel(value) != nil {
		vs.add(at, handoff.ErrLabel.Error())
	}
	return value
}

// says reports whether an optional field says something. An empty one is absent: who
// makes JSON of a table sends every column.
func says(value *string) bool { return value != nil && *value != "" }

// optionalID is an id that may be left out.
func (vs *violations) optionalID(at string, value *string) string {
	if !says(value) {
		return ""
	}
	return vs.id(at, *value)
}

// attempt is the id of an attempt, which may be left out. It may not be empty: who sends
// an empty one believes to have sent one, and that a repeat is harmless.
func (vs *violations) attempt(value *string) string {
	if value == nil {
		return ""
	}
	return vs.id("attempt_id", *value)
}

// text is what people read: bounded, in characters, on one line and in the one form of
// handoff.Text.
func (vs *violations) text(at, value string, most int) string {
	text := handoff.Text(value)
	switch {
	case !vs.given(at, value):
	case utf8.RuneCountInString(text) > most:
		vs.add(at, "must be at most "+strconv.Itoa(most)+" characters")
	case strings.ContainsFunc(text, handoff.BreaksLine):
		vs.add(at, "must hold no control characters")
	case handoff.Blank(text):
		vs.add(at, "must not be blank")
	}
	return text
}

func (vs *violations) optionalText(at string, value *string, most int) string {
	if !says(value) {
		return ""
	}
	return vs.text(at, *value, most)
}

func (vs *violations) match(at, value string, rule *regexp.Regexp) string {
	if vs.given(at, value) && !rule.MatchString(value) {
		vs.add(at, "must match "+rule.String())
	}
	return value
}

func (vs *violations) optionalMatch(at string, value *string, rule *regexp.Regexp) string {
	if !says(value) {
		return ""
	}
	return vs.match(at, *value, rule)
}

func (vs *violations) date(at, value string) handoff.Date {
	if !vs.given(at, value) {
		return handoff.Date{}
	}
	day, err := handoff.ParseDate(value)
	if err != nil {
		vs.add(at, handoff.ErrDate.Error())
	}
	return day
}

func (vs *violations) optionalTime(at string, value *string) time.Time {
	if !says(value) {
		return time.Time{}
	}
	t, ok := instant(*value)
	if !ok {
		vs.add(at, "must be a date-time of RFC 3339 after 1970")
	}
	return t
}

// each holds every item to a rule, and adds to what breaks it which item it was.
func (vs *violations) each(at string, items []string, rule func(string)) {
	for i, value := range items {
		before := len(*vs)
		rule(value)
		if len(*vs) > before {
			(*vs)[before].Location = "body." + at + "[" + strconv.Itoa(i) + "]"
		}
	}
}

// item names one item of a list.
func (*violations) item(at string, i int) string { return at + "[" + strconv.Itoa(i) + "]" }

func (vs *violations) oneOf(at string, names ...string) {
	vs.add(at, "must be one of "+strings.Join(names, ", "))
}

func (vs *violations) number(at string, value *float64, least, most float64) float64 {
	switch {
	case value == nil:
		vs.add(at, "is required")
	case *value < least || *value > most:
		vs.add(at, "must be between "+strconv.FormatFloat(least, 'f', -1, 64)+" and "+strconv.FormatFloat(most, 'f', -1, 64))
	default:
		return *value
	}
	return 0
}

// mailbox is the local part of an address (RFC 5321 section 4.1.2) without quotes. Dots may
// stand anywhere: providers have given out such addresses, and SMTP carries them in quotes.
var mailbox = regexp.MustCompile("^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}$")

// email holds an address to local@domain, and writes an internationalised domain in
// ASCII (RFC 5891), since mail servers know no other.
func (vs *violations) email(at, value string) string {
	if !vs.given(at, value) {
		return ""
	}
	sign := strings.LastIndexByte(value, '@')
	if sign > 0 && mailbox.MatchString(value[:sign]) {
		domain, err := handoff.MailDomain(value[sign+1:])
		if ascii := value[:sign+1] + domain; err == nil && len(ascii) <= 254 {
			return ascii
		}
	}
	vs.add(at, "must be a plain mail address, local@domain")
	return ""
}

// pathID is an id in a path.
type pathID struct{ id string }

// UnmarshalText undoes percent-encoding and holds the id to the one rule.
func (id *pathID) UnmarshalText(text []byte) error {
	plain, err := url.PathUnescape(string(text))
	if err != nil || handoff.CheckID(plain) != nil {
		return handoff.ErrID
	}
	id.id = plain
	return nil
}

// pathLabel is a parcel id in a path, as label takes it.
type pathLabel struct{ text string }

// UnmarshalText undoes percent-encoding.
func (l *pathLabel) UnmarshalText(text []byte) error {
	plain, err := url.PathUnescape(string(text))
	if err != nil || handoff.CheckLabel(plain) != nil {
		return handoff.ErrLabel
	}
	l.text = plain
	return nil
}

// Schema documents the rule.
func (*pathLabel) Schema(huma.Registry) *huma.Schema {
	most := handoff.MaxLabel
	return &huma.Schema{Type: huma.TypeString, MaxLength: &most}
}

// Schema documents the rule.
func (*pathID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "id"}
}
