package neutron

// Quotas are how many of each a project may have; a negative number is no limit.
type Quotas struct {
	Networks, Subnets, Ports, SecurityGroups, Rules, Routers, FloatingIPs int
}

// DefaultQuotas are Neutron's.
var DefaultQuotas = Quotas{Networks: 100, Subnets: 100, Ports: 500, SecurityGroups: 10, Rules: 100, Routers: 10, FloatingIPs: 50}
