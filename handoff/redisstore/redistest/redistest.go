// Package redistest starts real Redis servers for tests and breaks the link to
// them on purpose.
//
// [Single], [Sentinel] and [Cluster] run the redis-server binary (7.0 or later)
// on loopback ports that were free, with their data in temporary directories,
// and stop it when the test ends. A [Wire] is a dialer for go-redis that loses
// replies or requests and counts what passes.
//
// The launchers and their methods report failure through the test they belong
// to, so they are called from its goroutine. The package needs a Unix.
package redistest

import (
	"os"
	"os/exec"
	"testing"
)

// Require returns the path of the redis-server binary. Without one the test is
// skipped, so that a laptop can run the rest, and fails where a silent skip
// would hide that nothing was proven: when CI=true or LATCHKEY_REAL=required.
func Require(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path
	}
	const missing = "redis-server is not in PATH (Debian: apt-get install redis-server)"
	if os.Getenv("CI") == "true" || os.Getenv("LATCHKEY_REAL") == "required" {
		tb.Fatal(missing)
	}
	tb.Skip(missing)
	return ""
}
