package api

import (
	"context"
	"strconv"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// nsPreferences qualifies what an account chooses for itself (docs/messages.md).
const nsPreferences = "urn:posthouse:preferences:1"

// Preferences are what an account chooses for itself.
type Preferences struct {
	ShareRead bool `json:"share_read" doc:"Whether others are told how far the account has read. Its own devices know in any case."`
}

func (a *API) getPreferences(ctx context.Context, _ *none) (*body[Preferences], error) {
	p, err := a.config.Preferences.ArchivePreference(ctx, requestFrom(ctx).Account)
	if err != nil {
		return nil, err
	}
	return answer(Preferences{ShareRead: !p.HideReads})
}

func (a *API) setPreferences(ctx context.Context, in *struct{ Body Preferences }) (*none, error) {
	share := strconv.FormatBool(in.Body.ShareRead)
	return a.ask(ctx, requestFrom(ctx).JID, stanza.New(nsPreferences, "preferences", "share-read", share))
}
