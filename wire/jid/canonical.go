package jid

// localExcluded are the characters that RFC 7622 §3.3.1 takes out of UsernameCaseMapped.
const localExcluded = "\"&'/:<>@"

// Classes of ASCII characters that preparation leaves as they are.
const (
	classLocal    = 1 << iota // in a localpart
	classLabel                // in a label of a domain: lower-case letters, digits and the hyphen
	classResource             // in a resourcepart
)

// classes holds the classes of each byte; 0 for everything outside printable ASCII.
var classes = classTable()

func classTable() (t [256]uint8) {
	for c := byte(' '); c <= '~'; c++ {
		t[c] = classResource
		if c != ' ' && (c < 'A' || c > 'Z') {
			t[c] |= classLocal
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' {
			t[c] |= classLabel
		}
	}
	for _, c := range []byte(localExcluded) {
		t[c] &^= classLocal
	}
	return t
}

// all reports whether every byte of s has the class.
func all(s string, class uint8) bool {
	for i := 0; i < len(s); i++ {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// parseCanonical parses an address that is canonical ASCII already. ok false means only that the careful
// way must decide.
func parseCanonical(s string) (j JID, ok bool) {
	at := 0
	for at < len(s) && classes[s[at]]&classLocal != 0 {
		at++
	}
	i := 0
	if at < len(s) && s[at] == '@' {
		if at == 0 || at > MaxPart {
			return JID{}, false
		}
		i = at + 1
	} else {
		at = 0
	}
	end := i + canonicalDomain(s[i:])
	switch {
	case end == i:
		return JID{}, false
	case end == len(s):
		return JID{full: s, at: uint16(at), slash: uint16(end)}, true
	case s[end] != '/' || end+1 == len(s) || len(s)-end-1 > MaxPart || !all(s[end+1:], classResource):
		return JID{}, false
	}
	return JID{full: s, at: uint16(at), slash: uint16(end)}, true
}

// canonicalDomain returns the length of the canonical ASCII domain name that s begins with, up to its end or a
// slash. 0 means that the careful way must decide: this one knows neither IP addresses nor IDNA, and leaves names whose
// last label begins with a digit alone, because they may be meant as IPv4.
func canonicalDomain(s string) int {
	label := 0 // where the current label begins
	for i := 0; ; i++ {
		if i < len(s) {
			if c := s[i]; c != '.' && c != '/' {
				if classes[c]&classLabel == 0 {
					return 0
				}
				// "--" at the third and fourth place marks A-labels and reserved ones (RFC 5890 §2.3.1).
				if c == '-' && (i == label || i == label+3 && s[i-1] == '-') {
					return 0
				}
				continue
			}
		}
		// s[label:i] is a whole label.
		if i == label || i-label > maxLabel || s[i-1] == '-' {
			return 0
		}
		if i == len(s) || s[i] == '/' {
			if i > MaxPart || s[label] <= '9' {
				return 0
			}
			return i
		}
		label = i + 1
	}
}
