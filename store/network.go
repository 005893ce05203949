package store

import (
	"cmp"
	"database/sql"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"compute-agent/compute"
	"compute-agent/neutron"
)

// lean is a record without what says nothing, which is most of a port.
func lean(v any) (string, error) { return encode(sparse(reflect.ValueOf(v))) }

// put writes a record of the network service: query has its columns and then the record.
func (w writer) put(subject, query string, record any, columns ...any) error {
	text, err := lean(record)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	_, err = w.exec(query, append(columns, text)...)
	if isDangling(err) {
		return &compute.Failure{Kind: compute.ErrNotFound, Subject: subject, Reason: "what it refers to is not there"}
	}
	return explain(subject, err)
}

// remove deletes a record of the network service that nothing refers to.
func (w writer) remove(subject, query, id string) error {
	_, err := w.exec(query, id)
	if isDangling(err) {
		return &compute.Failure{Kind: compute.ErrConflict, Subject: subject, Reason: "it is in use"}
	}
	return explain(subject, err)
}

func exists(subject, field, reason string) error {
	return &compute.Failure{Kind: compute.ErrExists, Subject: subject, Field: field, Reason: reason}
}

func orNull(id string) sql.NullString { return sql.NullString{String: id, Valid: id != ""} }

// Owned implements compute.NetworkReader.
func (r reader) Owned(what compute.NetworkResource, projectID string) (n int, err error) {
	count, known := map[compute.NetworkResource]string{
		compute.ResourceNetwork:       "SELECT count(*) FROM networks WHERE project_id = ?",
		compute.ResourceSubnet:        "SELECT count(*) FROM subnets WHERE project_id = ?",
		compute.ResourcePort:          "SELECT count(*) FROM ports WHERE project_id = ?",
		compute.ResourceSecurityGroup: "SELECT count(*) FROM security_groups WHERE project_id = ?",
		compute.ResourceRouter:        "SELECT count(*) FROM routers WHERE project_id = ?",
		compute.ResourceFloatingIP:    "SELECT count(*) FROM floating_ips WHERE project_id = ?",
	}[what]
	if !known {
		return 0, fmt.Errorf("count: %q is nothing that projects have", what)
	}
	err = r.tx.QueryRow(count, projectID).Scan(&n)
	return n, explain("count "+string(what), err)
}

const selectNetworks = "SELECT id, project_id, record FROM networks"

func scanNetwork(r row) (n neutron.Network, err error) {
	var record []byte
	if err = r.Scan(&n.ID, &n.ProjectID, &record); err == nil {
		err = decode(record, &n)
	}
	return n, err
}

// Network implements compute.NetworkReader.
func (r reader) Network(id string) (neutron.Network, error) {
	return get(r, "network "+id, scanNetwork, selectNetworks+" WHERE id = ?", id)
}

// Networks implements compute.NetworkReader.
func (r reader) Networks() ([]neutron.Network, error) {
	return list(r, "list networks", scanNetwork, selectNetworks+" ORDER BY seq")
}

// PutNetwork implements compute.NetworkWriter.
func (w writer) PutNetwork(n neutron.Network) error {
	id, project := n.ID, n.ProjectID
	n.ID, n.ProjectID = "", ""
	return w.put("network "+id, `INSERT INTO networks (id, project_id, record) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET project_id = excluded.project_id, record = excluded.record`, n, id, project)
}

// DeleteNetwork implements compute.NetworkWriter.
func (w writer) DeleteNetwork(id string) error {
	return w.remove("network "+id, "DELETE FROM networks WHERE id = ?", id)
}

const selectSubnets = "SELECT id, network_id, project_id, record FROM subnets"

func scanSubnet(r row) (s neutron.Subnet, err error) {
	var record []byte
	if err = r.Scan(&s.ID, &s.NetworkID, &s.ProjectID, &record); err == nil {
		err = decode(record, &s)
	}
	return s, err
}

// Subnet implements compute.NetworkReader.
func (r reader) Subnet(id string) (neutron.Subnet, error) {
	return get(r, "subnet "+id, scanSubnet, selectSubnets+" WHERE id = ?", id)
}

// Subnets implements compute.NetworkReader.
func (r reader) Subnets() ([]neutron.Subnet, error) {
	return list(r, "list subnets", scanSubnet, selectSubnets+" ORDER BY seq")
}

// SubnetsOf implements compute.NetworkReader.
func (r reader) SubnetsOf(networkID string) ([]neutron.Subnet, error) {
	return list(r, "list the subnets of network "+networkID, scanSubnet, selectSubnets+" WHERE network_id = ? ORDER BY seq", networkID)
}

// PutSubnet implements compute.NetworkWriter.
func (w writer) PutSubnet(s neutron.Subnet) error {
	id, network, project := s.ID, s.NetworkID, s.ProjectID
	s.ID, s.NetworkID, s.ProjectID = "", "", ""
	return w.put("subnet "+id, `INSERT INTO subnets (id, network_id, project_id, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET network_id = excluded.network_id, project_id = excluded.project_id, record = excluded.record`,
		s, id, network, project)
}

// DeleteSubnet implements compute.NetworkWriter.
func (w writer) DeleteSubnet(id string) error {
	return w.remove("subnet "+id, "DELETE FROM subnets WHERE id = ?", id)
}

// AddressesUsed implements compute.NetworkReader.
func (r reader) AddressesUsed(networkID string, within neutron.Range) (n int, err error) {
	err = r.tx.QueryRow("SELECT count(*) FROM fixed_ips WHERE network_id = ? AND address BETWEEN ? AND ?",
		networkID, sortable(within.First), sortable(within.Last)).Scan(&n)
	return n, explain("count the addresses of network "+networkID, err)
}

func sortable(a netip.Addr) []byte {
	all := a.As16()
	return all[:]
}

const selectPorts = "SELECT p.id, p.network_id, p.project_id, p.device_id, p.mac, p.record FROM ports p"

func scanPort(r row) (p neutron.Port, err error) {
	var record []byte
	if err = r.Scan(&p.ID, &p.NetworkID, &p.ProjectID, &p.DeviceID, &p.MAC, &record); err == nil {
		err = decode(record, &p)
	}
	return p, err
}

// Port implements compute.NetworkReader.
func (r reader) Port(id string) (neutron.Port, error) {
	return get(r, "port "+id, scanPort, selectPorts+" WHERE p.id = ?", id)
}

// Ports implements compute.NetworkReader.
func (r reader) Ports() ([]neutron.Port, error) {
	return list(r, "list ports", scanPort, selectPorts+" ORDER BY p.seq")
}

// PortsOf implements compute.NetworkReader.
func (r reader) PortsOf(deviceID string) ([]neutron.Port, error) {
	ports, err := list(r, "list the ports of "+deviceID, scanPort, selectPorts+" WHERE p.device_id = ? ORDER BY p.seq", deviceID)
	slices.SortStableFunc(ports, func(a, b neutron.Port) int { return cmp.Compare(a.Index, b.Index) })
	return ports, err
}

// PortsOn implements compute.NetworkReader.
func (r reader) PortsOn(networkID string) ([]neutron.Port, error) {
	return list(r, "list the ports of network "+networkID, scanPort, selectPorts+" WHERE p.network_id = ? ORDER BY p.seq", networkID)
}

// PortsPlugged implements compute.NetworkReader.
func (r reader) PortsPlugged(networkID, vif string) ([]neutron.Port, error) {
	return list(r, "list the ports of network "+networkID, scanPort,
		selectPorts+" WHERE p.network_id = ? AND p.record ->> 'VIFType' = ? ORDER BY p.seq", networkID, vif)
}

// PortsIn implements compute.NetworkReader.
func (r reader) PortsIn(groupID string) ([]neutron.Port, error) {
	return list(r, "list the ports of group "+groupID, scanPort,
		selectPorts+" JOIN port_groups g ON g.port_id = p.id WHERE g.group_id = ? ORDER BY p.seq", groupID)
}

// PutPort implements compute.NetworkWriter.
func (w writer) PutPort(p neutron.Port) error {
	subject, whole := "port "+p.ID, p
	p.ID, p.NetworkID, p.ProjectID, p.DeviceID, p.MAC = "", "", "", "", ""
	err := w.put(subject, `INSERT INTO ports (id, network_id, project_id, device_id, mac, record) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET network_id = excluded.network_id, project_id = excluded.project_id, device_id = excluded.device_id,
			mac = excluded.mac, record = excluded.record`,
		p, whole.ID, whole.NetworkID, whole.ProjectID, whole.DeviceID, whole.MAC)
	if isDuplicate(err) {
		return exists(subject, "mac_address", whole.MAC+" is another port's of the network")
	}
	if err != nil {
		return err
	}
	if err := w.indexAddresses(subject, whole); err != nil {
		return err
	}
	return w.indexGroups(subject, whole)
}

func (w writer) indexAddresses(subject string, p neutron.Port) error {
	if _, err := w.exec("DELETE FROM fixed_ips WHERE port_id = ?", p.ID); err != nil {
		return explain(subject, err)
	}
	for _, ip := range p.FixedIPs {
		_, err := w.exec("INSERT INTO fixed_ips (network_id, address, subnet_id, port_id) VALUES (?, ?, ?, ?)",
			p.NetworkID, sortable(ip.Address), ip.SubnetID, p.ID)
		switch {
		case isDuplicate(err):
			return exists(subject, "fixed_ips", ip.Address.String()+" is another port's of the network")
		case isDangling(err):
			return missing("subnet " + ip.SubnetID)
		case err != nil:
			return explain(subject, err)
		}
	}
	return nil
}

func (w writer) indexGroups(subject string, p neutron.Port) error {
	if _, err := w.exec("DELETE FROM port_groups WHERE port_id = ?", p.ID); err != nil {
		return explain(subject, err)
	}
	for _, id := range p.SecurityGroups {
		_, err := w.exec("INSERT INTO port_groups (port_id, group_id) VALUES (?, ?)", p.ID, id)
		switch {
		case isDuplicate(err):
			return exists(subject, "security_groups", "group "+id+" is there twice")
		case isDangling(err):
			return missing("security group " + id)
		case err != nil:
			return explain(subject, err)
		}
	}
	return nil
}

// DeletePort implements compute.NetworkWriter.
func (w writer) DeletePort(id string) error {
	return w.remove("port "+id, "DELETE FROM ports WHERE id = ?", id)
}

const selectGroups = "SELECT id, project_id, name, record FROM security_groups"

func scanGroup(r row) (g neutron.SecurityGroup, err error) {
	var record []byte
	if err = r.Scan(&g.ID, &g.ProjectID, &g.Name, &record); err == nil {
		err = decode(record, &g)
	}
	return g, err
}

// SecurityGroup implements compute.NetworkReader.
func (r reader) SecurityGroup(id string) (neutron.SecurityGroup, error) {
	return get(r, "security group "+id, scanGroup, selectGroups+" WHERE id = ?", id)
}

// SecurityGroups implements compute.NetworkReader.
func (r reader) SecurityGroups() ([]neutron.SecurityGroup, error) {
	return list(r, "list security groups", scanGroup, selectGroups+" ORDER BY seq")
}

// SecurityGroupsOf implements compute.NetworkReader.
func (r reader) SecurityGroupsOf(projectID string) ([]neutron.SecurityGroup, error) {
	return list(r, "list the security groups of project "+projectID, scanGroup, selectGroups+" WHERE project_id = ? ORDER BY seq", projectID)
}

// PutSecurityGroup implements compute.NetworkWriter.
func (w writer) PutSecurityGroup(g neutron.SecurityGroup) error {
	id, project, name := g.ID, g.ProjectID, g.Name
	g.ID, g.ProjectID, g.Name = "", "", ""
	err := w.put("security group "+id, `INSERT INTO security_groups (id, project_id, name, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET project_id = excluded.project_id, name = excluded.name, record = excluded.record`,
		g, id, project, name)
	if isDuplicate(err) {
		return exists("security group "+id, "name", "the project has a default group already")
	}
	return err
}

// DeleteSecurityGroup implements compute.NetworkWriter.
func (w writer) DeleteSecurityGroup(id string) error {
	return w.remove("security group "+id, "DELETE FROM security_groups WHERE id = ?", id)
}
