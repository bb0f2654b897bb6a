package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"latchkey/handoff"
)

// ErrStale says that a record is not the one that its caller saw: another wrote meanwhile.
var ErrStale = errors.New("registry: the record changed meanwhile")

// Match says which version of a record the caller means to replace. Zero: any, or none.
type Match struct {
	Any      bool // any that is there
	Versions []string
}

// Holds reports whether the version that stands, empty for none, is one that is meant.
func (m Match) Holds(version string) bool {
	switch {
	case !m.Any && m.Versions == nil:
		return true
	case version == "":
		return false
	}
	return m.Any || slices.Contains(m.Versions, version)
}

// VersionOf names what stands in a record: another content has another version. It tells
// nothing of the content.
func VersionOf(record any) string {
	b, err := cbor.Marshal(record)
	if err != nil {
		panic("registry: a record that does not encode: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// BuildingVersion is the version of a building; empty for nil.
func BuildingVersion(b *handoff.Building) string {
	if b == nil {
		return ""
	}
	return VersionOf(b)
}

// DoorVersion is the version of a door; empty for one that is not there.
func DoorVersion(d *handoff.Door) string {
	if d == nil || d.Removed {
		return ""
	}
	return VersionOf(d)
}
