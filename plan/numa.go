// Package plan answers questions of operators and test benches about what the agent would decide,
// without touching a host: JSON in, JSON out. It translates between Nova's forms and the
// packages that decide.
package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"compute-agent/compute"
	"compute-agent/hwprops"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
)

// NUMA answers one question about NUMA placement: a line {"id", "input"} with input.op numa, fit, usage,
// constraints, parse_cpu_spec, format_cpu_spec or reserved_huge_pages. The answer is {"id", "output"}, where an
// error of the request is {"error": {"class", "message"}} in the place of the value.
func NUMA(line []byte) ([]byte, error) {
	return reply(line, (*numaQuestion).answer)
}

type numaQuestion struct {
	Op     string `json:"op"`
	Config struct {
		Pack bool `json:"pack"`
	} `json:"config"`
	Flavor struct {
		VCPUs      int               `json:"vcpus"`
		MemoryMiB  int               `json:"memory_mb"`
		ExtraSpecs map[string]string `json:"extra_specs"`
	} `json:"flavor"`
	Properties        map[string]string   `json:"image_props"`
	Host              *hostForm           `json:"host"`
	Guest             *guestForm          `json:"instance_topology"`
	Limits            *limitsForm         `json:"limits"`
	PCI               *pciForm            `json:"pci"`
	Free              bool                `json:"free"`
	Spec              string              `json:"spec"`
	CPUs              cpuset.Set          `json:"cpus"`
	ReservedHugePages []map[string]string `json:"reserved_huge_pages"`
	Placed            []placedForm        `json:"placed"` // for ExplainNUMA
}

func (q *numaQuestion) answer() (map[string]any, error) {
	switch q.Op {
	case "numa":
		return q.wholeRequest()
	case "constraints":
		out := map[string]any{"getters": q.getters(true)}
		q.constraints(out)
		return out, nil
	case "fit":
		out := map[string]any{}
		if q.Host == nil || q.Guest == nil {
			return nil, errors.New("fit needs host and instance_topology")
		}
		return out, q.fit(out, q.Guest.guest())
	case "usage":
		return q.usage()
	case "parse_cpu_spec":
		set, err := cpuset.Parse(q.Spec)
		return map[string]any{"cpus": orError(set, err)}, nil
	case "format_cpu_spec":
		return map[string]any{"ranges": q.CPUs.String(), "list": q.CPUs.List()}, nil
	case "reserved_huge_pages":
		reserved, err := numa.ParseReservedPages(q.ReservedHugePages)
		return map[string]any{"reserved": orError(reserved, err)}, nil
	}
	return nil, fmt.Errorf("op %q is not known", q.Op)
}

func (q *numaQuestion) request() numa.Request {
	return numa.Request{VCPUs: q.Flavor.VCPUs, MemoryMiB: q.Flavor.MemoryMiB, ExtraSpecs: q.Flavor.ExtraSpecs, Properties: q.Properties}
}

// wholeRequest goes from flavor and image to the host's use after placing the guest.
func (q *numaQuestion) wholeRequest() (map[string]any, error) {
	if err := numa.CheckProperties(q.Properties); err != nil {
		return map[string]any{"image_props": orError(nil, err)}, nil
	}
	out := map[string]any{"getters": q.getters(false)}
	guest := q.constraints(out)
	if q.Host == nil || isError(out["constraints"]) {
		return out, nil
	}
	if guest == nil {
		out["fit"] = nil
		return out, nil
	}
	return out, q.fit(out, *guest)
}

func (q *numaQuestion) constraints(out map[string]any) *numa.Guest {
	guest, err := q.request().Constraints()
	if err != nil || guest == nil {
		out["constraints"] = orError(nil, err)
		return nil
	}
	out["constraints"] = guestFormOf(*guest)
	return guest
}

// options are the conditions on the fit.
func (q *numaQuestion) options() numa.Options {
	opt := numa.Options{Pack: q.Config.Pack, Limits: q.Limits.limits()}
	if q.PCI != nil {
		if demand := q.PCI.demand(q.Host.host()); demand != nil { // a nil pointer would be something
			opt.PCI = demand
		}
	}
	return opt
}

func (q *numaQuestion) fit(out map[string]any, guest numa.Guest) error {
	host := q.Host.host()
	opt := q.options()
	placed, ok := numa.Fit(host, guest, opt)
	if !ok {
		out["fit"] = nil
		return nil
	}
	out["fit"] = guestFormOf(placed)
	if d, ok := opt.PCI.(*compute.PCIDemand); ok && d.Wanted() {
		left, _ := pci.Consume(d.Pools, d.Requests, d.Host, d.CellsOf(placed))
		out["pci_pools_after"] = poolForms(left)
	}
	if !countsPages(host, placed) {
		return nil
	}
	used, err := numa.Place(host, placed)
	if err != nil {
		out["usage"] = orError(nil, err)
		return nil
	}
	out["usage"] = hostFormOf(used)
	freed, err := numa.Free(used, placed)
	if err != nil {
		return err
	}
	out["freed_equals_start"] = equalJSON(hostFormOf(freed), hostFormOf(host))
	return nil
}

// countsPages says whether the cells that a guest landed in list their memory pages. Of a host described without
// them the use cannot be told, and the answer leaves it out; Nova ends with an IndexError there.
func countsPages(host numa.Host, placed numa.Guest) bool {
	return !slices.ContainsFunc(placed.Cells, func(c numa.GuestCell) bool {
		cell := host.Cell(c.ID)
		return c.PageKiB == 0 && cell != nil && len(cell.Pages) == 0
	})
}

func (q *numaQuestion) usage() (map[string]any, error) {
	if q.Host == nil || q.Guest == nil {
		return map[string]any{"usage": q.Host}, nil // nothing to add, or nothing to add it to
	}
	account := numa.Place
	if q.Free {
		account = numa.Free
	}
	used, err := account(q.Host.host(), q.Guest.guest())
	return map[string]any{"usage": orError(hostFormOf(used), err)}, nil
}

func orError(value any, err error) any {
	if err == nil {
		return value
	}
	class := "Invalid"
	var request *numa.Error
	var device *hwprops.Error
	var pin *numa.PinError
	switch {
	case errors.As(err, &request):
		class = request.Class
	case errors.As(err, &device):
		class = device.Class
	case errors.As(err, &pin):
		class = pin.Class
	}
	return map[string]any{"error": map[string]any{"class": class, "message": err.Error(), "nova": true}}
}

func isError(value any) bool {
	m, ok := value.(map[string]any)
	return ok && m["error"] != nil
}

func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
