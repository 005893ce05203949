package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// seesTags is the sysctl without which what has a tag passes iptables unseen: what comes from the wire into a filtering bridge.
const seesTags = "bridge-nf-filter-vlan-tagged"

// filters says whether a bridge keeps VLANs apart, new ports are in none, and iptables sees what is in it.
func (h Host) filters(b *netlink.Bridge) bool {
	on := b.VlanFiltering != nil && *b.VlanFiltering && b.VlanDefaultPVID != nil && *b.VlanDefaultPVID == 0
	return on && h.bridgeSysctl(seesTags) != "0"
}

func (h Host) filterVLANs(link netlink.Link) error {
	// A kernel without br_netfilter shows iptables nothing of any bridge.
	if err := os.WriteFile(h.bridgeConf(seesTags), []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("iptables sees tagged frames: %w", err)
	}
	for _, option := range []map[int][]byte{
		{nl.IFLA_BR_VLAN_DEFAULT_PVID: nl.Uint16Attr(0)}, {nl.IFLA_BR_VLAN_FILTERING: nl.Uint8Attr(1)},
	} {
		if err := tellBridge(link, option); err != nil {
			return fmt.Errorf("vlan filtering: %w", err)
		}
	}
	// A kernel that knows no VLANs in bridges may say nothing.
	now, err := netlink.LinkByIndex(link.Attrs().Index)
	if err != nil {
		return err
	}
	if b, ok := now.(*netlink.Bridge); !ok || !h.filters(b) {
		return fmt.Errorf("vlan filtering: %w", unix.EOPNOTSUPP)
	}
	return nil
}

func changeVLAN(link netlink.Link, c Change) error {
	_, itself := link.(*netlink.Bridge)
	id := uint16(c.VLAN)
	if c.Op == OpAddVLAN {
		return netlink.BridgeVlanAdd(link, id, c.Native, c.Native, itself, false)
	}
	if err := netlink.BridgeVlanDel(link, id, false, false, itself, false); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// addVLANs adds the VLANs of filtering bridges and of what is in them.
func addVLANs(s State, names map[int]string) error {
	some := false
	for _, l := range s.Links {
		some = some || l.Filtering
	}
	if !some {
		return nil
	}
	var all map[int32][]*nl.BridgeVlanInfo
	_, err := list(func() (_ []int, err error) { all, err = netlink.BridgeVlanList(); return nil, err })
	if err != nil {
		return fmt.Errorf("vlans: %w", err)
	}
	for index, vlans := range all {
		l, there := s.Links[names[int(index)]]
		if !there || !l.Filtering && !s.Links[l.Master].Filtering {
			continue
		}
		for _, v := range vlans {
			l.addVLAN(Change{VLAN: int(v.Vid), Native: v.PortVID() && v.EngressUntag()})
		}
		s.Links[l.Name] = l
	}
	return nil
}
