package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestPrintingTellsNothing(t *testing.T) {
	v := sample(CodeIssued, Delivery, "de-AT")
	m, err := Render(v)
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{v.Code, v.CustomerName, v.AddressLine, v.CourierName, v.ParcelID, v.AccountURL}

	printed := map[string]string{}
	for name, x := range map[string]any{
		"view": v, "mail": m, "pointer to view": &v, "pointer to mail": &m,
		"view inside": struct{ V View }{v}, "mail inside": struct{ M Mail }{m}, "views": []View{v},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			printed[name+" "+verb] = fmt.Sprintf(verb, x)
		}
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "it", x)
		printed[name+" slog text"] = text.String()
		if name != "mail inside" { // marshalling a Mail is how it is sent on
			slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "it", x)
			printed[name+" slog json"] = js.String()
		}
	}
	if data, err := json.Marshal(v); err != nil {
		t.Error(err)
	} else {
		printed["json"] = string(data)
	}
	printed["error"] = errors.Join(fmt.Errorf("sending %v", v), fmt.Errorf("sending %v", m)).Error()

	for how, s := range printed {
		for _, secret := range secrets {
			if strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) {
				t.Errorf("%s prints %q", how, secret)
			}
		}
	}
	if got := printed["view %+v"]; !strings.Contains(got, "code-issued") || !strings.Contains(got, "de-AT") {
		t.Errorf("a view prints as %q, which tells nothing at all", got)
	}
}
