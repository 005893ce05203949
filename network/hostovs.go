package network

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"compute-agent/internal/command"
)

// ownerKey marks in external_ids of an interface what the agent plugged in.
const ownerKey = "compute-agent"

// calmKey is in external_ids for the moment of Host.calm.
const calmKey = "compute-agent-waits"

// vsctl runs ovs-vsctl. It waits for Open vSwitch to have done a change, but not for ever.
func (h Host) vsctl(ctx context.Context, args ...string) ([]byte, error) {
	args = append([]string{"--db=unix:" + h.switchSocket(), "--timeout=20"}, args...)
	return h.Run.Run(ctx, command.Cmd{Name: "ovs-vsctl", Args: args, MaxOutput: 64 << 20})
}

func (h Host) switchSocket() string { return cmp.Or(h.Switch, "/run/openvswitch/db.sock") }

// readSwitch adds the ports of Open vSwitch, or why they cannot be read.
func (h Host) readSwitch(ctx context.Context, s *State) {
	s.Switched, s.SwitchErr = nil, nil
	if h.Run == nil {
		s.SwitchErr = errors.New("nobody runs ovs-vsctl")
		return
	}
	if _, err := os.Stat(h.switchSocket()); err != nil {
		s.SwitchErr = fmt.Errorf("its database: %w", err)
		return
	}
	out, err := h.vsctl(ctx, "--format=json", "--",
		"--columns=_uuid,name,type,options,external_ids,mtu_request", "list", "Interface", "--",
		"--columns=_uuid,interfaces", "list", "Port", "--", "--columns=name,ports", "list", "Bridge")
	if err == nil {
		s.Switched, err = parseSwitch(out)
	}
	s.SwitchErr = err
}

// table is what ovs-vsctl says of one of its tables.
type table struct {
	Headings []string
	Data     [][]cell
}

// cell is a value in OVSDB's JSON (RFC 7047, section 5.1): a string, number or boolean, or a UUID, set or map in an array with its
// kind.
type cell struct {
	text  string
	items []cell            // of a set
	pairs map[string]string // of a map
}

// UnmarshalJSON reads a value.
func (c *cell) UnmarshalJSON(data []byte) error {
	if data[0] != '[' {
		if err := json.Unmarshal(data, &c.text); err != nil {
			c.text = string(data)
		}
		c.items = []cell{{text: c.text}} // a set of one
		return nil
	}
	var kinded []json.RawMessage
	var kind string
	if err := json.Unmarshal(data, &kinded); err != nil {
		return err
	}
	if len(kinded) != 2 || json.Unmarshal(kinded[0], &kind) != nil {
		return fmt.Errorf("%.80q is no value of OVSDB", data)
	}
	switch kind {
	case "uuid":
		if err := json.Unmarshal(kinded[1], &c.text); err != nil {
			return err
		}
		c.items = []cell{{text: c.text}}
		return nil
	case "set":
		return json.Unmarshal(kinded[1], &c.items)
	case "map":
		return c.readMap(kinded[1])
	default:
		return fmt.Errorf("%.80q is no kind of value of OVSDB", kind)
	}
}

func (c *cell) readMap(data []byte) error {
	var pairs [][2]cell
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	c.pairs = map[string]string{}
	for _, p := range pairs {
		c.pairs[p[0].text] = p[1].text
	}
	return nil
}

// rows are a table's, each by its headings.
func (t *table) rows() ([]map[string]cell, error) {
	var out []map[string]cell
	for _, data := range t.Data {
		if len(data) != len(t.Headings) {
			return nil, fmt.Errorf("%d values for %d headings", len(data), len(t.Headings))
		}
		row := map[string]cell{}
		for i, heading := range t.Headings {
			row[heading] = data[i]
		}
		out = append(out, row)
	}
	return out, nil
}

// parseSwitch reads the tables Interface, Port and Bridge.
func parseSwitch(text []byte) (map[string]SwitchPort, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	var rows [3][]map[string]cell
	for i := range rows {
		var t table
		if err := decoder.Decode(&t); err != nil {
			return nil, fmt.Errorf("ovs-vsctl: %w", err)
		}
		var err error
		if rows[i], err = t.rows(); err != nil {
			return nil, fmt.Errorf("ovs-vsctl: %w", err)
		}
	}
	bridgeOf := map[string]string{} // of a port
	for _, b := range rows[2] {
		for _, port := range b["ports"].items {
			bridgeOf[port.text] = b["name"].text
		}
	}
	portOf := map[string]string{} // of an interface
	for _, p := range rows[1] {
		for _, i := range p["interfaces"].items {
			portOf[i.text] = p["_uuid"].text
		}
	}
	out := map[string]SwitchPort{}
	for _, i := range rows[0] {
		p := toSwitchPort(i)
		p.Bridge = bridgeOf[portOf[i["_uuid"].text]]
		out[p.Device] = p
	}
	return out, nil
}

func toSwitchPort(row map[string]cell) SwitchPort {
	ids := row["external_ids"].pairs
	p := SwitchPort{
		Device: row["name"].text, Type: row["type"].text, Socket: row["options"].pairs["vhost-server-path"], Port: ids["iface-id"],
		MAC: ids["attached-mac"], Server: ids["vm-uuid"], Active: ids["iface-status"] == "active", Owned: ids[ownerKey] != "",
	}
	for _, mtu := range row["mtu_request"].items {
		p.MTU, _ = strconv.Atoi(mtu.text) // OVSDB holds it for a number
	}
	return p
}

// changeSwitch plugs a device in or out, in one transaction each.
func (h Host) changeSwitch(ctx context.Context, c Change) error {
	if h.Run == nil {
		return ErrNoSwitch
	}
	if c.Op == OpSwitchOut {
		_, err := h.vsctl(ctx, "--", "--if-exists", "del-port", c.Port.Bridge, c.Link)
		return err
	}
	if _, err := h.vsctl(ctx, c.Port.command()...); err != nil || c.New.QoS == (QoS{}) {
		return err
	}
	return h.calm(ctx, c.Link)
}

// calm waits until Open vSwitch has done with a link that it took or that was changed. To take one makes it promiscuous; of that, as of
// any change, the kernel tells Open vSwitch, which then sets up all its links again and takes away what polices and marks what it gets
// from them, after ovs-vsctl has heard that it is done. It heeds a change of its database no sooner than what it was told before.
func (h Host) calm(ctx context.Context, device string) error {
	if _, err := h.vsctl(ctx, "set", "Interface", device, "external_ids:"+calmKey+"=1"); err != nil {
		return err
	}
	_, err := h.vsctl(ctx, "remove", "Interface", device, "external_ids", calmKey)
	return err
}

// command is what ovs-vsctl is told, as os-vif tells it, with the agent's mark.
func (p SwitchPort) command() []string {
	args := []string{"--", "--may-exist", "add-port", p.Bridge, p.Device, "--", "set", "Interface", p.Device}
	id := func(key, value string) string { return "external_ids:" + key + "=" + strconv.Quote(value) }
	args = append(args, id(ownerKey, p.Port), id("iface-id", p.Port), id("iface-status", "active"), id("attached-mac", p.MAC))
	if p.Server != "" {
		args = append(args, id("vm-uuid", p.Server))
	}
	if p.Type != "" {
		args = append(args, "type="+p.Type, "options:vhost-server-path="+strconv.Quote(p.Socket))
	}
	if p.MTU != 0 {
		args = append(args, "mtu_request="+strconv.Itoa(p.MTU))
	} else {
		args = append(args, "--", "clear", "Interface", p.Device, "mtu_request")
	}
	if p.Server == "" {
		args = append(args, "--", "remove", "Interface", p.Device, "external_ids", "vm-uuid")
	}
	return args
}
