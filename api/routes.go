package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/go-json-experiment/json"
	"github.com/gofiber/fiber/v2"

	"latchkey/api/auth"
)

// registrar is where the audiences register their operations.
type registrar struct {
	huma    huma.API
	scopes  map[string][]auth.Scope // by operation id
	cookies bool                    // a session's cookie is accepted in place of a token
}

// route registers an operation for those who hold any of the scopes. Bodies and ids
// parse themselves, so huma's own validation is off.
func route[I, O any](r *registrar, op huma.Operation, scopes []auth.Scope, handle func(context.Context, *I) (*O, error)) {
	op.SkipValidateBody, op.SkipValidateParams = true, true
	op.MaxBodyBytes = bodyLimit + 1 // huma refuses a body that is as long as its limit
	op.BodyReadTimeout = -1         // the body is here; huma would leave its deadline on the connection
	r.scopes[op.OperationID] = scopes
	op.Security = r.secured(scopes)
	optionalBody := op.RequestBody != nil && !op.RequestBody.Required
	huma.Register(r.huma, op, func(ctx context.Context, in *I) (*O, error) {
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
func (r *registrar) secured(scopes []auth.Scope) []map[string][]string {
	any := make([]map[string][]string, 0, 2*len(scopes))
	for _, s := range scopes {
		any = append(any, map[string][]string{"bearer": {string(s)}})
		if r.cookies {
			any = append(any, map[string][]string{"session": {string(s)}})
		}
	}
	return any
}

// bracketed writes a route's parameters as OpenAPI does: /v1/handoffs/{grant_id}.
func bracketed(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if name, ok := strings.CutPrefix(part, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}

var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error { return json.MarshalWrite(w, v) },
	Unmarshal: func(data []byte, v any) error {
		d, ok := v.(decoder)
		if !ok {
			return errors.New("api: a request body that does not parse itself")
		}
		d.decode(data)
		return nil
	},
}

// annotate is the last that sees a response's body before it is written.
func annotate(ctx huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*Problem); ok {
		p.annotate(humafiber.Unwrap(ctx).Context())
	}
	return v, nil
}

// acceptable holds a body to the content type of its route. None at all is taken for it.
func acceptable(ctx huma.Context, op *huma.Operation) *Problem {
	sent := ctx.Header(fiber.HeaderContentType)
	if op.RequestBody == nil || sent == "" {
		return nil
	}
	media, _, _ := strings.Cut(sent, ";")
	for accepted := range op.RequestBody.Content {
		if strings.EqualFold(strings.TrimSpace(media), accepted) {
			return nil
		}
	}
	p := newProblem(http.StatusUnsupportedMediaType)
	for accepted := range op.RequestBody.Content {
		p.Detail = "Send " + accepted + "."
	}
	return p
}
