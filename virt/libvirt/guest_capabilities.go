package libvirt

import (
	"fmt"
	"sync"
	"time"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// GuestCapabilities reads what guests can have out of the XML of libvirt's domain capabilities.
func GuestCapabilities(text string) (virt.Capabilities, error) {
	var caps libvirtxml.DomainCaps
	if err := caps.Unmarshal(text); err != nil {
		return virt.Capabilities{}, fmt.Errorf("parse domain capabilities: %w", err)
	}
	c := virt.Capabilities{
		Arch: caps.Arch, VirtType: caps.Domain, Machine: caps.Machine, Emulator: caps.Path,
	}
	if caps.VCPU != nil {
		c.MaxVCPUs = int(caps.VCPU.Max)
	}
	if caps.IOThreads != nil {
		c.IOThreads = answer(caps.IOThreads.Supported)
	}
	if m := caps.MemoryBacking; m != nil {
		c.MemorySources = offer(m.Supported, m.Enums, "sourceType")
	}
	readFirmware(&c, caps.OS)
	readCPUModes(&c, caps.CPU)
	readDevices(&c, caps.Devices)
	readGuestFeatures(&c, caps.Features)
	return c, nil
}

func readFirmware(c *virt.Capabilities, os *libvirtxml.DomainCapsOS) {
	if os == nil {
		return
	}
	c.Firmware = offer(os.Supported, os.Enums, "firmware")
	if os.Loader != nil {
		c.SecureBoot = offers(offer(os.Loader.Supported, os.Loader.Enums, "secure"), "yes")
	}
	if f := os.FirmwareFeatures; f != nil { // tells more exactly: of firmware that can be chosen
		c.SecureBoot = offers(offer(f.Supported, f.Enums, "secureBoot"), "yes")
		c.EnrolledKeys = offers(offer(f.Supported, f.Enums, "enrolledKeys"), "yes")
	}
}

func readCPUModes(c *virt.Capabilities, cpu *libvirtxml.DomainCapsCPU) {
	if cpu == nil {
		return
	}
	c.CPUModes = virt.Offer{}
	for _, mode := range cpu.Modes {
		if mode.Supported != "yes" {
			continue
		}
		c.CPUModes = append(c.CPUModes, mode.Name)
		if mode.Name != "custom" {
			continue
		}
		for _, m := range mode.Models {
			c.CPUModels = append(c.CPUModels, virt.CPUModel{Name: m.Name, Usable: answer(m.Usable)})
		}
	}
}

func readDevices(c *virt.Capabilities, d *libvirtxml.DomainCapsDevices) {
	if d == nil {
		return
	}
	for _, r := range []struct {
		to     *virt.Offer
		device *libvirtxml.DomainCapsDevice
		enum   string
	}{
		{&c.DiskBuses, d.Disk, "bus"},
		{&c.DiskDevices, d.Disk, "diskDevice"},
		{&c.Graphics, d.Graphics, "type"},
		{&c.VideoModels, d.Video, "modelType"},
		{&c.HostDevices, d.HostDev, "subsysType"},
		{&c.RNGModels, d.RNG, "model"},
		{&c.RNGBackends, d.RNG, "backendModel"},
		{&c.FileSystems, d.FileSystem, "driverType"},
		{&c.TPMModels, d.TPM, "model"},
		{&c.TPMBackends, d.TPM, "backendModel"},
		{&c.TPMVersions, d.TPM, "backendVersion"},
		{&c.Redirection, d.Redirdev, "bus"},
		{&c.Channels, d.Channel, "type"},
	} {
		if r.device != nil {
			*r.to = offer(r.device.Supported, r.device.Enums, r.enum)
		}
	}
	if d.HostDev != nil {
		c.VFIO = offers(offer(d.HostDev.Supported, d.HostDev.Enums, "pciBackend"), "vfio")
	}
}

func readGuestFeatures(c *virt.Capabilities, f *libvirtxml.DomainCapsFeatures) {
	if f == nil {
		return
	}
	if f.VMCoreInfo != nil {
		c.VMCoreInfo = answer(f.VMCoreInfo.Supported)
	}
	if f.GenID != nil {
		c.GenID = answer(f.GenID.Supported)
	}
	if f.HyperV != nil {
		c.HyperV = offer(f.HyperV.Supported, f.HyperV.Enums, "features")
	}
	if l := f.LaunchSecurity; l != nil {
		c.LaunchSecurity = offer(l.Supported, l.Enums, "sectype")
	}
	if sev := f.SEV; sev != nil && answer(sev.Supported) == virt.Yes {
		c.SEV = &virt.SEV{CBitPos: int(sev.CBitPos), ReducedPhysBits: int(sev.ReducedPhysBits),
			MaxGuests: int(sev.MaxGuests), MaxESGuests: int(sev.MaxESGuests)}
	}
}

// offer is one of the lists of a thing: nil when libvirt does not tell, and empty when it has not even the thing.
func offer(supported string, enums []libvirtxml.DomainCapsEnum, name string) virt.Offer {
	if supported == "no" {
		return virt.Offer{}
	}
	for _, e := range enums {
		if e.Name == name {
			return append(virt.Offer{}, e.Values...)
		}
	}
	return nil
}

func offers(o virt.Offer, word string) virt.Answer {
	switch {
	case o == nil:
		return virt.Untold
	case o.Refuses(word):
		return virt.No
	}
	return virt.Yes
}

func answer(text string) virt.Answer {
	switch text {
	case "yes":
		return virt.Yes
	case "no":
		return virt.No
	}
	return virt.Untold
}

// capabilitiesAge is how long libvirt's word on what guests can have is good: a firmware or a TPM emulator that
// is installed meanwhile is found by then.
const capabilitiesAge = 10 * time.Minute

// guestMemory keeps what libvirt said that guests of a connection can have.
type guestMemory struct {
	mu    sync.Mutex
	all   []virt.Capabilities
	of    int // the hypervisor's version
	since time.Time
}

// read returns what is known, or asks: when nothing is, when the hypervisor was upgraded, or when it is
// long ago.
func (g *guestMemory) read(h *virt.Host, now time.Time, ask func() ([]virt.Capabilities, error)) ([]virt.Capabilities, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all != nil && g.of == h.HypervisorVersion && now.Sub(g.since) < capabilitiesAge {
		return g.all, nil
	}
	all, err := ask()
	if err != nil {
		return nil, err
	}
	g.all, g.of, g.since = all, h.HypervisorVersion, now
	return all, nil
}

// askGuestCapabilities asks libvirt what guests of each kind can have: for each architecture and virt type of those
// machine types that have an alias, as Nova does. The others are older versions, and what is rarely used.
func askGuestCapabilities(conn *lv.Connect, h *virt.Host) ([]virt.Capabilities, error) {
	all := []virt.Capabilities{}
	for _, kind := range h.Supported {
		for _, m := range h.Machines {
			if m.Arch != kind.Arch || len(m.Aliases) == 0 {
				continue
			}
			text, err := conn.GetDomainCapabilities("", kind.Arch, m.Name, kind.VirtType, 0)
			if isCode(err, lv.ERR_INVALID_ARG) || isUnsupported(err) {
				continue // libvirt lists the kind, and cannot run it here
			}
			if err != nil {
				return nil, err
			}
			c, err := GuestCapabilities(text)
			if err != nil {
				return nil, fmt.Errorf("%s guests of machine type %s on %s: %w", kind.VirtType, m.Name, kind.Arch, err)
			}
			if c.Stateless, err = hasStateless(conn, &c); err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	return all, readModelFeatures(conn, h.Arch, all)
}

// readModelFeatures adds what the processors have that guests of the host's own architecture can be given by name. It
// asks about each once, and not about what this host cannot run.
func readModelFeatures(conn *lv.Connect, arch string, all []virt.Capabilities) error {
	known := map[string][]string{}
	for i := range all {
		if all[i].Arch != arch {
			continue
		}
		for j := range all[i].CPUModels {
			m := &all[i].CPUModels[j]
			if m.Usable == virt.No {
				continue
			}
			features, asked := known[m.Name]
			if !asked {
				var err error
				features, err = readFeatures(conn, &libvirtxml.CapsHostCPU{Arch: arch, Model: m.Name})
				if outcomeUnknown(err) {
					return err
				}
				known[m.Name] = features // none when libvirt cannot say
			}
			m.Features = features
		}
	}
	return nil
}

// hasStateless finds out whether there is firmware without variables, of which libvirt does not tell: by having it
// say how it would start a guest with such firmware. It picks the firmware for that as for a guest that it does
// start.
func hasStateless(conn *lv.Connect, c *virt.Capabilities) (virt.Answer, error) {
	if c.Firmware == nil || c.Firmware.Refuses("efi") {
		return virt.Untold, nil
	}
	text, err := Render(virt.Spec{
		ID: "00000000-0000-4000-8000-000000000000", Name: "probe", VirtType: c.VirtType, Arch: c.Arch, Machine: c.Machine, Emulator: c.Emulator,
		VCPUs: 1, MemoryMiB: 64, CPU: virt.CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1},
		Firmware: virt.Firmware{UEFI: true, Stateless: true},
	})
	if err != nil {
		return virt.Untold, err
	}
	switch _, err := conn.DomainXMLToNative("qemu-argv", text, 0); {
	case err == nil:
		return virt.Yes, nil
	case isCode(err, lv.ERR_OPERATION_FAILED): // it found none that will do
		return virt.No, nil
	case outcomeUnknown(err):
		return virt.Untold, err
	}
	return virt.Untold, nil // it cannot say
}
