package jid

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"
)

// maxLabel is the largest length of a label in its ASCII form (RFC 5890 §2.3.1).
const maxLabel = 63

var (
	// profile maps as RFC 5895 and UTS 46 recommend (case, width, NFC) and validates as RFC 5891 §5.4 says. Its own
	// tables let through what Unicode calls valid and IDNA2008 does not, such as symbols: labelClass sees to that.
	profile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule())
	// labelClass has the code points and context rules of RFC 5892 for U-labels: PRECIS IdentifierClass was derived
	// from them and adds only ASCII (RFC 8264 §4.2), which profile holds to letters, digits and the hyphen.
	labelClass = precis.NewIdentifier()
	// dots turns the other label separators of RFC 5895 §2.4 and UTS 46 into the one.
	dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")
)

// PrepareDomain returns the canonical form of a domainpart (RFC 7622 §3.2). The error is an *Error.
// A canonical ASCII domain is returned as it is, without allocation.
//
// What is decided here:
//   - A final dot is removed; names are in lower case.
//   - Every A-label becomes its U-label, so that there is one form (§3.2.1). One that does not come back as itself from
//     there is refused: an ACE form of plain ASCII must never equal that ASCII (CVE-2026-39821).
//   - The underscore is refused, and so are other reserved labels such as ab--cd: §3.2.1 allows NR-LDH labels and
//     U-labels only, and the underscore is in neither. DNS names with an underscore name services, not hosts.
//   - IPv6 addresses stand in brackets and take the form of RFC 5952; a zone is refused (RFC 9844 took zones out).
//   - A name whose last label is a number is IPv4 in its only standard form, or refused: "127.1" or "0x7f000001" would
//     be a name to us and an address to a resolver.
func PrepareDomain(s string) (string, error) {
	if n := canonicalDomain(s); n == len(s) && n > 0 {
		return s, nil
	}
	if err := checkRaw(PartDomain, s); err != nil {
		return "", err
	}
	if s[0] == '[' {
		return prepareIPv6(s)
	}
	if !needsIDNA(s) {
		s = lowerASCII(strings.TrimSuffix(s, "."))
	} else {
		var err error
		if s, err = prepareIDN(strings.TrimSuffix(dots.Replace(s), ".")); err != nil {
			return "", err
		}
	}
	if err := checkDomain(s); err != nil {
		return "", err
	}
	return s, nil
}

func prepareIPv6(s string) (string, error) {
	if s[len(s)-1] == ']' {
		ip, err := netip.ParseAddr(s[1 : len(s)-1])
		if err == nil && ip.Is6() && ip.Zone() == "" {
			return "[" + ip.String() + "]", nil
		}
	}
	return "", refuse(PartDomain, ReasonIP)
}

// needsIDNA reports whether a name has a character outside ASCII or a label that claims to be an A-label.
func needsIDNA(s string) bool {
	label := true
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf || label && hasACEPrefix(s[i:]) {
			return true
		}
		label = s[i] == '.'
	}
	return false
}

func hasACEPrefix(s string) bool { return len(s) >= 4 && strings.EqualFold(s[:4], "xn--") }

// prepareIDN returns the name with all labels as U-labels or NR-LDH labels, mapped to lower case.
func prepareIDN(s string) (string, error) {
	// Punycode costs the square of a label's length. No label of more than 63 characters can be right; four times
	// as much leaves room for what mapping drops.
	for label := range strings.SplitSeq(s, ".") {
		if utf8.RuneCountInString(label) > 4*maxLabel {
			return "", refuse(PartDomain, ReasonLabel)
		}
	}
	unicode, err := profile.ToUnicode(s)
	if err != nil {
		return "", refuse(PartDomain, ReasonLabel)
	}
	for label := range strings.SplitSeq(unicode, ".") {
		if err := checkULabel(label); err != nil {
			return "", err
		}
	}
	// Stable: the way to ASCII and back, and mapping again, must end where they began.
	ascii, err := profile.ToASCII(unicode)
	if err != nil {
		return "", refuse(PartDomain, ReasonLabel)
	}
	back, err := profile.ToUnicode(ascii)
	if err != nil || back != unicode {
		return "", refuse(PartDomain, ReasonLabel)
	}
	if again, err := profile.ToUnicode(unicode); err != nil || again != unicode {
		return "", refuse(PartDomain, ReasonUnstable)
	}
	// A-labels that were given must be what the U-labels give.
	given, made := strings.Split(s, "."), strings.Split(ascii, ".")
	if len(given) != len(made) {
		return "", refuse(PartDomain, ReasonLabel)
	}
	for i, label := range given {
		if hasACEPrefix(label) && !strings.EqualFold(label, made[i]) {
			return "", refuse(PartDomain, ReasonLabel)
		}
	}
	return unicode, nil
}

// checkULabel refuses a label with code points that IDNA2008 does not have, or whose ASCII form is too long.
func checkULabel(label string) error {
	if all(label, classLabel) { // NR-LDH, or a mistake that checkDomain finds
		return nil
	}
	if utf8.RuneCountInString(label) > maxLabel {
		return refuse(PartDomain, ReasonLabel)
	}
	if same, err := labelClass.String(label); err != nil || same != label {
		return refuse(PartDomain, ReasonLabel)
	}
	ascii, err := profile.ToASCII(label)
	if err != nil || len(ascii) > maxLabel {
		return refuse(PartDomain, ReasonLabel)
	}
	return nil
}

// checkDomain checks what holds for every name: its length, its labels' form, and that it is not a bad IPv4 address.
func checkDomain(s string) error {
	switch {
	case s == "":
		return refuse(PartDomain, ReasonEmpty)
	case len(s) > MaxPart:
		return refuse(PartDomain, ReasonTooLong)
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if err := checkLabel(label); err != nil {
			return err
		}
		last = label
	}
	if isNumber(last) {
		if ip, err := netip.ParseAddr(s); err != nil || !ip.Is4() {
			return refuse(PartDomain, ReasonIP)
		}
	}
	return nil
}

// checkLabel checks one label in canonical form. Those outside ASCII have been validated.
func checkLabel(label string) error {
	ascii := true
	for i := 0; i < len(label); i++ {
		if label[i] >= utf8.RuneSelf {
			ascii = false
		} else if classes[label[i]]&classLabel == 0 {
			return refuse(PartDomain, ReasonCharacter)
		}
	}
	switch {
	case label == "" || ascii && len(label) > maxLabel:
		return refuse(PartDomain, ReasonLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return refuse(PartDomain, ReasonLabel)
	case len(label) >= 4 && label[2:4] == "--":
		return refuse(PartDomain, ReasonLabel)
	}
	return nil
}

// isNumber reports whether a resolver may take a last label for a number: decimal, octal or hexadecimal.
func isNumber(label string) bool {
	digits := label
	if strings.HasPrefix(label, "0x") {
		return strings.Trim(digits[2:], "0123456789abcdef") == ""
	}
	return strings.Trim(digits, "0123456789") == ""
}
