package c2s

import (
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDefaultTags: what an operator reads as a default is what a zero Config becomes.
func TestDefaultTags(t *testing.T) {
	var c Config
	c.defaults()
	v := reflect.ValueOf(c)
	found := 0
	for i := range v.NumField() {
		field := v.Type().Field(i)
		text, ok := field.Tag.Lookup("default")
		if !ok {
			continue
		}
		found++
		want, err := strconv.ParseInt(text, 10, 64)
		if field.Type == reflect.TypeFor[time.Duration]() {
			var d time.Duration
			d, err = time.ParseDuration(text)
			want = int64(d)
		}
		require.NoError(t, err, field.Name)
		require.Equal(t, want, v.Field(i).Int(), field.Name)
	}
	require.Equal(t, 19, found)
}
