package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"latchkey/handoff"
)

// A parcel is found by its label as scanners and people give it, at every entrance.
func TestEveryEntranceReadsLabels(t *testing.T) {
	h := house5(t)
	grant := h.dispatch(t, "(00)106141412345678908", nil)
	for _, again := range []string{"00106141412345678908", "106141412345678908", "https://id.gs1.org/00/106141412345678908", "]C1\x1d00106141412345678908"} {
		a := h.expect(t, warehouse, "POST", "/v1/dispatches", sample(again, nil), 200, "")
		if a.body["grant_id"] != grant || a.body["parcel_id"] != "106141412345678908" {
			t.Errorf("%s: %s", again, a.text)
		}
	}
	line := func(id string) string {
		return strings.ReplaceAll(sample(id, nil), "\n", "") + "\n"
	}
	a, _ := h.bulk(t, line("00106141412345678908")+line("00106141412345678907")+line("rr473124829gb")+line("RR 473 124 829 GB"))
	for _, want := range []string{`{"line":1,"status":200,"grant_id":"` + grant, `{"line":2,"status":422,"code":"parcel-check-digit"}`} {
		if !strings.Contains(a.text, want) {
			t.Errorf("%s is not in %s", want, a.text)
		}
	}
	path := func(text, act string) string { return "/v1/parcels/" + url.PathEscape(text) + "/" + act }
	for text, want := range map[string]string{"00106141412345678907": "parcel-check-digit", "RR473124828GB": "parcel-check-digit", "a/b": "invalid-request"} {
		for _, act := range []string{"verify", "abort", "attempted"} {
			body := atDoor("")
			if act != "verify" {
				body = `{"reason":"x"}`
			}
			h.expect(t, courier, "POST", path(text, act), body, 422, want)
		}
		h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody(text, here, challenge), 422, want)
		h.expect(t, ops, "GET", "/v1/events?parcel="+url.QueryEscape(text), "", 422, want)
	}
	h.expect(t, courier, "POST", path("]C1\x1d00106141412345678908", "attempted"), `{"reason":"x"}`, 200, "")
	h.expect(t, courier, "POST", "/v1/doors/lobby/unlock", unlockBody("(00) 1 0614141 234567890 8", here, challenge), 200, "")
	for _, query := range []string{"parcel=00106141412345678908", "parcel=" + url.QueryEscape("(00)106141412345678908") + "&carrier=swift"} {
		if a := h.expect(t, ops, "GET", "/v1/events?"+query, "", 200, ""); len(a.body["events"].([]any)) < 3 {
			t.Errorf("%s: %s", query, a.text)
		}
	}
	if r := h.expect(t, courier, "POST", path("https://id.gs1.org/00/106141412345678908", "verify"), atDoor(""), 403, "code-required"); r.status == http.StatusNotFound {
		t.Error(r.text)
	}
}

// The prefixes of shops, and the claim to a parcel, are of the one form, not of spellings.
func TestAPrefixIsOfTheCanonicalID(t *testing.T) {
	h := newHouse(t, nil)
	h.Policy.Shops["demo"] = handoff.ShopPolicy{Carriers: []string{"swift"}, Prefixes: []string{"RR4", "1061"}}
	h.Policy.Shops["other"] = handoff.ShopPolicy{Carriers: []string{"swift"}}
	other := warehouse
	other.Shop = "other"
	for _, id := range []string{"rr473124829gb", "R R473124829GB", "00106141412345678908", "(00)106141412345678908"} {
		h.expect(t, other, "POST", "/v1/dispatches", sample(id, nil), 422, "parcel-not-allowed")
		if a := h.do(t, warehouse, "POST", "/v1/dispatches", sample(id, nil)); a.status/100 != 2 {
			t.Errorf("%s: %s", id, a.text)
		}
	}
}
