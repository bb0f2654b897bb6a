package handoff_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
)

// Whoever prints, logs or marshals a grant by accident shows nobody's name, address,
// mail or code, and whoever prints a door no keypad's key.
func TestAGrantPrintsNobody(t *testing.T) {
	w := handofftest.New(t, embedded.New(t))
	g := w.Dispatch(t, handofftest.Sample("JJD1"))
	door := Door{ID: "pad", Mode: Keypad, Keypad: KeypadKey("a keypad's secret")}
	var out strings.Builder
	resident := residents.Resident{ID: "r", Address: "resident@home.example", Unit: "4 links"}
	for _, v := range []any{resident, &resident, []residents.Resident{resident}, g, &g, g.Dispatch, &g.Dispatch, g.Dispatch.Customer, g.Dispatch.To, []any{g}, door, &door, door.Keypad, service.Permission{Door: door}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	}
	d := g.Dispatch
	for _, secret := range []string{resident.Address, resident.Unit, d.Customer.Name, d.Customer.Email, d.To.Lines[0], d.To.Postal, d.Order, g.CurrentCode().Reveal(), string(door.Keypad)} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret)} {
			if strings.Contains(out.String(), form) {
				t.Errorf("printed %q", form)
			}
		}
	}
	if !strings.Contains(out.String(), "******") {
		t.Error("nothing was printed at all")
	}
}
