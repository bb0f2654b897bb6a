package handofftest

import (
	"testing"

	"latchkey/handoff/door"
)

// feedTests are about messages to the doors that dialed in.
var feedTests = map[string]func(*testing.T, *World){
	"AFeedIsReadInOrderFromACursor": func(t *testing.T, w *World) {
		ctx := t.Context()
		for _, body := range []string{"one", "two", "three"} {
			noError(t, "Send", w.Store.Send(ctx, "d1", door.Message{Kind: "permit", Body: []byte(body)}))
		}
		noError(t, "Send", w.Store.Send(ctx, "d2", door.Message{Kind: "recall", Body: []byte("other")}))
		read := func(after string, limit int) (bodies []string, cursor string) {
			messages, err := w.Store.Receive(ctx, "d1", after, limit)
			noError(t, "Receive", err)
			for _, m := range messages {
				equal(t, "kind", m.Kind, "permit")
				bodies, cursor = append(bodies, string(m.Body)), m.Cursor
			}
			return bodies, cursor
		}
		first, cursor := read("", 2)
		equal(t, "first", first, []string{"one", "two"})
		rest, last := read(cursor, 10)
		equal(t, "rest", rest, []string{"three"})
		none, _ := read(last, 10)
		equal(t, "nothing new", len(none), 0)
	},
}
