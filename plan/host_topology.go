package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt/libvirt"
)

// HostTopology answers which NUMA cells a host offers: a line {"id", "input"} with libvirt's capabilities and
// Nova's configuration by section. The answer is {"id", "output"} with host_numa_topology (null when
// the host has no cells), vcpu_available and pcpu_available.
func HostTopology(line []byte) ([]byte, error) {
	return reply(line, (*hostQuestion).answer)
}

type hostQuestion struct {
	Capabilities string  `json:"capabilities_xml"`
	Conf         options `json:"conf"`
	Host         struct {
		Online []int `json:"online"` // null: all
	} `json:"host"`
	Physnets []string `json:"physnets"`
}

func (q *hostQuestion) answer() (map[string]any, error) {
	m, err := q.machine()
	if err != nil {
		return nil, err
	}
	var c numa.Config
	floating := errors.Join(q.readSet("compute.cpu_shared_set", &c.SharedSet), q.readSet("DEFAULT.vcpu_pin_set", &c.PinSet))
	pinned := q.readSet("compute.cpu_dedicated_set", &c.DedicatedSet)
	rest := q.readNodes(&c)
	vcpus, err := c.VCPUSet(m)
	floating = errors.Join(floating, err)
	pcpus, err := c.PCPUSet(m)
	pinned = errors.Join(pinned, err)
	host, err := m.Host(c)
	out := map[string]any{
		"vcpu_available":     orError(vcpus, floating),
		"pcpu_available":     orError(pcpus, pinned),
		"host_numa_topology": orError(wholeHostForm(host), errors.Join(floating, pinned, rest, err)),
	}
	if len(m.Nodes) == 0 {
		out["host_numa_topology"] = nil
	}
	return out, nil
}

// wholeHostForm names the networks of every cell, also of those that have none.
func wholeHostForm(host numa.Host) hostForm {
	form := hostFormOf(host)
	for i := range form.Cells {
		if form.Cells[i].Network == nil {
			form.Cells[i].Network = &networkForm{Physnets: []string{}}
		}
	}
	return form
}

func (q *hostQuestion) machine() (numa.Machine, error) {
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(q.Capabilities); err != nil {
		return numa.Machine{}, fmt.Errorf("capabilities_xml: %w", err)
	}
	var online *cpuset.Set
	if q.Host.Online != nil {
		set := cpuset.Of(q.Host.Online...)
		online = &set
	}
	cells, err := libvirt.Cells(&caps, online)
	if err != nil {
		return numa.Machine{}, err
	}
	return compute.MachineOf(cells)
}

// readNodes reads the configuration of single nodes: reserved pages and networks.
func (q *hostQuestion) readNodes(c *numa.Config) error {
	reserved, err := q.reservedPages()
	if err != nil {
		return err
	}
	if c.Reserved, err = numa.ParseReservedPages(reserved); err != nil {
		return err
	}
	c.Networks, err = q.networks()
	return err
}

// readSet reads a CPU specification into set.
func (q *hostQuestion) readSet(key string, set **cpuset.Set) (err error) {
	*set, err = q.Conf.cpus(key)
	return err
}

// reservedPages reads reserved_huge_pages, whose entries are objects or Nova's text
// "node:0,size:2048,count:64".
func (q *hostQuestion) reservedPages() ([]map[string]string, error) {
	raw, set := q.Conf.raw("DEFAULT.reserved_huge_pages")
	if !set {
		return nil, nil
	}
	var entries []any
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("reserved_huge_pages: %w", err)
	}
	var list []map[string]string
	for _, e := range entries {
		fields := map[string]string{}
		switch e := e.(type) {
		case string:
			for part := range strings.SplitSeq(e, ",") {
				key, value, _ := strings.Cut(part, ":")
				fields[strings.TrimSpace(key)] = strings.TrimSpace(value)
			}
		case map[string]any:
			for key, value := range e {
				fields[key] = fmt.Sprint(value)
			}
		default:
			return nil, fmt.Errorf("reserved_huge_pages: %v is not an entry", e)
		}
		list = append(list, fields)
	}
	return list, nil
}

// networks reads which nodes the NICs of each network are on: [neutron_physnet_NAME]numa_nodes and
// [neutron_tunnel]numa_nodes.
func (q *hostQuestion) networks() (map[int]numa.Network, error) {
	networks := map[int]numa.Network{}
	tunnel, err := q.nodes("neutron_tunnel")
	if err != nil {
		return nil, err
	}
	for _, id := range tunnel {
		networks[id] = numa.Network{Tunneled: true}
	}
	for _, physnet := range slices.Sorted(slices.Values(q.Physnets)) {
		ids, err := q.nodes("neutron_physnet_" + physnet)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			n := networks[id]
			n.Physnets = append(n.Physnets, physnet)
			networks[id] = n
		}
	}
	return networks, nil
}

func (q *hostQuestion) nodes(section string) ([]int, error) {
	raw, set := q.Conf.raw(section + ".numa_nodes")
	if !set {
		return nil, nil
	}
	var texts []string
	if err := json.Unmarshal(raw, &texts); err != nil {
		return nil, fmt.Errorf("[%s]numa_nodes: %w", section, err)
	}
	var ids []int
	for _, text := range texts {
		id, err := strconv.Atoi(text)
		if err != nil || id < 0 {
			return nil, &numa.Error{Class: "InvalidNetworkNUMAAffinity", Key: "[" + section + "]numa_nodes", Value: text, Rule: "must be the number of a NUMA node"}
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.New("[" + section + "]numa_nodes is empty")
	}
	return ids, nil
}
