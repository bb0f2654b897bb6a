package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/go-json-experiment/json"
	"github.com/gofiber/fiber/v2"

	"latchkey/api/auth"
	"latchkey/api/ndjson"
	"latchkey/handoff"
	"latchkey/handoff/service"
)

const (
	bulkPath   = "/v1/dispatches/bulk"
	ndjsonType = "application/x-ndjson"
)

// bulkRoutes take a file of dispatches in one request. It streams both ways: results go out
// while lines still come in, so that neither the file nor its results are ever held.
type bulkRoutes struct {
	service  *service.Service
	huma     huma.API
	timeout  time.Duration // for the work on one line
	limit    int64         // bytes of one body
	workers  int           // lines of one body in work at once
	places   bulks
	beside   *giveWay
	log      *slog.Logger
	recorder *recorder
}

func (a *bulkRoutes) register(r *registrar) {
	a.huma = r.huma
	schemas := r.huma.OpenAPI().Components.Schemas
	route(r, huma.Operation{
		OperationID: "dispatch-bulk", Method: http.MethodPost, Path: bulkPath,
		Errors:  []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
		Summary: "A file of dispatches", Tags: []string{"Warehouse"},
		Description: "One dispatch a line, at most 64 KiB each; one result a line, in the same order. Blank lines give no result, but count. Lines end with LF, CR or CR LF; a byte order mark is passed over, and ends a line where files were joined. " +
			"A line that is refused stops no other, and sending the whole file again is harmless. Two lines for one parcel race. " +
			"Results stream while lines are still read; they also wait for a client that sends all before it reads. " +
			"A shop may send four files at once, of which each must bring 4 KiB, or its end, within 30 seconds.",
		Responses: map[string]*huma.Response{"200": {
			Description: "One result a line",
			Content:     map[string]*huma.MediaType{ndjsonType: lines(schemas.Schema(reflect.TypeFor[lineResult](), true, ""), "{\"line\":1,\"status\":201,\"grant_id\":\"0f3b2c1d4e5f60718293a4b5-1\"}\n")},
		}},
	}, []auth.Scope{auth.Dispatch, auth.Shop}, a.dispatchBulk)

	op := r.huma.OpenAPI().Paths[bulkPath].Post
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		ndjsonType: lines(schemas.Schema(reflect.TypeFor[dispatchRequest](), true, ""), "{\"parcel_id\":\"JJD000390007827\",\"carrier_id\":\"swift\"}\n"),
	}}
}

// lines describe a text of JSON lines, each of a schema. It is no JSON value: a generator
// that took it for one would make a client that fails at the second line. JSON Schema has
// no word for lines, so that the line's schema stands in contentSchema (draft 2020-12,
// section 8.5 of its validation), which no validator applies by itself.
func lines(line *huma.Schema, example string) *huma.MediaType {
	return &huma.MediaType{
		Schema: &huma.Schema{
			Type: huma.TypeString, Description: "One JSON object a line",
			Extensions: map[string]any{"contentMediaType": ndjsonType, "contentSchema": line},
		},
		Example: example,
	}
}

// lineResult is what became of one line.
type lineResult struct {
	_ struct{} `additionalProperties:"true"`

	Line    int         `json:"line" minimum:"1" doc:"Of the file, blank ones counted"`
	Status  int         `json:"status" doc:"As the single route would have answered"`
	GrantID string      `json:"grant_id,omitempty"`
	Code    string      `json:"code,omitempty" doc:"Of the problem, where it is one"`
	Errors  []violation `json:"errors,omitempty"`

	Warnings []warning `json:"warnings,omitempty" doc:"Of a line that was taken: what was read in the safe direction, and should be mended"`
}

func (a *bulkRoutes) dispatchBulk(context.Context, *struct{}) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(h huma.Context) {
		c := humafiber.Unwrap(h)
		if c.Request().Header.ContentLength() > int(a.limit) {
			_ = huma.WriteErr(a.huma, h, http.StatusRequestEntityTooLarge, "")
			return
		}
		request := c.Context()
		x := exchangeOf(request)
		if !a.places.enter(x.principal.Shop) {
			_ = huma.WriteErr(a.huma, h, http.StatusTooManyRequests, "", tooManyBulks())
			return
		}
		x.streams = true
		c.Set(fiber.HeaderContentType, ndjsonType)
		request.SetBodyStream(a.newStream(request.RequestBodyStream(), request.Conn(), x), -1)
	}}, nil
}

// The bulk requests in work, of all shops and of one: each has its workers and its buffers. A
// shop's first is taken however many others' there are: no shop can keep another one out.
const (
	bulksAtOnce = 16
	bulksOfShop = 4
)

// bulks are the places for bulk requests, by shop.
type bulks struct {
	mu    sync.Mutex
	total int
	of    map[string]int
}

// enter takes a place, which leave gives back. It reports false where there is none.
func (b *bulks) enter(shop string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.of[shop]; n >= bulksOfShop || n > 0 && b.total >= bulksAtOnce {
		return false
	}
	b.total++
	b.of[shop]++
	return true
}

func (b *bulks) leave(shop string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total--
	if b.of[shop]--; b.of[shop] == 0 {
		delete(b.of, shop)
	}
}

func tooManyBulks() *Problem {
	p := newProblem(http.StatusTooManyRequests)
	p.retryAfter = 5 * time.Second
	return p
}

// stream turns lines into results. The server reads results from it, in its own
// goroutine; behind it one goroutine reads lines, a few work on them, and one puts the
// results in order.
//
//	reader -> work -> workers
//	     \-> order -> collector, which waits for each line's result in turn -> spool -> Read
//
// All of it is bounded, so that what does not move on slows the reader.
//
// The goroutines start with the first Read and have ended when Close returns, because
// between the two, and only there, the server keeps its hands off the connection's
// buffer.
type stream struct {
	bulk     *bulkRoutes
	exchange *exchange
	in       *pacedReader

	ctx    context.Context
	cancel context.CancelFunc
	start  sync.Once
	done   sync.WaitGroup

	work    chan *line
	order   chan *line
	results *spool
}

// line is one line of the file, and then its result.
type line struct {
	number int
	data   []byte
	failed int         // a status, where the line could not be read
	result chan []byte // one
}

// lineTimeout is how long the reader of a bulk request's results may keep still, and how long
// its sender may take for each progress bytes of the body: a place is for a file on its way.
const (
	lineTimeout = 30 * time.Second
	progress    = 4 << 10
)

func (a *bulkRoutes) newStream(body io.Reader, conn net.Conn, x *exchange) *stream {
	if body == nil {
		body = bytes.NewReader(nil)
	}
	s := &stream{
		bulk: a, exchange: x, in: &pacedReader{body: body, conn: conn, write: lineTimeout + a.timeout, now: time.Now},
		work: make(chan *line), order: make(chan *line, 2*a.workers), results: newSpool(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *stream) run() {
	s.done.Go(func() {
		defer close(s.order)
		defer close(s.work)
		s.read()
	})
	s.done.Go(func() {
		for l := range s.order {
			s.results.write(<-l.result)
		}
		s.results.end(io.EOF)
	})
	for range s.bulk.workers {
		s.done.Go(func() {
			for l := range s.work {
				if !s.bulk.beside.line(s.ctx, func() { l.result <- s.dispatch(l) }) {
					l.result <- nil
				}
			}
		})
	}
}

// Close stops everything and waits for it.
func (s *stream) Close() error {
	s.start.Do(func() { // it never began
		close(s.order)
		close(s.work)
	})
	s.cancel()
	s.in.stop()
	s.results.end(net.ErrClosed)
	s.done.Wait()
	s.results.close()
	s.bulk.places.leave(s.exchange.principal.Shop)
	s.bulk.recorder.finish(s.exchange, http.MethodPost, bulkPath, http.StatusOK)
	return nil
}

// pacedReader reads from a connection for as long as something comes now and then. The
// server's own deadline is for a whole request. Who still sends need not read yet, so
// that each piece that comes also gives the other direction more time.
type pacedReader struct {
	body  io.Reader
	conn  net.Conn
	write time.Duration // how long a write may wait

	// What came since the last progress bytes, and how long it was waited for. The time that the
	// lines take here is not the sender's.
	got    int
	waited time.Duration
	now    func() time.Time // of the process's own clock, as the connection's deadlines

	mu      sync.Mutex
	stopped bool
}

func (p *pacedReader) Read(b []byte) (int, error) {
	began := p.now()
	if !p.await(began) {
		return 0, net.ErrClosed
	}
	n, err := p.body.Read(b)
	p.got, p.waited = p.got+n, p.waited+p.now().Sub(began)
	if p.got >= progress {
		p.got, p.waited = 0, 0
	}
	return n, err
}

func (p *pacedReader) await(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.stopped && p.conn.SetReadDeadline(now.Add(lineTimeout-p.waited)) == nil && p.conn.SetWriteDeadline(now.Add(p.write)) == nil
}

// stop ends a Read that waits, and any later one.
func (p *pacedReader) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	_ = p.conn.SetReadDeadline(time.Unix(1, 0))
}

// read cuts the body into lines until it ends, fails, or is too long.
func (s *stream) read() {
	in := ndjson.NewReader(&bounded{in: s.in, left: s.bulk.limit})
	for {
		next, err := in.Next()
		l := &line{number: next.Number, data: bytes.Clone(next.Data), result: make(chan []byte, 1)}
		switch {
		case errors.Is(err, io.EOF):
			return
		case errors.Is(err, errTooMuch):
			l.failed = http.StatusRequestEntityTooLarge
			_, _ = io.CopyN(io.Discard, s.in, drainLimit) // as in tooLarge
		case err != nil:
			l.failed = unread(err).(*Problem).Status
		case next.TooLong:
			l.failed = http.StatusRequestEntityTooLarge
		}
		if !s.queue(l) || err != nil {
			return
		}
	}
}

// bounded reads what is left of a body that may be so long, and then fails.
type bounded struct {
	in   io.Reader
	left int64
}

var errTooMuch = errors.New("api: the body is too long")

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooMuch
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more byte shows that the body is too long
	}
	n, err := b.in.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, errTooMuch
	}
	return n, err
}

// queue gives a line its place in the order, and to a worker. It reports false once
// the results are no longer wanted.
func (s *stream) queue(l *line) bool {
	select {
	case s.order <- l:
	case <-s.ctx.Done():
		return false
	}
	select {
	case s.work <- l:
	case <-s.ctx.Done():
		l.result <- nil // the collector waits for it
		return false
	}
	return true
}

// dispatch is the single route's work, without its request.
func (s *stream) dispatch(l *line) (result []byte) {
	r := lineResult{Line: l.number}
	defer func() {
		if failure := recover(); failure != nil {
			r = lineResult{Line: l.number}
			p := panicked(failure).(*Problem)
			s.failed(l, p)
			r.refused(p)
		}
		result, _ = json.Marshal(r) // a struct of numbers and strings
		result = append(result, '\n')
	}()
	if l.failed != 0 {
		r.refused(newProblem(l.failed))
		return
	}
	if p := s.exchange.standing(); p != nil {
		r.refused(p)
		return
	}
	d, bad := parse[dispatchRequest, handoff.Dispatch](l.data)
	if len(bad) > 0 {
		r.refused(invalid(bad))
		return
	}
	d.Shop = s.exchange.principal.Shop
	ctx, cancel := context.WithTimeout(s.ctx, s.bulk.timeout)
	defer cancel()
	g, created, err := s.bulk.service.DispatchBy(ctx, shopOf(s.exchange.principal), d)
	switch {
	case err != nil:
		p := inputProblem(err)
		if p.cause != nil {
			s.failed(l, p)
		}
		r.refused(p)
	case created:
		r.Status, r.GrantID, r.Warnings = http.StatusCreated, g.ID.String(), warningsOf(s.bulk.service.Policy(), &d)
	default:
		r.Status, r.GrantID, r.Warnings = http.StatusOK, g.ID.String(), warningsOf(s.bulk.service.Policy(), &d)
	}
	return
}

// failed logs what broke on our side.
func (s *stream) failed(l *line, p *Problem) {
	if s.ctx.Err() != nil {
		return // the client has gone, and we stopped the work ourselves
	}
	s.bulk.log.Error("line failed", "request_id", s.exchange.id, "line", l.number, "error", p.cause.Error())
}

func (r *lineResult) refused(p *Problem) { r.Status, r.Code, r.Errors = p.Status, p.Code, p.Errors }

// Read implements io.Reader: results in the order of the lines.
func (s *stream) Read(p []byte) (int, error) {
	s.start.Do(s.run)
	_ = s.in.conn.SetWriteDeadline(time.Now().Add(s.in.write))
	return s.results.Read(p)
}
