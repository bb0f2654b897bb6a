package api_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"latchkey/api/auth"
	"latchkey/handoff/redisstore/embedded"
)

// What may be compressed is, for those who take it; what holds a code or a token never is.
func TestCompression(t *testing.T) {
	h := newHouse(t, embedded.New(t))
	h.staff(t)
	grant := ""
	for n := range 12 { // long enough to be worth it
		grant = h.dispatch(t, fmt.Sprintf("P%d", n), nil)
	}
	ask := func(who *auth.Principal, method, path, accept string) (*http.Response, []byte) {
		t.Helper()
		r := httptest.NewRequest(method, path, nil)
		if who != nil {
			r.Header.Set("Authorization", "Bearer "+h.token(t, *who))
		}
		r.Header.Set("Accept-Encoding", accept)
		resp, err := h.app.Test(r, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	for path, c := range map[string]struct {
		who    *auth.Principal
		packed bool
	}{
		"/v1/courier/stops": {&courier, true},
		"/v1/events":        {&ops, true},
		"/v1/ops/numbers?day=2026-11-24&zone=Europe/Berlin": {&ops, true},
		"/openapi.json":                    {nil, true},
		"/docs/swagger-ui.css":             {nil, true},
		"/v1/customers/cus_81/handoffs":    {&customer, false}, // codes
		"/v1/handoffs/" + grant:            {&customer, false},
		"/v1/dispatches/" + grant:          {&warehouse, false}, // short, and not listed
		"/v1/events?cursor=made-up-cursor": {&ops, false},       // a refusal
	} {
		plain, want := ask(c.who, "GET", path, "identity")
		if plain.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s is packed for who does not take it", path)
		}
		resp, body := ask(c.who, "GET", path, "gzip, br")
		if resp.StatusCode != plain.StatusCode || (resp.Header.Get("Content-Encoding") == "gzip") != c.packed {
			t.Errorf("%s: %d, packed as %q", path, resp.StatusCode, resp.Header.Get("Content-Encoding"))
			continue
		}
		if !c.packed {
			continue
		}
		if !slices.Contains(resp.Header.Values("Vary"), "Accept-Encoding") || !slices.Contains(plain.Header.Values("Vary"), "Accept-Encoding") {
			t.Errorf("%s: Vary is %q and %q", path, resp.Header.Values("Vary"), plain.Header.Values("Vary"))
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, want) || len(body) >= len(want)*9/10 {
			t.Errorf("%s: %d bytes of %d, %v", path, len(body), len(want), err)
		}
		head, nothing := ask(c.who, "HEAD", path, "gzip")
		if len(nothing) != 0 || head.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("HEAD %s: %d bytes, %v", path, len(nothing), head.Header)
		}
	}
}

// No operation whose answer holds a code, a token, a permit or a PIN is among the compressed:
// what the description says of answers is walked.
func TestNothingSecretIsCompressed(t *testing.T) {
	h := newHouse(t, embedded.New(t))
	doc := h.do(t, ops, "GET", "/openapi.json", "")
	secret := regexp.MustCompile(`^(code|permit|pin|token|path|csrf|secret|key)$`)
	seen := 0
	for _, o := range operations() {
		method, path, _ := strings.Cut(o.call, " ")
		op, _ := doc.at("paths", path, strings.ToLower(method)).(map[string]any)
		id, _ := op["operationId"].(string)
		ref, _ := (&answer{body: op}).at("responses", "200", "content", "application/json", "schema", "$ref").(string)
		fields := fieldsOf(doc, ref, map[string]bool{})
		if !slices.ContainsFunc(fields, secret.MatchString) {
			continue
		}
		seen++
		if compressed[id] {
			t.Errorf("%s is compressed, and its answer has %v", id, fields)
		}
	}
	if seen < 4 {
		t.Errorf("only %d operations answer with secrets: is the description read?", seen)
	}
}

// compressed are the operations that are.
var compressed = map[string]bool{"courier-stops": true, "events": true, "numbers": true, "access-log": true, "get-order": true}

// fieldsOf are the names of a schema's fields, and of those below it.
func fieldsOf(doc *answer, ref string, seen map[string]bool) (names []string) {
	name := ref[strings.LastIndexByte(ref, '/')+1:]
	if ref == "" || seen[name] || name == "Warning" { // whose code is a word of ours
		return nil
	}
	seen[name] = true
	properties, _ := doc.at("components", "schemas", name, "properties").(map[string]any)
	for field, schema := range properties {
		names = append(names, field)
		s := answer{body: schema.(map[string]any)}
		for _, below := range [][]string{{"$ref"}, {"items", "$ref"}} {
			if ref, is := s.at(below...).(string); is {
				names = append(names, fieldsOf(doc, ref, seen)...)
			}
		}
	}
	return names
}
