package connector

import (
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"compute-agent/internal/pattern"
)

// The syntaxes of what a connection_info names. Each is no wider than what storage systems use, since the values reach programs, files of theirs, sysfs and
// the kernel: nothing has a control character, a space or a separator of what it ends up in.

// matching is the rule that a text matches an expression.
func matching(expression *pattern.Pattern, fault string) rule {
	return func(s string) (string, string) {
		if !expression.MatchString(s) {
			return "", fault
		}
		return s, ""
	}
}

// oneOf is the rule that a text is one of these.
func oneOf(words ...string) rule {
	return func(s string) (string, string) {
		if !slices.Contains(words, s) {
			return "", "it must be one of " + strings.Join(words, ", ")
		}
		return s, ""
	}
}

// iqn: RFC 3720, 3.2.6.3, and RFC 3980 for naa; with capitals and underscores, which arrays have though RFC 3722 folds them away.
var iqn = matching(pattern.New(`^(iqn\.[0-9]{4}-[0-9]{2}\.[A-Za-z0-9][A-Za-z0-9._:-]{0,210}|eui\.[0-9A-Fa-f]{16}|naa\.([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32}))$`),
	"it is not an iSCSI name (iqn.YYYY-MM.domain:name, eui. or naa.)")

// nqn: NVM Express Base Specification, 4.5, without what separates options of a connection.
var nqn = matching(pattern.New(`^nqn\.[0-9]{4}-[0-9]{2}\.[A-Za-z0-9][A-Za-z0-9._:+@=-]{0,210}$`),
	"it is not an NVMe qualified name (nqn.YYYY-MM.domain:name, at most 223 bytes)")

var hostLabel = pattern.New(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// host is a name (RFC 1123) or an IP address of one host; an IPv6 address may stand in brackets, and comes out without them.
func host(s string) (string, string) {
	const fault = "it is neither a host's name nor an IP address"
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		switch {
		case bare != s && !ip.Is6():
			return "", fault
		case ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip.Is4In6():
			return "", "it is not the address of one host"
		}
		return ip.String(), ""
	}
	labels := strings.Split(s, ".")
	if len(s) > 253 || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", fault
	}
	for _, l := range labels {
		if !hostLabel.MatchString(l) {
			return "", fault
		}
	}
	return s, ""
}

var portalGroup = regexp.MustCompile(`,[0-9]{1,5}$`)

// portal is host:port, with a target portal group tag after it or not, as discovery prints it.
func portal(s string) (string, string) {
	const fault = "it must be host:port, an IPv6 address in brackets"
	bare := portalGroup.ReplaceAllString(s, "")
	i := strings.LastIndexByte(bare, ':')
	if i < 0 || (strings.Contains(bare[:i], ":") && !strings.HasPrefix(bare, "[")) {
		return "", fault
	}
	h, wrong := host(bare[:i])
	port, err := strconv.ParseUint(bare[i+1:], 10, 16)
	if wrong != "" || err != nil || port == 0 || bare[i+1] == '+' {
		return "", fault
	}
	return net.JoinHostPort(h, strconv.FormatUint(port, 10)), ""
}

var hex16 = regexp.MustCompile(`^[0-9a-f]{16}$`)

// wwpn is 16 hexadecimal digits, in any of the ways in which they are written.
func wwpn(s string) (string, string) {
	bare := strings.ToLower(s)
	if b, ok := strings.CutPrefix(bare, "0x"); ok {
		bare = b
	} else if len(bare) == 23 && strings.Count(bare, ":") == 7 {
		bare = strings.ReplaceAll(bare, ":", "")
	}
	if !hex16.MatchString(bare) {
		return "", "a WWPN is 16 hexadecimal digits"
	}
	return bare, ""
}

var fcAddress = regexp.MustCompile(`^nn-0x[0-9a-f]{16}:pn-0x[0-9a-f]{16}$`)

// nvmeFC is the address of a Fibre Channel port of an NVMe subsystem (traddr).
func nvmeFC(s string) (string, string) {
	if s = strings.ToLower(s); !fcAddress.MatchString(s) {
		return "", "an address on Fibre Channel is nn-0x...:pn-0x... of 16 hexadecimal digits each"
	}
	return s, ""
}

var hex32 = regexp.MustCompile(`^[0-9a-f]{32}$`)

// uuid comes out in lower case with hyphens, as sysfs prints UUID and NGUID.
func uuid(s string) (string, string) {
	bare := strings.ToLower(s)
	if len(bare) == 36 && bare[8] == '-' && bare[13] == '-' && bare[18] == '-' && bare[23] == '-' {
		bare = strings.ReplaceAll(bare, "-", "")
	}
	if !hex32.MatchString(bare) {
		return "", "it is not a UUID (32 hexadecimal digits)"
	}
	return bare[:8] + "-" + bare[8:12] + "-" + bare[12:16] + "-" + bare[16:20] + "-" + bare[20:], ""
}

var (
	identity = regexp.MustCompile(`^(naa\.([0-9a-f]{16}|[0-9a-f]{32})|eui\.([0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{32}))$`)
	t10      = pattern.New(`^t10\.[!-~][ -~]{0,199}$`)
)

// wwid is a disk's identity, and comes out as the kernel has it: naa.6..., eui... It may be written as that, as udev and multipath do (a 3 before NAA, a 2 before
// EUI), or bare, as arrays show it.
func wwid(s string) (string, string) {
	if t10.MatchString(s) {
		return s, ""
	}
	bare := strings.TrimPrefix(strings.ToLower(s), "0x")
	if u, ok := strings.CutPrefix(bare, "uuid."); ok {
		normal, fault := uuid(u)
		return "uuid." + normal, fault
	}
	if bare = withPrefix(strings.ReplaceAll(bare, ":", "")); !identity.MatchString(bare) {
		return "", "it is not a disk's identity (naa., eui., t10. or uuid.)"
	}
	return bare, ""
}

// withPrefix puts the kind before an identity's digits.
func withPrefix(bare string) string {
	switch n := len(bare); {
	case strings.Contains(bare, "."):
		return bare
	case (n == 17 || n == 33) && bare[0] == '3':
		return "naa." + bare[1:]
	case (n == 17 || n == 25 || n == 33) && bare[0] == '2':
		return "eui." + bare[1:]
	case n == 32 && bare[0] == '6', n == 16 && strings.Contains("235", bare[:1]):
		return "naa." + bare
	default:
		return "eui." + bare
	}
}

const longPath = 4095 // PATH_MAX

// absolute is the rule that a text is the path of something: absolute and in its shortest form, so that it is what it looks like.
func absolute(s string) (string, string) {
	switch {
	case !strings.HasPrefix(s, "/") || path.Clean(s) != s || s == "/":
		return "", "it must be an absolute path without . and .. and doubled slashes"
	case len(s) > longPath || !printable(s):
		return "", "it has characters that no path of a volume has"
	}
	return s, ""
}

// device is a path below /dev.
func device(s string) (string, string) {
	if s, fault := absolute(s); fault != "" || strings.HasPrefix(s, "/dev/") {
		return s, fault
	}
	return "", "a local volume is a device below /dev"
}

// regular is a path where files are.
func regular(s string) (string, string) {
	s, fault := absolute(s)
	for _, dir := range []string{"/dev/", "/proc/", "/sys/"} {
		if fault == "" && strings.HasPrefix(s+"/", dir) {
			return "", "a file is not below /dev, /proc or /sys"
		}
	}
	return s, fault
}

// printable is a text of visible ASCII characters, none of which separates or escapes anything in a table of mounts.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// fileName is one component of a path.
func fileName(s string) (string, string) {
	if s == "" || s == "." || s == ".." || len(s) > 255 || strings.Contains(s, "/") || !printable(s) {
		return "", "it must be the name of a file: no slash, no space, no control character, at most 255 bytes"
	}
	return s, ""
}

// export is host:/path of an NFS server.
func export(s string) (string, string) {
	const fault = "it must be host:/path, an IPv6 address in brackets"
	i := strings.Index(s, ":/")
	if i < 0 || (strings.Contains(s[:i], ":") && !strings.HasPrefix(s, "[")) {
		return "", fault
	}
	h, wrong := host(s[:i])
	dir := s[i+1:]
	if dir != "/" {
		if _, f := absolute(dir); f != "" {
			wrong = f
		}
	}
	if wrong != "" {
		return "", fault + "; " + wrong
	}
	if strings.Contains(h, ":") {
		h = "[" + h + "]"
	}
	return h + ":" + dir, ""
}

var (
	optionWord = regexp.MustCompile(`^[a-z0-9_]+(=[A-Za-z0-9.:_-]+)?$`)
	nfsOptions = strings.Fields("vers nfsvers minorversion v3 v4 v4.0 v4.1 v4.2 proto tcp udp rdma port rsize wsize bsize timeo retrans retry hard soft softerr softreval nosoftreval " +
		"ac noac acregmin acregmax acdirmin acdirmax actimeo cto nocto lookupcache lock nolock local_lock nconnect max_connect sec xprtsec mountport mountproto mountvers " +
		"rw ro atime noatime nodiratime relatime nosuid nodev noexec sharecache nosharecache resvport noresvport rdirplus nordirplus acl noacl migration nomigration namlen intr nointr")
)

// mountOptions is a list of options of mount(8) for NFS that only say how to talk to the server, with -o before them or not. They come out with commas.
func mountOptions(s string) (string, string) {
	var out []string
	for _, word := range strings.Fields(s) {
		if word == "-o" && len(out) == 0 {
			continue
		}
		for option := range strings.SplitSeq(word, ",") {
			name, _, _ := strings.Cut(option, "=")
			if !slices.Contains(nfsOptions, name) || (name != option && !optionWord.MatchString(option)) {
				return "", "mount option " + strconv.Quote(short(option)) + " is not among those that a volume may ask for"
			}
			out = append(out, option)
		}
	}
	return strings.Join(out, ","), ""
}

var cephName = matching(pattern.New(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,95}$`), "it is not a name of Ceph's: letters, digits and . _ + -")

// poolImage is pool/image.
func poolImage(s string) (string, string) {
	pool, image, found := strings.Cut(s, "/")
	_, wrong1 := cephName(pool)
	_, wrong2 := cephName(image)
	if !found || wrong1+wrong2 != "" {
		return "", "it must be pool/image, names of letters, digits and . _ + -"
	}
	return s, ""
}

// nbdExport is a name of an export: any that can be written in one line.
func nbdExport(s string) (string, string) {
	if len(s) > 255 || (s != "" && !printable(s)) {
		return "", "it must be at most 255 visible characters"
	}
	return s, ""
}

// credential is a user's name or password of CHAP: what a line of a node record can hold.
func credential(s string) (string, string) {
	if s == "" || len(s) > 255 || strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }) {
		return "", "it must be 1 to 255 bytes without control characters, and no space at its ends"
	}
	return s, ""
}

// keyring is the text of a Ceph keyring.
func keyring(s string) (string, string) {
	if len(s) > 64<<10 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c >= 0x7f }) {
		return "", "it is not the text of a keyring"
	}
	return s, ""
}
