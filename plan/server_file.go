package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"go.yaml.in/yaml/v3"

	"compute-agent/compute"
	"compute-agent/guest"
)

// ServerFile is a server that somebody thinks of making, as it is written down: YAML or JSON in the words of the compute
// API. Flavor and image are described, or named by what the agent knows them as.
type ServerFile struct {
	ID          string             `yaml:"id"` // one is made up when it is empty
	Name        string             `yaml:"name"`
	Flavor      orName[fileFlavor] `yaml:"flavor"`
	Image       orName[fileImage]  `yaml:"image"`
	ConfigDrive bool               `yaml:"config_drive"`
	Metadata    map[string]string  `yaml:"metadata"`
	Ports       []filePort         `yaml:"ports"`
}

// orName is a thing that is described, or the name of one.
type orName[T any] struct {
	Name string
	Is   *T
}

// UnmarshalYAML takes a single word for a name.
func (o *orName[T]) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&o.Name)
	}
	o.Is = new(T)
	return decodeKnown(n, o.Is)
}

// decodeKnown refuses keys that it does not know, which yaml.Node's own Decode lets pass.
func decodeKnown(n *yaml.Node, into any) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("below line %d: %w", n.Line, err)
	}
	return nil
}

type fileFlavor struct {
	ID         string            `yaml:"id"`
	Name       string            `yaml:"name"`
	VCPUs      int               `yaml:"vcpus"`
	RAM        int               `yaml:"ram"`       // MiB
	Disk       int               `yaml:"disk"`      // GiB
	Ephemeral  int               `yaml:"ephemeral"` // GiB
	Swap       int               `yaml:"swap"`      // MiB
	ExtraSpecs map[string]string `yaml:"extra_specs"`
}

type fileImage struct {
	ID         string            `yaml:"id"`
	Name       string            `yaml:"name"`
	Format     string            `yaml:"disk_format"`
	MinDisk    int               `yaml:"min_disk"` // GiB
	MinRAM     int               `yaml:"min_ram"`  // MiB
	Virtual    int64             `yaml:"virtual_size"`
	SHA256     string            `yaml:"sha256"`
	Properties map[string]string `yaml:"properties"`
}

type filePort struct {
	ID       string       `yaml:"id"`
	MAC      string       `yaml:"mac_address"`
	VIFType  string       `yaml:"vif_type"`
	VNICType string       `yaml:"vnic_type"`
	Bridge   string       `yaml:"bridge"`
	Device   string       `yaml:"device"`
	MTU      int          `yaml:"mtu"`
	PCISlot  string       `yaml:"pci_slot"`
	VLAN     int          `yaml:"vlan"`
	Socket   string       `yaml:"vhostuser_socket"`
	Mode     string       `yaml:"vhostuser_mode"`
	FixedIPs []netip.Addr `yaml:"fixed_ips"`
}

// ReadServerFile reads a proposed server.
func ReadServerFile(r io.Reader) (ServerFile, error) {
	var f ServerFile
	d := yaml.NewDecoder(io.LimitReader(r, 1<<20))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return f, err
	}
	if f.Flavor.Is == nil && f.Flavor.Name == "" || f.Image.Is == nil && f.Image.Name == "" {
		return f, errors.New("flavor and image must be described or named")
	}
	return f, nil
}

// Proposal looks up what the file names; known is nil where no agent has run.
func (f *ServerFile) Proposal(known compute.Reader) (compute.Proposal, error) {
	p := compute.Proposal{ID: f.ID, Request: compute.CreateRequest{Name: f.Name, ConfigDrive: f.ConfigDrive, Metadata: f.Metadata}}
	for i := range f.Ports {
		p.Ports = append(p.Ports, f.Ports[i].port(i))
	}
	var err error
	if p.Flavor, err = f.flavor(known); err != nil {
		return p, err
	}
	p.Image, err = f.image(known)
	return p, err
}

func (f *ServerFile) flavor(known compute.Reader) (compute.Flavor, error) {
	if d := f.Flavor.Is; d != nil {
		return compute.Flavor{ID: d.ID, Name: d.Name, VCPUs: d.VCPUs, MemoryMiB: d.RAM, DiskGiB: d.Disk, EphemeralGiB: d.Ephemeral,
			SwapMiB: d.Swap, Public: true, ExtraSpecs: d.ExtraSpecs}, nil
	}
	if known != nil {
		list, err := known.Flavors()
		if err != nil {
			return compute.Flavor{}, err
		}
		for _, fl := range list {
			if fl.ID == f.Flavor.Name || fl.Name == f.Flavor.Name {
				return fl, nil
			}
		}
	}
	return compute.Flavor{}, fmt.Errorf("flavor: the agent knows none called %q", f.Flavor.Name)
}

func (f *ServerFile) image(known compute.Reader) (compute.Image, error) {
	if d := f.Image.Is; d != nil {
		img := compute.Image{ID: d.ID, Name: d.Name, Status: compute.ImageActive, DiskFormat: d.Format, MinDiskGiB: d.MinDisk, MinRAMMiB: d.MinRAM,
			VirtualSize: d.Virtual, SHA256: d.SHA256, Properties: d.Properties}
		if img.DiskFormat == "" {
			img.DiskFormat = "qcow2"
		}
		if img.SHA256 == "" {
			img.SHA256 = "SHA256-of-the-image"
		}
		return img, nil
	}
	if known != nil {
		list, err := known.Images()
		if err != nil {
			return compute.Image{}, err
		}
		for _, img := range list {
			if img.ID == f.Image.Name || img.Name == f.Image.Name {
				return img, nil
			}
		}
	}
	return compute.Image{}, fmt.Errorf("image: the agent knows none called %q", f.Image.Name)
}

// port gives what is left out the values that are usual: a port of a bridge, with an ID that tells its place.
func (p *filePort) port(i int) guest.Port {
	port := guest.Port{ID: p.ID, MAC: p.MAC, VIFType: p.VIFType, VNICType: p.VNICType, Bridge: p.Bridge, Device: p.Device, MTU: p.MTU,
		PCISlot: p.PCISlot, Addresses: p.FixedIPs, Details: guest.PortDetails{VLAN: p.VLAN, Socket: p.Socket, SocketMode: p.Mode}}
	if port.ID == "" {
		port.ID = fmt.Sprintf("%08d-0000-0000-0000-000000000000", i+1)
	}
	if port.Device == "" {
		port.Device = "tap" + port.ID[:min(len(port.ID), 11)] // as Neutron calls it
	}
	if port.VIFType == "" {
		port.VIFType = "bridge"
	}
	if port.VNICType == "" {
		port.VNICType = "normal"
	}
	return port
}
