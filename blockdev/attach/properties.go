package attach

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
)

// Facts is where what a host tells of itself is found, and what of it the operator decides.
type Facts struct {
	Root      string // of the host's files: /
	Host      string // the host's name, as the volume service knows it
	IP        string // Nova: my_block_storage_ip
	Initiator string // the IQN; empty for that of the host's initiator (InitiatorName)
	// Multipath and Enforce are volume_use_multipath and volume_enforce_multipath.
	Multipath, Enforce bool
}

// Properties are what the host tells a volume service of itself: os-brick's get_connector_properties. It is read anew each time: ports come and go.
func (h *Host) Properties(context.Context) (connector.Properties, error) {
	return h.opt.Facts.properties()
}

func (f Facts) properties() (connector.Properties, error) {
	p := connector.Properties{
		Initiator: f.Initiator,
		NQN:       f.line("etc/nvme/hostnqn"), NVMeHostID: f.line("etc/nvme/hostid"),
		SystemUUID:      strings.ToLower(f.line("sys/class/dmi/id/product_uuid")),
		NativeMultipath: f.line("sys/module/nvme_core/parameters/multipath") == "Y",
		IP:              f.IP, Host: f.Host, Multipath: f.Multipath, EnforceMP: f.Enforce, OSType: "linux",
	}
	if p.Initiator == "" {
		p.Initiator = f.InitiatorName()
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return connector.Properties{}, fmt.Errorf("uname: %w", err)
	}
	p.Platform = unix.ByteSliceToString(name.Machine[:])
	p.WWPNs, p.WWNNs = f.ports()
	return p, nil
}

// line is the first line of a file of the host; empty when there is none.
func (f Facts) line(name string) string {
	text, err := os.ReadFile(filepath.Join(f.Root, name))
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(first)
}

// InitiatorName is the IQN of the host's initiator (open-iscsi's initiatorname.iscsi); empty when it has none.
func (f Facts) InitiatorName() string {
	text, err := os.ReadFile(filepath.Join(f.Root, "etc/iscsi/initiatorname.iscsi"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "InitiatorName="); found {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// ports are the names of the Fibre Channel ports that are online, and of their nodes, in the order of the hosts.
func (f Facts) ports() (wwpns, wwnns []string) {
	const class = "sys/class/fc_host"
	entries, err := os.ReadDir(filepath.Join(f.Root, class))
	if err != nil {
		return nil, nil
	}
	for _, e := range entries {
		dir := filepath.Join(class, e.Name())
		if f.line(dir+"/port_state") != "Online" {
			continue
		}
		if name := strings.TrimPrefix(f.line(dir+"/port_name"), "0x"); name != "" {
			wwpns = append(wwpns, name)
		}
		if name := strings.TrimPrefix(f.line(dir+"/node_name"), "0x"); name != "" && !slices.Contains(wwnns, name) {
			wwnns = append(wwnns, name)
		}
	}
	return wwpns, wwnns
}
