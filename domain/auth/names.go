package auth

import (
	"context"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// reservedNames are those that people would take for the operator or the service (RFC 2142 and custom).
var reservedNames = words(`
	abuse account accounts admin administrator administrators admins anonymous api billing bot bots broadcast contact
	daemon echo guest help helpdesk hostmaster info ldap localhost mail mailer-daemon marketing moderator moderators news noc no-reply
	nobody noreply notification notifications official operator operators owner postmaster posthouse privacy register
	registration root sales secretary security server service services staff superuser support sysadmin system
	webmaster www xmpp`)

// reservedNameSet adds the operator's names to the built-in ones. Names that cannot be prepared cannot be registered
// anyway.
func reservedNameSet(more []string) map[string]struct{} {
	set := make(map[string]struct{}, len(reservedNames)+len(more))
	for name := range reservedNames {
		set[name] = struct{}{}
	}
	for _, name := range more {
		if prepared, err := jid.PrepareLocal(name); err == nil {
			set[prepared] = struct{}{}
		}
	}
	return set
}

// checkNewName decides whether anybody may register a prepared name. The rule is a small part of UTS 39 that can be
// explained:
//
//  1. Letters come from one script, or from Latin with those of one East Asian language, which are written together
//     (UTS 39 §5.2, "highly restrictive"). So "admіn" with a Cyrillic letter is refused, and a name all in Cyrillic is
//     not.
//  2. Digits come from one set of ten.
//  3. A name all in Cyrillic or Greek that looks like Latin ("сара" for "capa") is refused when the Latin look-alike is
//     reserved or has an account already.
//
// Look-alikes within one script ("rn" and "m", "l" and "1") are not found. The error is a Refusal or comes from the
// store.
func (a *Authenticator) checkNewName(ctx context.Context, name string) error {
	if _, reserved := a.reserved[name]; reserved {
		return RefusedNameReserved
	}
	if isASCII(name) {
		return nil
	}
	if !singleScript(name) {
		return RefusedNameConfusable
	}
	latin, ok := latinLookalike(name)
	if !ok {
		return nil
	}
	if _, reserved := a.reserved[latin]; reserved {
		return RefusedNameConfusable
	}
	_, taken, err := a.directory.Lookup(ctx, latin)
	if err != nil {
		return err
	}
	if taken {
		return RefusedNameConfusable
	}
	return nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// together are the sets of scripts that one language is written in, beside Latin.
var together = [][]string{
	{"Han", "Hiragana", "Katakana"},
	{"Han", "Hangul"},
	{"Han", "Bopomofo"},
}

// singleScript checks rules 1 and 2.
func singleScript(name string) bool {
	scripts := make(map[string]bool)
	zero := rune(-1) // the zero of the digits in use
	for _, r := range name {
		if unicode.Is(unicode.Nd, r) {
			z := r - rune(digitValue(r))
			if zero >= 0 && z != zero {
				return false
			}
			zero = z
		}
		if s := scriptOf(r); s != "Common" && s != "Inherited" {
			scripts[s] = true
		}
	}
	if len(scripts) <= 1 {
		return true
	}
	delete(scripts, "Latin")
	for _, set := range together {
		n := 0
		for _, s := range set {
			if scripts[s] {
				n++
			}
		}
		if n == len(scripts) {
			return true
		}
	}
	return false
}

func scriptOf(r rune) string {
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return "Unknown"
}

// digitValue returns what a decimal digit stands for. Unicode lays the digits of a set out in a row that begins with
// its zero, and rows that follow each other do so in tens.
func digitValue(r rune) int {
	for _, row := range unicode.Nd.R16 {
		if rune(row.Lo) <= r && r <= rune(row.Hi) {
			return int(r-rune(row.Lo)) % 10
		}
	}
	for _, row := range unicode.Nd.R32 {
		if rune(row.Lo) <= r && r <= rune(row.Hi) {
			return int(r-rune(row.Lo)) % 10
		}
	}
	return 0
}

// lookalikes are small letters that most typefaces draw like a Latin one (a part of UTS 39's confusables).
var lookalikes = strings.NewReplacer(
	// Cyrillic
	"а", "a", "с", "c", "ԁ", "d", "е", "e", "һ", "h", "і", "i", "ј", "j", "ӏ", "l", "о", "o", "р", "p", "ԛ", "q", "ѕ",
	"s", "ѵ", "v", "ԝ", "w",
	"х", "x", "у", "y", "г", "r", "п", "n", "к", "k", "м", "m", "т", "t", "в", "b", "н", "h",
	// Greek
	"α", "a", "ο", "o", "ν", "v", "ρ", "p", "υ", "u", "ι", "i", "κ", "k", "χ", "x", "γ", "y", "η", "n", "τ", "t", "ω",
	"w", "σ", "o", "ε", "e",
)

// latinLookalike returns the ASCII name that looks like this one, ok false when there is none.
func latinLookalike(name string) (latin string, ok bool) {
	var b strings.Builder
	for _, r := range norm.NFD.String(name) {
		if !unicode.Is(unicode.Mn, r) { // accents do not tell names apart at a glance
			b.WriteRune(r)
		}
	}
	latin = lookalikes.Replace(b.String())
	return latin, isASCII(latin)
}
