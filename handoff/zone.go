package handoff

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// The zones of addresses come from this copy of the IANA time zone database alone, so that
// a name means the same on every machine: time.LoadLocation asks the host's files first.
// The copy is the one that Go ships; a test says when Go has a newer one.
//
//go:generate sh -c "cp \"$(go env GOROOT)/lib/time/zoneinfo.zip\" zoneinfo.zip"
//go:embed zoneinfo.zip
var zoneDatabase []byte

// ErrZone says that a name is none of a zone, or, from PlaceZone, of a zone that is no place.
var ErrZone = errors.New("must be the zone of a place in the IANA time zone database, such as Europe/Berlin; UTC, EST, Etc/GMT+1 and the like are no places")

// zoneFiles are the database's files by the names of their zones.
var zoneFiles = sync.OnceValue(func() map[string]*zip.File {
	db, err := zip.NewReader(bytes.NewReader(zoneDatabase), int64(len(zoneDatabase)))
	if err != nil {
		panic("handoff: zoneinfo.zip is no zip file: " + err.Error()) // a part of the program
	}
	files := make(map[string]*zip.File, len(db.File))
	for _, f := range db.File {
		if !strings.HasSuffix(f.Name, "/") {
			files[f.Name] = f
		}
	}
	return files
})

var zones sync.Map // zone name -> *time.Location; loading one parses its whole history

// Zone loads a zone by the exact name that the database has for it, UTC and other zones of
// no place among them. "Local", the empty name and paths are no names. The error is ErrZone.
func Zone(name string) (*time.Location, error) {
	if z, ok := zones.Load(name); ok {
		return z.(*time.Location), nil
	}
	file, listed := zoneFiles()[name]
	if !listed {
		return nil, ErrZone
	}
	z, err := load(name, file)
	if err != nil {
		return nil, err
	}
	zones.Store(name, z)
	return z, nil
}

func load(name string, file *zip.File) (*time.Location, error) {
	r, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(name, data)
}

// PlaceZone is Zone for an address: the name must be of a place. A place's older name
// (US/Eastern, Asia/Calcutta, Japan) is one, too. The error is ErrZone.
func PlaceZone(name string) (*time.Location, error) {
	area, _, divided := strings.Cut(name, "/")
	if divided && slices.Contains(noAreas, area) || !divided && !slices.Contains(countries, name) {
		return nil, ErrZone
	}
	return Zone(name)
}

// noAreas are the parts of the database that hold zones of no place: fixed offsets, and, in
// some builds of it, copies whose clocks count leap seconds.
var noAreas = []string{"Etc", "SystemV", "posix", "right"}

// countries are the names without an area that stand for a place. The database has no new
// ones: they are its names from before 1993, kept as links (file backward). All others of
// the kind are of no place: UTC, GMT, Zulu, EST, MST, HST, CET, PST8PDT, Factory.
var countries = []string{
	"Cuba", "Egypt", "Eire", "GB", "GB-Eire", "Hongkong", "Iceland", "Iran", "Israel", "Jamaica", "Japan", "Kwajalein",
	"Libya", "NZ", "NZ-CHAT", "Navajo", "PRC", "Poland", "Portugal", "ROC", "ROK", "Singapore", "Turkey", "W-SU",
}
