package api

import (
	"errors"
	"net/http"
	"net/netip"

	"compute-agent/compute"
	"compute-agent/neutron"
)

// attachmentRoutes are those of the interfaces of servers.
func (a *api) attachmentRoutes() []route {
	return []route{
		{pattern: "GET /servers/{id}/os-interface", do: a.listAttachments},
		{pattern: "POST /servers/{id}/os-interface", do: a.attachInterface, schema: "interface_attach"},
		{pattern: "GET /servers/{id}/os-interface/{port}", do: a.showAttachment},
		{pattern: "DELETE /servers/{id}/os-interface/{port}", do: a.detachInterface},
	}
}

func (a *api) listAttachments(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	ports, err := a.Backend.Interfaces(c.Context(), s.ID)
	if err != nil {
		return nil, err
	}
	views := make([]any, 0, len(ports))
	for _, p := range ports {
		views = append(views, attachmentView(c, p))
	}
	return ok(map[string]any{"interfaceAttachments": views})
}

func (a *api) showAttachment(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	ports, err := a.Backend.Interfaces(c.Context(), s.ID)
	if err != nil {
		return nil, err
	}
	id := c.PathValue("port")
	for _, p := range ports {
		if p.ID == id {
			return ok(map[string]any{"interfaceAttachment": attachmentView(c, p)})
		}
	}
	return nil, notFound("Instance %s does not have a port with id %s", s.ID, shorten(id))
}

// attachmentView is an interface as Nova shows it, with its tag from 2.70 on.
func attachmentView(c *call, p neutron.Port) map[string]any {
	ips := make([]map[string]string, 0, len(p.FixedIPs))
	for _, ip := range p.FixedIPs {
		ips = append(ips, map[string]string{"subnet_id": ip.SubnetID, "ip_address": ip.Address.String()})
	}
	view := map[string]any{"net_id": p.NetworkID, "port_id": p.ID, "mac_addr": p.MAC, "port_state": string(p.Status), "fixed_ips": ips}
	if c.since(70) {
		view["tag"] = nil
		if p.Tag != "" {
			view["tag"] = p.Tag
		}
	}
	return view
}

// attachInterface answers when the guest has the interface, as Nova does.
func (a *api) attachInterface(c *call) (*answer, error) {
	want, err := requestedAttachment(c)
	if err != nil {
		return nil, err
	}
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	p, err := a.Backend.AttachInterface(c.Context(), s.ID, want)
	if err != nil {
		return nil, attachmentFault(s, err)
	}
	return ok(map[string]any{"interfaceAttachment": attachmentView(c, p)})
}

func requestedAttachment(c *call) (want compute.RequestedNetwork, err error) {
	var req struct {
		Attachment struct {
			Network string `json:"net_id"`
			Port    string `json:"port_id"`
			Tag     string `json:"tag"`
			Fixed   []struct {
				Address string `json:"ip_address"`
			} `json:"fixed_ips"`
		} `json:"interfaceAttachment"`
	}
	if err := c.decode(&req); err != nil {
		return want, err
	}
	in := req.Attachment
	want = compute.RequestedNetwork{NetworkID: in.Network, PortID: in.Port, Tag: in.Tag}
	switch {
	case in.Network != "" && in.Port != "":
		return want, badRequest("Must not input both network_id and port_id")
	case len(in.Fixed) > 0 && in.Network == "":
		return want, badRequest("Must input network_id when request IP address")
	case len(in.Fixed) > 0:
		if want.FixedIP, err = netip.ParseAddr(in.Fixed[0].Address); err != nil || want.FixedIP.Zone() != "" {
			return want, badRequest("Invalid input for field/attribute ip_address. Value: %s.", shorten(in.Fixed[0].Address))
		}
	}
	return want, nil
}

// attachmentStatus is what Nova's API makes of what its network API refuses, where that is not by the kind.
var attachmentStatus = map[string]int{
	"NetworkNotFound":            http.StatusNotFound,
	"PortNotFound":               http.StatusNotFound,
	"IpAddressGenerationFailure": http.StatusBadRequest, // NoMoreFixedIps
}

func attachmentFault(s compute.Server, err error) error {
	if errors.Is(err, compute.ErrAttach) {
		return &fault{status: http.StatusInternalServerError, err: err,
			message: "Failed to attach network adapter device to " + s.ID + ": " + userMessage(err, compute.ErrAttach)}
	}
	e, is := errors.AsType[*neutron.Error](err)
	if !is || attachmentStatus[e.Class] == 0 {
		return err
	}
	return &fault{status: attachmentStatus[e.Class], message: userMessage(err, e), err: err}
}

func (a *api) detachInterface(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	if err := a.Backend.DetachInterface(c.Context(), s.ID, c.PathValue("port")); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}
