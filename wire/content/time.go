package content

import (
	"encoding/json"
	"time"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Time is a time that JSON always shows in one form: that of XEP-0082 §3.2 in UTC, with three decimals.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(stanza.FormatTime(t.Time)) }
