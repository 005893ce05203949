package guest

import (
	"testing"

	"compute-agent/virt"
)

// BenchmarkDefine is a guest that asks for nothing, and one that asks for much.
func BenchmarkDefine(b *testing.B) {
	much := change("hw_machine_type=q35 hw_firmware_type=uefi hw:tpm_version=2.0 hw:watchdog_action=reset hw:cpu_policy=dedicated hw:numa_nodes=2 "+
		"hw:mem_page_size=large hw_scsi_model=virtio-scsi hw_disk_bus=scsi quota:disk_read_bytes_sec=1000 quota:vif_inbound_average=100",
		twoCells, func(r *Request) {
			r.Ports = []Port{port("ovs")}
			r.Drives = append(r.Drives, volume("sda", "scsi", "1"), volume("sdb", "scsi", "2"))
		})
	for name, r := range map[string]Request{"plain": plain(), "much": much} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var spec virt.Spec
			var err error
			for b.Loop() {
				if spec, err = Define(r); err != nil {
					b.Fatal(err)
				}
			}
			_ = spec
		})
	}
}
