// Command powerloss is a disk that forgets what was not flushed: a FUSE file, to be used as a block device, whose
// unflushed writes vanish when the process gets SIGUSR1, as they would at a power cut.
//
//	powerloss MOUNTPOINT AFTER SIZE_MIB [SEED]
//
// MOUNTPOINT/disk.img is the disk. At SIGUSR1 every later access fails, and AFTER receives what a machine finds when it
// comes back. With a seed, a random subset of the unflushed blocks survives: disks write in any order.
// The process prints "ready" when the disk can be used and "cut" when AFTER is written. It needs root and /dev/fuse.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
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
	for n, b := range d.pending {
		if survive() {
			d.safe[n] = b
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

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "powerloss:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: powerloss MOUNTPOINT AFTER SIZE_MIB [SEED]")
	}
	size, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return fmt.Errorf("size: %w", err)
	}
	survive := func() bool { return false }
	if len(args) > 3 {
		seed, err := strconv.ParseUint(args[3], 10, 64)
		if err != nil {
			return fmt.Errorf("seed: %w", err)
		}
		random := rand.New(rand.NewPCG(seed, seed))
		survive = func() bool { return random.IntN(2) == 0 }
	}
	d := &disk{size: size << 20, safe: map[int64][]byte{}, pending: map[int64][]byte{}}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM)
	server, err := fs.Mount(args[0], &root{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMount: true, FsName: "powerloss", MaxWrite: 128 << 10,
	}})
	if err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	fmt.Println("ready")
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		if err := d.pull(args[1], survive); err != nil {
			return fmt.Errorf("writing what is left: %w", err)
		}
		fmt.Println("cut")
	}
	return server.Unmount()
}
