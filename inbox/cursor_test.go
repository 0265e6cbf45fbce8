package inbox

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func someCursor() cursor {
	return cursor{account: 3, at: 1 << 60, epoch: 4, roster: 5, settings: 6, profiles: 7, floor: 8, left: 9, before: 10,
		quiet: 11}
}

func TestCursor(t *testing.T) {
	s := newSeal([]byte("0123456789abcdef"), 0)
	longest := cursor{
		account: 3, at: math.MaxUint64, epoch: math.MaxUint64, roster: math.MaxUint64, settings: math.MaxUint64,
		profiles: math.MaxUint64,
		floor:    math.MaxUint64, left: math.MaxUint64, before: math.MaxUint64, quiet: math.MaxUint64,
	}
	for _, c := range []cursor{someCursor(), longest, {account: 3}} {
		text := s.text(&c)
		require.LessOrEqual(t, len(text), maxCursor)
		got, err := s.open(text, 3)
		require.NoError(t, err)
		require.Equal(t, c, got)
		_, err = s.open(text, 4)
		require.ErrorIs(t, err, ErrCursor, "another account's")
	}
}

// TestForgedCursors: no change of one character is accepted, and no key but ours makes one.
func TestForgedCursors(t *testing.T) {
	s := newSeal([]byte("0123456789abcdef"), 0)
	c := someCursor()
	text := s.text(&c)
	other := newSeal([]byte("another database"), 0)
	_, err := s.open(other.text(&c), 3)
	require.ErrorIs(t, err, ErrStartOver)
	restored := newSeal([]byte("0123456789abcdef"), 7)
	_, err = restored.open(text, 3)
	require.ErrorIs(t, err, ErrStartOver, "a backup was restored since")
	forged := seal{key: []byte("x"), database: s.database}
	_, err = s.open(forged.text(&c), 3)
	require.ErrorIs(t, err, ErrCursor)
	for i := range text {
		for _, r := range []string{"A", "b", "_", "=", "", "\x00"} {
			changed := text[:i] + r + text[i+1:]
			if changed == text {
				continue
			}
			_, err := s.open(changed, 3)
			require.Error(t, err, "%q", changed)
		}
	}
	for _, text := range []string{"a", "first", strings.Repeat("A", maxCursor), strings.Repeat("A", 1<<20), "AQ", "0"} {
		_, err := s.open(text, 3)
		require.Error(t, err)
	}
	_, err = New(Config{Key: []byte("short")})
	require.Error(t, err)
}

// FuzzCursor: whatever the bytes behind a right checksum, opening ends, and what it accepts is what is written again.
func FuzzCursor(f *testing.F) {
	s := newSeal([]byte("0123456789abcdef"), 0)
	c := someCursor()
	whole, err := base64.RawURLEncoding.DecodeString(s.text(&c))
	require.NoError(f, err)
	f.Add(whole[:len(whole)-sumSize])
	f.Add([]byte{cursorVersion})
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := s.open(
			base64.RawURLEncoding.EncodeToString(append(content[:len(content):len(content)], s.sum(content)...)), 3,
		)
		if err != nil {
			return
		}
		again, err := s.open(s.text(&c), 3)
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}
