package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"latchkey/api/auth"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/notify/mail"
)

// BenchmarkVerify measures verifies per second over HTTP against a real redis-server,
// side by side with what they are compared to, in interleaved rounds of one run:
//
//	ours    POST /v1/parcels/{id}/verify: authenticate, read, decide, commit, answer
//	bare    a fiber handler that parses the same body and answers JSON
//	naive   a fiber handler with one pipelined read and one EVALSHA, through go-redis
//	floor   the same two through go-redis's AutoPipeline, with no rules at all
//
// Run it with: go test ./cmd/latchkey -run '^$' -bench Verify -benchtime 1x
//
// LATCHKEY_BENCH_ROUNDS and LATCHKEY_BENCH_REQUESTS change 5 rounds of 20,000 requests.
func BenchmarkVerify(b *testing.B) {
	rounds, requests := setting("LATCHKEY_BENCH_ROUNDS", 5), setting("LATCHKEY_BENCH_REQUESTS", 20_000)
	server := redistest.Single(b)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	b.Cleanup(func() { _ = client.Close() })
	bench := newBench(b, server.Addr())

	contenders := []contender{
		{"ours", bench.url, func(i int) ([]byte, string, string) { return bench.request(i) }, nil},
		{"bare", serve(b, bareHandler), bench.anyRequest, nil},
		{"naive", serve(b, naiveHandler(client, plainTrips(client))), bench.anyRequest, nil},
		{"floor", serve(b, naiveHandler(client, sharedTrips(b, server.Addr()))), bench.anyRequest, nil},
	}
	for b.Loop() {
		for round := range rounds + 1 { // the first warms everything up
			bench.mint(b, requests)
			for i := range contenders {
				r := contenders[i].run(b, requests)
				if round > 0 {
					contenders[i].rounds = append(contenders[i].rounds, r)
				}
			}
		}
	}
	b.Logf("%d connections, %d rounds of %d requests, medians", connections, rounds, requests)
	b.Logf("%-6s %10s %9s %9s", "", "req/s", "p50 ms", "p99 ms")
	medians := map[string]result{}
	for _, c := range contenders {
		m := median(c.rounds)
		medians[c.name] = m
		b.Logf("%-6s %10.0f %9.2f %9.2f", c.name, m.rate, ms(m.p50), ms(m.p99))
		b.ReportMetric(m.rate, c.name+"/s")
	}
	b.Logf("ours is %.2f x floor, %.2f x naive, %.2f x bare; p99 %.2f x naive's",
		medians["ours"].rate/medians["floor"].rate, medians["ours"].rate/medians["naive"].rate,
		medians["ours"].rate/medians["bare"].rate, ms(medians["ours"].p99)/ms(medians["naive"].p99))
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

const connections = 64

// contender is one server under the same load.
type contender struct {
	name    string
	url     string
	request func(i int) (body []byte, path, token string)
	rounds  []result
}

type result struct {
	rate     float64 // answers a second
	p50, p99 time.Duration
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(rounds []result) result {
	var m result
	rates := make([]float64, 0, len(rounds))
	p50s, p99s := make([]time.Duration, 0, len(rounds)), make([]time.Duration, 0, len(rounds))
	for _, r := range rounds {
		rates, p50s, p99s = append(rates, r.rate), append(p50s, r.p50), append(p99s, r.p99)
	}
	slices.Sort(rates)
	slices.Sort(p50s)
	slices.Sort(p99s)
	m.rate, m.p50, m.p99 = rates[len(rates)/2], p50s[len(p50s)/2], p99s[len(p99s)/2]
	return m
}

// run sends n requests over 64 connections and fails unless each is answered 200.
func (c *contender) run(b *testing.B, n int) result {
	b.Helper()
	host := strings.TrimPrefix(c.url, "http://")
	client := &fasthttp.HostClient{Addr: host, MaxConns: connections, ReadTimeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	took := make([]time.Duration, n)
	var next atomic.Int64
	var failed atomic.Pointer[string]
	var wg sync.WaitGroup
	start := time.Now()
	for range connections {
		wg.Go(func() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.Header.SetMethod(http.MethodPost)
			req.Header.SetContentType("application/json")
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				body, path, token := c.request(i)
				req.SetRequestURI(c.url + path)
				req.Header.Set("Authorization", token)
				req.SetBodyRaw(body)
				began := time.Now()
				err := client.Do(req, resp)
				took[i] = time.Since(began)
				if err == nil && resp.StatusCode() != http.StatusOK {
					err = fmt.Errorf("%d %s", resp.StatusCode(), resp.Body())
				}
				if err != nil {
					failed.Store(new(fmt.Sprintf("%s: request %d: %v", c.name, i, err)))
					return
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if f := failed.Load(); f != nil {
		b.Fatal(*f)
	}
	slices.Sort(took)
	return result{rate: float64(n) / elapsed.Seconds(), p50: took[n/2], p99: took[n*99/100]}
}

// bench is our service with parcels that wait to be verified.
type bench struct {
	url     string
	service *handoff.Service
	store   *redisstore.Store
	sign    signer
	tokens  []string
	minted  int
	bodies  [][]byte
	paths   []string
}

func newBench(tb testing.TB, redisAddr string) *bench {
	tb.Helper()
	ring, err := keyring.New()
	if err != nil {
		tb.Fatal(err)
	}
	m, err := newInstruments()
	if err != nil {
		tb.Fatal(err)
	}
	client, err := redisstore.Dial("redis://" + redisAddr)
	if err != nil {
		tb.Fatal(err)
	}
	redisstore.Observe(client, m.trip)
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: 30 * 24 * time.Hour, Lanes: 2})
	if err != nil {
		tb.Fatal(err)
	}
	issuer, err := auth.NewIssuer(rand.Reader, "bench", "bench", time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	verifier, err := auth.NewVerifier(tb.Context(), auth.Config{JWKS: issuer.JWKS(), Issuer: "bench", Audience: "bench"})
	if err != nil {
		tb.Fatal(err)
	}
	clock := handofftest.NewClock(handofftest.Noon)
	server, err := mail.ParseURL("smtp://127.0.0.1:9") // nobody there: the mail is another benchmark
	if err != nil {
		tb.Fatal(err)
	}
	sender, err := mail.NewSender(mail.Config{Server: server, From: "bench@shop.example", Clock: clock})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := newSystem(parts{
		client: client, store: store, ring: ring, policy: handofftest.Policy(), clock: clock, verifier: verifier, sender: sender,
		log: slog.New(slog.DiscardHandler), retention: 30 * 24 * time.Hour, metrics: m,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() { _ = s.app.Listener(ln) }()
	tb.Cleanup(func() {
		_ = s.app.ShutdownWithContext(context.Background())
		store.Close()
		_ = client.Close()
	})
	bn := &bench{
		url: "http://" + ln.Addr().String(), service: s.service, store: store,
		sign: func(p auth.Principal) (string, error) { return issuer.Sign(p, time.Hour) },
	}
	w := &handofftest.World{Store: store, Clock: clock, Service: s.service}
	for i := range connections {
		id := "cou_" + strconv.Itoa(i)
		w.Cleared(tb, id)
		w.Drives(tb, id, route(i), handofftest.Today)
		bn.tokens = append(bn.tokens, bn.token(tb, auth.Principal{Scopes: []auth.Scope{auth.Courier}, Subject: id, Carrier: handofftest.Carrier}))
	}
	return bn
}

func (bn *bench) token(tb testing.TB, p auth.Principal) string {
	tb.Helper()
	token, err := bn.sign(p)
	if err != nil {
		tb.Fatal(err)
	}
	return "Bearer " + token
}

func route(courier int) string { return "BER-" + strconv.Itoa(courier) }

// mint dispatches n more parcels, one route after the other, and prepares the requests
// that release them.
func (bn *bench) mint(tb testing.TB, n int) {
	tb.Helper()
	bn.bodies, bn.paths = make([][]byte, n), make([]string, n)
	first := bn.minted
	bn.minted += n
	var wg sync.WaitGroup
	for worker := range connections {
		wg.Go(func() {
			for i := worker; i < n; i += connections {
				d := handofftest.Sample(fmt.Sprintf("JJD%012d", first+i))
				d.Route = route(i % connections)
				d.Customer.ID = fmt.Sprintf("cus_%06d", first+i)
				g, _, err := bn.service.Dispatch(context.Background(), d)
				if err != nil {
					tb.Error(err)
					return
				}
				bn.paths[i] = "/v1/parcels/" + d.Parcel + "/verify"
				bn.bodies[i] = fmt.Appendf(nil, `{"code":"%s","location":{"lat":52.5256,"lon":13.3421,"accuracy_m":8},"attempt_id":"a%d"}`,
					g.CurrentCode().Reveal(), first+i)
			}
		})
	}
	wg.Wait()
}

func (bn *bench) request(i int) (body []byte, path, token string) {
	return bn.bodies[i], bn.paths[i], bn.tokens[i%connections]
}

func (bn *bench) anyRequest(i int) (body []byte, path, token string) {
	body, _, token = bn.request(i)
	return body, "/" + strconv.Itoa(i), token
}

func serve(tb testing.TB, handler fiber.Handler) string {
	tb.Helper()
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/:id", handler)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() { _ = app.Listener(ln) }()
	tb.Cleanup(func() { _ = app.Shutdown() })
	return "http://" + ln.Addr().String()
}

type verifyBody struct {
	Code     string `json:"code"`
	Attempt  string `json:"attempt_id"`
	Location struct {
		Lat      float64 `json:"lat"`
		Lon      float64 `json:"lon"`
		Accuracy float64 `json:"accuracy_m"`
	} `json:"location"`
}

var answer = fiber.Map{"status": "released", "receipt": fiber.Map{"grant_id": "0123456789abcdef01234567-1", "parcel_id": "JJD000000000001", "at": "2026-11-24T11:00:00Z"}}

func bareHandler(c *fiber.Ctx) error {
	var body verifyBody
	if err := c.BodyParser(&body); err != nil {
		return err
	}
	return c.JSON(answer)
}

// trips is a pipelined read of a value and a hash, and then a script that compares,
// stores, appends and schedules; all of our sizes.
type trips struct {
	read   func(ctx context.Context, key string) error
	commit func(ctx context.Context, keys []string, args ...any) error
}

const storeScript = `
if redis.call('GETRANGE', KEYS[1], 0, 7) == ARGV[1] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[4])
redis.call('XADD', KEYS[2], '*', 'e', ARGV[5])
return 1
`

func naiveHandler(client *redis.Client, t trips) fiber.Handler {
	value, event := make([]byte, 440), make([]byte, 110)
	_, _ = rand.Read(value)
	_, _ = rand.Read(event)
	client.HSet(context.Background(), "bench:courier", "name", value[:40], "cleared", 1, "suspended", "", "d:2026-11-24/BER-042", 1)
	return func(c *fiber.Ctx) error {
		var body verifyBody
		if err := c.BodyParser(&body); err != nil {
			return err
		}
		ctx, id := context.Background(), c.Params("id")
		if err := t.read(ctx, "bench:"+id); err != nil {
			return err
		}
		if err := t.commit(ctx, []string{"bench:" + id, "bench:log", "bench:due"}, "12345678", value, 2592000000, id, event); err != nil {
			return err
		}
		return c.JSON(answer)
	}
}

func plainTrips(client *redis.Client) trips {
	script := redis.NewScript(storeScript)
	return trips{
		read: func(ctx context.Context, key string) error {
			pipe := client.Pipeline()
			pipe.Get(ctx, key)
			pipe.HGetAll(ctx, "bench:courier")
			_, err := pipe.Exec(ctx)
			return missing(err)
		},
		commit: func(ctx context.Context, keys []string, args ...any) error {
			return script.Run(ctx, client, keys, args...).Err()
		},
	}
}

// sharedTrips is go-redis's own pipelining across callers.
func sharedTrips(tb testing.TB, addr string) trips {
	tb.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	shared, err := client.AsyncAutoPipelineWithOptions(nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	script := redis.NewScript(storeScript)
	if err := script.Load(context.Background(), client).Err(); err != nil {
		tb.Fatal(err)
	}
	wait := func(ctx context.Context, cmds ...redis.Cmder) error {
		futures := make([]redis.AutoFuture, len(cmds))
		for i, cmd := range cmds {
			futures[i] = shared.Submit(ctx, cmd)
		}
		for i, f := range futures {
			f.Wait()
			if err := missing(cmds[i].Err()); err != nil {
				return err
			}
		}
		return nil
	}
	return trips{
		read: func(ctx context.Context, key string) error {
			return wait(ctx, redis.NewStringCmd(ctx, "get", key), redis.NewMapStringStringCmd(ctx, "hgetall", "bench:courier"))
		},
		commit: func(ctx context.Context, keys []string, args ...any) error {
			line := append([]any{"evalsha", script.Hash(), len(keys), keys[0], keys[1], keys[2]}, args...)
			return wait(ctx, redis.NewCmd(ctx, line...))
		},
	}
}

func missing(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
