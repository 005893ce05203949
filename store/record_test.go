package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/virt"
)

func fullFlavor(id, name string) compute.Flavor {
	return compute.Flavor{ID: id, Name: name, Description: "d", VCPUs: 1, MemoryMiB: 64, DiskGiB: 2, EphemeralGiB: 3, SwapMiB: 4,
		Public: true, Disabled: true, RXTXFactor: 1.5, ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"}}
}

func fullImage(id string) compute.Image {
	return compute.Image{ID: id, Name: "cirros", ProjectID: "p", Status: compute.ImageKilled, Visibility: "public", Protected: true,
		DiskFormat: "qcow2", ContainerFormat: "bare", MinDiskGiB: 1, MinRAMMiB: 2, Size: 1 << 40, VirtualSize: 1 << 41,
		MD5: "m", SHA256: "s", SHA512: "l", Tags: []string{"a", "b"}, Properties: map[string]string{"k": "v"}, Problem: "full",
		Created: noon, Updated: noon.Add(1)}
}

func fullKeypair(user, name string) compute.Keypair {
	return compute.Keypair{UserID: user, Name: name, Type: "ssh", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "00:11", Created: noon}
}

// fullClaim is a claim of a guest with one cell, in which vCPUs are pinned and float, and a PCI device.
func fullClaim(serverID string) compute.Claim {
	parent := pci.Address{Bus: 0x3b}
	return compute.Claim{ServerID: serverID, Kind: compute.ClaimResize, Operation: "o", PCI: []compute.ClaimedDevice{{
		Device: pci.Device{Address: pci.Address{Domain: 1, Bus: 0x3b, Slot: 2, Function: 7}, VendorID: "8086", ProductID: "154c", Class: 0x020000,
			Type: pci.TypeVF, Node: new(int), Parent: &parent, Driver: "iavf", Netdev: "ens1f0v1"},
		Alias: "nic", Managed: true,
	}}, VCPUs: 1, MemoryMiB: 2, DiskGiB: 3, NUMA: &numa.Guest{EmulatorThreads: "isolate", Cells: []numa.GuestCell{
		{ID: 1, Shared: cpuset.Of(2), Dedicated: cpuset.Of(0, 1), MemoryMiB: 512, PageKiB: 2048, CPUPolicy: "mixed", ThreadPolicy: "require",
			Pins: []numa.Pin{{VCPU: 0, PCPU: 65}, {VCPU: 1, PCPU: 66}}, Reserved: cpuset.Of(64)},
	}}}
}

// fullDefinition is a guest like those that there are. That no field of a Spec is lost in JSON is tested in package guest.
func fullDefinition(serverID string) virt.Spec {
	no := false
	return virt.Spec{
		ID: serverID, Name: "instance-00000001", Title: "web \"<1>\" ü", VirtType: "qemu", Arch: "x86_64", Machine: "pc-i440fx-7.2", VCPUs: 2, MemoryMiB: 64,
		CPU: virt.CPU{Mode: "custom", Model: "Nehalem", Features: []virt.CPUFeature{{Name: "vmx", Policy: "disable"}}, Sockets: 2, Cores: 1, Threads: 1},
		Placement: &virt.Placement{VCPUs: []cpuset.Set{cpuset.Of(4), cpuset.Of(5)}, Emulator: cpuset.Of(4, 5),
			Cells: []virt.GuestCell{{VCPUs: cpuset.Of(0, 1), MemoryMiB: 64, HostCell: 1, PageKiB: 2048, Distances: []int{10}}}},
		Firmware: virt.Firmware{UEFI: true}, Features: virt.Features{PMU: &no},
		Disks:  []virt.Disk{{Source: virt.Source{File: "/i/disk"}, Format: "qcow2", Backing: []virt.Backing{{Path: "/b", Format: "raw"}}, Target: "vda", Bus: "virtio", Boot: 1}},
		NICs:   []virt.NIC{{MAC: "fa:16:3e:00:00:01", Model: "virtio", Attach: virt.Attachment{Type: "ethernet"}, Target: "tap1"}},
		Serial: []virt.SerialPort{{Type: "pty", Log: "/i/console.log", AppendLog: true}}, RNG: &virt.RNG{Source: "/dev/urandom"},
		Balloon: virt.Balloon{Period: 10 * time.Second}, Metadata: virt.Metadata{Name: "web", Created: noon},
	}
}

func fullOperation(id, serverID string) compute.Operation {
	return compute.Operation{ID: id, ServerID: serverID, Kind: compute.OpCreate, RequestID: "req-1",
		Args: json.RawMessage(`{"x": 1}`), Step: "disk", Undoing: true, Cause: "full", Started: noon}
}

// A field that the fixtures do not set is a field whose storing is not tested.
func TestFixturesSetEveryField(t *testing.T) {
	for _, v := range []any{fullServer("a"), fullFlavor("1", "tiny"), fullImage("i"), fullKeypair("u", "k"), fullOperation("o", "a"),
		fullUser("u", "admin"), fullToken("t", "u"), fullClaim("a"), fullNetwork("n"), fullSubnet("s", "n"), fullPort("p", "n", "s", "g"),
		fullGroup("g", "web"), fullGroup("g", "web").Rules[0], fullRouter("r", "n", "gw"), fullFloatingIP("f", "n", "own", "p", "r"),
		fullVolume("v", "t"), *fullVolume("v", "t").Encryption, fullAttachment("at", "v", "a"), fullVolumeType("t", "q"), fullQoS("q"), fullSnapshot("sn", "v"), fullUsedLUN(),
		fullBlockDevice("bd", "a", "v"), fullBlockDevice("bd", "a", "v").Device} {
		value := reflect.ValueOf(v)
		for i := range value.NumField() {
			name := value.Type().String() + "." + value.Type().Field(i).Name
			if value.Field(i).IsZero() && name != "compute.Server.Number" && name != "compute.Keypair.PrivateKey" {
				t.Errorf("%s is not set in %T's fixture: set it, and run the tests with -update", name, v)
			}
		}
	}
}

// want compares what a read returned.
func want[T any](t *testing.T, got T, err error, want T) {
	t.Helper()
	if err != nil {
		t.Error(err)
	} else if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func TestServers(t *testing.T) {
	s := open(t)
	a := insert(t, s, fullServer("a"))
	bare := insert(t, s, compute.Server{ID: "bare"})
	if a.Number != 1 || bare.Number != 2 {
		t.Errorf("numbers %d and %d, want 1 and 2", a.Number, bare.Number)
	}
	view(t, s, func(r compute.Reader) error {
		got, err := r.Server("a")
		want(t, got, err, a)
		got, err = r.Server("bare")
		want(t, got, err, bare)
		all, err := r.Servers()
		want(t, all, err, []compute.Server{a, bare})
		_, err = r.Server("none")
		wantError(t, "unknown server", err, compute.ErrNotFound)
		return nil
	})
}

func TestUpdateServer(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	changed := compute.Server{ID: "a", Number: 77, Name: "other", VM: compute.Error}
	update(t, s, func(w compute.Writer) error {
		wantError(t, "unknown server", w.UpdateServer(fullServer("none")), compute.ErrNotFound)
		return w.UpdateServer(changed)
	})
	changed.Number = 1 // is the store's
	view(t, s, func(r compute.Reader) error {
		all, err := r.Servers()
		want(t, all, err, []compute.Server{changed})
		return nil
	})
}

func TestNumbersAreNeverUsedTwice(t *testing.T) {
	s := open(t)
	for i := range 3 {
		server := insert(t, s, fullServer(fmt.Sprint("s", i)))
		if server.Number != int64(i+1) {
			t.Errorf("server %d has number %d", i, server.Number)
		}
		update(t, s, func(w compute.Writer) error { return w.DeleteServer(server.ID) })
	}
}

func TestInsertServerRefusesATakenID(t *testing.T) {
	s := open(t)
	first := insert(t, s, fullServer("a"))
	err := s.Update(context.Background(), func(w compute.Writer) error {
		_, err := w.InsertServer(compute.Server{ID: "a"})
		return err
	})
	wantError(t, "taken ID", err, compute.ErrExists)
	view(t, s, func(r compute.Reader) error {
		got, err := r.Server("a")
		want(t, got, err, first)
		return nil
	})
}

func TestDeleteServer(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutClaim(compute.Claim{ServerID: "a"}), w.PutOperation(fullOperation("o", "a")))
	})
	err := s.Update(context.Background(), func(w compute.Writer) error { return w.DeleteServer("a") })
	wantError(t, "with an operation under way", err, compute.ErrConflict)
	wantServers(t, s, "a")
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.DeleteOperation("o"), w.DeleteServer("a"), w.DeleteServer("a"))
	})
	wantServers(t, s)
	view(t, s, func(r compute.Reader) error {
		claims, err := r.Claims()
		want(t, claims, err, nil)
		return nil
	})
}

func TestClaims(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	insert(t, s, fullServer("b"))
	first := compute.Claim{ServerID: "b", VCPUs: 1, MemoryMiB: 2, DiskGiB: 3}
	second := compute.Claim{ServerID: "a", VCPUs: 4, MemoryMiB: 5, DiskGiB: 6}
	update(t, s, func(w compute.Writer) error {
		wantError(t, "unknown server", w.PutClaim(compute.Claim{ServerID: "none"}), compute.ErrNotFound)
		return errors.Join(w.PutClaim(compute.Claim{ServerID: "b", VCPUs: 9}), w.PutClaim(second), w.PutClaim(first))
	})
	wantClaims := func(all ...compute.Claim) {
		t.Helper()
		view(t, s, func(r compute.Reader) error {
			got, err := r.Claims()
			want(t, got, err, all)
			return nil
		})
	}
	wantClaims(first, second)
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.DeleteClaim(compute.ClaimKey{ServerID: "b"}), w.DeleteClaim(compute.ClaimKey{ServerID: "b"}))
	})
	wantClaims(second)
}

func TestOperations(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	insert(t, s, fullServer("b"))
	first, second := fullOperation("z", "b"), compute.Operation{ID: "y", ServerID: "a", Kind: compute.OpDelete}
	update(t, s, func(w compute.Writer) error {
		if err := errors.Join(w.PutOperation(compute.Operation{ID: "z", ServerID: "b"}), w.PutOperation(second), w.PutOperation(first)); err != nil {
			return err
		}
		wantError(t, "second operation", w.PutOperation(fullOperation("x", "a")), compute.ErrConflict)
		wantError(t, "moved to a busy server", w.PutOperation(fullOperation("z", "a")), compute.ErrConflict)
		wantError(t, "unknown server", w.PutOperation(fullOperation("x", "none")), compute.ErrNotFound)
		return nil
	})
	wantOperations := func(all ...compute.Operation) {
		t.Helper()
		view(t, s, func(r compute.Reader) error {
			got, err := r.Operations()
			want(t, got, err, all)
			return nil
		})
	}
	wantOperations(first, second)
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.DeleteOperation("z"), w.DeleteOperation("z"), w.PutOperation(fullOperation("x", "b")))
	})
	wantOperations(second, fullOperation("x", "b"))
}

func TestFlavors(t *testing.T) {
	s := open(t)
	b, a := fullFlavor("b", "one"), compute.Flavor{ID: "a", Name: "two"}
	update(t, s, func(w compute.Writer) error {
		if err := errors.Join(w.PutFlavor(fullFlavor("b", "old")), w.PutFlavor(a), w.PutFlavor(b)); err != nil {
			return err
		}
		wantError(t, "taken name", w.PutFlavor(fullFlavor("c", "one")), compute.ErrExists)
		return nil
	})
	view(t, s, func(r compute.Reader) error {
		got, err := r.Flavor("b")
		want(t, got, err, b)
		all, err := r.Flavors()
		want(t, all, err, []compute.Flavor{a, b})
		_, err = r.Flavor("c")
		wantError(t, "unknown flavor", err, compute.ErrNotFound)
		return nil
	})
	update(t, s, func(w compute.Writer) error {
		if err := errors.Join(w.DeleteFlavor("a"), w.DeleteFlavor("a")); err != nil {
			return err
		}
		all, err := w.Flavors()
		want(t, all, err, []compute.Flavor{b})
		return nil
	})
}

func TestImages(t *testing.T) {
	s := open(t)
	b, a := fullImage("b"), compute.Image{ID: "a"}
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutImage(compute.Image{ID: "b"}), w.PutImage(a), w.PutImage(b))
	})
	view(t, s, func(r compute.Reader) error {
		got, err := r.Image("b")
		want(t, got, err, b)
		all, err := r.Images()
		want(t, all, err, []compute.Image{b, a})
		_, err = r.Image("c")
		wantError(t, "unknown image", err, compute.ErrNotFound)
		return nil
	})
	update(t, s, func(w compute.Writer) error {
		if err := errors.Join(w.DeleteImage("b"), w.DeleteImage("b")); err != nil {
			return err
		}
		all, err := w.Images()
		want(t, all, err, []compute.Image{a})
		return nil
	})
}

func TestKeypairs(t *testing.T) {
	s := open(t)
	b, a, other := fullKeypair("u", "b"), compute.Keypair{UserID: "u", Name: "a"}, fullKeypair("v", "a")
	secret := a
	secret.PrivateKey = "never stored"
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutKeypair(compute.Keypair{UserID: "u", Name: "b"}), w.PutKeypair(secret), w.PutKeypair(other), w.PutKeypair(b))
	})
	view(t, s, func(r compute.Reader) error {
		got, err := r.Keypair("u", "b")
		want(t, got, err, b)
		all, err := r.Keypairs("u")
		want(t, all, err, []compute.Keypair{b, a})
		_, err = r.Keypair("v", "b")
		wantError(t, "another user's keypair", err, compute.ErrNotFound)
		return nil
	})
	update(t, s, func(w compute.Writer) error {
		if err := errors.Join(w.DeleteKeypair("u", "a"), w.DeleteKeypair("u", "a")); err != nil {
			return err
		}
		all, err := w.Keypairs("v")
		want(t, all, err, []compute.Keypair{other})
		return nil
	})
}

func TestClaimsOfOneServer(t *testing.T) {
	s := open(t)
	own, resize := compute.Claim{ServerID: "a", VCPUs: 1}, compute.Claim{ServerID: "a", Kind: compute.ClaimResize, VCPUs: 2}
	resized := resize
	resized.Kind = compute.ClaimOwn
	claims := func(want ...compute.Claim) {
		t.Helper()
		view(t, s, func(r compute.Reader) error {
			got, err := r.Claims()
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			return err
		})
	}
	insert(t, s, fullServer("a"))
	update(t, s, func(w compute.Writer) error { return errors.Join(w.PutClaim(own), w.PutClaim(resize)) })
	claims(own, resize)
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.MoveClaim(compute.ClaimKey{ServerID: "a", Kind: compute.ClaimIncoming}, compute.ClaimOwn), // there is none
			w.MoveClaim(own.Key(), compute.ClaimOwn))
	})
	claims(own, resize)
	for range 2 { // again is fine
		update(t, s, func(w compute.Writer) error { return w.MoveClaim(resize.Key(), compute.ClaimOwn) })
		claims(resized)
	}
	for range 2 {
		update(t, s, func(w compute.Writer) error { return w.DeleteClaim(resized.Key()) })
		claims()
	}
	update(t, s, func(w compute.Writer) error {
		return errors.Join(w.PutClaim(own), w.PutClaim(resize), w.DeleteServer("a"))
	})
	claims()
}

func TestServerStates(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	b := insert(t, s, fullServer("b"))
	view(t, s, func(r compute.Reader) error {
		list, err := r.ServerStates()
		if len(list) != 2 {
			t.Fatalf("%d servers", len(list))
		}
		want(t, list[1], err, compute.Server{ID: "b", Number: b.Number, VM: b.VM, Task: b.Task, Power: b.Power})
		return nil
	})
}
