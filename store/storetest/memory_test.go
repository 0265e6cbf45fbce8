package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMemory runs the suite on the naive implementation, so that what others are compared with is right itself.
func TestMemory(t *testing.T) {
	kept := map[string]*Memory{}
	MessageLog(t, Logs{
		Open: func(_ testing.TB, folder string) Log {
			if kept[folder] == nil {
				kept[folder] = NewMemory()
			} else {
				kept[folder].Reopen()
			}
			return kept[folder]
		},
	})
}

// TestBasisIgnored: a log that does not look at Basis does not pass.
func TestBasisIgnored(t *testing.T) {
	l := NewMemory()
	l.IgnoreBasis = true
	require.ErrorContains(t, raceRetractions(l), "was retracted")
}
