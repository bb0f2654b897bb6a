package api

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"latchkey/api/auth"
)

// describe is the frame of the OpenAPI document.
func (a *api) describe() *huma.OpenAPI {
	version := a.Version
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
	if a.Sessions != nil {
		doc.Components.SecuritySchemes["session"] = &huma.SecurityScheme{
			Type: "apiKey", In: "cookie", Name: a.Sessions.CookieName(),
			Description: "The session of a browser that signed in. Every method but GET and HEAD must come from a page of the same origin and repeat " +
				"the session's token in " + auth.CSRFHeader + ". Beside an Authorization header it counts for nothing.",
		}
	}
	return doc
}

// route registers an operation for those who hold any of the scopes. Bodies and ids
// parse themselves, so huma's own validation is off.
func route[I, O any](a *api, op huma.Operation, scopes []auth.Scope, handle func(context.Context, *I) (*O, error)) {
	op.SkipValidateBody, op.SkipValidateParams = true, true
	op.MaxBodyBytes = bodyLimit + 1 // huma refuses a body that is as long as its limit
	op.BodyReadTimeout = -1         // the body is here; huma would leave its deadline on the connection
	a.scopes[op.OperationID] = scopes
	op.Security = a.secured(scopes)
	optionalBody := op.RequestBody != nil && !op.RequestBody.Required
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, problemOf(err)
		}
		return out, nil
	})
	if optionalBody {
		op.RequestBody.Required = false // huma takes every struct for required
	}
}

// secured lists the scopes as alternatives. OpenAPI 3.1 lets every scheme name roles.
func (a *api) secured(scopes []auth.Scope) []map[string][]string {
	any := make([]map[string][]string, 0, 2*len(scopes))
	for _, s := range scopes {
		any = append(any, map[string][]string{"bearer": {string(s)}})
		if a.Sessions != nil {
			any = append(any, map[string][]string{"session": {string(s)}})
		}
	}
	return any
}

// docs are the pages of the documentation: swagger-ui-dist 5.35.0 from npm, as it
// comes, and what starts it.
//
//go:embed docs
var docs embed.FS

// docsPolicy lets the pages load from here only, and run no inline script.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pages are the routes that need no token.
func (a *api) pages(app *fiber.App) error {
	spec, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("api: the OpenAPI document: %w", err)
	}
	app.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(spec)
	})
	app.Get("/docs", func(c *fiber.Ctx) error { return c.Redirect("/docs/", http.StatusPermanentRedirect) })
	for file, media := range map[string]string{
		"index.html": fiber.MIMETextHTMLCharsetUTF8, "start.js": fiber.MIMETextJavaScriptCharsetUTF8, "page.css": "text/css; charset=utf-8",
		"swagger-ui-bundle.js": fiber.MIMETextJavaScriptCharsetUTF8, "swagger-ui.css": "text/css; charset=utf-8",
	} {
		content, err := docs.ReadFile("docs/" + file)
		if err != nil {
			return fmt.Errorf("api: documentation: %w", err)
		}
		page := "/docs/" + file
		if file == "index.html" {
			page = "/docs/"
		}
		app.Get(page, func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderContentSecurityPolicy, docsPolicy)
			c.Set(fiber.HeaderCacheControl, "public, max-age="+strconv.Itoa(int(time.Hour/time.Second)))
			c.Set(fiber.HeaderContentType, media)
			return c.Send(content)
		})
	}

	app.Get("/healthz", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"status": "ok"}) })
	app.Get("/readyz", func(c *fiber.Ctx) error {
		if a.Ready != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := a.Ready(ctx); err != nil {
				p := newProblem(http.StatusServiceUnavailable)
				p.cause = err
				return p
			}
		}
		return c.JSON(fiber.Map{"status": "ready"})
	})
	if a.Gatherer != nil {
		show := fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(a.Gatherer, promhttp.HandlerOpts{}))
		app.Get("/metrics", func(c *fiber.Ctx) error {
			show(c.Context())
			return nil
		})
	}
	return nil
}
