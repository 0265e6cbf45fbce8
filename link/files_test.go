package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fewFiles is a server in a process that may open no more than some 40 files. It prints its address; every line it
// reads is a command: "state" tells whether accepting is exhausted, "open" opens a file as the store would.
func fewFiles() {
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
	if err != nil {
		panic(err)
	}
	limit := unix.Rlimit{Cur: uint64(fd) + 40, Max: uint64(fd) + 40}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	l, err := Listen(context.Background(), Config{Address: "127.0.0.1:0", ReserveFiles: 10})
	if err != nil {
		panic(err)
	}
	if os.Getenv("POSTHOUSE_LINK_TEST_NO_RESERVE") != "" {
		l.files.highest = 1 << 30 // as if others had taken the reserve
	}
	go func() { _ = l.Serve(context.Background(), echo) }()
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "state":
			fmt.Println(l.Exhausted())
		case "open":
			f, err := os.Open(os.DevNull)
			fmt.Println(err)
			_ = f.Close()
		}
	}
}

// Reliability row A6: with the file descriptors used up existing connections go on, new ones are refused and not left
// hanging, the store can still open files, and everything recovers.
func TestFileDescriptorsRunOut(t *testing.T) {
	for name, c := range map[string]struct {
		env     string
		reserve bool
	}{
		"into the reserve": {reserve: true},
		"altogether":       {env: "POSTHOUSE_LINK_TEST_NO_RESERVE=1"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), roleVariable+"=few-files", c.env)
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			defer func() {
				_ = in.Close()
				require.NoError(t, cmd.Wait())
			}()
			lines := bufio.NewScanner(out)
			ask := func(what string) string {
				_, err := io.WriteString(in, what+"\n")
				require.NoError(t, err)
				require.True(t, lines.Scan())
				return lines.Text()
			}
			require.True(t, lines.Scan())
			addr := lines.Text()

			var open []net.Conn
			for {
				k, err := tryEcho(addr)
				if err != nil {
					require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "refused, not left hanging: %v", err)
					break
				}
				open = append(open, k)
				require.Less(t, len(open), 45)
			}
			require.Greater(t, len(open), 15)
			require.Equal(t, "true", ask("state"))
			for _, k := range open {
				exchange(t, k, "still here")
			}
			if c.reserve {
				require.Equal(t, "<nil>", ask("open"))
			}
			for _, k := range open {
				require.NoError(t, k.Close())
			}
			require.Eventually(t, func() bool {
				k, err := tryEcho(addr)
				if err == nil {
					_ = k.Close()
				}
				return err == nil
			}, 10*time.Second, 10*time.Millisecond, "recovers")
			require.Equal(t, "false", ask("state"))
		})
	}
}

// tryEcho connects and has one byte echoed.
func tryEcho(addr string) (net.Conn, error) {
	k, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = k.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = k.Write([]byte("x")); err == nil {
		_, err = io.ReadFull(k, make([]byte, 1))
	}
	if err != nil {
		_ = k.Close()
		return nil, err
	}
	return k, nil
}
