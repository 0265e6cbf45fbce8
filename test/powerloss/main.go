// Command powerloss is a disk that loses what was not flushed: a FUSE file, to be used as a block device, whose
// unflushed writes vanish when the process gets SIGUSR1, as they would at a power cut.
//
//	powerloss [-image FILE] [-seed NUMBER] MOUNTPOINT AFTER SIZE_MIB
//
// MOUNTPOINT/disk.img is the disk, empty or with the content of an image. At SIGUSR1 every later access fails, and
// AFTER receives what a machine finds when it comes back. With a seed, a random subset of the unflushed blocks
// survives: disks write in any order. The process prints "ready" when the disk can be used and "cut" when AFTER is
// written. It ends with SIGTERM and with its standard input, so that it does not outlive whoever holds the other end.
// It needs root and /dev/fuse.
//
// It is two processes, for those who run it in a mount namespace of its own, so that what is mounted there vanishes
// with it. The end of the last process in a namespace unmounts what is mounted in it, and a process that dies stops
// serving a disk only after that: if it were the last, it would wait for itself for ever. So a second process serves
// the disk, and the first ends after it.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const blockSize = 4096

// disk is the file. Blocks that were written since the last flush live apart from those that are safe.
type disk struct {
	fs.Inode
	size int64

	mu      sync.Mutex       // guards the fields below
	safe    map[int64][]byte // flushed blocks; absent ones are zero
	pending map[int64][]byte // written and not flushed
	cut     bool
}

var zeros [blockSize]byte

func (d *disk) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600|syscall.S_IFREG, uint64(d.size)
	return 0
}

func (d *disk) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, f, out)
}

func (d *disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// block returns the current content of a block. mu is held.
func (d *disk) block(n int64) []byte {
	if b, ok := d.pending[n]; ok {
		return b
	}
	if b, ok := d.safe[n]; ok {
		return b
	}
	return zeros[:]
}

func (d *disk) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return nil, syscall.EIO
	}
	n := 0
	for n < len(dest) && off+int64(n) < d.size {
		p := off + int64(n)
		n += copy(dest[n:], d.block(p / blockSize)[p%blockSize:])
	}
	return fuse.ReadResultData(dest[:n]), 0
}

func (d *disk) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return 0, syscall.EIO
	}
	for n := 0; n < len(data); {
		p := off + int64(n)
		b := append([]byte(nil), d.block(p/blockSize)...)
		n += copy(b[p%blockSize:], data[n:])
		d.pending[p/blockSize] = b
	}
	return uint32(len(data)), 0
}

func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return syscall.EIO
	}
	for n, b := range d.pending {
		d.safe[n] = b
	}
	clear(d.pending)
	return 0
}

// pull cuts the power and writes what is left to the file after.
func (d *disk) pull(after string, survive func() bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = true
	for _, n := range slices.Sorted(maps.Keys(d.pending)) { // in order, so that a seed always chooses the same
		if survive() {
			d.safe[n] = d.pending[n]
		}
	}
	f, err := os.OpenFile(after, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for n, b := range d.safe {
		if _, err := f.WriteAt(b, n*blockSize); err != nil {
			return err
		}
	}
	return f.Truncate(d.size)
}

type root struct {
	fs.Inode
	disk *disk
}

func (r *root) OnAdd(ctx context.Context) {
	r.AddChild("disk.img", r.NewPersistentInode(ctx, r.disk, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

// serving is set in the environment of the process that serves the disk.
const serving = "POWERLOSS_SERVING"

func main() {
	do := hold
	if os.Getenv(serving) != "" {
		do = run
	}
	if err := do(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "powerloss:", err)
		os.Exit(1)
	}
}

// hold runs the process that serves the disk, hands signals on to it, and ends after it.
func hold(args []string) error {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), serving+"=yes")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT)
	if err := c.Start(); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			c.Process.Signal(s)
		}
	}()
	return c.Wait()
}

// load fills the disk with an image that an earlier cut left behind.
func (d *disk) load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 256*blockSize)
	for off := int64(0); ; {
		n, err := io.ReadFull(f, chunk)
		for at := 0; at+blockSize <= n; at += blockSize {
			if b := chunk[at : at+blockSize]; [blockSize]byte(b) != zeros {
				d.safe[(off+int64(at))/blockSize] = bytes.Clone(b)
			}
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("powerloss", flag.ContinueOnError)
	image := flags.String("image", "", "what the disk holds at the start")
	seed := flags.Uint64("seed", 0, "let a random subset of the unflushed blocks survive")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if args = flags.Args(); len(args) != 3 {
		return fmt.Errorf("usage: powerloss [-image FILE] [-seed NUMBER] MOUNTPOINT AFTER SIZE_MIB")
	}
	size, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return fmt.Errorf("size: %w", err)
	}
	survive := func() bool { return false }
	if *seed != 0 {
		random := rand.New(rand.NewPCG(*seed, *seed))
		survive = func() bool { return random.IntN(2) == 0 }
	}
	d := &disk{size: size << 20, safe: map[int64][]byte{}, pending: map[int64][]byte{}}
	if *image != "" {
		if err := d.load(*image); err != nil {
			return fmt.Errorf("reading the image: %w", err)
		}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		signals <- syscall.SIGTERM
	}()
	server, err := fs.Mount(args[0], &root{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMount: true, FsName: "powerloss", MaxWrite: 128 << 10,
	}})
	if err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	fmt.Println("ready")
	for s := range signals {
		if s != syscall.SIGUSR1 {
			break
		}
		if err := d.pull(args[1], survive); err != nil {
			return fmt.Errorf("writing what is left: %w", err)
		}
		fmt.Println("cut")
	}
	_ = server.Unmount() // what cannot be unmounted, because it is in use, fails from now on
	return nil
}
