package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"latchkey/api/auth"
)

// A customer whose provider calls them auth0|1 is found under the id that the command tells.
func TestSubjectsOfProviders(t *testing.T) {
	s := newService(t)
	serve := start(t, s.args...)
	c := client{t, serve.url(t)}
	keyset := s.args[index(s.args, "--keyset")+1]
	_, told, _ := once("subject", "--keyset", keyset, "--issuer", s.issuer.Name, "auth0|1")
	id := strings.TrimSpace(told)
	if !strings.HasPrefix(id, "sub_") {
		t.Fatalf("told %q", told)
	}
	line, _, _ := strings.Cut(string(today(t)), "\n")
	var dispatch map[string]any
	if err := json.Unmarshal([]byte(line), &dispatch); err != nil {
		t.Fatal(err)
	}
	dispatch["customer"].(map[string]any)["id"] = id
	body, _ := json.Marshal(dispatch)
	warehouse := s.token(t, auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "w@warehouse.example", Shop: "demo"})
	status, answer := c.do("POST", "/v1/dispatches", warehouse, string(body))
	if status != http.StatusCreated {
		t.Fatalf("%d %v", status, answer)
	}
	grant := answer["grant_id"].(string)
	for subject, want := range map[string]int{"auth0|1": http.StatusOK, id: http.StatusNotFound, "auth0|2": http.StatusNotFound} {
		who := s.token(t, auth.Principal{Scopes: []auth.Scope{auth.Customer}, Subject: subject, Shop: "demo"})
		if status, answer := c.do("GET", "/v1/handoffs/"+grant, who, ""); status != want {
			t.Errorf("%s: %d %v, want %d", subject, status, answer, want)
		}
	}
}
