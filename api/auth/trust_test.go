package auth_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/handoff"

	"github.com/golang-jwt/jwt/v5"
)

// The example of the documentation is read as it stands.
func TestExampleFile(t *testing.T) {
	content, err := os.ReadFile("../../docs/issuers.json")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := auth.ParseTrust(content)
	if err != nil {
		t.Fatal(err)
	}
	var scopes []auth.Scope
	for _, e := range entries {
		scopes = append(scopes, e.Scopes...)
	}
	for _, s := range []auth.Scope{auth.Courier, auth.Carrier, auth.Shop, auth.Customer, auth.Building, auth.Ops} {
		if !strings.Contains(string(content), `"`+string(s)+`"`) {
			t.Errorf("the example gives nobody the scope %s", s)
		}
	}
	if len(entries) < 3 || len(scopes) < 5 {
		t.Errorf("the example has %d entries", len(entries))
	}
}

func TestFileIsStrict(t *testing.T) {
	const good = `{"issuer":"https://id.swift.example","audience":"latchkey","scopes":["courier"],"carriers":["swift"]}`
	if _, err := auth.ParseTrust([]byte(`{"issuers":[` + good + `]}`)); err != nil {
		t.Fatal(err)
	}
	entry := func(members string) string { return `{"issuers":[` + good + `,{` + members + `}]}` }
	const second = "issuers[1]"
	for name, c := range map[string]struct{ content, want string }{
		"not JSON":           {`{`, "issuers"},
		"nothing":            {`{}`, "none is listed"},
		"no list":            {`{"issuers":{}}`, "issuers"},
		"unknown beside":     {`{"issuers":[` + good + `],"extra":1}`, "extra"},
		"unknown in":         {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"scope":["ops"]`), "/issuers/1/scope is not"},
		"of another type":    {entry(`"issuer":"https://b.example","audience":["a"],"scopes":["ops"]`), "/issuers/1/audience is of"},
		"given twice":        {entry(`"issuer":"https://b.example","issuer":"https://c.example","audience":"a","scopes":["ops"]`), "issuer"},
		"no issuer":          {entry(`"audience":"a","scopes":["ops"]`), second},
		"no audience":        {entry(`"issuer":"https://b.example","scopes":["ops"]`), "audience is missing"},
		"no scopes":          {entry(`"issuer":"https://b.example","audience":"a"`), "scopes is missing"},
		"unknown scope":      {entry(`"issuer":"https://b.example","audience":"a","scopes":["root"]`), `"root"`},
		"scope twice":        {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops","ops"]`), "twice"},
		"in the clear":       {entry(`"issuer":"http://b.example","audience":"a","scopes":["ops"]`), "https"},
		"with a password":    {entry(`"issuer":"https://me:hunter2@b.example","audience":"a","scopes":["ops"]`), second},
		"no URL":             {entry(`"issuer":"b","audience":"a","scopes":["ops"]`), "https"},
		"keys in the clear":  {entry(`"issuer":"b","audience":"a","scopes":["ops"],"jwks_url":"http://b.example/keys"`), "jwks_url"},
		"shop unbound":       {entry(`"issuer":"https://b.example","audience":"a","scopes":["shop"]`), "shop is of no use without shops"},
		"dispatch unbound":   {entry(`"issuer":"https://b.example","audience":"a","scopes":["dispatch"],"carriers":["c"]`), "without shops"},
		"customer unbound":   {entry(`"issuer":"https://b.example","audience":"a","scopes":["customer"]`), "without shops"},
		"carrier unbound":    {entry(`"issuer":"https://b.example","audience":"a","scopes":["carrier"],"shops":["s"]`), "without carriers"},
		"courier unbound":    {entry(`"issuer":"https://b.example","audience":"a","scopes":["courier"]`), "without carriers"},
		"building unbound":   {entry(`"issuer":"https://b.example","audience":"a","scopes":["building"]`), "without buildings"},
		"door unbound":       {entry(`"issuer":"https://b.example","audience":"a","scopes":["door"]`), "without buildings"},
		"no id":              {entry(`"issuer":"https://b.example","audience":"a","scopes":["shop"],"shops":["a b"]`), "shops"},
		"anyone and someone": {entry(`"issuer":"https://b.example","audience":"a","scopes":["shop"],"shops":["a","*"]`), "shops"},
		"a claim twice":      {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"claims":{"scope":"device_id"}`), "another meaning"},
		"a claim of JWT":     {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"claims":{"device":"sub"}`), "another meaning"},
		"a secret inline":    {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"login":{"name":"B","client_id":"c","client_secret":"hunter2"}`), "client_secret_file"},
		"a life of nothing":  {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"token_life":"0s"`), "/issuers/1/token_life must be a time such as"},
		"a life in words":    {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"token_life":"long"`), "/issuers/1/token_life must be a time such as"},
		"a life of years":    {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"token_life":"366d"`), "/issuers/1/token_life must be a time such as"},
		"a life in seconds":  {entry(`"issuer":"https://b.example","audience":"a","scopes":["ops"],"token_life":3600}`), "issuers"},
		"the same again":     {`{"issuers":[` + good + `,` + good + `]}`, "same issuer and audience as issuers[0]"},
	} {
		_, err := auth.ParseTrust([]byte(c.content))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, members := range map[string]string{
		"loopback":            `"issuer":"http://127.0.0.1:8090","audience":"a","scopes":["ops"]`,
		"the other loopback":  `"issuer":"http://[::1]:8090/realm","audience":"a","scopes":["ops"]`,
		"another audience":    `"issuer":"https://id.swift.example","audience":"other","scopes":["ops"]`,
		"a token's life":      `"issuer":"https://b.example","audience":"a","scopes":["ops"],"token_life":"7d"`,
		"a name and its keys": `"issuer":"accounts.b.example","jwks_url":"https://b.example/keys","audience":"a","scopes":["ops"]`,
	} {
		if _, err := auth.ParseTrust([]byte(entry(members))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What an issuer may say is bounded by its entry, whatever it signs.
func TestIssuersSpeakForTheirOwn(t *testing.T) {
	c := &clock{now: start}
	swift := newIssuer(t, "https://id.swift.example", audience, c)
	rival := newIssuer(t, "https://id.rival.example", audience, c)
	both := newIssuer(t, "https://id.platform.example", audience, c)
	trust := func(i *authtest.Issuer, change func(*auth.Trust)) auth.Trust {
		e := auth.Trust{Issuer: i.Name, Audience: i.Audience, Keys: i.JWKS()}
		change(&e)
		return e
	}
	v := newIssuers(
		t, c,
		trust(swift, func(e *auth.Trust) {
			e.Scopes, e.Carriers = []auth.Scope{auth.Courier, auth.Carrier}, []string{"swift"}
		}),
		trust(rival, func(e *auth.Trust) { e.Scopes, e.Carriers = []auth.Scope{auth.Courier}, []string{"rival"} }),
		trust(both, func(e *auth.Trust) {
			e.Scopes, e.Shops, e.Buildings = []auth.Scope{auth.Shop, auth.Dispatch, auth.Door}, []string{"one", "two"}, []string{"b1", "b2"}
		}),
	)
	for name, c := range map[string]struct {
		by   *authtest.Issuer
		says auth.Principal
		want *auth.Principal // nil: refused
	}{
		"its own": {
			swift,
			auth.Principal{Subject: "c1", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}},
			&auth.Principal{Subject: "c1", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}, Issuer: swift.Name},
		},
		"its only one, unsaid": {
			swift,
			auth.Principal{Subject: "c1", Scopes: []auth.Scope{auth.Courier}},
			&auth.Principal{Subject: "c1", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}, Issuer: swift.Name},
		},
		"another carrier":     {swift, auth.Principal{Subject: "c1", Carrier: "rival", Scopes: []auth.Scope{auth.Courier}}, nil},
		"back the other way":  {rival, auth.Principal{Subject: "c1", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}}, nil},
		"a shop besides":      {swift, auth.Principal{Subject: "c1", Carrier: "swift", Shop: "one", Scopes: []auth.Scope{auth.Courier}}, nil},
		"a building besides":  {swift, auth.Principal{Subject: "c1", Carrier: "swift", Building: "b1", Scopes: []auth.Scope{auth.Courier}}, nil},
		"anyone, by its sign": {both, auth.Principal{Subject: "c1", Shop: "*", Scopes: []auth.Scope{auth.Shop}}, nil},
		"scopes it may not give": {
			rival,
			auth.Principal{Subject: "c1", Scopes: []auth.Scope{"openid", auth.Courier, auth.Carrier, auth.Ops, auth.Courier}},
			&auth.Principal{Subject: "c1", Carrier: "rival", Scopes: []auth.Scope{auth.Courier}, Issuer: rival.Name},
		},
		"one of several": {
			both,
			auth.Principal{Subject: "w", Shop: "two", Scopes: []auth.Scope{auth.Dispatch}},
			&auth.Principal{Subject: "w", Shop: "two", Scopes: []auth.Scope{auth.Dispatch}, Issuer: both.Name},
		},
		"several, unsaid": {
			both,
			auth.Principal{Subject: "w", Scopes: []auth.Scope{auth.Dispatch}},
			&auth.Principal{Subject: "w", Scopes: []auth.Scope{auth.Dispatch}, Issuer: both.Name},
		},
		"a door of no building": {both, auth.Principal{Subject: "d1", Scopes: []auth.Scope{auth.Door}}, &auth.Principal{Subject: "d1", Issuer: both.Name}},
		"a door of its building": {
			both,
			auth.Principal{Subject: "d1", Building: "b2", Scopes: []auth.Scope{auth.Door}},
			&auth.Principal{Subject: "d1", Building: "b2", Scopes: []auth.Scope{auth.Door}, Issuer: both.Name},
		},
	} {
		if c.want != nil {
			c.want.IssuedAt = handoff.InstantOf(start)
		}
		p, err := v.Verify(t.Context(), sign(t, c.by, c.says))
		if (err == nil) != (c.want != nil) || !reflect.DeepEqual(p, c.want) {
			t.Errorf("%s: %+v %v", name, p, err)
		}
	}
}

func TestClaimNames(t *testing.T) {
	c := &clock{now: start}
	i := newIssuer(t, issuerName, audience, c)
	e := i.Trust()
	e.Claims = auth.Claims{Scope: auth.Names{"roles"}, Device: "did", Carrier: "https://latchkey.example/carrier"}
	v := newIssuers(t, c, e)
	token := signed(t, jwt.SigningMethodEdDSA, i.Key, i.KeyID, func(m jwt.MapClaims) {
		delete(m, "carrier_id")
		m["scope"], m["roles"], m["did"], m["https://latchkey.example/carrier"] = "ops", []string{"courier"}, "phone-1", "swift"
	})
	p, err := v.Verify(t.Context(), token)
	want := &auth.Principal{Subject: "cou_7", Carrier: "swift", Scopes: []auth.Scope{auth.Courier}, Issuer: issuerName, Device: "phone-1", IssuedAt: handoff.InstantOf(start)}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v %v", p, err)
	}
}

// Two entries of one issuer are told apart by the audience; a token for both says nothing.
func TestAudienceChooses(t *testing.T) {
	c := &clock{now: start}
	shops, ops := newIssuer(t, issuerName, "shops", c), newIssuer(t, issuerName, "ops", c)
	ops.Key, ops.KeyID, ops.KeySet = shops.Key, shops.KeyID, shops.KeySet
	v := newIssuers(
		t, c,
		auth.Trust{Issuer: issuerName, Audience: "shops", Keys: shops.JWKS(), Scopes: []auth.Scope{auth.Shop}, Shops: []string{"demo"}},
		auth.Trust{Issuer: issuerName, Audience: "ops", Keys: ops.JWKS(), Scopes: []auth.Scope{auth.Ops}},
	)
	says := auth.Principal{Subject: "s", Scopes: []auth.Scope{auth.Shop, auth.Ops}}
	for i, want := range map[*authtest.Issuer]auth.Scope{shops: auth.Shop, ops: auth.Ops} {
		p, err := v.Verify(t.Context(), sign(t, i, says))
		if err != nil || !reflect.DeepEqual(p.Scopes, []auth.Scope{want}) || (want == auth.Shop) != (p.Shop == "demo") {
			t.Errorf("for %s: %+v %v", i.Audience, p, err)
		}
	}
	both := signed(t, jwt.SigningMethodEdDSA, shops.Key, shops.KeyID, func(m jwt.MapClaims) { m["aud"] = []string{"shops", "ops"}; delete(m, "carrier_id") })
	if p, err := v.Verify(t.Context(), both); err == nil {
		t.Errorf("for both: %+v", p)
	}
}

// The same key id at two issuers names two keys.
func TestTwoIssuersOneKeyID(t *testing.T) {
	c := &clock{now: start}
	a, b := newIssuer(t, "https://a.example", audience, c), newIssuer(t, "https://b.example", audience, c)
	b.KeySet = []byte(strings.ReplaceAll(string(b.KeySet), b.KeyID, a.KeyID))
	b.KeyID = a.KeyID
	v := newIssuers(t, c, a.Trust(), b.Trust())
	for _, i := range []*authtest.Issuer{a, b} {
		if p, err := v.Verify(t.Context(), sign(t, i, cou7)); err != nil || p.Issuer != i.Name {
			t.Errorf("%s: %+v %v", i.Name, p, err)
		}
	}
	forged := *b
	forged.Name = a.Name
	if p, err := v.Verify(t.Context(), sign(t, &forged, cou7)); err == nil {
		t.Errorf("b signed for a: %+v", p)
	}
}

// A changed file counts at once, and a refused one not at all.
func TestTrustIsReplacedAtOnce(t *testing.T) {
	c := &clock{now: start}
	a, b := newIssuer(t, "https://a.example", audience, c), newIssuer(t, "https://b.example", audience, c)
	v := newIssuers(t, c, a.Trust(), b.Trust())
	tokenA, tokenB := sign(t, a, cou7), sign(t, b, cou7)
	good := func(token string) bool {
		_, err := v.Verify(t.Context(), token)
		return err == nil
	}
	if !good(tokenA) || !good(tokenB) {
		t.Fatal("not even at first")
	}
	if err := v.Trust(b.Trust(), b.Trust()); err == nil {
		t.Error("an entry twice is accepted")
	}
	if !good(tokenA) {
		t.Error("a refused change changed something")
	}
	if err := v.Trust(b.Trust()); err != nil {
		t.Fatal(err)
	}
	if good(tokenA) || !good(tokenB) {
		t.Error("the token of an issuer that is gone still works, or one that stayed does not")
	}
}
