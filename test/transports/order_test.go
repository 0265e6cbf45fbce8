package transports

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/flakyproxy"
	"github.com/posthouse-im/posthouse/test/script"
)

// TestNothingMissingAfterTheLastSeen: a device gets messages of several authors until its link is cut, with some of
// them still on their way. What it then reads from the archive after the last one that it has seen is exactly the rest.
// So a message never arrives before an earlier one: the device would not ask for that one any more.
func TestNothingMissingAfterTheLastSeen(t *testing.T) {
	t.Parallel()
	const each = 60
	authors := []string{"romeo", "nurse", "mercutio"}
	node := newNode(t, authors...)
	at := node.Endpoints()
	var all []*script.Client
	for _, name := range authors {
		a, err := script.Connect(t.Context(), at, script.TCP, name, password)
		require.NoError(t, err)
		defer a.Cut()
		require.NoError(t, a.Bind("d"))
		all = append(all, a)
	}
	for round, bytes := range []int{1500, 4000, 9000, 16000, 25000, 36000} {
		name := fmt.Sprintf("juliet%d", round) // to whom nothing is replayed
		require.NoError(t, node.AddUser(name, password))
		network := flakyproxy.New(t, at.XMPP)
		weak := at
		weak.XMPP = network.Addr()
		device, err := script.Connect(t.Context(), weak, script.TCP, name, password)
		require.NoError(t, err)
		require.NoError(t, device.Bind("d"))
		require.NoError(t, device.Write("<presence/>"))
		_, err = device.Barrier("there")
		require.NoError(t, err)

		network.BreakAfter(bytes)
		for _, a := range all {
			require.NoError(t, a.Write(strings.Repeat(
				"<message to='"+name+"@localhost' type='chat'><body>Where is she?</body></message>", each)))
		}
		var seen []string
		for n, err := device.Next(); err == nil; n, err = device.Next() {
			if id := n.Child("urn:xmpp:sid:0", "stanza-id"); id != nil {
				seen = append(seen, id.Attr("id"))
			}
		}
		device.Cut()
		require.Equal(t, 1, network.Breaks())
		require.NotEmpty(t, seen)
		require.Less(t, len(seen), each*len(authors), "the link was not cut in between")
		for i, a := range all {
			_, err := a.Barrier(fmt.Sprint("stored", round, i))
			require.NoError(t, err)
		}

		again, err := script.Connect(t.Context(), at, script.TCP, name, password)
		require.NoError(t, err)
		require.NoError(t, again.Bind("d"))
		whole := archived(t, again, "")
		require.Len(t, whole, each*len(authors))
		require.Equal(t, whole, append(seen, archived(t, again, seen[len(seen)-1])...), "cut after %d bytes", bytes)
		again.Cut()
	}
}

// archived returns the identities of the messages of the client's archive after one of them, "" for all (XEP-0313).
func archived(t *testing.T, a *script.Client, after string) (ids []string) {
	t.Helper()
	for page := 0; ; page++ {
		id, from := fmt.Sprint("page", page), ""
		if after != "" {
			from = "<after>" + after + "</after>"
		}
		answer, before, err := a.Request(id, "<iq type='set' id='"+id+"'><query xmlns='urn:xmpp:mam:2'>"+
			"<set xmlns='http://jabber.org/protocol/rsm'><max>100</max>"+from+"</set></query></iq>")
		require.NoError(t, err)
		for _, n := range before {
			if result := n.Child("urn:xmpp:mam:2", "result"); result != nil {
				after = result.Attr("id")
				ids = append(ids, after)
			}
		}
		fin := answer.Child("urn:xmpp:mam:2", "fin")
		require.NotNil(t, fin, "%v", answer)
		if fin.Attr("complete") == "true" {
			return ids
		}
	}
}
