package handoff_test

import (
	"bufio"
	"os"
	"strings"
	"testing"

	. "latchkey/handoff"
)

// labels is a policy by which the carrier swift has no rule, and others have.
func labels(t testing.TB) *Policy {
	t.Helper()
	pattern := func(text string) LabelPattern {
		p, err := ParseLabelPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := DefaultPolicy()
	p.Carriers = []string{"swift", "digits", "loose", "small", "sscc", "post"}
	p.ParcelIDs = map[string]LabelRule{
		"digits": {Pattern: pattern(`[0-9]{18}`)},
		"loose":  {Pattern: pattern(`[A-Za-z0-9]{10,20}`)},
		"small":  {Pattern: pattern(`rv_[0-9a-f]{8}`)},
		"sscc":   {Pattern: pattern(`[0-9]{18}`), CheckDigit: "sscc"},
		"post":   {Pattern: pattern(`[A-Z]{2}[0-9]{9}[A-Z]{2}`), CheckDigit: "s10"},
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return p
}

// The numbers are public examples: of GS1 (its syntax dictionary, its EANCOM guide, its
// Digital Link pages), of the UPU's S10, of DHL Paket's tracking API, of Swiss Post.
func TestLabelsOfOneParcel(t *testing.T) {
	p := labels(t)
	for id, read := range map[string][]string{
		"106141412345678908": {
			"106141412345678908", "00106141412345678908", "(00)106141412345678908", "(00) 1 0614141 234567890 8", " 0010 6141 4123 4567 8908\r\n",
			"]C100106141412345678908", "]C1\x1d00106141412345678908", "\x1d00106141412345678908", "]d200106141412345678908\x1d", "]Q300106141412345678908",
			"]C102095212345432133712\x1d00106141412345678908",
			"]C1420101\x1d00106141412345678908", "(02)09521234543213(37)12(00)106141412345678908", "(00)106141412345678908(420)101",
			"https://id.gs1.org/00/106141412345678908", "HTTPS://ID.GS1.ORG/00/106141412345678908", "http://example.com/some/path/00/106141412345678908/?linkType=all#x",
			"]Q1https://id.gs1.org/00/106141412345678908", "https://example.com/sscc/106141412345678908",
			"\ufeff00106141412345678908", "\u200e(00)106141412345678908\u200f", "００１０６１４１４１２３４５６７８９０８",
		},
		"340434161094022115": {"00340434161094022115", "340434161094022115"},
		"354123450000000106": {"(00)354123450000000106", "https://id.gs1.org/00/354123450000000106"},
		"123456789012345675": {"]C100123456789012345675"},
		"RR473124829GB":      {"RR473124829GB", "RR 473 124 829 GB", "rr473124829gb", "Rr\u00a0473124829\u202fgb", "]C0RR473124829GB", "ＲＲ４７３１２４８２９ＧＢ", "RR473124829GB\t"},
		"EB000717618HK":      {"eb000717618hk"},
		"RM999605013CH":      {"RM 999 605 013 CH"},
		// Ordinary ids are what they are, small letters too.
		"JJD000390007827": {"JJD000390007827", " JJD0003 9000 7827 ", "]C0JJD000390007827"},
		"rv_0a1b2c3d":     {"rv_0a1b2c3d"},
		"P.1_a-b":         {"P.1_a-b"},
	} {
		for _, text := range read {
			got, reason := p.Label("swift", text)
			if got != id || reason != "" {
				t.Errorf("%q is %q %s, want %s", text, got, reason, id)
			}
		}
	}
}

func TestLabelsThatAreNone(t *testing.T) {
	p := labels(t)
	for reason, read := range map[Reason][]string{
		ParcelCheckDigit: {
			"00106141412345678907", "(00)106141412345678900", "]C100106141412345678980", "https://id.gs1.org/00/106141412345678918",
			"RR473124828GB", "rr 473 124 892 gb", "RR374124829GB", "RB123456786US",
		},
		ParcelMalformed: {
			"", " ", ".", "..", "a/b", "a\x00b", "é", strings.Repeat("a", 65), strings.Repeat(" ", 600), "JJD0001\nJJD0002", "JJD0001\tJJD0002", "\u200b",
			"https://example.com/", "https://id.gs1.org/01/09521234543213", "https://id.gs1.org/00/1", "(01)09521234543213", "(00)1", "]C1", "]", "a\xffb",
			"3.40123E+17", "]C10109521234543213\x1d10ABC",
		},
	} {
		for _, text := range read {
			if id, got := p.Label("swift", text); got != reason || id != "" {
				t.Errorf("%q: %q %q, want %s", text, id, got, reason)
			}
		}
	}
	// CheckLabel is what is known before a carrier is.
	if CheckLabel("00106141412345678907") != nil || CheckLabel("a/b") != ErrLabel {
		t.Error("CheckLabel")
	}
}

// What a policy says of a carrier's ids wins over what they look like.
func TestACarriersOwnPattern(t *testing.T) {
	p := labels(t)
	for _, test := range []struct {
		carrier, read, id string
		reason            Reason
	}{
		{"digits", "340123456789012345", "340123456789012345", ""}, // no check digit is asked for
		{"digits", "00340434161094022115", "340434161094022115", ""},
		{"digits", "(00)340434161094022115", "340434161094022115", ""},
		{"digits", "3.40123E+17", "", ParcelMalformed}, // as spreadsheets write it
		{"digits", "340123456789012018.0", "", ParcelMalformed},
		{"digits", "340123456789012018.", "", ParcelMalformed},
		{"digits", "RR473124829GB", "", ParcelMalformed},
		{"digits", "(00)340434161094022114", "", ParcelCheckDigit},
		{"loose", "rr473124828gb", "RR473124828GB", ""}, // not of the UPU here
		{"loose", "jjd000390007827", "JJD000390007827", ""},
		{"loose", "00340434161094022115", "340434161094022115", ""},
		{"loose", "00340434161094022114", "00340434161094022114", ""}, // a number of its own
		{"small", "rv_0a1b2c3d", "rv_0a1b2c3d", ""},
		{"small", "RV_0A1B2C3D", "", ParcelMalformed},
		{"sscc", "106141412345678908", "106141412345678908", ""},
		{"sscc", "106141412345678907", "", ParcelCheckDigit},
		{"sscc", "1061 4141 2345 6789 08", "106141412345678908", ""},
		{"post", "rr473124829gb", "RR473124829GB", ""},
		{"post", "FA473124828XX", "", ParcelCheckDigit},
		{"swift", "993413796700168509", "993413796700168509", ""}, // of Swiss Post: 18 digits, and no SSCC
		{"swift", "98.34.123456.12345678", "98.34.123456.12345678", ""},
		{"swift", "RB123456785XX", "RB123456785XX", ""}, // no country
		{"swift", "JA473124828GB", "JA473124828GB", ""}, // no service
	} {
		if id, reason := p.Label(test.carrier, test.read); id != test.id || reason != test.reason {
			t.Errorf("%s %q: %q %q, want %q %q", test.carrier, test.read, id, reason, test.id, test.reason)
		}
	}
	if _, err := ParseLabelPattern(`a)|(?:.*`); err == nil {
		t.Error("a pattern breaks out of its anchors")
	}
	for _, text := range []string{
		`{"swift":{"pattern":"["}}`, `{"nobody":{"pattern":"A"}}`, `{"swift":{"check_digit":"luhn"}}`, `{"swift":{"patern":"A"}}`,
	} {
		file := `{"code_from":{"EUR":"150"},"destinations":{"residence":{"code":true}},"carriers":["swift"],"shops":{"demo":{"carriers":["swift"]}},"parcel_ids":` + text + `}`
		if _, err := ParsePolicy([]byte(file)); err == nil || !strings.Contains(err.Error(), "parcel_ids") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// carriers.tsv holds what carriers call valid (from jkeen/tracking_number_data): none is
// refused without a rule, and none becomes another's.
func TestNoCarriersNumberIsRefused(t *testing.T) {
	f, err := os.Open("testdata/carriers.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, seen := labels(t), map[string]bool{}
	lines := 0
	for in := bufio.NewScanner(f); in.Scan(); lines++ {
		carrier, printed, _ := strings.Cut(in.Text(), "\t")
		want := strings.ReplaceAll(printed, " ", "")
		id, reason := p.Label("swift", printed)
		if id != want || reason != "" {
			t.Errorf("%s %q: %q %s", carrier, printed, id, reason)
		}
		if seen[carrier+id] {
			t.Errorf("%s %q is another's: %s", carrier, printed, id)
		}
		seen[carrier+id] = true
	}
	if lines < 100 {
		t.Errorf("%d lines", lines)
	}
}

func FuzzLabel(f *testing.F) {
	for _, text := range []string{
		"JJD000390007827", "RR 473 124 829 GB", "(00)106141412345678908", "]C1\x1d00106141412345678908", "https://id.gs1.org/00/106141412345678908?a=b",
		"00106141412345678908", "]C1420101\x1d00106141412345678908", "３.４E+17", "]]C1", "(00)(00)",
	} {
		f.Add(text)
	}
	p := labels(f)
	f.Fuzz(func(t *testing.T, read string) {
		for _, carrier := range p.Carriers {
			id, reason := p.Label(carrier, read)
			if reason != "" {
				if id != "" {
					t.Fatalf("%s %q: %q and %s", carrier, read, id, reason)
				}
				continue
			}
			if CheckID(id) != nil || CheckLabel(read) != nil {
				t.Fatalf("%s %q: %q", carrier, read, id)
			}
			if again, reason := p.Label(carrier, id); again != id || reason != "" {
				t.Fatalf("%s %q: %q, and then %q %s", carrier, read, id, again, reason)
			}
		}
	})
}

func TestTail(t *testing.T) {
	for id, want := range map[string]string{
		"JJD000390007827": "7827", "PARCEL-7827": "7827", "12345678": "5678", "1234567": "567", "P1": "1", "P": "", "": "", "äöüßäöüß": "äöüß",
	} {
		if got := Tail(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}
