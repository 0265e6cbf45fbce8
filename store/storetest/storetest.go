// Package storetest is the test suite that every implementation of the store interfaces passes. It contains a simple
// implementation in memory that defines correct behaviour, and the workload by which implementations are measured.
//
// Only tests import it. Some tests start goroutines, and wait for them.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Log is a message log that can be closed and opened again.
type Log interface {
	store.MessageLog
	Close() error
}

// Logs says how to make the message logs of one implementation.
type Logs struct {
	// Open opens the log in the folder, or creates it.
	Open func(t testing.TB, folder string) Log
	// Damage changes one bit of a stored message while the log is closed; nil when the implementation keeps no
	// checksums.
	Damage func(t testing.TB, folder string, id store.MessageID)
}

// Scaled returns how large a test is that usually has that size: STORE_FACTOR times as large, when that is set in the
// environment, as in `make nightly`.
func Scaled(t testing.TB, size int) int {
	t.Helper()
	text := os.Getenv("STORE_FACTOR")
	if text == "" {
		return size
	}
	factor, err := strconv.Atoi(text)
	require.NoError(t, err, "STORE_FACTOR")
	require.Positive(t, factor, "STORE_FACTOR")
	return size * factor
}

// Checks makes random tests check that many examples, STORE_FACTOR times as many when that is set, instead of rapid's
// 100, unless a number is given on the command line: each of theirs opens files many times over.
func Checks(t testing.TB, n int) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set(strconv.Itoa(Scaled(t, n))))
		t.Cleanup(func() { require.NoError(t, checks.Value.Set(checks.DefValue)) })
	}
}

// noon is where the tests' clock begins.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// Some parties. Accounts 1 and 4 have the same address: one was deleted, the other created later.
func alice() store.Party    { return party("alice@example.org", 1) }
func bob() store.Party      { return party("bob@example.org", 2) }
func carol() store.Party    { return party("carol@example.org", 3) }
func newAlice() store.Party { return party("alice@example.org", 4) }
func romeo() store.Party    { return party("romeo@montague.example", 0) }
func juliet() store.Party   { return party("juliet@capulet.example", 0) }

func party(address string, account store.AccountID) store.Party {
	return store.Party{JID: jid.MustParse(address), Account: account}
}

const (
	inBoth   = store.InAuthorArchive | store.InRecipientArchive
	stored   = inBoth | store.ForOffline
	offline  = store.ForOffline
	forsaken = store.MessageFlags(0)
)

// direct makes the direct conversation of two parties, or finds it.
func direct(t testing.TB, l store.ConversationOpener, a, b store.Party) store.ConversationID {
	t.Helper()
	o, err := l.OpenConversation(context.Background(), noon(), store.DirectKey(a, b), nil)
	require.NoError(t, err)
	return o.ID
}

// said makes a message to append. Its content hash is that of its text.
func said(in store.ConversationID, author store.Party, text string, flags store.MessageFlags) *store.Append {
	a := &store.Append{Message: store.Message{
		Conversation: in, Flags: flags, Author: author,
		Stanza: []byte("<message xmlns='jabber:client' type='chat'><body>" + text + "</body></message>"),
	}}
	sum := sha256.Sum256(a.Stanza)
	copy(a.ContentHash[:], sum[:])
	return a
}

// message makes a message from one party to another, whose conversation is opened.
func message(t testing.TB, l store.ConversationOpener, from, to store.Party, text string,
	flags store.MessageFlags) *store.Append {
	t.Helper()
	return said(direct(t, l, from, to), from, text, flags)
}

func withOrigin(a *store.Append, id string) *store.Append {
	a.OriginID = id
	return a
}

// marker makes a change of a marker.
func marker(in store.ConversationID, account store.AccountID, kind store.MarkerKind, through uint64) *store.Append {
	return &store.Append{Message: store.Message{Conversation: in,
		Marker: &store.Marker{Account: account, Kind: kind, Through: through}}}
}

// mustAppend appends at one time and returns the batch.
func mustAppend(t testing.TB, l store.MessageWriter, now time.Time, batch ...*store.Append) []*store.Append {
	t.Helper()
	require.NoError(t, l.Append(context.Background(), &store.Batch{Now: now, Entries: batch}))
	return batch
}

// texts shows messages by what they say.
func texts(messages []store.Message) []string {
	said := []string{}
	for _, m := range messages {
		body := string(m.Stanza)
		said = append(
			said, body[len("<message xmlns='jabber:client' type='chat'><body>"):len(body)-len("</body></message>")])
	}
	return said
}

func ids(messages []store.Message) []store.MessageID {
	found := []store.MessageID{}
	for _, m := range messages {
		found = append(found, m.ID)
	}
	return found
}

// numbered makes n texts: name 1, name 2, …
func numbered(name string, first, last int) []string {
	made := []string{}
	for i := first; i <= last; i++ {
		made = append(made, fmt.Sprint(name, i))
	}
	return made
}

func requireDamaged(t testing.TB, err error, want ...store.MessageID) {
	t.Helper()
	require.ErrorIs(t, err, store.ErrDamaged)
	var d *store.DamagedError
	require.True(t, errors.As(err, &d), "%v", err)
	require.Equal(t, want, d.IDs)
}
