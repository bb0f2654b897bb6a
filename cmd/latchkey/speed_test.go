package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	"syscall"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/cmd/latchkey/sample"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/handoff/service"
	"latchkey/notify/mail"
)

// BenchmarkVerify measures verifies per second over HTTP against a real redis-server,
// side by side with what they are compared to, in interleaved rounds of one run:
//
//	ours    POST /v1/parcels/{id}/verify: authenticate, read, decide, commit, answer
//	bare    a fiber handler that parses the same body and answers JSON
//	naive   a fiber handler with one pipelined read (the grant, the courier) and one
//	        EVALSHA of our own script, on values of our sizes, through go-redis
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
		{"naive", serve(b, naiveHandler(client, "naive", plainTrips(client))), bench.anyRequest, nil},
		{"floor", serve(b, naiveHandler(client, "floor", sharedTrips(b, server.Addr()))), bench.anyRequest, nil},
	}
	medians := compete(b, client, contenders, rounds, requests, func() {
		bench.mint(b, requests)
		seed(b, client, "naive", requests)
		seed(b, client, "floor", requests)
	})
	b.Logf("ours is %.2f x floor, %.2f x naive, %.2f x bare; p99 %.2f x naive's",
		medians["ours"].rate/medians["floor"].rate, medians["ours"].rate/medians["naive"].rate,
		medians["ours"].rate/medians["bare"].rate, ms(medians["ours"].p99)/ms(medians["naive"].p99))
}

// BenchmarkUnlock measures unlocks per second over HTTP against a real redis-server beside
// verifies, in interleaved rounds of one run. An unlock is POST /v1/doors/{id}/unlock at a
// connected lobby: authenticate, read (grant, courier, door, building), decide, commit,
// sign the permit, answer. Each is the first of its parcel.
//
// Run it with: go test ./cmd/latchkey -run '^$' -bench Unlock -benchtime 1x
//
// LATCHKEY_BENCH_ROUNDS and LATCHKEY_BENCH_REQUESTS are as for BenchmarkVerify.
func BenchmarkUnlock(b *testing.B) {
	rounds, requests := setting("LATCHKEY_BENCH_ROUNDS", 5), setting("LATCHKEY_BENCH_REQUESTS", 20_000)
	server := redistest.Single(b)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	b.Cleanup(func() { _ = client.Close() })
	bench := newBench(b, server.Addr())
	bench.enrol(b)
	var unlocks [][]byte
	medians := compete(b, client, []contender{
		{"verify", bench.url, bench.request, nil},
		{"unlock", bench.url, func(i int) ([]byte, string, string) {
			return unlocks[i], "/v1/doors/lobby/unlock", bench.tokens[i%connections]
		}, nil},
	}, rounds, requests, func() {
		bench.mint(b, requests)
		unlocks = bench.unlocks()
		bench.mint(b, requests) // other parcels to verify: a grant that was knocked for is larger
	})
	b.Logf("unlock is %.2f x verify; p99 %.2f x verify's", medians["unlock"].rate/medians["verify"].rate, ms(medians["unlock"].p99)/ms(medians["verify"].p99))
}

// BenchmarkReplicated measures what --durability replicated:1 costs a verify: the same service on
// the same master, which has one replica, in interleaved rounds of one run.
//
// Run it with: go test ./cmd/latchkey -run '^$' -bench Replicated -benchtime 1x
//
// LATCHKEY_BENCH_ROUNDS and LATCHKEY_BENCH_REQUESTS are as for BenchmarkVerify.
func BenchmarkReplicated(b *testing.B) {
	rounds, requests := setting("LATCHKEY_BENCH_ROUNDS", 5), setting("LATCHKEY_BENCH_REQUESTS", 20_000)
	master := redistest.Sentinel(b).Master()
	client := redis.NewClient(&redis.Options{Addr: master.Addr()})
	b.Cleanup(func() { _ = client.Close() })
	one, both := newBench(b, master.Addr()), newReplicatedBench(b, master.Addr(), 1)
	medians := compete(b, client, []contender{{"master", one.url, one.request, nil}, {"replicated:1", both.url, both.request, nil}}, rounds, requests, func() {
		one.mint(b, requests)
		both.mint(b, requests)
	})
	b.Logf("replicated:1 is %.2f x as fast; p99 %.2f x as long", medians["replicated:1"].rate/medians["master"].rate, ms(medians["replicated:1"].p99)/ms(medians["master"].p99))
}

// compete loads the contenders in turn, round after round, and reports their medians.
func compete(b *testing.B, client *redis.Client, contenders []contender, rounds, requests int, prepare func()) map[string]result {
	b.Helper()
	for b.Loop() {
		for round := range rounds + 1 { // the first warms everything up
			prepare()
			for i := range contenders {
				ourCPU, redisCPU := processCPU(b), serverCPU(b, client)
				r := contenders[i].run(b, requests)
				r.ours, r.redis = (processCPU(b)-ourCPU)/time.Duration(requests), (serverCPU(b, client)-redisCPU)/time.Duration(requests)
				if round > 0 {
					contenders[i].rounds = append(contenders[i].rounds, r)
				}
			}
		}
	}
	b.Logf("%d connections, %d rounds of %d requests, medians", connections, rounds, requests)
	b.Logf("%-12s %10s %9s %9s %14s %14s", "", "req/s", "p50 ms", "p99 ms", "CPU us, Go", "CPU us, Redis")
	medians := map[string]result{}
	for _, c := range contenders {
		m := median(c.rounds)
		medians[c.name] = m
		b.Logf("%-12s %10.0f %9.2f %9.2f %14d %14d", c.name, m.rate, ms(m.p50), ms(m.p99), m.ours.Microseconds(), m.redis.Microseconds())
		b.ReportMetric(m.rate, c.name+"/s")
	}
	return medians
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

	ours, redis time.Duration // CPU of one request: of this process, load and all, and of Redis
}

func processCPU(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func serverCPU(tb testing.TB, client *redis.Client) time.Duration {
	tb.Helper()
	info, err := client.InfoMap(context.Background(), "cpu").Result()
	if err != nil {
		tb.Fatal(err)
	}
	var total float64
	for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info["CPU"][field], 64)
		if err != nil {
			tb.Fatal(err)
		}
		total += seconds
	}
	return time.Duration(total * float64(time.Second))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(rounds []result) result {
	var m result
	middle := func(of func(result) float64) float64 {
		values := make([]float64, len(rounds))
		for i, r := range rounds {
			values[i] = of(r)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	m.rate = middle(func(r result) float64 { return r.rate })
	m.p50 = time.Duration(middle(func(r result) float64 { return float64(r.p50) }))
	m.p99 = time.Duration(middle(func(r result) float64 { return float64(r.p99) }))
	m.ours = time.Duration(middle(func(r result) float64 { return float64(r.ours) }))
	m.redis = time.Duration(middle(func(r result) float64 { return float64(r.redis) }))
	return m
}

// run sends n requests over 64 connections and fails unless each is answered 200.
func (c *contender) run(b *testing.B, n int) result { return c.over(b, connections, n) }

// over is run over as many connections.
func (c *contender) over(b *testing.B, connections, n int) result {
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
	service *service.Service
	store   *redisstore.Store
	sign    signer
	tokens  []string
	minted  int
	parcels []string
	bodies  [][]byte
	paths   []string
}

func newBench(tb testing.TB, redisAddr string) *bench { return newReplicatedBench(tb, redisAddr, 0) }

// newReplicatedBench is newBench of a service that acknowledges what so many replicas have.
func newReplicatedBench(tb testing.TB, redisAddr string, replicas int) *bench {
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
	store, err := redisstore.New(redisstore.Config{Client: client, Sealer: ring, Retention: 30 * 24 * time.Hour, Lanes: setting("LATCHKEY_BENCH_LANES", 2), Replicas: replicas})
	if err != nil {
		tb.Fatal(err)
	}
	issuer, err := authtest.NewIssuer(rand.Reader, "bench", "bench", time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	verifier, err := auth.NewIssuers(tb.Context(), auth.Config{}, issuer.Trust())
	if err != nil {
		tb.Fatal(err)
	}
	permits, err := door.NewSigner(rand.Reader)
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
		log: slog.New(slog.DiscardHandler), retention: 30 * 24 * time.Hour, metrics: m, signer: permits,
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
	w := &handofftest.World{Core: store, Store: store, Clock: clock, Service: s.service}
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
	bn.parcels, bn.bodies, bn.paths = make([]string, n), make([][]byte, n), make([]string, n)
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
				bn.parcels[i] = d.Parcel
				bn.paths[i] = "/v1/parcels/" + d.Parcel + "/verify"
				bn.bodies[i] = fmt.Appendf(nil, `{"code":"%s","location":{"lat":52.5256,"lon":13.3421,"accuracy_m":8},"attempt_id":"a%d"}`,
					g.CurrentCode().Reveal(), first+i)
			}
		})
	}
	wg.Wait()
}

// enrol registers the building that the parcels go to, and its lobby.
func (bn *bench) enrol(tb testing.TB) {
	tb.Helper()
	to, place := handofftest.Sample("").To, handofftest.Home
	house := handoff.Building{ID: to.Building, Zone: to.Zone, Carriers: []string{handofftest.Carrier}, Hours: &handoff.Hours{From: 7 * 60, To: 21 * 60}}
	lobby := handoff.Door{ID: "lobby", Kind: handoff.Lobby, Mode: handoff.Connected, Location: &place, BuildingID: house.ID}
	if err := errors.Join(bn.store.PutBuilding(tb.Context(), house), bn.store.PutDoor(tb.Context(), lobby)); err != nil {
		tb.Fatal(err)
	}
}

// unlocks are requests for a permit, one for each of the parcels minted last.
func (bn *bench) unlocks() [][]byte {
	unlocks := make([][]byte, len(bn.parcels))
	for i, parcel := range bn.parcels {
		unlocks[i] = fmt.Appendf(nil, `{"parcel_id":"%s","location":{"lat":52.5256,"lon":13.3421,"accuracy_m":8},"attempt_id":"u%d"}`, parcel, i)
	}
	return unlocks
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

// trips is a pipelined read of a grant and a courier, and then the script that compares
// the version, stores, takes off the schedule and appends an event.
type trips struct {
	read   func(ctx context.Context, key string) error
	commit func(ctx context.Context, keys []string, args ...any) error
}

// storeScript does what our commit does to Redis when a parcel is released.
const storeScript = `
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[5])
redis.call('XADD', KEYS[2], '*', 'e', ARGV[6])
return 1
`

const (
	grantSize = 366 // bytes of a stored grant before it is released, and after
	laterSize = 440
	eventSize = 80
	kept      = 30 * 24 * 3600 * 1000 // milliseconds
)

// benchKeys are the keys of one contender's grant, named and spread as ours are.
type benchKeys struct{ member, grant, log, due string }

func keysOf(who string, i int) benchKeys {
	sum := sha256.Sum256([]byte(who + strconv.Itoa(i)))
	member := hex.EncodeToString(sum[:12])
	partition := "lk:{0" + member[:1] + "}:" + who + ":"
	return benchKeys{member: member, grant: partition + "grant:" + member, log: partition + "log", due: partition + "due"}
}

// seed makes n grants and their schedule, as ours stand in Redis before the load.
func seed(tb testing.TB, client *redis.Client, who string, n int) {
	tb.Helper()
	ctx, value := context.Background(), make([]byte, grantSize)
	_, _ = rand.Read(value)
	copy(value, "version1")
	pipe := client.Pipeline()
	for i := range n {
		k := keysOf(who, i)
		pipe.Set(ctx, k.grant, value, kept*time.Millisecond)
		pipe.ZAdd(ctx, k.due, redis.Z{Score: 1795561200, Member: k.member})
	}
	pipe.HSet(ctx, "bench:courier", "name", value[:40], "cleared", 1953284400, "suspended", "", "d:2026-11-24/BER-042", 1)
	if _, err := pipe.Exec(ctx); err != nil {
		tb.Fatal(err)
	}
}

func naiveHandler(client *redis.Client, who string, t trips) fiber.Handler {
	value, event := make([]byte, laterSize), make([]byte, eventSize)
	_, _ = rand.Read(value)
	_, _ = rand.Read(event)
	return func(c *fiber.Ctx) error {
		var body verifyBody
		if err := c.BodyParser(&body); err != nil {
			return err
		}
		i, err := c.ParamsInt("id")
		if err != nil {
			return err
		}
		ctx, k := context.Background(), keysOf(who, i)
		if err := t.read(ctx, k.grant); err != nil {
			return err
		}
		if err := t.commit(ctx, []string{k.grant, k.log, k.due}, "version1", value, kept, "", k.member, event); err != nil {
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

// BenchmarkDispatch measures dispatches per second: one request a parcel from one
// client after the other and from 64 at once, and one bulk request.
//
// Run it with: go test ./cmd/latchkey -run '^$' -bench Dispatch -benchtime 1x
func BenchmarkDispatch(b *testing.B) {
	rounds := setting("LATCHKEY_BENCH_ROUNDS", 5)
	server := redistest.Single(b)
	bench := newBench(b, server.Addr())
	token := bench.token(b, auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "w", Shop: handofftest.Shop})
	parcels := 0
	lines := func(n int) [][]byte {
		all := sampleLines(b, parcels, n)
		parcels += n
		return all
	}
	bulk := func(lines [][]byte) error {
		s, err := sendDispatches(b.Context(), bench.url, strings.TrimPrefix(token, "Bearer "), bytes.NewReader(bytes.Join(lines, nil)), func() {})
		if err == nil && s.made != len(lines) {
			err = fmt.Errorf("%d of %d", s.made, len(lines))
		}
		return err
	}
	ways := []struct {
		name string
		n    int
		send func(lines [][]byte) error
	}{
		{"one client", 2000, func(l [][]byte) error { return dispatchSingly(bench.url, token, 1, l) }},
		{"64 clients", 10_000, func(l [][]byte) error { return dispatchSingly(bench.url, token, connections, l) }},
		{"one bulk request", 20_000, bulk},
	}
	rates := map[string][]float64{}
	for b.Loop() {
		for range rounds {
			for _, way := range ways {
				sent := lines(way.n)
				start := time.Now()
				if err := way.send(sent); err != nil {
					b.Fatal(way.name, ": ", err)
				}
				rates[way.name] = append(rates[way.name], float64(way.n)/time.Since(start).Seconds())
			}
		}
	}
	for _, r := range rates {
		slices.Sort(r)
	}
	single := rates["one client"][rounds/2]
	for _, way := range ways {
		m := rates[way.name][rounds/2]
		b.Logf("%-16s %8.0f dispatches/s, %5.1f x one client", way.name, m, m/single)
	}
}

// BenchmarkBesideBulk measures verifies by themselves and beside bulk files that never end, in
// interleaved rounds of one run: from a few couriers, and from as many as the service can bear.
//
// Run it with: go test ./cmd/latchkey -run '^$' -bench BesideBulk -benchtime 1x
func BenchmarkBesideBulk(b *testing.B) {
	const files, linesOfFile = 4, 60_000
	rounds, requests := setting("LATCHKEY_BENCH_ROUNDS", 5), setting("LATCHKEY_BENCH_REQUESTS", 4000)
	server := redistest.Single(b)
	bench := newBench(b, server.Addr())
	token := strings.TrimPrefix(bench.token(b, auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "w", Shop: handofftest.Shop}), "Bearer ")
	file := bytes.Join(sampleLines(b, 0, linesOfFile), nil) // sent again and again under other ids
	var sent atomic.Int64
	for b.Loop() {
		for _, couriers := range []int{4, connections} {
			var quiet, beside []result
			var lines []float64
			for round := range rounds + 1 {
				bench.mint(b, requests)
				verify := contender{"verify", bench.url, bench.request, nil}
				alone := verify.over(b, couriers, requests)

				bench.mint(b, requests)
				loading, stop := context.WithCancel(b.Context())
				var load sync.WaitGroup
				made, began := sent.Load(), time.Now()
				for n := range files {
					load.Go(func() {
						for i := 0; loading.Err() == nil; i++ {
							id := fmt.Sprintf("%02d%02d%03d", round, n, i) + strconv.Itoa(couriers)
							renamed := bytes.ReplaceAll(file, []byte(`"parcel_id":"`), []byte(`"parcel_id":"B`+id))
							s, _ := sendDispatches(loading, bench.url, token, bytes.NewReader(renamed), func() { sent.Add(1) })
							if len(s.refused) > 0 {
								b.Errorf("lines were refused: %v", s.refused)
								return
							}
						}
					})
				}
				for sent.Load() < made+1000 {
					time.Sleep(10 * time.Millisecond)
				}
				loaded := verify.over(b, couriers, requests)
				rate := float64(sent.Load()-made) / time.Since(began).Seconds()
				stop()
				load.Wait()
				if round > 0 { // the first warms everything up
					quiet, beside, lines = append(quiet, alone), append(beside, loaded), append(lines, rate)
				}
			}
			q, l := median(quiet), median(beside)
			slices.Sort(lines)
			b.Logf("%2d couriers: p50 %.2f ms alone, %.2f beside %d files (%.1f x); p99 %.2f and %.2f (%.1f x); %.0f verifies/s and %.0f, beside %.0f lines/s",
				couriers, ms(q.p50), ms(l.p50), files, ms(l.p50)/ms(q.p50), ms(q.p99), ms(l.p99), ms(l.p99)/ms(q.p99), q.rate, l.rate, lines[len(lines)/2])
		}
	}
}

// sampleLines are n dispatches of the sample day's shape, the day over and over under
// new ids, from a number on.
func sampleLines(tb testing.TB, from, n int) [][]byte {
	tb.Helper()
	day := bytes.SplitAfter(bytes.TrimSuffix(sample.Day(), []byte("\n")), []byte("\n"))
	lines := make([][]byte, n)
	for i := range n {
		var d map[string]any
		if err := json.Unmarshal(day[i%len(day)], &d); err != nil {
			tb.Fatal(err)
		}
		number := from + i
		id := d["parcel_id"].(string)
		d["parcel_id"] = fmt.Sprintf("%s%08d", id[:len(id)-8], number)
		customer := d["customer"].(map[string]any)
		customer["id"] = fmt.Sprintf("cus_%d", number)
		customer["email"] = fmt.Sprintf("sample.customer.%d@shop.example", number)
		d["route_id"] = fmt.Sprintf("%s-%d", d["route_id"], number/len(day)/8) // some 150 parcels a route
		line, err := json.Marshal(d)
		if err != nil {
			tb.Fatal(err)
		}
		lines[i] = append(line, '\n')
	}
	return lines
}

func dispatchSingly(url, token string, clients int, lines [][]byte) error {
	client := &fasthttp.HostClient{Addr: strings.TrimPrefix(url, "http://"), MaxConns: clients, ReadTimeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, clients)
	for range clients {
		wg.Go(func() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.Header.SetMethod(http.MethodPost)
			req.Header.SetContentType("application/json")
			req.Header.Set("Authorization", token)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(lines) {
					return
				}
				req.SetRequestURI(url + "/v1/dispatches")
				req.SetBodyRaw(lines[i])
				err := client.Do(req, resp)
				if err == nil && resp.StatusCode() != http.StatusCreated {
					err = fmt.Errorf("%d %s", resp.StatusCode(), resp.Body())
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// BenchmarkMemory measures what a live grant takes of Redis's memory, all in: the sealed
// grant, its log entry, its place in the schedule and in the indexes of its customer and
// its route. 100,000 parcels of the sample day's shape, a customer each.
//
// Run it with: go test ./cmd/latchkey -run '^$' -bench Memory -benchtime 1x
func BenchmarkMemory(b *testing.B) {
	server := redistest.Single(b)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	b.Cleanup(func() { _ = client.Close() })
	bench := newBench(b, server.Addr())
	token := bench.token(b, auth.Principal{Scopes: []auth.Scope{auth.Dispatch}, Subject: "w", Shop: handofftest.Shop})
	used := func() int {
		info, err := client.InfoMap(b.Context(), "memory").Result()
		if err != nil {
			b.Fatal(err)
		}
		n, err := strconv.Atoi(info["Memory"]["used_memory"])
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	const grants = 100_000
	for b.Loop() {
		before := used()
		s, err := sendDispatches(b.Context(), bench.url, strings.TrimPrefix(token, "Bearer "), bytes.NewReader(bytes.Join(sampleLines(b, 0, grants), nil)), func() {})
		if err != nil || s.made != grants {
			b.Fatalf("%d grants, %v", s.made, err)
		}
		b.ReportMetric(float64(used()-before)/grants, "bytes/grant")
	}
}
