package api_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/handoff/door"
	"latchkey/handoff/receipt"
)

// Who took part in a handoff has its signed receipt; it verifies with the published keys and
// names no customer, address or code.
func TestAHandoffHasAReceipt(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	g := h.Parcel(t, "P1")
	code := g.CurrentCode().Reveal()
	h.expect(t, customer, "GET", "/v1/receipts/"+grant+"-h1", "", 404, "receipt-unknown")
	done := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(code), 200, "")
	id, _ := done.at("receipt", "receipt_id").(string)
	if id != grant+"-h1" {
		t.Fatalf("receipt_id is %q", id)
	}

	published := h.send(t, httptest.NewRequest("GET", "/v1/receipts/keys", nil))
	var keys door.KeySet
	if err := json.Unmarshal([]byte(published.text), &keys); err != nil || len(keys) != 1 {
		t.Fatalf("%d keys: %v", len(keys), err)
	}
	for _, who := range []auth.Principal{customer, shop, courier, carrier, ops} {
		a := h.expect(t, who, "GET", "/v1/receipts/"+id, "", 200, "")
		raw, err := base64.RawURLEncoding.DecodeString(a.body["cose"].(string))
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := receipt.Verify(raw, keys)
		if err != nil || r.ID.String() != id || r.Parcels[0] != "P1" || !r.Placed || r.CodeIssue == 0 || r.Courier == "" || r.Courier == courier.Subject {
			t.Errorf("%v: %+v", err, r)
		}
		for _, secret := range []string{g.Dispatch.Customer.Name, g.Dispatch.Customer.Email, g.Dispatch.To.Lines[0], code, courier.Subject} {
			if strings.Contains(a.text, secret) || strings.Contains(string(raw), secret) {
				t.Errorf("the receipt names %q", secret)
			}
		}
		if a.body["by_hand"] != false || a.body["act"] != "release" {
			t.Errorf("%s", a.text)
		}
		req := h.request(t, who, "GET", "/v1/receipts/"+id, "")
		req.Header.Set("Accept", "application/cose")
		if b := h.send(t, req); b.text != string(raw) || b.header.Get("Content-Type") != receipt.MediaType {
			t.Errorf("%d %s: %q", b.status, b.header.Get("Content-Type"), b.text)
		}
	}
	second := courier
	second.Subject = "cou_8" // of the same carrier, and took no part
	stranger := customer
	stranger.Subject = "cus_82"
	for _, who := range []auth.Principal{stranger, second} {
		h.expect(t, who, "GET", "/v1/receipts/"+id, "", 404, "receipt-unknown")
	}
	for _, none := range []string{grant + "-h2", grant + "-h0", grant + "-h01", grant, "x"} {
		h.expect(t, ops, "GET", "/v1/receipts/"+none, "", 404, "receipt-unknown")
	}
}

// A handoff that was taken back has no receipt, and the next one has another.
func TestAnAbortedHandoffHasNoReceipt(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	g := h.Parcel(t, "P1")
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(g.CurrentCode().Reveal()), 200, "")
	if a := h.expect(t, courier, "POST", "/v1/parcels/P1/abort", `{"reason":"x"}`, 200, ""); a.at("receipt", "receipt_id") != nil {
		t.Errorf("an abort has a receipt: %s", a.text)
	}
	h.expect(t, customer, "GET", "/v1/receipts/"+grant+"-h1", "", 410, "handoff-taken-back")
	g = h.Parcel(t, "P1")
	a := h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(g.CurrentCode().Reveal()), 200, "")
	if got := a.at("receipt", "receipt_id"); got != grant+"-h2" {
		t.Errorf("the second handoff's receipt is %v", got)
	}
	h.expect(t, customer, "GET", "/v1/receipts/"+grant+"-h2", "", 200, "")
	h.expect(t, customer, "GET", "/v1/receipts/"+grant+"-h1", "", 410, "handoff-taken-back")
}

// Where the name and the address left the grant, its receipt says the same as before.
func TestAReceiptOutlivesTheAddress(t *testing.T) {
	h := newHouse(t, nil)
	h.staff(t)
	grant := h.dispatch(t, "P1", nil)
	g := h.Parcel(t, "P1")
	h.expect(t, courier, "POST", "/v1/parcels/P1/verify", atDoor(g.CurrentCode().Reveal()), 200, "")
	before := h.expect(t, shop, "GET", "/v1/receipts/"+grant+"-h1", "", 200, "")
	h.Clock.Advance(8 * 24 * time.Hour)
	if _, err := h.Service.Sweep(background, 100); err != nil {
		t.Fatal(err)
	}
	if g = h.Parcel(t, "P1"); g.Scrubbed == nil {
		t.Fatal("the address is still there")
	}
	after := h.expect(t, shop, "GET", "/v1/receipts/"+grant+"-h1", "", 200, "")
	if after.text != before.text {
		t.Errorf("before %s, after %s", before.text, after.text)
	}
}

// Without a key nothing is signed, and the answer says so.
func TestWithoutAKeyThereAreNoReceipts(t *testing.T) {
	h := newHouse(t, nil, func(c *api.Config) { c.Receipts = nil })
	h.expect(t, ops, "GET", "/v1/receipts/keys", "", 503, "receipts-not-configured")
	h.expect(t, ops, "GET", "/v1/receipts/000000000000000000000000-1-h1", "", 503, "receipts-not-configured")
}
