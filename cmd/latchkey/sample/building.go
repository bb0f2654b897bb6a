package sample

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed building.json
var building []byte

// Building is the one house of the day that has doors: where the first line goes. It
// admits swift alone, so that rival's parcels for it show what a building refuses.
type Building struct {
	ID       string          `json:"building_id"`
	Building json.RawMessage `json:"building"` // as PUT /v1/buildings/{building_id} takes it
	Doors    []Door          `json:"doors"`    // from the street inwards
}

// Door is one door of the building.
type Door struct {
	ID   string   `json:"door_id"`
	Body DoorBody `json:"door"`
}

// DoorBody is a door as PUT /v1/doors/{door_id} takes it. The file leaves out the public
// key, which a door makes when it is enrolled.
type DoorBody struct {
	BuildingID string   `json:"building_id"`
	Kind       string   `json:"kind"`
	Mode       string   `json:"mode"`
	Location   Location `json:"location"`
	RelockS    int      `json:"relock_s"`
	Owner      *Owner   `json:"owner,omitempty"`
	PublicKey  string   `json:"public_key,omitempty"`
}

// Location is in degrees.
type Location struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

// Owner is the customer whose garage it is.
type Owner struct {
	ShopID     string `json:"shop_id"`
	CustomerID string `json:"customer_id"`
}

// TheBuilding returns the day's building.
func TheBuilding() Building {
	dec := json.NewDecoder(bytes.NewReader(building))
	dec.DisallowUnknownFields()
	var b Building
	if err := dec.Decode(&b); err != nil {
		panic(fmt.Sprintf("sample: building.json: %v", err))
	}
	return b
}
