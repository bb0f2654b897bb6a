package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
)

// A receipt is verified from each of its forms, with keys from a file or a service, and a changed
// one ends with the exit code 1.
func TestReceiptVerify(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private := filepath.Join(dir, "receipts.json")
	if code, _, errs := once("keys", "receipts", "new", private); code != 0 {
		t.Fatal(errs)
	}
	if code, _, _ := once("keys", "receipts", "new", private); code == 0 {
		t.Error("the keys were overwritten")
	}
	keys, err := loadReceiptKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := keys.Sign(&handoff.Receipt{
		ID:   handoff.ReceiptID{Grant: handoff.GrantID{Hash: "9f1c02a7d54be3809f1c02a7", Generation: 1}, Number: 1},
		Shop: "demo", Carrier: "swift", Purpose: handoff.PurposeDelivery, Parcels: []string{"P1"}, Courier: "pseudonym", CodeIssue: 1,
		At: handoff.InstantOf(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := once("keys", "receipts", "rotate", private); code != 0 {
		t.Fatal(errs)
	}
	old := keys.Publish()[0].ID().String()
	if keys, err = loadReceiptKeys(private); err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(keys.Publish())
	if err != nil {
		t.Fatal(err)
	}
	published := file("published.json", set)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	defer service.Close()
	text := base64.RawURLEncoding.EncodeToString(raw)
	for name, content := range map[string][]byte{"bytes": raw, "text": []byte(text + "\n"), "JSON": []byte(`{"receipt_id":"another","cose":"` + text + `"}`)} {
		for _, from := range []string{published, service.URL} {
			code, out, errs := once("receipt", "verify", file("receipt", content), "--keys", from)
			if code != 0 || !strings.Contains(out, "9f1c02a7d54be3809f1c02a7-1-h1") || !strings.HasSuffix(out, "OK: signed by "+old+"\n") || strings.Contains(out, "another") {
				t.Errorf("%s: %d %s%s", name, code, out, errs)
			}
		}
	}
	var out, errs output
	if code := run(t.Context(), []string{"receipt", "verify", "--keys", published}, streams{in: strings.NewReader(text), out: &out, err: &errs}); code != 0 || !strings.HasSuffix(out.String(), "OK: signed by "+old+"\n") {
		t.Errorf("from the standard input: %d %s%s", code, out.String(), errs.String())
	}
	raw[len(raw)-1] ^= 1
	for name, args := range map[string][]string{
		"changed":        {file("changed", raw), "--keys", published},
		"no receipt":     {file("none", []byte("{}")), "--keys", published},
		"keys in secret": {file("receipt", []byte(text)), "--keys", private},
		"plain HTTP":     {file("receipt", []byte(text)), "--keys", "http://receipts.example/v1/receipts/keys"},
	} {
		if code, out, _ := once(append([]string{"receipt", "verify"}, args...)...); code != 1 || strings.Contains(out, "OK") {
			t.Errorf("%s: %d %s", name, code, out)
		}
	}
	if code, _, errs := once("keys", "receipts", "forget", private, old); code != 0 {
		t.Fatal(errs)
	}
	if keys, err = loadReceiptKeys(private); err != nil || len(keys.Publish()) != 1 {
		t.Errorf("after forgetting: %v", err)
	}
}
