package node

import (
	"github.com/posthouse-im/posthouse/domain/conversation"
)

// makeConversations makes what answers for conversations, profiles and sync.
func (a *assembly) makeConversations() (err error) {
	c := a.Config.Conversations
	c.Domain, c.Sessions, c.Inbox, c.Archive, c.Accounts = a.domain, a.sessions, a.inbox, a.archive, a.auth.Directory()
	c.Settings, c.Profiles, c.Changed, c.Log = a.database, a.database, a.changed, a.Log
	a.conversations, err = conversation.New(c)
	return err
}

// changed tells those who wait for news of an account. It is given to parts that are made before the ingress.
func (a *assembly) changed(account uint64) { a.ingress.Changed(account) }
