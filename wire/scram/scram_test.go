package scram

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The whole exchanges of RFC 5802 §5 and RFC 7677 §3.
func TestVectors(t *testing.T) {
	for _, test := range []struct{ mechanism, nonce, challenge, proof, signature string }{
		{
			"SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL",
			"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
			"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{
			"SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO",
			"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
				"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		c := &Client{Hash: HashOf(test.mechanism), User: "user", Password: "pencil", Nonce: test.nonce}
		require.Equal(t, "n,,n=user,r="+test.nonce, string(c.First()))
		require.Error(t, c.Verify([]byte(test.signature)), "there was no challenge yet")
		final, err := c.Final([]byte(test.challenge))
		require.NoError(t, err)
		require.Equal(t, test.proof, string(final))
		require.NoError(t, c.Verify([]byte(test.signature)))
		require.Error(t, c.Verify([]byte("v=AAAA")))
		require.Error(t, c.Verify(nil))
	}
	require.Nil(t, HashOf("PLAIN"))
}

// What the server must not ask for is refused.
func TestRefusals(t *testing.T) {
	for _, challenge := range []string{
		"", "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=nonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=nonceX,s=?,i=4096", "r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
		"r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999",
	} {
		c := &Client{Hash: SHA256, User: "user", Password: "pencil", Nonce: "nonce"}
		c.First()
		_, err := c.Final([]byte(challenge))
		require.Error(t, err, challenge)
	}
}

// The gs2-header says what the client knows of channel binding (RFC 5802 §6), and a name is escaped (§5.1).
func TestFirst(t *testing.T) {
	for _, test := range []struct {
		client Client
		want   string
	}{
		{Client{User: "a=b,c"}, "n,,n=a=3Db=2Cc,r=x"},
		{Client{User: "user", Could: true}, "y,,n=user,r=x"},
		{Client{User: "user", Binding: []byte{1}}, "p=tls-exporter,,n=user,r=x"},
	} {
		test.client.Nonce = "x"
		require.Equal(t, test.want, string(test.client.First()))
	}
	one, two := Client{User: "user"}, Client{User: "user"}
	require.NotEqual(t, one.First(), two.First())
}

func TestProves(t *testing.T) {
	message := []byte("message")
	keys, err := SHA256.Derive("pencil", []byte("salt"), 1)
	require.NoError(t, err)
	proof := SHA256.Proof(keys, message)
	require.True(t, SHA256.Proves(keys.Stored, message, proof))
	require.False(t, SHA256.Proves(keys.Stored, []byte("other"), proof))
	require.False(t, SHA256.Proves(keys.Stored, message, proof[1:]))
	require.False(t, SHA256.Proves(keys.Stored, message, nil))
}
