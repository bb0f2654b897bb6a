package metrics

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"latchkey/handoff"
)

func TestWhatIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := New(registry)
	if err != nil {
		t.Fatal(err)
	}
	done := []handoff.Event{{Type: handoff.EventReleased}}
	m.Decided(handoff.Mint, "", done)
	m.Decided(handoff.Mint, "", nil)
	m.Decided(handoff.Mint, handoff.DispatchConflict, nil)
	m.Decided(handoff.Release, "", done)
	m.Decided(handoff.Collect, "", done)
	m.Decided(handoff.Release, handoff.CodeMismatch, []handoff.Event{{Type: handoff.EventCodeRefused}, {Type: handoff.EventCodeLocked}})
	m.Decided(handoff.Recall, "", done)
	m.Conflicted(handoff.Release)
	m.Served("POST", "/v1/parcels/{parcel_id}/verify", 200, time.Millisecond)

	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	var got []string
	for line := range strings.Lines(page.Body.String()) {
		if strings.HasPrefix(line, "latchkey_") && !strings.Contains(line, "_bucket") && !strings.Contains(line, "_sum") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		`latchkey_acts_total{act="recall",result="done"} 1`,
		`latchkey_code_locks_total 1`,
		`latchkey_commit_conflicts_total{act="release"} 1`,
		`latchkey_dispatches_total{result="created"} 1`,
		`latchkey_dispatches_total{result="dispatch-conflict"} 1`,
		`latchkey_dispatches_total{result="repeated"} 1`,
		`latchkey_http_request_duration_seconds_count{method="POST",route="/v1/parcels/{parcel_id}/verify",status="200"} 1`,
		`latchkey_unsettled_guesses_total 0`,
		`latchkey_verifies_total{result="code-mismatch"} 1`,
		`latchkey_verifies_total{result="collected"} 1`,
		`latchkey_verifies_total{result="released"} 1`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := New(registry); err == nil {
		t.Error("registered twice")
	}
}
