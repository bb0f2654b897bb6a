package courier_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"latchkey/api/auth"
	"latchkey/api/web/courier"
	"latchkey/api/web/frame"
	"latchkey/api/web/frame/frametest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/words"
)

func house(t testing.TB) *frametest.House {
	t.Helper()
	h := frametest.New(t, nil, func(*handofftest.World) []frame.Set { return []frame.Set{courier.Set()} })
	h.Cleared(t, "cou_7", "cou_8")
	h.Drives(t, "cou_7", handofftest.Route, handofftest.Today)
	return h
}

// The list shows where to go, and of a parcel its last four characters only.
func TestStops(t *testing.T) {
	h := house(t)
	c := h.SignIn(frametest.Courier, "Courier 7")
	if p := c.Get(t, "/courier"); p.Status != 200 || !strings.Contains(p.Text, "Nothing is left to do") {
		t.Fatalf("%d %s", p.Status, p.Text)
	}
	first := h.Dispatch(t, handofftest.Sample("JJD000390007827"))
	h.Dispatch(t, handofftest.Sample("JJD000390001111"))
	h.Do(t, frametest.Clerk, "POST", "/v1/dispatches/"+first.ID.String()+"/hold", `{"reason":"x"}`, 200)
	p := c.Get(t, "/courier")
	for _, want := range []string{"One stop is left today.", "Sample Customer 81", "4 links", "Turmstr. 5", "10559 Berlin", "Parcel ending in 1111", "Parcel ending in 7827", "On hold"} {
		if !strings.Contains(p.Text, want) {
			t.Errorf("no %q", want)
		}
	}
	code := first.CurrentCode().Reveal()
	for _, hidden := range []string{"JJD000390007827", "JJD00039000", first.ID.String(), code, "customer@shop.example"} {
		if strings.Contains(p.Text, hidden) {
			t.Errorf("the page tells %q", hidden)
		}
	}
	c.Language = "de"
	if p := c.Get(t, "/courier"); !strings.Contains(p.Text, "Heute ist noch ein Stopp übrig.") || !strings.Contains(p.Text, "Angehalten") {
		t.Error("no German")
	}
	other := frametest.Courier
	other.Subject = "cou_8"
	if p := h.SignIn(other, "").Get(t, "/courier"); p.Status != 200 || strings.Contains(p.Text, "7827") {
		t.Errorf("another's stops: %d", p.Status)
	}
	other.Subject = "cou_9"
	if p := h.SignIn(other, "").Get(t, "/courier"); p.Status != 200 || !strings.Contains(p.Text, "You are not cleared") {
		t.Errorf("not cleared: %d", p.Status)
	}
	if p := h.SignIn(frametest.Customer, "").Get(t, "/courier"); p.Status != 403 {
		t.Errorf("a customer: %d", p.Status)
	}
	if p := h.Anonymous().Get(t, "/courier"); p.Status != 303 {
		t.Errorf("without a session: %d", p.Status)
	}
}

// What the phone keeps is the same for everybody who speaks the language.
func TestTheShellIsNobodys(t *testing.T) {
	h := house(t)
	h.Dispatch(t, handofftest.Sample("JJD000390007827"))
	c := h.SignIn(frametest.Courier, "Courier 7")
	ours, anonymous := c.Get(t, "/courier/shell"), h.Anonymous().Get(t, "/courier/shell")
	if ours.Status != 200 || ours.Text != anonymous.Text {
		t.Errorf("the shell differs: %d", ours.Status)
	}
	for _, hidden := range []string{c.CSRF, "Courier 7", "7827", "Turmstr", "csrf\""} {
		if strings.Contains(ours.Text, hidden) {
			t.Errorf("the shell holds %q", hidden)
		}
	}
}

// The page can be installed, and everything that it names is there.
func TestInstallable(t *testing.T) {
	h := house(t)
	c := h.SignIn(frametest.Courier, "")
	var m struct {
		Start string `json:"start_url"`
		Scope string
		Icons []struct{ Src, Sizes, Type, Purpose string }
	}
	p := h.Anonymous().Get(t, "/courier/manifest.webmanifest")
	p.Read(t, &m)
	if p.Header.Get("Content-Type") != "application/manifest+json" || m.Start != "/courier" || m.Scope != "/courier" || len(m.Icons) != 4 {
		t.Errorf("manifest: %s", p.Text)
	}
	for _, i := range m.Icons {
		if p := c.Get(t, i.Src); p.Status != 200 || p.Header.Get("Content-Type") != i.Type {
			t.Errorf("icon %s: %d %s", i.Src, p.Status, p.Header.Get("Content-Type"))
		}
	}
	w := h.Anonymous().Get(t, "/courier/worker.js")
	if w.Status != 200 || w.Header.Get("Service-Worker-Allowed") != "/courier" || !strings.HasPrefix(w.Header.Get("Content-Type"), "text/javascript") || w.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("worker: %d %v", w.Status, w.Header)
	}
	var kept struct{ Assets []string }
	first, _, _ := strings.Cut(strings.TrimPrefix(w.Text, "const kept = "), ";\n")
	if err := json.Unmarshal([]byte(first), &kept); err != nil || len(kept.Assets) == 0 {
		t.Fatalf("%s: %v", first, err)
	}
	// The shell needs no asset that is not kept, the decoder aside, which is loaded with the camera.
	all := strings.Join(kept.Assets, " ")
	for _, m := range regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(c.Get(t, "/courier/shell").Text, -1) {
		if !strings.Contains(all, m[1]) {
			t.Errorf("%s is not kept", m[1])
		}
	}
	for _, path := range kept.Assets {
		p := c.Get(t, path)
		if p.Status != 200 {
			t.Errorf("%s: %d", path, p.Status)
		}
		for _, m := range regexp.MustCompile(`from "\.\./?([a-z./-]+)"|from "\./([a-z./-]+)"`).FindAllStringSubmatch(p.Text, -1) {
			if !strings.Contains(all, "/"+m[1]+m[2]) {
				t.Errorf("%s imports %s, which is not kept", path, m[0])
			}
		}
	}
}

// The first load is small: what reads labels is loaded with the camera.
func TestWeight(t *testing.T) {
	h := house(t)
	for i := range 20 {
		h.Dispatch(t, handofftest.Sample(fmt.Sprintf("JJD00039000%04d", i)))
	}
	c := h.SignIn(frametest.Courier, "Courier 7")
	page := c.Get(t, "/courier")
	sum := len(page.Text)
	for _, name := range []string{"frame/style.css", "frame/times.js", "frame/live.js", "frame/call.js", "frame/icon.svg", "courier/courier.css", "courier/courier.js", "courier/attempt.js", "courier/doors.js", "courier/position.js", "courier/scan.js"} {
		sum += len(c.Get(t, h.Site.Asset(name)).Text)
	}
	if sum > 100_000 {
		t.Errorf("%d bytes, not compressed", sum)
	}
}

// No GET changes anything.
func TestLookingChangesNothing(t *testing.T) {
	h := house(t)
	h.Dispatch(t, handofftest.Sample("JJD000390007827"))
	before := h.Versions(t, "JJD000390007827")
	c := h.SignIn(frametest.Courier, "")
	for _, pattern := range h.Site.Patterns() {
		if path, get := strings.CutPrefix(pattern, "GET "); get {
			if p := c.Get(t, path); p.Status != 200 {
				t.Errorf("%s: %d", path, p.Status)
			}
		}
	}
	if after := h.Versions(t, "JJD000390007827"); after != before {
		t.Errorf("%s\nis now\n%s", before, after)
	}
}

// Reasons that no act of a courier ends with.
var notACouriers = map[string]bool{
	"GrantUnknown": true, "ResendLimit": true, "ResendTooSoon": true, "NoCode": true, "DispatchConflict": true, "CarrierNotEnabled": true,
	"ParcelNotAllowed": true, "ParcelTwice": true, "ParcelNotNamed": true, "DestinationNotAllowed": true, "DayNotLater": true, "DayUnknown": true, "DayTooFar": true, "ZoneUnknown": true,
	"ConsentUsed": true, "NoConsentNeeded": true, "ApprovalMissing": true, "SelfApproval": true, "PersonRequired": true,
	"PositionRequired": true,
	"DisputeOpen":      true, "AlreadyDisputed": true, "NoDispute": true, "OverrideReplaced": true, "NotConfirmed": true,
	"ConfirmationSent": true, "ConfirmationLimit": true, "ConfirmationOver": true, "NoConfirmedAddress": true,
}

// Every refusal that a courier can meet says what to do, and so does every proof that can
// fail: a new reason in api/problem.go must be given words here, or named as not a courier's.
func TestRefusalsHaveWords(t *testing.T) {
	names := map[string]string{} // of handoff's constants
	each(t, "../../../handoff/refusal.go", func(n ast.Node) {
		spec, is := n.(*ast.ValueSpec)
		if !is || len(spec.Values) != 1 {
			return
		}
		if lit, is := spec.Values[0].(*ast.BasicLit); is && lit.Kind == token.STRING {
			names[spec.Names[0].Name] = strings.Trim(lit.Value, `"`)
		}
	})
	reasons := 0
	said := courierWords(t)
	each(t, "../../problem.go", func(n ast.Node) {
		pair, is := n.(*ast.KeyValueExpr)
		if !is {
			return
		}
		key, is := pair.Key.(*ast.SelectorExpr)
		if !is || fmt.Sprint(key.X) != "handoff" {
			return
		}
		reasons++
		slug, known := names[key.Sel.Name]
		if !known {
			t.Errorf("what is handoff.%s?", key.Sel.Name)
		} else if whole := said.Has("refused."+slug+".title") && said.Has("refused."+slug+".text"); notACouriers[key.Sel.Name] == whole {
			t.Errorf("%s: words %v, though not a courier's is %v", slug, whole, notACouriers[key.Sel.Name])
		}
	})
	if reasons < 40 {
		t.Errorf("%d reasons: is this the whole map?", reasons)
	}
	for p := handoff.Proof(0); !strings.HasPrefix(p.String(), "unknown"); p++ {
		if !said.Has("proof." + p.String()) {
			t.Errorf("no words for the proof %s", p)
		}
	}
	for s := handoff.DoorState(1); !strings.HasPrefix(s.String(), "unknown"); s++ {
		if !said.Has("door.state." + s.String()) {
			t.Errorf("no words for the state %s of a door", s)
		}
	}
}

func courierWords(t *testing.T) *words.Words {
	t.Helper()
	all, err := words.Load(courier.Set().Files)
	if err != nil {
		t.Fatal(err)
	}
	return all.In(words.English)
}

func each(t *testing.T, file string, visit func(ast.Node)) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		visit(n)
		return true
	})
}

var manager = auth.Principal{Subject: "manager", Building: "bld_turm5", Scopes: []auth.Scope{auth.Building}}
