package virt

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/internal/cpuset"
)

// filled sets everything in a value: two elements in every slice, something behind every pointer.
func filled(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			filled(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[cpuset.Set]() {
			v.Set(reflect.ValueOf(cpuset.Of(1, 70)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				filled(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	}
}

// memory are the addresses behind the pointers and slices of a value.
func memory(v reflect.Value, path string, found map[uintptr]string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			found[v.Pointer()] = path
			memory(v.Elem(), path, found)
		}
	case reflect.Slice:
		if v.Len() > 0 {
			found[v.Pointer()] = path
		}
		for i := range v.Len() {
			memory(v.Index(i), path, found)
		}
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			return // a time points to its zone, which nobody writes
		}
		for i := range v.NumField() {
			memory(v.Field(i), path+"."+v.Type().Field(i).Name, found)
		}
	}
}

// TestCloneSharesNothing would fail for a pointer or a slice that a field of the Spec brings with it one day.
func TestCloneSharesNothing(t *testing.T) {
	var s Spec
	filled(reflect.ValueOf(&s).Elem())
	c := s.Clone()
	if diff := cmp.Diff(s, c, cmp.Comparer(cpuset.Set.Equal)); diff != "" {
		t.Errorf("the clone differs:\n%s", diff)
	}
	own := map[uintptr]string{}
	memory(reflect.ValueOf(s), "Spec", own)
	shared := map[uintptr]string{}
	memory(reflect.ValueOf(c), "Spec", shared)
	if len(own) < 40 {
		t.Errorf("only %d pointers and slices are found", len(own))
	}
	for at, path := range shared {
		if _, is := own[at]; is {
			t.Errorf("%s is shared", path)
		}
	}
}

func TestPathsAreAllThatHaveToBeThere(t *testing.T) {
	s := full()
	s.Boot = Boot{Kernel: "/k", Initrd: "/i"}
	s.Memory.Shared = true
	s.NICs = []NIC{{MAC: "fa:16:3e:00:00:01", Attach: Attachment{Type: "vhostuser", Socket: "/run/s/v"}}, {Attach: Attachment{Type: "vdpa", Device: "/dev/v"}},
		{Attach: Attachment{Type: "direct", Device: "eth0"}}}
	s.Shares = []Share{{Path: "/srv", Tag: "t"}}
	s.Serial = append(s.Serial, SerialPort{Type: "unix", Path: "/run/serial/1"})
	s.Channels.GuestAgentSocket = "/run/agent/1"
	s.NVDIMMs = []NVDIMM{{Path: "/dev/dax0.0"}}
	s.Disks = append(s.Disks, Disk{Target: "vdc", Source: Source{Device: "/dev/sdz"}}, Disk{Target: "sdb", Kind: "cdrom"},
		Disk{Target: "vdd", Source: Source{Network: &NetworkSource{Protocol: "nbd"}}})
	var got []string
	for _, p := range s.Paths() {
		got = append(got, p.Field+" "+p.Path)
	}
	want := []string{
		"emulator /usr/bin/qemu-system-x86_64", "kernel /k", "initrd /i", "disk vda /d/disk & co", "backing file of disk vda /d/base",
		"backing file of disk vda /d/base.raw", "disk sda /d/disk.config", "disk vdaa /d/é", "disk vdc /dev/sdz",
		"directory of the socket of NIC fa:16:3e:00:00:01 /run/s", "device of NIC  /dev/v", "share t /srv", "directory of the console log /d",
		"directory of the socket of a serial port /run/serial", "directory of the guest agent's socket /run/agent",
		"random number source /dev/urandom", "persistent memory /dev/dax0.0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
