package libvirt

import "strings"

// maxText is how much of a user's text, in bytes, goes into a domain; libvirt refuses definitions of
// more than 4 MiB.
const maxText = 1024

// oneLine makes of any text one that a domain can hold, and not too long.
func oneLine(s string) string {
	if s = text(s); len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

// text makes of any text one that a domain can hold: libvirt refuses line ends in titles, and XML 1.0
// holds no control characters and nothing that is not UTF-8.
func text(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t', r == '\u0085', r == '\u2028', r == '\u2029':
			return ' '
		case !inXML(r):
			return '\uFFFD'
		}
		return r
	}, s)
}

// inXML says whether XML 1.0 can hold the character (its production Char, without the line ends and
// the tab, and without the C1 controls, which it discourages).
func inXML(r rune) bool {
	return r >= 0x20 && r < 0x7f || r >= 0xa0 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// The words that libvirt has for yes and no.
func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func onOrNothing(on bool) string {
	if on {
		return "on"
	}
	return ""
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
