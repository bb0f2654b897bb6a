package handoff_test

import (
	"testing"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

func TestText(t *testing.T) {
	for written, want := range map[string]string{
		"Zoe\u0308 Mu\u0308ller":             "Zoë Müller", // NFD
		"Zoë Müller":                         "Zoë Müller",
		" Turmstr. 5\u00a0":                  "Turmstr. 5",
		"\u202egnirts\u202c":                 "gnirts", // turned round
		"\u2066a\u2069\u200f\u200e\u061cb":   "ab",
		"a\u200db\u200cc":                    "abc",            // joins nothing here
		"\u200dشیرین\u200cپلو":               "شیرین\u200cپلو", // Persian needs it
		"ක්\u200dෂ":                          "ක්\u200dෂ",      // and Sinhala
		"👩\u200d👧":                           "👩\u200d👧",       // and a family
		"ad\u00admin\u200b\ufeff\u2060":      "admin",          //
		"\u0600١٢":                           "\u0600١٢",       // a number sign that is seen
		"رحمة\u200fاللّه":                    "رحمةاللّه",      //
		"O’Neill-\u0141ukasz, 3. Stock (re)": "O’Neill-Łukasz, 3. Stock (re)",
	} {
		got := Text(written)
		if got != want {
			t.Errorf("%q is %q, want %q", written, got, want)
		}
		if Text(got) != got || Blank(got) {
			t.Errorf("%q again is %q; blank: %t", written, Text(got), Blank(got))
		}
	}
	for _, written := range []string{"", " ", "\u200b", "\u200e\u200f", "\u2066\u2069", "\u3164", "\uffa0\u115f\u1160", "\u2800", "\u200d\u200c", "\u3000", "\u034f", "\u180e", "\ufe0f", "\U000e0041"} {
		if text := Text(written); !Blank(text) {
			t.Errorf("%q shows %q", written, text)
		}
	}
	for _, r := range "\n\r\t\x00\x7f\u0085\u2028\u2029\u009b" {
		if !BreaksLine(r) {
			t.Errorf("%U", r)
		}
	}
}

// The same words in NFC and in NFD are one dispatch.
func TestTextDoesNotMakeADispatchDiffer(t *testing.T) {
	a, b := handofftest.Sample("P1"), handofftest.Sample("P1")
	a.Customer.Name, b.Customer.Name = "Zoë", "Zoe\u0308"
	a.To.Lines, b.To.Lines = []string{"Grüner Weg 1"}, []string{"Gru\u0308ner Weg 1\u200e"}
	a.To.City, b.To.City = "Köln", "Ko\u0308ln "
	if !a.Equal(&b) {
		t.Error("they differ")
	}
	if b.To.Lines[0] != "Gru\u0308ner Weg 1\u200e" {
		t.Error("comparing changed what was compared")
	}
}

func TestMailDomain(t *testing.T) {
	for domain, want := range map[string]string{
		"docomo.example": "docomo.example", "Bücher.Example": "xn--bcher-kva.example", "ab--cd.example": "ab--cd.example", "r3---sn-x.example": "r3---sn-x.example",
		"": "", ".": "", "a.": "", "-a.example": "", "a-.example": "", "a..example": "", "a_b.example": "", "a b.example": "", "a\u2028.example": "",
	} {
		if got, err := MailDomain(domain); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q %v, want %q", domain, got, err, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("Zoe\u0308 \u200d\u0308")
	f.Add("A\u0308\u200d")
	f.Add("e\u200d\u0308\u200d")
	f.Fuzz(func(t *testing.T, written string) {
		if text := Text(written); Text(text) != text {
			t.Errorf("%q is %q, and then %q", written, text, Text(text))
		}
	})
}
