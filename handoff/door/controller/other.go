//go:build !unix

package controller

import (
	"errors"
	"net"
	"os/exec"
)

func apart(*exec.Cmd) {}

// ListenSocket needs a system whose sockets have owners.
func ListenSocket(string) (net.Listener, error) { return nil, errors.ErrUnsupported }
