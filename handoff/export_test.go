package handoff

import (
	"maps"
	"slices"
)

// DispatchParts is what a digest of a dispatch is made of.
func DispatchParts(d Dispatch) []string { return d.Parts() }

// ZoneNames are the names of the zones of the database, in order.
func ZoneNames() []string { return slices.Sorted(maps.Keys(zoneFiles())) }
