package archive

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// A84: who asks again and again is told to wait, and may go on later; others are not touched.
func TestQueryBudget(t *testing.T) {
	now := noon.Add(time.Hour)
	h := newHouse(t, memory(), func(c *Config) {
		c.Now = func() time.Time { return now }
		c.QueryRate, c.QueryBurst = 2,
			10
	})
	fill(t, h.log, noon, 250, withEverybody)
	allowed := 0
	var refusal *stanza.Error
	for range 100 {
		if _, refusal = h.tryQuery(t, form("<max>250</max>")); refusal != nil {
			break
		}
		allowed++
	}
	require.Equal(t, 3, allowed, "a token and one for every 100 messages: 3.5 each of 10")
	require.Equal(t, stanza.ResourceConstraint, refusal.Condition)
	told := refusal.Element()
	require.Equal(t, "wait", told.Attr("type"))
	_, refusal = h.own(t, `<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`)
	require.NotNil(t, refusal, "metadata cost too")

	iq := parse(t, form(""))
	iq.From = jid.MustParse("juliet@verona.example/b")
	iq.To = iq.From.Bare()
	_, refusal = h.ask(t, iq, juliet)
	require.Nil(t, refusal)

	now = now.Add(2 * time.Second)
	_, refusal = h.tryQuery(t, form("<max>1</max>"))
	require.Nil(t, refusal)
}
