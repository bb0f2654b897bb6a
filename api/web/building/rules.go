package building

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"latchkey/api/web/frame"
)

// form is what the page of the rules shows: what the manager typed, or what counts.
type form struct {
	*building
	Text string // the carriers, one a line

	// Seen stands for the building as the manager saw it: PUT replaces all of it, and what
	// another person changed meanwhile must not be undone by a visitor who never saw it.
	Seen string

	Error string // a key of the words; empty: nothing is wrong
	Done  bool
}

func rules(v *frame.Visit) {
	f, _, _ := current(v)
	if f == nil {
		return
	}
	f.Done = v.R.URL.Query().Get("done") == "yes"
	v.Render(http.StatusOK, "rules", f)
}

// current is the building as it is: for the form, and whole, as PUT wants it.
func current(v *frame.Visit) (*form, map[string]any, bool) {
	answer := v.Ask(http.MethodGet, path(v), nil)
	if !answer.OK() {
		v.FailAs(answer)
		return nil, nil, false
	}
	b, whole := &building{Page: "rules"}, map[string]any{}
	if err := errors.Join(answer.Read(b), answer.Read(&whole)); err != nil {
		v.Broken(err)
		return nil, nil, false
	}
	delete(whole, "building_id")
	delete(whole, "doors") // has routes of its own
	sum := sha256.Sum256(answer.JSON)
	return &form{building: b, Text: strings.Join(b.Carriers, "\n"), Seen: hex.EncodeToString(sum[:8])}, whole, true
}

func change(v *frame.Visit) {
	f, whole, ok := current(v)
	if !ok {
		return
	}
	old := f.Seen
	value := func(name string) string { return strings.TrimSpace(v.R.PostFormValue(name)) }
	f.Text = v.R.PostFormValue("carriers")
	f.Carriers = strings.FieldsFunc(f.Text, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' || r == ' ' })
	f.Carriers = slices.Compact(slices.Sorted(slices.Values(f.Carriers)))
	f.Returns = value("returns") == "yes"
	f.Hours = hoursFrom(value("from"), value("to"))
	f.Quiet = hoursFrom(value("quiet_from"), value("quiet_to"))
	if value("seen") != old {
		f.Error = "changed"
		v.Render(http.StatusConflict, "rules", f)
		return
	}
	whole["carriers"], whole["returns"] = append([]string{}, f.Carriers...), f.Returns
	for name, h := range map[string]*hours{"delivery_hours": f.Hours, "quiet_hours": f.Quiet} {
		delete(whole, name)
		if h != nil {
			whole[name] = h
		}
	}
	switch answer := v.Ask(http.MethodPut, path(v), whole); {
	case answer.OK():
		v.Redirect("/building/" + url.PathEscape(v.R.PathValue("building_id")) + "/rules?done=yes")
	case answer.Status == http.StatusUnprocessableEntity:
		f.Error = "invalid"
		v.Render(answer.Status, "rules", f)
	default:
		v.FailAs(answer)
	}
}

// hoursFrom are hours as typed; nil where both were left empty.
func hoursFrom(from, to string) *hours {
	if from == "" && to == "" {
		return nil
	}
	return &hours{From: from, To: to}
}
