package pebble

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// TestRot changes one bit, or cuts the end off, at random places of the files of a closed log. The next start must
// refuse, or serve everything, or name what it does not serve: nothing may be missing in silence (P28).
func TestRot(t *testing.T) {
	t.Parallel()
	o := Options{MemTableBytes: 256 << 10, packMessages: 30, Logger: silent()}
	for _, clean := range []bool{true, false} {
		disk := vfs.NewCrashableMem()
		o.files = disk
		l := mustOpen(t, "log", o)
		var sure store.MessageID
		var stored []store.MessageID
		for range 40 {
			b := batch(t, l, 5)
			for _, a := range b { // few and large: reading one costs most of the time, under the race detector
				a.Stanza = bytes.Repeat(a.Stanza, 10)
			}
			require.NoError(t, put(t.Context(), l, someTime(), b...))
			for _, a := range b {
				stored = append(stored, a.ID)
			}
		}
		if !clean { // as kill -9 leaves it: then the last messages look like a write that was under way
			disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
			_, known, err := openCheckpoints(disk, "log")
			require.NoError(t, err)
			sure = known[len(known)-1]
			require.Greater(t, sure, stored[100])
		}
		require.NoError(t, l.Close())
		if clean {
			sure = stored[len(stored)-1]
		}
		r := rand.New(rand.NewPCG(3, 4))
		outcomes := map[string]int{}
		for n := range storetest.Scaled(t, 20) {
			copied := vfs.NewMem()
			_, err := vfs.Clone(disk, copied, "log", "log")
			require.NoError(t, err)
			name := rot(t, copied, r, n%5 == 0)
			o.files = copied
			outcome := examine(t, o, stored, sure)
			outcomes[outcome]++
			if outcome == "lost" {
				t.Errorf("clean=%t run %d: messages are missing in silence after damage to %s", clean, n, name)
			}
		}
		t.Logf("clean=%t: %v", clean, outcomes)
	}
}

// rot damages one file and returns its name.
func rot(t *testing.T, disk vfs.FS, r *rand.Rand, cut bool) string {
	names, err := disk.List("log")
	require.NoError(t, err)
	var files []string
	for _, name := range names {
		if info, err := disk.Stat("log/" + name); err == nil && info.Size() > 0 && !strings.HasPrefix(name, "OPTIONS") {
			files = append(files, name)
		}
	}
	name := files[r.IntN(len(files))]
	f, err := disk.Open("log/" + name)
	require.NoError(t, err)
	content, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	at := r.IntN(len(content))
	if cut {
		content = content[:at]
	} else {
		content[at] ^= 1 << r.IntN(8)
	}
	w, err := disk.Create("log/"+name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return name
}

// examine opens a damaged log and says how it took the damage. Messages after sure may be gone.
func examine(t *testing.T, o Options, stored []store.MessageID, sure store.MessageID) string {
	l, err := Open("log", o)
	if err != nil {
		return "refused"
	}
	defer l.Close()
	known := map[store.MessageID]bool{}
	named := false
	note := func(found []store.Message, err error) {
		for _, m := range found {
			known[m.ID] = true
		}
		var d *store.DamagedError
		if errors.As(err, &d) {
			named = true
			return
		}
		named = named || err != nil
	}
	note(l.Since(t.Context(), 0, len(stored)+1))
	found, _, err := l.History(t.Context(), store.HistoryQuery{Owner: 2, Limit: len(stored) + 1})
	note(found, err)
	for _, id := range stored {
		if id <= sure && !known[id] && !named {
			return "lost"
		}
	}
	if named {
		return "named"
	}
	return "all there"
}
