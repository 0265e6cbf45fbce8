package durability

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// diskMiB is the size of the disk whose plug is pulled.
const diskMiB = 192

var powerloss = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("posthouse-powerloss-%d", os.Getpid()))
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = filepath.Join("..", "powerloss")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building powerloss: %w\n%s", err, out)
	}
	return path, nil
})

// disk is a mounted file system on a disk that forgets.
type disk struct {
	t           *testing.T
	cmd         *exec.Cmd
	lines       *bufio.Reader
	fuse, mount string
	after       string
}

// newDisk makes a disk, formatted, or with the content of an image that an earlier cut left behind.
func newDisk(t *testing.T, image string, args ...string) *disk {
	t.Helper()
	tool, err := powerloss()
	require.NoError(t, err)
	base := t.TempDir()
	d := &disk{t: t, fuse: filepath.Join(base, "fuse"), mount: filepath.Join(base, "data"), after: filepath.Join(base, "after.img")}
	require.NoError(t, os.Mkdir(d.fuse, 0o700))
	require.NoError(t, os.Mkdir(d.mount, 0o700))
	d.cmd = exec.Command(tool, append([]string{d.fuse, d.after, fmt.Sprint(diskMiB)}, args...)...)
	d.cmd.Stderr = os.Stderr
	out, err := d.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, d.cmd.Start())
	t.Cleanup(d.remove)
	d.lines = bufio.NewReader(out)
	d.expect("ready\n")
	img := filepath.Join(d.fuse, "disk.img")
	if image == "" {
		d.run("mkfs.ext4", "-q", "-F", "-O", "^metadata_csum", img)
	} else {
		copyFile(t, img, image)
	}
	d.run("mount", "-o", "loop", img, d.mount)
	return d
}

func (d *disk) expect(line string) {
	d.t.Helper()
	got, err := d.lines.ReadString('\n')
	require.NoError(d.t, err, "the power-loss disk needs root, /dev/fuse and loop devices; test/setup.sh installs the rest")
	require.Equal(d.t, line, got)
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(d.t, err, "%s: %s", name, out)
}

// cut pulls the plug. Everything later fails.
func (d *disk) cut() error { return d.cmd.Process.Signal(syscall.SIGUSR1) }

// remains waits for the image of what the machine finds when it comes back.
func (d *disk) remains() string {
	d.t.Helper()
	d.expect("cut\n")
	return d.after
}

func (d *disk) remove() {
	exec.Command("umount", "-l", d.mount).Run()
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.cmd.Process.Kill()
	d.cmd.Wait()
	exec.Command("umount", "-l", d.fuse).Run()
}

// copyFile copies an image onto the disk, without its holes.
func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	require.NoError(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer out.Close()
	buf := make([]byte, 128<<10)
	zero := make([]byte, len(buf))
	for off := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		if n > 0 && string(buf[:n]) != string(zero[:n]) {
			_, werr := out.WriteAt(buf[:n], off)
			require.NoError(t, werr)
		}
		off += int64(n)
		if err != nil {
			break
		}
	}
	require.NoError(t, out.Sync())
}

// cutRounds pulls the plug so many times, each time on what the last cut left, and returns what was lost.
func cutRounds(t *testing.T, rounds int, durability string, torn bool) (acked int64, violations []string) {
	t.Helper()
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		requireTool(t, tool)
	}
	seed := func() (args []string) {
		if torn {
			args = append(args, fmt.Sprint(rand.Uint32()))
		}
		return args
	}
	d := newDisk(t, "", seed()...)
	h := newHouse(t, binary(t, ""), filepath.Join(d.mount, "node"), durability)
	h.addUsers(t, 2*pairs)
	l := newLoad(h, pairs)
	for round := 1; round <= rounds; round++ {
		p := h.start(t)
		l.round(t.Context(), 2*round, 200+rand.IntN(1500), func() {
			require.NoError(t, d.cut())
			p.kill() // a machine without power runs nothing
		})
		p.wait(t)
		acked += l.total.Load()
		image := d.remains()
		d.remove()
		d = newDisk(t, image, seed()...)
		moved := newHouse(t, h.bin, filepath.Join(d.mount, "node"), durability)
		h, l.house = moved, moved
		p = h.start(t)
		found, err := l.verify(t.Context(), 2*round+1)
		require.NoError(t, err, "round %d: %s", round, p.log)
		violations = append(violations, found...)
		p.kill()
		p.wait(t)
		if len(violations) > 0 {
			return acked, violations
		}
	}
	return acked, nil
}

// TestPowerLoss pulls the plug twenty times under load. In half of the cuts everything that was not flushed is gone,
// in the other half a random part of it: a disk writes in any order.
func TestPowerLoss(t *testing.T) {
	for _, torn := range []bool{false, true} {
		t.Run(fmt.Sprintf("torn=%v", torn), func(t *testing.T) {
			acked, violations := cutRounds(t, 10, "full", torn)
			require.Empty(t, violations)
			require.Greater(t, acked, int64(1000), "the load was too light to mean anything")
			t.Logf("10 cuts, %d messages acknowledged, none lost", acked)
		})
	}
}

// TestCheckFindsMissingFlush: a node that does not flush before it acknowledges must be found out.
func TestCheckFindsMissingFlush(t *testing.T) {
	_, violations := cutRounds(t, 5, "relaxed", false)
	require.NotEmpty(t, violations, "five power cuts without flushing, and no loss was found")
	t.Logf("found: %v", violations)
}
