package test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"compute-agent/guest"
	"compute-agent/virt"
	"compute-agent/virt/libvirt"
)

// TestSupportedTellsTheTruth makes, on the libvirt that is here, a guest for each thing that a trait tells of. What is
// accepted can be made, and what is refused cannot.
func TestSupportedTellsTheTruth(t *testing.T) {
	if testing.Short() {
		t.Skip("needs libvirtd; left out by -short")
	}
	uri := os.Getenv("TEST_LIBVIRT_URI")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	d, err := libvirt.Open(ctx, libvirt.Options{URI: uri, VirtType: "qemu"})
	if err != nil {
		t.Fatalf("%v (`make test` starts a libvirtd)", err)
	}
	defer func() { _ = d.Close() }()
	h, err := d.Host(ctx)
	if err != nil {
		t.Fatal(err)
	}
	disk := emptyDisk(t)
	opt := guest.Options{VNC: "127.0.0.1"}
	accepted, refused := 0, 0
	for _, p := range packed(promises(), h, opt) {
		spec, refusal := p.define(h, opt)
		if spec.ID == "" {
			continue // it contradicts itself on every host of this kind
		}
		made := create(ctx, t, d, spec, disk)
		if (made == nil) != (refusal == nil) {
			t.Errorf("%s on machine type %s: Supported says %v, Create %v", p.trait, spec.Machine, refusal, made)
		}
		if traits := strings.Count(p.trait, " ") + 1; refusal == nil {
			accepted += traits
		} else {
			refused += traits
		}
	}
	t.Logf("what Supported said of %d traits is what happened: %d accepted and made, %d refused and impossible", accepted+refused, accepted, refused)
}

// create makes a guest that is defined for another host's files, and ends it again.
func create(ctx context.Context, t *testing.T, d virt.Driver, spec virt.Spec, disk string) error {
	t.Helper()
	spec.ID = uuid.NewString()
	spec.Name = "catest-" + spec.ID[:8]
	for i := range spec.Disks {
		spec.Disks[i].Source = virt.Source{File: disk}
	}
	for i := range spec.NICs {
		spec.NICs[i].Attach, spec.NICs[i].Target = virt.Attachment{Type: "ethernet"}, ""
	}
	made := d.Create(ctx, spec)
	if err := d.Destroy(ctx, spec.ID); err != nil {
		t.Error(err)
	}
	return made
}

// packed puts what a host accepts into as few guests as will do; each that it refuses stays alone.
func packed(all []promise, h virt.Host, opt guest.Options) (packs []promise) {
	var alone []promise
next:
	for _, p := range all {
		if p.accepts(h, opt) != nil {
			alone = append(alone, p)
			continue
		}
		for i, pack := range packs {
			if both, possible := pack.with(p); possible && both.accepts(h, opt) == nil {
				packs[i] = both
				continue next
			}
		}
		packs = append(packs, p)
	}
	return append(packs, alone...)
}

// with is a promise of both, unless they contradict each other.
func (p promise) with(q promise) (both promise, possible bool) {
	both = promise{trait: p.trait + " " + q.trait, flavor: maps.Clone(p.flavor), image: maps.Clone(p.image), bus: p.bus + q.bus}
	for _, side := range []struct {
		to   *map[string]string
		from map[string]string
	}{{&both.flavor, q.flavor}, {&both.image, q.image}} {
		for key, value := range side.from {
			if has, set := (*side.to)[key]; set && has != value {
				return both, false
			}
			if *side.to == nil {
				*side.to = map[string]string{}
			}
			(*side.to)[key] = value
		}
	}
	return both, p.bus == "" || q.bus == ""
}

// emptyDisk is one that QEMU's user may read.
func emptyDisk(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "compute-agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "disk")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "raw", path, "8M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}
