package api_test

import (
	"fmt"
	"strings"
	"testing"

	"latchkey/handoff/handofftest"
)

// faultsOf are the places and rules of a problem.
func faultsOf(a *answer) string {
	var all []string
	list, _ := a.body["errors"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		all = append(all, fmt.Sprint(m["location"], " ", m["message"]))
	}
	return strings.Join(all, "; ")
}

// warningsOf are the codes and places of the warnings of an answer.
func warningsOf(body map[string]any) string {
	var all []string
	list, _ := body["warnings"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		all = append(all, fmt.Sprint(m["code"], " ", m["field"]))
	}
	return strings.Join(all, "; ")
}

// An amount is read as no less than what its writer may have meant, or it is refused.
func TestAmounts(t *testing.T) {
	h := newHouse(t, nil)
	h.Policy.CodeFrom["KWD"] = "45"
	const pattern = "must match ^[0-9]{1,12}([.][0-9]{1,4})?$"
	for i, c := range []struct {
		amount, currency string
		want             string // the rule; empty: accepted
		code             bool
	}{
		{"1.299", "EUR", "must have at most 2 decimals: ISO 4217 gives this currency 2", false},
		{"1.000", "EUR", "must have at most 2 decimals: ISO 4217 gives this currency 2", false},
		{"1299.000", "EUR", "must have at most 2 decimals: ISO 4217 gives this currency 2", false},
		{"1.299", "eur", "must have at most 2 decimals: ISO 4217 gives this currency 2", false},
		{"129.900", "JPY", "must have no decimals: ISO 4217 gives this currency none", false},
		{"1299.0", "CLP", "must have no decimals: ISO 4217 gives this currency none", false},
		{"1.2999", "KWD", "must have at most 3 decimals: ISO 4217 gives this currency 3", false},
		{"1.29999", "CLF", pattern, false},
		{"1.299", "KWD", "", true}, // it may be 1299
		{"1.29", "KWD", "", false},
		{"1.299", "XTS", "", true},
		{"149.99", "EUR", "", false},
		{"0149.99", "EUR", "", false},
		{"0150", "EUR", "", true}, // and not 104, as in octal
		{"150", "EUR", "", true},
		{"149.99", " eur ", "", false},
		{"149.99", "DEM", "", true},
		{"1299.", "EUR", pattern, false},
		{".5", "EUR", pattern, false},
		{"1,299.00", "EUR", pattern, false},
		{"1.299,00", "EUR", pattern, false},
		{"1,5", "EUR", pattern, false},
		{"1 299", "EUR", pattern, false},
		{"1\u00a0299", "EUR", pattern, false},
		{"1'299", "EUR", pattern, false},
		{"1_299", "EUR", pattern, false},
		{"1.299.000", "EUR", pattern, false},
		{" 1299", "EUR", pattern, false},
		{"1299\n", "EUR", pattern, false},
		{"+1299", "EUR", pattern, false},
		{"-1299", "EUR", pattern, false},
		{"1.299e3", "EUR", pattern, false},
		{"1E3", "EUR", pattern, false},
		{"0x513", "EUR", pattern, false},
		{"１２９９", "EUR", pattern, false},
		{"١٢٩٩", "EUR", pattern, false},
		{"1٫5", "EUR", pattern, false},
		{"NaN", "EUR", pattern, false},
		{"Inf", "EUR", pattern, false},
		{"€1299", "EUR", pattern, false},
		{"", "EUR", "is required", false},
	} {
		a := h.do(t, warehouse, "POST", "/v1/dispatches", sample(fmt.Sprint("P", i), map[string]any{"value.amount": c.amount, "value.currency": c.currency}))
		switch {
		case c.want != "":
			if a.status != 422 || a.code() != "invalid-request" || faultsOf(a) != "body.value.amount "+c.want {
				t.Errorf("%q %s: %d %s", c.amount, c.currency, a.status, a.text)
			}
		case a.status != 201 || a.body["code_required"] != c.code:
			t.Errorf("%q %s: %d %s", c.amount, c.currency, a.status, a.text)
		}
	}
	// A number has lost what its writer meant.
	if a := h.do(t, warehouse, "POST", "/v1/dispatches", sample("PN", map[string]any{"value.amount": 1.299})); faultsOf(a) != "body.value.amount must be a string" {
		t.Errorf("a number: %s", a.text)
	}
	for _, currency := range []string{"", "EURO", "€", "978", "E R", "\u0415UR"} { // the last begins with a Cyrillic letter
		if a := h.do(t, warehouse, "POST", "/v1/dispatches", sample("PC", map[string]any{"value.currency": currency})); a.status != 422 || !strings.HasPrefix(faultsOf(a), "body.value.currency ") {
			t.Errorf("%q: %d %s", currency, a.status, a.text)
		}
	}
}

// A category that the policy does not know needs a code, and the sender is told, in a
// single answer and in a file's. The value is not repeated.
func TestUnknownCategoriesAreWarnedOf(t *testing.T) {
	h := newHouse(t, nil)
	cheap := func(categories ...any) map[string]any {
		return map[string]any{"value.amount": "1", "categories": categories}
	}
	const unknown = "category-unknown body.categories"
	cases := []struct {
		change map[string]any
		code   bool
		want   string
	}{
		{cheap("jewelry"), true, unknown + "[0]"},
		{cheap("books", "medicines"), true, unknown + "[1]"},
		{cheap("identity-documents"), true, ""},
		{cheap("Identity Documents"), true, ""},
		{cheap("Bijoux précieux", "books", "家電"), true, unknown + "[0]; " + unknown + "[2]"},
		{cheap("Books"), false, ""},
		{cheap("books", "ELECTRONICS "), false, ""},
		{map[string]any{"value.amount": "1", "categories": nil}, false, ""},
		{cheap(), false, ""},
		{map[string]any{"value.amount": "1", "value.currency": "BGN"}, true, "currency-unknown body.value.currency"},
		{map[string]any{"purpose": "return_pickup", "categories": []any{"jewelry"}}, false, ""},
	}
	var file []string
	for i, c := range cases {
		line := sample(fmt.Sprint("P", i), c.change)
		file = append(file, compact(line))
		a := h.expect(t, warehouse, "POST", "/v1/dispatches", line, 201, "")
		if a.body["code_required"] != c.code || warningsOf(a.body) != c.want {
			t.Errorf("%v: %s", c.change, a.text)
		}
		for _, v := range []string{"jewelry", "medicines", "Bijoux", "家電", "BGN"} {
			if strings.Contains(a.text, v) {
				t.Errorf("%s is repeated: %s", v, a.text)
			}
		}
		if again := h.expect(t, warehouse, "POST", "/v1/dispatches", line, 200, ""); warningsOf(again.body) != c.want {
			t.Errorf("%v again: %s", c.change, again.text)
		}
	}
	_, lines := h.bulk(t, strings.Join(file, "\n"))
	for i, c := range cases {
		var got []string
		for _, w := range lines[i].Warnings {
			got = append(got, w.Code+" "+w.Field)
		}
		if lines[i].Status != 200 || strings.Join(got, "; ") != c.want {
			t.Errorf("line %d: %+v, want %q", i+1, lines[i], c.want)
		}
	}
	for _, bad := range []string{"", " ", "a\nb", strings.Repeat("a", 65)} {
		a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("PX", cheap("books", bad)), 422, "invalid-request")
		if !strings.HasPrefix(faultsOf(a), "body.categories[1] ") {
			t.Errorf("%q: %s", bad, a.text)
		}
	}
}

// A code said by telephone is of no use to a courier who is somewhere else: a parcel that
// needs a code needs the position of its address, unless the policy gives that up by name.
func TestNoPlaceNoProof(t *testing.T) {
	const rule = "body.destination.location is required for a parcel that needs a code, unless the policy says allow_without_position for this kind of destination"
	h := newHouse(t, nil)
	h.staff(t)
	nowhere := map[string]any{"destination.location": nil}
	line := sample("P1", nowhere)
	if a := h.expect(t, warehouse, "POST", "/v1/dispatches", line, 422, "position-required"); faultsOf(a) != rule {
		t.Errorf("%s", a.text)
	}
	_, lines := h.bulk(t, compact(line)+"\n"+compact(sample("P2", nil)))
	if l := lines[0]; l.Status != 422 || l.Code != "position-required" || len(l.Errors) != 1 || l.Errors[0].Location != "body.destination.location" || lines[1].Status != 201 {
		t.Errorf("in a file: %+v", lines)
	}
	// What needs no code needs none; its right says that no place is asked.
	a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P3", map[string]any{"destination.location": nil, "value.amount": "1"}), 201, "")
	if !strings.Contains(a.text, `"proofs":["courier","route","parcel","time"],"uses":1}`) {
		t.Errorf("an ordinary parcel: %s", a.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/P3/verify", `{}`, 200, "")

	for where, want := range map[string]string{
		`{"lat":0,"lon":0}`:              "body.destination.location must not be 0,0, which is in the ocean: leave the location out where it is not known",
		`{"lat":-0.0,"lon":0.0000001}`:   "body.destination.location must not be 0,0, which is in the ocean: leave the location out where it is not known",
		`{"lat":0}`:                      "body.destination.location.lon is required",
		`{"lat":91,"lon":13}`:            "body.destination.location.lat must be between -90 and 90",
		`{"lat":52.5,"lon":180.1}`:       "body.destination.location.lon must be between -180 and 180",
		`{"lat":"52,5","lon":13}`:        "body.destination.location.lat must be a number",
		`{"lat":1e400,"lon":13}`:         "body.destination.location.lat must be a number",
		`{"lat":null,"lon":13}`:          "body.destination.location.lat is required",
		`{"latitude":52.5,"lon":13.342}`: "body.destination.location.latitude is not a known field",
	} {
		text := strings.Replace(compact(sampleDispatch), `{"lat":52.5256,"lon":13.3421}`, where, 1)
		if a := h.expect(t, warehouse, "POST", "/v1/dispatches", text, 422, "invalid-request"); faultsOf(a) != want {
			t.Errorf("%s: %s", where, a.text)
		}
	}

	// Five kilometres away, or without a position, a right code is not even compared.
	grant := h.Parcel(t, "P2").ID.String()
	code := h.codeOf(t, grant)
	far := `{"code":"` + code + `","location":{"lat":52.5706,"lon":13.3421,"accuracy_m":12,"age_s":3}}`
	for _, body := range []string{far, `{"code":"` + code + `"}`} {
		if a := h.expect(t, courier, "POST", "/v1/parcels/P2/verify", body, 403, "outside-geofence"); a.at("proofs", "place") != "failed" || a.at("proofs", "code") != "not-checked" {
			t.Errorf("%s", a.text)
		}
	}

	// Given up by name: the right and a warning say so, and a position that is given is asked.
	h = newHouse(t, nil)
	h.staff(t)
	h.Policy.AllowWithoutPosition = map[string]string{"residence": "our addresses have no positions yet"}
	a = h.expect(t, warehouse, "POST", "/v1/dispatches", line, 201, "")
	if !strings.Contains(a.text, `"proofs":["courier","route","parcel","time","code"],"uses":1,"given_up":["place"]`) || warningsOf(a.body) != "position-not-asked body.destination.location" {
		t.Errorf("given up: %s", a.text)
	}
	if a := h.expect(t, warehouse, "GET", "/v1/dispatches/"+a.body["grant_id"].(string), "", 200, ""); !strings.Contains(a.text, `"given_up":["place"]`) {
		t.Errorf("read again: %s", a.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", `{"code":"`+h.codeOf(t, a.body["grant_id"].(string))+`"}`, 200, "")
	if a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("P2", nil), 201, ""); strings.Contains(a.text, "given_up") || warningsOf(a.body) != "" {
		t.Errorf("given: %s", a.text)
	}
	h.expect(t, courier, "POST", "/v1/parcels/P2/verify", `{"code":"`+handofftest.WrongCode(ptr(h.Parcel(t, "P2")), 1).Reveal()+`"}`, 403, "outside-geofence")
}

func ptr[T any](v T) *T { return &v }

// The zone of an address is that of a place, by the database's exact name.
func TestZonesOfAddresses(t *testing.T) {
	h := newHouse(t, nil)
	const rule = "time_zone must be the zone of a place in the IANA time zone database, such as Europe/Berlin; UTC, EST, Etc/GMT+1 and the like are no places"
	building := func(zone string) string {
		return `{"name":"Turmstr. 5","address":"Turmstr. 5, Berlin","time_zone":"` + zone + `","location":{"lat":52.5,"lon":13.3},"carriers":["swift"]}`
	}
	for i, zone := range []string{"Europe/Berlin", "US/Eastern", "Asia/Calcutta", "Japan", "America/Argentina/Buenos_Aires"} {
		h.expect(t, warehouse, "POST", "/v1/dispatches", sample(fmt.Sprint("P", i), map[string]any{"destination.time_zone": zone}), 201, "")
		h.expect(t, ops, "PUT", fmt.Sprint("/v1/buildings/b", i), building(zone), 200, "")
	}
	for _, zone := range []string{
		"Europe//Berlin", "europe/berlin", "Factory", "EST", "MST", "HST", "UTC", "GMT", "Zulu", "CET", "PST8PDT", "Etc/UTC", "Etc/GMT+1", "Local", "localtime",
		"posixrules", "posix/Europe/Berlin", "right/Europe/Berlin", "/etc/localtime", "Europe", "Europe/", "Mars/Olympus",
	} {
		a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("PX", map[string]any{"destination.time_zone": zone}), 422, "time-zone-unknown")
		if faultsOf(a) != "body.destination."+rule {
			t.Errorf("%s: %s", zone, a.text)
		}
		if a := h.expect(t, ops, "PUT", "/v1/buildings/bx", building(zone), 422, "invalid-request"); faultsOf(a) != "body."+rule {
			t.Errorf("%s of a building: %s", zone, a.text)
		}
	}
	for _, zone := range []string{"", "../Europe/Berlin", "Europe/Berlin ", "Europe\\\\Berlin"} {
		a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample("PX", map[string]any{"destination.time_zone": zone}), 422, "invalid-request")
		if !strings.HasPrefix(faultsOf(a), "body.destination.time_zone ") {
			t.Errorf("%q: %s", zone, a.text)
		}
	}
}
