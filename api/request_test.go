package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"latchkey/handoff"
	"latchkey/handoff/service"
)

const dispatchJSON = `{"parcel_id":"JJD000390007827","order_id":"302-1234567","carrier_id":"swift","route_id":"BER-042",
 "delivery_date":"2026-11-24","purpose":"delivery","value":{"amount":"1299.00","currency":"EUR"},"categories":["electronics"],
 "customer":{"id":"cus_81","name":"Sample Customer 81","email":"customer@shop.example","locale":"de"},
 "destination":{"kind":"residence","lines":["Turmstr. 5"],"postal_code":"10559","city":"Berlin","country":"DE",
   "time_zone":"Europe/Berlin","location":{"lat":52.5256,"lon":13.3421},"building_id":"bld_turm5","unit":"4 links"}}`

func parseDispatch(data string) (handoff.Dispatch, violations) {
	return parse[dispatchRequest, handoff.Dispatch]([]byte(data))
}

func TestDispatchIsParsed(t *testing.T) {
	got, bad := parseDispatch(dispatchJSON)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	at := handoff.PointOf(52.5256, 13.3421)
	want := handoff.Dispatch{
		Parcel: "JJD000390007827", Order: "302-1234567", Carrier: "swift", Route: "BER-042",
		Day: handoff.Date{Year: 2026, Month: 11, Day: 24}, Purpose: handoff.PurposeDelivery,
		Value: handoff.Money{Amount: "1299", Currency: "EUR"}, Categories: []string{"electronics"},
		Customer: handoff.Customer{ID: "cus_81", Name: "Sample Customer 81", Email: "customer@shop.example", Locale: "de"},
		To: handoff.Destination{
			Kind: handoff.Residence, Lines: []string{"Turmstr. 5"}, Postal: "10559", City: "Berlin", Country: "DE",
			Zone: "Europe/Berlin", Location: &at, Building: "bld_turm5", Unit: "4 links",
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSpellingDoesNotCount(t *testing.T) {
	one, bad1 := parseDispatch(dispatchJSON)
	two, bad2 := parseDispatch(strings.NewReplacer(
		`"1299.00"`, `"01299.0"`, `"EUR"`, `" eur "`, `"residence"`, `"Residence"`, `["electronics"]`, `["Electronics ","electronics"]`, `"purpose":"delivery",`, "",
		`customer@shop.example`, `customer@SHOP.example`,
	).Replace(dispatchJSON))
	if len(bad1)+len(bad2) > 0 || !one.Equal(&two) {
		t.Errorf("%v %v: %+v and %+v differ", bad1, bad2, one, two)
	}
}

// set puts a value at a path such as customer.id, or takes the field out for absent.
func set(m map[string]any, path string, value any) {
	name, rest, deeper := strings.Cut(path, ".")
	switch {
	case deeper:
		set(m[name].(map[string]any), rest, value)
	case value == absent:
		delete(m, name)
	default:
		m[name] = value
	}
}

var absent = new(int)

// leaves lists the paths of all fields.
func leaves(m map[string]any, prefix string) []string {
	var paths []string
	for name, v := range m {
		paths = append(paths, prefix+name)
		if inner, ok := v.(map[string]any); ok {
			paths = append(paths, leaves(inner, prefix+name+".")...)
		}
	}
	slices.Sort(paths)
	return paths
}

// The tags of a request's shape are what callers read; parse is what holds. Each field
// in turn gets each of these values, and both must agree, but for rules that a JSON
// schema cannot say.
func TestDocumentationHoldsToTheRules(t *testing.T) {
	values := []any{
		absent, "", " ", "x", "é", "a b", "a/b", "A", "EUR", "eur", "DE", "DEU", "de", "de-AT", "de_AT", "1.5", "1.", "-1", "1e3", "12345678901234",
		"1.23456", "123456", "12345", "12345６", "2026-11-24", "2026-02-30", "Europe/Berlin", "delivery", "return_pickup", "residence", "locker", "palace",
		"customer@shop.example", "2027-01-01T00:00:00Z", strings.Repeat("a", 17), strings.Repeat("a", 61), strings.Repeat("a", 64), strings.Repeat("a", 65),
		strings.Repeat("é", 100), strings.Repeat("a", 101), strings.Repeat("a", 121), strings.Repeat("a", 200), strings.Repeat("a", 201), strings.Repeat("a", 300),
		"07:00", "24:00", "24:01", "7:00", "lobby", "home", "bridged", "keypad", strings.Repeat("A", 43), strings.Repeat("A", 11),
		1.0, -1.0, 90.5, 180.5, 1e7, true, false,
		[]any{},
		[]any{"x"},
		[]any{"home"},
		[]any{""},
		[]any{1.0},
		[]any{strings.Repeat("x", 121)},
		slices.Repeat([]any{"x"}, 7), slices.Repeat([]any{"x"}, 17),
		map[string]any{},
		map[string]any{"lat": 1.0},
		map[string]any{"lat": 1.0, "lon": 2.0},
		map[string]any{"lat": 0.0, "lon": 0.0000001},
		"1.299",
	}
	// What the schema lets pass and parse does not.
	finer := []string{
		"must not be blank", "must be a plain mail address", "must be a calendar date", "must be a date-time", "is required",
		"must be the zone of a place", "must not be 0,0", "must have at most", "must be two different times", "must be an Ed25519", "must be 8 to 32 bytes", "is for a garage",
		"must be a parcel id", "must go with",
	}

	registry := huma.NewMapRegistry("#/", huma.DefaultSchemaNamer)
	check := func(t *testing.T, shape reflect.Type, good string, read func([]byte) violations) {
		schema := registry.Schema(shape, false, "")
		for _, s := range append(slices.Collect(maps.Values(registry.Map())), schema) {
			spellOut(s)
			s.PrecomputeMessages()
		}
		var paths map[string]any
		if err := json.Unmarshal([]byte(good), &paths); err != nil {
			t.Fatal(err)
		}
		for _, path := range append(leaves(paths, ""), "unknown") {
			for _, value := range values {
				var request map[string]any
				_ = json.Unmarshal([]byte(good), &request)
				set(request, path, value)
				data, err := json.Marshal(request)
				if err != nil {
					t.Fatal(err)
				}
				bad := read(data)
				var documented huma.ValidateResult
				huma.Validate(registry, schema, huma.NewPathBuffer([]byte("body"), 4), huma.ModeWriteToServer, any(request), &documented)
				switch {
				case value == "" && len(bad) == 0: // the schema says less: an empty optional field is absent
					set(request, path, absent)
					if data, err = json.Marshal(request); err != nil || len(read(data)) > 0 {
						t.Errorf("%s may be empty, and not left out", path)
					}
				case len(documented.Errors) > 0 && len(bad) == 0:
					t.Errorf("%s = %.40v passes, though documented otherwise: %v", path, value, documented.Errors[0])
				case len(documented.Errors) == 0 && len(bad) > 0 && !slices.ContainsFunc(finer, func(m string) bool { return strings.HasPrefix(bad[0].Message, m) }):
					t.Errorf("%s = %.40v is documented to pass, but: %v", path, value, bad)
				}
				for _, v := range bad {
					if text, ok := value.(string); ok && len(text) > 4 && strings.Contains(v.Message, text) && !strings.Contains(v.Message, "one of") {
						t.Errorf("%s = %q is repeated: %s", path, text, v.Message)
					}
				}
			}
		}
	}
	position := `{"lat":52.5,"lon":13.3,"accuracy_m":5,"age_s":1}`
	t.Run("dispatch", func(t *testing.T) {
		check(t, reflect.TypeFor[dispatchRequest](), dispatchJSON, func(b []byte) violations {
			_, bad := parse[dispatchRequest, handoff.Dispatch](b)
			return bad
		})
	})
	t.Run("verify", func(t *testing.T) {
		check(t, reflect.TypeFor[verifyRequest](), `{"code":"123456","location":`+position+`,"attempt_id":"a"}`, func(b []byte) violations {
			_, bad := parse[verifyRequest, service.Presentation](b)
			return bad
		})
	})
	t.Run("report", func(t *testing.T) {
		check(t, reflect.TypeFor[reportRequest](), `{"reason":"Nobody","location":`+position+`,"attempt_id":"a"}`, func(b []byte) violations {
			_, bad := parse[reportRequest, service.Presentation](b)
			return bad
		})
	})
	t.Run("reason", func(t *testing.T) {
		check(t, reflect.TypeFor[reasonRequest](), `{"reason":"Cancelled"}`, func(b []byte) violations {
			_, bad := parse[reasonRequest, string](b)
			return bad
		})
	})
	t.Run("reschedule", func(t *testing.T) {
		check(t, reflect.TypeFor[rescheduleRequest](), `{"delivery_date":"2026-11-25","route_id":"B"}`, func(b []byte) violations {
			_, bad := parse[rescheduleRequest, reschedule](b)
			return bad
		})
	})
	t.Run("route", func(t *testing.T) {
		check(t, reflect.TypeFor[routeRequest](), `{"courier_id":"cou_7"}`, func(b []byte) violations {
			_, bad := parse[routeRequest, string](b)
			return bad
		})
	})
	t.Run("building", func(t *testing.T) {
		check(t, reflect.TypeFor[buildingRequest](), `{"name":"Turmstr. 5","address":"Turmstr. 5, Berlin","time_zone":"Europe/Berlin","location":{"lat":52.5,"lon":13.3},
			"manager":"manager@building.example","carriers":["swift"],"delivery_hours":{"from":"07:00","to":"21:00"},"quiet_hours":{"from":"22:00","to":"06:00"},"returns":true}`,
			func(b []byte) violations {
				_, bad := parse[buildingRequest, handoff.Building](b)
				return bad
			})
	})
	t.Run("door", func(t *testing.T) {
		check(t, reflect.TypeFor[doorRequest](), `{"building_id":"bld_1","kind":"garage","mode":"connected","location":{"lat":52.5,"lon":13.3},"geofence_m":20,
			"public_key":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","relock_s":5,"owner":{"shop_id":"demo","customer_id":"cus_81"}}`,
			func(b []byte) violations {
				_, bad := parse[doorRequest, handoff.Door](b)
				return bad
			})
	})
	t.Run("unlock", func(t *testing.T) {
		check(t, reflect.TypeFor[unlockRequest](), `{"parcel_id":"P1","location":`+position+`,"challenge":"AAAAAAAAAAA","attempt_id":"a"}`, func(b []byte) violations {
			_, bad := parse[unlockRequest, service.UnlockRequest](b)
			return bad
		})
	})
	t.Run("consent", func(t *testing.T) {
		check(t, reflect.TypeFor[consentRequest](), `{"doors":["garage","home"]}`, func(b []byte) violations {
			_, bad := parse[consentRequest, []handoff.TargetKind](b)
			return bad
		})
	})
	t.Run("reports", func(t *testing.T) {
		check(t, reflect.TypeFor[doorReportsRequest](), `{"reports":["AAAA"]}`, func(b []byte) violations {
			_, bad := parse[doorReportsRequest, []string](b)
			return bad
		})
	})
	t.Run("courier", func(t *testing.T) {
		check(t, reflect.TypeFor[courierRequest](), `{"name":"Courier 7","cleared_until":"2027-01-01","suspended":true,"clear_budget":true,"reason":"Spoke with the courier"}`, func(b []byte) violations {
			_, bad := parse[courierRequest, courierChange](b)
			return bad
		})
	})
}

func TestStrictJSON(t *testing.T) {
	for body, want := range map[string]string{
		`{"code":"123456","CODE":"1"}`:                          "body.CODE is not a known field 422",
		`{"Code":"123456"}`:                                     "body.Code is not a known field 422",
		`{"code":"123456","code":"654321"}`:                     "body.code is given twice 422",
		`{"location":{"lat":1,"lon":2,"accuracy_m":1,"alt":5}}`: "body.location.alt is not a known field 422",
		`{"123456":1}`:                                          "body is not a known field 422",
		`{"123456 is my code":1}`:                               "body is not a known field 422",
		`{"code":123456}`:                                       "body.code must be a string 422",
		`{"location":[1,2]}`:                                    "body.location must be an object 422",
		`{"location":{"lat":"1"}}`:                              "body.location.lat must be a number 422",
		`[]`:                                                    "body must be an object 422",
		`{"code":"123456"} {}`:                                  "body must be one JSON value in UTF-8 400",
		`{"code":"12345`:                                        "body must be one JSON value in UTF-8 400",
		"{\"code\":\"12345\xff\"}":                              "body must be one JSON value in UTF-8 400",
		`{"code":"12345\ud800"}`:                                "body must be one JSON value in UTF-8 400",
		`code=123456`:                                           "body must be one JSON value in UTF-8 400",
		`{"code":"12345"}`:                                      "body.code must be exactly six digits 422",
		`{"code":" 123456"}`:                                    "body.code must be exactly six digits 422",
		`{"code":""}`:                                           "body.code must be exactly six digits 422",
		`{"attempt_id":""}`:                                     "body.attempt_id is required 422",
	} {
		_, bad := parse[verifyRequest, service.Presentation]([]byte(body))
		if len(bad) != 1 {
			t.Errorf("%s: %v", body, bad)
			continue
		}
		if got := fmt.Sprint(bad[0].Error(), " ", bad[0].GetStatus()); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestEveryFaultIsNamedAtOnce(t *testing.T) {
	_, bad := parseDispatch(`{"parcel_id":"a/b","customer":{"email":"x"},"destination":{"lines":["ok","a\u0007b"]}}`)
	at := map[string]bool{}
	for _, v := range bad {
		at[v.Location] = true
	}
	want := []string{
		"body.carrier_id", "body.customer.email", "body.customer.id", "body.delivery_date", "body.destination.city", "body.destination.country",
		"body.destination.kind", "body.destination.lines[1]", "body.destination.time_zone", "body.parcel_id", "body.route_id", "body.value.amount", "body.value.currency",
	}
	if got := slices.Sorted(maps.Keys(at)); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if p := invalid(bad); p.Status != http.StatusUnprocessableEntity || p.Code != "invalid-request" {
		t.Errorf("%+v", p)
	}
}

func TestEmail(t *testing.T) {
	for in, want := range map[string]string{
		"customer@shop.example":             "customer@shop.example",
		"a.b+c@shop.example":                "a.b+c@shop.example",
		"Customer@Shop.Example":             "Customer@shop.example",
		"customer@bücher.example":           "customer@xn--bcher-kva.example",
		"":                                  "",
		"customer":                          "",
		"@shop.example":                     "",
		"customer@":                         "",
		"a..b@docomo.example":               "a..b@docomo.example",
		".a.@docomo.example":                ".a.@docomo.example",
		"a@ab--cd.example":                  "a@ab--cd.example",
		"a@r3---sn.example":                 "a@r3---sn.example",
		"a@-b.example":                      "",
		"a@b-.example":                      "",
		"a@b..example":                      "",
		"NAME <customer@shop.example>":      "",
		"<customer@shop.example>":           "",
		"customer@shop.example, b@c.de":     "",
		"customer@shop.example\r\nBcc: x@y": "",
		`"a b"@shop.example`:                "",
		"a@[127.0.0.1]":                     "",
		"a@shop_.example":                   "",
		"ä@shop.example":                    "",
		"a@shop.example.":                   "",
		strings.Repeat("a", 65) + "@b.de":   "",
	} {
		var bad violations
		if got := bad.email("email", in); got != want || (want == "") != (len(bad) == 1) {
			t.Errorf("%q is %q %v, want %q", in, got, bad, want)
		}
	}
}

func TestClearedUntil(t *testing.T) {
	for in, want := range map[string]string{
		"2027-06-30":                "2027-07-01T00:00:00Z",
		"2027-06-30T12:00:00+02:00": "2027-06-30T10:00:00Z",
		"2027-12-31":                "2028-01-01T00:00:00Z",
	} {
		got, ok := endOf(in)
		if !ok || got.Time().Format("2006-01-02T15:04:05Z") != want {
			t.Errorf("%s is %v %v, want %s", in, got.Time(), ok, want)
		}
	}
	for _, in := range []string{"", "tomorrow", "2027-02-30", "2027-06-30T12:00:00", "1960-01-01", "9999999-01-01"} {
		if _, ok := endOf(in); ok {
			t.Errorf("%q was understood", in)
		}
	}
}

// The sample day that ships with the program must pass.
func TestSampleDayIsAccepted(t *testing.T) {
	day, err := os.ReadFile("../cmd/latchkey/sample/day.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range bytes.Lines(day) {
		lines++
		if _, bad := parseDispatch(string(line)); len(bad) > 0 {
			t.Errorf("line %d: %v", lines, bad)
		}
	}
	if lines < 100 {
		t.Errorf("only %d lines", lines)
	}
}

var safeLocation = regexp.MustCompile(`^body(\.[A-Za-z_][A-Za-z0-9_-]{0,39}|\[[0-9]{1,2}\])*$`)

// Whatever comes in, it is refused at a place that is safe to name, or it is a dispatch
// that says the same when it is read again.
func FuzzDispatch(f *testing.F) {
	f.Add(dispatchJSON)
	f.Add(`{"destination":{"lines":[{}]}}`)
	f.Add(`{"a\u0000b":{"c":1}}`)
	f.Add(`[{"x":{"x":1,"x":2}}]`)
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, data string) {
		d, bad := parseDispatch(data)
		for _, v := range bad {
			if !safeLocation.MatchString(v.Location) || v.Message == "" {
				t.Errorf("%q: %+v", data, v)
			}
		}
		if len(bad) > 0 {
			return
		}
		if d.Parcel == "" || d.Customer.Email == "" || d.Purpose.Act() == 0 || d.Value.Amount == "" || d.Day == (handoff.Date{}) {
			t.Errorf("%q passes as %+v", data, d)
		}
		again, bad := parseDispatch(data)
		if len(bad) > 0 || !again.Equal(&d) {
			t.Errorf("%q differs when read again", data)
		}
	})
}

// Whatever a courier, a customer, a building or a door sends, it is refused at a place that is safe to
// name and without an echo, or it is read the same each time.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"code":"123456","location":{"lat":52.5,"lon":13.4,"accuracy_m":10,"age_s":1},"attempt_id":"a1","claimed_at":"2026-11-24T11:02:03Z"}`,
		`{"parcel_id":"JJD000390007827","challenge":"AAAAAAAAAAA"}`, `{"reason":"No one answered"}`, `{"delivery_date":"2026-11-25"}`,
		`{"doors":["garage"]}`, `{"reports":["AAAA"]}`, `{"cleared_until":"2027-06-30"}`, `{"ruling":"handed-over","reason":"x"}`, `{"courier_id":"cou_7"}`,
		`{"name":"Turmstr. 5","time_zone":"Europe/Berlin","quiet_hours":{"from":"22:00","to":"06:00"}}`, `{"kind":"lobby","mode":"connected","public_key":"x","location":{"lat":1,"lon":1}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for kind, read := range map[string]func() (any, violations){
			"verify":     func() (any, violations) { return parse[verifyRequest, service.Presentation](body) },
			"report":     func() (any, violations) { return parse[reportRequest, service.Presentation](body) },
			"settle":     func() (any, violations) { return parse[settleRequest, settlement](body) },
			"reschedule": func() (any, violations) { return parse[rescheduleRequest, reschedule](body) },
			"route":      func() (any, violations) { return parse[routeRequest, string](body) },
			"courier":    func() (any, violations) { return parse[courierRequest, courierChange](body) },
			"building":   func() (any, violations) { return parse[buildingRequest, handoff.Building](body) },
			"door":       func() (any, violations) { return parse[doorRequest, handoff.Door](body) },
			"unlock":     func() (any, violations) { return parse[unlockRequest, service.UnlockRequest](body) },
			"consent":    func() (any, violations) { return parse[consentRequest, []handoff.TargetKind](body) },
			"reports":    func() (any, violations) { return parse[doorReportsRequest, []string](body) },
		} {
			value, bad := read()
			for _, v := range bad {
				if !safeLocation.MatchString(v.Location) || v.Message == "" {
					t.Errorf("%s %q: %+v", kind, body, v)
				}
			}
			if again, badAgain := read(); len(bad) != len(badAgain) || len(bad) == 0 && !reflect.DeepEqual(value, again) {
				t.Errorf("%s %q differs when read again", kind, body)
			}
		}
	})
}
