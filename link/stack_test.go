package link

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStacksRunEverythingAtTheSameTime(t *testing.T) {
	s := newStacks()
	const n = 3 * idleStacks
	var all, done sync.WaitGroup
	release := make(chan struct{})
	all.Add(n)
	for range n {
		done.Go(func() { s.run(task(func() { all.Done(); <-release })) })
	}
	all.Wait()
	close(release)
	done.Wait()
	require.LessOrEqual(t, len(s.idle), idleStacks)
	s.close()
	require.Empty(t, s.idle)
	s.run(task(func() {})) // still works, and keeps nothing
	require.Empty(t, s.idle)
	require.Nil(t, s.last.Load())
}

func TestStacksAreUsedAgain(t *testing.T) {
	s := newStacks()
	defer s.close()
	s.run(task(func() {}))
	k := s.last.Load()
	for range 10 {
		s.run(task(func() {}))
	}
	require.Same(t, k, s.last.Load())
	require.Panics(t, func() { s.run(task(func() { panic("x") })) })
	require.Same(t, k, s.last.Load(), "also after a panic")
	require.Nil(t, k.failed)
}

// What ends its goroutine, as the end of a failed test does, ends the one that waits for it too.
func TestStacksEndTogether(t *testing.T) {
	s := newStacks()
	defer s.close()
	after := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(task(runtime.Goexit))
		after = true
	}()
	<-done
	require.False(t, after)
	ran := false
	s.run(task(func() { ran = true }))
	require.True(t, ran)
}

func BenchmarkBorrowedStack(b *testing.B) {
	s := newStacks()
	defer s.close()
	w := task(func() {})
	b.ReportAllocs()
	for b.Loop() {
		s.run(w)
	}
}

// Deep runs once, on a lent stack or right here, and may be called inside use.
func TestDeep(t *testing.T) {
	c, client := Pipe()
	defer func() { require.NoError(t, client.Close()) }()
	n := 0
	Deep(c, func() { n++ })
	Deep(nil, func() { n++ })
	require.Equal(t, 2, n)
	calls := make(chan int, 1)
	l := startListener(t, Config{}, func(c Conn) {
		k := 0
		Deep(c, func() { k++ })
		_ = c.Receive(func([]byte) { Deep(c, func() { k++ }) })
		calls <- k
	})
	_, err := dial(t, l).Write([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, 2, <-calls)
}
