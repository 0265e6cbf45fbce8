package link

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVector is how many pieces one system call takes; the system allows 1,024.
const maxVector = 64

// vector writes several pieces with one system call.
type vector struct {
	iov [maxVector]unix.Iovec
}

// write writes as much of vec as the socket takes, without its first skip bytes. vec[0] is longer than skip.
func (v *vector) write(fd int, vec [][]byte, skip int) (int, error) {
	if len(vec) == 1 {
		return unix.Write(fd, vec[0][skip:])
	}
	k := 0
	for _, b := range vec {
		if k == maxVector {
			break
		}
		b = b[skip:]
		skip = 0
		if len(b) == 0 {
			continue
		}
		v.iov[k].Base = &b[0]
		v.iov[k].SetLen(len(b))
		k++
	}
	n, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&v.iov[0])), uintptr(k))
	clear(v.iov[:k]) // the pool must not keep what was written
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
