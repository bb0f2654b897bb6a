// Package courier is the courier's phone: the stops of today, the doors on the way to
// them, the code pad, and what to do when something is refused.
//
// The list is rendered here and readable without a script. All that is done at a door is
// done by modules, through the service's contract below /v1: a phone in a lift has no
// network, and the page must know what it could not send. What it knows it keeps in
// memory alone, since phones are stolen: no storage, no cookie, no address holds a parcel,
// a code or a permit, and the service worker keeps what is the same for everybody.
package courier

import (
	"embed"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
)

//go:embed assets pages words.yaml
var files embed.FS

//go:embed worker.js
var worker string

// Set is the courier's pages:
//
//	GET /courier                        the stops, and everything that is done at them
//	GET /courier/shell                  the same without a session: what the phone shows without a network
//	GET /courier/worker.js              the service worker
//	GET /courier/manifest.webmanifest   makes it installable
func Set() frame.Set {
	return frame.Set{Name: "courier", Files: files, Home: "/courier", Scopes: []auth.Scope{auth.Courier}, Routes: func(r *frame.Pages) {
		r.Handle("GET /courier", stops)
		r.Public("GET /courier/shell", shell)
		r.Public("GET /courier/worker.js", serviceWorker)
		r.Public("GET /courier/manifest.webmanifest", manifest)
	}}
}

// stop is a stop as the API tells it. What the list shows is read, and all of it is handed
// to the script.
type stop struct {
	ID          string    `json:"stop_id"`
	Tail        string    `json:"parcel_last4"`
	Purpose     string    `json:"purpose"`
	Status      string    `json:"status"`
	ValidUntil  time.Time `json:"valid_until"`
	Attempted   int       `json:"attempted"`
	Name        string    `json:"name"`
	Lines       []string  `json:"lines"`
	Unit        string    `json:"unit"`
	City        string    `json:"city"`
	Postal      string    `json:"postal_code"`
	Zone        string    `json:"time_zone"`
	Whole       string    `json:"-"` // as the API told it
	AbortableTo time.Time `json:"abortable_until"`
}

// Open reports whether something is to be done there.
func (s *stop) Open() bool { return s.Status == "active" }

// Tone is how a status feels.
func (s *stop) Tone() string {
	switch s.Status {
	case "released", "collected":
		return "good"
	case "held", "recalled", "expired":
		return "warn"
	}
	return "plain"
}

// shown is what the page shows.
type shown struct {
	Open, Done []*stop
	Refused    string            // why there is no list, as a code of the API
	Shell      bool              // the page without a session
	Words      map[string]string // of the script
	Decoder    string            // the path of what reads labels where the browser cannot
	QR         string            // the path of what writes QR codes
}

func view(v *frame.Visit) shown {
	return shown{
		Words:   v.Under("js", "refused", "proof", "door", "where"),
		Decoder: v.Asset("courier/zxing.js"), QR: v.Asset("courier/lean-qr.js"),
	}
}

func stops(v *frame.Visit) {
	s := view(v)
	answer := v.Ask(http.MethodGet, "/v1/courier/stops", nil)
	switch {
	case answer.OK():
		var list struct{ Stops []json.RawMessage }
		if err := answer.Read(&list); err != nil {
			v.Broken(err)
			return
		}
		for _, raw := range list.Stops {
			one := &stop{Whole: string(raw)}
			if err := json.Unmarshal(raw, one); err != nil {
				v.Broken(err)
				return
			}
			if one.Open() {
				s.Open = append(s.Open, one)
			} else {
				s.Done = append(s.Done, one)
			}
		}
	case answer.Code() == "courier-not-cleared":
		s.Refused = answer.Code()
	default:
		v.FailAs(answer)
		return
	}
	v.Render(http.StatusOK, "courier", s)
}

// shell is the page without a visitor, and must stay so: the phone keeps it.
func shell(v *frame.Visit) {
	v.Visitor, v.SignedIn, v.Bare, v.Shared = frame.Visitor{}, false, true, true
	s := view(v)
	s.Shell = true
	v.Render(http.StatusOK, "courier", s)
}

// kept is what the service worker keeps: the shell, and what it needs to be looked at.
var kept = []string{
	"frame/style.css", "frame/times.js", "frame/live.js", "frame/call.js", "frame/icon.svg",
	"courier/courier.css", "courier/courier.js", "courier/attempt.js", "courier/doors.js", "courier/position.js", "courier/scan.js", "courier/label.js", "courier/pieces.js",
	"courier/lean-qr.js", "courier/icon-192.png",
}

func serviceWorker(v *frame.Visit) {
	assets := make([]string, len(kept))
	for i, name := range kept {
		assets[i] = v.Asset(name)
	}
	list, err := json.Marshal(map[string]any{"language": v.Lang, "assets": assets})
	if err != nil {
		v.Broken(err)
		return
	}
	h := v.W.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Service-Worker-Allowed", "/courier")
	_, _ = v.W.Write([]byte("const kept = " + string(list) + ";\n" + worker)) // the client has gone
}

func manifest(v *frame.Visit) {
	name, err := v.Say("app.name")
	if err != nil {
		v.Broken(err)
		return
	}
	icon := func(name, size, purpose string) map[string]string {
		media := "image/png"
		if strings.HasSuffix(name, ".svg") {
			media = "image/svg+xml"
		}
		return map[string]string{"src": v.Asset(name), "sizes": size, "type": media, "purpose": purpose}
	}
	content, err := json.Marshal(map[string]any{
		"id": "/courier", "start_url": "/courier", "scope": "/courier", "name": string(name), "short_name": "Latchkey", "lang": v.Lang,
		"display": "standalone", "orientation": "portrait", "background_color": "#f4f2ee", "theme_color": "#17324d",
		"icons": []any{
			icon("frame/icon.svg", "any", "any"), icon("courier/icon-192.png", "192x192", "any"),
			icon("courier/icon-512.png", "512x512", "any"), icon("courier/icon-maskable-512.png", "512x512", "maskable"),
		},
	})
	if err != nil {
		v.Broken(err)
		return
	}
	v.W.Header().Set("Content-Type", "application/manifest+json")
	_, _ = v.W.Write(content) // the client has gone
}
