//go:build chaos

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"latchkey/api/auth"
	"latchkey/handoff/clock"
	"latchkey/handoff/door"
)

// crowd allows as many connections from one address as the scenarios open.
var crowd = []string{"--max-connections-per-address", "8000"}

// onClients are clients that take up room and give nothing back for it.
var onClients = []scenario{
	{name: "many idle connections", args: crowd, redis: serviceAlone(idle)},
	{name: "500 doors hold event streams open", args: crowd, doors: true, redis: serviceAlone(manyStreams)},
	{name: "clients that send and read a byte a second", args: crowd, redis: serviceAlone(slowClients)},
}

// room is what an instance takes up.
type room struct{ descriptors, goroutines, memory float64 }

func (c *checker) room() room {
	c.t.Helper()
	return room{c.measured("process_open_fds"), c.measured("go_goroutines"), c.measured("process_resident_memory_bytes")}
}

const (
	mebibyte = 1 << 20

	// roomEach is the memory that a connection may take, and roomBesides what the load beside it may.
	roomEach    = 64 << 10
	roomBesides = 64 * mebibyte

	// handful is how many connections and goroutines the load takes, now more and now fewer.
	handful = 60
)

// crowded lets n clients in, so many times, and holds the room that they take against its bounds.
// When they have gone, their descriptors are given back, and no time takes more memory than the first.
func (c *checker) crowded(what string, n, times int, enter func() (leave func())) {
	c.t.Helper()
	c.descriptors(n)
	before := c.room()
	var first room
	for wave := range times {
		from := time.Now()
		leave := enter()
		c.goOn()
		during := c.room()
		if opened := during.descriptors - before.descriptors; opened < float64(n)-handful {
			c.t.Errorf("%d %s, and %v descriptors more: they are not there", n, what, opened)
		}
		if grown := during.memory - before.memory; grown > float64(n*roomEach+roomBesides) {
			c.t.Errorf("%d %s take %.0f MiB", n, what, grown/mebibyte)
		}
		if wave == 0 {
			first = during
			half, most, verified := c.verifies(from, time.Now())
			c.saw("%d %s: %.0f descriptors and %.0f MiB more; a verify took %v beside them (p99 %v, %d of them)", n, what,
				during.descriptors-before.descriptors, (during.memory-before.memory)/mebibyte, half, most, verified)
		} else if grown := during.memory - first.memory; grown > roomBesides/2 {
			c.t.Errorf("%d %s take %.0f MiB more than the first time", n, what, grown/mebibyte)
		}
		leave()
		c.givenBack(before)
	}
}

// givenBack waits until descriptors are as few as before; in the long form also goroutines, of which
// the server keeps those without work for up to 20 s.
func (c *checker) givenBack(before room) {
	c.t.Helper()
	var after room
	for patience := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		after = c.room()
		if after.descriptors <= before.descriptors+handful && (!*chaosLong || after.goroutines <= before.goroutines+handful) {
			return
		}
		if time.Now().After(patience) {
			c.t.Errorf("%v descriptors and %v goroutines before, %v and %v when all had gone", before.descriptors, before.goroutines, after.descriptors, after.goroutines)
			return
		}
	}
}

// descriptors makes sure that this process may open so many.
func (c *checker) descriptors(n int) {
	c.t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		c.t.Fatal(err)
	}
	if limit.Cur < uint64(n)+1000 {
		c.t.Fatalf("%d descriptors are too few for %d connections (ulimit -n)", limit.Cur, n)
	}
}

// connect opens a connection to the first instance.
func (c *checker) connect(control func(network, address string, raw syscall.RawConn) error) net.Conn {
	c.t.Helper()
	conn, err := (&net.Dialer{Control: control}).Dial("tcp", strings.TrimPrefix(c.instances[0].at(), "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	return conn
}

// idle opens connections of which every other asked something once, and leaves them.
func idle(c *checker) {
	n := many(1_000, 5_000)
	c.crowded("idle connections", n, 2, func() func() {
		var open []net.Conn
		for k := range n {
			conn := c.connect(nil)
			open = append(open, conn)
			if k%2 == 1 {
				continue
			}
			if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				c.t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 4096)); err != nil {
				c.t.Fatal(err)
			}
		}
		return func() {
			for _, conn := range open {
				_ = conn.Close()
			}
		}
	})
}

// manyStreams has doors dial in, each of which is greeted. That one has gone is noticed by the second
// heartbeat that it cannot take, after some 20 s.
func manyStreams(c *checker) {
	const n = 500
	manager := c.token(c.t, auth.Principal{Subject: "m", Building: "bld_s", Scopes: []auth.Scope{auth.Building}})
	app := client{c.t, c.instances[0].at()}
	app.must("PUT", "/v1/buildings/bld_s", manager, fmt.Sprintf(`{"name":"S","address":"Turmstr. 5","time_zone":%q,"location":%s,"carriers":["swift"]}`, c.zone, gatePlace))
	requests := make([]string, n)
	for k := range requests {
		key, err := door.NewPrivateKey(rand.Reader)
		if err != nil {
			c.t.Fatal(err)
		}
		id := fmt.Sprintf("stream_%d", k)
		app.must("PUT", "/v1/doors/"+id, manager, fmt.Sprintf(`{"building_id":"bld_s","kind":"gate","mode":"connected","location":%s,"public_key":%q}`, gatePlace, key.Public().String()))
		requests[k] = fmt.Sprintf("GET /v1/doors/%s/permits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n",
			id, c.token(c.t, auth.Principal{Subject: id, Scopes: []auth.Scope{auth.Door}}))
	}
	c.crowded("streams", n, many(1, 2), func() func() {
		var hears sync.WaitGroup
		var greeted atomic.Int64
		var open []net.Conn
		for k, request := range requests {
			conn := c.connect(nil)
			open = append(open, conn)
			if _, err := io.WriteString(conn, request); err != nil {
				c.t.Fatal(err)
			}
			hears.Go(func() {
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if lines.Text() == fmt.Sprintf(": door stream_%d", k) {
						greeted.Add(1)
					}
				}
			})
		}
		await(c.t, "all doors to be greeted", func() bool { return greeted.Load() == n })
		return func() {
			for _, conn := range open {
				if !*chaosLong { // a reset is noticed by the first heartbeat
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				_ = conn.Close()
			}
			hears.Wait()
		}
	})
}

// slowClients send a verify a byte a second, or take answers so. The server lets go of each, by its
// limits of 15 s for a request and for an answer, and while the clients still hold on.
func slowClients(c *checker) {
	n := many(100, 500)
	c.descriptors(2 * n)
	before := c.room()
	began := time.Now()
	over, end := context.WithCancel(c.t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer end()
	const head = "POST /v1/parcels/SLOW/verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
	// More than fits into all that lies between the two, so that the server has to wait.
	wants := strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", 200)
	for range n {
		sender := c.connect(nil)
		clients.Go(func() {
			defer sender.Close()
			for k := 0; clock.Sleep(over, time.Second) == nil; k++ {
				_, _ = sender.Write([]byte{head[k%len(head)]})
			}
		})
		reader := c.connect(func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }), err)
		})
		clients.Go(func() {
			defer reader.Close()
			_, _ = io.WriteString(reader, wants)
			for clock.Sleep(over, time.Second) == nil {
				_, _ = reader.Read(make([]byte, 1))
			}
		})
	}
	c.goOn()
	during := c.room()
	if opened := during.descriptors - before.descriptors; opened < float64(2*n)-handful {
		c.t.Errorf("%d slow clients, and %v descriptors more: they are not there", 2*n, opened)
	}
	if grown := during.memory - before.memory; grown > float64(2*n*roomEach+roomBesides) {
		c.t.Errorf("%d slow clients take %.0f MiB", 2*n, grown/mebibyte)
	}
	c.givenBack(before)
	half, most, verified := c.verifies(began, time.Now())
	c.saw("%d slow clients, all cut off after %.1f s: %.0f MiB more; a verify took %v beside them (p99 %v, %d of them)", 2*n, time.Since(began).Seconds(),
		(during.memory-before.memory)/mebibyte, half, most, verified)
}
