package store

import (
	"bytes"
	"log/slog"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAccountIDInLogs: a reader of JSON that keeps numbers in 53 bits does not take one account for another.
func TestAccountIDInLogs(t *testing.T) {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "account", AccountID(math.MaxInt64))
	require.Contains(t, b.String(), `"account":"9223372036854775807"`)
}
