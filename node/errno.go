package node

import (
	"errors"
	"syscall"
)

const (
	errAddressInUse = syscall.EADDRINUSE
	errPermission   = syscall.EACCES
)

// isErrno reports whether err comes from that error of the operating system.
func isErrno(err error, number syscall.Errno) bool {
	var got syscall.Errno
	return errors.As(err, &got) && got == number
}
