// Package signin is where people sign in and out: they choose an issuer, show there who
// they are, and come back with a session. It decides nothing about who is believed
// (package auth does), and keeps nothing but a cookie for the way there and back.
package signin

import (
	"cmp"
	"embed"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"latchkey/api/auth"
	"latchkey/api/web/frame"
)

//go:embed pages words.yaml
var files embed.FS

// The paths.
const (
	Path        = "/sign-in"
	signOutPath = "/sign-out"
)

// SignIn is the pages and the seam to the frame.
type SignIn struct {
	sessions *auth.Sessions
	logins   *auth.Logins
	host     string // of the public URL
	log      *slog.Logger

	scopes map[string][]auth.Scope // of the sets of pages, by the first part of their paths
	front  bool                    // the address without a path is ours, and leads people on
}

// New makes the pages. The log gets the reason of a failed sign-in, in words of ours; nil is
// silence.
func New(sessions *auth.Sessions, logins *auth.Logins, log *slog.Logger) (*SignIn, error) {
	if sessions == nil || logins == nil {
		return nil, errors.New("signin: sessions and issuers to sign in at are needed")
	}
	u, err := url.Parse(logins.PublicURL)
	if err != nil || sessions.Secure != (u.Scheme == "https") {
		return nil, errors.New("signin: cookies must be secure where the public URL is https, and cannot be elsewhere")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &SignIn{sessions: sessions, logins: logins, host: u.Host, log: log, scopes: map[string][]auth.Scope{}}, nil
}

// Lead says which sets of pages there are, so that people choose among the issuers that can
// serve the page that they asked for. A set's paths begin with its name.
func (s *SignIn) Lead(sets ...frame.Set) {
	for _, set := range sets {
		s.scopes[set.Name] = set.Scopes
	}
}

// Configure tells the frame of sessions.
func (s *SignIn) Configure(c *frame.Config) {
	c.Identify, c.SignIn, c.SignInPath, c.Secure = s.identify, s.begin, Path, s.sessions.Secure
	s.front = c.Next == nil // else another handler has a front page
}

// Set is the pages as the frame takes them.
func (s *SignIn) Set() frame.Set {
	return frame.Set{Name: "signin", Files: files, Routes: func(p *frame.Pages) {
		p.Public("GET "+Path, s.choose)
		p.Public("POST "+Path, s.start)
		p.Public("GET "+auth.CallbackPath, s.finish)
		p.Public("GET "+auth.CallbackPath+"/{own}", s.finish)
		p.Handle("POST "+signOutPath, s.end)
		if s.front {
			p.Public("GET /{$}", s.onward)
		}
	}}
}

// identify implements frame.Config.Identify.
func (s *SignIn) identify(r *http.Request) (frame.Visitor, bool) {
	session, err := s.sessions.Of(r)
	if err != nil {
		return frame.Visitor{}, false
	}
	return frame.Visitor{Principal: *session.Principal, CSRF: session.CSRF, Name: session.Name, SignOut: signOutPath}, true
}

// begin implements frame.Config.SignIn, for those whom a shop's link lets in.
func (s *SignIn) begin(w http.ResponseWriter, r *http.Request, p auth.Principal) error {
	return s.enter(w, r, auth.Session{Principal: &p})
}

// enter begins a session, and ends the one that the browser had.
func (s *SignIn) enter(w http.ResponseWriter, r *http.Request, who auth.Session) error {
	if before, err := r.Cookie(s.sessions.CookieName()); err == nil {
		if err := s.sessions.End(r.Context(), before.Value); err != nil {
			return err
		}
	}
	value, err := s.sessions.Begin(r.Context(), who)
	if err != nil {
		return err
	}
	http.SetCookie(w, s.sessions.Cookie(value))
	return nil
}

// choose asks at which issuer to sign in.
func (s *SignIn) choose(v *frame.Visit) {
	next := local(v.R.URL.Query().Get("next"))
	// On loopback people come by several names, and the cookies of one are missing at the
	// other on the way back. Elsewhere a proxy may have changed the name, and would again.
	if !s.sessions.Secure && v.R.Host != s.host {
		to := s.logins.PublicURL + Path
		if next != "" {
			to += "?" + url.Values{"next": {next}}.Encode()
		}
		v.Redirect(to)
		return
	}
	v.Shared = true
	v.Render(http.StatusOK, "choose", struct {
		Choices  []auth.Choice
		Next     string
		Continue string // empty: there is no page for this visitor
	}{s.choices(next), next, s.target(next, &v.Visitor.Principal)})
}

// choices are the issuers whose people can see a page; all of them where none can, or the page
// is nobody's in particular.
func (s *SignIn) choices(next string) []auth.Choice {
	all := s.logins.Choices()
	first, _, _ := strings.Cut(strings.TrimPrefix(next, "/"), "/")
	asked := s.scopes[first]
	able := slices.DeleteFunc(slices.Clone(all), func(c auth.Choice) bool {
		return !slices.ContainsFunc(asked, func(scope auth.Scope) bool { return slices.Contains(c.Scopes, scope) })
	})
	if len(able) == 0 {
		return all
	}
	return able
}

// onward sends people on from the address without a path.
func (s *SignIn) onward(v *frame.Visit) {
	to := Path
	if v.SignedIn {
		to = cmp.Or(s.target("", &v.Visitor.Principal), Path)
	}
	v.Redirect(to)
}

// start sends the visitor to the chosen issuer. It does so by a page and not by a
// redirect, which browsers hold to the form-action of the page with the form.
func (s *SignIn) start(v *frame.Visit) {
	to, carried, err := s.logins.Start(v.R.Context(), v.R.PostFormValue("issuer"), local(v.R.PostFormValue("next")))
	if err != nil {
		s.failed(v, err)
		return
	}
	http.SetCookie(v.W, s.sessions.FlowCookie(carried))
	v.W.Header().Set("Refresh", "0;url="+to)
	v.Render(http.StatusOK, "leave", struct{ To string }{to})
}

// finish takes in who comes back. It is a GET that changes something, as the protocol has
// it: what it does was begun by a POST in the same browser.
func (s *SignIn) finish(v *frame.Visit) {
	carried := ""
	if c, err := v.R.Cookie(s.sessions.FlowCookie("").Name); err == nil {
		carried = c.Value
	}
	http.SetCookie(v.W, s.sessions.FlowCookie("")) // whatever comes of it, it is over
	who, next, err := s.logins.Finish(v.R.Context(), carried, v.R.PathValue("own"), v.R.URL.Query())
	if err == nil {
		err = s.enter(v.W, v.R, who)
	}
	if err != nil {
		s.failed(v, err)
		return
	}
	v.Redirect(cmp.Or(s.target(next, who.Principal), Path))
}

// end signs out.
func (s *SignIn) end(v *frame.Visit) {
	if c, err := v.R.Cookie(s.sessions.CookieName()); err == nil {
		if err := s.sessions.End(v.R.Context(), c.Value); err != nil { // and so is not signed out
			v.Fail(http.StatusServiceUnavailable)
			return
		}
	}
	http.SetCookie(v.W, s.sessions.Cookie(""))
	v.Redirect(Path)
}

var statuses = map[auth.LoginKind]int{
	auth.LoginOver: http.StatusBadRequest, auth.LoginDeclined: http.StatusForbidden, auth.LoginRefused: http.StatusForbidden,
	auth.LoginNobody: http.StatusForbidden, auth.LoginUnavailable: http.StatusServiceUnavailable,
	auth.LoginSubject: http.StatusForbidden, auth.LoginSeveral: http.StatusForbidden,
}

// failed says in plain words why the visitor is not signed in.
func (s *SignIn) failed(v *frame.Visit, err error) {
	var why *auth.LoginError
	if !errors.As(err, &why) {
		s.log.ErrorContext(v.R.Context(), "a sign-in broke", "error", err)
		v.Fail(http.StatusServiceUnavailable)
		return
	}
	s.log.WarnContext(v.R.Context(), "a sign-in came to nothing", "kind", string(why.Kind), "issuer", why.Issuer, "reason", why.Reason)
	v.Render(statuses[why.Kind], "failed", struct{ Kind auth.LoginKind }{why.Kind})
}

// local is a path of ours to go on to; empty for none.
func local(next string) string {
	if next = frame.LocalPath(next); next == "/" {
		return ""
	}
	return next
}

// homes are where people of each scope are at home, the most particular first.
var homes = []struct {
	scope auth.Scope
	path  string
}{
	{auth.Customer, "/account"}, {auth.Courier, "/courier"}, {auth.Building, "/building"}, {auth.Ops, "/ops"}, {auth.Shop, "/ops/parcel"},
}

// target is the path to go on to: the one that the visitor asked for, or else home. Empty: a
// visitor who may call the API alone has none.
func (s *SignIn) target(next string, p *auth.Principal) string {
	if next != "" {
		return next
	}
	for _, h := range homes {
		if p.Has(h.scope) {
			return h.path
		}
	}
	if s.front {
		return ""
	}
	return "/"
}
