package demo

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
	"latchkey/cmd/latchkey/sample"
)

// IssuerPath is below where the demo's issuer is: an OpenID provider like any other, but
// that it asks people who they are and believes them.
const IssuerPath = "/demo/id"

// person is a person of the sample day as whom a visitor can sign in.
type person struct {
	Role string // names its words
	Name string
	auth.Principal
}

// people are those whom the pages are for: customers and couriers of the parcels that go
// to the sample building, and one of each other kind.
func people(day []dispatched) []person {
	var all []person
	add := func(p person) {
		same := func(other person) bool {
			return other.Subject == p.Subject && other.Carrier == p.Carrier && slices.Equal(other.Scopes, p.Scopes)
		}
		if !slices.ContainsFunc(all, same) {
			all = append(all, p)
		}
	}
	building := sample.TheBuilding()
	for _, d := range day {
		if d.To.Building == building.ID && d.Customer.ID != "" {
			add(person{"customer", d.Customer.Name, auth.Principal{Subject: d.Customer.ID, Shop: DefaultShop, Scopes: []auth.Scope{auth.Customer}}})
			c := driver(d.Carrier, d.Route)
			add(person{"courier", c.Name, auth.Principal{Subject: c.ID, Carrier: d.Carrier, Scopes: []auth.Scope{auth.Courier}}})
		}
	}
	slices.SortStableFunc(all, func(a, b person) int { return strings.Compare(b.Role+b.Carrier, a.Role+a.Carrier) }) // customers first
	return append(all,
		person{"manager", "Manager of " + building.ID, auth.Principal{Subject: "manager-1", Building: building.ID, Scopes: []auth.Scope{auth.Building}}},
		person{"officer", "Duty officer", auth.Principal{Subject: "officer-1", Scopes: []auth.Scope{auth.Ops}}},
		person{"clerk", "Clerk of " + DefaultShop, auth.Principal{Subject: "clerk-1", Shop: DefaultShop, Scopes: []auth.Scope{auth.Shop}}},
	)
}

// authorize is the issuer's authorization endpoint: it asks the visitor who they are.
func (s *site) authorize(w http.ResponseWriter, r *http.Request) {
	if _, err := s.Provider.Authorization(r.URL.Query()); err != nil {
		http.Error(w, "This is no request to sign in: "+err.Error()+".", http.StatusBadRequest)
		return
	}
	s.page(w, r, "who", func(*frame.Visit) (any, error) {
		return map[string]any{"People": s.people, "Request": r.URL.RawQuery, "Scopes": scopes}, nil
	})
}

// answer sends the visitor, who chose a person, back to the page that signs them in.
func (s *site) answer(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		newProblem(http.StatusBadRequest).write(w)
		return
	}
	request, err := url.ParseQuery(r.PostForm.Get("request"))
	if err != nil {
		newProblem(http.StatusBadRequest).write(w)
		return
	}
	asked, err := s.Provider.Authorization(request)
	if err != nil {
		http.Error(w, "This is no request to sign in: "+err.Error()+".", http.StatusBadRequest)
		return
	}
	chosen, broken := s.chosen(r.PostForm)
	if broken != nil {
		invalid(broken...).write(w)
		return
	}
	to, err := s.Provider.Grant(asked, chosen.Principal, chosen.Name)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// chosen is one of the people, by number, or else whom the form describes.
func (s *site) chosen(form url.Values) (person, []violation) {
	if who := form.Get("who"); who != "" {
		n, err := strconv.Atoi(who)
		if err != nil || n < 0 || n >= len(s.people) {
			return person{}, []violation{{"body.who", "must be one of the people"}}
		}
		return s.people[n], nil
	}
	t := tokenRequest{
		Scope: auth.Scope(form.Get("scope")), Subject: form.Get("sub"), CarrierID: form.Get("carrier_id"), ShopID: form.Get("shop_id"),
		BuildingID: form.Get("building_id"),
	}
	if broken := t.check(); broken != nil {
		return person{}, broken
	}
	return person{Name: t.Subject, Principal: t.principal()}, nil
}
