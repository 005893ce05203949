package store

import (
	"database/sql"

	"compute-agent/neutron"
)

const selectRouters = "SELECT id, project_id, gateway_port, record FROM routers"

func scanRouter(r row) (router neutron.Router, err error) {
	var port sql.NullString
	var record []byte
	if err = r.Scan(&router.ID, &router.ProjectID, &port, &record); err == nil {
		err = decode(record, &router)
	}
	router.GatewayPort = port.String
	return router, err
}

// Router implements compute.NetworkReader.
func (r reader) Router(id string) (neutron.Router, error) {
	return get(r, "router "+id, scanRouter, selectRouters+" WHERE id = ?", id)
}

// Routers implements compute.NetworkReader.
func (r reader) Routers() ([]neutron.Router, error) {
	return list(r, "list routers", scanRouter, selectRouters+" ORDER BY seq")
}

// PutRouter implements compute.NetworkWriter.
func (w writer) PutRouter(r neutron.Router) error {
	id, project, port := r.ID, r.ProjectID, r.GatewayPort
	r.ID, r.ProjectID, r.GatewayPort = "", "", ""
	return w.put("router "+id, `INSERT INTO routers (id, project_id, gateway_port, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET project_id = excluded.project_id, gateway_port = excluded.gateway_port, record = excluded.record`,
		r, id, project, orNull(port))
}

// DeleteRouter implements compute.NetworkWriter.
func (w writer) DeleteRouter(id string) error {
	return w.remove("router "+id, "DELETE FROM routers WHERE id = ?", id)
}

const selectFloatingIPs = "SELECT id, project_id, network_id, own_port, port_id, router_id, record FROM floating_ips"

func scanFloatingIP(r row) (f neutron.FloatingIP, err error) {
	var port, router sql.NullString
	var record []byte
	if err = r.Scan(&f.ID, &f.ProjectID, &f.NetworkID, &f.OwnPort, &port, &router, &record); err == nil {
		err = decode(record, &f)
	}
	f.PortID, f.RouterID = port.String, router.String
	return f, err
}

// FloatingIP implements compute.NetworkReader.
func (r reader) FloatingIP(id string) (neutron.FloatingIP, error) {
	return get(r, "floating IP "+id, scanFloatingIP, selectFloatingIPs+" WHERE id = ?", id)
}

// FloatingIPs implements compute.NetworkReader.
func (r reader) FloatingIPs() ([]neutron.FloatingIP, error) {
	return list(r, "list floating IPs", scanFloatingIP, selectFloatingIPs+" ORDER BY seq")
}

// FloatingIPsOf implements compute.NetworkReader.
func (r reader) FloatingIPsOf(portID string) ([]neutron.FloatingIP, error) {
	return list(r, "list the floating IPs of port "+portID, scanFloatingIP, selectFloatingIPs+" WHERE port_id = ? ORDER BY seq", portID)
}

// PutFloatingIP implements compute.NetworkWriter.
func (w writer) PutFloatingIP(f neutron.FloatingIP) error {
	whole := f
	f.ID, f.ProjectID, f.NetworkID, f.OwnPort, f.PortID, f.RouterID = "", "", "", "", "", ""
	subject := "floating IP " + whole.ID
	err := w.put(subject, `INSERT INTO floating_ips (id, project_id, network_id, own_port, port_id, router_id, record) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET project_id = excluded.project_id, network_id = excluded.network_id, own_port = excluded.own_port,
			port_id = excluded.port_id, router_id = excluded.router_id, record = excluded.record`,
		f, whole.ID, whole.ProjectID, whole.NetworkID, whole.OwnPort, orNull(whole.PortID), orNull(whole.RouterID))
	if isDuplicate(err) {
		return exists(subject, "", "port "+whole.OwnPort+" is another's")
	}
	return err
}

// DeleteFloatingIP implements compute.NetworkWriter.
func (w writer) DeleteFloatingIP(id string) error {
	return w.remove("floating IP "+id, "DELETE FROM floating_ips WHERE id = ?", id)
}
