package node

import (
	"context"
	"io"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
)

// openAccounts opens the database for the tools. Their few writes are always flushed, whatever the node's durability is.
func openAccounts(ctx context.Context, path string) (store.Accounts, io.Closer, error) {
	s, err := sqlite.Open(ctx, path, sqlite.Options{Readers: 1})
	if err != nil {
		return nil, nil, err
	}
	return s, s, nil
}
