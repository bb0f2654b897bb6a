//go:build !linux

package redistest

import "syscall"

// Only Linux kills a child with its parent and waits for a stopped one without
// reaping it; elsewhere a server may outlive a crashed test binary, and Pause
// returns a moment early.

func dieWithParent() *syscall.SysProcAttr { return nil }

func awaitStopped(int) error { return nil }
