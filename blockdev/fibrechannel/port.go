package fibrechannel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
)

// Port is a Fibre Channel port of this host, of an adapter or a virtual one (NPIV).
type Port struct {
	Host       int    // SCSI host
	WWPN, WWNN string // 16 hexadecimal digits, lower case
	Online     bool
	Virtual    bool
}

const online = "Online"

// Ports returns the host's, as /sys/class/fc_host has them (drivers/scsi/scsi_transport_fc.c of Linux), in the order of SCSI hosts. One that goes while it
// is read, and one without a WWPN, such as of an adapter that has no firmware, is left out.
func Ports(sys string) ([]Port, error) {
	entries, err := os.ReadDir(filepath.Join(sys, "class/fc_host"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no adapter, or no driver
	}
	if err != nil {
		return nil, fmt.Errorf("Fibre Channel ports: %w", err)
	}
	var ports []Port
	for _, e := range entries {
		host, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "host"))
		dir := filepath.Join(sys, "class/fc_host", e.Name())
		wwpn, ok := readWWN(dir, "port_name")
		if err != nil || !ok {
			continue
		}
		p := Port{Host: host, WWPN: wwpn, Online: read(dir, "port_state") == online, Virtual: read(dir, "port_type") == "NPIV VPORT"}
		p.WWNN, _ = readWWN(dir, "node_name")
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b Port) int { return a.Host - b.Host })
	return ports, nil
}

// WWNs returns the names of the ports that are online, each once, for connector.Properties.
func WWNs(sys string) (wwpns, wwnns []string, err error) {
	ports, err := Ports(sys)
	for _, p := range ports {
		if !p.Online {
			continue
		}
		if !slices.Contains(wwpns, p.WWPN) {
			wwpns = append(wwpns, p.WWPN)
		}
		if p.WWNN != "" && !slices.Contains(wwnns, p.WWNN) {
			wwnns = append(wwnns, p.WWNN)
		}
	}
	return wwpns, wwnns, err
}

// remote is a port of an array, as one of the host's ports sees it.
type remote struct {
	host, channel, target int
	wwpn                  string
	online                bool
}

var (
	remoteName = regexp.MustCompile(`^rport-(\d{1,6}):(\d{1,6})-\d+$`)
	targetName = regexp.MustCompile(`^target(\d{1,6}):(\d{1,6}):(\d{1,9})$`)
)

// remotes returns the targets that the host's ports have found. A port that is no target, or was and is gone, has no SCSI target (-1).
func remotes(sys string) ([]remote, error) {
	dir := filepath.Join(sys, "class/fc_remote_ports")
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	var found []remote
	for _, name := range names {
		parts := remoteName.FindStringSubmatch(name)
		wwpn, ok := readWWN(dir, name, "port_name")
		target, err := strconv.Atoi(read(dir, name, "scsi_target_id"))
		if parts == nil || !ok || err != nil || target < 0 {
			continue
		}
		found = append(found, remote{atoi(parts[1]), atoi(parts[2]), target, wwpn, read(dir, name, "port_state") == online})
	}
	return addTransport(sys, found)
}

// addTransport adds the targets that only fc_transport has: of drivers that keep no remote ports.
func addTransport(sys string, found []remote) ([]remote, error) {
	dir := filepath.Join(sys, "class/fc_transport")
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		parts := targetName.FindStringSubmatch(name)
		wwpn, ok := readWWN(dir, name, "port_name")
		if parts == nil || !ok {
			continue
		}
		r := remote{atoi(parts[1]), atoi(parts[2]), atoi(parts[3]), wwpn, true}
		if !slices.ContainsFunc(found, func(o remote) bool { return o.host == r.host && o.wwpn == r.wwpn }) {
			found = append(found, r)
		}
	}
	return found, nil
}

// reached is where the volume may be: the addresses of its LUNs at the targets that the host's ports see.
type reached struct {
	addresses []scsi.Address
	// hosts are those whose ports may reach the volume, with the LUNs that it may have there.
	hosts map[int][]uint64
}

// reach pairs the volume's targets with what the host's ports see. With all set, ports of either side that are not online count too.
func reach(info *connector.FCInfo, ports []Port, seen []remote, all bool) (reached, error) {
	r := reached{hosts: map[int][]uint64{}}
	for _, port := range ports {
		targets, mapped := info.Targets, true
		if info.Map != nil {
			targets, mapped = info.Map[port.WWPN]
		}
		if !mapped || !port.Online && !all {
			continue
		}
		for _, t := range targets {
			lun, err := scsi.LUN(t.LUN, info.AddressingMode)
			if err != nil {
				return r, &connector.Error{Reason: connector.InvalidInfo, Field: "target_lun", Value: strconv.Itoa(t.LUN), Rule: err.Error()}
			}
			if !slices.Contains(r.hosts[port.Host], lun) {
				r.hosts[port.Host] = append(r.hosts[port.Host], lun)
			}
			for _, s := range seen {
				a := scsi.Address{Host: s.host, Channel: s.channel, Target: s.target, LUN: lun}
				if s.host == port.Host && s.wwpn == t.WWPN && (s.online || all) && !slices.Contains(r.addresses, a) {
					r.addresses = append(r.addresses, a)
				}
			}
		}
	}
	return r, nil
}

func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("Fibre Channel targets: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func read(parts ...string) string {
	data, _ := os.ReadFile(filepath.Join(parts...))
	return strings.TrimSpace(string(data))
}

var wwnForm = regexp.MustCompile(`^0x[0-9a-f]{16}$`)

// readWWN reads a name, which the kernel writes as 0x and 16 digits. Those of no port are all zeros or all ones.
func readWWN(parts ...string) (string, bool) {
	text := strings.ToLower(read(parts...))
	wwn := strings.TrimPrefix(text, "0x")
	return wwn, wwnForm.MatchString(text) && strings.Trim(wwn, "0") != "" && strings.Trim(wwn, "f") != ""
}

// atoi is of digits that a pattern has bounded.
func atoi(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
