package handoff_test

import (
	"testing"
	"time"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// A PIN is judged last, when all else holds, and by what the store said of the claim.
func TestKeypadIsJudged(t *testing.T) {
	noon := handofftest.Noon
	minute, late := uint64(noon.Unix()/60), noon.Add(59500*time.Millisecond)
	for name, c := range map[string]struct {
		pin     *ReservedPIN
		change  func(*scene)
		want    Reason
		waits   bool
		retry   time.Duration
		permits PermitID
	}{
		"not claimed yet":           {waits: true},
		"held":                      {pin: &ReservedPIN{PermitID{7}, minute, true}, permits: PermitID{7}},
		"the next minute's, held":   {pin: &ReservedPIN{PermitID{7}, minute + 1, true}, permits: PermitID{7}},
		"a minute too far ahead":    {pin: &ReservedPIN{PermitID{7}, minute + 2, true}, want: KeypadBusy, retry: time.Minute},
		"held too long":             {pin: &ReservedPIN{PermitID{7}, minute - 1, true}, waits: true},
		"taken":                     {pin: &ReservedPIN{PermitID{7}, minute, false}, waits: true},
		"the next minute's, taken":  {pin: &ReservedPIN{PermitID{7}, minute + 1, false}, want: KeypadBusy, retry: time.Minute},
		"taken, late in the minute": {pin: &ReservedPIN{PermitID{7}, minute + 1, false}, change: func(s *scene) { s.now = late }, want: KeypadBusy, retry: 500 * time.Millisecond},
		"given out before": {pin: &ReservedPIN{PermitID{7}, minute + 1, true}, change: func(s *scene) {
			s.grant.Unlocks = []Unlock{{Permit: PermitID{7}, Door: "pad"}}
		}, want: KeypadBusy, retry: time.Minute},
		"no key":          {pin: &ReservedPIN{PermitID{7}, minute, true}, change: func(s *scene) { s.facts.Door.Keypad = nil }, want: AccessRefused},
		"no name":         {pin: &ReservedPIN{PermitID{}, minute, true}, want: AccessRefused},
		"another's route": {change: func(s *scene) { s.facts.Courier.Drives = nil }, want: NotYourRoute},
		"elsewhere":       {change: func(s *scene) { s.cmd.Evidence.Position = nil }, want: OutsideGeofence},
		"without consent": {change: func(s *scene) { s.grant.Consents = nil }, want: AccessRefused},
		"recalled":        {change: func(s *scene) { s.grant.Status = Recalled }, want: IsRecalled},
		"the visit is over": {change: func(s *scene) {
			s.grant.Visits = []Visit{{Door: s.facts.Door.ID, Since: InstantOf(noon), Permits: 3}}
		}, want: VisitOver},
		"no challenge is asked for": {pin: &ReservedPIN{PermitID{7}, minute, true}, change: func(s *scene) { s.cmd.Evidence.Challenge = nil }, permits: PermitID{7}},
	} {
		t.Run(name, func(t *testing.T) {
			s := row{act: Open, target: Garage, asks: Proofs(append(atTheDoor, ProofBuilding, ProofPresence, ProofConsent)...), mode: Keypad}.scene(t)
			s.facts.PIN = c.pin
			if c.change != nil {
				c.change(s)
			}
			d := s.decide()
			switch {
			case d.Wait != c.waits || d.Wait && (d.Refusal != nil || len(d.Events) > 0):
				t.Errorf("waits: %+v", d)
			case c.want != "" && (d.Refusal == nil || d.Refusal.Reason != c.want || d.Refusal.RetryAfter != c.retry):
				t.Errorf("refused with %+v, want %s after %s", d.Refusal, c.want, c.retry)
			case c.want == KeypadBusy && len(d.Events) > 0:
				t.Errorf("who comes too late is written down: %+v", d.Events)
			case c.permits != PermitID{} && (d.Refusal != nil || len(d.Events) != 1 || d.Events[0].Permit != c.permits || d.Events[0].Awaited || len(d.Events[0].Challenge) > 0):
				t.Errorf("got %+v, %+v", d.Refusal, d.Events)
			}
			if c.waits || c.permits != (PermitID{}) {
				if d.Verdict[ProofPresence] != NotAsked {
					t.Errorf("presence is %v", d.Verdict[ProofPresence])
				}
			}
		})
	}
}
