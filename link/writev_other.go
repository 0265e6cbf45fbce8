//go:build unix && !linux

package link

import "golang.org/x/sys/unix"

// vector writes piece by piece where the vectored system call is not at hand.
type vector struct{}

// write writes the first piece of vec without its first skip bytes, as far as the socket takes it.
func (v *vector) write(fd int, vec [][]byte, skip int) (int, error) {
	return unix.Write(fd, vec[0][skip:])
}
