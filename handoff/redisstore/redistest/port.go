package redistest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports come from below the range that kernels hand to outgoing connections
// (Linux: from 32768, others: from 49152). A server that is stopped keeps its
// number, and a client's own socket cannot sit on it when the server returns.
const (
	firstPort = 20000
	lastPort  = 32767
)

// taken holds every port given to a test of this process: that of a stopped
// server looks free and is not.
var taken = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// freePort reserves a loopback port until the test ends. Another process may
// still grab it before the server binds, so the launcher tries again.
func freePort(tb testing.TB) int {
	tb.Helper()
	taken.Lock()
	defer taken.Unlock()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if taken.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		taken.ports[port] = true
		tb.Cleanup(func() {
			taken.Lock()
			defer taken.Unlock()
			delete(taken.ports, port)
		})
		return port
	}
	tb.Fatal("redistest: no free loopback port")
	return 0
}
