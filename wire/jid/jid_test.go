package jid_test

import (
	"errors"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// The table of RFC 7622 §3.5, numbers 1 to 15.
func TestParseValidExamplesOfRFC7622(t *testing.T) {
	for _, tc := range []struct {
		in, local, domain, resource string
	}{
		{"juliet@example.com", "juliet", "example.com", ""},
		{"juliet@example.com/foo", "juliet", "example.com", "foo"},
		{"juliet@example.com/foo bar", "juliet", "example.com", "foo bar"},
		{"juliet@example.com/foo@bar", "juliet", "example.com", "foo@bar"},
		{`foo\20bar@example.com`, `foo\20bar`, "example.com", ""},
		{"fussball@example.com", "fussball", "example.com", ""},
		{"fu\u00dfball@example.com", "fu\u00dfball", "example.com", ""},
		{"\u03c0@example.com", "\u03c0", "example.com", ""},
		{"\u03a3@example.com/foo", "\u03c3", "example.com", "foo"},
		{"\u03c3@example.com/foo", "\u03c3", "example.com", "foo"},
		{"\u03c2@example.com/foo", "\u03c2", "example.com", "foo"},
		{"king@example.com/\u265a", "king", "example.com", "\u265a"},
		{"example.com", "", "example.com", ""},
		{"example.com/foobar", "", "example.com", "foobar"},
		{"a.example.com/b@example.net", "", "a.example.com", "b@example.net"},
	} {
		j, err := jid.Parse(tc.in)
		require.NoError(t, err, tc.in)
		require.Equal(t, tc.local, j.Local(), tc.in)
		require.Equal(t, tc.domain, j.Domain(), tc.in)
		require.Equal(t, tc.resource, j.Resource(), tc.in)
	}
}

// The table of RFC 7622 §3.5, numbers 16 to 23. Number 18 (a leading space in a resourcepart) is allowed by the
// profile that the same RFC prescribes, and is in TestParseResource.
func TestParseInvalidExamplesOfRFC7622(t *testing.T) {
	for in, part := range map[string]jid.Part{
		`"juliet"@example.com`:    jid.PartLocal,
		"foo bar@example.com":     jid.PartLocal,
		"@example.com/":           jid.PartResource,
		"henry\u2163@example.com": jid.PartLocal,
		"\u265a@example.com":      jid.PartLocal,
		"juliet@":                 jid.PartDomain,
		"/foobar":                 jid.PartDomain,
	} {
		requireRefused(t, in, part)
	}
}

// Localparts of abuse row A54: one canonical form for each, or none.
func TestParseLocal(t *testing.T) {
	for in, want := range map[string]string{
		"Juliet":                   "juliet",
		"JULIET":                   "juliet",
		"juliet!#$%*+-.=?^_":       "juliet!#$%*+-.=?^_",
		"\uff2a\uff35\uff2c":       "jul",          // full-width letters
		"\u212a":                   "k",            // Kelvin sign
		"\u212b":                   "\u00e5",       // Angstrom sign
		"A\u030a":                  "\u00e5",       // decomposed
		"\u0130":                   "i\u0307",      // capital I with dot
		"\uff76\uff9e":             "\u30ac",       // half-width katakana, then composed
		"\u05d0\u05d1":             "\u05d0\u05d1", // Hebrew
		"\u0628\u0627\u0628":       "\u0628\u0627\u0628",
		"\u043f\u0451\u0442\u0440": "\u043f\u0451\u0442\u0440",
		"\u041f\u0401\u0422\u0420": "\u043f\u0451\u0442\u0440",
		"1m\u00fcller":             "1m\u00fcller", // no right-to-left character, so no Bidi Rule
		"_\u00e9-":                 "_\u00e9-",
		"l\u00b7l":                 "l\u00b7l", // context rule: middle dot between two l
		"\u0915\u094d\u200d\u0937": "\u0915\u094d\u200d\u0937",
	} {
		j, err := jid.Parse(in + "@example.com")
		require.NoError(t, err, "%+q", in)
		require.Equal(t, want, j.Local(), "%+q", in)
		require.Equal(t, want+"@example.com", j.String())
	}
	for _, in := range []string{
		"\u017f",                        // long s: compatibility
		"\ufb01x",                       // fi ligature
		"\u00b5",                        // micro sign: compatibility
		"\u2460",                        // circled one
		"a\u200db",                      // ZWJ out of its context
		"a\u200cb",                      // ZWNJ out of its context
		"a\u200bb",                      // ZWSP
		"a\u00adb",                      // soft hyphen
		"\u202eabc",                     // RTL override
		"\u05d0a", "1\u05d0", "a\u0661", // bidi rule
		"a\u00b7b",        // middle dot out of its context
		"\u0660\u06f0",    // two kinds of Arabic digits
		"a b", "a\u00a0b", // spaces
		"a\x00b", "a\x7fb", "a\tb", // controls
		"\U000e0041", "\ue000", // tag, private use
		"\ufdd0", "\uffff", // noncharacters
		"\U0001f600",                 // symbol
		"\uff20", "\uff0f", "\uff1a", // full-width @ / : become excluded characters
		"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", // not UTF-8
	} {
		requireRefused(t, in+"@example.com", jid.PartLocal)
	}
	for _, c := range `"&':<>` {
		requireRefused(t, "ju"+string(c)+"liet@example.com", jid.PartLocal)
	}
	for _, in := range []string{"ju@liet", "ju/liet", "@", "/"} {
		_, err := jid.PrepareLocal(in)
		requireError(t, err, jid.PartLocal, in)
	}
	_, err := jid.PrepareLocal("")
	requireError(t, err, jid.PartLocal, "")
}

func TestParseResource(t *testing.T) {
	for in, want := range map[string]string{
		" foo":           " foo",
		"foo ":           "foo ",
		"a\u00a0b":       "a b", // no-break space
		"a\u3000b":       "a b", // ideographic space
		"Balcony":        "Balcony",
		"a/b":            "a/b",
		`"&'<>@:`:        `"&'<>@:`,
		"e\u0301":        "\u00e9",
		"\u2163":         "\u2163",
		"\uff21":         "\uff21", // width is kept
		"\U0001f600":     "\U0001f600",
		"\u05d0a\u0301b": "\u05d0\u00e1b",
	} {
		j, err := jid.Parse("juliet@example.com/" + in)
		require.NoError(t, err, "%+q", in)
		require.Equal(t, want, j.Resource(), "%+q", in)
	}
	for _, in := range []string{"", "\x00", "a\nb", "\x7f", "\u200b", "\ufeff", "\u202e", "\u1100", "\xff", "\xe2\x82",
		"\ufffe"} {
		requireRefused(t, "juliet@example.com/"+in, jid.PartResource)
	}
}

// Domains of abuse row A56.
func TestPrepareDomain(t *testing.T) {
	for in, want := range map[string]string{
		"localhost":                         "localhost",
		"EXAMPLE.com":                       "example.com",
		"example.com.":                      "example.com",
		"example.com\u3002":                 "example.com",
		"example\uff0ecom":                  "example.com",
		"example\uff61com":                  "example.com",
		"a-b.c-d":                           "a-b.c-d",
		"3com.example":                      "3com.example",
		"1.2.3.4":                           "1.2.3.4",
		"1.2.3.4.":                          "1.2.3.4",
		"1.example":                         "1.example",
		"example.4you":                      "example.4you",
		"0xcafe.example":                    "0xcafe.example",
		"[::1]":                             "[::1]",
		"[2001:DB8:0:0:0:0:0:1]":            "[2001:db8::1]",
		"[2001:db8::192.0.2.1]":             "[2001:db8::c000:201]",
		"[::ffff:192.0.2.1]":                "[::ffff:192.0.2.1]",
		"b\u00fccher.example":               "b\u00fccher.example",
		"B\u00dcCHER.example":               "b\u00fccher.example",
		"bu\u0308cher.example":              "b\u00fccher.example",
		"xn--bcher-kva.example":             "b\u00fccher.example",
		"XN--BCHER-KVA.example":             "b\u00fccher.example",
		"fa\u00df.example":                  "fa\u00df.example",
		"xn--fa-hia.example":                "fa\u00df.example",
		"\u03b2\u03cc\u03bb\u03bf\u03c2.gr": "\u03b2\u03cc\u03bb\u03bf\u03c2.gr",
		"\uff45\uff58\uff41.com":            "exa.com",
		"\uff11.2.3.4":                      "1.2.3.4",
		"\u4f8b\u3048.\u30c6\u30b9\u30c8":   "\u4f8b\u3048.\u30c6\u30b9\u30c8",
		"\u05d0\u05d1.example":              "\u05d0\u05d1.example",
		"ex\u00adample.com":                 "example.com", // mapping drops the soft hyphen
	} {
		got, err := jid.PrepareDomain(in)
		require.NoError(t, err, "%+q", in)
		require.Equal(t, want, got, "%+q", in)
	}
	for _, in := range []string{
		"", ".", "..", ".example.com", "example..com", "example.com..", "example.com.\u3002",
		"under_score.example", "_xmpp._tcp.example", // NR-LDH labels only
		"-a.example", "a-.example", "ab--cd.example", "exam ple.com", "a\x00.com", "a/b", "a:5222", "a%b", "a@b",
		"xn--example-.com", // punycode of plain ASCII
		"xn--.com", "xn--a", "xn--\u00fc.com",
		"xn--bcher-kv!.example",
		"xn--A-iga.example\u0000",
		"xn--fu-hia-.example",
		"\u2665.example", // a symbol: valid in UTS 46, not in IDNA2008
		"\U0001f4a9.la", "xn--ls8h.la",
		"xn--Kelvin-.example",
		"a\u200db.example", // ZWJ out of its context
		"\u0301a.example",  // begins with a combining mark
		"\u05d0a.example",  // bidi rule
		"\ufffd.example", "\xff.example", "b\xc3.example",
		"a\u00b7b.example", // middle dot out of its context
		strings.Repeat("a", 64) + ".example",
		strings.Repeat("\u00fc", 60) + ".example",
		strings.Repeat("\u00fc", 5000),
		strings.Repeat("a.", 512) + "a",
		"127.1", "0177.0.0.1.", "256.1.1.1", "1.2.3.4.5", "0x7f000001", "a.0x7f", "12345", "1.2.3.04",
		"[", "[]", "[::1", "::1", "[1.2.3.4]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[v1.x]", "[::1]x", "[::1].",
	} {
		_, err := jid.PrepareDomain(in)
		requireError(t, err, jid.PartDomain, in)
	}
}

// The limits of abuse row A55: 1,023 bytes for each part, after mapping.
func TestParseLimits(t *testing.T) {
	long := strings.Repeat("a", 1023)
	domain := strings.Repeat("a.", 511) + "a"
	j, err := jid.Parse(long + "@" + domain + "/" + long)
	require.NoError(t, err)
	require.Len(t, j.String(), 3*1023+2)
	require.Equal(t, long, j.Local())
	require.Equal(t, domain, j.Domain())
	require.Equal(t, long, j.Resource())
	require.Equal(t, long+"@"+domain, j.Bare().String())

	requireRefused(t, long+"a@"+domain, jid.PartLocal)
	requireRefused(t, "a@"+domain+".b", jid.PartDomain)
	requireRefused(t, "a@"+domain+"/"+long+"a", jid.PartResource)
	requireRefused(t, strings.Repeat("a", 1<<20), jid.PartAddress)

	// Folded from three bytes a character to one: within the limit after mapping, not before.
	j, err = jid.Parse(strings.Repeat("\uff21", 1023) + "@example.com")
	require.NoError(t, err)
	require.Equal(t, long, j.Local())
	requireRefused(t, strings.Repeat("\uff21", 1024)+"@example.com", jid.PartLocal)
	// Grown by mapping from two bytes a character to three.
	requireRefused(t, strings.Repeat("\u0130", 400)+"@example.com", jid.PartLocal)
}

func TestParseEmpty(t *testing.T) {
	requireRefused(t, "", jid.PartDomain)
	requireRefused(t, "@", jid.PartLocal)
	requireRefused(t, "@example.com", jid.PartLocal)
	requireRefused(t, "example.com/", jid.PartResource)
	requireRefused(t, "juliet@/balcony", jid.PartDomain)
}

func TestNew(t *testing.T) {
	j, err := jid.New("Juliet", "Example.COM.", "Balcony")
	require.NoError(t, err)
	require.Equal(t, jid.MustParse("juliet@example.com/Balcony"), j)
	j, err = jid.New("", "example.com", "")
	require.NoError(t, err)
	require.True(t, j.IsBare())
	require.Equal(t, jid.MustParse("example.com"), j)
	// Separators inside a part do not move the borders.
	_, err = jid.New("a@b", "example.com", "")
	requireError(t, err, jid.PartLocal, "a@b")
	_, err = jid.New("a", "example.com/x", "")
	requireError(t, err, jid.PartDomain, "example.com/x")
	j, err = jid.New("", "example.com", "a@b/c")
	require.NoError(t, err)
	require.Equal(t, "a@b/c", j.Resource())
	require.Equal(t, j, jid.MustParse(j.String()))
}

func TestJIDIsComparable(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(jid.JID{}), uintptr(24))
	seen := map[jid.JID]bool{jid.MustParse("JULIET@example.com/a").Bare(): true}
	require.True(t, seen[jid.MustParse("juliet@EXAMPLE.com")])
	require.False(t, seen[jid.MustParse("juliet@example.com/a")])
	require.Equal(t, jid.MustParse("example.com"), jid.MustParse("juliet@example.com/a").DomainJID())
	require.Equal(t, jid.MustParse("example.com"), jid.MustParse("example.com/a").Bare())
}

func TestWithResource(t *testing.T) {
	j, err := jid.MustParse("juliet@example.com/old").WithResource("new")
	require.NoError(t, err)
	require.Equal(t, jid.MustParse("juliet@example.com/new"), j)
	_, err = j.WithResource("")
	requireError(t, err, jid.PartResource, "")
	_, err = j.WithResource("a\x00")
	requireError(t, err, jid.PartResource, "a\x00")
	_, err = jid.JID{}.WithResource("a")
	requireError(t, err, jid.PartDomain, "")
}

func TestParseBytesCopies(t *testing.T) {
	b := []byte("juliet@example.com/balcony")
	j, err := jid.ParseBytes(b)
	require.NoError(t, err)
	for i := range b {
		b[i] = 'x'
	}
	require.Equal(t, "juliet@example.com/balcony", j.String())
	_, err = jid.ParseBytes(make([]byte, 1<<20))
	requireError(t, err, jid.PartAddress, "1 MiB")
}

func TestMustParsePanics(t *testing.T) {
	require.Panics(t, func() { jid.MustParse("@") })
}

func TestCanonicalAddressesDoNotAllocate(t *testing.T) {
	for _, s := range []string{"juliet@example.com", "juliet@example.com/balcony", "example.com", "localhost"} {
		require.Zero(t, testing.AllocsPerRun(100, func() { jid.MustParse(s) }), s)
	}
}

// A clone equals the address and does not keep the text alive that it was parsed from.
func TestClone(t *testing.T) {
	text := "to juliet@example.com/balcony, and much more"
	j, err := jid.Parse(text[3:29])
	require.NoError(t, err)
	require.Same(t, unsafe.StringData(text[3:]), unsafe.StringData(j.String()), "or the test shows nothing")
	c := j.Clone()
	require.Equal(t, j, c)
	require.NotSame(t, unsafe.StringData(j.String()), unsafe.StringData(c.String()))
	require.True(t, jid.JID{}.Clone().IsZero())
}

func requireRefused(t *testing.T, in string, part jid.Part) {
	t.Helper()
	j, err := jid.Parse(in)
	require.True(t, j.IsZero(), "%+q became %+q", in, j)
	requireError(t, err, part, in)
}

func requireError(t *testing.T, err error, part jid.Part, in string) {
	t.Helper()
	var typed *jid.Error
	require.True(t, errors.As(err, &typed), "%+q: %v", in, err)
	require.Equal(t, part, typed.Part, "%+q: %v", in, err)
	require.NotContains(t, err.Error(), "example")
}
