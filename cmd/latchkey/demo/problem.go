package demo

import (
	"net/http"

	"github.com/go-json-experiment/json"
)

// problem is an error as callers see it: RFC 9457 problem details, of the same form as
// the API's. It never repeats what was sent.
type problem struct {
	Type   string      `json:"type"`
	Code   string      `json:"code"`
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail,omitzero"`
	Errors []violation `json:"errors,omitempty"`
}

// violation is a rule that a request breaks, and where.
type violation struct {
	Location string `json:"location"`
	Message  string `json:"message"`
}

var problems = map[int]struct{ code, title, detail string }{
	400: {"bad-request", "Not understood", "Send one JSON object in UTF-8."},
	403: {"cross-origin", "Not from another site", "Only the demo's own pages and programs on this machine may do this."},
	404: {"not-found", "No such page", ""},
	405: {"method-not-allowed", "Method not allowed", ""},
	409: {"clock-behind", "The clock only moves forward", "Ask for the time with GET /demo/clock."},
	413: {"body-too-large", "Body too large", ""},
	421: {"misdirected-request", "Not for this host", "Use http://localhost or http://127.0.0.1 and the demo's port."},
	422: {"invalid-request", "The request breaks a rule", ""},
	500: {"internal-error", "Something broke", ""},
}

func newProblem(status int) *problem {
	p := problems[status]
	return &problem{Type: "urn:latchkey:problem:" + p.code, Code: p.code, Title: p.title, Status: status, Detail: p.detail}
}

func invalid(broken ...violation) *problem {
	p := newProblem(http.StatusUnprocessableEntity)
	p.Errors = broken
	return p
}

func (p *problem) write(w http.ResponseWriter) { writeJSON(w, p.Status, "application/problem+json", p) }

func writeJSON(w http.ResponseWriter, status int, mediaType string, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // all bodies are types of this package
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	w.Write(data) //nolint:errcheck // the client has gone
}
