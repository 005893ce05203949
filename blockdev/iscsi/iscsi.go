// Package iscsi connects volumes by this host's own iSCSI initiator: open-iscsi logs in at the portals of a target, the kernel shows its LUNs as
// SCSI disks, and multipathd makes one of several ways to the same LUN.
//
// A session is shared by all volumes of its target. It is there from the first of them to the last: who is about to use it holds it, and it ends
// when nobody does and none of its disks is there any more. Both are decided under the lock of that session alone.
package iscsi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"compute-agent/blockdev/lun"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/command"
	"compute-agent/internal/keylock"
)

// Options say how a Connector works. The zero value of each but Runner has a default.
type Options struct {
	// Interface is open-iscsi's name of the initiator's interface (Nova: iscsi_iface); "default" is any. Volumes of type iser have "iser" instead
	// of "default".
	Interface string
	// Multipath is whether all ways to a volume are used (Nova: volume_use_multipath). Otherwise it is the first that works.
	Multipath bool
	// Enforce refuses volumes that cannot have it (Nova: volume_enforce_multipath), as the enforce_multipath of one volume does.
	Enforce bool
	// Probe bounds the first answer of a portal, Login a login, Device the wait for a disk. 5, 30 and 60 seconds.
	Probe, Login, Device time.Duration
	// Straggler bounds what other ways may still take when one works. 5 seconds.
	Straggler time.Duration
	// Scans is how often a target is asked for a LUN that it does not show, with pauses of 1, 2, 4... seconds (Nova: num_volume_scan_tries). 5.
	Scans int

	SCSI   scsi.System // scsi.Host() when it has no root
	Etc    []string    // open-iscsi's directories: /etc/iscsi, /var/lib/iscsi
	Runner command.Runner
	// Dial asks whether a portal answers.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger
}

func (o Options) withDefaults() Options {
	const (
		quick = 5 * time.Second
		slow  = 30 * time.Second
		disks = time.Minute // the kernel scans a host for one LUN after the other
	)
	if o.Interface == "" {
		o.Interface = defaultInterface
	}
	for limit, orElse := range map[*time.Duration]time.Duration{&o.Probe: quick, &o.Straggler: quick, &o.Login: slow, &o.Device: disks} {
		if *limit == 0 {
			*limit = orElse
		}
	}
	if o.Scans == 0 {
		o.Scans = 5
	}
	if o.SCSI.Sys == "" {
		o.SCSI = scsi.Host()
	}
	if o.Etc == nil {
		o.Etc = []string{"/etc/iscsi", "/var/lib/iscsi"}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// The interfaces that are built into open-iscsi.
const (
	defaultInterface = "default"
	iserInterface    = "iser"
)

// Connector is connector.Connector for the types iscsi and iser.
type Connector struct {
	Options
	admin   admin
	records records
	luns    lun.Host

	volumes keylock.Map[string] // by target and LUN
	paths   keylock.Map[path]   // whoever logs in or out
	portals keylock.Map[string] // whoever asks a portal for its targets

	mu   sync.Mutex
	held map[path]int // by those who are about to use the session
}

// New returns a connector. It does nothing to the host.
func New(o Options) *Connector {
	o = o.withDefaults()
	return &Connector{
		Options: o,
		admin:   admin{o.Runner, make(chan struct{}, atOnce)},
		records: records{dirs: o.Etc, login: o.Login},
		luns:    lun.Host{SCSI: o.SCSI, Maps: multipath.Daemon{SCSI: o.SCSI, Commands: o.Runner}, Log: o.Log},
		held:    map[path]int{},
	}
}

// InitiatorName returns the IQN that this host logs in as, of initiatorname.iscsi in open-iscsi's directory; empty when the host has none.
func InitiatorName(etc string) (string, error) {
	file, err := os.Open(filepath.Join(etc, "initiatorname.iscsi"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("iSCSI initiator name: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if name := strings.TrimSpace(value); strings.TrimSpace(key) == "InitiatorName" && name != "" {
			return name, nil
		}
	}
	return "", lines.Err()
}
