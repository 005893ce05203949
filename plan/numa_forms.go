package plan

import (
	"slices"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
)

// The forms of this file are Nova's: the field names of its versioned objects, sets as sorted lists.

type hostForm struct {
	Cells []hostCellForm `json:"cells"`
}

type hostCellForm struct {
	ID        int          `json:"id"`
	CPUSet    cpuset.Set   `json:"cpuset"`
	PCPUSet   cpuset.Set   `json:"pcpuset"`
	Pinned    cpuset.Set   `json:"pinned_cpus"`
	CPUUsage  int          `json:"cpu_usage"`
	MemoryMiB int          `json:"memory"`
	UsedMiB   int          `json:"memory_usage"`
	Pages     []pagesForm  `json:"mempages"`
	Siblings  []cpuset.Set `json:"siblings"`
	Socket    *int         `json:"socket"`
	Network   *networkForm `json:"network_metadata,omitempty"`
}

type pagesForm struct {
	SizeKiB  int `json:"size_kb"`
	Total    int `json:"total"`
	Used     int `json:"used"`
	Reserved int `json:"reserved"`
}

type networkForm struct {
	Physnets []string `json:"physnets"`
	Tunneled bool     `json:"tunneled"`
}

type limitsForm struct {
	CPURatio float64      `json:"cpu_allocation_ratio"`
	RAMRatio float64      `json:"ram_allocation_ratio"`
	Network  *networkForm `json:"network_metadata"`
}

func (l *limitsForm) limits() *numa.Limits {
	if l == nil {
		return nil
	}
	limits := &numa.Limits{CPURatio: l.CPURatio, RAMRatio: l.RAMRatio}
	if l.Network != nil {
		limits.Network = numa.Network{Physnets: l.Network.Physnets, Tunneled: l.Network.Tunneled}
	}
	return limits
}

func (h *hostForm) host() numa.Host {
	host := numa.Host{Cells: make([]numa.HostCell, len(h.Cells))}
	for i, c := range h.Cells {
		cell := numa.HostCell{ID: c.ID, Shared: c.CPUSet, Dedicated: c.PCPUSet, Pinned: c.Pinned, CPUUsage: c.CPUUsage,
			MemoryMiB: c.MemoryMiB, UsedMiB: c.UsedMiB, Siblings: c.Siblings, Socket: -1}
		for _, p := range c.Pages {
			cell.Pages = append(cell.Pages, numa.Pages(p))
		}
		if c.Socket != nil {
			cell.Socket = *c.Socket
		}
		if c.Network != nil {
			cell.Network = numa.Network{Physnets: c.Network.Physnets, Tunneled: c.Network.Tunneled}
		}
		host.Cells[i] = cell
	}
	return host
}

func hostFormOf(host numa.Host) hostForm {
	form := hostForm{Cells: make([]hostCellForm, len(host.Cells))}
	for i, c := range host.Cells {
		cell := hostCellForm{ID: c.ID, CPUSet: c.Shared, PCPUSet: c.Dedicated, Pinned: c.Pinned, CPUUsage: c.CPUUsage,
			MemoryMiB: c.MemoryMiB, UsedMiB: c.UsedMiB, Siblings: append([]cpuset.Set{}, c.Siblings...), Pages: []pagesForm{}}
		for _, p := range c.Pages {
			cell.Pages = append(cell.Pages, pagesForm(p))
		}
		if c.Socket >= 0 {
			cell.Socket = &c.Socket
		}
		if c.Network.Physnets != nil || c.Network.Tunneled {
			cell.Network = &networkForm{Physnets: append([]string{}, slices.Sorted(slices.Values(c.Network.Physnets))...), Tunneled: c.Network.Tunneled}
		}
		form.Cells[i] = cell
	}
	return form
}

type guestForm struct {
	Cells    []guestCellForm `json:"cells"`
	Emulator *string         `json:"emulator_threads_policy"`
}

// placedForm is a guest on the host.
type placedForm struct {
	ID       string    `json:"id"`
	Topology guestForm `json:"topology"`
}

type guestCellForm struct {
	ID       int         `json:"id"`
	CPUSet   cpuset.Set  `json:"cpuset"`
	PCPUSet  cpuset.Set  `json:"pcpuset"`
	Reserved *cpuset.Set `json:"cpuset_reserved"`
	Memory   int         `json:"memory"`
	PageSize *int        `json:"pagesize"`
	Policy   *string     `json:"cpu_policy"`
	Threads  *string     `json:"cpu_thread_policy"`
	Pinning  map[int]int `json:"cpu_pinning"`
}

func (g *guestForm) guest() numa.Guest {
	guest := numa.Guest{Cells: make([]numa.GuestCell, len(g.Cells)), EmulatorThreads: value(g.Emulator)}
	for i, c := range g.Cells {
		cell := numa.GuestCell{ID: c.ID, Shared: c.CPUSet, Dedicated: c.PCPUSet, MemoryMiB: c.Memory, PageKiB: value(c.PageSize),
			CPUPolicy: value(c.Policy), ThreadPolicy: value(c.Threads), Reserved: value(c.Reserved)}
		for vcpu, pcpu := range c.Pinning {
			cell.Pins = append(cell.Pins, numa.Pin{VCPU: vcpu, PCPU: pcpu})
		}
		slices.SortFunc(cell.Pins, func(a, b numa.Pin) int { return a.VCPU - b.VCPU })
		guest.Cells[i] = cell
	}
	return guest
}

func guestFormOf(guest numa.Guest) guestForm {
	form := guestForm{Cells: make([]guestCellForm, len(guest.Cells)), Emulator: pointer(guest.EmulatorThreads)}
	for i, c := range guest.Cells {
		cell := guestCellForm{ID: c.ID, CPUSet: c.Shared, PCPUSet: c.Dedicated, Memory: c.MemoryMiB, PageSize: pointer(c.PageKiB),
			Policy: pointer(c.CPUPolicy), Threads: pointer(c.ThreadPolicy)}
		if !c.Reserved.Empty() {
			cell.Reserved = &c.Reserved
		}
		if c.Pins != nil {
			cell.Pinning = map[int]int{}
			for _, p := range c.Pins {
				cell.Pinning[p.VCPU] = p.PCPU
			}
		}
		form.Cells[i] = cell
	}
	return form
}

// value is what p points to, the zero value for null.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// pointer is nil, JSON's null, for the zero value.
func pointer[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

type pciForm struct {
	Pools    []poolForm `json:"pools"`
	Requests []struct {
		ID     string              `json:"request_id"`
		Alias  string              `json:"alias_name"`
		Count  int                 `json:"count"`
		Policy *string             `json:"numa_policy"`
		Spec   []map[string]string `json:"spec"`
	} `json:"requests"`
}

type poolForm struct {
	Count     int               `json:"count"`
	Node      *int              `json:"numa_node"`
	VendorID  string            `json:"vendor_id"`
	ProductID string            `json:"product_id"`
	Tags      map[string]string `json:"tags"`
}

// demand joins package pci to the fit.
func (f *pciForm) demand(host numa.Host) *compute.PCIDemand {
	var pools []pci.Pool
	for _, p := range f.Pools {
		pools = append(pools, pci.Pool{VendorID: p.VendorID, ProductID: p.ProductID, Node: p.Node, Count: p.Count, Tags: p.Tags})
	}
	var requests []pci.Request
	for _, r := range f.Requests {
		requests = append(requests, pci.Request{ID: r.ID, Alias: r.Alias, Count: r.Count, Affinity: value(r.Policy), Specs: r.Spec})
	}
	return compute.NewPCIDemand(pools, requests, host)
}

func poolForms(pools []pci.Pool) []map[string]any {
	forms := []map[string]any{}
	for _, p := range pools {
		form := map[string]any{"count": p.Count, "numa_node": p.Node}
		for k, v := range p.Properties() {
			form[k] = v
		}
		forms = append(forms, form)
	}
	return forms
}
