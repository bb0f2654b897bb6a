package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"latchkey/api/auth"
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

// settle finishes the document, once every route is registered.
func settle(doc *huma.OpenAPI) {
	for _, s := range doc.Components.Schemas.Map() {
		spellOut(s)
	}
	for _, item := range doc.Paths {
		for _, op := range operationsOf(item) {
			for _, p := range op.Parameters {
				spellOut(p.Schema)
			}
		}
	}
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
