package api_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"latchkey/api"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/service"
)

// still is a store that answers every load with the same moment and keeps nothing.
type still struct {
	handofftest.Store
	snap service.Snapshot
}

func (s *still) Prepare(context.Context, service.Preparation) (service.Snapshot, error) {
	return s.snap, nil
}

func (s *still) Commit(context.Context, service.Change) error { return nil }

func (s *still) Settle(context.Context, service.Settlement) error { return nil }

// deadlines is a connection that only takes deadlines.
type deadlines struct{ net.Conn }

func (deadlines) SetReadDeadline(time.Time) error { return nil }

func (deadlines) LocalAddr() net.Addr { return &net.TCPAddr{} }

func (deadlines) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// BenchmarkVerify measures a verify without network and store, beside the parts that
// are not the API's: a bare fiber handler, and the domain's own work.
func BenchmarkVerify(b *testing.B) {
	store := &still{Store: embedded.New(b)}
	h := newHouse(b, store, func(c *api.Config) { c.Log = slog.New(slog.DiscardHandler) })
	bare := fiber.New()
	bare.Post("/bare/:parcel_id", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"status": "released"}) })

	memory := embedded.New(b)
	w := handofftest.New(b, memory)
	w.Cleared(b, "cou_7")
	w.Drives(b, "cou_7", handofftest.Route, handofftest.Today)
	g := w.Dispatch(b, handofftest.Sample("P1"))
	ref := handofftest.Courier("cou_7")
	var err error
	store.snap, err = memory.Prepare(b.Context(), service.Preparation{
		Query: service.Query{Parcel: g.ID.Hash, Courier: &ref},
		Guess: &service.Guess{Courier: ref, ID: "x", At: handoff.InstantOf(w.Clock.Now())},
	})
	if err != nil {
		b.Fatal(err)
	}
	right := g.CurrentCode()
	body := `{"code":"` + right.Reveal() + `",` + here + `,"attempt_id":"a1"}`
	token := "Bearer " + h.token(b, courier)
	serve := func(handler fasthttp.RequestHandler, path string, want string) func(*testing.B) {
		return func(b *testing.B) {
			var c fasthttp.RequestCtx
			c.Init2(deadlines{}, nil, false)
			b.ReportAllocs()
			for b.Loop() {
				c.Request.Reset()
				c.Response.Reset()
				c.ResetUserValues()
				c.Request.Header.SetMethod("POST")
				c.Request.SetRequestURI(path)
				c.Request.Header.SetContentType("application/json")
				c.Request.Header.Set("Authorization", token)
				c.Request.SetBodyStream(bytes.NewReader([]byte(body)), len(body))
				c.Request.Header.SetContentLength(len(body))
				handler(&c)
			}
			if !bytes.Contains(c.Response.Body(), []byte(want)) {
				b.Fatalf("%s", c.Response.Body())
			}
		}
	}
	b.Run("fiber", serve(bare.Handler(), "/bare/P1", "released"))
	b.Run("domain", func(b *testing.B) {
		p := handofftest.AtDoor("cou_7", "P1", right)
		p.Attempt = "a1"
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.Service.Verify(b.Context(), p); err != nil {
				b.Fatal(err)
			}
		}
	})
	h.app.Handler() // builds the routes, as listening would
	b.Run("api", serve(h.app.Server().Handler, "/v1/parcels/P1/verify", `"status":"released"`))
}

// BenchmarkBulkLine measures what a line of a bulk file costs before the domain sees it.
func BenchmarkBulkLine(b *testing.B) {
	h := newHouse(b, hollow{embedded.New(b)}, func(c *api.Config) { c.Log = slog.New(slog.DiscardHandler) })
	line := compact(sample("P1", nil)) + "\n"
	req := h.request(b, warehouse, "POST", "/v1/dispatches/bulk", string(bytes.Repeat([]byte(line), b.N)))
	req.Header.Set("Content-Type", "application/x-ndjson")
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	b.ResetTimer()
	if a := h.send(b, req); a.status != 200 {
		b.Fatal(a.status)
	}
}
