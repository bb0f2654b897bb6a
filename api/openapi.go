package api

import (
	"encoding/json"
	"fmt"

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

// description serves the OpenAPI document, as it stands once every route is registered.
func description(app *fiber.App, doc *huma.OpenAPI) error {
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
