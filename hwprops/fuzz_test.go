package hwprops

import (
	"errors"
	"strings"
	"testing"
)

// FuzzHardware gives Hardware lines of "key=value", as the flavor's, the image's or both's. Either it refuses,
// naming a key that was said in a message of bounded length, or all words that come out are from its lists.
func FuzzHardware(f *testing.F) {
	for _, g := range groups {
		for _, s := range g.Settings {
			for _, value := range append([]string{"yes", "1", "x\x00<&>", ""}, s.Words...) {
				f.Add(s.Spec+"="+value+"\n"+s.Property+"="+value, uint8(3))
			}
		}
	}
	f.Add("trait:HW_X=required\ntrait_a:CUSTOM_Y=forbidden\nresources2:VGPU=2", uint8(1))
	f.Fuzz(func(t *testing.T, text string, where uint8) {
		said := map[string]string{}
		for line := range strings.SplitSeq(text, "\n") {
			key, value, _ := strings.Cut(line, "=")
			said[key] = value
		}
		var s Source
		if where&1 != 0 {
			s.ExtraSpecs = said
		}
		if where&2 != 0 {
			s.Properties = said
		}
		h, err := s.Hardware()
		if err != nil {
			checkRefusal(t, err, said)
			return
		}
		checkWords(t, h)
	})
}

// neighbours are keys that an error may name though they were not said: what was said needs them.
var neighbours = []string{"hw_firmware_type", "hw_firmware_stateless"}

func checkRefusal(t *testing.T, err error, said map[string]string) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) || refused.Class == "" || refused.Rule == "" {
		t.Fatalf("%#v", err)
	}
	known := strings.Join(neighbours, "\n")
	for key := range said {
		known += "\n" + cut(key)
	}
	if !strings.Contains(known, refused.Key) {
		t.Errorf("%v names a key that nobody said", err)
	}
	if text := err.Error(); len(text) > 1500 || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' }) {
		t.Errorf("a message of %d bytes: %.300q", len(text), text)
	}
}

func checkWords(t *testing.T, h Hardware) {
	t.Helper()
	for name, word := range map[string]string{
		"hw_architecture": h.Architecture, "hw_machine_type": h.MachineType, "hw_vm_mode": h.VMMode, "os_type": h.OSType,
		"os_distro": h.OSDistro, "os_command_line": h.CommandLine, "os_admin_user": h.AdminUser, "hw_firmware_type": h.Firmware,
		"os:secure_boot": h.SecureBoot, "hw_disk_bus": h.DiskBus, "hw_cdrom_bus": h.CDROMBus, "hw_floppy_bus": h.FloppyBus,
		"hw_scsi_model": h.SCSIModel, "hw_rescue_device": h.RescueDevice, "hw_rescue_bus": h.RescueBus, "img_root_device_name": h.RootDevice,
		"hw_vif_model": h.VIFModel, "hw_video_model": h.VideoModel, "hw_pointer_model": h.PointerModel, "hw_input_bus": h.InputBus,
		"hw:sound_model": h.SoundModel, "hw:usb_model": h.USBModel, "hw:watchdog_action": h.Watchdog, "hw:viommu_model": h.VIOMMU,
		"hw:maxphysaddr_mode": h.PhysAddrMode, "hw:mem_encryption_model": h.MemEncryption, "hw:ephemeral_encryption_format": h.EphemeralFormat,
		"hw:pci_numa_affinity_policy": h.PCIAffinity, "pci_passthrough:alias": h.PCIAlias, "hw:pmem": strings.Join(h.PMEM, ","),
	} {
		if form, allowed := setting(name).Canonical(word); word != "" && (!allowed || form != word) {
			t.Errorf("%s came out as %q", name, word)
		}
	}
	if h.SerialPorts < 1 || h.SerialPorts > 4 || h.RedirectedPorts < 0 || h.RedirectedPorts > 15 || h.VideoRAMMiB < 0 || h.VGPUs < 0 {
		t.Errorf("a number out of range: %+v", h)
	}
	for _, name := range append(h.TraitsNeeded, h.TraitsForbidden...) {
		if !setting("trait[GROUP]:TRAIT").specs.MatchString("trait:" + name) {
			t.Errorf("trait %q", name)
		}
	}
}
