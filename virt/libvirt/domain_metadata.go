package libvirt

import (
	"encoding/xml"
	"time"

	"compute-agent/virt"
)

// novaNamespace is the one that tools made for Nova's hosts look for.
const novaNamespace = "http://openstack.org/xmlns/libvirt/nova/1.1"

// novaInstance is Nova's metadata element (nova.virt.libvirt.config.LibvirtConfigGuestMetaNovaInstance).
// encoding/xml has no prefixes of its own, so they are written into the names: libvirt wants a domain's
// metadata elements to be told apart by prefix.
type novaInstance struct {
	XMLName   xml.Name   `xml:"nova:instance"`
	Namespace string     `xml:"xmlns:nova,attr"`
	Package   *novaText  `xml:"nova:package"`
	Name      string     `xml:"nova:name"`
	Created   string     `xml:"nova:creationTime,omitempty"`
	Flavor    novaFlavor `xml:"nova:flavor"`
	Owner     *novaOwner `xml:"nova:owner"`
	Root      *novaRoot  `xml:"nova:root"`
	Ports     []novaPort `xml:"nova:ports>nova:port"`
}

type novaText struct {
	Version string `xml:"version,attr"`
}

type novaFlavor struct {
	ID        string `xml:"id,attr,omitempty"`
	Name      string `xml:"name,attr"`
	Memory    uint64 `xml:"nova:memory"`
	Disk      int    `xml:"nova:disk"`
	Swap      int    `xml:"nova:swap"`
	Ephemeral int    `xml:"nova:ephemeral"`
	VCPUs     int    `xml:"nova:vcpus"`
}

type novaOwner struct {
	User    novaIdentity `xml:"nova:user"`
	Project novaIdentity `xml:"nova:project"`
}

type novaIdentity struct {
	UUID string `xml:"uuid,attr"`
	Name string `xml:",chardata"`
}

type novaRoot struct {
	Type string `xml:"type,attr"`
	UUID string `xml:"uuid,attr"`
}

type novaPort struct {
	UUID string        `xml:"uuid,attr"`
	IPs  []novaAddress `xml:"nova:ip"`
}

type novaAddress struct {
	Type    string `xml:"type,attr"`
	Address string `xml:"address,attr"`
	Version int    `xml:"ipVersion,attr"`
}

// novaMetadata returns the content of the domain's metadata element.
func novaMetadata(m virt.Metadata) (string, error) {
	instance := novaInstance{
		Namespace: novaNamespace,
		Package:   &novaText{Version: oneLine(m.Package)},
		Name:      oneLine(m.Name),
		Flavor: novaFlavor{
			ID: oneLine(m.Flavor.ID), Name: oneLine(m.Flavor.Name), Memory: m.Flavor.MemoryMiB, Disk: m.Flavor.DiskGiB,
			Swap: m.Flavor.SwapMiB, Ephemeral: m.Flavor.EphemeralGiB, VCPUs: m.Flavor.VCPUs,
		},
	}
	if !m.Created.IsZero() {
		instance.Created = m.Created.UTC().Format(time.DateTime)
	}
	if m.UserID != "" || m.ProjectID != "" {
		instance.Owner = &novaOwner{
			User:    novaIdentity{oneLine(m.UserID), oneLine(m.UserName)},
			Project: novaIdentity{oneLine(m.ProjectID), oneLine(m.Project)},
		}
	}
	if m.RootType != "" {
		instance.Root = &novaRoot{m.RootType, oneLine(m.RootID)}
	}
	for _, p := range m.Ports {
		port := novaPort{UUID: oneLine(p.ID)}
		for _, ip := range p.IPs {
			port.IPs = append(port.IPs, novaAddress{Type: "fixed", Address: oneLine(ip.Address), Version: ip.Version})
		}
		instance.Ports = append(instance.Ports, port)
	}
	text, err := xml.MarshalIndent(instance, "    ", "  ")
	return "\n" + string(text) + "\n  ", err
}
