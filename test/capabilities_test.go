package test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"compute-agent/compute"
	"compute-agent/guest"
	"compute-agent/hwprops"
	"compute-agent/internal/golden"
	"compute-agent/virt"
	"compute-agent/virt/libvirt"
)

// recordedHosts are the hosts of virt/libvirt/testdata/hosts, with what is not in their capabilities.
var recordedHosts = []struct {
	name             string
	virtType         string
	cpuMode          string // the operator's
	library, version int
}{
	{"bare", "qemu", "", 9_000_000, 7_002_022},
	{"debian12", "qemu", "", 9_000_000, 7_002_022},
	{"debian12", "kvm", "host-passthrough", 9_000_000, 7_002_022},
	{"rhel9", "kvm", "", 9_005_000, 8_000_000},
	{"sev", "kvm", "host-passthrough", 12_001_000, 10_002_000},
}

// readHost reads a host as the driver does.
func readHost(t *testing.T, dir string) virt.Host {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "capabilities.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(string(text)); err != nil {
		t.Fatal(err)
	}
	h := virt.Host{
		Hostname: "host", Hypervisor: "QEMU", Arch: caps.Host.CPU.Arch, CPU: virt.HostCPU{Model: caps.Host.CPU.Model},
		Supported: libvirt.GuestKinds(&caps), Machines: libvirt.Machines(&caps),
	}
	files, err := filepath.Glob(filepath.Join(dir, "*-*.xml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no domain capabilities (%v)", dir, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := libvirt.GuestCapabilities(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		h.Capabilities = append(h.Capabilities, c)
	}
	return h
}

// promise is a trait, and what a flavor and an image say who rely on it.
type promise struct {
	trait  string
	flavor map[string]string
	image  map[string]string
	bus    string // of the server's drive
}

// promises are all that guests can have and a trait tells of.
func promises() (list []promise) {
	words := func(prefix, words string, of func(word string) promise) {
		for _, word := range strings.Fields(words) {
			p := of(word)
			p.trait = prefix + strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(word))
			list = append(list, p)
		}
	}
	image := func(key string) func(string) promise {
		return func(word string) promise { return promise{image: map[string]string{key: word}} }
	}
	flavor := func(key string) func(string) promise {
		return func(word string) promise { return promise{flavor: map[string]string{key: word}} }
	}
	words("COMPUTE_GRAPHICS_MODEL_", "bochs cirrus gop none qxl vga virtio vmvga xen", image("hw_video_model"))
	words("COMPUTE_NET_VIF_MODEL_", "e1000 e1000e igb lan9118 ne2k_pci netfront pcnet rtl8139 spapr-vlan virtio vmxnet vmxnet3", image("hw_vif_model"))
	words("COMPUTE_SOUND_MODEL_", "ac97 es1370 ich6 ich9 pcspk sb16 usb virtio", flavor("hw:sound_model"))
	words("COMPUTE_USB_MODEL_", "nec-xhci qemu-xhci", image("hw_usb_model"))
	words("COMPUTE_VIOMMU_MODEL_", "auto intel smmuv3 virtio", image("hw_viommu_model"))
	words("COMPUTE_STORAGE_BUS_", "fdc ide sata scsi usb virtio", func(word string) promise { return promise{bus: word} })
	words("COMPUTE_SECURITY_TPM_", "1.2 2.0", flavor("hw:tpm_version"))
	words("COMPUTE_SECURITY_TPM_", "tis crb", func(word string) promise {
		return promise{flavor: map[string]string{"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-" + word}}
	})
	words("HW_CPU_X86_", "amd-sev amd-sev-es amd-sev-snp", func(word string) promise {
		return promise{flavor: map[string]string{"hw:mem_encryption": "true", "hw:mem_encryption_model": word},
			image: map[string]string{"hw_firmware_type": "uefi", "hw_firmware_stateless": strconv.FormatBool(word == "amd-sev-snp")}}
	})
	return append(list,
		promise{trait: "COMPUTE_NET_VIRTIO_PACKED", flavor: map[string]string{"hw:virtio_packed_ring": "true"}},
		promise{trait: "COMPUTE_ADDRESS_SPACE_PASSTHROUGH", flavor: map[string]string{"hw:maxphysaddr_mode": "passthrough"}},
		promise{trait: "COMPUTE_ADDRESS_SPACE_EMULATED", flavor: map[string]string{"hw:maxphysaddr_mode": "emulate", "hw:maxphysaddr_bits": "42"}},
		promise{trait: "COMPUTE_SECURITY_UEFI_SECURE_BOOT", flavor: map[string]string{"os:secure_boot": "required"}, image: map[string]string{"hw_firmware_type": "uefi"}},
		promise{trait: "COMPUTE_SECURITY_STATELESS_FIRMWARE", image: map[string]string{"hw_firmware_type": "uefi", "hw_firmware_stateless": "true"}},
	)
}

// accepts says whether a host takes a server, as the kind of machine that suits it: nil, or why not.
func (p promise) accepts(h virt.Host, opt guest.Options) error {
	_, err := p.define(h, opt)
	return err
}

// define is the guest that relies on the promise, as the kind of machine that suits it. With an error it is one
// that the host refuses; none, without an ID, if it cannot be defined.
func (p promise) define(h virt.Host, opt guest.Options) (spec virt.Spec, err error) {
	for _, machine := range []string{"pc", "q35"} {
		opt.Machines = map[string]string{"x86_64": machine}
		r := guest.Request{
			Server:  guest.Server{ID: "cb6d28b6-2f1a-4d2c-a2b3-1f0c6ae6a3f4", GuestName: "instance-1"},
			Flavor:  guest.Flavor{Name: "m1.small", VCPUs: 1, MemoryMiB: 64, ExtraSpecs: p.flavor},
			Image:   guest.Image{Properties: p.image},
			Host:    h,
			Options: opt,
			Ports:   []guest.Port{{ID: "76a8b4d9-9d8c-4f5b-8e0b-1f7a3a9a1c22", MAC: "fa:16:3e:00:00:01", VNICType: "normal", VIFType: "bridge", Bridge: "br0"}},
			Drives:  []guest.Drive{p.drive()},
		}
		if spec, err = guest.Define(r); err != nil {
			continue
		}
		if err = guest.Supported(spec, h, hwprops.Source{ExtraSpecs: p.flavor, Properties: p.image}); err == nil {
			return spec, nil
		}
	}
	return spec, err
}

func (p promise) drive() guest.Drive {
	d := guest.Drive{Role: guest.RoleRoot, Target: "vda", Bus: "virtio", Source: virt.Source{File: "/disk"}, Format: "raw"}
	switch p.bus {
	case "":
	case "fdc":
		d.Target, d.Bus, d.Kind = "fda", "fdc", "floppy"
	case "ide":
		d.Target, d.Bus = "hda", "ide"
	case "virtio":
	default:
		d.Target, d.Bus = "sda", p.bus
	}
	return d
}

// TestTraitsAgreeWithWhatIsAccepted asks each recorded host for each thing that a trait tells of: the placement service
// sends a server there exactly if the host takes it.
func TestTraitsAgreeWithWhatIsAccepted(t *testing.T) {
	for _, recorded := range recordedHosts {
		t.Run(recorded.name+" "+recorded.virtType, func(t *testing.T) {
			h := readHost(t, filepath.Join("../virt/libvirt/testdata/hosts", recorded.name))
			h.VirtType, h.LibraryVersion, h.HypervisorVersion = recorded.virtType, recorded.library, recorded.version
			opt := guest.Options{VNC: "127.0.0.1", CPUMode: recorded.cpuMode}
			report, err := compute.Capacity{}.Report(compute.NodeFacts{Host: h, Options: opt})
			if err != nil {
				t.Fatal(err)
			}
			traits, told := report.Provider.Traits, map[string]bool{}
			var refusals strings.Builder
			for _, p := range promises() {
				told[p.trait] = true
				err := p.accepts(h, opt)
				if promised := slices.Contains(traits, p.trait); promised != (err == nil) {
					t.Errorf("%s: promised %v, and the server gets %v", p.trait, promised, err)
				}
				if err != nil {
					refusals.WriteString("\n" + p.trait + "\n  " + err.Error())
				}
			}
			for _, trait := range traits {
				if isOfGuests(trait) && !told[trait] {
					t.Errorf("%s was not put to the test", trait)
				}
			}
			golden.Assert(t, "testdata/traits/"+recorded.name+"-"+recorded.virtType+".golden", strings.Join(traits, "\n")+"\n"+refusals.String()+"\n")
		})
	}
}

// isOfGuests says whether a trait tells of what guests can have, and not of the host or the agent.
func isOfGuests(trait string) bool {
	for _, other := range []string{"COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_", "COMPUTE_ARCH_", "HW_ARCH_"} {
		if strings.HasPrefix(trait, other) {
			return false
		}
	}
	return !strings.HasPrefix(trait, "HW_CPU_") || strings.HasPrefix(trait, "HW_CPU_X86_AMD_SEV")
}
