package redistest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent makes the kernel kill the server when the test binary dies
// without running its cleanups (a panic, go test -timeout). It watches the thread
// that started the server; Go ends a thread only with a goroutine locked to it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// awaitStopped waits until every thread of a child stands still after SIGSTOP,
// which kill(2) does not promise on return. WNOWAIT leaves the child to its
// os/exec.Cmd.
func awaitStopped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
