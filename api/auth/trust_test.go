package auth

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// The example of the documentation is read as it stands.
func TestExampleFile(t *testing.T) {
	content, err := os.ReadFile("../../docs/issuers.json")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := ParseTrust(content)
	if err != nil {
		t.Fatal(err)
	}
	var scopes []Scope
	for _, e := range entries {
		scopes = append(scopes, e.Scopes...)
	}
	for _, s := range []Scope{Courier, Carrier, Shop, Customer, Building, Ops} {
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
	if _, err := ParseTrust([]byte(`{"issuers":[` + good + `]}`)); err != nil {
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
		_, err := ParseTrust([]byte(c.content))
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
		if _, err := ParseTrust([]byte(entry(members))); err != nil {
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
	trust := func(i *Issuer, change func(*Trust)) Trust {
		e := Trust{Issuer: i.name, Audience: i.audience, Keys: i.JWKS()}
		change(&e)
		return e
	}
	v := newIssuers(
		t, c,
		trust(swift, func(e *Trust) { e.Scopes, e.Carriers = []Scope{Courier, Carrier}, []string{"swift"} }),
		trust(rival, func(e *Trust) { e.Scopes, e.Carriers = []Scope{Courier}, []string{"rival"} }),
		trust(both, func(e *Trust) {
			e.Scopes, e.Shops, e.Buildings = []Scope{Shop, Dispatch, Door}, []string{"one", "two"}, []string{"b1", "b2"}
		}),
	)
	for name, c := range map[string]struct {
		by   *Issuer
		says Principal
		want *Principal // nil: refused
	}{
		"its own": {
			swift,
			Principal{Subject: "c1", Carrier: "swift", Scopes: []Scope{Courier}},
			&Principal{Subject: "c1", Carrier: "swift", Scopes: []Scope{Courier}, Issuer: swift.name},
		},
		"its only one, unsaid": {
			swift,
			Principal{Subject: "c1", Scopes: []Scope{Courier}},
			&Principal{Subject: "c1", Carrier: "swift", Scopes: []Scope{Courier}, Issuer: swift.name},
		},
		"another carrier":     {swift, Principal{Subject: "c1", Carrier: "rival", Scopes: []Scope{Courier}}, nil},
		"back the other way":  {rival, Principal{Subject: "c1", Carrier: "swift", Scopes: []Scope{Courier}}, nil},
		"a shop besides":      {swift, Principal{Subject: "c1", Carrier: "swift", Shop: "one", Scopes: []Scope{Courier}}, nil},
		"a building besides":  {swift, Principal{Subject: "c1", Carrier: "swift", Building: "b1", Scopes: []Scope{Courier}}, nil},
		"anyone, by its sign": {both, Principal{Subject: "c1", Shop: "*", Scopes: []Scope{Shop}}, nil},
		"scopes it may not give": {
			rival,
			Principal{Subject: "c1", Scopes: []Scope{"openid", Courier, Carrier, Ops, Courier}},
			&Principal{Subject: "c1", Carrier: "rival", Scopes: []Scope{Courier}, Issuer: rival.name},
		},
		"one of several": {
			both,
			Principal{Subject: "w", Shop: "two", Scopes: []Scope{Dispatch}},
			&Principal{Subject: "w", Shop: "two", Scopes: []Scope{Dispatch}, Issuer: both.name},
		},
		"several, unsaid": {
			both,
			Principal{Subject: "w", Scopes: []Scope{Dispatch}},
			&Principal{Subject: "w", Scopes: []Scope{Dispatch}, Issuer: both.name},
		},
		"a door of no building": {both, Principal{Subject: "d1", Scopes: []Scope{Door}}, &Principal{Subject: "d1", Issuer: both.name}},
		"a door of its building": {
			both,
			Principal{Subject: "d1", Building: "b2", Scopes: []Scope{Door}},
			&Principal{Subject: "d1", Building: "b2", Scopes: []Scope{Door}, Issuer: both.name},
		},
	} {
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
	e.Claims = Claims{Scope: "roles", Device: "did", Carrier: "https://latchkey.example/carrier"}
	v := newIssuers(t, c, e)
	token := signed(t, jwt.SigningMethodEdDSA, i.key, i.kid, func(m jwt.MapClaims) {
		delete(m, "carrier_id")
		m["scope"], m["roles"], m["did"], m["https://latchkey.example/carrier"] = "ops", []string{"courier"}, "phone-1", "swift"
	})
	p, err := v.Verify(t.Context(), token)
	want := &Principal{Subject: "cou_7", Carrier: "swift", Scopes: []Scope{Courier}, Issuer: issuerName, Device: "phone-1"}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v %v", p, err)
	}
}

// Two entries of one issuer are told apart by the audience; a token for both says nothing.
func TestAudienceChooses(t *testing.T) {
	c := &clock{now: start}
	shops, ops := newIssuer(t, issuerName, "shops", c), newIssuer(t, issuerName, "ops", c)
	ops.key, ops.kid, ops.jwks = shops.key, shops.kid, shops.jwks
	v := newIssuers(
		t, c,
		Trust{Issuer: issuerName, Audience: "shops", Keys: shops.JWKS(), Scopes: []Scope{Shop}, Shops: []string{"demo"}},
		Trust{Issuer: issuerName, Audience: "ops", Keys: ops.JWKS(), Scopes: []Scope{Ops}},
	)
	says := Principal{Subject: "s", Scopes: []Scope{Shop, Ops}}
	for i, want := range map[*Issuer]Scope{shops: Shop, ops: Ops} {
		p, err := v.Verify(t.Context(), sign(t, i, says))
		if err != nil || !reflect.DeepEqual(p.Scopes, []Scope{want}) || (want == Shop) != (p.Shop == "demo") {
			t.Errorf("for %s: %+v %v", i.audience, p, err)
		}
	}
	both := signed(t, jwt.SigningMethodEdDSA, shops.key, shops.kid, func(m jwt.MapClaims) { m["aud"] = []string{"shops", "ops"}; delete(m, "carrier_id") })
	if p, err := v.Verify(t.Context(), both); err == nil {
		t.Errorf("for both: %+v", p)
	}
}

// The same key id at two issuers names two keys.
func TestTwoIssuersOneKeyID(t *testing.T) {
	c := &clock{now: start}
	a, b := newIssuer(t, "https://a.example", audience, c), newIssuer(t, "https://b.example", audience, c)
	b.jwks = []byte(strings.ReplaceAll(string(b.jwks), b.kid, a.kid))
	b.kid = a.kid
	v := newIssuers(t, c, a.Trust(), b.Trust())
	for _, i := range []*Issuer{a, b} {
		if p, err := v.Verify(t.Context(), sign(t, i, cou7)); err != nil || p.Issuer != i.name {
			t.Errorf("%s: %+v %v", i.name, p, err)
		}
	}
	forged := *b
	forged.name = a.name
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
