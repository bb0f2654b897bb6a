package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/storage"
)

// Alarm is what a door says of itself, and of no permit.
type Alarm struct {
	Door handoff.Door      // with its building
	Type handoff.EventType // EventDoorRefused, EventDoorForced, EventDoorHeldOpen, EventDoorTampered, EventDoorJammed, EventDoorBatteryLow or EventDoorUnavailable

	// Seq counts the door's reports under its present key: one that comes again has the
	// number it had.
	Seq uint64
	At  handoff.Instant // by the door's clock

	// Reason is why the door refused what it was brought, of EventDoorRefused.
	Reason handoff.Reason
}

// Heard is what became of an alarm.
type Heard uint8

// The outcomes.
const (
	_             Heard = iota
	AlarmTold           // it is on the log
	AlarmCounted        // it is one of many of its kind in this hour: a later event says how many
	AlarmRepeated       // the same report was heard before
)

const (
	// numbersKept is how many of the highest numbers of a door's alarms are remembered.
	numbersKept = 256

	// mostJump is how far above the highest number one may be that is remembered. A door that
	// opens 300 times in a day needs a year for as many reports.
	mostJump = 1 << 20

	// toldOneByOne is how many alarms of a kind the log keeps one by one, of a door and hour.
	// Beyond it one event tells at 10, the next at 20, and so on.
	toldOneByOne = 5

	// An alarm whose number says nothing is judged by its time: one that is older than
	// freshFor, or later than the door's clock may be, was kept back to be told again.
	freshFor  = time.Hour
	clockSkew = 5 * time.Minute
)

// alarmTries is how often an alarm is judged anew because another came between.
const alarmTries = 32

// Alarmed puts an alarm on the log, once, however often the door reports it, and says what
// became of it. What is told is bounded by what is news, so that no number of reports fills
// the log: each door has bounds of its own, and each kind of alarm at it. After an error
// the door should report it again.
func (r *Registry) Alarmed(ctx context.Context, a Alarm) (Heard, error) {
	switch a.Type {
	case handoff.EventDoorRefused, handoff.EventDoorForced, handoff.EventDoorHeldOpen, handoff.EventDoorTampered,
		handoff.EventDoorJammed, handoff.EventDoorBatteryLow, handoff.EventDoorUnavailable:
	default:
		return 0, fmt.Errorf("registry: %s is no alarm", a.Type)
	}
	now := handoff.InstantOf(r.clock.Now())
	e := handoff.Event{
		Type: a.Type, At: now, By: string(handoff.RoleDoor), Claimed: a.At,
		Door: a.Door.ID, Target: a.Door.Kind, Building: a.Door.BuildingID, Reason: a.Reason,
	}
	note := eventlog.Note{Partition: e.Partition(), Name: fmt.Sprintf("%s:%x", a.Door.ID, a.Door.Key)} // under a new key a door counts anew
	for range alarmTries {
		var err error
		if note.Was, err = r.log.Noted(ctx, note.Partition, note.Name); err != nil {
			return 0, err
		}
		before, err := readAlarms(note.Was)
		if err != nil {
			return 0, err
		}
		if !before.isNews(&a, now) {
			return AlarmRepeated, nil
		}
		var told bool
		e.Count, told = before.add(&a, now)
		note.Is = before.String()
		var events []handoff.Event
		if told {
			events = append(events, e)
		}
		switch done, err := r.log.AppendNoted(ctx, now, note, events...); {
		case err != nil:
			return 0, err
		case done && told:
			return AlarmTold, nil
		case done:
			return AlarmCounted, nil
		}
	}
	return 0, fmt.Errorf("%w: others keep reporting at the door", storage.ErrUnavailable)
}

// alarms is what is remembered of a door's alarms under one key.
type alarms struct {
	numbers []uint64 // the highest, rising
	kinds   map[handoff.EventType]kind
}

// kind is what is remembered of one kind of alarm.
type kind struct {
	hour  int64           // since 1970, in which the last was heard
	count int             // heard in it
	last  handoff.Instant // the latest time that the door said of one whose number says nothing
}

// judged reports whether a number tells by itself whether its report came before: it is
// neither so low that its like are forgotten, nor so high that remembering it would
// make the door's own ones forgotten.
func (m *alarms) judged(n uint64) bool {
	if len(m.numbers) == 0 {
		return n <= mostJump
	}
	if len(m.numbers) >= numbersKept && n < m.numbers[0] {
		return false
	}
	highest := m.numbers[len(m.numbers)-1]
	return n <= highest || n-highest <= mostJump
}

// isNews reports whether the alarm was not heard before. Of a number that says nothing the
// time decides: it is later than any that was believed so, and not long ago. So a door
// whose numbers somebody with its key moved far away is still heard.
func (m *alarms) isNews(a *Alarm, now handoff.Instant) bool {
	if m.judged(a.Seq) {
		_, known := slices.BinarySearch(m.numbers, a.Seq)
		return !known
	}
	age := now.Time().Sub(a.At.Time())
	return a.At > m.kinds[a.Type].last && age <= freshFor && age >= -clockSkew
}

// add remembers the alarm, and says whether it is told, and of how many its event tells;
// 0 says that it tells of itself alone.
func (m *alarms) add(a *Alarm, now handoff.Instant) (count int, told bool) {
	k := m.kinds[a.Type]
	if m.judged(a.Seq) {
		at, _ := slices.BinarySearch(m.numbers, a.Seq)
		m.numbers = slices.Insert(m.numbers, at, a.Seq)
		m.numbers = m.numbers[max(0, len(m.numbers)-numbersKept):]
	} else {
		k.last = a.At
	}
	rest := 0
	if hour := now.Time().Unix() / int64(time.Hour/time.Second); hour != k.hour {
		rest = k.untold()
		k.hour, k.count = hour, 0
	}
	k.count++
	m.kinds[a.Type] = k
	switch {
	case k.count > toldOneByOne && k.untold() > 0:
		return 0, false
	case k.count > toldOneByOne:
		return k.count / 2, true
	case rest > 0:
		return rest + 1, true
	}
	return 0, true
}

// untold is how many of the hour no event has told of yet.
func (k *kind) untold() int {
	told := toldOneByOne
	for told*2 <= k.count {
		told *= 2
	}
	return max(0, k.count-told)
}

// String is what is remembered, as a note: the numbers, and then each kind as
// type:hour:count:last.
func (m *alarms) String() string {
	var words []string
	for _, n := range m.numbers {
		words = append(words, strconv.FormatUint(n, 10))
	}
	for _, t := range slices.SortedFunc(maps.Keys(m.kinds), func(a, b handoff.EventType) int { return cmp.Compare(a, b) }) {
		k := m.kinds[t]
		words = append(words, fmt.Sprintf("%d:%d:%d:%d", t, k.hour, k.count, k.last))
	}
	return strings.Join(words, " ")
}

var errNote = errors.New("registry: the note of a door's alarms cannot be read")

// readAlarms reads what String writes, and the bare numbers that an earlier version wrote.
func readAlarms(note string) (alarms, error) {
	m := alarms{kinds: map[handoff.EventType]kind{}}
	for word := range strings.FieldsSeq(note) {
		parts := strings.Split(word, ":")
		if len(parts) == 1 {
			n, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return alarms{}, errNote
			}
			m.numbers = append(m.numbers, n)
			continue
		}
		var v [4]int64
		if len(parts) != len(v) {
			return alarms{}, errNote
		}
		for i, part := range parts {
			var err error
			if v[i], err = strconv.ParseInt(part, 10, 64); err != nil {
				return alarms{}, errNote
			}
		}
		m.kinds[handoff.EventType(v[0])] = kind{hour: v[1], count: int(v[2]), last: handoff.Instant(v[3])}
	}
	return m, nil
}
