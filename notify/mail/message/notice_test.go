package message

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const (
	logURL     = "https://latchkey.example/log/AQAAAABqHt"
	confirmURL = "https://latchkey.example/residents/confirm/AgAAAABqHt"
	leaveURL   = "https://latchkey.example/residents/unsubscribe/AwAAAABqHt"
)

func sampleNotice(kind Kind, locale string) Notice {
	n := Notice{
		Kind: kind, Locale: locale, BuildingName: "Sample House", Address: "Turmstr. 5, 10559 Berlin", Zone: zone("Europe/Berlin"),
		At:   time.Date(2026, 11, 24, 13, 5, 9, 0, time.UTC),
		Door: Door{ID: "front-1", Kind: "lobby"}, CarrierName: "Swift", Alarm: "forced", Unit: "4 links", Mailbox: "resident@building.example",
		Doors: []Door{
			{ID: "front-1", Kind: "lobby", Mode: "carried"},
			{ID: "yard", Kind: "gate", Mode: "connected"},
			{ID: "old", Kind: "lobby", Mode: "bridged"},
			{ID: "side", Kind: "lobby", Mode: "keypad"},
			{Kind: "garage", Mode: "carried"},
			{Kind: "home", Mode: "carried"},
		},
		Carriers: []string{"Swift", "Rival"}, Hours: "07:00-21:00", Quiet: "13:00-15:00", Returns: true, KeptDays: 30,
		Manager: "manager@building.example", ActionURL: logURL, ConfirmURL: confirmURL, LeaveURL: leaveURL,
	}
	if noticeRules[kind].consent {
		n.Day = time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC) // the 25th, there
	}
	if noticeRules[kind].own {
		n.Own = ownKinds
	}
	switch kind {
	case OwnDoorChanged:
		n.Changes = doorFacts
	case OwnDoorChange, OwnDoorStays:
		n.Changes, n.From = waitingFacts, n.At.Add(72*time.Hour)
	}
	if kind == DoorUnlocked {
		n.Limit = 30
	}
	return n
}

// everyNotice calls f with a notice of each kind and language, and of each alarm.
func everyNotice(t *testing.T, f func(t *testing.T, name string, n Notice, m Mail)) {
	t.Helper()
	for _, c := range standard.catalogues {
		for _, kind := range slices.Sorted(maps.Keys(noticeRules)) {
			views := map[string]Notice{"": sampleNotice(kind, c.tag.String())}
			if noticeRules[kind].alarm {
				delete(views, "")
				for _, alarm := range alarms {
					n := sampleNotice(kind, c.tag.String())
					n.Alarm = alarm
					views["."+alarm] = n
				}
			}
			if kind == ResidentLeaving {
				n := sampleNotice(kind, c.tag.String())
				n.Final = true
				views[".final"] = n
			}
			for suffix, n := range views {
				name := fmt.Sprintf("%s/%s%s", c.tag, kind, suffix)
				t.Run(name, func(t *testing.T) {
					m, err := RenderNotice(n)
					if err != nil {
						t.Fatal(err)
					}
					f(t, name, n, m)
				})
			}
		}
	}
}

func TestGoldenNotices(t *testing.T) {
	const dir = "testdata/notices"
	wanted := map[string]bool{}
	everyNotice(t, func(t *testing.T, name string, _ Notice, m Mail) {
		for ext, got := range map[string]string{".txt": "Subject: " + m.Subject + "\n\n" + m.Text, ".html": m.HTML} {
			file := filepath.Join(dir, name+ext)
			wanted[file] = true
			if *update {
				write(t, file, got)
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs; if the change is meant, run go test -update and read the diff\n%s", file, got)
			}
		}
	})
	files, err := filepath.Glob(dir + "/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !wanted[file] {
			t.Errorf("%s belongs to no notice", file)
		}
	}
}

func TestEveryNoticeIsWholeAndReadable(t *testing.T) {
	links := regexp.MustCompile(`href="([^"]*)"`)
	everyNotice(t, func(t *testing.T, _ string, n Notice, m Mail) {
		if m.Subject == "" || m.Locale != n.Locale || strings.Count(m.HTML, "<h1") != 1 {
			t.Fatalf("not whole: %v", m)
		}
		if c := utf8.RuneCountInString(m.Subject); c > 70 {
			t.Errorf("subject of %d characters: %s", c, m.Subject)
		}
		for _, bad := range []string{"{{", "}}", "<no value>", "%!", "ZgotmplZ", " ,", " .", " :", "..", ",,", "()"} {
			if strings.Contains(m.Subject+m.Text, bad) {
				t.Errorf("%q in\n%s", bad, m.Text)
			}
		}
		for line := range strings.Lines(m.Text) {
			line = strings.TrimSuffix(line, "\n")
			if utf8.RuneCountInString(line) > columns && !strings.HasPrefix(line, "https://") || strings.TrimRight(line, " \t\r") != line {
				t.Errorf("line %q", line)
			}
		}
		if strings.Contains(m.Text, "\n\n\n") || !strings.HasSuffix(m.Text, "\n") {
			t.Errorf("loose empty lines in\n%s", m.Text)
		}
		if loaders.MatchString(m.HTML) {
			t.Errorf("%q in the page", loaders.FindString(m.HTML))
		}
		var hrefs []string
		for _, found := range links.FindAllStringSubmatch(m.HTML, -1) {
			hrefs = append(hrefs, found[1])
		}
		if !slices.Equal(hrefs, []string{logURL, confirmURL, leaveURL}) {
			t.Errorf("links %q", hrefs)
		}
		for _, url := range hrefs {
			if !strings.Contains(m.Text, "\n"+url+"\n") {
				t.Errorf("%s does not stand on a line of its own", url)
			}
		}
	})
}

func TestNoticesWithLittleInThem(t *testing.T) {
	everyNotice(t, func(t *testing.T, _ string, n Notice, _ Mail) {
		n.BuildingName, n.CarrierName, n.Carriers, n.Hours, n.Quiet, n.Manager, n.ConfirmURL, n.LeaveURL, n.Door.ID = "", "", nil, "", "", "", "", "", ""
		n.Returns, n.Limit, n.Doors = false, 0, n.Doors[:1]
		m, err := RenderNotice(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{" ,", " .", " :", "..", "()", "\n\n\n", "<no value>"} {
			if strings.Contains(m.Subject+m.Text, bad) {
				t.Errorf("%q in\n%s", bad, m.Text)
			}
		}
		if strings.Count(m.HTML, "<a ") != 1 {
			t.Error("not one link")
		}
	})
}

func TestNoticesKeepForeignTextInItsPlace(t *testing.T) {
	const hostile = "A\r\nBcc: all@example.com\x00\u202e</td><script>x()</script>{{.Name}}"
	everyNotice(t, func(t *testing.T, _ string, n Notice, _ Mail) {
		n.BuildingName, n.Address, n.CarrierName, n.Unit, n.Mailbox, n.Manager, n.Door.ID, n.Carriers = hostile, hostile, hostile, hostile, hostile, hostile, hostile, []string{hostile}
		m, err := RenderNotice(n)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(m.Subject, "\r\n\x00\u202e") || strings.ContainsAny(m.Text+m.HTML, "\r\x00\u202e") ||
			strings.Contains(m.Text, "\nBcc:") || strings.Contains(m.HTML, "<script") {
			t.Errorf("foreign text got out:\n%s", m.Text)
		}
	})
}

func TestNoticeRefusals(t *testing.T) {
	for name, spoil := range map[string]func(*Notice){
		"kind":              func(n *Notice) { n.Kind = Released },
		"zone":              func(n *Notice) { n.Zone = nil },
		"time":              func(n *Notice) { n.At = time.Time{} },
		"door":              func(n *Notice) { n.Door.Kind = "window" },
		"alarm":             func(n *Notice) { n.Alarm = "" },
		"no doors":          func(n *Notice) { n.Kind, n.Doors = Enrolled, nil },
		"mode":              func(n *Notice) { n.Kind, n.Doors = Enrolled, []Door{{Kind: "lobby", Mode: "magic"}} },
		"no days":           func(n *Notice) { n.Kind, n.KeptDays = Enrolled, 0 },
		"unit":              func(n *Notice) { n.Kind, n.Unit = UnitRequest, " " },
		"no day":            func(n *Notice) { *n = sampleNotice(UnitConsent, "en"); n.Day = time.Time{} },
		"whose doors":       func(n *Notice) { *n = sampleNotice(UnitConsent, "en"); n.Unit = "" },
		"no own doors":      func(n *Notice) { *n = sampleNotice(ConsentAsk, "en"); n.Own = nil },
		"a lobby of theirs": func(n *Notice) { *n = sampleNotice(ConsentAsk, "en"); n.Own = []string{"lobby"} },
		"own doors of none": func(n *Notice) { *n = sampleNotice(UnitNoConsent, "en"); n.Own = ownKinds },
		"no link":           func(n *Notice) { n.ActionURL = "" },
		"link of a script":  func(n *Notice) { n.LeaveURL = "javascript:alert(1)" },
	} {
		n := sampleNotice(DoorAlarm, "en")
		spoil(&n)
		if m, err := RenderNotice(n); !errors.Is(err, ErrView) || m != (Mail{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := sampleNotice(UnitRequest, "en")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if out := fmt.Sprintf(verb, n); strings.Contains(out, "resident@") || strings.Contains(out, logURL) {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}
