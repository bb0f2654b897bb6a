package frame_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest"
)

// It is noon of Tuesday, 24 November 2026 in Berlin.
func TestDatesInWords(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	on := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2026, month, day, hour, minute, 0, 0, berlin)
	}
	for _, test := range []struct {
		as     string
		t      time.Time
		zone   string
		en, de string
	}{
		{"until", on(11, 25, 0, 0), "Europe/Berlin", "tonight, 24:00", "heute, 24:00 Uhr"},
		{"until", on(11, 24, 15, 0), "Europe/Berlin", "today, 15:00", "heute, 15:00 Uhr"},
		{"until", on(11, 24, 18, 30), "Europe/Berlin", "tonight, 18:30", "heute, 18:30 Uhr"},
		{"until", on(11, 26, 0, 0), "Europe/Berlin", "tomorrow, 24:00", "morgen, 24:00 Uhr"},
		{"until", on(11, 27, 0, 0), "Europe/Berlin", "Thursday, 26 November, 24:00", "Donnerstag, 26. November, 24:00 Uhr"},
		{"until", on(11, 24, 0, 0), "Europe/Berlin", "yesterday, 24:00", "gestern, 24:00 Uhr"},
		{"until", on(11, 25, 0, 0), "Asia/Tokyo", "tomorrow, 08:00", "morgen, 08:00 Uhr"},
		{"at", on(11, 24, 9, 2), "Europe/Berlin", "today, 09:02", "heute, 09:02 Uhr"},
		{"at", on(11, 24, 0, 0), "Europe/Berlin", "today, 00:00", "heute, 00:00 Uhr"},
		{"at", on(11, 23, 23, 59), "Europe/Berlin", "yesterday, 23:59", "gestern, 23:59 Uhr"},
		{"at", on(3, 2, 14, 2), "Europe/Berlin", "Monday, 2 March, 14:02", "Montag, 2. März, 14:02 Uhr"},
		{"at", on(11, 24, 9, 2).AddDate(-1, 0, 0), "Europe/Berlin", "Monday, 24 November 2025, 09:02", "Montag, 24. November 2025, 09:02 Uhr"},
		{"day", on(11, 24, 0, 0), "Europe/Berlin", "today", "heute"},
		{"day", on(11, 30, 0, 0), "Europe/Berlin", "Monday, 30 November", "Montag, 30. November"},
		{"at", on(11, 24, 12, 0), "Nowhere/Else", "today, 11:00", "heute, 11:00 Uhr"}, // UTC
	} {
		files := sample()
		files["pages/hello.html"] = file(`{{define "title"}}x{{end}}{{define "main"}}[{{` +
			map[string]string{"until": ".Until", "at": ".At", "day": ".Day"}[test.as] + ` .Data.T .Data.Zone}}]{{end}}`)
		h := house(t, files, func(p *frame.Pages) {
			p.Handle("GET /hello", func(v *frame.Visit) {
				v.Render(http.StatusOK, "hello", struct {
					T    time.Time
					Zone string
				}{test.t, test.zone})
			})
		})
		c := h.SignIn(frametest.Customer, "")
		for lang, want := range map[string]string{"en": test.en, "de": test.de} {
			c.Language = lang
			p := c.Get(t, "/hello")
			m := regexp.MustCompile(`\[<time datetime="([^"]+)"([^>]*)>([^<]*)</time>\]`).FindStringSubmatch(p.Text)
			if m == nil {
				t.Fatalf("no time in %s", p.Text)
			}
			if m[3] != want || m[1] != test.t.UTC().Format(time.RFC3339) || strings.Contains(m[2], "data-as") == (test.as == "day") {
				t.Errorf("%s %v in %s: %q, want %q", test.as, test.t, test.zone, m, want)
			}
		}
	}
}
