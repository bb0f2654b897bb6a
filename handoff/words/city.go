package words

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

//go:embed words.yaml
var files embed.FS

var shared = func() *Vocabulary {
	v, err := Load(files)
	if err != nil {
		panic(fmt.Sprintf("words: %v", err)) // the file is part of the program
	}
	return v
}()

const cities = "cities."

// City names an IANA time zone by its city in a language; empty where the zone has none, such
// as UTC.
func City(l Language, zone string) string {
	if s, err := shared.In(shared.Closest(string(l))).Sentence(cities + zone); err == nil {
		return s.String()
	}
	if area, city := path.Split(zone); area != "" && area != "Etc/" {
		return strings.ReplaceAll(city, "_", " ")
	}
	return ""
}
