package libvirt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// twoCells is the NUMA part of the capabilities of a host where CPU 3 is offline and node 1 has no CPUs.
const twoCells = `<capabilities><host><topology><cells num='2'>
  <cell id='0'>
    <memory unit='KiB'>4194304</memory>
    <pages unit='KiB' size='4'>524288</pages>
    <pages unit='KiB' size='2048'>1024</pages>
    <distances><sibling id='0' value='10'/><sibling id='1' value='21'/></distances>
    <cpus num='4'>
      <cpu id='0' socket_id='0' die_id='0' core_id='0' siblings='0-1'/>
      <cpu id='1' socket_id='0' die_id='0' core_id='0' siblings='0-1'/>
      <cpu id='2' socket_id='0' die_id='0' core_id='1' siblings='2-3'/>
      <cpu id='3'/>
    </cpus>
  </cell>
  <cell id='1'>
    <memory unit='KiB'>2097152</memory>
    <pages unit='KiB' size='4'>524288</pages>
    <distances><sibling id='0' value='21'/><sibling id='1' value='10'/></distances>
    <cpus num='0'/>
  </cell>
</cells></topology></host></capabilities>`

func parseCaps(t *testing.T, text string) *libvirtxml.Caps {
	t.Helper()
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	return &caps
}

func TestCells(t *testing.T) {
	online := cpuset.Of(0, 1, 2)
	got, err := Cells(parseCaps(t, twoCells), &online)
	if err != nil {
		t.Fatal(err)
	}
	want := []virt.Cell{{
		ID: 0, MemoryKiB: 4194304, Pages: map[int]int{4: 524288, 2048: 1024}, Distances: map[int]int{0: 10, 1: 21},
		CPUs: []virt.CellCPU{
			{ID: 0, Socket: 0, Siblings: cpuset.Of(0, 1)},
			{ID: 1, Socket: 0, Siblings: cpuset.Of(0, 1)},
			{ID: 2, Socket: 0, Siblings: cpuset.Of(2)},
		},
	}, {
		ID: 1, MemoryKiB: 2097152, Pages: map[int]int{4: 524288}, Distances: map[int]int{0: 21, 1: 10},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	if got, err := Cells(parseCaps(t, "<capabilities><host/></capabilities>"), nil); err != nil || got != nil {
		t.Errorf("a host that does not tell: %v, %v", got, err)
	}
}

func TestCellsRefuses(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"siblings='2-3'", "siblings='3-2'"}:                               "NUMA cell 0: CPU 2: siblings",
		{"<memory unit='KiB'>2097152", "<memory unit='GiB'>2"}:             "NUMA cell 1: memory is in",
		{"<pages unit='KiB' size='2048'", "<pages unit='MiB' size='2048'"}: "NUMA cell 0: page size is in",
	} {
		_, err := Cells(parseCaps(t, strings.Replace(twoCells, change[0], change[1], 1)), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", change[1], err, want)
		}
	}
}
