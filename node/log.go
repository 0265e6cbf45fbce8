package node

import (
	"io"
	"log/slog"

	"github.com/posthouse-im/posthouse/node/terminal"
)

// NewLog returns the log of the node: text for a terminal, JSON lines otherwise, unless the configuration says which.
func NewLog(c LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || c.Format != "json" && terminal.Is(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
