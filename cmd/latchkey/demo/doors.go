package demo

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"latchkey/api/web/frame"
)

// doorsAnswer is the building as the log tells it.
type doorsAnswer struct {
	Now        time.Time    `json:"now"`
	BuildingID string       `json:"building_id"`
	Doors      []doorAnswer `json:"doors"`  // from the street inwards
	Events     []happening  `json:"events"` // at the doors, newest first
}

type doorAnswer struct {
	DoorID string `json:"door_id"`
	Kind   string `json:"kind"`
	Mode   string `json:"mode"`

	// State is that of the unlock that holds the door open, or of the latest: as
	// GET /v1/doors/{door_id}/unlocks/{permit_id} has it, and empty before the first.
	State    string `json:"state"`
	PermitID string `json:"permit_id"`
	Steps    []step `json:"steps"`

	// Stale says that the door should have said more by now: what State says may be over.
	Stale bool `json:"stale"`
	Cut   bool `json:"cut"` // its network, here in the demo
}

// late is how long after its time a door that was unlocked should have said more.
const late = 15 * time.Second

func (h *House) answer() doorsAnswer {
	now := h.clock.Now()
	a := doorsAnswer{Now: now, BuildingID: h.building.ID, Events: h.ledger.latest()}
	for _, d := range h.doors {
		view := doorAnswer{DoorID: d.ID, Kind: d.Body.Kind, Mode: d.Body.Mode, Steps: []step{}, Cut: d.cable.isCut()}
		if u := h.ledger.shown(d.ID, now); u != nil {
			view.State, view.PermitID, view.Steps = u.state, u.permit.String(), u.steps
			view.Stale = u.holds() && now.Sub(u.since()) > time.Duration(d.Body.RelockS)*time.Second+late
		}
		a.Doors = append(a.Doors, view)
	}
	return a
}

// doors shows the building. Programs get JSON.
func (s *site) doors(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	switch {
	case prefersHTML(r.Header.Values("Accept")):
		s.page(w, r, "doors", func(v *frame.Visit) (any, error) {
			parcels, err := labelled(v, s.parcels)
			return map[string]any{"House": s.House, "Parcels": parcels}, err
		})
	case s.House == nil:
		newProblem(http.StatusNotFound).write(w)
	default:
		writeJSON(w, http.StatusOK, "application/json", s.House.answer())
	}
}

// houseDoor is the door that a request names; nil, with the problem written, if there is
// none.
func (s *site) houseDoor(w http.ResponseWriter, r *http.Request) (d *houseDoor) {
	if s.House != nil {
		d = s.House.door(r.PathValue("id"))
	}
	if d == nil {
		newProblem(http.StatusNotFound).write(w)
	}
	return d
}

// network cuts a door's network, or mends it.
func (s *site) network(w http.ResponseWriter, r *http.Request) {
	d := s.houseDoor(w, r)
	if d == nil {
		return
	}
	var to struct {
		Cut *bool `json:"cut"`
	}
	if p := decode(w, r, &to); p != nil {
		p.write(w)
		return
	}
	if to.Cut == nil {
		invalid(violation{"body.cut", "is required"}).write(w)
		return
	}
	d.cable.cut(*to.Cut)
	writeJSON(w, http.StatusOK, "application/json", map[string]bool{"cut": d.cable.isCut()})
}

// read is what a person at a door does: read its challenge, or hold a phone
// with a permit to it.
func (s *site) read(w http.ResponseWriter, r *http.Request) {
	d := s.houseDoor(w, r)
	if d == nil {
		return
	}
	if d.reader == nil {
		newProblem(http.StatusNotFound).write(w)
		return
	}
	line := "challenge"
	if strings.HasSuffix(r.URL.Path, "/permit") {
		var brought struct {
			Permit string `json:"permit"`
		}
		if p := decode(w, r, &brought); p != nil {
			p.write(w)
			return
		}
		// The reader takes any line; only permits come from here.
		if _, err := base64.RawURLEncoding.Strict().DecodeString(brought.Permit); err != nil || brought.Permit == "" {
			invalid(violation{"body.permit", "must be bytes in base64url"}).write(w)
			return
		}
		line = brought.Permit
	}
	answer, err := d.reader.ask(line)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", answer)
}
