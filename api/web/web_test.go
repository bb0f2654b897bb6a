package web

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"latchkey/handoff"
)

// Both languages say everything: no text is empty, and no page is there in one of them
// alone.
func TestBothLanguagesAreWhole(t *testing.T) {
	for name, w := range map[string]*words{"en": &english, "de": &german} {
		v := reflect.ValueOf(*w)
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.String && f.String() == "" {
				t.Errorf("%s: %s is empty", name, v.Type().Field(i).Name)
			}
		}
		for _, state := range []handoff.DoorState{
			handoff.DoorAuthorised, handoff.DoorDelivered, handoff.DoorConfirmed, handoff.DoorOpened, handoff.DoorRelocked, handoff.DoorFailed, handoff.DoorSilent,
		} {
			if w.Outcomes[state.String()] == "" {
				t.Errorf("%s has no word for %s", name, state)
			}
		}
		for _, kind := range []handoff.TargetKind{handoff.Lobby, handoff.Gate, handoff.Garage, handoff.Home} {
			if w.Doors[kind.String()] == "" {
				t.Errorf("%s has no word for a %s", name, kind)
			}
		}
		if !slices.Equal(slices.Sorted(maps.Keys(w.Outcomes)), slices.Sorted(maps.Keys(english.Outcomes))) {
			t.Errorf("%s: other outcomes", name)
		}
		for q := Confirm; q <= Decide; q++ {
			if told := w.Questions[q]; told.Title == "" || len(told.Lines) == 0 || len(told.buttons) != len(english.Questions[q].buttons) {
				t.Errorf("%s: question %d is not whole", name, q)
			}
		}
		for a := Active; a <= Broken; a++ {
			if told := w.Answers[a]; told.Title == "" || len(told.Lines) == 0 {
				t.Errorf("%s: answer %d is not whole", name, a)
			}
		}
	}
}

func TestPagesChooseTheirLanguage(t *testing.T) {
	for locale, want := range map[string]string{"de-AT": "de", "en": "en", "fr": "en", "": "en", "\x00": "en"} {
		content, err := AnswerPage(locale, Gone)
		if err != nil || !strings.Contains(string(content), `<html lang="`+want+`">`) {
			t.Errorf("%q: %v\n%s", locale, err, content)
		}
	}
}

func TestForeignTextIsEscaped(t *testing.T) {
	const hostile = `"><script>x()</script>{{.Style}}`
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	log, err1 := LogPage("en", Log{
		Building: hostile, Address: hostile, Zone: zone, Head: hostile, More: true,
		Entries: []Entry{{Door: hostile, DoorID: hostile, Carrier: hostile, Outcome: hostile}},
	})
	question, err2 := QuestionPage("de", Decide, Asked{Building: hostile, Unit: hostile, Address: hostile})
	empty, err3 := LogPage("en", Log{Zone: zone})
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for _, page := range []string{string(log), string(question), string(empty)} {
		if strings.Contains(page, "<script") || strings.Contains(page, "ZgotmplZ") {
			t.Errorf("%s", page)
		}
	}
	if !strings.Contains(string(empty), english.LogEmpty) || strings.Contains(string(empty), "<table") {
		t.Errorf("%s", empty)
	}
}
