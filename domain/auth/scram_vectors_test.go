package auth

import (
	"context"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// The whole exchanges of RFC 5802 §5 and RFC 7677 §3, from the client-final-message on.
func TestSCRAMVectors(t *testing.T) {
	for _, tc := range []struct {
		mechanism, bare, serverFirst, final, serverFinal string
	}{
		{
			ScramSHA1, "n=user,r=fyko+d2lbbFgONRv9qkxdawL",
			"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
			"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{
			ScramSHA256, "n=user,r=rOprNGfwEbeRWgbNEkqO",
			"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
				"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		m := findMechanism(tc.mechanism)
		fields := strings.Split(tc.serverFirst, ",")
		salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
		require.NoError(t, err)
		key, err := derive(m.hash, "pencil", salt, 4096)
		require.NoError(t, err)
		account := store.Account{ID: 1, Name: "user", Credentials: []store.Credential{key}}
		a, err := New(oneAccount{account}, Config{Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		e := &Exchange{
			auth: a, channel: &Channel{}, mechanism: m, state: awaitFinal, name: "user", claimed: "user",
			account: account,
			key:     &account.Credentials[0], header: "n,,", nonce: fields[0][2:],
			authMessage: []byte(tc.bare + "," + tc.serverFirst),
		}
		_, done, f := e.Step(context.Background(), []byte(tc.final))
		require.Nil(t, f)
		require.True(t, done)
		require.Equal(t, tc.serverFinal, string(e.Additional()), tc.mechanism)
	}
}

// oneAccount is a store with one account.
type oneAccount struct{ account store.Account }

func (o oneAccount) Account(context.Context, string) (store.Account, error) { return o.account, nil }

func (oneAccount) ListAccounts(context.Context, string, int) ([]store.Account, error) {
	return nil, nil
}

func (oneAccount) CreateAccount(context.Context, store.Account) (store.AccountID, error) {
	return 0, store.ErrExists
}

func (oneAccount) CreateAccounts(context.Context, []store.Account) ([]store.AccountID, error) {
	return nil, nil
}

func (oneAccount) IterationCounts(context.Context) ([]store.IterationCount, error) { return nil, nil }

func (oneAccount) RenewCredentials(context.Context, string, store.Basis, []store.Credential,
	[]store.Credential) error {
	return nil
}

func (oneAccount) SetCredentials(context.Context, string, []store.Credential) error { return nil }

func (oneAccount) SetDisabled(context.Context, string, bool) error { return nil }

func (oneAccount) SetAdmin(context.Context, string, bool) error { return nil }

func (oneAccount) DeleteAccount(context.Context, string) error { return nil }

// The example of XEP-0474 §5.3.
func TestDowngradeHashVector(t *testing.T) {
	o := &offer{mechanisms: []string{ScramSHA1, ScramSHA1Plus}, bindings: []string{tlsServerEndPoint, tlsExporter}}
	require.Equal(t, "G6k/rBLDqgOhRRaCuuatSDFkJ08=", o.hashWith(scram.SHA1))
}
