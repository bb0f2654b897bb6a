package api

import (
	"embed"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
)

// docs are the pages of the documentation: swagger-ui-dist 5.35.0 from npm, as it
// comes, and what starts it.
//
//go:embed docs
var docs embed.FS

// docsPolicy lets the pages load from here only, and run no inline script.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// documentation serves the pages that show the OpenAPI document.
func documentation(app *fiber.App) error {
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
	return nil
}
