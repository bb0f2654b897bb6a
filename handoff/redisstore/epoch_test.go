package redisstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
)

// A single server and a Cluster alike: nothing is asked of a process that is not let in, every
// grant is found, and an event that is there is told from one that is not.
func TestEpochIsReadOfEveryServer(t *testing.T) {
	for name, url := range map[string]string{
		"single":  "redis://" + redistest.Single(t).Addr(),
		"cluster": clusterURL(redistest.Cluster(t).Addrs()),
	} {
		t.Run(name, func(t *testing.T) {
			s, ring := newStore(t, dial(t, url), 0)
			servers, err := s.Servers(t.Context())
			var processes []string
			for _, server := range servers {
				processes = append(processes, server.ID)
			}
			if want := map[string]int{"single": 1, "cluster": 3}[name]; err != nil || len(processes) != want {
				t.Fatalf("%d processes, %v", len(processes), err)
			}

			var closed atomic.Bool
			var asked atomic.Int64
			client, err := DialWith(url, Access{Admit: func(process string) bool {
				asked.Add(1)
				return slices.Contains(processes, process) && !closed.Load()
			}})
			if err != nil {
				t.Fatal(err)
			}
			guarded := newStoreWith(t, client, 2, ring)
			w := handofftest.New(t, guarded)
			made := map[handoff.GrantID]bool{}
			for i := range 40 {
				made[w.Dispatch(t, handofftest.Sample(fmt.Sprintf("JJD%d", i))).ID] = true
			}
			if asked.Load() == 0 {
				t.Error("no connection was asked about")
			}
			found := map[handoff.GrantID]bool{}
			if err := s.EachGrant(t.Context(), func(grants []handoff.Grant) error {
				for _, g := range grants {
					found[g.ID] = true
				}
				return nil
			}); err != nil || len(found) != len(made) {
				t.Errorf("%d of %d grants are found: %v", len(found), len(made), err)
			}

			if err := s.BeginEpoch(t.Context(), "E1"); err != nil {
				t.Fatal(err)
			}
			if err := s.BeginEpoch(t.Context(), "E2"); err != nil {
				t.Fatal(err)
			}
			st, err := s.Compare(t.Context(), Marks{})
			if err != nil || st.Epoch == nil || st.Epoch.ID != "E1" {
				t.Fatalf("%+v, %v", st.Epoch, err)
			}
			marks := st.Ends
			if marks[0] == "" {
				marks[0] = "1-1"
			} else {
				marks[0] = strings.Split(marks[0], "-")[0] + "-99999"
			}
			if st, err = s.Compare(t.Context(), marks); err != nil || !st.Missing[0] || slices.Contains(st.Missing[1:], true) {
				t.Errorf("missing are %v, %v", st.Missing, err)
			}

			closed.Store(true)
			Guard(client, closed.Load)
			if _, err := guarded.APIKeys(t.Context()); !errors.Is(err, ErrOlder) {
				t.Errorf("a guarded store answers %v", err)
			}
		})
	}
}

// A client is not let in to a process that nobody looked at, and writes nothing to it.
func TestEpochAdmitsNoUnknownProcess(t *testing.T) {
	url := "redis://" + redistest.Single(t).Addr()
	client, err := DialWith(url, Access{Admit: func(string) bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newStore(t, client, 2)
	if err := s.SetEpoch(t.Context(), Epoch{ID: "E1"}); err == nil {
		t.Error("it wrote")
	}
	open, _ := newStore(t, dial(t, url), 2)
	if st, err := open.Compare(t.Context(), Marks{}); err != nil || st.Epoch != nil {
		t.Errorf("%+v, %v", st.Epoch, err)
	}
}
