package node

import (
	"github.com/posthouse-im/posthouse/domain/conversation"
)

// makeConversations makes what answers for conversations, profiles and sync.
func (a *assembly) makeConversations() (err error) {
	c := a.Config.Conversations
	c.Domain = a.domain
	c.Sessions = a.sessions
	c.Inbox = a.inbox
	c.Archive = a.archive
	c.Accounts = a.auth.Directory()
	c.Settings = a.database
	c.Profiles = a.database
	c.Changed = a.changed
	c.Log = a.Log
	a.conversations, err = conversation.New(c)
	return err
}

// changed tells those who wait for news of an account. It is given to parts that are made before the ingress.
func (a *assembly) changed(account uint64) { a.ingress.Changed(account) }
