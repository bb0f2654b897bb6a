// Package demo is what only `latchkey demo` has: a clock that can be moved, a mailbox
// that takes every mail, tokens for the asking, and the pages that let a person try the
// service in a minute.
//
// It hands out power freely, so it is fenced: it listens on loopback ([LoopbackOnly]),
// answers under no foreign name ([Guard]), and takes no order from the pages of other
// sites.
package demo

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/api/headers"
	"latchkey/api/web/frame"
	"latchkey/handoff"
)

// Config is what the demonstration stands on. All of it is needed but the House.
type Config struct {
	Clock   *Clock
	Mailbox *Mailbox

	// House is the sample building; nil for none.
	House *House

	// Provider is the issuer, at IssuerPath, at which people sign in; nil for none.
	Provider *authtest.Provider

	// Sign makes a bearer token that the API takes.
	Sign func(auth.Principal) (string, error)

	// Log hears of failures. It is told no token, no mail and nothing of a request's body.
	Log *slog.Logger
}

// DefaultShop is the shop of a token that names none.
const DefaultShop = "demo"

// maxBody bounds a request's body, in bytes.
const maxBody = 16 << 10

// Demo serves the first page at / and the rest below /demo/. Its pages are a set of the
// frame, which the caller builds with [Demo.Set]; without it they answer 404.
type Demo struct {
	http.Handler
	site *site
}

// Set gives the demo its pages: their words, style and scripts, and the frame around them.
// It has no routes of its own, because the demo guards and routes all that it serves.
func (d *Demo) Set() frame.Set {
	return frame.Set{Name: "demo", Files: files, Routes: func(p *frame.Pages) { d.site.pages = p }}
}

// New makes the demo:
//
//	GET  /                     the main job, by hand
//	POST /demo/token           {"scope","sub","carrier_id","shop_id","building_id"} -> {"token"}
//	GET  /demo/mailbox         the mails, newest first, as JSON or as a page; ?to=ADDRESS for one recipient's
//	GET  /demo/mailbox/{id}    one mail's HTML, in a sandbox
//	GET  /demo/clock           {"now"}
//	POST /demo/clock           {"now"} moves the clock forward -> {"now"}
//	GET  /demo/doors           the sample building's doors, as the log tells of them, as JSON or as a page
//	POST /demo/doors/{id}/network    {"cut"} cuts a door's network, or mends it -> {"cut"}
//	POST /demo/doors/{id}/challenge  reads what a door shows -> {"challenge"}
//	POST /demo/doors/{id}/permit     {"permit"} holds a phone to a door -> {"result","reason"}
//	GET  /demo/id/authorize    asks the visitor who they are, and
//	POST /demo/id/authorize    sends them back to sign in: OpenID Connect's authorization endpoint
//	     /demo/id/...          the rest of the issuer (authtest.Provider)
//
// Errors are RFC 9457 problems. Host headers are checked here too, not only where the
// caller puts Guard around the rest of the service.
func New(c Config) *Demo {
	s := &site{Config: c, offers: newOffers()}
	mux := http.NewServeMux()
	mux.Handle("/{$}", methods{http.MethodGet: s.front})
	mux.Handle("/demo/token", methods{http.MethodPost: s.token})
	mux.Handle("/demo/mailbox", methods{http.MethodGet: s.mailbox})
	mux.Handle("/demo/mailbox/{id}", methods{http.MethodGet: s.mail})
	mux.Handle("/demo/clock", methods{http.MethodGet: s.clock, http.MethodPost: s.moveClock})
	mux.Handle("/demo/doors", methods{http.MethodGet: s.doors})
	mux.Handle("/demo/doors/{id}/network", methods{http.MethodPost: s.network})
	mux.Handle("/demo/doors/{id}/challenge", methods{http.MethodPost: s.read})
	mux.Handle("/demo/doors/{id}/permit", methods{http.MethodPost: s.read})
	if c.Provider != nil {
		mux.Handle(IssuerPath+"/", c.Provider)
		mux.Handle(IssuerPath+authtest.AuthorizePath, methods{http.MethodGet: s.authorize, http.MethodPost: s.answer})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { newProblem(http.StatusNotFound).write(w) })

	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		newProblem(http.StatusForbidden).write(w)
	}))
	return &Demo{Guard(sameOrigin.Handler(hardened(mux))), s}
}

type site struct {
	Config
	offers
	pages *frame.Pages // nil before Set
}

// methods is a resource by method. HEAD is answered as GET.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if serve, ok := m[method]; ok {
		serve(w, r)
		return
	}
	w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(m)), ", "))
	newProblem(http.StatusMethodNotAllowed).write(w)
}

// hardened sets what every answer tells a browser.
func hardened(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers.Set(w.Header())
		next.ServeHTTP(w, r)
	})
}

type tokenRequest struct {
	Scope      auth.Scope `json:"scope"`
	Subject    string     `json:"sub"`
	CarrierID  string     `json:"carrier_id"`
	ShopID     string     `json:"shop_id"`
	BuildingID string     `json:"building_id"`
}

var scopes = []auth.Scope{
	auth.Dispatch, auth.Shop, auth.Customer, auth.Carrier, auth.Courier, auth.Building, auth.Door, auth.Ops,
}

// check lists what is wrong: ids that are malformed, and ids without which a token of
// its scope would name no subject.
func (t *tokenRequest) check() (broken []violation) {
	add := func(field, rule string) { broken = append(broken, violation{"body." + field, rule}) }
	if !slices.Contains(scopes, t.Scope) {
		names := make([]string, len(scopes))
		for i, s := range scopes {
			names[i] = string(s)
		}
		add("scope", "must be one of "+strings.Join(names, ", "))
	}
	for _, id := range []struct {
		field, value string
		needed       bool
	}{
		{"sub", t.Subject, t.Scope == auth.Customer || t.Scope == auth.Courier},
		{"carrier_id", t.CarrierID, t.Scope == auth.Carrier || t.Scope == auth.Courier},
		{"shop_id", t.ShopID, false},
		{"building_id", t.BuildingID, false},
	} {
		switch {
		case id.value == "" && id.needed:
			add(id.field, "is required in this scope")
		case id.value != "" && handoff.CheckID(id.value) != nil:
			add(id.field, handoff.ErrID.Error())
		}
	}
	return broken
}

// principal is whom the request describes.
func (t *tokenRequest) principal() auth.Principal {
	return auth.Principal{
		Subject: t.Subject, Scopes: []auth.Scope{t.Scope}, Carrier: t.CarrierID, Shop: cmp.Or(t.ShopID, DefaultShop), Building: t.BuildingID,
	}
}

func (s *site) token(w http.ResponseWriter, r *http.Request) {
	var t tokenRequest
	if p := decode(w, r, &t); p != nil {
		p.write(w)
		return
	}
	if broken := t.check(); broken != nil {
		invalid(broken...).write(w)
		return
	}
	token, err := s.Sign(t.principal())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", map[string]string{"token": token})
}

// instant is the body of /demo/clock, both ways.
type instant struct {
	Now time.Time `json:"now"` // RFC 3339
}

func (s *site) clock(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, "application/json", instant{s.Clock.Now()})
}

func (s *site) moveClock(w http.ResponseWriter, r *http.Request) {
	var to instant
	if p := decode(w, r, &to); p != nil {
		p.write(w)
		return
	}
	if to.Now.IsZero() {
		invalid(violation{"body.now", "is required"}).write(w)
		return
	}
	now, err := s.Clock.Forward(to.Now)
	if err != nil {
		newProblem(http.StatusConflict).write(w)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", instant{now})
}

func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.Log.ErrorContext(r.Context(), "demo", "pattern", r.Pattern, "err", err)
	newProblem(http.StatusInternalServerError).write(w)
}

// decode reads one JSON object. Unknown, misspelt and repeated names are refused, and
// so is whatever follows the object.
func decode(w http.ResponseWriter, r *http.Request, into any) *problem {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return newProblem(http.StatusRequestEntityTooLarge)
		}
		return newProblem(http.StatusBadRequest)
	}
	err = json.Unmarshal(data, into, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return invalid(violation{location(semantic.JSONPointer), "is not a known field"})
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return invalid(violation{location(syntactic.JSONPointer), "is given twice"})
	case errors.As(err, &semantic):
		return invalid(violation{location(semantic.JSONPointer), "is of the wrong type"})
	}
	return newProblem(http.StatusBadRequest)
}

// fieldName is what an answer may repeat of a name that a caller made up.
var fieldName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,39}$`)

// location names a field of the body, which is flat.
func location(at jsontext.Pointer) string {
	if name := at.LastToken(); fieldName.MatchString(name) {
		return "body." + name
	}
	return "body"
}
