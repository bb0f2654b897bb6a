package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// describe is the frame of the OpenAPI document.
func describe(c Config) *huma.OpenAPI {
	version := c.Version
	if version == "" {
		version = "dev"
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Latchkey", Version: version,
			Description: "Hands a parcel to the right person. Every error is RFC 9457 application/problem+json; its code says what went wrong.",
		},
		// Where it is reached; else below the document's own address.
		Servers: []*huma.Server{{URL: cmp.Or(strings.TrimSuffix(c.PublicURL, "/"), "/")}},
		Tags:    audienceTags,
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer": {Type: "http", Scheme: "bearer", Description: "A JWT of an issuer that the service trusts, or an API key (lk_...)."},
			},
		},
	}
	if c.Sessions != nil {
		doc.Components.SecuritySchemes["session"] = &huma.SecurityScheme{
			Type: "apiKey", In: "cookie", Name: c.Sessions.CookieName(),
			Description: "The session of a browser that signed in. Every method but GET and HEAD must come from a page of the same origin and repeat " +
				"the session's token in " + auth.CSRFHeader + ". Beside an Authorization header it counts for nothing.",
		}
	}
	return doc
}

// audienceTags group the operations by who calls them.
var audienceTags = []*huma.Tag{
	{Name: "Warehouse", Description: "For a shop and its warehouse: parcels that leave, and what becomes of them."},
	{Name: "Carrier", Description: "For a carrier's dispatcher: couriers, and who drives which route."},
	{Name: "Courier", Description: "For the courier at the door: today's stops, handing over, opening doors."},
	{Name: "Customer", Description: "For the recipient, and for the shop on the recipient's behalf: codes, consent, history."},
	{Name: "Building", Description: "For a building's manager: what the building allows, its doors, its access log."},
	{Name: "Residents", Description: "For the people who live in a building: notices of what is installed and opened."},
	{Name: "Door", Description: "For door controllers: permits as they come, and reports of what the door did."},
	{Name: "Receipt", Description: "For all who took part in a handoff: its signed receipt, and the keys for everybody."},
	{Name: "Operation", Description: "For the operator: events, figures, orders."},
}

// patterns are the rules that tags name by a format of ours, each written down once. Huma
// would compile a pattern in a tag wherever it stands, some hundred times, and never use
// it: bodies and parameters hold themselves to their rules.
var patterns = map[string]string{"id": idRule, "language": localeRule.String()}

// spellOut puts the patterns where tags named them.
func spellOut(s *huma.Schema) {
	if s == nil {
		return
	}
	if pattern, ours := patterns[s.Format]; ours {
		s.Format, s.Pattern = "", pattern
	}
	spellOut(s.Items)
	for _, p := range s.Properties {
		spellOut(p)
	}
}

// settle finishes the document, once every route is registered: it spells patterns out,
// gives each body an example, and describes each status.
func settle(doc *huma.OpenAPI) {
	schemas := doc.Components.Schemas
	for _, s := range schemas.Map() {
		spellOut(s)
	}
	for _, item := range doc.Paths {
		for _, op := range operationsOf(item) {
			for _, p := range op.Parameters {
				spellOut(p.Schema)
			}
			if op.RequestBody != nil {
				illustrate(op.RequestBody.Content, schemas)
			}
			for code, r := range op.Responses {
				status, _ := strconv.Atoi(code)
				if p, known := plain[status]; known {
					r.Description = p.title
				}
				if content := r.Content[problemJSON]; content != nil {
					content.Example = exampleProblem(status)
				}
				illustrate(r.Content, schemas)
			}
			// What is not foreseen here, or comes from a proxy on the way, is a problem as well.
			op.Responses["default"] = &huma.Response{
				Description: "Any other problem",
				Content: map[string]*huma.MediaType{problemJSON: {
					Schema: schemas.Schema(reflect.TypeFor[Problem](), true, ""), Example: exampleProblem(0),
				}},
			}
		}
	}
}

// exampleProblem is the plain problem of a status; 0 is that of a failure of ours.
func exampleProblem(status int) map[string]any {
	p := newProblem(cmp.Or(status, http.StatusInternalServerError))
	if _, known := plain[status]; !known && status != 0 { // a refusal's alone
		for reason, k := range kinds {
			if k.status == status && (p.Status != status || string(reason) < p.Code) {
				p = problemOf(&handoff.Refusal{Reason: reason})
			}
		}
	}
	return map[string]any{"type": p.Type, "code": p.Code, "title": p.Title, "status": p.Status}
}

// illustrate gives each body that has none an example.
func illustrate(content map[string]*huma.MediaType, schemas huma.Registry) {
	for _, m := range content {
		if m.Example == nil && m.Schema != nil {
			m.Example = exampleOf(m.Schema, schemas)
		}
	}
}

// exampleOf is a value of a schema, made of the examples of its parts.
func exampleOf(s *huma.Schema, schemas huma.Registry) any {
	if s.Ref != "" {
		s = schemas.SchemaFromRef(s.Ref)
	}
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.Type {
	case huma.TypeObject:
		o := map[string]any{}
		for name, p := range s.Properties {
			o[name] = exampleOf(p, schemas)
		}
		return o
	case huma.TypeArray:
		if s.Items == nil {
			return []any{}
		}
		return []any{exampleOf(s.Items, schemas)}
	case huma.TypeBoolean:
		return true
	case huma.TypeInteger, huma.TypeNumber:
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	}
	switch s.Format {
	case "date":
		return "2026-11-24"
	case "date-time":
		return "2026-11-24T11:02:03Z"
	case "uri":
		return "https://latchkey.example"
	}
	return exampleText(s.Pattern)
}

// exampleText is a text of a pattern that no tag gives an example of.
func exampleText(pattern string) string {
	for _, text := range []string{"text", "07:00", "24:00", "12345678", "b0d4542a73df65f714023f260b3bc95a", "EUR", strings.Repeat("A", 43)} {
		if fits, err := regexp.MatchString(pattern, text); err == nil && fits {
			return text
		}
	}
	return "text"
}

// operationsOf are the operations of a path, by method.
func operationsOf(item *huma.PathItem) map[string]*huma.Operation {
	all := map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPut: item.Put, http.MethodPost: item.Post, http.MethodDelete: item.Delete, http.MethodPatch: item.Patch,
	}
	maps.DeleteFunc(all, func(_ string, op *huma.Operation) bool { return op == nil })
	return all
}

// description serves the OpenAPI document, as it stands once every route is registered.
func description(app *fiber.App, doc *huma.OpenAPI) error {
	settle(doc)
	spec, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("api: the OpenAPI document: %w", err)
	}
	app.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(spec)
	})
	return nil
}
