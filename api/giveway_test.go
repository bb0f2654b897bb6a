package api_test

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
)

// heldUp is a store in which a courier's request waits until it is let go, and each line of a file
// until it is let on.
type heldUp struct {
	handofftest.Store
	letGo         chan struct{}
	letOn         chan struct{}
	courier       atomic.Int64
	lines, atOnce atomic.Int64
	began         atomic.Int64
}

func (h *heldUp) Prepare(ctx context.Context, p service.Preparation) (service.Snapshot, error) {
	if p.Courier != nil {
		h.courier.Add(1)
		<-h.letGo
		return h.Store.Prepare(ctx, p)
	}
	h.began.Add(1)
	n := h.lines.Add(1)
	defer h.lines.Add(-1)
	for most := h.atOnce.Load(); n > most && !h.atOnce.CompareAndSwap(most, n); most = h.atOnce.Load() {
	}
	<-h.letOn
	return h.Store.Prepare(ctx, p)
}

// While a courier's verify is in work few lines of a file are, and all of them in the end.
func TestAFileGivesWayToACourier(t *testing.T) {
	store := &heldUp{Store: embedded.New(t), letGo: make(chan struct{}), letOn: make(chan struct{})}
	h := newHouse(t, store)
	addr := h.listen(t)
	answers := make(chan int, 2)
	send := func(path, kind, token string, body []byte) {
		req, err := http.NewRequest("POST", "http://"+addr+path, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Content-Type", kind)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			answers <- 0
			return
		}
		defer resp.Body.Close()
		var content bytes.Buffer
		_, _ = content.ReadFrom(resp.Body)
		answers <- bytes.Count(content.Bytes(), []byte(`"status":201`))
	}
	go send("/v1/parcels/JJD000390007812345678/verify", "application/json", h.token(t, courier), []byte(`{"code":"123456"}`))
	eventually(t, "the courier waits", func() bool { return store.courier.Load() > 0 })

	const lines = 40
	var all bytes.Buffer
	for n := range lines {
		all.WriteString(compact(sample("B"+strconv.Itoa(n), nil)) + "\n")
	}
	go send("/v1/dispatches/bulk", "application/x-ndjson", h.token(t, warehouse), all.Bytes())
	eventually(t, "lines begin", func() bool { return store.lines.Load() == 4 })
	for range 12 {
		began := store.began.Load()
		store.letOn <- struct{}{}
		eventually(t, "another line begins", func() bool { return store.began.Load() > began })
	}
	if n := store.atOnce.Load(); n != 4 {
		t.Errorf("%d lines at once beside a courier, want 4", n)
	}
	close(store.letGo)
	<-answers
	close(store.letOn)
	if made := <-answers; made != lines {
		t.Errorf("%d lines were taken, want %d", made, lines)
	}
}
