package durability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

const (
	nsSync = "urn:posthouse:sync:1"
	nsMAM  = "urn:xmpp:mam:2"
)

// writing is a pair whose sender writes all the time.
type writing struct {
	*pair
	acked atomic.Int64 // how many messages were confirmed
}

// run sends until ctx ends or the connection does. All bodies are of the pair, and in order.
func (w *writing) run(ctx context.Context, s *server) error {
	a, err := s.connect(ctx, w.sender())
	if err != nil {
		return err
	}
	defer a.Cut()
	if err := confirm(a); err != nil {
		return err
	}
	for ctx.Err() == nil {
		var bodies []string
		for range 4 {
			bodies = append(bodies, w.body(len(w.sent)))
			w.sent = append(w.sent, w.body(len(w.sent)))
		}
		if _, err := w.sendAll(a, bodies); err != nil {
			return err
		}
		w.acked.Add(int64(len(bodies)))
	}
	return nil
}

func (w *writing) body(i int) string { return fmt.Sprintf("%d.%d", w.number, i+1) }

// under puts load on a running node while do runs: people write, and accounts are made and removed.
func under(t *testing.T, s *server, all []*writing, churn int, do func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	errs := make(chan error, len(all)+1)
	began := make([]int64, len(all))
	for i, w := range all {
		began[i] = w.acked.Load()
		running.Go(func() { errs <- w.run(ctx, s) })
	}
	running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("brief%d-%d", churn, i)
			for _, args := range [][]string{{"add", name, "--generate"}, {"del", "--yes", name}} {
				c := s.command(nil, append(append([]string{"user"}, args...), "--config", s.config)...)
				if out, err := c.CombinedOutput(); err != nil {
					errs <- fmt.Errorf("user %s: %w: %s", args[0], err, out)
					return
				}
			}
		}
		errs <- nil
	})
	for i, w := range all {
		require.Eventually(t, func() bool { return w.acked.Load() > began[i]+20 }, patience, time.Millisecond)
	}
	do()
	cancel()
	running.Wait()
	for range len(all) + 1 {
		require.NoError(t, <-errs)
	}
}

// TestBackups backs a node up under load, with accounts that come and go, and restores each backup into a node whose
// clients know more than it does: nothing that was acknowledged before is missing, nobody gets what is another's, and
// the clients start over.
func TestBackups(t *testing.T) {
	s := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
	s.addUsers(t, 4)
	all := []*writing{{pair: &pair{number: 0, again: true}}, {pair: &pair{number: 1, again: true}}}
	for _, w := range all {
		w.receipts = map[string]receipt{}
	}
	node := s.startWell(t)
	for round := range scaled(t, 2) {
		target := filepath.Join(t.TempDir(), "backup")
		before := make([]int64, len(all))
		under(t, s, all, round, func() {
			for i, w := range all {
				before[i] = w.acked.Load()
			}
			s.must(t, "backup", target)
		})
		private(t, target)
		_, err := os.Stat(filepath.Join(s.data, "backup"))
		require.ErrorIs(t, err, os.ErrNotExist, "the frozen stores are removed")

		// What the clients know now, the backup does not have.
		cursor, newest := s.knows(t, all[0].recipient())
		restored := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
		restored.must(t, "restore", target)
		private(t, restored.data)
		other := restored.startWell(t)
		for i, w := range all {
			restored.holds(t, w, before[i])
		}
		restored.startsOver(t, all[0].recipient(), cursor, newest)
		restored.nothingInherited(t, fmt.Sprint("new", round))
		stop(t, other)
	}
	stop(t, node)
	// Also of a node that is stopped; and what is restored is backed up like anything else.
	target := filepath.Join(t.TempDir(), "backup")
	s.must(t, "backup", target)
	restored := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
	restored.must(t, "restore", target)
	node = restored.startWell(t)
	for _, w := range all {
		restored.holds(t, w, w.acked.Load())
	}
	restored.must(t, "backup", filepath.Join(t.TempDir(), "again"))
	stop(t, node)
}

// must runs a command that has to succeed.
func (s *server) must(t *testing.T, args ...string) {
	t.Helper()
	out, err := s.command(nil, append(args, "--config", s.config)...).CombinedOutput()
	require.NoError(t, err, "%s: %s", args, out)
}

// refuses runs a command that has to fail, and returns what it says.
func (s *server) refuses(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(nil, append(args, "--config", s.config)...).CombinedOutput()
	require.Error(t, err, "%s: %s", args, out)
	return string(out)
}

// private makes sure that only the owner can read what is in a folder.
func private(t *testing.T, folder string) {
	t.Helper()
	out, err := exec.Command("find", folder, "-perm", "/077", "-not", "-type", "s").CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, string(out))
}

// knows returns a sync cursor of somebody, and the stanza-id of the newest message in the archive.
func (s *server) knows(t *testing.T, i int) (cursor, newest string) {
	t.Helper()
	a, err := s.connect(t.Context(), i)
	require.NoError(t, err)
	defer a.Cut()
	for more := true; more; {
		n, _, err := a.Request("s", syncIQ(cursor))
		require.NoError(t, err)
		page := n.Child(nsSync, "sync")
		require.NotNil(t, page, n.String())
		cursor, more = page.Attr("cursor"), page.Attr("more") == "true"
	}
	n, _, err := a.Request("m", "<iq type='get' id='m'><metadata xmlns='"+nsMAM+"'/></iq>")
	require.NoError(t, err)
	newest = n.Child(nsMAM, "metadata").Child(nsMAM, "end").Attr("id")
	require.NotEmpty(t, newest)
	return cursor, newest
}

func syncIQ(cursor string) string {
	if cursor != "" {
		cursor = " cursor='" + cursor + "'"
	}
	return "<iq type='get' id='s'><sync xmlns='" + nsSync + "'" + cursor + " max='500'/></iq>"
}

// startsOver makes sure that a client that knows more than the backup is told so.
func (s *server) startsOver(t *testing.T, i int, cursor, newest string) {
	t.Helper()
	a, err := s.connect(t.Context(), i)
	require.NoError(t, err)
	defer a.Cut()
	n, _, err := a.Request("s", syncIQ(cursor))
	require.NoError(t, err)
	require.Contains(t, n.String(), "start-over")
	n, _, err = a.Request("s", syncIQ(""))
	require.NoError(t, err)
	require.Equal(t, "true", n.Child(nsSync, "sync").Attr("first"), n.String())
	n, _, err = a.Request("m", "<iq type='set' id='m'><query xmlns='"+nsMAM+"'>"+
		"<set xmlns='http://jabber.org/protocol/rsm'><after>"+newest+"</after></set></query></iq>")
	require.NoError(t, err)
	require.Contains(t, n.String(), "item-not-found", "it is beyond the end of the archive")
	require.NoError(t, a.Write("<resume xmlns='"+nsSM+"' previd='gone' h='0'/>"))
	n, _, err = a.Until(func(n *script.Element) bool { return n.Name.Space == nsSM })
	require.NoError(t, err)
	require.Equal(t, "failed", n.Name.Local)
}

// holds makes sure that both histories of a pair have what was acknowledged, in order, and nothing of anybody else.
func (s *server) holds(t *testing.T, w *writing, acked int64) {
	t.Helper()
	for me, other := range map[int]int{w.sender(): w.recipient(), w.recipient(): w.sender()} {
		a, err := s.connect(t.Context(), me)
		require.NoError(t, err)
		found, err := history(a, user(other), "")
		require.NoError(t, err)
		a.Cut()
		require.GreaterOrEqual(t, int64(len(found)), acked, "messages are missing that were acknowledged before")
		require.LessOrEqual(t, len(found), len(w.sent))
		for i, m := range found {
			require.Equal(t, w.body(i), m.body)
		}
	}
}

// nothingInherited makes sure that a new account has an empty archive.
func (s *server) nothingInherited(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(password), 0o600))
	s.must(t, "user", "add", name, "--password-file", file)
	a, err := script.Connect(t.Context(), s.endpoints, script.TCP, name, password)
	require.NoError(t, err)
	defer a.Cut()
	require.NoError(t, a.Bind("d"))
	n, _, err := a.Request("m", "<iq type='get' id='m'><metadata xmlns='"+nsMAM+"'/></iq>")
	require.NoError(t, err)
	require.Nil(t, n.Find(nsMAM, "start"), n.String())
}

// TestBackupIsKilled kills a backup, and the node during one, at any moment. What has the name of a backup is one, and
// both go on.
func TestBackupIsKilled(t *testing.T) {
	s := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
	s.addUsers(t, 2)
	w := &writing{pair: &pair{number: 0, again: true, receipts: map[string]receipt{}}}
	node := s.startWell(t)
	under(t, s, []*writing{w}, 0, func() {})
	folder := t.TempDir()
	for i := range scaled(t, 6) {
		target := filepath.Join(folder, "backup")
		c := s.command(nil, "backup", target, "--config", s.config)
		require.NoError(t, c.Start())
		<-time.After(rand.N(200 * time.Millisecond))
		if i%3 == 2 {
			node.kill()
			node.killed(t)
			_ = c.Wait()
			node = s.startWell(t)
			_, err := os.Stat(filepath.Join(s.data, "backup"))
			require.ErrorIs(t, err, os.ErrNotExist, "a new start removes what was frozen")
		} else {
			require.NoError(t, syscall.Kill(-c.Process.Pid, syscall.SIGKILL))
			_ = c.Wait()
		}
		if _, err := os.Stat(target); err == nil {
			s.restorable(t, target, w)
			require.NoError(t, os.RemoveAll(target))
		}
	}
	target := filepath.Join(folder, "backup")
	var said string
	require.Eventually(t, func() bool { // what was killed last may still be ending in the node
		out, err := s.command(nil, "backup", target, "--config", s.config).CombinedOutput()
		said = string(out)
		return err == nil
	}, patience, 10*time.Millisecond, "%s", &said)
	s.restorable(t, target, w)
	_, err := os.Stat(target + ".partial")
	require.ErrorIs(t, err, os.ErrNotExist)
	stop(t, node)
}

func (s *server) restorable(t *testing.T, target string, w *writing) {
	t.Helper()
	restored := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
	restored.must(t, "restore", target)
	node := restored.startWell(t)
	restored.holds(t, w, w.acked.Load())
	stop(t, node)
}

// TestRestoreIsKilled kills a restore at any moment: no node starts on half of one, and the next restore is complete.
func TestRestoreIsKilled(t *testing.T) {
	s := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
	s.addUsers(t, 2)
	w := &writing{pair: &pair{number: 0, again: true, receipts: map[string]receipt{}}}
	node := s.startWell(t)
	under(t, s, []*writing{w}, 0, func() {})
	stop(t, node)
	target := filepath.Join(t.TempDir(), "backup")
	s.must(t, "backup", target)
	halves := 0
	for range scaled(t, 6) {
		restored := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
		c := restored.command(nil, "restore", target, "--config", restored.config)
		require.NoError(t, c.Start())
		marker := filepath.Join(restored.data, "restoring")
		seen := func() bool { return there(marker) }
		database := filepath.Join(restored.data, "posthouse.db")
		require.Eventually(t, func() bool { return seen() || there(database) }, patience, time.Microsecond)
		<-time.After(rand.N(20 * time.Millisecond))
		require.NoError(t, syscall.Kill(-c.Process.Pid, syscall.SIGKILL))
		_ = c.Wait()
		if seen() {
			halves++
			require.Contains(t, restored.refuses(t, "serve"), "was interrupted")
			require.Contains(t, restored.refuses(t, "user", "list"), "posthouse restore again")
			restored.must(t, "restore", target)
		}
		again := restored.startWell(t)
		restored.holds(t, w, w.acked.Load())
		stop(t, again)
	}
	require.NotZero(t, halves, "no restore was killed in the middle")
}

// TestBackupRefusals: what cannot be backed up or restored is refused, with what to do, and nothing is changed.
func TestBackupRefusals(t *testing.T) {
	s := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
	target := filepath.Join(t.TempDir(), "backup")
	require.Contains(t, s.refuses(t, "backup", target), "nothing to back up")
	s.addUsers(t, 2)
	node := s.startWell(t)
	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	require.Contains(t, s.refuses(t, "backup", full), "is not empty")
	s.must(t, "backup", target)
	require.Contains(t, s.refuses(t, "backup", target), "is not empty")
	require.Contains(t, s.refuses(t, "restore", target), "is in use")
	stop(t, node)
	require.Contains(t, s.refuses(t, "restore", target), "is not empty")
	require.Contains(t, s.refuses(t, "restore", full), "is no backup")

	fresh := newServer(t, filepath.Join(t.TempDir(), "data"), "full")
	require.Contains(t, fresh.refuses(t, "restore", target, "--domain", "example.org"), "is of the domain localhost")
	for name, spoil := range map[string]func(t *testing.T, folder string){
		"is not what it was": func(t *testing.T, folder string) {
			f, err := os.OpenFile(filepath.Join(folder, "posthouse.db"), os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{0xff}, 5000)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		},
		"is missing": func(t *testing.T, folder string) {
			require.NoError(t, os.Remove(filepath.Join(folder, "messages", "CHECKPOINTS")))
		},
		"was not there when it was made": func(t *testing.T, folder string) {
			require.NoError(t, os.WriteFile(filepath.Join(folder, "messages", "x"), nil, 0o600))
		},
		"is missing ": func(t *testing.T, folder string) {
			edit(t, folder, `"path": "posthouse.db"`, `"path": "../posthouse.db"`)
		},
		"has format 2": func(t *testing.T, folder string) { edit(t, folder, `"format": 1`, `"format": 2`) },
	} {
		spoilt := filepath.Join(t.TempDir(), "spoilt")
		out, err := exec.Command("cp", "-a", target, spoilt).CombinedOutput()
		require.NoError(t, err, "%s", out)
		spoil(t, spoilt)
		require.Contains(t, fresh.refuses(t, "restore", spoilt), strings.TrimSpace(name))
		left, err := filepath.Glob(filepath.Join(fresh.data, "*"))
		require.NoError(t, err)
		for _, path := range left {
			require.Equal(t, "lock", filepath.Base(path), "nothing is left behind")
		}
	}
	fresh.must(t, "restore", target)
	stop(t, fresh.startWell(t))
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func edit(t *testing.T, folder, from, to string) {
	t.Helper()
	path := filepath.Join(folder, "manifest.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), from)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600))
}
