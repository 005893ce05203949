package compute

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"compute-agent/network"
	"compute-agent/neutron"
)

// macTries is how often a MAC is made up until it is nobody else's (Neutron's mac_generation_retries).
const macTries = 16

// makePort stores a new port: it gets an ID, a MAC, addresses and groups, whatever of these it has not. FixedIPs that are nil are any;
// SecurityGroups that are nil are the project's default one.
func (s *NetworkService) makePort(tx Writer, p neutron.Port, on neutron.Network) (neutron.Port, error) {
	if !neutron.IsServicePort(p.DeviceOwner) { // without those no network works
		if err := s.within(tx, ResourcePort, p.ProjectID); err != nil {
			return p, err
		}
	}
	p.ID, p.NetworkID, p.Revision, p.Created = newID(), on.ID, 1, s.now()
	p.Updated = p.Created
	if p.Status == "" {
		p.Status = neutron.StatusDown
	}
	if err := s.giveGroups(tx, &p); err != nil {
		return p, err
	}
	if neutron.IsServicePort(p.DeviceOwner) && p.DeviceOwner != neutron.OwnerFloatingIP { // which no interface has
		if _, err := bindingOf(tx, p, on); err != nil {
			return p, err
		}
	}
	asked, made := p.FixedIPs, p.MAC == ""
	for try := 1; ; try++ {
		if made {
			p.MAC = neutron.RandomMAC(uint32(s.opt.Random(1 << 24)))
		}
		book, err := s.addresses(tx, p)
		if err != nil {
			return p, err
		}
		if p.FixedIPs, err = book.Choose(asked); err != nil {
			return p, err
		}
		if err = tx.PutPort(p); !made || try == macTries || !isTaken(err, "mac_address") {
			return p, portTaken(err, p)
		}
	}
}

// addresses is what chooses the addresses of a port.
func (s *NetworkService) addresses(r Reader, p neutron.Port) (*neutron.Addresses, error) {
	subnets, err := r.SubnetsOf(p.NetworkID)
	if p.DeviceOwner == neutron.OwnerFloatingIP { // which lead to addresses of IPv4 only
		subnets = slices.DeleteFunc(subnets, func(sub neutron.Subnet) bool { return sub.CIDR.Addr().Is6() })
	}
	a := &neutron.Addresses{
		NetworkID: p.NetworkID, Subnets: subnets, Owner: p.DeviceOwner, MAC: p.MAC, Random: s.opt.Random,
		Used: func(within neutron.Range) (int, error) { return r.AddressesUsed(p.NetworkID, within) },
	}
	if p.DeviceOwner == neutron.OwnerDHCP {
		a.Random = nil // the lowest, as Neutron's DHCP servers prefer
	}
	return a, err
}

func isTaken(err error, field string) bool {
	failure, is := errors.AsType[*Failure](err)
	return is && errors.Is(err, ErrExists) && failure.Field == field
}

// portTaken says in Neutron's words whose something is.
func portTaken(err error, p neutron.Port) error {
	switch {
	case isTaken(err, "mac_address"):
		return conflict("MacAddressInUse", "unable to complete operation for network %s: the MAC address %s is in use", p.NetworkID, p.MAC)
	case isTaken(err, "fixed_ips"):
		return conflict("IpAddressInUse", "unable to complete operation for network %s: %v", p.NetworkID, err)
	}
	return err
}

// giveGroups checks a new port's groups; one that says none gets the project's default one, unless it is a port of the cloud itself.
func (s *NetworkService) giveGroups(tx Writer, p *neutron.Port) error {
	if p.SecurityGroups == nil && p.PortSecurity && p.ProjectID != "" && !neutron.IsServicePort(p.DeviceOwner) {
		g, err := s.defaultGroup(tx, p.ProjectID)
		if err != nil {
			return err
		}
		p.SecurityGroups = []string{g.ID}
	}
	return checkGroups(tx, *p)
}

func checkGroups(r Reader, p neutron.Port) error {
	var groups []neutron.SecurityGroup
	for _, id := range p.SecurityGroups {
		g, err := r.SecurityGroup(id)
		if err != nil {
			return missingRecord("SecurityGroupNotFound", "security group", id, err)
		}
		groups = append(groups, g)
	}
	return p.CheckGroups(groups)
}

// defaultGroup is a project's, which is made when it is first asked for.
func (s *NetworkService) defaultGroup(tx Writer, projectID string) (neutron.SecurityGroup, error) {
	groups, err := tx.SecurityGroupsOf(projectID)
	if err != nil {
		return neutron.SecurityGroup{}, err
	}
	for _, g := range groups {
		if g.Name == neutron.DefaultGroup {
			return g, nil
		}
	}
	now := s.now()
	g := neutron.SecurityGroup{ID: newID(), ProjectID: projectID, Name: neutron.DefaultGroup, Description: "Default security group",
		Revision: 1, Created: now, Updated: now}
	g.Rules = neutron.DefaultRules(g.ID, newID, now)
	return g, tx.PutSecurityGroup(g)
}

// dropPort removes a port. Floating IPs that lead to it then lead nowhere, as in Neutron.
func (s *NetworkService) dropPort(tx Writer, p neutron.Port) error {
	floating, err := tx.FloatingIPsOf(p.ID)
	if err != nil {
		return err
	}
	for _, f := range floating {
		if err := s.disassociate(tx, f); err != nil {
			return err
		}
	}
	return tx.DeletePort(p.ID)
}

func (s *NetworkService) disassociate(tx Writer, f neutron.FloatingIP) error {
	f.PortID, f.RouterID, f.Fixed = "", "", netip.Addr{}
	f.Revision, f.Updated = f.Revision+1, s.now()
	return tx.PutFloatingIP(f)
}

// portFor is an interface that a server is to have.
type portFor struct {
	RequestedNetwork
	ServerID, ProjectID string
	HostName            string   // of the server: the port's dns_name, if it can be one
	Groups              []string // IDs, of a port that is made; nil for the project's default one
	Index               int      // among the server's interfaces
}

// serverNetworks are the interfaces that a new server asks for; with NetworksAuto that is the one network that its project can use.
// ErrConflict if there are several, as Nova's NetworkAmbiguous.
func serverNetworks(r Reader, projectID string, how Networking, listed []RequestedNetwork) ([]RequestedNetwork, error) {
	if how != NetworksAuto {
		return listed, nil
	}
	all, err := r.Networks()
	if err != nil {
		return nil, err
	}
	var usable []RequestedNetwork
	for _, n := range all {
		if n.AdminUp && !n.External && (n.Shared || n.ProjectID == projectID) {
			usable = append(usable, RequestedNetwork{NetworkID: n.ID})
		}
	}
	if len(usable) > 1 {
		return nil, &Failure{Kind: ErrConflict, Field: "networks",
			Reason: fmt.Sprintf("the project can use %d networks: name the one that is meant", len(usable))}
	}
	return usable, nil
}

// serverGroups are the IDs of a project's groups that a server names by name or ID; nil for none, which is the default one.
func (s *NetworkService) serverGroups(tx Writer, projectID string, named []string) ([]string, error) {
	if len(named) == 0 {
		return nil, nil
	}
	if _, err := s.defaultGroup(tx, projectID); err != nil {
		return nil, err
	}
	groups, err := tx.SecurityGroupsOf(projectID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range named {
		id, err := groupNamed(groups, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func groupNamed(groups []neutron.SecurityGroup, name string) (string, error) {
	var found []string
	for _, g := range groups {
		if g.ID == name {
			return g.ID, nil
		}
		if g.Name == name {
			found = append(found, g.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", invalid("security_groups", "the project has no security group %q", abridge(name))
	case 1:
		return found[0], nil
	default:
		return "", &Failure{Kind: ErrConflict, Field: "security_groups",
			Reason: fmt.Sprintf("the project has %d security groups %q: name the ID of one", len(found), abridge(name))}
	}
}

// allocate gives a server an interface: a port that it names, or a new one, which then goes with the server. It changes nothing but
// records. The errors are those of a request for a server: ErrInvalid for what is not there, ErrConflict for what somebody else
// has and for a network without an address left, ErrForbidden for what the project may not have.
func (s *NetworkService) allocate(tx Writer, want portFor) (neutron.Port, error) {
	p, err := s.portForServer(tx, want)
	if e, is := errors.AsType[*neutron.Error](err); is && e.Kind == neutron.NotFound {
		return p, &Failure{Kind: errors.Join(ErrInvalid, e), Field: "networks", Reason: e.Error()}
	}
	return p, refusal(err)
}

func (s *NetworkService) portForServer(tx Writer, want portFor) (neutron.Port, error) {
	if want.PortID != "" {
		return s.takePort(tx, want)
	}
	on, err := usableNetwork(tx, want.NetworkID, want.ProjectID)
	if err != nil {
		return neutron.Port{}, err
	}
	p := neutron.Port{
		ProjectID: want.ProjectID, AdminUp: true, PortSecurity: on.PortSecurity, SecurityGroups: want.Groups, VNICType: neutron.VNICNormal, Made: true,
	}
	if want.Groups != nil && !p.PortSecurity {
		return p, invalid("security_groups", "network %s has port security off: its ports have no groups", on.ID)
	}
	if want.FixedIP.IsValid() {
		p.FixedIPs = []neutron.FixedIP{{Address: want.FixedIP}}
	}
	if err := s.bind(tx, &p, on, want); err != nil {
		return p, err
	}
	p, err = s.makePort(tx, p, on)
	if e, is := errors.AsType[*neutron.Error](err); is && e.Class == "OverQuota" {
		err = &Failure{Kind: errors.Join(ErrForbidden, e), Field: "networks", Reason: e.Error()}
	}
	return p, err
}

// usableNetwork is a network that a project's servers may be on: its own, or a shared one. Nova lets only administrators put servers on
// external networks of others.
func usableNetwork(r Reader, id, projectID string) (neutron.Network, error) {
	n, err := networkOf(r, id)
	switch {
	case err != nil:
		return n, err
	case n.ProjectID == projectID || n.Shared:
		return n, nil
	case n.External:
		return n, &Failure{Kind: ErrForbidden, Field: "networks", Reason: fmt.Sprintf("it is not allowed to create an interface on external network %s", id)}
	}
	return n, missingRecord("NetworkNotFound", "network", id, ErrNotFound)
}

// takePort gives a server a port that is there.
func (s *NetworkService) takePort(tx Writer, want portFor) (neutron.Port, error) {
	p, err := tx.Port(want.PortID)
	if err == nil && p.ProjectID != want.ProjectID {
		err = ErrNotFound
	}
	if err != nil {
		return p, missingRecord("PortNotFound", "port", want.PortID, err)
	}
	switch {
	case p.DeviceID != "" || p.DeviceOwner != "" && !neutron.IsGuestPort(p.DeviceOwner):
		return p, conflict("PortInUse", "port %s is still in use: it is attached to %q", p.ID, p.DeviceID)
	case want.FixedIP.IsValid():
		return p, invalid("networks", "fixed address %s cannot be used with port %s: it has its addresses", want.FixedIP, p.ID)
	}
	on, err := networkOf(tx, p.NetworkID)
	if err != nil {
		return p, err
	}
	if err := s.bind(tx, &p, on, want); err != nil {
		return p, err
	}
	if err := s.checkGuestAddresses(tx, p); err != nil {
		return p, err
	}
	p.Revision, p.Updated = p.Revision+1, s.now()
	return p, tx.PutPort(p)
}

// checkGuestAddresses says whether a server may have the addresses of a port that was nobody's.
func (s *NetworkService) checkGuestAddresses(r Reader, p neutron.Port) error {
	subnets, err := r.SubnetsOf(p.NetworkID)
	if err != nil {
		return err
	}
	return p.CheckAddresses(subnets)
}

// bind makes a port a server's.
func (s *NetworkService) bind(r Reader, p *neutron.Port, on neutron.Network, want portFor) (err error) {
	p.DeviceID, p.DeviceOwner, p.Status = want.ServerID, neutron.OwnerCompute, neutron.StatusBuild
	p.Tag, p.Index = want.Tag, want.Index
	if neutron.IsDNSLabel(want.HostName) {
		p.DNSName = want.HostName
	}
	p.VIFType, err = bindingOf(r, *p, on)
	return err
}

// bindingOf is the VIF type of a port that is to be plugged in.
func bindingOf(r Reader, p neutron.Port, on neutron.Network) (string, error) {
	var others []neutron.Port
	var err error
	switch {
	case on.Type != network.Flat && on.Type != network.VLAN: // only those can have macvtaps
	case p.VNICType == string(network.VNICMacvtap):
		others, err = r.PortsOn(on.ID)
	default:
		others, err = r.PortsPlugged(on.ID, string(network.VIFMacvtap))
	}
	if err != nil {
		return "", err
	}
	return p.BindingOn(on, others)
}

// release gives back all interfaces of a server: what was made for it goes, what was there before is nobody's again. It changes nothing
// but records.
func (s *NetworkService) release(tx Writer, serverID string) error {
	ports, err := tx.PortsOf(serverID)
	for _, p := range ports {
		err = errors.Join(err, s.releasePort(tx, p))
	}
	return err
}

// releasePort gives back one interface of a server.
func (s *NetworkService) releasePort(tx Writer, p neutron.Port) error {
	if p.Made {
		return s.dropPort(tx, p)
	}
	p.DeviceID, p.DeviceOwner, p.VIFType, p.DNSName, p.Tag, p.Index, p.Queues = "", "", "", "", "", 0, 0
	p.Status, p.Revision, p.Updated = neutron.StatusDown, p.Revision+1, s.now()
	return tx.PutPort(p)
}
