package api

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"latchkey/api/auth"
	"latchkey/handoff/registry"
	"latchkey/handoff/trail"
)

// accessRoutes are the routes to what happened at a building's doors.
type accessRoutes struct {
	registry *registry.Registry
	log      *trail.Reader
}

func (a *accessRoutes) register(r *registrar) {
	managers := []auth.Scope{auth.Building, auth.Ops}
	route(r, huma.Operation{
		OperationID: "access-log", Method: http.MethodGet, Path: "/v1/buildings/{building_id}/access-log",
		Summary: "What happened at a building's doors", Tags: []string{"Building"},
		Description: "Newest first, one line for each permit, refusal or alarm. It names carriers and doors, and no customer, unit, courier or parcel; of a garage or a home only the kind. " +
			"A line is about what the door itself said; what it says long afterwards makes a line of its own. head is worth keeping: see the export.",
	}, managers, a.accessLog)
	route(r, huma.Operation{
		OperationID: "access-log-export", Method: http.MethodGet, Path: "/v1/buildings/{building_id}/access-log/export",
		Summary: "The whole access log, to be verified", Tags: []string{"Building"},
		Description: "A hash chain with a signed head, oldest entry first, one JSON object a line: what latchkey audit verify takes. docs/audit.md describes it.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The export", Content: map[string]*huma.MediaType{ndjsonType: lines(exportLine, "{\"format\":\"latchkey/chain/v1\",\"head\":\"eyJhbGciOiJFZERTQSJ9...\"}\n")},
		}},
	}, managers, a.accessExport)
	route(r, huma.Operation{
		OperationID: "audit-keys", Method: http.MethodGet, Path: "/v1/audit/keys",
		Summary: "The key that signs the heads of access logs", Tags: []string{"Building"},
		Description: "A JWK Set (RFC 7517) of one Ed25519 key (RFC 8037), whose kid is its x. It never rotates. Needs no token.",
	}, public, a.auditKeys)
}

// exportLine is a line of an export: the first has format and head, the others an entry
// and its hash. docs/audit.md says more.
var exportLine = &huma.Schema{
	Type: huma.TypeObject, AdditionalProperties: true,
	Properties: map[string]*huma.Schema{
		"format": {Type: huma.TypeString}, "head": {Type: huma.TypeString, Description: "The signed end of the chain, a JWS (RFC 7515)"},
		"entry": {Type: huma.TypeObject, AdditionalProperties: true}, "hash": {Type: huma.TypeString, Description: "Of this entry and all before it, base64url"},
	},
}

type auditKeysOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		_    struct{}    `additionalProperties:"true"`
		Keys []keyAnswer `json:"keys"`
	}
}

func (a *accessRoutes) auditKeys(context.Context, *struct{}) (*auditKeysOutput, error) {
	key, err := a.log.AuditKey()
	if err != nil {
		return nil, err
	}
	out := &auditKeysOutput{CacheControl: "public, max-age=3600"}
	out.Body.Keys = []keyAnswer{keyAnswerOf(key.String(), key.String())}
	return out, nil
}

type accessInput struct {
	Building pathID `path:"building_id"`
	Before   string `query:"before" pattern:"^[0-9]{1,16}$" doc:"next of the page before"`
	Limit    string `query:"limit" pattern:"^[0-9]{1,3}$" doc:"How many entries to look at, 1 to 200; 100 if left out. A line is made of several"`
}

type accessAnswer struct {
	_ struct{} `additionalProperties:"true"`

	BuildingID string          `json:"building_id"`
	Passages   []passageAnswer `json:"passages"`
	Next       string          `json:"next,omitempty" doc:"For before; left out where nothing older is kept"`
	Head       string          `json:"head" doc:"The signed end of the log, a JWS (RFC 7515): keep it, and nothing that happened until now can be changed unnoticed"`
}

type passageAnswer struct {
	_ struct{} `additionalProperties:"true"`

	Seq      uint64       `json:"seq" doc:"Of the first entry in the export"`
	At       time.Time    `json:"at"`
	Outcome  string       `json:"outcome" example:"opened" doc:"authorised, delivered, confirmed, opened, not-relocked, relocked, failed, refused-by-door or no-answer of a permit; refused, forced, held-open, tampered, jammed, battery-low, unavailable, door-changed, rules-changed, door-change-asked, door-change-objected, door-change-approved, door-change-withdrawn, resident-removed, resident-stays or unit-moved-out"`
	DoorID   string       `json:"door_id,omitempty" doc:"Left out of a garage or a home, whose door would name a unit"`
	DoorKind string       `json:"door_kind,omitempty"`
	Carrier  string       `json:"carrier_id,omitempty"`
	PermitID string       `json:"permit_id,omitempty"`
	Reason   string       `json:"reason,omitempty" doc:"Of a refusal, the door's own included"`
	Changes  []string     `json:"changes,omitempty" doc:"Of door-changed and rules-changed: what changed, by name; enrolled or removed. Of door-change-...: what waits or waited"`
	Count    int          `json:"count" doc:"How many refusals or alarms the line stands for"`
	Claimed  *time.Time   `json:"claimed_at,omitempty" doc:"When the door says that it was, by its own clock"`
	Steps    []stepAnswer `json:"steps,omitempty" doc:"What the door said, oldest first"`
}

type stepAnswer struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

type accessOutput struct{ Body accessAnswer }

const (
	accessLimit = 100
	mostAccess  = 200
)

// ownBuilding finds a building that the caller runs. Another's does not exist.
func ownBuilding(ctx context.Context, r *registry.Registry, id string) error {
	if !manages(principal(ctx), id) {
		return problemOfCode(codeBuildingUnknown)
	}
	b, err := r.Building(ctx, id)
	if err == nil && b == nil {
		err = problemOfCode(codeBuildingUnknown)
	}
	return err
}

func (a *accessRoutes) accessLog(ctx context.Context, in *accessInput) (*accessOutput, error) {
	page := trail.AccessPage{Limit: accessLimit}
	var bad violations
	if in.Before != "" {
		n, err := strconv.ParseUint(in.Before, 10, 53)
		if err != nil || n == 0 {
			bad = append(bad, violation{Location: "query.before", Message: "must be next of the page before"})
		}
		page.Before = n
	}
	if in.Limit != "" {
		n, err := strconv.Atoi(in.Limit)
		if err != nil || n < 1 || n > mostAccess {
			bad = append(bad, violation{Location: "query.limit", Message: "must be between 1 and 200"})
		}
		page.Limit = n
	}
	if len(bad) > 0 {
		return nil, invalid(bad)
	}
	if err := ownBuilding(ctx, a.registry, in.Building.id); err != nil {
		return nil, err
	}
	log, err := a.log.AccessLog(ctx, in.Building.id, page)
	if err != nil {
		return nil, err
	}
	answer := accessAnswer{BuildingID: in.Building.id, Passages: make([]passageAnswer, 0, len(log.Passages)), Head: log.Head}
	if log.Before > 0 {
		answer.Next = strconv.FormatUint(log.Before, 10)
	}
	for i := range log.Passages {
		answer.Passages = append(answer.Passages, passageOf(&log.Passages[i]))
	}
	return &accessOutput{Body: answer}, nil
}

func passageOf(p *trail.Passage) passageAnswer {
	answer := passageAnswer{
		Seq: p.Seq, At: p.At, Outcome: string(p.Outcome), DoorID: p.Door, DoorKind: p.Kind, Carrier: p.Carrier,
		PermitID: p.Permit, Reason: p.Reason, Changes: p.Changes, Count: p.Count,
	}
	if !p.Claimed.IsZero() {
		answer.Claimed = &p.Claimed
	}
	for _, s := range p.Steps {
		answer.Steps = append(answer.Steps, stepAnswer(s))
	}
	return answer
}

const (
	exportWithin = 10 * time.Minute // for a whole export
	exportWrite  = 15 * time.Second // for one write of it
)

func (a *accessRoutes) accessExport(ctx context.Context, in *buildingPath) (*huma.StreamResponse, error) {
	if err := ownBuilding(ctx, a.registry, in.Building.id); err != nil {
		return nil, err
	}
	if ctx.Value(exchangeKey{}).(*exchange).head {
		return &huma.StreamResponse{Body: func(h huma.Context) { h.SetHeader(fiber.HeaderContentType, ndjsonType) }}, nil
	}
	// The work goes on when the handler has returned.
	working, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportWithin)
	next, stop := iter.Pull2(a.log.ExportAccess(working, in.Building.id))
	end := func() { stop(); cancel() }
	first, err, _ := next()
	if err != nil {
		end()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		c := humafiber.Unwrap(h)
		c.Set(fiber.HeaderContentType, ndjsonType)
		conn := c.Context().Conn()
		c.Context().SetBodyStream(&exportStream{
			pending: first, next: next, end: end,
			wrote: func() error { return conn.SetWriteDeadline(time.Now().Add(exportWrite)) },
		}, -1)
	}}, nil
}

// exportStream turns an export into a body. One that fails on the way ends early, which
// who verifies it sees.
type exportStream struct {
	pending []byte
	next    func() ([]byte, error, bool)
	end     func()
	wrote   func() error
}

// Read implements io.Reader.
func (s *exportStream) Read(p []byte) (int, error) {
	if len(s.pending) == 0 {
		text, err, more := s.next()
		if err != nil {
			return 0, err
		}
		if !more {
			return 0, io.EOF
		}
		s.pending = text
	}
	// The server's own deadline is for a whole answer.
	if err := s.wrote(); err != nil {
		return 0, errors.Join(err, s.Close())
	}
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

// Close implements io.Closer.
func (s *exportStream) Close() error {
	s.end()
	return nil
}
