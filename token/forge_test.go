package token_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/token"
)

func encode(b string) string { return base64.RawURLEncoding.EncodeToString([]byte(b)) }

// signed signs header and payload with our own key, as only we can.
func signed(key ed25519.PrivateKey, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(input)))
}

// parts returns header and payload of a token.
func parts(t *testing.T, access string) (header, payload string) {
	t.Helper()
	p := strings.Split(access, ".")
	require.Len(t, p, 3)
	h, err := base64.RawURLEncoding.DecodeString(p[0])
	require.NoError(t, err)
	b, err := base64.RawURLEncoding.DecodeString(p[1])
	require.NoError(t, err)
	return string(h), string(b)
}

// TestAlgorithms (row 73 of the table of known holes): one algorithm, one kind of token, our own keys; whatever a
// header says beside it.
func TestAlgorithms(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	pair := p.issue(t, "romeo", "phone")
	keys, err := p.db.SigningKeys(t.Context())
	require.NoError(t, err)
	ours := ed25519.NewKeyFromSeed(keys[0].Private)
	public := ours.Public().(ed25519.PublicKey)
	header, payload := parts(t, pair.Access)
	kid := keys[0].ID
	_, err = p.Verify(t.Context(), signed(ours, header, payload))
	require.NoError(t, err, "the test signs as we do")

	hmacWith := func(key []byte, alg string) string {
		input := encode(fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, kid)) + "." + encode(payload)
		m := hmac.New(sha256.New, key)
		m.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	_, theirs, err := ed25519.GenerateKey(bytes.NewReader(make([]byte, 64)))
	require.NoError(t, err)
	jwk, err := json.Marshal(jose.JSONWebKey{Key: theirs.Public(), KeyID: kid, Algorithm: "EdDSA"})
	require.NoError(t, err)
	claim := func(old, replacement string) string {
		require.Contains(t, payload, old)
		return signed(ours, header, strings.Replace(payload, old, replacement, 1))
	}
	account := regexp.MustCompile(`"account":"\d+"`).FindString(payload)
	require.NotEmpty(t, account, "it is no number of JSON")
	for name, text := range map[string]string{
		"none": encode(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`) + "." + encode(payload) +
			".",
		"None": encode(`{"alg":"None","kid":"`+kid+`","typ":"at+jwt"}`) + "." + encode(payload) +
			".",
		"no algorithm":          signed(ours, `{"kid":"`+kid+`","typ":"at+jwt"}`, payload),
		"another name for ours": signed(ours, `{"alg":"Ed25519","kid":"`+kid+`","typ":"at+jwt"}`, payload),
		"HMAC with our key":     hmacWith(public, "HS256"),
		"HMAC with its text":    hmacWith([]byte(base64.RawURLEncoding.EncodeToString(public)), "HS256"),
		"HMAC called ours":      hmacWith(public, "EdDSA"),
		"their key":             signed(theirs, header, payload),
		"their key in the header": signed(theirs, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","jwk":`+string(jwk)+
			`}`, payload),
		"a key elsewhere": signed(theirs, `{"alg":"EdDSA","kid":"`+kid+
			`","typ":"at+jwt","jku":"https://example.org/jwks"}`, payload),
		"no key":                signed(ours, `{"alg":"EdDSA","typ":"at+jwt"}`, payload),
		"an unknown key":        signed(ours, `{"alg":"EdDSA","kid":"x","typ":"at+jwt"}`, payload),
		"a path as key":         signed(ours, `{"alg":"EdDSA","kid":"../../dev/null","typ":"at+jwt"}`, payload),
		"another kind of token": signed(ours, `{"alg":"EdDSA","kid":"`+kid+`","typ":"JWT"}`, payload),
		"no kind":               signed(ours, `{"alg":"EdDSA","kid":"`+kid+`"}`, payload),
		"unknown and critical": signed(ours, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","crit":["x"],"x":1}`,
			payload),
		"not encoded": signed(ours, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","crit":["b64"],"b64":false}`,
			payload),
		"header twice":      signed(ours, `{"alg":"EdDSA","alg":"none","kid":"`+kid+`","typ":"at+jwt"}`, payload),
		"no signature":      strings.Join(strings.Split(pair.Access, ".")[:2], ".") + ".",
		"cut":               pair.Access[:len(pair.Access)-4],
		"a space":           " " + pair.Access,
		"a line end":        pair.Access[:300] + "\n" + pair.Access[300:],
		"bits nobody reads": pair.Access[:len(pair.Access)-1] + string(pair.Access[len(pair.Access)-1]+1),
		"a part more":       pair.Access + ".x",
		"JSON serialization": `{"payload":"` + encode(payload) + `","protected":"` + encode(header) +
			`","signature":"` + strings.Split(pair.Access, ".")[2] + `"}`,
		"encrypted": encode(`{"alg":"dir","enc":"A256GCM","kid":"`+kid+`"}`) + "..." + encode(payload) + ".x",
		"too long":  signed(ours, header, payload[:len(payload)-1]+`,"x":"`+strings.Repeat("x", 8<<10)+`"}`),
		"many dots": strings.Repeat(".", 8000),
		"empty":     "",

		"another issuer":    claim(`"iss":"posthouse.test"`, `"iss":"example.org"`),
		"another audience":  claim(`"aud":"posthouse.test"`, `"aud":"example.org"`),
		"another domain":    claim(`"sub":"romeo@posthouse.test"`, `"sub":"romeo@example.org"`),
		"a full address":    claim(`"sub":"romeo@posthouse.test"`, `"sub":"romeo@posthouse.test/x"`),
		"the domain itself": claim(`"sub":"romeo@posthouse.test"`, `"sub":"posthouse.test"`),
		"no account":        claim(account, `"account":"0"`),
		"no device":         claim(`"device":"phone"`, `"device":""`),
		"never ends":        claim(`"exp":`, `"x":`),
		"never begins":      claim(`"nbf":`, `"x":`),
		"a claim twice":     claim(`"sub":`, `"sub":"juliet@posthouse.test","sub":`),
		"no object":         signed(ours, header, `["romeo@posthouse.test"]`),
	} {
		_, err := p.Verify(t.Context(), text)
		require.ErrorIs(t, err, token.ErrInvalid, name)
	}
	for name, text := range map[string]string{
		"another account": claim(account, `"account":"2"`),
		"another name":    claim(`"sub":"romeo@posthouse.test"`, `"sub":"juliet@posthouse.test"`),
		"another device":  claim(`"device":"phone"`, `"device":"laptop"`),
	} {
		_, err := p.Verify(t.Context(), text)
		require.ErrorIs(t, err, token.ErrRevoked, name)
	}
	got, err := p.Verify(t.Context(), claim(`"scope":"user"`, `"scope":"user admin message.send_as"`))
	require.NoError(t, err)
	require.Equal(t, []token.Scope{token.ScopeUser}, got.Scopes, "what a person's token can say")
}

// TestKeysRotate: a new key every month; the old one is published until its tokens are over, and every process knows
// both.
func TestKeysRotate(t *testing.T) {
	w := newWorld(t)
	here, there := w.open(), w.open()
	names := func(p *process) (out []string) {
		var set jose.JSONWebKeySet
		require.NoError(t, json.Unmarshal(p.KeySet(), &set))
		for _, k := range set.Keys {
			require.True(t, k.IsPublic(), "the private half is not published")
			require.Equal(t, "EdDSA", k.Algorithm)
			require.Equal(t, "sig", k.Use)
			require.True(t, k.Valid())
			out = append(out, k.KeyID)
		}
		return out
	}
	require.Len(t, names(here), 1)
	require.Equal(t, names(here), names(there))
	w.clock.pass(30*24*time.Hour - time.Second)
	require.NoError(t, here.Rotate(t.Context()))
	require.Len(t, names(here), 1)
	old := there.issue(t, "romeo", "phone")
	w.clock.pass(time.Second)
	require.NoError(t, here.Rotate(t.Context()))
	require.Len(t, names(here), 2)
	fresh := here.issue(t, "romeo", "laptop")
	oldHeader, _ := parts(t, old.Access)
	freshHeader, _ := parts(t, fresh.Access)
	require.NotEqual(t, oldHeader, freshHeader)
	// the other one looks into the store when it meets a key that it does not know
	for _, p := range []*process{here, there} {
		for _, access := range []string{old.Access, fresh.Access} {
			_, err := p.Verify(t.Context(), access)
			require.NoError(t, err)
		}
	}
	require.Equal(t, names(here), names(there))
	require.NoError(t, there.Rotate(t.Context()))
	require.Len(t, names(there), 2, "the key is young: nothing to do")

	w.clock.pass(15 * time.Minute)
	require.NoError(t, here.Rotate(t.Context()))
	require.Len(t, names(here), 2)
	w.clock.pass(5 * time.Minute)
	for range 2 { // it is removed, and then not read any more
		require.NoError(t, here.Rotate(t.Context()))
	}
	require.Len(t, names(here), 1)
	_, err := here.Verify(t.Context(), old.Access)
	require.Error(t, err)
}

// TestReplace: a new key now; the tokens that were signed before go on, or end at once where it is done and with the
// next look elsewhere.
func TestReplace(t *testing.T) {
	w := newWorld(t)
	here, there := w.open(), w.open()
	old := here.issue(t, "romeo", "phone")
	verify := func(p *process, access string) error {
		_, err := p.Verify(t.Context(), access)
		return err
	}
	require.NoError(t, here.Replace(t.Context(), false))
	fresh := here.issue(t, "romeo", "laptop")
	for _, p := range []*process{here, there} {
		require.NoError(t, verify(p, old.Access))
		require.NoError(t, verify(p, fresh.Access))
		w.clock.pass(time.Second)
	}
	require.NoError(t, here.Replace(t.Context(), true))
	require.ErrorIs(t, verify(here, old.Access), token.ErrInvalid)
	require.ErrorIs(t, verify(here, fresh.Access), token.ErrInvalid)
	require.NoError(t, there.Rotate(t.Context()))
	require.ErrorIs(t, verify(there, old.Access), token.ErrInvalid)
	require.Equal(t, here.KeySet(), there.KeySet())
	next, _, err := there.Refresh(t.Context(), fresh.Refresh)
	require.NoError(t, err)
	require.NoError(t, verify(here, next.Access))
}

// TestUnknownKeys: whoever makes up names of keys makes us look into the store once a second at most.
func TestUnknownKeys(t *testing.T) {
	w := newWorld(t)
	counted := &countedKeys{}
	p := w.open(func(c *token.Config) { counted.signingKeys = c.Keys; c.Keys = counted })
	_, theirs, err := ed25519.GenerateKey(bytes.NewReader(make([]byte, 64)))
	require.NoError(t, err)
	before := counted.reads.Load()
	for i := range 100 {
		_, err := p.Verify(t.Context(),
			signed(theirs, fmt.Sprintf(`{"alg":"EdDSA","kid":"k%d","typ":"at+jwt"}`, i), `{}`))
		require.ErrorIs(t, err, token.ErrInvalid)
		w.clock.pass(100 * time.Millisecond)
	}
	require.LessOrEqual(t, counted.reads.Load()-before, int64(10))
	require.InDelta(t, 0, p.metric(t, "posthouse_token_signatures_total"), 0)
}

// TestFirstStartAtOnce: several processes that start on an empty store agree on one key.
func TestFirstStartAtOnce(t *testing.T) {
	w := newWorld(t)
	first := w.open()
	for range 3 {
		require.Equal(t, first.KeySet(), w.open().KeySet())
	}
}

// TestNoSecretsTold: neither errors nor the log say what was shown or made.
func TestNoSecretsTold(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	pair := p.issue(t, "romeo", "phone")
	next, _, err := p.Refresh(t.Context(), pair.Refresh)
	require.NoError(t, err)
	w.clock.pass(time.Hour)
	secret, _, err := p.NewServiceKey(t.Context(), "desk", []token.Scope{token.ScopeSend}, time.Time{})
	require.NoError(t, err)
	told := ""
	for _, text := range []string{pair.Access, next.Access + "x", pair.Refresh, next.Refresh, next.Refresh + "x",
		secret, secret[:40], secret + "x"} {
		_, err := p.Check(t.Context(), text)
		told += fmt.Sprint(err)
		_, _, err = p.Refresh(t.Context(), text)
		told += fmt.Sprint(err)
	}
	_, _, err = p.NewServiceKey(t.Context(), "desk", []token.Scope{token.ScopeSend}, time.Time{})
	told += fmt.Sprint(err) + w.log.String()
	require.Contains(t, told, "token.reused")
	keys, err := p.db.SigningKeys(t.Context())
	require.NoError(t, err)
	for _, s := range []string{
		pair.Access, pair.Refresh, next.Access, next.Refresh, secret, strings.Split(pair.Access, ".")[2],
		pair.Refresh[4:44], secret[21:],
		string(keys[0].Private), base64.StdEncoding.EncodeToString(keys[0].Private), string(w.secret),
	} {
		require.NotContains(t, told, s)
	}
}

// FuzzVerify: whatever is shown, the answer is one of ours, and nobody is let in who shows anything but what was
// issued.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	p := w.open(func(c *token.Config) { c.Random = &steps{} }) // the same tokens in every process of the fuzzer
	pair := p.issue(f, "romeo", "phone")
	secret, _, err := p.NewServiceKey(f.Context(), "desk", []token.Scope{token.ScopeSend}, time.Time{})
	require.NoError(f, err)
	keys, err := p.db.SigningKeys(f.Context())
	require.NoError(f, err)
	kid := keys[0].ID
	for _, text := range []string{
		"", "a.b.c", pair.Access, pair.Refresh, secret, pair.Access[:200], secret[:30] + strings.Repeat("A", 34),
		"phr_AAAA",
		encode(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`) + "." + encode(`{"iss":"posthouse.test"}`) + ".",
		encode(`{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","crit":["b64"],"b64":false}`) + "." + encode(`{}`) + "." +
			strings.Repeat("A", 86),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := p.Check(t.Context(), text)
		if known(err) != (got == nil) || got == nil && err == nil {
			t.Fatalf("%v, %v", got, err)
		}
		if got != nil && text != pair.Access && text != secret {
			t.Fatalf("%q was let in", text)
		}
		if text == pair.Refresh {
			return
		}
		if _, _, err := p.Refresh(t.Context(), text); !errors.Is(err, token.ErrInvalid) {
			t.Fatalf("%q renews: %v", text, err)
		}
	})
}

// steps is a source of randomness that has none.
type steps struct{ n byte }

func (s *steps) Read(p []byte) (int, error) {
	for i := range p {
		s.n++
		p[i] = s.n * 7
	}
	return len(p), nil
}

// known reports whether an error is one that whoever shows something is told.
func known(err error) bool {
	return errors.Is(err, token.ErrInvalid) || errors.Is(err, token.ErrExpired) || errors.Is(err, token.ErrRevoked)
}
