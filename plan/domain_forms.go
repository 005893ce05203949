package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"compute-agent/guest"
	"compute-agent/numa"
	"compute-agent/virt"
)

// The forms of this file are Nova's: what its libvirt driver is given to define a guest. What is not there is as Nova
// leaves it.

// domainForm is a guest to be defined, and what is known of it already.
type domainForm struct {
	Input   domainInput   `json:"input"`
	Derived domainDerived `json:"derived"`
}

type domainInput struct {
	Conf     options          `json:"conf"`
	Host     hardwareForm     `json:"host"`
	Flavor   flavorForm       `json:"flavor"`
	Image    imageForm        `json:"image"`
	Instance novaInstanceForm `json:"instance"`
	Ports    []vifForm        `json:"network_info"`
	Volumes  []bdmForm        `json:"block_device_mapping"`
	Rescue   *kernelForm      `json:"rescue"`
	Mediated []string         `json:"mdevs"`
	PCI      []pciAddressForm `json:"pci_devices"`
	PMEM     []pmemForm       `json:"vpmems"`
}

// domainDerived is what has been decided before: where the guest is placed, and its drives.
type domainDerived struct {
	Guest        *guestForm    `json:"instance_numa_topology"`
	Host         *hostForm     `json:"host_numa_topology"`
	Disks        *diskInfoForm `json:"disk_info"`
	Name         string        `json:"instance_name"`
	Capabilities string        `json:"capabilities_xml"`
}

type hardwareForm struct {
	Nodes      int       `json:"cpu_nodes"`
	Sockets    int       `json:"cpu_sockets"` // in each node
	Cores      int       `json:"cpu_cores"`   // in each socket
	Threads    int       `json:"cpu_threads"` // in each core
	MemoryKiB  int       `json:"kB_mem"`
	Pages      [][][]int `json:"mempages"` // by node: size in KiB and number
	Libvirt    scalar    `json:"libvirt_version"`
	QEMU       scalar    `json:"qemu_version"`
	Arch       string    `json:"arch"`
	UEFI       *bool     `json:"supports_uefi"`
	SecureBoot *bool     `json:"supports_secure_boot"`

	sev bool // memory can be encrypted
}

// UnmarshalJSON also finds whether the host can encrypt guests' memory, which any key about SEV says.
func (h *hardwareForm) UnmarshalJSON(b []byte) error {
	type plainForm hardwareForm
	if err := json.Unmarshal(b, (*plainForm)(h)); err != nil {
		return err
	}
	var all details
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for key, value := range all {
		h.sev = h.sev || (strings.Contains(key, "sev") || strings.Contains(key, "mem_encryption")) && value.yes()
	}
	return nil
}

type flavorForm struct {
	ID          scalar            `json:"flavorid"`
	Name        string            `json:"name"`
	VCPUs       count             `json:"vcpus"`
	MemoryMiB   count             `json:"memory_mb"`
	RootGiB     count             `json:"root_gb"`
	EphemeralGB count             `json:"ephemeral_gb"`
	SwapMiB     count             `json:"swap"`
	ExtraSpecs  map[string]scalar `json:"extra_specs"`
}

func (f *flavorForm) flavor() guest.Flavor {
	return guest.Flavor{ID: string(f.ID), Name: f.Name, VCPUs: int(f.VCPUs), MemoryMiB: int(f.MemoryMiB), DiskGiB: int(f.RootGiB),
		EphemeralGiB: int(f.EphemeralGB), SwapMiB: int(f.SwapMiB), ExtraSpecs: plain(f.ExtraSpecs)}
}

type imageForm struct {
	ID         string            `json:"id"`
	Format     string            `json:"disk_format"`
	Properties map[string]scalar `json:"properties"`
}

type novaInstanceForm struct {
	ID             int               `json:"id"`
	UUID           string            `json:"uuid"`
	DisplayName    string            `json:"display_name"`
	ImageRef       string            `json:"image_ref"`
	OSType         string            `json:"os_type"`
	VMMode         string            `json:"vm_mode"`
	Architecture   string            `json:"architecture"`
	UserID         string            `json:"user_id"`
	ProjectID      string            `json:"project_id"`
	KernelID       string            `json:"kernel_id"`
	RamdiskID      string            `json:"ramdisk_id"`
	RootDevice     string            `json:"root_device_name"`
	ConfigDrive    scalar            `json:"config_drive"`
	SystemMetadata map[string]scalar `json:"system_metadata"`
}

type kernelForm struct {
	KernelID  string `json:"kernel_id"`
	RamdiskID string `json:"ramdisk_id"`
}

// name is the guest's at the hypervisor, by Nova's default template.
func (i *novaInstanceForm) name(derived string) string {
	if derived != "" {
		return derived
	}
	return fmt.Sprintf("instance-%08x", i.ID)
}

// properties are the image's with those that Nova keeps with the instance.
func (q *domainInput) properties() map[string]string {
	p := plain(q.Image.Properties)
	if q.Instance.OSType != "" {
		p["os_type"] = q.Instance.OSType // Nova asks the instance alone
	}
	if q.Instance.VMMode != "" {
		p["hw_vm_mode"] = q.Instance.VMMode
	}
	if !q.Host.sev {
		maps.DeleteFunc(p, encrypts)
	}
	if no := q.Host.SecureBoot; no != nil && !*no && p["os_secure_boot"] == "optional" {
		p["os_secure_boot"] = "disabled"
	}
	return p
}

// encrypts says whether a key asks for encrypted memory. Nova's driver passes over it on a host that has none: placement
// has seen to it that such a server comes to another.
func encrypts(key, _ string) bool {
	return strings.HasPrefix(key, "hw_mem_encryption") || strings.HasPrefix(key, "hw:mem_encryption")
}

func (q *domainInput) server(name string) guest.Server {
	i := &q.Instance
	s := guest.Server{ID: i.UUID, GuestName: name, Name: i.DisplayName, UserID: i.UserID, ProjectID: i.ProjectID,
		UserName: string(i.SystemMetadata["owner_user_name"]), ProjectName: string(i.SystemMetadata["owner_project_name"])}
	if i.ImageRef != "" {
		s.RootType, s.RootID = "image", i.ImageRef
	}
	return s
}

type pciAddressForm struct {
	Address string `json:"address"`
}

func (q *domainInput) pciDevices() []virt.PCIDevice {
	var list []virt.PCIDevice
	for _, d := range q.PCI {
		list = append(list, virt.PCIDevice{Address: d.Address, Managed: true})
	}
	return list
}

func (q *domainInput) mediated() []virt.MediatedDevice {
	var list []virt.MediatedDevice
	for _, id := range q.Mediated {
		list = append(list, virt.MediatedDevice{UUID: id})
	}
	return list
}

// pmemForm is persistent memory of the host's; sizes are in bytes.
type pmemForm struct {
	Path  string `json:"devpath"`
	Size  uint64 `json:"size"`
	Align uint64 `json:"align"`
}

func (q *domainInput) nvdimms() []virt.NVDIMM {
	var list []virt.NVDIMM
	for _, m := range q.PMEM {
		list = append(list, virt.NVDIMM{Path: m.Path, SizeKiB: m.Size / 1024, AlignKiB: m.Align / 1024})
	}
	return list
}

// vifForm is a port in Nova's network model.
type vifForm struct {
	ID       string         `json:"id"`
	Address  string         `json:"address"`
	Type     string         `json:"type"`
	VNICType string         `json:"vnic_type"`
	DevName  string         `json:"devname"`
	OVSID    string         `json:"ovs_interfaceid"`
	Delegate bool           `json:"delegate_create"`
	Details  details        `json:"details"`
	Profile  map[string]any `json:"profile"`
	Network  struct {
		Bridge string      `json:"bridge"`
		Meta   networkMeta `json:"meta"`
		Subnet []struct {
			IPs []struct {
				Address string `json:"address"`
			} `json:"ips"`
		} `json:"subnets"`
	} `json:"network"`
}

type networkMeta struct {
	MTU scalar `json:"mtu"`
}

// details are single values by name; what is none of these is left out.
type details map[string]scalar

// UnmarshalJSON takes any object.
func (d *details) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*d = details{}
	for key, raw := range all {
		var value scalar
		if json.Unmarshal(raw, &value) == nil {
			(*d)[key] = value
		}
	}
	return nil
}

// recordedInterface is what Nova's own fixtures answer when asked for the host's interface of a virtual
// function; a question has no host to ask. It is no interface's name, so another one stands for it until the
// domain is written.
const (
	recordedInterface = "fake_pf_interface_name"
	unknownInterface  = "not-known"
)

func (v *vifForm) port() guest.Port {
	d := v.Details
	slot, _ := v.Profile["pci_slot"].(string)
	vnic := v.VNICType
	if vnic == "" {
		vnic = "normal"
	}
	p := guest.Port{
		ID: v.ID, MAC: v.Address, VNICType: vnic, VIFType: v.Type, Bridge: v.Network.Bridge, Device: v.DevName,
		MTU: v.Network.Meta.MTU.number(), Delegated: v.Delegate, PCISlot: slot, PhysDev: unknownInterface,
		Details: guest.PortDetails{
			Hybrid: d["ovs_hybrid_plug"].yes(), CreateTap: d["ovs_create_tap"].yes(), InterfaceID: v.OVSID, VLAN: d["vlan"].number(),
			ProfileID: string(d["profileid"]), MacvtapSource: string(d["macvtap_source"]), MacvtapMode: string(d["macvtap_mode"]),
			Socket: string(d["vhostuser_socket"]), SocketMode: string(d["vhostuser_mode"]), VhostUserOVS: d["vhostuser_ovs_plug"].yes(),
			VhostUserFP: d["vhostuser_fp_plug"].yes(), VhostUserRouter: d["vhostuser_vrouter_plug"].yes(),
			PhysicalDevice: string(d["physical_interface"]),
		},
	}
	for _, s := range v.Network.Subnet {
		for _, ip := range s.IPs {
			if a, err := netip.ParseAddr(ip.Address); err == nil {
				p.Addresses = append(p.Addresses, a)
			}
		}
	}
	return p
}

func (q *domainInput) ports() []guest.Port {
	var list []guest.Port
	for i := range q.Ports {
		list = append(list, q.Ports[i].port())
	}
	return list
}

// placed is where the guest has been placed before, or where it fits.
func (f *domainForm) placed(host numa.Host, r numa.Request) (*numa.Guest, error) {
	if f.Derived.Guest != nil {
		g := f.Derived.Guest.guest()
		return &g, nil
	}
	if f.Derived.Host != nil {
		return nil, nil // it has been decided that the guest may run anywhere
	}
	wanted, err := r.Constraints()
	if err != nil || wanted == nil {
		return nil, err
	}
	g, ok := numa.Fit(host, *wanted, numa.Options{})
	if !ok {
		return nil, &guest.Error{Class: "NUMATopologyUnsupported", Key: "flavor", Value: f.Input.Flavor.Name, Rule: "the guest does not fit on the host's cells"}
	}
	return &g, nil
}
