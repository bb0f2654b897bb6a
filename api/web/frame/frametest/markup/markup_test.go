package markup

import (
	"strings"
	"testing"
)

const whole = `<!DOCTYPE html>
<html lang="en"><head><title>x</title></head><body>
<h1 id="t">Title</h1><section aria-labelledby="t"><ol role="list" aria-label="Steps"></ol></section>
<form method="post"><label for="f">Field</label><input id="f" aria-label="Field"><div><button type="submit">Go</button></div></form>
<button type="button" aria-label="Close">×</button><img alt="" src="x"><iframe title="Mail"></iframe><svg><title>a picture</title></svg>
</body></html>`

func TestFaults(t *testing.T) {
	if got := Faults(whole); len(got) > 0 {
		t.Fatalf("a whole page: %q", got)
	}
	for want, change := range map[string][2]string{
		"does not begin":     {"<!DOCTYPE", "<!doctype"},
		"no language":        {` lang="en"`, ""},
		"the title is empty": {"<title>x", "<title>"},
		"0 titles":           {"<title>x</title>", ""},
		`<button type="send" aria-label="Close"> has no type`:      {`type="button"`, `type="send"`},
		`<button> has no type`:                                     {`<button type="submit">`, `<button>`},
		`<button type="submit"> has no name`:                       {">Go<", "> <"},
		`<label for="f"> is empty`:                                 {">Field<", "><"},
		`<form method="post"> has no button`:                       {`<button type="submit">`, `<button type="button">`},
		`<h1 id="t"> is empty`:                                     {">Title<", "> \n <"},
		`aria-label on <ol aria-label="Steps">, which has no role`: {` role="list"`, ""},
		`an empty aria-label on <button`:                           {`aria-label="Close"`, `aria-label=""`},
		`the id "f" is there twice`:                                {`id="t"`, `id="f"`},
		`refers to the id "f"`:                                     {`id="f"`, `id="g"`},
		`refers to the id "u"`:                                     {`aria-labelledby="t"`, `aria-labelledby="t u"`},
		"has no alt":                                               {` alt=""`, ""},
		"<iframe> has no title":                                    {` title="Mail"`, ""},
	} {
		changed := strings.Replace(whole, change[0], change[1], 1)
		if changed == whole {
			t.Fatalf("%q is not on the page", change[0])
		}
		if got := strings.Join(Faults(changed), "\n"); !strings.Contains(got, want) {
			t.Errorf("%q for %q: %q, want %s", change[1], change[0], got, want)
		}
	}
}
