package defaults_test

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/defaults"
)

type inner struct {
	Wait time.Duration `default:"2m"`
}

type config struct {
	Name    string           `default:"posthouse"`
	Size    int              `default:"4096"`
	Small   uint8            `default:"7"`
	Rate    float64          `default:"0.5"`
	Listen  []string         `default:"a:1, b:2"`
	Address netip.Addr       `default:"127.0.0.1"`
	Log     *slog.Logger     `default:"discard"`
	Now     func() time.Time `default:"now"`
	Inner   inner
	Without int
	hidden  bool
}

func TestFill(t *testing.T) {
	var c config
	defaults.Fill(&c)
	require.NotNil(t, c.Log)
	require.WithinDuration(t, time.Now(), c.Now(), time.Minute)
	c.Log, c.Now = nil, nil
	want := config{
		Name: "posthouse", Size: 4096, Small: 7, Rate: 0.5, Listen: []string{"a:1", "b:2"},
		Address: netip.MustParseAddr("127.0.0.1"),
		Inner:   inner{Wait: 2 * time.Minute},
	}
	require.Equal(t, want, c)

	mine := config{Name: "mine", Size: -1, Rate: 2, Listen: []string{}, Inner: inner{Wait: -1}, Log: slog.Default()}
	c = mine
	defaults.Fill(&c)
	require.Equal(t, mine.Log, c.Log)
	require.Equal(t, "mine", c.Name)
	require.Equal(t, -1, c.Size)
	require.InDelta(t, 2, c.Rate, 0)
	require.Empty(t, c.Listen, "an empty list is not nothing")
	require.Equal(t, time.Duration(-1), c.Inner.Wait)
	require.Zero(t, c.Without)
	require.False(t, c.hidden)
}

// TestWrongTags: a tag that its field cannot have is found by whoever uses it.
func TestWrongTags(t *testing.T) {
	for _, c := range []any{
		&struct {
			N int `default:"many"`
		}{},
		&struct {
			N uint8 `default:"256"`
		}{},
		&struct {
			On bool `default:"true"`
		}{},
		&struct {
			D time.Duration `default:"5"`
		}{},
		&struct {
			Log *slog.Logger `default:"stderr"`
		}{},
		&struct {
			Now func() time.Time `default:"then"`
		}{},
	} {
		require.Panics(t, func() { defaults.Fill(c) })
	}
}
