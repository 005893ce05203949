package iscsi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Session is a login of this host at a target, as the kernel has it (drivers/scsi/scsi_transport_iscsi.c of Linux).
type Session struct {
	ID        int
	IQN       string
	Portal    string // that was logged in at, whereto ever the target sent the initiator: host:port
	Interface string // open-iscsi's name of it
	State     string // LOGGED_IN, or FAILED while the connection is away
	// Host, and Target on its channel 0: where the kernel shows the target's LUNs.
	Host, Target int
}

// LoggedIn says whether the session's connection is there. One that has lost it blocks who reads its disks until it is back or its recovery time is over.
func (s Session) LoggedIn() bool { return s.State == "LOGGED_IN" }

// is says whether the session is that of a path.
func (s Session) is(p path) bool {
	return s.IQN == p.iqn && s.Interface == p.iface && s.Portal == p.portal()
}

// sessions reads the sessions of the host, or only those at one target, in the order of their numbers. One that ends while it is read is left out. sys
// is where sysfs is.
func sessions(sys, iqn string) ([]Session, error) {
	entries, err := os.ReadDir(filepath.Join(sys, "class/iscsi_session"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the kernel has no iSCSI, or not yet
	}
	if err != nil {
		return nil, fmt.Errorf("iSCSI sessions: %w", err)
	}
	var found []Session
	for _, e := range entries {
		if iqn != "" && !isAt(sys, e.Name(), iqn) { // a host may have hundreds
			continue
		}
		s, err := readSession(sys, e.Name())
		switch {
		case err == nil:
			found = append(found, s)
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV): // it has ended, or has no connection yet
		default:
			return nil, fmt.Errorf("iSCSI %s: %w", e.Name(), err)
		}
	}
	slices.SortFunc(found, func(a, b Session) int { return a.ID - b.ID })
	return found, nil
}

func isAt(sys, name, iqn string) bool {
	text, err := os.ReadFile(filepath.Join(sys, "class/iscsi_session", name, "targetname"))
	return err == nil && strings.TrimSpace(string(text)) == iqn
}

func readSession(sys, name string) (Session, error) {
	s := Session{}
	dir := filepath.Join(sys, "class/iscsi_session", name)
	connection := filepath.Join(sys, "class/iscsi_connection", "connection"+strings.TrimPrefix(name, "session")+":0")
	var target, address, port string
	for file, field := range map[string]*string{
		filepath.Join(dir, "targetname"): &s.IQN, filepath.Join(dir, "ifacename"): &s.Interface, filepath.Join(dir, "state"): &s.State,
		filepath.Join(dir, "target_id"):                 &target,
		filepath.Join(connection, "persistent_address"): &address, filepath.Join(connection, "persistent_port"): &port,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			return Session{}, err
		}
		*field = strings.TrimSpace(string(text))
	}
	var err error
	if s.ID, err = strconv.Atoi(strings.TrimPrefix(name, "session")); err != nil {
		return Session{}, err
	}
	if s.Target, err = strconv.Atoi(target); err != nil {
		return Session{}, err
	}
	if s.Host, err = hostOf(dir); err != nil {
		return Session{}, err
	}
	s.Portal = spelled(address, port)
	return s, nil
}

// hostOf is the number of the SCSI host that a session's device is below.
func hostOf(dir string) (int, error) {
	device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return 0, err
	}
	host := filepath.Base(filepath.Dir(device))
	number, err := strconv.Atoi(strings.TrimPrefix(host, "host"))
	if err != nil {
		return 0, fmt.Errorf("%s is not a SCSI host", host)
	}
	return number, nil
}

// spelled writes the kernel's portal as path does; what makes no sense is left as it is and is nobody's path.
func spelled(address, port string) string {
	host, number, err := splitPortal(address + ":" + port)
	if strings.Contains(address, ":") {
		host, number, err = splitPortal("[" + strings.Trim(address, "[]") + "]:" + port)
	}
	if err != nil {
		return address + ":" + port
	}
	return path{host: host, port: number}.portal()
}
