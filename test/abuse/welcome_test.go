package abuse

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// TestManyContactsOnline: whoever has many more contacts online than its queue may hold logs in, and hears of each of
// them, and of those who have gone meanwhile, however slowly it reads.
func TestManyContactsOnline(t *testing.T) {
	const contacts, queue = 120, 8
	s := open(t, fmt.Sprint("c2s.queue_stanzas=", queue))
	var names []string
	for i := range contacts {
		names = append(names, fmt.Sprint("contact-", i))
	}
	s.people(names...)
	s.store(func(ctx context.Context, db *sqlite.Store) error {
		romeo, err := db.Account(ctx, "romeo")
		require.NoError(t, err)
		for _, name := range names {
			other, err := db.Account(ctx, name)
			require.NoError(t, err)
			both := func(j string) store.RosterItem {
				return store.RosterItem{JID: jid.MustParse(j + "@localhost"), Listed: true, To: true, From: true}
			}
			_, err = storetest.SetRosterItem(db, romeo.ID, both(name), 1000)
			require.NoError(t, err)
			_, err = storetest.SetRosterItem(db, other.ID, both("romeo"), 1000)
			require.NoError(t, err)
		}
		return nil
	})
	var online []*script.Client
	for _, name := range names {
		online = append(online, s.available(script.TCP, name, "desk"))
	}
	for _, managed := range []bool{false, true} {
		t.Run(fmt.Sprint("stream management ", managed), func(t *testing.T) {
			romeo := s.connect(script.TCP, "romeo", "balcony")
			if managed {
				tell(t, romeo, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
				require.Equal(t, "enabled", next(t, romeo).Name.Local)
			}
			tell(t, romeo, "<presence xmlns='jabber:client'/>")
			seen := map[string]bool{}
			for len(seen) < contacts {
				n := next(t, romeo)
				require.NotEqual(t, "error", n.Name.Local, "%v", n)
				if name, _, ok := strings.Cut(n.Attr("from"), "@"); ok && n.Name.Local == "presence" &&
					strings.HasPrefix(name, "contact-") {
					require.Empty(t, n.Attr("type"))
					seen[name] = true
				}
			}
			require.NoError(t, romeo.Leave())
		})
	}
	for _, a := range online {
		a.Cut()
	}
}
