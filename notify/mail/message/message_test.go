package message

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	sampleCode = "048213"
	sampleURL  = "https://shop.example/account?parcel=JJD000390007827&tab=handoff"
)

// sample is a view with everything in it, as a caller fills it whatever the
// kind.
func sample(kind Kind, purpose Purpose, locale string) View {
	berlin := zone("Europe/Berlin")
	v := View{
		Kind: kind, Purpose: purpose, Locale: locale,
		CustomerName: "Sample Customer 12",
		ShopName:     "Sample Shop",
		ShopContact:  "help@shop.example",
		OrderID:      "302-1234567",
		ParcelID:     "JJD000390007827",
		CarrierName:  "Swift",
		CourierName:  "Courier 7",
		AddressLine:  "Turmstr. 5, 10559 Berlin",
		Code:         sampleCode,
		ValidFrom:    time.Date(2026, 11, 24, 0, 0, 0, 0, berlin),
		ValidUntil:   time.Date(2026, 11, 25, 0, 0, 0, 0, berlin),
		At:           time.Date(2026, 11, 24, 13, 5, 9, 0, time.UTC),
		HandedAt:     time.Date(2026, 11, 24, 10, 58, 0, 0, time.UTC),
		DecideBy:     time.Date(2026, 11, 26, 13, 5, 9, 0, time.UTC),
		Zone:         berlin,
		Doors:        []string{"garage", "home"},
		Reason:       "scanner-broken",
		AccountURL:   sampleURL,
	}
	if rules[kind].parts {
		v.More, v.Left, v.All = []string{"JJD000390007835"}, []string{"JJD000390007818"}, 3
	}
	return v
}

func zone(name string) *time.Location {
	loc, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return loc
}

// everyMail calls f with a view of each kind, purpose and language, and for a
// kind that may but need not hold a code, with and without one.
func everyMail(t *testing.T, f func(t *testing.T, name string, v View, m Mail)) {
	t.Helper()
	for _, c := range standard.catalogues {
		for _, kind := range slices.Sorted(maps.Keys(rules)) {
			for _, purpose := range rules[kind].purposes {
				views := map[string]View{"": sample(kind, purpose, c.tag.String())}
				if rules[kind].code == codeIfAny {
					plain := views[""]
					plain.Code = ""
					views[".no-code"] = plain
				}
				if kind == CodeIssued {
					several := views[""]
					several.More = []string{"JJD000390007835", "JJD000390007818"}
					views[".several"] = several
				}
				for suffix, v := range views {
					name := fmt.Sprintf("%s/%s.%s%s", c.tag, kind, purpose, suffix)
					t.Run(name, func(t *testing.T) {
						m, err := Render(v)
						if err != nil {
							t.Fatal(err)
						}
						f(t, name, v, m)
					})
				}
			}
		}
	}
}

func TestGolden(t *testing.T) {
	const dir = "testdata/golden"
	wanted := map[string]bool{}
	everyMail(t, func(t *testing.T, name string, _ View, m Mail) {
		for ext, got := range map[string]string{
			".txt":  "Subject: " + m.Subject + "\n\n" + m.Text,
			".html": m.HTML,
		} {
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
			t.Errorf("%s belongs to no mail", file)
		}
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEveryMailIsWholeAndReadable(t *testing.T) {
	everyMail(t, func(t *testing.T, _ string, v View, m Mail) {
		if m.Subject == "" || m.Text == "" || m.HTML == "" || m.Locale != v.Locale {
			t.Fatalf("not whole: %v", m)
		}
		// About what a phone shows of a subject in two lines.
		if n := utf8.RuneCountInString(m.Subject); n > 70 {
			t.Errorf("subject of %d characters: %s", n, m.Subject)
		}
		for _, bad := range []string{"{{", "}}", "<no value>", "%!", "ZgotmplZ", v.Reason} {
			if strings.Contains(m.Subject+m.Text+m.HTML, bad) {
				t.Errorf("%q in the mail", bad)
			}
		}
		for _, bad := range []string{" ,", " .", " :", "..", ",,"} { // a placeholder that stayed empty
			if strings.Contains(m.Subject+m.Text, bad) {
				t.Errorf("%q in\n%s", bad, m.Text)
			}
		}
		for line := range strings.Lines(m.Text) {
			line = strings.TrimSuffix(line, "\n")
			if utf8.RuneCountInString(line) > columns && line != v.AccountURL {
				t.Errorf("line of over %d columns: %s", columns, line)
			}
			if strings.TrimRight(line, " \t\r") != line {
				t.Errorf("white space at the end of %q", line)
			}
		}
		if strings.Contains(m.Text, "\n\n\n") || !strings.HasSuffix(m.Text, "\n") || strings.HasPrefix(m.Text, "\n") {
			t.Errorf("loose empty lines in\n%s", m.Text)
		}
		for _, want := range []string{v.ParcelID, v.OrderID, v.ShopName, v.CarrierName, v.AddressLine, v.CustomerName} {
			if !strings.Contains(m.Text, want) || !strings.Contains(m.HTML, want) {
				t.Errorf("%q is missing", want)
			}
		}
		if !strings.Contains(m.HTML, `<html lang="`+m.Locale+`">`) {
			t.Error("the page does not name its language")
		}
		if strings.Count(m.HTML, "<h1") != 1 {
			t.Error("not one h1")
		}
	})
}

var (
	tags    = regexp.MustCompile(`(?s)<style>.*?</style>|<title>.*?</title>|<[^>]*>`)
	preview = regexp.MustCompile(`(?s)<div style="display:none[^>]*>(.*?)</div>`)
)

// A locked phone shows the sender, the subject and the first lines of the body,
// some two hundred characters.
func TestCodeIsNotSeenBeforeTheMailIsOpened(t *testing.T) {
	const glimpse = 200
	everyMail(t, func(t *testing.T, _ string, v View, m Mail) {
		shows := v.Code != "" && rules[v.Kind].code != noCode
		if strings.Contains(m.Subject, sampleCode) {
			t.Error("the subject holds the code")
		}
		if got := strings.Count(m.HTML, sampleCode); shows && got != 1 || !shows && got != 0 {
			t.Errorf("the code stands %d times in the page", got)
		}
		if got := strings.Count(m.Text, "\n"+sampleCode+"\n"); shows && got != 1 || !shows && strings.Contains(m.Text, sampleCode) {
			t.Errorf("the code stands on %d lines of the text", got)
		}
		if !shows {
			return
		}
		if at := utf8.RuneCountInString(m.Text[:strings.Index(m.Text, sampleCode)]); at < glimpse {
			t.Errorf("the code comes after %d characters of the text", at)
		}
		hidden := preview.FindStringSubmatch(m.HTML)
		if hidden == nil || strings.Contains(hidden[1], sampleCode) {
			t.Fatalf("preview: %q", hidden)
		}
		seen := strings.NewReplacer("&zwnj;", "", "&nbsp;", " ").Replace(tags.ReplaceAllString(m.HTML, ""))
		if at := utf8.RuneCountInString(seen[:strings.Index(seen, sampleCode)]); at < glimpse {
			t.Errorf("the code comes after %d characters of the page", at)
		}
	})
}

func TestAdviceComesWithEveryCode(t *testing.T) {
	advice := map[string][]string{
		"en": {
			"until the end of Tuesday 24 November 2026 (24:00)",
			"only at the door, and only for the parcel in front of you", "JJD000390007827",
			"phone, chat or mail", "Neither the courier nor we ever call", "someone you trust",
		},
		"de": {
			"bis Dienstag, 24. November 2026, 24:00 Uhr",
			"nur an der Tür und nur für das Paket, das vor Ihnen steht", "JJD000390007827",
			"am Telefon, im Chat oder per Mail", "Weder der Kurier noch wir rufen jemals an", "anvertrauen",
		},
	}
	everyMail(t, func(t *testing.T, _ string, v View, m Mail) {
		if !strings.Contains(m.Text, sampleCode) {
			return
		}
		for _, line := range advice[m.Locale] {
			if !strings.Contains(oneLine(m.Text), line) || !strings.Contains(m.HTML, line) {
				t.Errorf("%q is missing", line)
			}
		}
	})
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestReleasedAsksWhetherItWasTheCustomer(t *testing.T) {
	for locale, want := range map[string][]string{
		"en": {"Courier 7", "Tuesday 24 November 2026 at 14:05", "Not you?", "press “I do not have it” on your account page at once"},
		"de": {"Courier 7", "Dienstag, 24. November 2026 um 14:05 Uhr", "Das waren nicht Sie?", "auf „Ich habe es nicht“"},
	} {
		m, err := Render(sample(Released, Delivery, locale))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range want {
			if !strings.Contains(oneLine(m.Text), s) || !strings.Contains(m.HTML, s) {
				t.Errorf("%s: %q is missing in\n%s", locale, s, m.Text)
			}
		}
	}
}

func TestLanguages(t *testing.T) {
	for _, test := range []struct{ locale, want string }{
		{"de", "de"},
		{"de-AT", "de"},
		{"de_CH", "de"},
		{"DE-de", "de"},
		{"de-Latn-DE-1996", "de"},
		{"en-GB", "en"},
		{"pt", "en"},
		{"zh-Hant-TW", "en"},
		{"", "en"},
		{"und", "en"},
		{"x", "en"},
		{"not a language", "en"},
		{"de; DROP", "en"},
		{"\x00\xff", "en"},
		{strings.Repeat("de-", 4000), "de"},
	} {
		m, err := Render(sample(Dispatched, Delivery, test.locale))
		if err != nil {
			t.Fatalf("%q: %v", test.locale, err)
		}
		if m.Locale != test.want {
			t.Errorf("%.20q is answered in %s, want %s", test.locale, m.Locale, test.want)
		}
	}
}

func TestForeignTextStaysWhereItBelongs(t *testing.T) {
	const hostile = "A\r\nBcc: all@example.com\x00\u2028\u202e</td><script>x()</script><img src=//evil.example> {{.Name}} \xff"
	everyMail(t, func(t *testing.T, _ string, v View, _ Mail) {
		v.CustomerName, v.ShopName, v.OrderID, v.ParcelID = hostile, hostile, hostile, hostile+"\r\nX:"
		v.CarrierName, v.CourierName, v.AddressLine, v.Reason = hostile, hostile, hostile, hostile
		m, err := Render(v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(m.Subject, func(r rune) bool { return r < ' ' || r == '\u2028' || r == '\u202e' }) {
			t.Errorf("subject: %q", m.Subject)
		}
		if strings.ContainsAny(m.Text+m.HTML, "\r\x00\u2028\u202e") || !utf8.ValidString(m.Text+m.HTML) {
			t.Error("control characters in the body")
		}
		if strings.Contains(m.Text, "\nBcc:") || strings.Contains(m.Text, "\nX:") {
			t.Errorf("a value begins a line:\n%s", m.Text)
		}
		for _, tag := range []string{"<script", "<img"} {
			if strings.Contains(m.HTML, tag) {
				t.Errorf("%s in the page", tag)
			}
		}
		if !strings.Contains(m.HTML, "A Bcc: all@example.com &lt;/td&gt;&lt;script&gt;") {
			t.Error("the value itself is gone")
		}
	})
}

var loaders = regexp.MustCompile(`(?i)\b(src|srcset|background|action|poster|data)\s*=|url\(|@import|@font-face|<(script|img|link|iframe|object|embed|form|svg|video|base)\b|\bon[a-z]+\s*=`)

func TestNothingIsLoadedAndOneLinkIsOffered(t *testing.T) {
	links := regexp.MustCompile(`[a-z]+://[^"<\s]*|href="[^"]*"`)
	everyMail(t, func(t *testing.T, _ string, v View, m Mail) {
		if found := loaders.FindString(m.HTML); found != "" {
			t.Errorf("%q in the page", found)
		}
		const escaped = `href="https://shop.example/account?parcel=JJD000390007827&amp;tab=handoff"`
		if got := links.FindAllString(m.HTML, -1); !slices.Equal(got, []string{escaped}) {
			t.Errorf("links of the page: %q", got)
		}
		if got := links.FindAllString(m.Text, -1); !slices.Equal(got, []string{sampleURL}) {
			t.Errorf("links of the text: %q", got)
		}
		if !strings.Contains(m.Text, "\n"+sampleURL+"\n") {
			t.Error("the link does not stand on its own line")
		}

		v.AccountURL = ""
		m, err := Render(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := links.FindString(m.HTML + m.Text); got != "" || strings.Contains(m.HTML, "<a") {
			t.Errorf("a link without a URL: %q", got)
		}
	})
}

func TestEmptyFieldsLeaveNoGap(t *testing.T) {
	everyMail(t, func(t *testing.T, _ string, v View, _ Mail) {
		v.CustomerName, v.ShopName, v.OrderID, v.CarrierName, v.CourierName, v.AddressLine, v.AccountURL, v.ShopContact = "", "", "", "", "", "\t", "", " "
		m, err := Render(v)
		if err != nil {
			t.Fatal(err)
		}
		greeting := map[string]string{"en": "\nHello,\n", "de": "\nGuten Tag,\n"}[m.Locale]
		if !strings.Contains(m.Text, greeting) {
			t.Errorf("no %q in\n%s", greeting, m.Text)
		}
		if strings.Contains(m.Text, "\n\n\n") || regexp.MustCompile(`(?m) +$`).MatchString(m.Text) {
			t.Errorf("a gap in\n%s", m.Text)
		}
		for _, label := range []string{"Order", "Bestellung", "Shop", "Shop contact", "Kontakt zum Shop", "Carrier", "Paketdienst", "Address", "Adresse"} {
			if strings.Contains(m.Text, "\n"+label+"  ") { // as the column of labels is set
				t.Errorf("label %q without a value", label)
			}
		}
	})
}

// What html-validate and the W3C's checker found once stays mended. Styles within elements and
// the attributes of tables remain: mail programs need them.
func TestMailsAreWholeHTML(t *testing.T) {
	heading := regexp.MustCompile(`<h[1-6][^>]*>\s*</h`)
	everyMail(t, func(t *testing.T, _ string, _ View, m Mail) {
		if !strings.HasPrefix(m.HTML, "<!DOCTYPE html>\n<html lang=\""+m.Locale+"\">") || strings.Count(m.HTML, "<table ") == 0 ||
			strings.Count(m.HTML, "<table ") != strings.Count(m.HTML, "<tbody>") || strings.Count(m.HTML, "</tbody></table>") != strings.Count(m.HTML, "<tbody>") ||
			strings.Contains(m.HTML, "supported-color-schemes:") || heading.MatchString(m.HTML) {
			t.Errorf("not whole:\n%s", m.HTML)
		}
	})
}

func TestSameViewSameMail(t *testing.T) {
	everyMail(t, func(t *testing.T, _ string, v View, m Mail) {
		t.Parallel()
		again, err := Render(v)
		if err != nil {
			t.Fatal(err)
		}
		if again != m {
			t.Error("two renderings differ")
		}
	})
}

func TestRefusals(t *testing.T) {
	for name, spoil := range map[string]func(*View){
		"kind unknown":            func(v *View) { v.Kind = "welcome" },
		"kind empty":              func(v *View) { v.Kind = "" },
		"purpose unknown":         func(v *View) { v.Purpose = "gift" },
		"purpose of another kind": func(v *View) { v.Kind = Collected },
		"parcel":                  func(v *View) { v.ParcelID = "\r\n" },
		"zone":                    func(v *View) { v.Zone = nil },
		"window":                  func(v *View) { v.ValidUntil = time.Time{} },
		"at":                      func(v *View) { v.Kind, v.At = Released, time.Time{} },
		"nothing left of several": func(v *View) { v.Kind, v.All = HandedInPart, 3 },
		"all left of several":     func(v *View) { v.Kind, v.All, v.Left = RecalledInPart, 1, []string{"JJD000390007818"} },
		"code missing":            func(v *View) { v.Code = "" },
		"code short":              func(v *View) { v.Code = "04821" },
		"code in words":           func(v *View) { v.Kind, v.Code = TakenBack, "04821x" },
		"code of other digits":    func(v *View) { v.Code = "٠٤٨٢١٣" },
		"code with a line break":  func(v *View) { v.Code = "048213\n" },
		"URL of a script":         func(v *View) { v.AccountURL = "javascript:alert(1)" },
		"URL without a host":      func(v *View) { v.AccountURL = "/account" },
		"URL with a space":        func(v *View) { v.AccountURL = "https://shop.example/a b" },
		"URL with a line break":   func(v *View) { v.AccountURL = "https://shop.example/\r\nX: y" },
	} {
		t.Run(name, func(t *testing.T) {
			v := sample(CodeIssued, Delivery, "en")
			spoil(&v)
			m, err := Render(v)
			if !errors.Is(err, ErrView) {
				t.Fatalf("err = %v, want ErrView", err)
			}
			if m != (Mail{}) {
				t.Error("half a mail came back")
			}
			for _, secret := range []string{v.Code, v.CustomerName, v.AddressLine, v.AccountURL} {
				if secret != "" && strings.Contains(err.Error(), secret) {
					t.Errorf("the error tells %q", secret)
				}
			}
		})
	}
}
