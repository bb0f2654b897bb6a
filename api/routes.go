package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
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
	op.Errors = failures(op, scopes, reflect.TypeFor[I]())
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

// failures are the statuses of an operation's problems: those that it names itself, and
// those that come with its form.
func failures(op huma.Operation, scopes []auth.Scope, input reflect.Type) []int {
	all := append([]int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}, op.Errors...)
	if scopes == nil || len(scopes) > 0 {
		all = append(all, http.StatusUnauthorized, http.StatusForbidden)
	}
	if strings.Contains(op.Path, "{") {
		all = append(all, http.StatusNotFound)
	}
	if _, body := input.FieldByName("Body"); body || op.RequestBody != nil {
		all = append(all, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if input.NumField() > 0 {
		all = append(all, http.StatusUnprocessableEntity)
	}
	slices.Sort(all)
	return slices.Compact(all)
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

// allowed are the methods that a path takes, as Allow lists them (RFC 9110 section 10.2.1);
// empty if there is no such path.
func (s *server) allowed(path string) string {
	var methods []string
	for _, routes := range s.app.Stack() {
		for _, r := range routes {
			if r.Path == "/" || !matches(r.Path, path) { // the middleware's stands at the root
				continue
			}
			methods = append(methods, r.Method)
			if r.Method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
	}
	slices.Sort(methods)
	return strings.Join(slices.Compact(methods), ", ")
}

// matches reports whether a path is one of a route's.
func matches(route, path string) bool {
	parts, segments := strings.Split(route, "/"), strings.Split(path, "/")
	return slices.EqualFunc(parts, segments, func(part, segment string) bool {
		return part == segment || strings.HasPrefix(part, ":") && segment != ""
	})
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
