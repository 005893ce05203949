package compute_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"compute-agent/compute"
)

// imageSays gives the world's image other properties.
func (w *world) imageSays(properties map[string]string) {
	w.t.Helper()
	w.must(w.agent.store.Update(w.t.Context(), func(tx compute.Writer) error {
		img, err := tx.Image(imageID)
		if err != nil {
			return err
		}
		img.Properties = maps.Clone(properties)
		return tx.PutImage(img)
	}))
}

// TestCreateRefusesWhatNoGuestCanBe: a wrong word of flavor or image is refused with its key, its value and the rule,
// before the host is claimed and anything is stored.
func TestCreateRefusesWhatNoGuestCanBe(t *testing.T) {
	w := newWorld(t)
	w.boot(nil)
	for words, want := range map[string]string{
		"hw:watchdog_action=bark":                            "flavorRef: hw:watchdog_action=\"bark\": must be one of",
		"hw:tpm_version=2.0 hw:tpm_model=tpm":                "flavorRef: hw:tpm_model=\"tpm\": must be one of",
		"quota:cpu_shares=many":                              "flavorRef: quota:cpu_shares=\"many\": must be an integer",
		"hw:cpu_policy=mine":                                 "flavorRef: hw:cpu_policy=\"mine\": must be one of",
		"hw:cpu_realtime=yes":                                "must leave at least one vCPU out",
		"hw:pmem=4GB":                                        "flavorRef: hw:pmem=\"4GB\": the host has no such persistent memory",
		"resources:VGPU=1":                                   "flavorRef: resources:VGPU=\"1\": the host has no virtual GPUs",
		"hw:ephemeral_encryption=yes":                        "hw:ephemeral_encryption=\"true\": the host has no key for disk vda",
		"hw:redirected_usb_ports=2":                          "flavorRef: hw:redirected_usb_ports=\"2\": needs SPICE",
		"hw:viommu_model=intel":                              "flavorRef: hw:viommu_model=\"intel\": machine type pc",
		"hw_disk_bus=xen":                                    "imageRef: hw_disk_bus=\"xen\": ",
		"hw_vif_model=ne3k":                                  "imageRef: hw_vif_model=\"ne3k\": must be one of",
		"hw_video_ram=64":                                    "imageRef: hw_video_ram=\"64\": ",
		"os_secure_boot=required":                            "imageRef: os_secure_boot=\"required\": needs hw_firmware_type=uefi",
		"hw:mem_encryption=yes":                              "imageRef: hw_firmware_type=\"\": memory encryption needs hw_firmware_type=uefi",
		"hw_machine_type=pc'/>":                              "imageRef: hw_machine_type=\"pc'/>\": ",
		"hw:virtio_packed_ring=yes hw_virtio_packed_ring=no": "hw_virtio_packed_ring",
	} {
		var extra []string
		properties := map[string]string{}
		for word := range strings.FieldsSeq(words) {
			if key, value, _ := strings.Cut(word, "="); strings.Contains(key, ":") {
				extra = append(extra, word)
			} else {
				properties[key] = value
			}
		}
		w.imageSays(properties)
		r := request()
		r.FlavorID = w.flavor(1, 64, extra...)
		_, err := w.CreateServer(t.Context(), r)
		var failure *compute.Failure
		if !errors.As(err, &failure) || !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", words, err, want)
		}
	}
	if n := len(w.claims()); n > 0 {
		t.Errorf("%d claims are left", n)
	}
	w.imageSays(nil)
	if s := w.create(); s.VM != compute.Active {
		t.Errorf("a server that asks for nothing is %s", s.VM)
	}
}

func TestImageNeedsAConfigDrive(t *testing.T) {
	w := newWorld(t)
	w.boot(nil)
	w.imageSays(map[string]string{"img_config_drive": "mandatory"})
	r := request()
	r.ConfigDrive, r.AdminPassword = false, ""
	s, err := w.CreateServer(t.Context(), r)
	w.must(err)
	if s = w.await(s.ID); !s.ConfigDrive || s.VM != compute.Active {
		t.Errorf("config drive %v, %s", s.ConfigDrive, s.VM)
	}
}
