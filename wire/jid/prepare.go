package jid

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/bidirule"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// usernameCaseMapped is the profile of RFC 8265 §3.3 but for its directionality rule, see followsBidiRule. The one of
// x/text applies that rule to every string, and so refuses "1m\u00fcller" for its digit, which the RFC does not.
var usernameCaseMapped = precis.NewIdentifier(precis.FoldWidth, precis.LowerCase(), precis.Norm(norm.NFC))

// followsBidiRule applies the Bidi Rule (RFC 5893 §2) to a string with right-to-left code points, as RFC 8265 §3.3.2
// step 5 says; others have no direction to check.
func followsBidiRule(s string) bool {
	return bidirule.DirectionString(s) != bidi.RightToLeft || bidirule.ValidString(s)
}

const (
	// maxRawPart bounds a part before preparation, so that the work is bounded. No allowed part needs
	// more: folding shortens a character from three bytes to one at most, composition does no better.
	maxRawPart = 4 * MaxPart
	// maxRaw bounds an address before it is cut.
	maxRaw = 3*maxRawPart + 2
	// maxRounds is how often a profile is applied until its result is stable (RFC 8264 §7: up to
	// three more times after the first).
	maxRounds = 4
)

// PrepareLocal returns the canonical form of a localpart: UsernameCaseMapped (RFC 8265 §3.3), then without
// the characters of RFC 7622 §3.3.1, which the profile does not exclude and which width folding can produce.
// The error is an *Error. A canonical ASCII string is returned as it is, without allocation.
func PrepareLocal(s string) (string, error) {
	if all(s, classLocal) && len(s) <= MaxPart && s != "" {
		return s, nil
	}
	if err := checkRaw(PartLocal, s); err != nil {
		return "", err
	}
	if lower := lowerASCII(s); all(lower, classLocal) && len(lower) <= MaxPart {
		return lower, nil
	}
	s, err := enforce(PartLocal, usernameCaseMapped, s)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(s, localExcluded) || !followsBidiRule(s) {
		return "", refuse(PartLocal, ReasonCharacter)
	}
	return s, nil
}

// PrepareResource returns the canonical form of a resourcepart: OpaqueString (RFC 8265 §4.2). Leading and
// trailing spaces are kept: the profile allows them, against example 18 of RFC 7622 §3.5.
// The error is an *Error. A canonical ASCII string is returned as it is, without allocation.
func PrepareResource(s string) (string, error) {
	if all(s, classResource) && len(s) <= MaxPart && s != "" {
		return s, nil
	}
	if err := checkRaw(PartResource, s); err != nil {
		return "", err
	}
	return enforce(PartResource, precis.OpaqueString, s)
}

// checkRaw refuses what must not reach normalisation: nothing, too much, and broken UTF-8, which has
// sent x/text/unicode/norm into endless loops (CVE-2020-14040, CVE-2026-56852).
func checkRaw(part Part, s string) error {
	switch {
	case s == "":
		return refuse(part, ReasonEmpty)
	case len(s) > maxRawPart:
		return refuse(part, ReasonTooLong)
	case !utf8.ValidString(s):
		return refuse(part, ReasonEncoding)
	}
	return nil
}

// enforce applies a profile until its result is stable, so that preparation is idempotent.
func enforce(part Part, profile *precis.Profile, s string) (string, error) {
	for range maxRounds {
		prepared, err := profile.String(s)
		if err != nil {
			return "", refuse(part, ReasonCharacter)
		}
		if prepared != s {
			s = prepared
			continue
		}
		switch {
		case s == "":
			return "", refuse(part, ReasonEmpty)
		case len(s) > MaxPart:
			return "", refuse(part, ReasonTooLong)
		}
		return s, nil
	}
	return "", refuse(part, ReasonUnstable)
}

// lowerASCII returns s with ASCII capitals made small, as every profile here does with them.
func lowerASCII(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
