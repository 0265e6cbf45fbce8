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
	"time"

	"github.com/stretchr/testify/require"
)

// diskMiB is the size of the disk.
const diskMiB = 192

// disks is the program of the disk, under the key "".
var disks sync.Map

func powerloss(t *testing.T) string {
	t.Helper()
	build, _ := disks.LoadOrStore("", sync.OnceValues(func() (string, error) {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("posthouse-powerloss-%d", os.Getpid()))
		build := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".")
		build.Dir = filepath.Join("..", "powerloss")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building powerloss: %w\n%s", err, out)
		}
		return path, nil
	}))
	path, err := build.(func() (string, error))()
	require.NoError(t, err)
	return path
}

// requirePower fails a test when the power cannot be cut on this machine. The test is not skipped.
func requirePower(t *testing.T) {
	t.Helper()
	const remedy = "pulling the plug needs a disk of its own: run this test as root on Linux with /dev/fuse and loop " +
		"devices. " +
		"In a container: docker run --privileged, or at least --cap-add SYS_ADMIN --device /dev/fuse --device " +
		"/dev/loop-control and /dev/loop0 to /dev/loop7. " +
		"test/setup.sh installs the programs"
	require.Zero(t, os.Geteuid(), remedy)
	for _, device := range []string{"/dev/fuse", "/dev/loop-control"} {
		_, err := os.Stat(device)
		require.NoError(t, err, remedy)
	}
}

// disk is a mounted file system on a disk that loses what was not flushed. It is mounted where only its own processes
// see it, in a mount namespace that vanishes with the last of them: whatever ends this test, no mount is left behind.
type disk struct {
	t           *testing.T
	cmd         *exec.Cmd
	lines       *bufio.Reader
	alive       io.Closer // the disk's standard input
	fuse, mount string
	after       string
}

// newDisk makes a disk, formatted, or with the content of an image that an earlier cut left behind. torn says that at
// the next cut a random part of what was not flushed is written all the same.
func newDisk(t *testing.T, image string, torn bool) *disk {
	t.Helper()
	base := t.TempDir()
	d := &disk{t: t, fuse: filepath.Join(base, "fuse"), mount: filepath.Join(base, "data"),
		after: filepath.Join(base, "after.img")}
	require.NoError(t, os.Mkdir(d.fuse, 0o700))
	require.NoError(t, os.Mkdir(d.mount, 0o700))
	var args []string
	if image != "" {
		args = append(args, "-image", image)
	}
	if torn {
		args = append(args, "-seed", fmt.Sprint(1+rand.Uint32()/2))
	}
	d.cmd = exec.Command(powerloss(t), append(args, d.fuse, d.after, fmt.Sprint(diskMiB))...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	d.cmd.Stderr = os.Stderr
	in, err := d.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := d.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, d.cmd.Start(), "the disk needs root")
	d.alive, d.lines = in, bufio.NewReader(out)
	t.Cleanup(d.remove)
	d.expect("ready\n")
	file := filepath.Join(d.fuse, "disk.img")
	if image == "" {
		d.run(requireTool(t, "mkfs.ext4"), "-q", "-F", "-O", "^metadata_csum", file)
	}
	d.run(requireTool(t, "mount"), "-o", "loop", file, d.mount)
	return d
}

func (d *disk) expect(line string) {
	d.t.Helper()
	got, err := d.lines.ReadString('\n')
	require.NoError(d.t, err, "the disk has ended")
	require.Equal(d.t, line, got)
}

// inside is what a command is run under to see the disk.
func (d *disk) inside() []string {
	return []string{requireTool(d.t, "nsenter"), fmt.Sprintf("--mount=/proc/%d/ns/mnt", d.cmd.Process.Pid), "--"}
}

func (d *disk) run(command ...string) {
	d.t.Helper()
	command = append(d.inside(), command...)
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	require.NoError(d.t, err, "%s: %s", command, out)
}

// cut cuts the power: every access to the disk fails from now on.
func (d *disk) cut() { d.cmd.Process.Signal(syscall.SIGUSR1) }

// remains waits for the image of what the machine finds when it comes back.
func (d *disk) remains() string {
	d.t.Helper()
	d.expect("cut\n")
	return d.after
}

// remove ends the disk. It is enough to do it once. The disk also ends with this process, when its standard input does.
func (d *disk) remove() {
	d.alive.Close()
	d.cmd.Wait()
}

// serverOn makes a server whose data folder is on a disk.
func serverOn(d *disk, durability string) *server {
	s := newServer(d.t, filepath.Join(d.mount, "node"), durability)
	s.inside = d.inside()
	return s
}

// cutRounds cuts the power so many times, each time on what the last cut left, and returns how many messages were
// acknowledged, and what is wrong.
func cutRounds(t *testing.T, rounds, load int, durability string, torn bool) (acked int64, violations []string) {
	t.Helper()
	requirePower(t)
	d := newDisk(t, "", torn)
	s := serverOn(d, durability)
	s.addUsers(t, 2*pairs)
	l := newLoad(s, pairs)
	for round := 1; ; round++ {
		p := l.server.startWell(t)
		found, err := l.verify(t.Context(), 2*round-1, round > rounds)
		require.NoError(t, err, "round %d: %s", round, p.log)
		if len(found) > 0 || round > rounds {
			p.kill()
			p.killed(t)
			return acked, found
		}
		l.round(t.Context(), 2*round, load/2+rand.IntN(load), after(10*time.Millisecond, func() {
			d.cut()
			p.kill() // a machine without power runs nothing
		}))
		p.wait(t)
		acked += l.total.Load()
		image := d.remains()
		d.remove()
		d = newDisk(t, image, torn)
		l.server = serverOn(d, durability)
	}
}

// TestPowerLoss cuts the power twenty times under load. In half of the cuts everything that was not flushed is gone,
// in the other half a random part of it: a disk writes in any order.
func TestPowerLoss(t *testing.T) {
	for _, torn := range []bool{false, true} {
		t.Run(fmt.Sprintf("torn=%v", torn), func(t *testing.T) {
			rounds := scaled(t, 10)
			acked, violations := cutRounds(t, rounds, 800, "full", torn)
			require.Empty(t, violations)
			require.Greater(t, acked, int64(rounds*100), "the load was too light to mean anything")
			t.Logf("%d cuts, %d messages acknowledged, none lost", rounds, acked)
		})
	}
}

// TestCheckFindsMissingFlush: the checks find the losses of a node that does not flush before it acknowledges.
func TestCheckFindsMissingFlush(t *testing.T) {
	acked, violations := cutRounds(t, 5, 800, "relaxed", false)
	require.NotEmpty(t, violations, "five power cuts without flushing, and no loss was found")
	t.Logf("%d messages acknowledged; found: %q", acked, violations)
}
