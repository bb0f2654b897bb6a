package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/redisstore"
	"latchkey/handoff/redisstore/redistest"
)

// with is a command line with one flag's value changed.
func with(args []string, name, value string) []string {
	args = slices.Clone(args)
	args[index(args, name)+1] = value
	return args
}

// Users as a managed Redis gives them: one that may not read the configuration, and one that
// may not ask for anything.
const (
	noConfig = "user tenant on >pw ~* &* +@all -config"
	noInfo   = "user tenant on >pw ~* &* +@all -config -info"
)

// A Redis that loses or cannot keep what it is given is no reason to start, and the error says
// what to do, or by what name it is allowed.
func TestServeRefusesAnUnfitRedis(t *testing.T) {
	s := newService(t, "appendonly yes", "appendfsync always", noConfig, noInfo[:len("user ")]+"silent"+noInfo[len("user tenant"):])
	_, port, _ := strings.Cut(s.redis.Addr(), ":")
	replica := redistest.Single(t, "replicaof 127.0.0.1 "+port)
	slotless := redistest.Single(t, "cluster-enabled yes", "cluster-port 0")
	lru := redistest.Single(t, "maxmemory-policy allkeys-lru")
	full := redistest.Single(t, "maxmemory 1")
	for name, c := range map[string]struct {
		args    []string
		want    []string
		allowed string // the name by which it is; empty: by none
	}{
		"one that evicts":          {with(s.args, "--redis-url", "redis://"+lru.Addr()), []string{"allkeys-lru", "noeviction", "--insecure=redis-evicts"}, "redis-evicts"},
		"one that does not say":    {with(s.args, "--redis-url", "redis://silent:pw@"+s.redis.Addr()), []string{"not known", "permit INFO", "--insecure=redis-unknown"}, "redis-unknown"},
		"a replica":                {with(s.args, "--redis-url", "redis://"+replica.Addr()), []string{"read-only replica", "?master_name="}, ""},
		"a node of a cluster":      {with(s.args, "--redis-url", "redis://"+slotless.Addr()), []string{"node of a Cluster", "?addr="}, ""},
		"a cluster without slots":  {with(s.args, "--redis-url", "redis://"+slotless.Addr()+"?addr="+slotless.Addr()), []string{"0 of 16384 slots"}, ""},
		"a full one":               {with(s.args, "--redis-url", "redis://"+full.Addr()), []string{"maxmemory is reached"}, ""},
		"a promise nobody can see": {append(with(s.args, "--redis-url", "redis://tenant:pw@"+s.redis.Addr()), "--durability", "everysec"), []string{"durability everysec is demanded", "not known"}, ""},
		"a password twice":         {append(with(s.args, "--redis-url", "redis://tenant:pw@"+s.redis.Addr()), "--redis-password-file", secretFile(t, "pw")), []string{"leave one out"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := once(c.args...)
			for _, want := range c.want {
				if code != 1 || !strings.Contains(errs, want) {
					t.Errorf("%d %s, want %q", code, errs, want)
				}
			}
			for _, other := range insecurities {
				if other == c.allowed {
					continue
				}
				if code, _, errs := once(append(c.args, "--insecure", other)...); code != 1 || strings.Contains(errs, "serving") {
					t.Errorf("allowed by %s: %s", other, errs)
				}
			}
			if c.allowed == "" {
				return
			}
			// Each is another Redis, and not one that lost what the one before acknowledged.
			p := start(t, append(c.args, "--insecure", c.allowed, "--epoch", filepath.Join(t.TempDir(), "epoch"))...)
			if status, _ := (client{t, p.url(t)}).do("GET", "/readyz", "", ""); status != http.StatusOK {
				t.Errorf("allowed by %s, it is not ready: %d", c.allowed, status)
			}
			if log := p.err.String(); !strings.Contains(log, `"insecure":"`+c.allowed+`"`) || !strings.Contains(log, "Redis is not fit to keep grants") {
				t.Errorf("the log does not say what is allowed: %s", log)
			}
		})
	}
}

// secretFile is a file with a secret that nobody else may read.
func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Where CONFIG is not permitted the promise is not known, and the log says so.
func TestServeDoesNotGuessDurability(t *testing.T) {
	s := newService(t, "appendonly yes", "appendfsync always", noConfig)
	p := start(t, with(s.args, "--redis-url", "redis://tenant:pw@"+s.redis.Addr())...)
	p.url(t)
	if log := p.err.String(); !strings.Contains(log, `"durability":"not known"`) || !strings.Contains(log, "does not permit CONFIG GET") || strings.Contains(log, "appendonly is off") {
		t.Errorf("the log says %s", log)
	}
}

// The policy is changed while it serves: an error in the log, a metric, and no readiness; all
// of it is over when the policy is right again.
func TestServeNoticesEviction(t *testing.T) {
	s := newService(t)
	p := start(t, s.args...)
	c := client{t, p.url(t)}
	admin := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer admin.Close()
	set := func(policy string) {
		t.Helper()
		if err := admin.ConfigSet(t.Context(), "maxmemory-policy", policy).Err(); err != nil {
			t.Fatal(err)
		}
	}
	ready := func() int { status, _ := c.do("GET", "/readyz", "", ""); return status }
	if ready() != http.StatusOK || !strings.Contains(got(t, c.url+"/metrics"), `latchkey_redis_fault{fault="evicts"} 0`) {
		t.Fatal("it is not well to begin with")
	}
	set("volatile-lru")
	await(t, "an alarm", func() bool { return ready() == http.StatusServiceUnavailable })
	metrics := got(t, c.url+"/metrics")
	for _, want := range []string{`latchkey_redis_fault{fault="evicts"} 1`, `latchkey_redis_fault{fault="write"} 0`, "latchkey_redis_evicted_keys 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if log := p.err.String(); strings.Count(log, "Redis is not fit to keep grants") != 1 || !strings.Contains(log, `"level":"ERROR","msg":"Redis is not fit`) || !strings.Contains(log, "volatile-lru") {
		t.Errorf("the log: %s", log)
	}
	set("noeviction")
	await(t, "the end of it", func() bool { return ready() == http.StatusOK })
	if !strings.Contains(p.err.String(), "Redis is well again") {
		t.Error("the end is not told")
	}
}

func got(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// What is lost is told once each time that more is, and not at every look.
func TestWatchmanTellsWhatIsNew(t *testing.T) {
	m, err := newInstruments()
	if err != nil {
		t.Fatal(err)
	}
	var log output
	w := &watchman{Watch: redisstore.NewWatch(nil, nil), metrics: m, log: slog.New(slog.NewJSONHandler(&log, nil))}
	evicted := func(n int64) redisstore.Condition {
		return redisstore.Condition{Evicted: n, Faults: []redisstore.Fault{{Kind: redisstore.FaultEvicts, Says: "keys are gone"}}}
	}
	for _, c := range []struct {
		found redisstore.Condition
		told  int
	}{
		{redisstore.Condition{}, 0},
		{evicted(5), 1},
		{evicted(5), 1},
		{evicted(6), 2},
		{redisstore.Condition{}, 3},
		{redisstore.Condition{}, 3},
	} {
		w.tell(c.found)
		if told := strings.Count(log.String(), "\n"); told != c.told {
			t.Errorf("after %d lost keys %d lines were told, want %d:\n%s", c.found.Evicted, told, c.told, log.String())
		}
	}
}

// A master in the place of another is counted and told; a Cluster that grows or shrinks, and a
// look at which none says who it is, are nothing.
func TestWatchmanCountsSwitches(t *testing.T) {
	m, err := newInstruments()
	if err != nil {
		t.Fatal(err)
	}
	var log output
	w := &watchman{Watch: redisstore.NewWatch(nil, nil), metrics: m, log: slog.New(slog.NewJSONHandler(&log, nil))}
	told, counted := 0, 0.0
	for _, c := range []struct {
		masters string
		more    int
	}{{"a b c", 0}, {"c b a", 0}, {"a b d", 1}, {"", 0}, {"a b d", 0}, {"a b d e", 0}, {"a b d", 0}, {"x y d e", 2}} {
		w.tell(redisstore.Condition{Processes: strings.Fields(c.masters)})
		counted += float64(c.more)
		if c.more > 0 {
			told++
		}
		if n := strings.Count(log.String(), "another Redis is master"); n != told {
			t.Errorf("after %q: told %d times, want %d", c.masters, n, told)
		}
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "latchkey_redis_master_switches_total" && f.GetMetric()[0].GetCounter().GetValue() != counted {
			t.Errorf("%v are counted, want %v", f.GetMetric()[0].GetCounter().GetValue(), counted)
		}
	}
}

// A real one: the server is started again while the service runs, and then it is full.
func TestServeTellsOfRedisByName(t *testing.T) {
	s := newService(t, "appendonly yes")
	p := start(t, s.args...)
	c := client{t, p.url(t)}
	s.redis.Restart()
	await(t, "a switch", func() bool {
		return strings.Contains(got(t, c.url+"/metrics"), "latchkey_redis_master_switches_total 1")
	})
	await(t, "readiness", func() bool { status, _ := c.do("GET", "/readyz", "", ""); return status == http.StatusOK })
	admin := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer admin.Close()
	if err := admin.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "an alarm", func() bool {
		return strings.Contains(got(t, c.url+"/metrics"), `latchkey_redis_fault{fault="memory"} 1`)
	})
	if status, answer := c.do("GET", "/readyz", "", ""); status != http.StatusServiceUnavailable || answer["detail"] != "Redis is out of memory" {
		t.Errorf("readyz: %d %v", status, answer)
	}
	if !strings.Contains(p.err.String(), `"fault":"memory","says":"Redis is out of memory`) {
		t.Error("the log does not name it")
	}
}

// Redis by TLS, with an authority and a client certificate of the operator's own and its
// password in a file: the service and the other commands reach it, and strangers do not.
func TestRedisByTLS(t *testing.T) {
	ca := redistest.NewAuthority(t)
	s := newService(t, append(ca.Conf(), "user svc on >s3cret ~* &* +@all")...)
	tls := func(args []string) []string {
		return append(with(args, "--redis-url", "rediss://svc@"+s.redis.TLSAddr()), "--redis-ca", ca.CA, "--redis-cert", ca.ClientCert, "--redis-key", ca.ClientKey,
			"--redis-password-file", secretFile(t, "s3cret"))
	}
	p := start(t, tls(s.args)...)
	if status, _ := (client{t, p.url(t)}).do("GET", "/readyz", "", ""); status != http.StatusOK {
		t.Errorf("readyz: %d", status)
	}
	keyset := s.args[index(s.args, "--keyset")+1]
	for _, command := range [][]string{
		{"apikey", "--redis-url", "", "--keyset", keyset, "list"}, {"outbox", "--redis-url", "", "list"}, {"audit", "list", "--redis-url", ""},
	} {
		if code, _, errs := once(tls(command)...); code != 0 {
			t.Errorf("%v: %d %s", command, code, errs)
		}
	}
	for name, args := range map[string][]string{
		"a stranger's certificate": with(with(tls(s.args), "--redis-cert", ca.StrangeCert), "--redis-key", ca.StrangeKey),
		"a strange authority":      with(tls(s.args), "--redis-ca", ca.StrangeCA),
		"another password":         with(tls(s.args), "--redis-password-file", secretFile(t, "hunter2")),
		"half a pair":              tls(s.args)[:len(tls(s.args))-4],
		"no certificate in a file": with(tls(s.args), "--redis-ca", secretFile(t, "x")),
		"a name that it has not":   append(tls(s.args), "--redis-server-name", "redis.example"),
	} {
		if code, _, errs := once(args...); code != 1 || strings.Contains(errs, "hunter2") {
			t.Errorf("%s: %d %s", name, code, errs)
		}
	}
}

// Serve says why it ends and how long that took, and ends within five seconds when Redis is
// gone, be it dead or silent, whatever is under way.
func TestServeStops(t *testing.T) {
	for name, c := range map[string]struct {
		redis func(*redistest.Server)
		says  []string
	}{
		"as usual":        {func(*redistest.Server) {}, []string{`"msg":"stopping","why":"context canceled"`, `"msg":"stopped","took_ms":`}},
		"Redis is dead":   {(*redistest.Server).Kill, []string{`"msg":"stopping","why":"context canceled"`, "Redis does not answer", `"msg":"stopped","took_ms":`}},
		"Redis is silent": {(*redistest.Server).Pause, []string{`"msg":"stopping","why":"context canceled"`, "Redis does not answer", `"msg":"stopped","took_ms":`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			p := start(t, append(s.args, "--public-url", "http://127.0.0.1:1")...)
			url := p.url(t)
			await(t, "readiness", func() bool {
				status, _ := (client{t, url}).do("GET", "/readyz", "", "")
				return status == http.StatusOK
			})
			c.redis(s.redis)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", url+"/readyz", nil) // under way, and Redis gone
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if resp, err := http.DefaultClient.Do(req); err == nil {
					resp.Body.Close()
				}
			}()
			began := time.Now()
			code := p.stop()
			if took := time.Since(began); code != 0 || took > 5*time.Second {
				t.Errorf("exit code %d after %v", code, took)
			}
			for _, want := range c.says {
				if !strings.Contains(p.err.String(), want) {
					t.Errorf("the log lacks %s", want)
				}
			}
		})
	}
}

// The signal that ended it is named.
func TestServeSaysWhichSignal(t *testing.T) {
	s := newService(t)
	p := spawn(t, nil, s.args...)
	p.said(`"msg":"serving"`)
	p.stop()
	if !strings.Contains(p.err.String(), `"msg":"stopping","why":"terminated signal received"`) {
		t.Errorf("the log: %s", p.err.String())
	}
}
