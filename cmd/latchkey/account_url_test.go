package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/cmd/latchkey/sample"
)

// The mails lead to the parcel's page: this service's own below the public URL, or the shop's.
func TestMailsLinkToTheParcelsPage(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		page string // but for the grant's id; empty: no mail has a link
	}{
		"no pages":          {nil, ""},
		"the public URL":    {[]string{"--public-url", "https://parcels.example/"}, "https://parcels.example/account/"},
		"the shop's own":    {[]string{"--account-url", "https://shop.example/p?of={grant_id}"}, "https://shop.example/p?of="},
		"its own, and both": {[]string{"--public-url", "https://parcels.example", "--account-url", "https://shop.example/p/{grant_id}"}, "https://shop.example/p/"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			serve := start(t, append(s.args, c.args...)...)
			warehouse := s.token(t, auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "w", Shop: "demo"})
			line, _, _ := strings.Cut(string(today(t)), "\n")
			status, answer := client{t, serve.url(t)}.do("POST", "/v1/dispatches", warehouse, line)
			if status != http.StatusCreated {
				t.Fatalf("%d %v", status, answer)
			}
			await(t, "the mail", func() bool { return len(s.sink.Messages()) == 1 })
			said := text(t, s.sink.Messages()[0])
			want := c.page + answer["grant_id"].(string)
			if c.page == "" && strings.Contains(said, "://") || c.page != "" && !strings.Contains(said, "\n"+want+"\n") {
				t.Errorf("no link to %s in\n%s", want, said)
			}
		})
	}
}

func TestAnAccountURLNamesTheParcel(t *testing.T) {
	s := newService(t)
	for _, url := range []string{"https://shop.example/account", "/account/{grant_id}", "https://{grant_id}/account"} {
		if code, _, errs := once(append(s.args, "--account-url", url)...); code != 1 || !strings.Contains(errs, "--account-url: ") || !strings.Contains(errs, "{grant_id} after the host") {
			t.Errorf("%s: %d %s", url, code, errs)
		}
	}
}

// today is the sample day, dated so that it can be delivered.
func today(t *testing.T) []byte {
	t.Helper()
	return sample.On(func(zone *time.Location) string { return time.Now().In(zone).Format(time.DateOnly) })
}
