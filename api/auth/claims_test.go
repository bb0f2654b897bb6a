package auth_test

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"latchkey/api/auth"
	"latchkey/handoff"
)

// namer makes keyed names; the key of a test is no secret.
type namer struct{}

func (namer) Name(domain string, parts ...string) []byte {
	sum := sha512.Sum512([]byte(domain + "\x00" + strings.Join(parts, "\x00")))
	return sum[:]
}

// What providers say in forms of their own is read as the entry says, and nothing else is.
func TestClaimsOfProviders(t *testing.T) {
	c := &clock{now: start}
	i := newIssuer(t, issuerName, audience, c)
	const file = `{"issuers":[{"issuer":"%s","audience":"%s","jwks_url":"https://keys.example",%s}]}`
	type says = map[string]any
	for name, test := range map[string]struct {
		entry string
		token says
		want  *auth.Principal
		why   auth.Why
	}{
		"claims within claims": {
			`"scopes":["courier"],"carriers":["swift","rival"],"claims":{"scope":"realm_access.roles","carrier":"org.carrier"}`,
			says{"realm_access": says{"roles": []string{"offline_access", "courier"}}, "org": says{"carrier": "rival"}},
			&auth.Principal{Subject: "cou_7", Carrier: "rival", Scopes: []auth.Scope{auth.Courier}}, "",
		},
		"a claim that is called so, dots and all": {
			`"scopes":["courier","ops"],"carriers":["swift"],"claims":{"scope":"https://id.example/roles"}`,
			says{"https://id.example/roles": "courier", "https://id": says{"example/roles": "ops"}},
			&auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}, "",
		},
		"a way that ends early": {
			`"scopes":["courier"],"carriers":["swift"],"claims":{"scope":"realm_access.roles"}`,
			says{"realm_access": "courier"},
			&auth.Principal{Subject: "cou_7", Carrier: "swift"}, "",
		},
		"groups": {
			`"scopes":["courier","carrier","ops"],"carriers":["swift"],"claims":{"scope":"groups"},"roles":{"/riders":["courier"],"/desk":["carrier","courier"]}`,
			says{"groups": []string{"/riders", "/everybody", "ops"}}, // a group of that name is no scope
			&auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}, "",
		},
		"scp beside scope: the one": {
			`"scopes":["ops"],"claims":{"scope":["scope","scp"]}`, says{"scp": []string{"ops"}}, &auth.Principal{Subject: "cou_7", Scopes: []auth.Scope{auth.Ops}}, "",
		},
		"scp beside scope: the other": {
			`"scopes":["ops"],"claims":{"scope":["scope","scp"]}`, says{"scope": "openid ops"}, &auth.Principal{Subject: "cou_7", Scopes: []auth.Scope{auth.Ops}}, "",
		},
		"a claim of the subject": {
			`"scopes":["customer"],"shops":["demo"],"claims":{"subject":"customer_number"}`,
			says{"customer_number": "cus_81", "scope": "customer"},
			&auth.Principal{Subject: "cus_81", Shop: "demo", Scopes: []auth.Scope{auth.Customer}}, "",
		},
		"without it":   {`"scopes":["customer"],"shops":["demo"],"claims":{"subject":"customer_number"}`, says{"scope": "customer"}, nil, auth.WhySubject},
		"not as text":  {`"scopes":["customer"],"shops":["demo"],"claims":{"subject":"customer_number"}`, says{"customer_number": 81, "scope": "customer"}, nil, auth.WhySubject},
		"too long":     {`"scopes":["customer"],"shops":["demo"]`, says{"sub": strings.Repeat("x", 256), "scope": "customer"}, nil, auth.WhySubject},
		"on two lines": {`"scopes":["customer"],"shops":["demo"]`, says{"sub": "cus\n81", "scope": "customer"}, nil, auth.WhySubject},
		"a customer by default": {
			`"scopes":["customer","shop"],"shops":["demo"],"default_scope":"customer"`,
			says{"scope": "openid profile"},
			&auth.Principal{Subject: "cou_7", Shop: "demo", Scopes: []auth.Scope{auth.Customer}}, "",
		},
		"a clerk is no customer by default": {
			`"scopes":["customer","shop"],"shops":["demo"],"default_scope":"customer"`,
			says{"scope": "shop"},
			&auth.Principal{Subject: "cou_7", Shop: "demo", Scopes: []auth.Scope{auth.Shop}}, "",
		},
		"nobody by default": {`"scopes":["customer"],"shops":["demo"]`, says{"scope": "openid"}, &auth.Principal{Subject: "cou_7", Shop: "demo"}, ""},
		"one tenant in a list": {
			`"scopes":["shop"],"shops":["demo","other"]`,
			says{"scope": "shop", "shop_id": []string{"other"}},
			&auth.Principal{Subject: "cou_7", Shop: "other", Scopes: []auth.Scope{auth.Shop}}, "",
		},
		"several tenants":          {`"scopes":["shop"],"shops":["demo","other"]`, says{"scope": "shop", "shop_id": []string{"demo", "other"}}, nil, auth.WhySeveral},
		"several, all of them one": {`"scopes":["shop"],"shops":["demo","other"]`, says{"scope": "shop", "shop_id": []string{"demo", "demo"}}, nil, auth.WhySeveral},
		"no tenant in a list": {
			`"scopes":["shop"],"shops":["demo","other"]`, says{"scope": "shop", "shop_id": []string{}}, &auth.Principal{Subject: "cou_7", Scopes: []auth.Scope{auth.Shop}}, "",
		},
		"a tenant of another type": {`"scopes":["shop"],"shops":["demo"]`, says{"scope": "shop", "shop_id": []int{1}}, nil, auth.WhyUnusable},
		"a foreign tenant":         {`"scopes":["shop"],"shops":["demo"]`, says{"scope": "shop", "shop_id": []string{"other"}}, nil, auth.WhyTenant},
	} {
		entries, err := auth.ParseTrust(fmt.Appendf(nil, file, issuerName, audience, test.entry))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		entries[0].JWKSURL, entries[0].Keys = "", i.JWKS()
		v := newIssuers(t, c, entries...)
		p, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodEdDSA, i.Key, i.KeyID, func(m jwt.MapClaims) {
			delete(m, "carrier_id")
			delete(m, "scope")
			for claim, value := range test.token {
				m[claim] = value
			}
		}))
		if test.want != nil {
			test.want.Issuer, test.want.IssuedAt = issuerName, handoff.InstantOf(start)
		}
		var refused *auth.Refusal
		if errors.As(err, &refused); (err != nil) != (test.want == nil) || !reflect.DeepEqual(p, test.want) || refused != nil && refused.Why != test.why {
			t.Errorf("%s: %+v %v, want %+v %s", name, p, refused, test.want, test.why)
		}
	}
}

func TestEntriesOfProvidersAreChecked(t *testing.T) {
	for entry, want := range map[string]string{
		`"scopes":["shop"],"shops":["demo"],"claims":{"scope":["scope","scope"]}`:          `"scope" has another meaning already`,
		`"scopes":["shop"],"shops":["demo"],"claims":{"scope":"sub"}`:                      `"sub" has another meaning already`,
		`"scopes":["shop"],"shops":["demo"],"claims":{"subject":"iss"}`:                    `"iss" has another meaning already`,
		`"scopes":["shop"],"shops":["demo"],"claims":{"scope":"realm_access..roles"}`:      "is no name of a claim",
		`"scopes":["shop"],"shops":["demo"],"claims":{"scope":[""]}`:                       "is no name of a claim",
		`"scopes":["shop"],"shops":["demo"],"claims":{"scope":7}`:                          "is of the wrong type",
		`"scopes":["shop"],"shops":["demo"],"roles":{"clerks":["ops"]}`:                    `roles: "clerks" means "ops", which is not listed in scopes`,
		`"scopes":["shop"],"shops":["demo"],"roles":{"clerks":[]}`:                         `roles: "clerks" means no scope`,
		`"scopes":["shop"],"shops":["demo"],"default_scope":"shop"`:                        "default_scope: must be customer, and listed in scopes",
		`"scopes":["shop"],"shops":["demo"],"default_scope":"customer"`:                    "default_scope: must be customer, and listed in scopes",
		`"scopes":["customer"],"shops":["demo","other"],"default_scope":"customer"`:        "for the issuer of one shop's own customers",
		`"scopes":["customer"],"shops":["*"],"default_scope":"customer"`:                   "for the issuer of one shop's own customers",
		`"scopes":["customer"],"shops":["demo"],"claims":{"subject":"mail","scope":"sub"}`: `"sub" has another meaning already`,
	} {
		_, err := auth.ParseTrust(fmt.Appendf(nil, `{"issuers":[{"issuer":"https://id.example","audience":"latchkey",%s}]}`, entry))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", entry, err, want)
		}
	}
}

// Subjects of real providers become ids, the same each time, and nobody's is another's.
func TestSubjectIDs(t *testing.T) {
	seen := map[string]string{}
	for _, subject := range []string{
		"auth0|1", "auth0|2", "google-oauth2|103547991597142817347", "somebody@shop.example", "c29tZSBieXRlcw==", "a/b", "Größe", ".", "..", "x y",
		"{550e8400-e29b-41d4-a716-446655440000}", strings.Repeat("9", 65), "sub_0123456789abcdef0123456789abcdef", "SUB_0123456789ABCDEF0123456789ABCDEF",
	} {
		id := auth.SubjectID(namer{}, issuerName, subject)
		if handoff.CheckID(id) != nil || !strings.HasPrefix(id, "sub_") || len(id) != 36 || id == subject || seen[id] != "" {
			t.Errorf("%s: %s, as %q", subject, id, seen[id])
		}
		seen[id] = subject
		if again := auth.SubjectID(namer{}, issuerName, subject); again != id {
			t.Errorf("%s: %s, then %s", subject, id, again)
		}
		if other := auth.SubjectID(namer{}, "https://other.example", subject); other == id {
			t.Errorf("%s is the same at two issuers", subject)
		}
		// Who knows an id, and calls themselves so, does not get it.
		if stolen := auth.SubjectID(namer{}, issuerName, id); stolen == id {
			t.Errorf("%s can be taken by its name", id)
		}
	}
	for _, subject := range []string{"cus_81", "cou_7", "sub_1", "550e8400-e29b-41d4-a716-446655440000"} {
		if id := auth.SubjectID(namer{}, issuerName, subject); id != subject {
			t.Errorf("%s became %s", subject, id)
		}
	}

	c := &clock{now: start}
	i := newIssuer(t, issuerName, audience, c)
	v, err := auth.NewIssuers(t.Context(), auth.Config{Now: c.Now, Names: namer{}}, i.Trust())
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Verify(t.Context(), sign(t, i, auth.Principal{Subject: "auth0|1", Shop: "demo", Scopes: []auth.Scope{auth.Customer}}))
	if err != nil || p.Subject != auth.SubjectID(namer{}, issuerName, "auth0|1") {
		t.Errorf("%+v %v", p, err)
	}
}
