package nvmeof

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

func TestThisHost(t *testing.T) {
	const machine = "4c4c4544-0042-3510-8051-b4c04f4e3732"
	for _, c := range []struct {
		name, files, want string
	}{
		{"both are there", "etc/nvme/hostnqn = nqn.2026-11.example:host\netc/nvme/hostid = " + ownID, "nqn.2026-11.example:host " + ownID},
		{"of the machine", "sys/class/dmi/id/product_uuid = " + strings.ToUpper(machine), uuidNQN + machine + " " + machine},
		{"the identifier is missing", "etc/nvme/hostnqn = " + ownNQN + "\nsys/class/dmi/id/product_uuid = " + machine, ownNQN + " " + ownID},
		{"the name is missing", "etc/nvme/hostid = " + ownID + "\nsys/class/dmi/id/product_uuid = " + machine, uuidNQN + machine + " " + ownID},
		{"an empty file", "etc/nvme/hostnqn =\nsys/class/dmi/id/product_uuid = " + machine, uuidNQN + machine + " " + machine},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			plant(t, root, c.files)
			for range 2 {
				got, err := ThisHost(filepath.Join(root, "etc"), filepath.Join(root, "sys"))
				if err != nil || got.NQN+" "+got.ID != c.want {
					t.Errorf("got %+v, %v; want %s", got, err, c.want)
				}
			}
			if info, err := os.Stat(filepath.Join(root, "etc/nvme/hostnqn")); err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("%v, %v", info, err)
			}
			if entries, _ := os.ReadDir(filepath.Join(root, "etc/nvme")); len(entries) != 2 {
				t.Errorf("there is %v", entries)
			}
		})
	}
}

// TestThisHostOnce: of many who ask for the first time all get the same.
func TestThisHostOnce(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "sys/class/dmi/id/product_uuid = 00000000-0000-0000-0000-000000000000") // of a firmware that has none
	var all sync.WaitGroup
	var mu sync.Mutex
	found := map[HostID]bool{}
	for range 8 {
		all.Go(func() {
			h, err := ThisHost(filepath.Join(root, "etc"), filepath.Join(root, "sys"))
			if err != nil || !strings.HasPrefix(h.NQN, uuidNQN) || uuid.Validate(h.ID) != nil || strings.HasSuffix(h.NQN, "00000000") {
				t.Errorf("%+v, %v", h, err)
			}
			mu.Lock()
			defer mu.Unlock()
			found[h] = true
		})
	}
	all.Wait()
	if len(found) != 1 {
		t.Errorf("%v", found)
	}
}

func TestThisHostRefuses(t *testing.T) {
	for _, files := range []string{"etc/nvme/hostnqn = x,y", "etc/nvme/hostnqn = " + ownNQN + "\netc/nvme/hostid = 7", "etc/nvme ="} {
		root := t.TempDir()
		plant(t, root, files)
		if _, err := ThisHost(filepath.Join(root, "etc"), root); !strings.HasPrefix(refusal(err), "Unsupported") {
			t.Errorf("%s: %v", files, err)
		}
	}
}

func TestAsAnother(t *testing.T) {
	h := HostID{ownNQN, "11111111-89ab-4cde-8f01-23456789abcd"}
	if h.as("") != h || h.as(ownNQN) != h {
		t.Error("its own name is not its own")
	}
	const other = "7e09ab53-8d2b-41f0-8a8c-406974ccd55e"
	if got := h.as(uuidNQN + other); got.ID != other {
		t.Errorf("%+v", got)
	}
	if a, b := h.as("nqn.2026-11.example:a"), h.as("nqn.2026-11.example:b"); a.ID == b.ID || a.ID == h.ID || a != h.as(a.NQN) || uuid.Validate(a.ID) != nil {
		t.Errorf("%+v, %+v", a, b)
	}
}
