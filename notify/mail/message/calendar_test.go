package message

import (
	"strings"
	"testing"
	"time"
)

func TestWindowIsToldInTheTimeOfTheAddress(t *testing.T) {
	utc := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, test := range []struct {
		name, zone  string
		from, until string // UTC
		en, de      string
		day         string // in the English subject
		where       string // in the English footer
	}{
		{
			name: "an ordinary day", zone: "Europe/Berlin",
			from: "2026-11-23T23:00:00Z", until: "2026-11-24T23:00:00Z",
			en: "until the end of Tuesday 24 November 2026 (24:00)", de: "bis Dienstag, 24. November 2026, 24:00 Uhr",
			day: "Tuesday 24 November", where: "Berlin",
		},
		{
			name: "23 hours", zone: "Europe/Berlin",
			from: "2026-03-28T23:00:00Z", until: "2026-03-29T22:00:00Z",
			en: "until the end of Sunday 29 March 2026 (24:00)", de: "bis Sonntag, 29. März 2026, 24:00 Uhr",
			day: "Sunday 29 March", where: "Berlin",
		},
		{
			name: "25 hours", zone: "America/New_York",
			from: "2026-11-01T04:00:00Z", until: "2026-11-02T05:00:00Z",
			en: "until the end of Sunday 1 November 2026 (24:00)", de: "bis Sonntag, 1. November 2026, 24:00 Uhr",
			day: "Sunday 1 November", where: "New York",
		},
		{
			name: "the next day begins at 01:00", zone: "America/Santiago",
			from: "2026-09-05T04:00:00Z", until: "2026-09-06T04:00:00Z",
			en: "until the end of Saturday 5 September 2026 (24:00)", de: "bis Samstag, 5. September 2026, 24:00 Uhr",
			day: "Saturday 5 September", where: "Santiago",
		},
		{
			name: "the day begins at 01:00", zone: "America/Santiago",
			from: "2026-09-06T04:00:00Z", until: "2026-09-07T03:00:00Z",
			en: "until the end of Sunday 6 September 2026 (24:00)", de: "bis Sonntag, 6. September 2026, 24:00 Uhr",
			day: "Sunday 6 September", where: "Santiago",
		},
		{
			name: "the last hour comes twice", zone: "Africa/Cairo",
			from: "2026-10-28T21:00:00Z", until: "2026-10-29T22:00:00Z",
			en: "until the end of Thursday 29 October 2026 (24:00)", de: "bis Donnerstag, 29. Oktober 2026, 24:00 Uhr",
			day: "Thursday 29 October", where: "Cairo",
		},
		{
			name: "half an hour of daylight saving", zone: "Australia/Lord_Howe",
			from: "2026-10-03T13:30:00Z", until: "2026-10-04T13:00:00Z",
			en: "until the end of Sunday 4 October 2026 (24:00)", de: "bis Sonntag, 4. Oktober 2026, 24:00 Uhr",
			day: "Sunday 4 October", where: "Lord Howe",
		},
		{
			name: "the next day does not exist", zone: "Pacific/Apia",
			from: "2011-12-29T10:00:00Z", until: "2011-12-30T10:00:00Z",
			en: "until the end of Thursday 29 December 2011 (24:00)", de: "bis Donnerstag, 29. Dezember 2011, 24:00 Uhr",
			day: "Thursday 29 December", where: "Apia",
		},
		{
			name: "an end within the day", zone: "America/Argentina/Buenos_Aires",
			from: "2026-11-24T03:00:00Z", until: "2026-11-24T21:30:00Z",
			en: "until Tuesday 24 November 2026, 18:30", de: "bis Dienstag, 24. November 2026, 18:30 Uhr",
			day: "Tuesday 24 November", where: "Buenos Aires",
		},
		{
			name: "an end soon after midnight", zone: "Europe/Berlin",
			from: "2026-11-24T23:00:00Z", until: "2026-11-24T23:30:00Z",
			en: "until Wednesday 25 November 2026, 00:30", de: "bis Mittwoch, 25. November 2026, 00:30 Uhr",
			day: "Wednesday 25 November", where: "Berlin",
		},
		{
			name: "a zone without a city", zone: "Etc/GMT+3",
			from: "2026-11-24T03:00:00Z", until: "2026-11-25T03:00:00Z",
			en: "until the end of Tuesday 24 November 2026 (24:00)", de: "bis Dienstag, 24. November 2026, 24:00 Uhr",
			day: "Tuesday 24 November", where: "UTC-03",
		},
		{
			name: "UTC", zone: "UTC",
			from: "2026-11-24T00:00:00Z", until: "2026-11-25T00:00:00Z",
			en: "until the end of Tuesday 24 November 2026 (24:00)", de: "bis Dienstag, 24. November 2026, 24:00 Uhr",
			day: "Tuesday 24 November", where: "UTC",
		},
	} {
		t.Run(test.zone+" "+test.name, func(t *testing.T) {
			v := sample(CodeIssued, Delivery, "en")
			v.Zone, v.ValidFrom, v.ValidUntil = zone(test.zone), utc(test.from), utc(test.until)
			en, err := Render(v)
			if err != nil {
				t.Fatal(err)
			}
			v.Locale = "de"
			de, err := Render(v)
			if err != nil {
				t.Fatal(err)
			}
			for what, s := range map[string][2]string{
				"English window": {oneLine(en.Text), "Valid " + test.en + ", and not before that day."},
				"German window":  {oneLine(de.Text), "Gültig " + test.de + ", nicht vor diesem Tag."},
				"subject":        {en.Subject, "for " + test.day},
				"footer":         {oneLine(en.Text), "(time zone: " + test.where + ")"},
			} {
				if !strings.Contains(s[0], s[1]) {
					t.Errorf("%s: no %q in\n%s", what, s[1], s[0])
				}
			}
		})
	}
}

func TestWindowOfSeveralDaysDoesNotNameOneDay(t *testing.T) {
	v := sample(CodeIssued, Delivery, "en")
	v.ValidFrom = v.ValidFrom.AddDate(0, 0, -1)
	m, err := Render(v)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.Text, "Valid until the end of Tuesday 24 November 2026 (24:00).") {
		t.Errorf("in\n%s", m.Text)
	}
}

func TestEventIsToldInTheTimeOfTheAddress(t *testing.T) {
	v := sample(Released, Delivery, "en")
	v.Zone, v.At = zone("America/New_York"), time.Date(2026, 11, 25, 1, 7, 0, 0, time.UTC)
	m, err := Render(v)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(oneLine(m.Text), "on Tuesday 24 November 2026 at 20:07.") {
		t.Errorf("in\n%s", m.Text)
	}
}

func TestGermanNamesOfCities(t *testing.T) {
	v := sample(Released, Delivery, "de")
	v.Zone = zone("Europe/Vienna")
	m, err := Render(v)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.Text, "(Zeitzone: Wien)") {
		t.Errorf("in\n%s", m.Text)
	}
}
