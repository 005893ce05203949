package compute

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/guest"
	"compute-agent/internal/cpuset"
	"compute-agent/internal/golden"
	"compute-agent/numa"
	"compute-agent/virt"
)

func specServer() Server {
	return Server{
		ID: "0c0ffee0-1234-4567-89ab-0123456789ab", Number: 42, Name: "web <&> 1", UserID: "u1", UserName: "admin", ProjectID: "p1", ProjectName: "demo",
		Flavor:  Flavor{ID: "2", Name: "m1.small", VCPUs: 2, MemoryMiB: 512, DiskGiB: 5},
		ImageID: "1b2c", Image: ImageRef{Name: "cirros", Checksum: "abc", Format: "raw", Properties: map[string]string{}},
		ConfigDrive: true, Created: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

var specFiles = Files{Root: "/state/instances/x/disk", Base: "/state/images/abc", ConfigDrive: "/state/instances/x/disk.config",
	Ephemeral: "/state/instances/x/disk.eph0", Swap: "/state/instances/x/disk.swap", ConsoleLog: "/state/instances/x/console.log",
	Rescue: "/state/instances/x/disk.rescue", RescueBase: "/state/images/def", RescueConfig: "/state/instances/x/disk.config.rescue"}

func specMachine() machine {
	return machine{
		host: virt.Host{VirtType: "qemu", Arch: "x86_64", Emulator: "/usr/bin/qemu-system-x86_64"}, storage: Storage{DirectIO: true},
		guests: GuestOptions{Options: guest.Options{VNC: "127.0.0.1", EmulatedCPU: DefaultEmulatedCPU, AppendConsoleLog: true, NativeIO: true, GuestAgent: true}}, version: "1.2.3",
	}
}

func TestBuildSpec(t *testing.T) {
	for name, change := range map[string]func(*Server, *machine){
		"default": func(*Server, *machine) {},
		"kvm":     func(_ *Server, m *machine) { m.host.VirtType = "kvm" },
		"q35-sata": func(s *Server, _ *machine) {
			s.Image.Properties = map[string]string{"hw_machine_type": "q35", "hw_disk_bus": "sata"}
		},
		"all-disks": func(s *Server, _ *machine) {
			s.Flavor.EphemeralGiB, s.Flavor.SwapMiB, s.ConfigDriveFormat = 10, 512, "vfat"
			s.Image.Properties = map[string]string{"hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"}
		},
		"plain": func(s *Server, m *machine) {
			s.ConfigDrive, m.storage.DirectIO = false, false
			m.guests = GuestOptions{Options: guest.Options{
				CPUMode: "none", CPUModels: []string{"ignored"}, Machines: map[string]string{"x86_64": "pc-i440fx-7.2"}, StatsPeriod: -1, RNG: "/dev/hwrng",
			}}
		},
		"floating": func(_ *Server, m *machine) { m.numa = pinnedConfig() },
		"pinned-realtime": func(s *Server, m *machine) {
			s.Flavor.VCPUs, s.Flavor.ExtraSpecs = 4, map[string]string{"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes",
				"hw:cpu_realtime_mask": "^0-1", "hw:numa_nodes": "2", "hw:mem_page_size": "2MB", "hw:emulator_threads_policy": "share",
				"hw:cpu_max_sockets": "2", "hw:cpu_max_threads": "1"}
			m.numa, m.cells = pinnedConfig(), pinnedCells()
			asks, err := numaRequest(*s).Constraints()
			if err != nil {
				panic(err)
			}
			placed, ok := numa.Fit(m.cells, *asks, numa.Options{})
			if !ok {
				panic("it does not fit")
			}
			m.placed = &placed
		},
		"aarch64": func(s *Server, m *machine) { m.host.Arch = "aarch64" },
		"volumes": func(s *Server, m *machine) {
			s.ImageID, s.Image.Properties = "", map[string]string{"hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"}
			m.volumes = specVolumes()
		},
		"rescue": func(s *Server, m *machine) { // the volumes are not there
			m.volumes = specVolumes()[2:]
			m.volumes[0].Name = "vdc"
			s.Rescue = &Rescue{ConfigDrive: true, Image: ImageRef{Format: "qcow2", Properties: map[string]string{"hw_disk_bus": "sata", "hw_cpu_max_sockets": "1"}}}
			s.Hardware = map[string]string{"hw_disk_bus": "virtio", "hw_machine_type": "q35"}
		},
		"rescue-stable": func(s *Server, m *machine) {
			s.ImageID = ""
			m.volumes = specVolumes()[2:]
			m.volumes[0].BootIndex, m.volumes[0].ReadOnly = new(int), false
			s.Rescue = &Rescue{Stable: true, Image: ImageRef{Format: "raw", Properties: map[string]string{"hw_rescue_device": "cdrom", "hw_rescue_bus": "sata"}}}
			s.Hardware = map[string]string{"hw_disk_bus": "virtio", "hw_machine_type": "q35"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, m := specServer(), specMachine()
			change(&s, &m)
			spec, err := buildSpec(s, specFiles, m)
			if err != nil {
				t.Fatal(err)
			}
			if err := spec.Validate(); err != nil {
				t.Error(err)
			}
			golden.Assert(t, "testdata/spec/"+name+".golden", golden.JSON(t, spec))
		})
	}
}

// specVolumes are volumes of each kind of source.
func specVolumes() []BlockDevice {
	iscsi := `{"driver_volume_type": "iscsi", "data": {"target_portal": "192.0.2.9:3260", "target_iqn": "iqn.2026-11.org.example:v", "target_lun": 1,
		"auth_method": "CHAP", "auth_username": "user", "auth_password": "secret", "qos_specs": {"total_iops_sec": "500"}, "access_mode": "ro", "discard": true}}`
	return []BlockDevice{
		{
			ID: "d1", VolumeID: "11111111-0000-4000-8000-000000000001", Name: "sda", Bus: "scsi", BootIndex: new(int), Multiattach: true, Attached: true,
			Connection: []byte(`{"driver_volume_type": "local", "data": {"device_path": "/dev/group/volume", "logical_block_size": "4096", "physical_block_size": "4096"}}`),
			Device:     connector.Device{Path: "/dev/group/volume", Format: "raw", Bytes: 1 << 30},
		},
		{
			ID: "d2", VolumeID: "11111111-0000-4000-8000-000000000002", Name: "sdb", Bus: "scsi", Attached: true, Encryption: &cinder.Encryption{Provider: "luks"},
			Connection: []byte(`{"driver_volume_type": "file", "data": {"device_path": "/state/volumes/v"}}`), Device: connector.Device{Path: "/state/volumes/v", Format: "raw"},
		},
		{
			ID: "d3", VolumeID: "11111111-0000-4000-8000-000000000003", Name: "vda", Bus: "virtio", Attached: true, Connection: []byte(iscsi),
			Device: connector.Device{Format: "raw", Network: &connector.Network{Protocol: "iscsi", Name: "iqn.2026-11.org.example:v/1",
				Hosts: []connector.Address{{Host: "192.0.2.9", Port: 3260}}, User: "user", Usage: "iscsi", Initiator: "iqn.2026-11.org.example:host"}},
		},
		{
			ID: "d4", VolumeID: "11111111-0000-4000-8000-000000000004", Name: "vdb", Bus: "virtio", Attached: true, Encryption: &cinder.Encryption{Provider: "luks2"},
			Connection: []byte(`{"driver_volume_type": "file", "data": {"device_path": "/state/volumes/w"}}`),
			Device:     connector.Device{Path: "/dev/mapper/crypt-w", Below: "/state/volumes/w", Crypt: "crypt-w", Format: "raw"},
		},
	}
}

// A disk that comes or goes moves no other one on its controller.
func TestKeepUnits(t *testing.T) {
	disks := func(places ...any) (list []virt.Disk) {
		for i := 0; i < len(places); i += 2 {
			unit := places[i+1].(int)
			list = append(list, virt.Disk{Target: places[i].(string), Bus: "scsi", Unit: &unit})
		}
		return list
	}
	for name, c := range map[string]struct{ made, now, want []virt.Disk }{
		"nothing made":        {nil, disks("sda", 0, "sdb", 1), disks("sda", 0, "sdb", 1)},
		"as it was":           {disks("sda", 0, "sdb", 1), disks("sda", 0, "sdb", 1), disks("sda", 0, "sdb", 1)},
		"one went":            {disks("sda", 0, "sdb", 1, "sdc", 2), disks("sda", 0, "sdc", 1), disks("sda", 0, "sdc", 2)},
		"one came between":    {disks("sda", 0, "sdc", 1), disks("sda", 0, "sdb", 1, "sdc", 2), disks("sda", 0, "sdb", 2, "sdc", 1)},
		"one came into a gap": {disks("sda", 0, "sdc", 2), disks("sda", 0, "sdb", 1, "sdc", 2), disks("sda", 0, "sdb", 1, "sdc", 2)},
	} {
		spec := virt.Spec{Disks: c.now}
		keepUnits(virt.Spec{Disks: c.made}, &spec)
		if diff := cmp.Diff(c.want, spec.Disks); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func pinnedConfig() numa.Config {
	shared, dedicated := cpuset.Of(0, 1, 4, 5), cpuset.Of(2, 3, 6, 7)
	return numa.Config{SharedSet: &shared, DedicatedSet: &dedicated}
}

func pinnedCells() (host numa.Host) {
	for i := range 2 {
		host.Cells = append(host.Cells, numa.HostCell{
			ID: i, Shared: cpuset.Of(4*i, 4*i+1), Dedicated: cpuset.Of(4*i+2, 4*i+3), MemoryMiB: 1024, Siblings: cores(4*i, 4),
			Pages: []numa.Pages{{SizeKiB: 4, Total: 1 << 17}, {SizeKiB: 2048, Total: 256}}, Distances: [][]int{{10, 21}, {21, 10}}[i],
		})
	}
	return host
}

func TestSpecRefusesImageProperties(t *testing.T) {
	for property, value := range map[string]string{
		"hw_disk_bus": "floppy", "hw_cdrom_bus": "virtio", "hw_machine_type": "pc' />",
	} {
		s := specServer()
		s.Image.Properties = map[string]string{property: value}
		var failure *Failure
		if _, err := specMachine().check(s, specFiles); !errors.As(err, &failure) || !errors.Is(err, ErrInvalid) || failure.Field != "imageRef" {
			t.Errorf("%s=%s: error %v", property, value, err)
		}
	}
}

func TestHostname(t *testing.T) {
	for name, want := range map[string]string{
		"web-1": "web-1", "My Server_2": "my-server-2", "<b>x</b>": "bxb", "日本": "server-0c0ffee0-1234-4567-89ab-0123456789ab",
		"-a.": "a", "../../etc": "etc",
	} {
		s := specServer()
		s.Name = name
		if got := hostname(s); got != want {
			t.Errorf("host name of %q is %q, want %q", name, got, want)
		}
	}
}
