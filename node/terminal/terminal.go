// Package terminal asks for secrets at a terminal: input that must not be shown, or passed on the command line.
//
// It starts no goroutine. It changes the terminal's settings only while a secret is typed.
package terminal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaxSecret bounds a line that is read as a secret, in bytes.
const MaxSecret = 4096

// Is reports whether a stream is a terminal.
func Is(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}

// ReadSecret writes the prompt and reads one line without showing it. in must be a terminal.
func ReadSecret(in *os.File, out io.Writer, prompt string) (string, error) {
	fd := int(in.Fd())
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	// Ctrl-C while the echo is off must not leave the terminal mute.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	done := make(chan struct{})
	defer close(done)
	go func() { // ends when this function returns
		select {
		case <-interrupted:
			_ = unix.IoctlSetTermios(fd, setTermios, before)
			fmt.Fprintln(out)
			os.Exit(130)
		case <-done:
		}
	}()
	if err := unix.IoctlSetTermios(fd, setTermios, &silent); err != nil {
		return "", fmt.Errorf("silence the terminal: %w", err)
	}
	defer func() {
		_ = unix.IoctlSetTermios(fd, setTermios, before)
		fmt.Fprintln(out)
	}()
	fmt.Fprint(out, prompt)
	return ReadLine(in)
}

// ReadLine reads one line without its line end, a byte at a time so that what follows is left to others.
// It fails when there is none, or when it is longer than MaxSecret.
func ReadLine(in io.Reader) (string, error) {
	line, err := bufio.NewReaderSize(oneByte{io.LimitReader(in, MaxSecret+2)}, 16).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read a line: %w", err)
	}
	if err != nil && line == "" {
		return "", errors.New("there was nothing to read")
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if len(line) > MaxSecret {
		return "", fmt.Errorf("the line is longer than %d bytes", MaxSecret)
	}
	return line, nil
}

// oneByte reads no further than asked.
type oneByte struct{ io.Reader }

func (r oneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }
