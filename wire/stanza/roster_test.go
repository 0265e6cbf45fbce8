package stanza

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
)

func TestRosterItem(t *testing.T) {
	who := jid.MustParse("nurse@example.com")
	for _, want := range []RosterItem{
		{JID: who},
		{JID: who, Subscription: "remove"},
		{JID: who, Name: "Nurse", Subscription: Subscription(true, true), Asked: true, Approved: true,
			Groups: []string{"a", "b"}},
		{JID: who, Subscription: Subscription(true, false)},
		{JID: who, Subscription: Subscription(false, true)},
		{JID: who, Subscription: Subscription(false, false)},
	} {
		e := want.Element()
		got, ok := ReadRosterItem(&e)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	for _, e := range []Element{
		New(NSRoster, "item"), New(NSRoster, "item", "jid", "@"), New(NSRoster, "other", "jid", "a@b"),
		New("other", "item", "jid", "a@b"),
	} {
		_, ok := ReadRosterItem(&e)
		require.False(t, ok, e.Local)
	}
}

// TestRefusal: what an error stanza says is read as it was written.
func TestRefusal(t *testing.T) {
	app := New("urn:example", "reason")
	for _, want := range []*Error{
		{Type: Wait, Condition: ResourceConstraint, Text: "Later.", App: &app},
		{Type: "cancel", Condition: ServiceUnavailable},
	} {
		s := &Stanza{Kind: IQ, Type: TypeError, Payload: []Element{New("urn:example", "query"), want.Element()}}
		require.Equal(t, want, s.Refusal())
	}
	require.Equal(t, &Error{Condition: UndefinedCondition}, (&Stanza{Kind: IQ, Type: TypeError}).Refusal())
}
