package registry

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
)

// KnownKeys is what a door said last of the signing keys that it knows.
type KnownKeys struct {
	Heard  handoff.Instant // when the service heard it; 0: never
	At     handoff.Instant // when the door said it, by its own clock
	Serial uint64          // of the list of keys in force there; 0 for none
	Keys   []string        // ids, as GET /v1/doors/keys shows them
}

// knownFormat begins the note that keeps it: another form would have another number.
const knownFormat = "1"

func (k *KnownKeys) note() string {
	return fmt.Sprintf("%s %d %d %d %s", knownFormat, int64(k.Heard), int64(k.At), k.Serial, strings.Join(k.Keys, ","))
}

func readKnown(text string) (KnownKeys, error) {
	if text == "" {
		return KnownKeys{}, nil
	}
	parts := strings.Split(text, " ")
	if len(parts) != 5 || parts[0] != knownFormat {
		return KnownKeys{}, fmt.Errorf("%w: the keys that a door knows", storage.ErrFormat)
	}
	var k KnownKeys
	heard, err1 := strconv.ParseInt(parts[1], 10, 64)
	at, err2 := strconv.ParseInt(parts[2], 10, 64)
	serial, err3 := strconv.ParseUint(parts[3], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return KnownKeys{}, fmt.Errorf("%w: the keys that a door knows", storage.ErrFormat)
	}
	if k.Heard, k.At, k.Serial = handoff.Instant(heard), handoff.Instant(at), serial; parts[4] != "" {
		k.Keys = strings.Split(parts[4], ",")
	}
	return k, nil
}

// knownNote is where a door's word is kept. Under a new key of its own a door has said nothing yet.
func knownNote(d *handoff.Door) eventlog.Note {
	e := handoff.Event{Building: d.BuildingID}
	return eventlog.Note{Partition: e.Partition(), Name: fmt.Sprintf("knows:%s:%x", d.ID, d.Key)}
}

// Known is what a door said last of the keys that it knows.
func (r *Registry) Known(ctx context.Context, d *handoff.Door) (KnownKeys, error) {
	n := knownNote(d)
	text, err := r.log.Noted(ctx, n.Partition, n.Name)
	if err != nil {
		return KnownKeys{}, err
	}
	return readKnown(text)
}

// Knows keeps what a door says of the keys that it knows, and reports whether that is news. What
// it said earlier, brought again, changes nothing; nor does what it says of a time to come, or it
// could say nothing else until then.
func (r *Registry) Knows(ctx context.Context, d *handoff.Door, k KnownKeys) (news bool, err error) {
	note, now := knownNote(d), handoff.InstantOf(r.clock.Now())
	if k.Heard = now; k.At.Time().Sub(now.Time()) > clockSkew {
		return false, nil
	}
	for range alarmTries {
		if note.Was, err = r.log.Noted(ctx, note.Partition, note.Name); err != nil {
			return false, err
		}
		before, err := readKnown(note.Was)
		if err != nil {
			return false, err
		}
		if k.At < before.At {
			return false, nil
		}
		news = before.Serial != k.Serial || !slices.Equal(before.Keys, k.Keys)
		note.Is = k.note()
		if done, err := r.log.AppendNoted(ctx, now, note); done || err != nil {
			return news, err
		}
	}
	return false, fmt.Errorf("%w: others keep reporting at the door", storage.ErrUnavailable)
}
