package handoff

import (
	"bytes"
	"errors"
	"go/build"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// The host's zone files have no say: time.LoadLocation finds these names in them.
func TestZonesAreThoseOfTheDatabaseAlone(t *testing.T) {
	for _, name := range []string{
		"Europe//Berlin", "Europe/./Berlin", "./Europe/Berlin", "Europe/Berlin/", "europe/berlin", "EUROPE/BERLIN", "Europe/", "Europe",
		"posixrules", "localtime", "posix/Europe/Berlin", "right/Europe/Berlin", "zone.tab", "tzdata.zi", "leapseconds", "Europe\\Berlin", "Europe/Berlin\x00",
	} {
		if z, err := Zone(name); !errors.Is(err, ErrZone) {
			t.Errorf("%q: %v, %v", name, z, err)
		}
	}
	for name := range zoneFiles() {
		if z, err := Zone(name); err != nil || z.String() != name {
			t.Errorf("%s: %v, %v", name, z, err)
		}
	}
}

// A zone is loaded from the database even where the host, or its user, has another file of
// the name.
func TestAZoneIsNotTheHosts(t *testing.T) {
	tokyo, err := load("Asia/Tokyo", zoneFiles()["Asia/Tokyo"])
	if err != nil {
		t.Fatal(err)
	}
	r, err := zoneFiles()["Asia/Tokyo"].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"Mars/Olympus", "Europe/Berlin"} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ZONEINFO", dir)
	if _, err := Zone("Mars/Olympus"); !errors.Is(err, ErrZone) {
		t.Errorf("a file beside the database is a zone: %v", err)
	}
	zones.Delete("Europe/Berlin")
	berlin, err := Zone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	summer := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	if _, offset := summer.In(berlin).Zone(); offset != 2*3600 {
		t.Errorf("summer in Berlin is %d s from UTC", offset)
	}
	if _, offset := summer.In(tokyo).Zone(); offset != 9*3600 {
		t.Errorf("summer in Tokyo is %d s from UTC", offset)
	}
}

func TestAnAddressIsInTheZoneOfAPlace(t *testing.T) {
	places := 0
	for name := range zoneFiles() {
		_, err := PlaceZone(name)
		// What the database's own file backward, and its areas, say of each.
		place := regexp.MustCompile(`^(Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Brazil|Canada|Chile|Europe|Indian|Mexico|Pacific|US)/` +
			`|^(Cuba|Egypt|Eire|GB|GB-Eire|Hongkong|Iceland|Iran|Israel|Jamaica|Japan|Kwajalein|Libya|NZ|NZ-CHAT|Navajo|PRC|Poland|Portugal|ROC|ROK|Singapore|Turkey|W-SU)$`).MatchString(name)
		if place != (err == nil) {
			t.Errorf("%s is a place: %v, but %v", name, place, err)
		}
		if place {
			places++
		}
	}
	if places < 500 {
		t.Errorf("only %d places", places)
	}
	for _, name := range []string{
		"Europe/Berlin", "US/Eastern", "Asia/Calcutta", "Asia/Kolkata", "Japan", "America/Argentina/Buenos_Aires", "America/North_Dakota/New_Salem",
		"Europe/Kiev", "Europe/Kyiv", "Pacific/Apia", "Australia/Lord_Howe", "Antarctica/Troll", "Arctic/Longyearbyen", "America/Coyhaique",
	} {
		if _, err := PlaceZone(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "Local", "Factory", "UTC", "UCT", "GMT", "GMT0", "GMT+0", "GMT-0", "Greenwich", "Universal", "Zulu", "EST", "MST", "HST", "CET", "MET", "EET", "WET",
		"EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "Etc/UTC", "Etc/GMT+1", "Etc/GMT-14", "Etc/Unknown", "posixrules", "posix/Europe/Berlin", "right/Europe/Berlin",
		"SystemV/EST5EDT", "/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin", "../Europe/Berlin", "Europe/../Europe/Berlin", "Europe//Berlin", "US/Pacific-New", "CEST", "+01:00",
	} {
		if z, err := PlaceZone(name); !errors.Is(err, ErrZone) {
			t.Errorf("%q is a place: %v, %v", name, z, err)
		}
	}
}

// A newer Go may bring a newer database: go generate takes it over.
func TestTheDatabaseIsTheOneThatGoShips(t *testing.T) {
	shipped, err := os.ReadFile(filepath.Join(build.Default.GOROOT, "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Skipf("this Go installation ships no time zone database: %v", err)
	}
	if !bytes.Equal(shipped, zoneDatabase) {
		t.Error("Go ships another time zone database: run go generate ./handoff")
	}
}
