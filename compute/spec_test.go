package compute

import (
	"errors"
	"testing"
	"time"

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
	Ephemeral: "/state/instances/x/disk.eph0", Swap: "/state/instances/x/disk.swap", ConsoleLog: "/state/instances/x/console.log"}

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
