package network

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// place is where a virtual function is: which one of which interface.
type place struct {
	uplink string
	number int
}

// places are those of all virtual functions whose physical one is an interface of the host, by their PCI addresses.
func (h Host) places() (map[string]place, error) {
	const prefix = "virtfn"
	found, err := filepath.Glob(filepath.Join(cmp.Or(h.Sys, "/sys"), "bus/pci/devices/*", prefix+"*"))
	if err != nil {
		return nil, err
	}
	out := map[string]place{}
	for _, path := range found {
		target, err := os.Readlink(path)
		if err != nil {
			continue // it is gone
		}
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), prefix))
		if uplink := interfaceOf(filepath.Dir(path)); err == nil && uplink != "" {
			out[filepath.Base(target)] = place{uplink, number}
		}
	}
	return out, nil
}

var representor = regexp.MustCompile(`^(c\d+)?pf\d+[vs]f\d+$`)

// interfaceOf is the interface of a physical function: not one that stands for a virtual one of a switch in hardware.
func interfaceOf(device string) string {
	names, err := os.ReadDir(filepath.Join(device, "net"))
	if err != nil {
		return "" // a guest has it
	}
	for _, n := range names {
		if !representor.MatchString(readLine(filepath.Join(device, "net", n.Name(), "phys_port_name"))) {
			return n.Name()
		}
	}
	return ""
}

// readFunctions adds the virtual functions, and of those that the agent set what they were.
func (h Host) readFunctions(s *State) error {
	places, err := h.places()
	if err != nil {
		return fmt.Errorf("virtual functions: %w", err)
	}
	s.Functions = map[string]Function{}
	settings := map[string]map[int]FunctionSettings{} // by interface and number
	for pci, at := range places {
		if settings[at.uplink] == nil {
			if settings[at.uplink], err = functionsOf(at.uplink); err != nil {
				return err
			}
		}
		s.Functions[pci] = Function{PCI: pci, FunctionSettings: settings[at.uplink][at.number]}
	}
	records, err := os.ReadDir(h.records())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("virtual functions: %w", err)
	}
	for _, r := range records {
		if !pciAddress.MatchString(r.Name()) {
			continue // half-written
		}
		f := s.Functions[r.Name()]
		f.PCI, f.Owned = r.Name(), true
		f.Before = h.record(r.Name())
		s.Functions[r.Name()] = f
	}
	return nil
}

// functionsOf are the settings of an interface's virtual functions; none, if it is gone.
func functionsOf(uplink string) (map[int]FunctionSettings, error) {
	out := map[int]FunctionSettings{}
	link, err := netlink.LinkByName(uplink)
	if gone(err) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("virtual functions of %s: %w", uplink, err)
	}
	for _, vf := range link.Attrs().Vfs {
		out[vf.ID] = toSettings(vf)
	}
	return out, nil
}

func toSettings(vf netlink.VfInfo) FunctionSettings {
	// All ones of what is trusted are that nobody knows.
	return FunctionSettings{MAC: vf.Mac.String(), VLAN: vf.Vlan, SpoofCheck: vf.Spoofchk, Trusted: vf.Trust == 1}
}

// records is the directory of what the virtual functions were that the agent set. It goes when the host restarts, as what was set does.
func (h Host) records() string {
	return filepath.Join(cmp.Or(h.State, "/run/compute-agent"), "functions")
}

// record is what a virtual function was; where that cannot be read, what they are at first.
func (h Host) record(pci string) FunctionSettings {
	before := FunctionSettings{}
	data, err := os.ReadFile(filepath.Join(h.records(), pci))
	if err != nil || json.Unmarshal(data, &before) != nil || before.MAC == "" {
		return FunctionSettings{MAC: noMAC, SpoofCheck: true}
	}
	return before
}

// remember writes down what a virtual function is, before it is set, unless that was done.
func (h Host) remember(pci string, is FunctionSettings) error {
	file := filepath.Join(h.records(), pci)
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	data, err := json.Marshal(is)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.records(), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// changeFunction sets a virtual function, or makes it what it was.
func (h Host) changeFunction(c Change) error {
	places, err := h.places()
	if err != nil {
		return err
	}
	at, there := places[c.Link]
	want := c.Function.FunctionSettings
	if c.Op == OpFunctionBack {
		if want = c.Function.Before; !there {
			return h.forget(c.Link) // with the device what was set is gone
		}
	}
	if !there {
		return ErrMissing
	}
	link, err := netlink.LinkByName(at.uplink)
	if err != nil {
		return tellGone(err)
	}
	all, err := functionsOf(at.uplink)
	if err != nil {
		return err
	}
	is, there := all[at.number]
	if !there {
		return fmt.Errorf("%s says nothing of its virtual function %d: %w", at.uplink, at.number, ErrMissing)
	}
	if c.Op == OpFunction {
		if err := h.remember(c.Link, is); err != nil {
			return err
		}
	}
	if err := kernelSetter.set(link, at.number, is, want); err != nil {
		return fmt.Errorf("%s, its virtual function %d: %w", at.uplink, at.number, err)
	}
	if c.Op == OpFunctionBack {
		return h.forget(c.Link)
	}
	return nil
}

func (h Host) forget(pci string) error {
	if err := os.Remove(filepath.Join(h.records(), pci)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// setter is what sets virtual functions of an interface.
type setter struct {
	mac    func(netlink.Link, int, net.HardwareAddr) error
	vlan   func(netlink.Link, int, int) error
	spoof  func(netlink.Link, int, bool) error
	trusts func(netlink.Link, int, bool) error
}

var kernelSetter = setter{netlink.LinkSetVfHardwareAddr, netlink.LinkSetVfVlan, netlink.LinkSetVfSpoofchk, netlink.LinkSetVfTrust}

// set sets what differs: not every driver can set all.
func (s setter) set(link netlink.Link, number int, is, want FunctionSettings) error {
	if is.MAC != want.MAC {
		mac, err := net.ParseMAC(want.MAC)
		if err == nil {
			err = s.mac(link, number, mac)
		}
		if err != nil {
			return fmt.Errorf("mac %s: %w", want.MAC, err)
		}
	}
	if is.VLAN != want.VLAN {
		if err := s.vlan(link, number, want.VLAN); err != nil {
			return fmt.Errorf("vlan %d: %w", want.VLAN, err)
		}
	}
	if is.SpoofCheck != want.SpoofCheck {
		if err := s.spoof(link, number, want.SpoofCheck); err != nil {
			return fmt.Errorf("spoof check %v: %w", want.SpoofCheck, err)
		}
	}
	if is.Trusted != want.Trusted {
		if err := s.trusts(link, number, want.Trusted); err != nil {
			return fmt.Errorf("trusted %v: %w", want.Trusted, err)
		}
	}
	return nil
}
