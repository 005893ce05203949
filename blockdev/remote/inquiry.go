package remote

import (
	"encoding/hex"
	"regexp"
	"strings"

	"compute-agent/blockdev/connector"
)

// inquiryFields reads the lines "Name:value" that iscsi-inq prints of INQUIRY data.
func inquiryFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimRight(line, "\n"), ":"); found {
			fields[name] = value
		}
	}
	return fields
}

// designator is how iscsi-inq prints one (libiscsi, utils/iscsi-inq.c): the bytes as they are, up to the first that is zero.
var designator = regexp.MustCompile(`(?s)^Code Set:\(\d+\) (?:BINARY|ASCII|UTF8)\nPIV:\d\nAssociation:\((\d)\) [A-Z_]*\nDesignator Type:\((\d+)\)[^\n]*\nDesignator:\[(.*)\]\n?$`)

// The types of designators that a disk is known by (SPC-4, 7.8.6).
const (
	typeT10 = "1"
	typeEUI = "2"
	typeNAA = "3"
)

// bestDesignator is the name of the logical unit itself, as the kernel and udev would choose it among those that can be read: NAA, longest first, then EUI, then T10.
func bestDesignator(page string) connector.Identity {
	var best connector.Identity
	bestRank := 0
	for i, part := range regexp.MustCompile(`(?m)^DEVICE DESIGNATOR #\d+\n`).Split(page, -1) {
		m := designator.FindStringSubmatch(part)
		if i == 0 || m == nil || m[1] != "0" {
			continue
		}
		if name, rank := named(m[2], m[3]); rank > bestRank {
			best, bestRank = name, rank
		}
	}
	return best
}

// named is a designator in the kernel's form, and how good it is; zero for one that cannot be read whole, or names nobody.
func named(kind, value string) (connector.Identity, int) {
	digits := connector.Identity(hex.EncodeToString([]byte(value)))
	switch {
	case kind == typeNAA && len(value) == 16 && value[0]>>4 == 6:
		return "naa." + digits, 5
	case kind == typeNAA && len(value) == 8 && value[0]>>4 == 5:
		return "naa." + digits, 4
	case kind == typeNAA && len(value) == 8:
		return "naa." + digits, 3
	case kind == typeEUI && (len(value) == 8 || len(value) == 12 || len(value) == 16):
		return "eui." + digits, 2
	case kind == typeT10 && oneLine(value) != "":
		return connector.Identity("t10." + oneLine(value)), 1
	}
	return "", 0
}

// longest is as much as a disk may say of itself: SPC's longest name has 256 bytes.
const longest = 300

// oneLine makes one line of what a disk says, with single spaces.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	return strings.ToValidUTF8(text[:min(len(text), longest)], "?")
}
