package api

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"compute-agent/compute"
	"compute-agent/virt"
)

func (a *api) diagnosticsRoutes() []route {
	return []route{{pattern: "GET /servers/{id}/diagnostics", do: a.showDiagnostics, access: forAdmin}}
}

// pictures are the values of ?screenshot.
var pictures = map[string]compute.Picture{"": compute.NoPicture, "0": compute.NoPicture, "1": compute.Thumbnail, "full": compute.WholeScreen}

// showDiagnostics tells how a server does. With ?screenshot=1 or full, which is ours, it has a picture of the server's screen in it, small or whole, as a PNG in base64.
func (a *api) showDiagnostics(c *call) (*answer, error) {
	asked := c.URL.Query().Get("screenshot")
	picture, known := pictures[asked]
	if !known {
		return nil, badRequest("screenshot: must be 0, 1 or full, not %s", quoted(shorten(asked)))
	}
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	d, err := a.Backend.Diagnostics(c.Context(), s.ID, picture)
	if err != nil {
		return nil, err
	}
	view := map[string]any{}
	if c.since(48) {
		view = diagnosticsView(d, a.Now())
	} else {
		olderDiagnostics(view, d.Guest)
	}
	if picture != compute.NoPicture {
		view["screenshot"] = nil
		if d.Screenshot != nil {
			view["screenshot"] = base64.StdEncoding.EncodeToString(d.Screenshot)
		}
	}
	return ok(view)
}

// diagnosticsView is the shape of 2.48. What the hypervisor does not tell is null, as Nova's document says.
func diagnosticsView(d compute.Diagnostics, now time.Time) map[string]any {
	g := d.Guest
	var uptime any
	if !d.Server.Launched.IsZero() {
		uptime = int(now.Sub(d.Server.Launched).Seconds())
	}
	return map[string]any{
		"state": strings.ToLower(g.State.String()), "driver": "libvirt", "hypervisor": d.VirtType, "hypervisor_os": "linux",
		"uptime": uptime, "config_drive": d.Server.ConfigDrive,
		"num_cpus": g.VCPUs, "num_nics": len(g.NICs), "num_disks": len(g.Disks),
		"memory_details": map[string]any{"maximum": g.MemoryMiB, "used": g.BalloonKiB / 1024},
		"cpu_details":    cpuDetails(g), "disk_details": diskDetails(g), "nic_details": nicDetails(g, d.MACs),
	}
}

func cpuDetails(g virt.Guest) []any {
	list := make([]any, g.VCPUs)
	for i := range list {
		var used any // of one of several it is not told
		if g.VCPUs == 1 {
			used = g.CPUTime.Nanoseconds()
		}
		list[i] = map[string]any{"id": i, "time": used, "utilisation": nil}
	}
	return list
}

func diskDetails(g virt.Guest) []any {
	list := make([]any, 0, len(g.Disks))
	for _, d := range g.Disks {
		list = append(list, map[string]any{
			"read_bytes": d.ReadBytes, "read_requests": d.ReadRequests, "write_bytes": d.WriteBytes, "write_requests": d.WriteRequests, "errors_count": nil,
		})
	}
	return list
}

func nicDetails(g virt.Guest, macs map[string]string) []any {
	list := make([]any, 0, len(g.NICs))
	for _, n := range g.NICs {
		var mac any
		if m := macs[n.Target]; m != "" {
			mac = m
		}
		list = append(list, map[string]any{
			"mac_address": mac, "rx_octets": n.RxBytes, "rx_packets": n.RxPackets, "rx_errors": n.RxErrors, "rx_drop": n.RxDrops, "rx_rate": nil,
			"tx_octets": n.TxBytes, "tx_packets": n.TxPackets, "tx_errors": n.TxErrors, "tx_drop": n.TxDrops, "tx_rate": nil,
		})
	}
	return list
}

// olderDiagnostics has a key for each number, with the device in its name.
func olderDiagnostics(view map[string]any, g virt.Guest) {
	if g.VCPUs == 1 {
		view["cpu0_time"] = g.CPUTime.Nanoseconds()
	}
	view["memory"], view["memory-actual"], view["memory-rss"] = g.MemoryMiB*1024, g.BalloonKiB, g.ResidentKiB
	for _, d := range g.Disks {
		for name, n := range map[string]uint64{"read": d.ReadBytes, "read_req": d.ReadRequests, "write": d.WriteBytes, "write_req": d.WriteRequests} {
			view[fmt.Sprintf("%s_%s", d.Target, name)] = n
		}
	}
	for _, d := range g.NICs {
		for name, n := range map[string]uint64{
			"rx": d.RxBytes, "rx_packets": d.RxPackets, "rx_errors": d.RxErrors, "rx_drop": d.RxDrops,
			"tx": d.TxBytes, "tx_packets": d.TxPackets, "tx_errors": d.TxErrors, "tx_drop": d.TxDrops,
		} {
			view[fmt.Sprintf("%s_%s", d.Target, name)] = n
		}
	}
}
