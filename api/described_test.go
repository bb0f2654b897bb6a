package api_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"latchkey/api"
	"latchkey/api/auth"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/errors"
	"github.com/pb33f/libopenapi-validator/schema_validation"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
)

// described holds every answer that a test gets to the description that the same service
// serves: status, content type and body, in strict mode, in which a field that the
// description does not name is an error, too.
var described = struct {
	mu sync.Mutex
	by map[[sha256.Size]byte]*description // by document: most houses serve the same
}{by: map[[sha256.Size]byte]*description{}}

type description struct {
	validator.Validator
	statuses map[string]map[string][]string // by path and method
}

// describes is what a house says of itself; nil where it serves no document.
func (h *house) describes(t testing.TB) *description {
	t.Helper()
	h.once.Do(func() {
		resp, err := h.app.Test(httpRequest("GET", "/openapi.json"), -1)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			return // a house that refuses this host
		}
		described.mu.Lock()
		defer described.mu.Unlock()
		sum := sha256.Sum256(text)
		if h.description = described.by[sum]; h.description != nil {
			return
		}
		doc, err := libopenapi.NewDocument(readable(t, text))
		if err != nil {
			t.Fatalf("the description: %v", err)
		}
		model, err := doc.BuildV3Model()
		if err != nil {
			t.Fatalf("the description: %v", err)
		}
		d := &description{statuses: map[string]map[string][]string{}}
		for path, item := range model.Model.Paths.PathItems.FromOldest() {
			d.statuses[path] = map[string][]string{}
			for method, op := range item.GetOperations().FromOldest() {
				d.statuses[path][strings.ToUpper(method)] = slices.Collect(op.Responses.Codes.KeysFromOldest())
			}
		}
		var errs []error
		if d.Validator, errs = validator.NewValidator(doc, config.WithStrictMode(), config.WithStrictIgnorePaths("$.body.entry.**"), config.WithFormatAssertions(), config.WithoutSecurityValidation()); len(errs) > 0 {
			t.Fatalf("the description: %v", errs)
		}
		described.by[sum], h.description = d, d
	})
	return h.description
}

func httpRequest(method, path string) *http.Request {
	return &http.Request{Method: method, URL: &url.URL{Path: path}, Host: "latchkey.example", Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

// readable says the same as a document in the words that the validator knows: it does not
// look behind a reference that has a description beside it, and takes JSON lines for one
// JSON value, so that each line is shown to it by itself (see hold).
func readable(t testing.TB, text []byte) []byte {
	t.Helper()
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, is := v["$ref"].(string); is {
				delete(v, "description")
			}
			if lines, is := v["application/x-ndjson"].(map[string]any); is {
				v["application/x-ndjson"] = map[string]any{"schema": lines["schema"].(map[string]any)["contentSchema"]}
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(doc)
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// path is the description's path that a request is for; empty if there is none.
func (d *description) path(asked string) (found string) {
	segments := strings.Split(asked, "/")
	for known := range d.statuses {
		fits := slices.EqualFunc(strings.Split(known, "/"), segments, func(part, segment string) bool {
			return part == segment || strings.HasPrefix(part, "{") && segment != ""
		})
		if fits && (found == "" || !strings.Contains(known, "{")) { // literal parts come first
			found = known
		}
	}
	return found
}

// says reports whether a status of an operation is described by itself.
func (d *description) says(method, path string, status int) bool {
	return slices.Contains(d.statuses[d.path(path)][method], strconv.Itoa(status))
}

// mostLines are how many lines of one answer are looked at.
const mostLines = 100

// hold compares an answer with the description. What the router answers itself, before an
// operation is chosen, is described nowhere: another method, another host, a broken head.
func (h *house) hold(t testing.TB, req *http.Request, a *answer) {
	t.Helper()
	d := h.describes(t)
	if d == nil || d.path(req.URL.EscapedPath()) == "" || a.status == http.StatusMethodNotAllowed || a.status == http.StatusMisdirectedRequest {
		return
	}
	method := req.Method
	if method == http.MethodHead || d.statuses[d.path(req.URL.EscapedPath())][method] == nil {
		return // what answers HEAD is what answers GET; and doors/keys is no door, see reservedDoor
	}
	asked := &http.Request{Method: method, URL: &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath}, Header: http.Header{}}
	// Of the headers, what is not the same for every answer.
	header := http.Header{}
	for _, name := range []string{"Content-Type", "Cache-Control"} {
		header[name] = a.header[name]
	}
	bodies := []string{a.text}
	if a.header.Get("Content-Type") == "application/x-ndjson" {
		bodies = strings.Split(strings.TrimSuffix(a.text, "\n"), "\n")
	}
	var errs []*errors.ValidationError
	described.mu.Lock()
	for _, body := range bodies[:min(len(bodies), mostLines)] {
		if body == "" && len(bodies) == 1 && header.Get("Content-Type") == "application/x-ndjson" {
			continue // no line at all
		}
		given := &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
		_, bad := d.ValidateHttpResponse(asked, given)
		errs = append(errs, bad...)
	}
	described.mu.Unlock()
	ok := len(errs) == 0
	var said []string
	if !d.says(method, req.URL.EscapedPath(), a.status) {
		said, ok = append(said, "the status is covered by default alone"), false
	}
	if ok {
		return
	}
	for _, e := range errs {
		said = append(said, e.Message+": "+e.Reason)
		for _, s := range e.SchemaValidationErrors {
			said = append(said, fmt.Sprintf("  %s: %s", s.FieldPath, s.Reason))
		}
	}
	t.Errorf("%s %s answered %d, which the description does not say:\n%s\n%s", method, req.URL.Path, a.status, strings.Join(said, "\n"), a.text)
}

// The description is valid by itself, says where the service is, describes each tag that
// it uses and each refusal of an operation, and gives each body an example that is one.
func TestDescription(t *testing.T) {
	h := newHouse(t, nil, func(c *api.Config) { c.PublicURL = "https://latchkey.example/" })
	a := h.expect(t, ops, "GET", "/openapi.json", "", 200, "")
	doc, err := libopenapi.NewDocument(readable(t, []byte(a.text)))
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, bad := v.ValidateDocument(); !ok {
		t.Errorf("not a description: %v", bad)
	}
	model, err := doc.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	if servers := model.Model.Servers; len(servers) != 1 || servers[0].URL != "https://latchkey.example" {
		t.Errorf("servers: %+v", servers)
	}
	described := map[string]bool{}
	for _, tag := range model.Model.Tags {
		described[tag.Name] = tag.Description != ""
	}
	schemas, bodies := schema_validation.NewSchemaValidator(), 0
	body := func(name, kind string, content *v3.MediaType, example any) {
		if strings.Contains(kind, "ndjson") || kind == "text/event-stream" {
			return // an example of lines is a text
		}
		bodies++
		text, err := json.Marshal(example)
		if err != nil || example == nil {
			t.Errorf("%s: no example: %v", name, err)
			return
		}
		if ok, bad := schemas.ValidateSchemaBytes(content.Schema.Schema(), text); !ok {
			t.Errorf("%s: the example %s is none: %v", name, text, bad[0].SchemaValidationErrors[0].Reason)
		}
	}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			name, raw := op.OperationId, a.at("paths", path, method).(map[string]any)
			for _, tag := range op.Tags {
				if !described[tag] {
					t.Errorf("%s: the tag %s is not described", name, tag)
				}
			}
			refused := 0
			for code, r := range op.Responses.Codes.FromOldest() {
				for kind, content := range r.Content.FromOldest() {
					example := raw["responses"].(map[string]any)[code].(map[string]any)["content"].(map[string]any)[kind].(map[string]any)["example"]
					body(name+" "+code, kind, content, example)
					if code[0] == '4' {
						refused++
						if problem, _ := example.(map[string]any); kind != "application/problem+json" || fmt.Sprint(problem["status"]) != code {
							t.Errorf("%s %s: %s %v", name, code, kind, example)
						}
					}
				}
			}
			if refused == 0 {
				t.Errorf("%s: no refusal is described", name)
			}
			if op.RequestBody != nil {
				for kind, content := range op.RequestBody.Content.FromOldest() {
					example := raw["requestBody"].(map[string]any)["content"].(map[string]any)[kind].(map[string]any)["example"]
					body(name, kind, content, example)
				}
			}
		}
	}
	if bodies < 100 {
		t.Errorf("only %d bodies", bodies)
	}
}

// A generator takes a media type for JSON when its schema is an object: a text of lines is
// a text.
func TestLinesAreNoJSON(t *testing.T) {
	a := newHouse(t, nil).expect(t, ops, "GET", "/openapi.json", "", 200, "")
	for path, where := range map[string][]string{
		"/v1/dispatches/bulk":                           {"post", "responses", "200", "content"},
		"/v1/buildings/{building_id}/access-log/export": {"get", "responses", "200", "content"},
		"/v1/dispatches/bulk ":                          {"post", "requestBody", "content"},
	} {
		kind := a.at(append(append([]string{"paths", strings.TrimSpace(path)}, where...), "application/x-ndjson", "schema", "type")...)
		if kind != "string" {
			t.Errorf("%s: the lines are %v", path, kind)
		}
	}
}

// HEAD answers what GET does, without the body, and ends no stream; a method that a path
// does not take is told which it does.
func TestHeadAndAllow(t *testing.T) {
	h := house5(t)
	grant := h.dispatch(t, "P1", nil)
	gate := asDoor("gate")
	for path, who := range map[string]auth.Principal{
		"/v1/handoffs/" + grant: customer, "/v1/courier/stops": courier, "/v1/doors/gate": manager, "/v1/doors/keys": ops, "/openapi.json": ops,
		"/healthz": ops, "/docs/": ops, "/v1/buildings/bld_turm5/access-log": manager, "/v1/nothing": ops, "/v1/handoffs/none": customer,
	} {
		get, head := h.do(t, who, "GET", path, ""), h.do(t, who, "HEAD", path, "")
		if head.status != get.status || head.header.Get("Content-Type") != get.header.Get("Content-Type") || head.text != "" {
			t.Errorf("HEAD %s: %d %v %q; GET: %d", path, head.status, head.header, head.text, get.status)
		}
	}
	for _, path := range []string{"/v1/doors/gate/permits", "/v1/buildings/bld_turm5/access-log/export"} {
		who := manager
		if strings.Contains(path, "permits") {
			who = gate
		}
		if head := h.do(t, who, "HEAD", path, ""); head.status != 200 || head.text != "" || head.header.Get("Content-Type") == "" {
			t.Errorf("HEAD %s: %d %v", path, head.status, head.header)
		}
	}
	for _, c := range []struct{ method, path, want string }{
		{"DELETE", "/v1/courier/stops", "GET, HEAD"},
		{"FROB", "/v1/courier/stops", "GET, HEAD"},
		{"PATCH", "/v1/doors/gate", "DELETE, GET, HEAD, PUT"},
		{"GET", "/v1/parcels/P1/verify", "POST"},
		{"HEAD", "/v1/parcels/P1/verify", "POST"},
		{"POST", "/healthz", "GET, HEAD"},
		{"OPTIONS", "/v1/dispatches", "GET, HEAD, POST"},
	} {
		a := h.do(t, ops, c.method, c.path, "")
		if allow := a.header.Get("Allow"); a.status != 405 || allow != c.want {
			t.Errorf("%s %s: %d, Allow %q, want %q", c.method, c.path, a.status, allow, c.want)
		}
	}
	h.expect(t, ops, "FROB", "/nothing", "", 404, "not-found")
}
