package api

import (
	"context"
	"errors"
	"slices"

	"compute-agent/compute"
	"compute-agent/neutron"
)

var routerResource = &resource{
	name: "router", plural: "routers", path: "routers", class: "RouterNotFound", missing: "Router %s could not be found",
	attributes: withStandard(map[string]trait{
		"admin_state_up": settable, "status": 0, "external_gateway_info": settable | compound, "routes": changeable | compound,
		"availability_zone_hints": creatable | compound, "availability_zones": compound,
	}),
	list: (*records).routerViews,
	show: func(r *records, id string) (view, error) {
		router, err := r.api.Backend.Router(r.ctx(), id)
		return viewOf(router, err, r.routerView)
	},
	create:     (*records).createRouter,
	update:     (*records).updateRouter,
	remove:     func(r *records, id string) error { return r.api.Backend.DeleteRouter(r.ctx(), id) },
	restricted: (*records).restrictedOfRouter,
	tag: func(r *records, id string, change func(*[]string)) error {
		_, err := r.api.Backend.UpdateRouter(r.ctx(), id, func(req *neutron.RouterRequest) error { change(&req.Tags); return nil })
		return err
	},
}

func (r *records) routerViews() ([]view, error) {
	all, err := r.api.Backend.Routers(r.ctx())
	return viewsOf(all, err, r.routerView)
}

func (r *records) routerView(router neutron.Router) view {
	return standard{router.ID, router.ProjectID, router.Description, router.Tags, router.Revision, router.Created, router.Updated}.add(view{
		"name": router.Name, "admin_state_up": router.AdminUp, "status": string(neutron.StatusActive), "routes": routeViews(router.Routes),
		"external_gateway_info": r.gatewayView(router), "availability_zone_hints": []string{}, "availability_zones": []string{availabilityZone},
	})
}

// gatewayView is null for a router that leads to no external network.
func (r *records) gatewayView(router neutron.Router) any {
	if router.Gateway == "" {
		return nil
	}
	return map[string]any{
		"network_id": router.Gateway, "enable_snat": router.SNAT, "external_fixed_ips": fixedIPViews(r.port(router.GatewayPort).FixedIPs),
	}
}

// port returns a port, the zero one if there is none.
func (r *records) port(id string) neutron.Port {
	p, err := r.api.Backend.Port(r.ctx(), id)
	if !errors.Is(err, compute.ErrNotFound) {
		r.fail(err)
	}
	return p
}

// restrictedOfRouter are the parts of a gateway that only an admin chooses.
func (r *records) restrictedOfRouter(_ view, in item) []string {
	if r.caller.admin {
		return nil
	}
	var names []string
	for _, name := range []string{"enable_snat", "external_fixed_ips"} {
		if mentions(in.values, "external_gateway_info", name) {
			names = append(names, "external_gateway_info:"+name)
		}
	}
	return names
}

type routerBody struct {
	Name        optional[string]       `json:"name"`
	Description optional[string]       `json:"description"`
	ProjectID   string                 `json:"project_id"`
	AdminUp     optional[boolean]      `json:"admin_state_up"`
	Routes      optional[[]routeBody]  `json:"routes"`
	Gateway     optional[*gatewayBody] `json:"external_gateway_info"`
}

type gatewayBody struct {
	NetworkID string            `json:"network_id"`
	SNAT      optional[boolean] `json:"enable_snat"`
	FixedIPs  []fixedIPBody     `json:"external_fixed_ips"`
}

// change applies what is given. An empty gateway is none, as null is.
func (b routerBody) change(req *neutron.RouterRequest) {
	b.Name.set(&req.Name)
	b.Description.set(&req.Description)
	setBool(b.AdminUp, &req.AdminUp)
	if b.Routes.given {
		req.Routes = routesOf(b.Routes.value)
	}
	if !b.Gateway.given {
		return
	}
	req.Gateway, req.GatewayIPs, req.Translate = "", nil, nil
	if g := b.Gateway.value; g != nil {
		req.Gateway = g.NetworkID
		if len(g.FixedIPs) > 0 { // an empty list is any, like none at all
			req.GatewayIPs = fixedIPsOf(g.FixedIPs)
		}
		if g.SNAT.given {
			req.Translate = (*bool)(&g.SNAT.value)
		}
	}
}

// checkGateway refuses a gateway to a network that the caller does not see.
func (r *records) checkGateway(b routerBody) error {
	if g := b.Gateway.value; g != nil && g.NetworkID != "" && !r.seesNetwork(r.network(g.NetworkID)) {
		return networkResource.none(g.NetworkID)
	}
	return nil
}

func (r *records) createRouter(in item) (view, error) {
	var b routerBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	if err := r.checkGateway(b); err != nil {
		return nil, err
	}
	req := neutron.RouterRequest{Router: neutron.Router{ProjectID: b.ProjectID, AdminUp: true}}
	b.change(&req)
	router, err := r.api.Backend.CreateRouter(r.ctx(), req)
	return viewOf(router, err, r.routerView)
}

func (r *records) updateRouter(id string, in item) (view, error) {
	var b routerBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	if err := r.checkGateway(b); err != nil {
		return nil, err
	}
	router, err := r.api.Backend.UpdateRouter(r.ctx(), id, func(req *neutron.RouterRequest) error { b.change(req); return nil })
	return viewOf(router, err, r.routerView)
}

func (a *api) routerActionRoutes() []route {
	return []route{
		{pattern: "PUT /routers/{id}/add_router_interface", do: a.routerInterface(Backend.AddInterface, true), schema: "router_interface"},
		{pattern: "PUT /routers/{id}/remove_router_interface", do: a.routerInterface(Backend.RemoveInterface, false), schema: "router_interface"},
		{pattern: "PUT /routers/{id}/add_extraroutes", do: a.extraRoutes(addRoutes), schema: "extra_routes"},
		{pattern: "PUT /routers/{id}/remove_extraroutes", do: a.extraRoutes(removeRoutes), schema: "extra_routes"},
	}
}

// routerInterface connects a router to a subnet or ends that.
func (a *api) routerInterface(do func(Backend, context.Context, string, string, string) (neutron.Port, error), adds bool) func(*call) (*answer, error) {
	return func(c *call) (*answer, error) {
		var b struct {
			SubnetID string `json:"subnet_id"`
			PortID   string `json:"port_id"`
		}
		if err := c.decode(&b); err != nil {
			return nil, err
		}
		r := a.records(c)
		router, err := r.toChange(routerResource, "update")
		if err != nil {
			return nil, err
		}
		if err := r.checkInterface(b.SubnetID, b.PortID, adds); err != nil {
			return nil, err
		}
		id := c.PathValue("id")
		p, err := do(a.Backend, c.Context(), id, b.SubnetID, b.PortID)
		if err != nil {
			return nil, err
		}
		return ok(interfaceView(router, p, b.SubnetID))
	}
}

// checkInterface refuses subnets and ports that are not for the caller to connect: on a shared network a router would take the gateway's
// address from it.
func (r *records) checkInterface(subnetID, portID string, adds bool) error {
	if subnetID == "" && portID == "" {
		return badInterface("Either subnet_id or port_id must be specified")
	}
	if portID != "" {
		if err := r.ownPort(portID); err != nil {
			return err
		}
	}
	if subnetID == "" {
		return nil
	}
	v, err := r.find(subnetResource, subnetID)
	if err == nil && adds && !r.mine(v) {
		err = badInterface("Cannot add interface to router because subnet " + subnetID + " is not owned by project making the request")
	}
	return err
}

// ownPort refuses a port that is another project's, though it may be on the caller's network.
func (r *records) ownPort(id string) error {
	v, err := r.find(portResource, id)
	if err == nil && !r.mine(v) {
		err = portResource.none(id)
	}
	return err
}

func badInterface(reason string) *fault {
	f := badRequest("Bad router request: %s.", reason)
	f.class = "BadRequest"
	return f
}

func interfaceView(router view, p neutron.Port, subnetID string) map[string]any {
	subnets := listOf(p.FixedIPs, func(ip neutron.FixedIP) string { return ip.SubnetID })
	if subnetID == "" && len(subnets) > 0 {
		subnetID = subnets[0]
	}
	return map[string]any{
		"id": router["id"], "project_id": router["project_id"], "tenant_id": router["project_id"], "port_id": p.ID, "network_id": p.NetworkID,
		"subnet_id": subnetID, "subnet_ids": subnets, "tags": router["tags"],
	}
}

// extraRoutes adds or removes static routes and leaves the others.
func (a *api) extraRoutes(change func(has, asked []neutron.Route) []neutron.Route) func(*call) (*answer, error) {
	return func(c *call) (*answer, error) {
		var b struct {
			Router struct {
				Routes []routeBody `json:"routes"`
			} `json:"router"`
		}
		if err := c.decode(&b); err != nil {
			return nil, err
		}
		r := a.records(c)
		if _, err := r.toChange(routerResource, "update"); err != nil {
			return nil, err
		}
		router, err := a.Backend.UpdateRouter(c.Context(), c.PathValue("id"), func(req *neutron.RouterRequest) error {
			req.Routes = change(req.Routes, routesOf(b.Router.Routes))
			return nil
		})
		v, err := viewOf(router, err, r.routerView)
		if err = errors.Join(err, r.err); err != nil {
			return nil, err
		}
		return ok(map[string]any{"router": r.shown(routerResource, v, nil)})
	}
}

func addRoutes(has, asked []neutron.Route) []neutron.Route {
	return append(removeRoutes(has, asked), asked...)
}

func removeRoutes(has, asked []neutron.Route) []neutron.Route {
	return slices.DeleteFunc(slices.Clone(has), func(r neutron.Route) bool { return slices.Contains(asked, r) })
}
