package compute

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"compute-agent/configdrive"
	"compute-agent/image"
	"compute-agent/internal/command"
)

// TestFileDisksMakesEveryDisk makes a server's disks with the host's programs, twice, and looks at what is on them.
func TestFileDisksMakesEveryDisk(t *testing.T) {
	for _, c := range []struct {
		name          string
		format        image.FileSystem
		osType, drive string
		ephemeral     string // what it is formatted with
		config        string
	}{
		{"of the operating system", "", "linux", "", "TYPE=ext4", "TYPE=iso9660"},
		{"of no operating system", "", "", "vfat", "TYPE=vfat", "TYPE=vfat"},
		{"of the operator", image.XFS, "windows", "iso9660", "TYPE=xfs", "TYPE=iso9660"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, images := specServer(), t.TempDir()
			if err := os.WriteFile(filepath.Join(images, s.Image.Checksum), make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			s.Flavor.DiskGiB, s.Flavor.EphemeralGiB, s.Flavor.SwapMiB = 1, 1, 64
			s.Image.Properties[propOSType], s.ConfigDriveFormat = c.osType, c.drive
			disks, err := NewFileDisks(t.TempDir(), images, c.format, command.Exec{})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := disks.Make(t.Context(), s, Attached{}, Secrets{}); err != nil {
					t.Fatal(err)
				}
			}
			files := disks.Files(s)
			for path, want := range map[string]string{files.Ephemeral: c.ephemeral, files.Swap: "TYPE=swap", files.ConfigDrive: c.config} {
				said, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "blkid", Args: []string{"--probe", "--output", "export", path}})
				if err != nil || !strings.Contains(string(said), want+"\n") {
					t.Errorf("%s: %v\n%s\nwant %s", filepath.Base(path), err, said, want)
				}
			}
			s.Flavor.SwapMiB = 65
			if err := disks.Make(t.Context(), s, Attached{}, Secrets{}); err == nil {
				t.Error("another size of swap was taken for the one that is there")
			}
			if err := disks.Remove(t.Context(), s.ID); err != nil {
				t.Fatal(err)
			}
			if left, err := disks.List(t.Context()); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func TestDevices(t *testing.T) {
	s := specServer()
	s.Flavor.SwapMiB = 64
	if root, eph, swap := devices(s, nil); root != "vda" || eph != "" || swap != "vdb" {
		t.Errorf("with swap: %s, %s, %s", root, eph, swap)
	}
	s.Flavor.EphemeralGiB, s.Image.Properties = 1, map[string]string{"hw_disk_bus": "sata"}
	drive := driveOf(s, Attached{}, Secrets{})
	if drive.RootDevice != "sda" || drive.Ephemeral != "sdb" || drive.Swap != "sdc" {
		t.Errorf("with all: %s, %s, %s", drive.RootDevice, drive.Ephemeral, drive.Swap)
	}
	drive = driveOf(s, Attached{Volumes: []BlockDevice{
		{VolumeID: "b", Name: "vda", Bus: "virtio", Tag: "database"}, {VolumeID: "a", Name: "sdb", Bus: "sata"},
	}}, Secrets{})
	if drive.Ephemeral != "sdc" || drive.Swap != "sdd" || drive.Volumes[0] != (configdrive.Volume{ID: "b", Name: "vda", Bus: "pci", Tag: "database"}) {
		t.Errorf("with volumes: %s, %s, %+v", drive.Ephemeral, drive.Swap, drive.Volumes)
	}
	if got := s.RootDevice(); got != "/dev/sda" {
		t.Errorf("root device %s", got)
	}
}

func TestDriveTellsDedicatedCPUs(t *testing.T) {
	for _, c := range []struct {
		specs map[string]string
		want  []int
	}{
		{nil, nil},
		{map[string]string{"hw:numa_nodes": "2"}, nil},
		{map[string]string{"hw:cpu_policy": "dedicated"}, []int{0, 1, 2, 3}},
		{map[string]string{"hw:cpu_policy": "dedicated", "hw:numa_nodes": "2"}, []int{0, 1, 2, 3}},
		{map[string]string{"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"}, []int{1, 2, 3}},
	} {
		s := specServer()
		s.Flavor.VCPUs, s.Flavor.ExtraSpecs = 4, c.specs
		if got := driveOf(s, Attached{}, Secrets{}).DedicatedCPUs; !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.specs, got, c.want)
		}
	}
}
