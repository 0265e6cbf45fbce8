package stanza

import "time"

// FormatTime returns a DateTime of XEP-0082 §3.2 in UTC, to the millisecond, which is what a message's identity knows.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// FormatSeconds returns a time as FormatTime does, to the second.
func FormatSeconds(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
