package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff/redisstore/redistest"
)

// gate is a client hook that answers every pipeline itself, once opened, and remembers what it saw.
type gate struct {
	open    chan struct{} // one value lets one pipeline through
	mu      sync.Mutex
	batches [][]string
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (g *gate) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		var names []string
		for _, cmd := range cmds {
			names = append(names, fmt.Sprint(cmd.Args()[1]))
		}
		g.mu.Lock()
		g.batches = append(g.batches, names)
		g.mu.Unlock()
		<-g.open
		for _, cmd := range cmds {
			cmd.(*redis.StatusCmd).SetVal("reply " + fmt.Sprint(cmd.Args()[1]))
		}
		return nil
	}
}

func gated(t *testing.T, n int) (*lanes, *gate) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0"}) // never dialed
	t.Cleanup(func() { _ = client.Close() })
	g := &gate{open: make(chan struct{})}
	client.AddHook(g)
	return newLanes(client, n, 0), g
}

func echo(name string) *redis.StatusCmd {
	return redis.NewStatusCmd(context.Background(), "echo", name)
}

// ask calls Do in a goroutine of its own and delivers its error.
func ask(ctx context.Context, l *lanes, cmd redis.Cmder) <-chan error {
	out := make(chan error, 1)
	go func() { out <- l.do(ctx, cmd) }()
	return out
}

func TestCallersShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, g := gated(t, 1)
		defer l.close()
		first := ask(t.Context(), l, echo("first"))
		synctest.Wait() // it is on its own: it waits for no other call
		var cmds []*redis.StatusCmd
		var outs []<-chan error
		for i := range maxCalls + 1 {
			cmd := echo(strconv.Itoa(i))
			cmds, outs = append(cmds, cmd), append(outs, ask(t.Context(), l, cmd))
		}
		synctest.Wait()
		for range 3 {
			g.open <- struct{}{}
		}
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		for i, out := range outs {
			if err := <-out; err != nil || cmds[i].Val() != "reply "+strconv.Itoa(i) {
				t.Errorf("caller %d: %v, %q", i, err, cmds[i].Val())
			}
		}
		if len(g.batches) != 3 || len(g.batches[0]) != 1 || len(g.batches[1]) != maxCalls || len(g.batches[2]) != 1 {
			t.Errorf("batches %v, want 1, %d and 1 calls", g.batches, maxCalls)
		}
	})
}

func TestGoneCallerNeitherWaitsNorStopsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, g := gated(t, 1)
		defer l.close()
		ctx, cancel := context.WithCancel(t.Context())
		sent := ask(ctx, l, echo("sent"))
		synctest.Wait()
		queued, stays := echo("queued"), echo("stays")
		gone, other := ask(ctx, l, queued), ask(t.Context(), l, stays)
		synctest.Wait()

		cancel()
		for _, out := range []<-chan error{sent, gone} { // the gate is still shut
			if err := <-out; !errors.Is(err, context.Canceled) {
				t.Errorf("gone caller: %v", err)
			}
		}
		g.open <- struct{}{}
		g.open <- struct{}{}
		if err := <-other; err != nil || stays.Val() != "reply stays" {
			t.Errorf("neighbour: %v, %q", err, stays.Val())
		}
		if want := "[[sent] [stays]]"; fmt.Sprint(g.batches) != want {
			t.Errorf("sent %v, want %s: who has gone before the batch is not sent", g.batches, want)
		}
	})
}

func TestCloseAnswersTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, g := gated(t, 2)
		var outs []<-chan error
		for i := range 5 {
			outs = append(outs, ask(t.Context(), l, echo(strconv.Itoa(i))))
			synctest.Wait()
		}
		var closed atomic.Int32
		for range 2 {
			go func() { l.close(); closed.Add(1) }()
		}
		synctest.Wait()
		if err := l.do(t.Context(), echo("late")); !errors.Is(err, errClosed) {
			t.Errorf("late caller: %v", err)
		}
		if closed.Load() != 0 {
			t.Error("Close returned before the queue was answered")
		}
		close(g.open)
		for i, out := range outs {
			if err := <-out; err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		}
		synctest.Wait()
		if closed.Load() != 2 {
			t.Error("Close did not return")
		}
	})
}

// counter is a script that must not run twice for one call; KEYS[1] counts the runs of ARGV[1].
var counter = newScript(`return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)`)

func runs(t *testing.T, client redis.UniversalClient, key, id string) int {
	t.Helper()
	n, err := client.HGet(context.Background(), key, id).Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return n
}

// each runs a test on a single Redis and on a cluster of three, shared and plain.
func each(t *testing.T, f func(t *testing.T, o redis.UniversalOptions, lanes int)) {
	single, cluster := redistest.Single(t).Addr(), redistest.Cluster(t).Addrs()
	for _, lanes := range []int{0, 2} {
		t.Run(fmt.Sprintf("single/lanes=%d", lanes), func(t *testing.T) {
			f(t, redis.UniversalOptions{Addrs: []string{single}}, lanes)
		})
		t.Run(fmt.Sprintf("cluster/lanes=%d", lanes), func(t *testing.T) {
			f(t, redis.UniversalOptions{Addrs: cluster, IsClusterMode: true}, lanes)
		})
	}
}

func shared(t *testing.T, o redis.UniversalOptions, n int) (redis.UniversalClient, *lanes) {
	client := redis.NewUniversalClient(&o)
	l := newLanes(client, n, 0)
	t.Cleanup(func() { l.close(); _ = client.Close() })
	return client, l
}

func TestForgottenScriptRunsOnce(t *testing.T) {
	each(t, func(t *testing.T, o redis.UniversalOptions, lanes int) {
		client, l := shared(t, o, lanes)
		const callers, calls = 32, 50
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				key := fmt.Sprintf("forget:%s:%d", t.Name(), i)
				for j := range calls {
					if j == calls/2 && i%4 == 0 {
						if err := client.ScriptFlush(t.Context()).Err(); err != nil {
							t.Error(err)
						}
					}
					call := counter.call(t.Context(), []string{key}, strconv.Itoa(j))
					set := redis.NewStatusCmd(t.Context(), "set", key+":plain", j)
					if err := l.do(t.Context(), set, call); err != nil || set.Err() != nil {
						t.Error(err, set.Err())
					}
					if n, err := call.Int(); n != 1 || err != nil {
						t.Errorf("call %d: %d, %v", j, n, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestErrorReplyStaysWithItsCommand(t *testing.T) {
	each(t, func(t *testing.T, o redis.UniversalOptions, lanes int) {
		client, l := shared(t, o, lanes)
		if err := client.Set(t.Context(), "wrong", "a string", 0).Err(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				bad := redis.NewStringCmd(t.Context(), "lpop", "wrong")
				good := counter.call(t.Context(), []string{fmt.Sprintf("right:%s:%d", t.Name(), i)}, "id")
				cmds := []redis.Cmder{bad, good}
				if i%2 == 0 {
					cmds = []redis.Cmder{good, bad}
				}
				if err := l.do(t.Context(), cmds...); err != nil {
					t.Error(err)
				}
				if !redis.HasErrorPrefix(bad.Err(), "WRONGTYPE") || good.Err() != nil {
					t.Errorf("bad %v, good %v", bad.Err(), good.Err())
				}
			})
		}
		wg.Wait()
	})
}

func TestLostReplyIsNotSentAgain(t *testing.T) {
	each(t, func(t *testing.T, o redis.UniversalOptions, lanes int) {
		direct := redis.NewUniversalClient(&o)
		defer direct.Close()
		for _, c := range []struct {
			name string
			call func(key string) redis.Cmder
			want func(runs int) bool
		}{
			{"script", func(key string) redis.Cmder { return counter.call(t.Context(), []string{key}, "id") }, func(n int) bool { return n == 1 }},
			// The control: without NoRetry the same loss makes go-redis repeat the command.
			{"control", func(key string) redis.Cmder {
				return redis.NewCmd(t.Context(), "evalsha", counter.hash, 1, key, "id")
			}, func(n int) bool { return n > 1 }},
		} {
			if err := direct.ScriptLoad(t.Context(), counter.source).Err(); err != nil {
				t.Fatal(err)
			}
			wire := redistest.NewWire()
			lossyOpts := o
			lossyOpts.Dialer = wire.Dial
			client, l := shared(t, lossyOpts, lanes)
			if err := client.Set(t.Context(), "warm", 1, 0).Err(); err != nil {
				t.Fatal(err)
			}
			wire.LoseReplies(2, redistest.Command("evalsha"))
			key := "lost:" + t.Name() + c.name
			cmd := c.call(key)
			if err := l.do(t.Context(), redis.NewStringCmd(t.Context(), "get", key+"-missing"), cmd); err != nil {
				t.Fatal(err)
			}
			if n := runs(t, direct, key, "id"); !c.want(n) {
				t.Errorf("%s ran %d times (%v)", c.name, n, cmd.Err())
			}
			if c.name == "script" && !errors.Is(cmd.Err(), io.ErrUnexpectedEOF) {
				t.Errorf("the caller was told %v", cmd.Err())
			}
		}
	})
}

func TestLostReplyAfterForgottenScript(t *testing.T) {
	each(t, func(t *testing.T, o redis.UniversalOptions, lanes int) {
		direct := redis.NewUniversalClient(&o)
		defer direct.Close()
		if err := direct.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		wire := redistest.NewWire()
		wire.LoseReplies(1, redistest.Command("eval"))
		o.Dialer = wire.Dial
		_, l := shared(t, o, lanes)
		key := "forgotten:" + t.Name()
		call := counter.call(t.Context(), []string{key}, "id")
		if err := l.do(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		if n := runs(t, direct, key, "id"); n != 1 {
			t.Errorf("ran %d times", n)
		}
		if !errors.Is(call.Err(), io.ErrUnexpectedEOF) {
			t.Errorf("the caller was told %v: a lost reply must not look like a script that did not run", call.Err())
		}
	})
}

func TestClusterSpreadsAndFollowsMoves(t *testing.T) {
	addrs := redistest.Cluster(t).Addrs()
	client, l := shared(t, redis.UniversalOptions{Addrs: addrs, IsClusterMode: true}, 2)
	admin := client.(*redis.ClusterClient)

	var wg sync.WaitGroup
	stop := make(chan struct{})
	var total atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				// One call per partition: all three nodes in one batch.
				var cmds []redis.Cmder
				var calls []*scriptCall
				for p := range 16 {
					call := counter.call(t.Context(), []string{fmt.Sprintf("{%02x}:move", p)}, fmt.Sprintf("%d-%d", i, j))
					calls, cmds = append(calls, call), append(cmds, call)
				}
				if err := l.do(t.Context(), cmds...); err != nil {
					t.Error(err)
				}
				for p, call := range calls {
					if n, err := call.Int(); err != nil || n != 1 {
						t.Errorf("partition %d: %d, %v", p, n, err)
					}
				}
				total.Add(1)
			}
		})
	}
	for p := range 6 { // some partitions change their master while they are written to
		moveSlot(t, admin, addrs, fmt.Sprintf("{%02x}:move", p))
	}
	before := total.Load()
	until(t, func() bool { return total.Load() >= before+16 || t.Failed() })
	close(stop)
	wg.Wait()
	t.Logf("%d batches of 16 partitions", total.Load())
}

// moveSlot migrates key's slot to the next node, as redis-cli --cluster reshard does: ASK meanwhile, MOVED after.
func moveSlot(t *testing.T, admin *redis.ClusterClient, addrs []string, key string) {
	t.Helper()
	ctx := t.Context()
	slot := admin.ClusterKeySlot(ctx, key).Val()
	nodes := map[string]*redis.Client{}
	ids := map[string]string{}
	for _, a := range addrs {
		c := redis.NewClient(&redis.Options{Addr: a})
		defer c.Close()
		nodes[a], ids[a] = c, c.Do(ctx, "cluster", "myid").Val().(string)
	}
	owner, err := admin.MasterForKey(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	from := owner.Options().Addr
	to := addrs[0]
	for i, a := range addrs {
		if a == from {
			to = addrs[(i+1)%len(addrs)]
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(nodes[to].Do(ctx, "cluster", "setslot", slot, "importing", ids[from]).Err())
	must(nodes[from].Do(ctx, "cluster", "setslot", slot, "migrating", ids[to]).Err())
	for {
		keys := nodes[from].ClusterGetKeysInSlot(ctx, int(slot), 100).Val()
		if len(keys) == 0 {
			break
		}
		host, port, _ := net.SplitHostPort(to)
		args := []any{"migrate", host, port, "", 0, 5000, "keys"}
		for _, k := range keys {
			args = append(args, k)
		}
		must(nodes[from].Do(ctx, args...).Err())
	}
	// Moves in quick succession may clash on the configuration epoch; wait until all nodes agree.
	until(t, func() bool {
		must(nodes[to].Do(ctx, "cluster", "setslot", slot, "node", ids[to]).Err())
		must(nodes[from].Do(ctx, "cluster", "setslot", slot, "node", ids[to]).Err())
		for _, node := range nodes {
			for _, shard := range node.ClusterShards(ctx).Val() {
				for _, r := range shard.Slots {
					if r.Start <= slot && slot <= r.End && shard.Nodes[0].ID != ids[to] {
						return false
					}
				}
			}
		}
		return true
	})
}

func until(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server did not get ready")
		}
	}
}
