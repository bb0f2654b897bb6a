//go:build unix

package controller

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// apart keeps a program out of our process group, so that an interrupt at the terminal,
// at which this process locks the door, does not end the program that locks it.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// ListenSocket makes a local socket that only this user may speak to. One that a dead
// controller left is replaced. Call it before anything else runs: it sets the process's
// umask for a moment, so that the socket never exists with a wider mode.
func ListenSocket(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s: %w, and it is no socket", path, fs.ErrExist)
		}
		conn, err := net.Dial("unix", path)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%s: %w, and another process may serve it", path, fs.ErrExist)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	before := syscall.Umask(0o177)
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}
