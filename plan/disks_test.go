package plan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDisksVectors holds the drives of guests against Nova's, to the letter. Of an answer in which Nova's releases
// differ master's counts.
func TestDisksVectors(t *testing.T) {
	lines := readLines(t, "testdata/blockinfo.jsonl.gz")
	if len(lines) == 0 {
		t.Fatal("no vectors were read")
	}
	for _, line := range lines {
		var want struct {
			ID       string
			Output   any
			Variants []struct {
				Names  []string
				Output any
			}
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		for _, v := range want.Variants {
			if slices.Contains(v.Names, "master") {
				want.Output = v.Output
			}
		}
		t.Run(want.ID, func(t *testing.T) {
			answer, err := Disks(line)
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Output any }
			if err := json.Unmarshal(answer, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Output, got.Output); diff != "" {
				t.Errorf("(-nova +got):\n%s", diff)
			}
		})
	}
}

// TestDisksAnswers has questions of kinds that the vectors have few of, and what Nova does with them.
func TestDisksAnswers(t *testing.T) {
	for _, c := range []struct{ name, input, want string }{
		{"a swap device without a name gets a volume's, in Nova",
			`{"op": "disk_info", "bdms": [{"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 64},
			  {"source_type": "volume", "destination_type": "volume", "device_name": "/dev/vdb"}]}`,
			`"disk.swap":{"bus":"virtio","dev":"vdb","type":"disk"}`},
		{"boot indexes are sorted as text",
			`{"op": "disk_info", "bdms": [{"source_type": "volume", "destination_type": "volume", "boot_index": 0},
			  {"source_type": "volume", "destination_type": "volume", "boot_index": 1, "device_type": "cdrom"},
			  {"source_type": "volume", "destination_type": "volume", "boot_index": 9, "device_type": "floppy"}]}`,
			`"boot_order":["hd","fd","cdrom"]`},
		{"nothing has the bus of a name", `{"op": "disk_info", "bdms": [{"source_type": "volume", "destination_type": "volume", "device_name": "nvme0"}]}`,
			`{"class":"InternalError","message":"Unable to determine disk bus for 'n'"}`},
		{"hypervisor", `{"op": "disk_info", "virt_type": "uml"}`, `"message":"Virtualization type 'uml' is not supported by this compute driver"`},
		{"container", `{"op": "disk_info", "virt_type": "lxc"}`, `"root":{"boot_index":"1","bus":"lxc","dev":null,"type":"disk"}`},
		{"q35 by the operator", `{"op": "disk_info", "config_drive": true, "conf": {"libvirt.hw_machine_type": ["x86_64=q35"]}}`,
			`"disk.config":{"bus":"sata","dev":"sda","type":"cdrom"}`},
		{"config drive is a disk", `{"op": "disk_info", "conf": {"config_drive_format": "vfat", "force_config_drive": true}}`,
			`"disk.config":{"bus":"virtio","dev":"vdb","type":"disk"}`},
		{"an old name of a property", `{"op": "disk_info", "image_props": {"vmware_adaptertype": "lsiLogic"}}`, `"disk_bus":"scsi"`},
		{"architecture", `{"op": "disk_info", "image_props": {"architecture": "z80"}}`, `"message":"Architecture name 'z80' is not valid"`},
		{"rescue device", `{"op": "disk_info", "rescue": true, "rescue_image": {"image_props": {"hw_rescue_device": "fs"}}}`,
			`{"class":"UnsupportedRescueDevice","message":"Requested rescue device 'fs' is not supported"}`},
		{"rescue bus", `{"op": "disk_info", "rescue": true, "rescue_image": {"image_props": {"hw_rescue_bus": "lxc"}}}`,
			`"message":"Requested rescue bus 'lxc' is not supported by the 'kvm' virt driver"`},
		{"names that were asked for are passed over",
			`{"op": "default_names", "bdms": [{"source_type": "image", "destination_type": "local", "boot_index": 0},
			  {"source_type": "volume", "destination_type": "volume", "device_name": "/dev/vdz"}]}`, `"device_name":"/dev/vdb"`},
		{"a name in use", `{"op": "next_device_name", "root_device_name": "/dev/vda", "device": "/dev/sdb",
			  "bdms": [{"source_type": "volume", "destination_type": "volume", "device_name": "/dev/vdb"}]}`,
			`{"class":"DevicePathInUse","message":"The supplied device path (/dev/sdb) is in use."}`},
		{"too many for the API", `{"op": "next_device_name", "root_device_name": "/dev/vda", "conf": {"compute.max_disk_devices_to_attach": 1}}`,
			`"class":"TooManyDiskDevices"`},
		{"EC2's names", `{"op": "next_device_name", "device": "", "bdms": []}`,
			`"mapping":{"ami":"sda1","ephemeral0":"sda2","root":"/dev/sda1","swap":"sda3"}`},
		{"the root device of the mappings", `{"op": "bdm_dict", "fn": "from_legacy_mapping", "root_device_name": "vdb", "image_uuid": "i",
			  "arg": [{"device_name": "/dev/vdb", "volume_id": "v"}, {"no_device": true}]}`, `"result":[{"boot_index":0,`},
		{"no source", `{"op": "bdm_dict", "fn": "legacy", "arg": {"boot_index": 1}}`,
			`"message":"Block Device Mapping is Invalid: Some required fields are missing"`},
		{"unknown fields", `{"op": "bdm_dict", "fn": "legacy", "arg": {"source_type": "blank", "b": 1, "a": 1}}`, `fields are invalid: a b"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Disks([]byte(`{"id": "x", "input": ` + strings.ReplaceAll(c.input, "\n", " ") + `}`))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(got), c.want) {
				t.Errorf("got %s\nwant ...%s...", got, c.want)
			}
		})
	}
	for _, wrong := range []string{`{"op": "guess"}`, `{"op": "string", "fn": "guess", "arg": ""}`, `{"op": "bdm_dict", "fn": "guess", "arg": {}}`,
		`{"op": "bdm_dict", "fn": "legacy", "arg": 1}`, `{"op": "disk_info", "conf": {"libvirt.disk_prefix": 1}}`} {
		if got, err := Disks([]byte(`{"id": "x", "input": ` + wrong + `}`)); err == nil {
			t.Errorf("%s: got %s, want an error", wrong, got)
		}
	}
}
