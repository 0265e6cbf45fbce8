package terminal

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo-terminal: what a person has, and what the program has.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { person.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	return person, program
}

// typist types when it is asked, and keeps what it was shown.
type typist struct {
	bytes.Buffer
	t      *testing.T
	person *os.File
	types  string
}

func (w *typist) Write(p []byte) (int, error) {
	if strings.HasSuffix(string(p), ": ") {
		_, err := w.person.WriteString(w.types)
		require.NoError(w.t, err)
	}
	return w.Buffer.Write(p)
}

// TestReadSecret: what is typed is read and not echoed, and the terminal is afterwards as it was.
func TestReadSecret(t *testing.T) {
	person, program := openTerminal(t)
	require.True(t, Is(program))
	before, err := unix.IoctlGetTermios(int(program.Fd()), getTermios)
	require.NoError(t, err)
	require.NotZero(t, before.Lflag&unix.ECHO, "a terminal echoes to begin with, or this test shows nothing")

	out := &typist{t: t, person: person, types: "wherefore art\n"}
	secret, err := ReadSecret(program, out, "Password: ")
	require.NoError(t, err)
	require.Equal(t, "wherefore art", secret)
	require.Equal(t, "Password: \n", out.String())

	after, err := unix.IoctlGetTermios(int(program.Fd()), getTermios)
	require.NoError(t, err)
	require.Equal(t, before, after)

	// What the terminal showed the person is only what comes from now on.
	_, err = program.WriteString("done\n")
	require.NoError(t, err)
	require.NoError(t, person.SetReadDeadline(time.Now().Add(10*time.Second)))
	shown := make([]byte, 200)
	n, err := person.Read(shown)
	require.NoError(t, err)
	require.Equal(t, "done\r\n", string(shown[:n]))
}

func TestNotATerminal(t *testing.T) {
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	require.False(t, Is(file))
	require.False(t, Is(&bytes.Buffer{}))
	_, err = ReadSecret(file, &bytes.Buffer{}, "Password: ")
	require.ErrorContains(t, err, "read from the terminal")
}
