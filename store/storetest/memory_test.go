package storetest_test

import (
	"testing"

	"github.com/posthouse-im/posthouse/store/storetest"
)

// TestMemory runs the suite on the naive implementation, so that what others are compared with is right itself.
func TestMemory(t *testing.T) {
	kept := map[string]*storetest.Memory{}
	storetest.MessageLog(t, storetest.Logs{
		Open: func(_ testing.TB, folder string) storetest.Log {
			if kept[folder] == nil {
				kept[folder] = storetest.NewMemory()
			}
			return kept[folder]
		},
	})
}
