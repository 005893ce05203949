package iscsi

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/pattern"
)

// path is one way to a target: what open-iscsi keeps one record for, and the kernel one session.
type path struct {
	host  string // of the portal: an address without brackets, or a name
	port  int
	iqn   string
	iface string // open-iscsi's name of the initiator's interface
}

// portal is host:port as iscsiadm wants it: an IPv6 address is in brackets.
func (p path) portal() string { return net.JoinHostPort(p.host, strconv.Itoa(p.port)) }

// String is the path for a person.
func (p path) String() string { return p.portal() + " " + p.iqn }

const defaultPort = 3260 // RFC 7143, 4.2.7.1

// maxName is the longest iSCSI name in bytes (RFC 7143, 4.2.7.1).
const maxName = 223

var (
	// A target's name becomes a directory and an argument. RFC 3722 allows letters of all scripts; no array is known to use them.
	targetName = regexp.MustCompile(`^(iqn|eui|naa)\.[A-Za-z0-9][A-Za-z0-9._:@+=-]*$`)
	hostName   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
	// An interface's name is a file below ifaces.
	ifaceName = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$`)
)

func newPath(t connector.ISCSITarget, iface string) (path, error) {
	host, port, err := splitPortal(t.Portal)
	if err != nil {
		return path{}, err
	}
	if len(t.IQN) > maxName || !targetName.MatchString(t.IQN) {
		return path{}, refuse("target_iqn", t.IQN, "it must be an iSCSI name: iqn., eui. or naa., and letters, digits, dots, colons and dashes")
	}
	return path{host: host, port: port, iqn: t.IQN, iface: iface}, nil
}

// splitPortal reads host:port; the port may be left out. Addresses come back as they are written by everybody, so that they can be compared.
func splitPortal(portal string) (string, int, error) {
	host, text, err := net.SplitHostPort(portal)
	if err != nil {
		host, text = strings.Trim(portal, "[]"), strconv.Itoa(defaultPort)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	address, notAddress := netip.ParseAddr(host)
	switch {
	case err != nil || port == 0:
	case notAddress == nil && address.Zone() == "":
		return address.Unmap().String(), int(port), nil
	case notAddress != nil && len(host) < 254 && hostName.MatchString(host):
		return strings.ToLower(host), int(port), nil
	}
	return "", 0, refuse("target_portal", portal, "it must be an address or a host name, a colon and a port")
}

func refuse(field, value, rule string) *connector.Error {
	return &connector.Error{Reason: connector.InvalidInfo, Field: field, Value: short(value), Rule: rule}
}

// short cuts what somebody else chose.
func short(value string) string {
	const most = 80
	if len(value) > most {
		value = value[:most] + "..."
	}
	return strings.ToValidUTF8(value, "?")
}
