package api

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"

	"compute-agent/compute"
	"compute-agent/network/firewall"
	"compute-agent/neutron"
)

// interfaces are the ports of servers with what their views tell of networks: read once for a whole list.
type interfaces struct {
	ports    map[string][]neutron.Port // by server, in the order of its interfaces
	networks map[string]string         // names
	groups   map[string]neutron.SecurityGroup
	floating map[string][]neutron.FloatingIP // by port
}

// interfaces reads the ports of all servers.
func (a *api) interfaces(c *call) (*interfaces, error) {
	ports, err := a.Backend.Ports(c.Context())
	if err != nil {
		return nil, err
	}
	i := &interfaces{ports: map[string][]neutron.Port{}, networks: map[string]string{}, groups: map[string]neutron.SecurityGroup{},
		floating: map[string][]neutron.FloatingIP{}}
	for _, p := range ports {
		if neutron.IsGuestPort(p.DeviceOwner) {
			i.ports[p.DeviceID] = append(i.ports[p.DeviceID], p)
		}
	}
	if len(i.ports) == 0 {
		return i, nil
	}
	for _, of := range i.ports {
		slices.SortStableFunc(of, func(p, q neutron.Port) int { return p.Index - q.Index })
	}
	return i, a.readNames(c, i)
}

// readNames reads what ports refer to.
func (a *api) readNames(c *call, i *interfaces) error {
	networks, err := a.Backend.Networks(c.Context())
	if err != nil {
		return err
	}
	for _, n := range networks {
		i.networks[n.ID] = n.Name
	}
	groups, err := a.Backend.SecurityGroups(c.Context(), c.caller.ProjectID)
	if err != nil {
		return err
	}
	for _, g := range groups {
		i.groups[g.ID] = g
	}
	floating, err := a.Backend.FloatingIPs(c.Context())
	for _, f := range floating {
		i.floating[f.PortID] = append(i.floating[f.PortID], f)
	}
	return err
}

// serverAddress is an address of a server; the kind and the MAC address are not told in its list of addresses alone.
type serverAddress struct {
	Version int    `json:"version"`
	Address string `json:"addr"`
	Kind    string `json:"OS-EXT-IPS:type,omitempty"`
	MAC     string `json:"OS-EXT-IPS-MAC:mac_addr,omitempty"`
}

func newServerAddress(a netip.Addr, kind, mac string) serverAddress {
	version := 4
	if a.Is6() {
		version = 6
	}
	return serverAddress{version, a.String(), kind, mac}
}

// addresses are a server's addresses by the names of their networks: those of its ports, then the floating ones.
func (i *interfaces) addresses(serverID string) map[string][]serverAddress {
	fixed, floating := map[string][]serverAddress{}, map[string][]serverAddress{}
	for _, p := range i.ports[serverID] {
		name := i.networks[p.NetworkID]
		for _, ip := range p.FixedIPs {
			fixed[name] = append(fixed[name], newServerAddress(ip.Address, "fixed", p.MAC))
		}
		for _, f := range i.floating[p.ID] {
			floating[name] = append(floating[name], newServerAddress(f.Address, "floating", p.MAC))
		}
	}
	for name, list := range floating {
		fixed[name] = append(fixed[name], list...)
	}
	return fixed
}

// groupsOf are the security groups of a server's ports, each once.
func (i *interfaces) groupsOf(serverID string) []neutron.SecurityGroup {
	var groups []neutron.SecurityGroup
	seen := map[string]bool{}
	for _, p := range i.ports[serverID] {
		for _, id := range p.SecurityGroups {
			if g, known := i.groups[id]; known && !seen[id] {
				seen[id] = true
				groups = append(groups, g)
			}
		}
	}
	return groups
}

// groupNames is the part of a server's view that names its groups; nil when it has none.
func (i *interfaces) groupNames(serverID string) []map[string]string {
	return listOf(i.groupsOf(serverID), func(g neutron.SecurityGroup) map[string]string { return map[string]string{"name": g.Name} })
}

// plainAddresses are a server's addresses without the fields of the server's view.
func (a *api) plainAddresses(c *call) (map[string][]serverAddress, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	i, err := a.interfaces(c)
	if err != nil {
		return nil, err
	}
	all := i.addresses(s.ID)
	for _, list := range all {
		for n := range list {
			list[n].Kind, list[n].MAC = "", ""
		}
	}
	return all, nil
}

func (a *api) listAddresses(c *call) (*answer, error) {
	all, err := a.plainAddresses(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"addresses": all})
}

func (a *api) showAddresses(c *call) (*answer, error) {
	all, err := a.plainAddresses(c)
	if err != nil {
		return nil, err
	}
	name := c.PathValue("network")
	list, there := all[name]
	if !there {
		return nil, notFound("Instance is not a member of specified network")
	}
	return ok(map[string]any{name: list})
}

func (a *api) listServerGroups(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	i, err := a.interfaces(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"security_groups": listOf(i.groupsOf(s.ID), i.novaGroup)})
}

// lastGroupProxy is the last microversion in which Nova passes questions about security groups on.
const lastGroupProxy microversion = 35

// groupProxyRoutes are for clients that look a group up before they give it to a server.
func (a *api) groupProxyRoutes() []route {
	return []route{
		{pattern: "GET /os-security-groups", do: a.listGroupsAsNova, until: lastGroupProxy},
		{pattern: "GET /os-security-groups/{id}", do: a.showGroupAsNova, until: lastGroupProxy},
	}
}

func (a *api) listGroupsAsNova(c *call) (*answer, error) {
	i, groups, err := a.ownGroups(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"security_groups": listOf(groups, i.novaGroup)})
}

func (a *api) showGroupAsNova(c *call) (*answer, error) {
	i, groups, err := a.ownGroups(c)
	if err != nil {
		return nil, err
	}
	id := c.PathValue("id")
	for _, g := range groups {
		if g.ID == id {
			return ok(map[string]any{"security_group": i.novaGroup(g)})
		}
	}
	return nil, notFound("Security group %s not found.", shorten(id))
}

// ownGroups are those of the caller's project, the default one too.
func (a *api) ownGroups(c *call) (*interfaces, []neutron.SecurityGroup, error) {
	all, err := a.Backend.SecurityGroups(c.Context(), c.caller.ProjectID)
	if err != nil {
		return nil, nil, err
	}
	i := &interfaces{groups: map[string]neutron.SecurityGroup{}}
	var own []neutron.SecurityGroup
	for _, g := range all {
		i.groups[g.ID] = g
		if g.ProjectID == c.caller.ProjectID {
			own = append(own, g)
		}
	}
	return i, own, nil
}

// novaGroup is a security group in the form that Nova's API kept from the time when it had them itself.
func (i *interfaces) novaGroup(g neutron.SecurityGroup) map[string]any {
	rules := []any{}
	for _, rule := range g.Rules {
		if rule.Direction == firewall.Ingress {
			rules = append(rules, i.novaRule(g, rule))
		}
	}
	return map[string]any{"id": g.ID, "name": g.Name, "description": g.Description, "tenant_id": g.ProjectID, "rules": rules}
}

func (i *interfaces) novaRule(g neutron.SecurityGroup, rule neutron.Rule) map[string]any {
	view := map[string]any{
		"id": rule.ID, "parent_group_id": g.ID, "ip_protocol": orNull(rule.Protocol), "from_port": numberOrNull(rule.PortMin),
		"to_port": numberOrNull(rule.PortMax), "group": map[string]any{}, "ip_range": map[string]any{},
	}
	switch {
	case rule.RemoteGroup != "":
		other := i.groups[rule.RemoteGroup]
		view["group"] = map[string]string{"name": other.Name, "tenant_id": other.ProjectID}
	case rule.Remote.IsValid():
		view["ip_range"] = map[string]string{"cidr": rule.Remote.String()}
	case rule.Ethertype == firewall.IPv6:
		view["ip_range"] = map[string]string{"cidr": "::/0"}
	default:
		view["ip_range"] = map[string]string{"cidr": "0.0.0.0/0"}
	}
	return view
}

// groupAction is addSecurityGroup or removeSecurityGroup: each of the server's ports gets or loses a group.
func groupAction(name string, change func(ids []string, id string) ([]string, error)) func(*api, *call, compute.Server) (*answer, error) {
	return func(a *api, c *call, s compute.Server) (*answer, error) {
		var req map[string]struct{ Name string }
		if err := c.decode(&req); err != nil {
			return nil, err
		}
		i, err := a.interfaces(c)
		if err != nil {
			return nil, err
		}
		id, err := a.groupNamed(c, s.ProjectID, req[name].Name)
		if err != nil {
			return nil, err
		}
		return a.changeGroups(c, i.ports[s.ID], func(p *neutron.Port) (err error) {
			p.SecurityGroups, err = change(p.SecurityGroups, id)
			return err
		})
	}
}

func (a *api) changeGroups(c *call, ports []neutron.Port, change func(*neutron.Port) error) (*answer, error) {
	changed := false
	for _, p := range ports {
		if !p.PortSecurity { // such a port has no groups
			continue
		}
		changed = true
		if _, err := a.Backend.UpdatePort(c.Context(), p.ID, change); err != nil {
			return nil, err
		}
	}
	if !changed {
		return nil, badRequest("The server has no port that security groups apply to.")
	}
	return status(http.StatusAccepted)
}

func withGroup(ids []string, id string) ([]string, error) {
	if slices.Contains(ids, id) {
		return nil, badRequest("Security group %s is already associated with the instance", id)
	}
	return append(slices.Clone(ids), id), nil
}

func withoutGroup(ids []string, id string) ([]string, error) {
	if !slices.Contains(ids, id) {
		return nil, badRequest("Security group %s not associated with the instance", id)
	}
	return without(slices.Clone(ids), id), nil
}

// groupNamed is the ID of a project's group that is named by name or ID.
func (a *api) groupNamed(c *call, projectID, name string) (string, error) {
	all, err := a.Backend.SecurityGroups(c.Context(), projectID)
	if err != nil {
		return "", err
	}
	var found []string
	for _, g := range all {
		switch {
		case g.ProjectID != projectID:
		case g.ID == name:
			return g.ID, nil
		case g.Name == name:
			found = append(found, g.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", notFound("Security group %s not found for project %s.", shorten(name), projectID)
	case 1:
		return found[0], nil
	default:
		return "", faultf(http.StatusConflict, "Multiple security groups found matching name %s. Use an ID to be more specific.", quoted(name))
	}
}

// missingGroup makes a bad request of a group that a new server names and that is not there.
func missingGroup(err error) error {
	if f, ok := errors.AsType[*fault](err); ok && f.status == http.StatusNotFound {
		return badRequest("%s", f.message)
	}
	return err
}

// lastFloatingIPAction is the last microversion in which servers had actions on floating IPs.
const lastFloatingIPAction microversion = 43

type floatingIPAction struct {
	Address string `json:"address"`
	Fixed   string `json:"fixed_address"`
}

// floatingIPOf finds the floating IP that an action names, if it is the caller's.
func (a *api) floatingIPOf(c *call, action string) (neutron.FloatingIP, floatingIPAction, error) {
	var req map[string]floatingIPAction
	if c.version > lastFloatingIPAction {
		return neutron.FloatingIP{}, floatingIPAction{}, notFound("The resource could not be found.")
	}
	if err := c.decode(&req); err != nil {
		return neutron.FloatingIP{}, floatingIPAction{}, err
	}
	asked := req[action]
	all, err := a.Backend.FloatingIPs(c.Context())
	for _, f := range all {
		if f.Address.String() == asked.Address && c.caller.mine(f.ProjectID) {
			return f, asked, nil
		}
	}
	if err == nil {
		err = notFound("floating IP not found")
	}
	return neutron.FloatingIP{}, asked, err
}

func (a *api) addFloatingIP(c *call, s compute.Server) (*answer, error) {
	f, asked, err := a.floatingIPOf(c, "addFloatingIp")
	if err != nil {
		return nil, err
	}
	i, err := a.interfaces(c)
	if err != nil {
		return nil, err
	}
	p, fixed, err := portWith(i.ports[s.ID], asked.Fixed)
	if err != nil {
		return nil, err
	}
	if _, err := a.Backend.UpdateFloatingIP(c.Context(), f.ID, func(f *neutron.FloatingIP) error {
		f.PortID, f.Fixed = p.ID, fixed
		return nil
	}); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

// portWith is the port that has an address, or if none is named the first with an IPv4 one.
func portWith(ports []neutron.Port, address string) (neutron.Port, netip.Addr, error) {
	for _, p := range ports {
		for _, ip := range p.FixedIPs {
			if ip.Address.String() == address || (address == "" && ip.Address.Is4()) {
				return p, ip.Address, nil
			}
		}
	}
	if address != "" {
		return neutron.Port{}, netip.Addr{}, badRequest("Specified fixed address not assigned to instance")
	}
	return neutron.Port{}, netip.Addr{}, badRequest("No fixed IPs associated to instance")
}

func (a *api) removeFloatingIP(c *call, s compute.Server) (*answer, error) {
	f, asked, err := a.floatingIPOf(c, "removeFloatingIp")
	if err != nil {
		return nil, err
	}
	i, err := a.interfaces(c)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(i.ports[s.ID], func(p neutron.Port) bool { return p.ID == f.PortID }) {
		return nil, faultf(http.StatusConflict, "Floating IP %s is not associated with instance %s.", shorten(asked.Address), s.ID)
	}
	if _, err := a.Backend.UpdateFloatingIP(c.Context(), f.ID, func(f *neutron.FloatingIP) error {
		f.PortID, f.Fixed = "", netip.Addr{}
		return nil
	}); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

// requestedNetwork is an item of a new server's networks.
type requestedNetwork struct {
	UUID    string `json:"uuid"`
	Port    string `json:"port"`
	FixedIP string `json:"fixed_ip"`
	Tag     string `json:"tag"`
}

// askNetworks reads the networks of a new server: a list, or a word from 2.37 on. An empty list, and before
// 2.37 nothing at all, is the network that the project has, if it has one.
func (a *api) askNetworks(c *call, in newServer, req *compute.CreateRequest) error {
	for _, g := range in.SecurityGroups {
		if _, err := a.groupNamed(c, c.caller.ProjectID, g["name"]); err != nil {
			return missingGroup(err)
		}
		req.SecurityGroups = append(req.SecurityGroups, g["name"])
	}
	switch in.Networks.word {
	case "none":
		req.Networking = compute.NetworksNone
		return nil
	case "auto":
		req.Networking = compute.NetworksAuto
		return a.hasNetwork(c)
	}
	if len(in.Networks.list) == 0 {
		req.Networking = compute.NetworksAuto
	}
	r := a.records(c)
	for _, n := range in.Networks.list {
		wanted, err := n.wanted(c)
		if err != nil {
			return err
		}
		if wanted.NetworkID != "" && !r.seesNetwork(r.network(wanted.NetworkID)) {
			return errors.Join(r.err, badRequest("Network %s could not be found.", wanted.NetworkID))
		}
		req.Networks = append(req.Networks, wanted)
	}
	return nil
}

// hasNetwork refuses "auto" for a project without a network: none can be made for it.
func (a *api) hasNetwork(c *call) error {
	all, err := a.Backend.Networks(c.Context())
	if err != nil {
		return err
	}
	usable := func(n neutron.Network) bool { return n.ProjectID == c.caller.ProjectID || n.Shared }
	if !slices.ContainsFunc(all, usable) {
		return badRequest("Unable to automatically allocate a network for project %s: it has none; ask for 'none' (openstack: --nic none).", c.caller.ProjectID)
	}
	return nil
}

// firstTags and lastFirstTags are the microversions between which networks had tags for the first time; they have again since 2.42.
const (
	firstTags     microversion = 32
	lastFirstTags microversion = 36
	tagsAgain     microversion = 42
)

func (n requestedNetwork) wanted(c *call) (compute.RequestedNetwork, error) {
	none := compute.RequestedNetwork{}
	if n.Tag != "" && !c.since(tagsAgain) && (c.version < firstTags || c.version > lastFirstTags) {
		return none, badRequest("Invalid input for field/attribute networks. Additional properties are not allowed ('tag' was unexpected)")
	}
	if n.UUID == "" && n.Port == "" {
		return none, badRequest("Bad networks format: network uuid is not in proper format")
	}
	wanted := compute.RequestedNetwork{NetworkID: n.UUID, PortID: n.Port, Tag: n.Tag}
	if n.Port != "" {
		wanted.NetworkID = "" // Nova: a port says on which network it is
	}
	if n.FixedIP == "" {
		return wanted, nil
	}
	if n.Port != "" {
		return none, badRequest("Specified Fixed IP '%s' cannot be used with port '%s': the two cannot be specified together.", shorten(n.FixedIP), n.Port)
	}
	var err error
	if wanted.FixedIP, err = netip.ParseAddr(n.FixedIP); err != nil || wanted.FixedIP.Zone() != "" || wanted.FixedIP.Is4In6() {
		return none, badRequest("Invalid fixed IP address (%s)", shorten(n.FixedIP))
	}
	return wanted, nil
}

// accessAddresses are the addresses that a user notes with a server.
type accessAddresses struct {
	V4 *string `json:"accessIPv4"`
	V6 *string `json:"accessIPv6"`
}

// read returns the addresses that are given; an empty text takes one away.
func (a accessAddresses) read() (v4, v6 *netip.Addr, err error) {
	if v4, err = accessAddress("accessIPv4", "ipv4", a.V4, netip.Addr.Is4); err != nil {
		return nil, nil, err
	}
	v6, err = accessAddress("accessIPv6", "ipv6", a.V6, netip.Addr.Is6)
	return v4, v6, err
}

func accessAddress(field, format string, text *string, right func(netip.Addr) bool) (*netip.Addr, error) {
	if text == nil {
		return nil, nil
	}
	if *text == "" {
		return &netip.Addr{}, nil
	}
	address, err := netip.ParseAddr(*text)
	if err != nil || address.Zone() != "" || !right(address) {
		return nil, badRequest("Invalid input for field/attribute %s. Value: %s. %s is not a '%s'", field, quoted(*text), quoted(*text), format)
	}
	return &address, nil
}

// addressText is empty for the zero Addr.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
