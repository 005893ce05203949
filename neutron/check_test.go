package neutron_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"compute-agent/neutron"
)

// refused checks an error's words and its class.
func refused(t *testing.T, name string, err error, class, words string) {
	t.Helper()
	var why *neutron.Error
	switch {
	case words == "" && err == nil:
	case !errors.As(err, &why) || why.Class != class || words == "" || !strings.Contains(err.Error(), words):
		t.Errorf("%s: %v, want %s with %q", name, err, class, words)
	}
}

func TestNetworkChecks(t *testing.T) {
	p := neutron.Provider{
		Default: "vxlan", Physical: map[string]int{"physnet1": 0, "jumbo": 9000}, VLANs: map[string]neutron.Numbers{"physnet1": {First: 100, Last: 101}},
		VNIs: neutron.Numbers{First: 5, Last: 6},
	}
	others := []neutron.Network{
		{ID: "a", Type: "flat", Physical: "physnet1", Zone: 1}, {ID: "b", Type: "vlan", Physical: "physnet1", Segment: 100, Zone: 2},
		{ID: "c", Type: "vxlan", Segment: 5, Zone: 4},
	}
	for name, c := range map[string]struct {
		n            neutron.Network
		want         string // type physical segment mtu zone
		class, words string
	}{
		"nothing said":     {neutron.Network{}, "vxlan  6 1450 3", "", ""},
		"a VLAN":           {neutron.Network{Type: "vlan"}, "vlan physnet1 101 1500 3", "", ""},
		"a VLAN on one":    {neutron.Network{Type: "vlan", Physical: "physnet1"}, "vlan physnet1 101 1500 3", "", ""},
		"a VLAN by tag":    {neutron.Network{Type: "vlan", Physical: "jumbo", Segment: 4094}, "vlan jumbo 4094 9000 3", "", ""},
		"flat":             {neutron.Network{Type: "flat", Physical: "jumbo", MTU: 8000}, "flat jumbo 0 8000 3", "", ""},
		"local":            {neutron.Network{Type: "local"}, "local  0 1500 3", "", ""},
		"a VNI":            {neutron.Network{Type: "vxlan", Segment: 16777215}, "vxlan  16777215 1450 3", "", ""},
		"tag 0":            {neutron.Network{Type: "vlan", Segment: 7}, "", "InvalidInput", `provider:physical_network: a vlan network is on one of: jumbo, physnet1`},
		"tag 4095":         {neutron.Network{Type: "vlan", Physical: "jumbo", Segment: 4095}, "", "InvalidInput", `provider:segmentation_id="4095": a VLAN's is from 1 to 4094`},
		"tag -1":           {neutron.Network{Type: "vlan", Physical: "jumbo", Segment: -1}, "", "InvalidInput", "from 1 to 4094"},
		"tag taken":        {neutron.Network{Type: "vlan", Physical: "physnet1", Segment: 100}, "", "VlanIdInUse", "in use"},
		"no tag left":      {neutron.Network{Type: "vlan", Physical: "jumbo"}, "", "NoNetworkAvailable", "no VLAN of physical network jumbo is left"},
		"VNI too large":    {neutron.Network{Type: "vxlan", Segment: 16777216}, "", "InvalidInput", "a VNI is from 1 to 16777215"},
		"VNI taken":        {neutron.Network{Type: "vxlan", Segment: 5}, "", "TunnelIdInUse", "in use"},
		"VXLAN on":         {neutron.Network{Type: "vxlan", Physical: "physnet1", Segment: 9}, "", "InvalidInput", "a vxlan network has none"},
		"flat taken":       {neutron.Network{Type: "flat", Physical: "physnet1"}, "", "FlatNetworkInUse", "already"},
		"flat on nothing":  {neutron.Network{Type: "flat"}, "", "InvalidInput", "provider:physical_network"},
		"flat, tagged":     {neutron.Network{Type: "flat", Physical: "jumbo", Segment: 1}, "", "InvalidInput", "a flat network has none"},
		"local, tagged":    {neutron.Network{Type: "local", Segment: 1}, "", "InvalidInput", "a local network has none"},
		"local on":         {neutron.Network{Type: "local", Physical: "physnet1"}, "", "InvalidInput", "a local network has none"},
		"no such type":     {neutron.Network{Type: "gre"}, "", "InvalidInput", `provider:network_type="gre": it must be one of`},
		"no type":          {neutron.Network{Segment: 7}, "", "InvalidInput", "provider:network_type"},
		"MTU too large":    {neutron.Network{MTU: 1451}, "", "InvalidInput", `mtu="1451": it is not from 68 to 1450`},
		"MTU too small":    {neutron.Network{MTU: 67}, "", "InvalidInput", "mtu"},
		"MTU negative":     {neutron.Network{MTU: -1}, "", "InvalidInput", "mtu"},
		"name too long":    {neutron.Network{Name: strings.Repeat("ü", 256)}, "", "InvalidInput", "name="},
		"name as long":     {neutron.Network{Name: strings.Repeat("ü", 255)}, "vxlan  6 1450 3", "", ""},
		"name on lines":    {neutron.Network{Name: "a\nb"}, "", "InvalidInput", "cannot be printed"},
		"name not UTF-8":   {neutron.Network{Name: "a\xff"}, "", "InvalidInput", "it is not UTF-8"},
		"long description": {neutron.Network{Description: strings.Repeat("x", 256)}, "", "InvalidInput", "description="},
		"two lines":        {neutron.Network{Description: "a\nb"}, "vxlan  6 1450 3", "", ""},
		"no domain":        {neutron.Network{DNSDomain: "exa mple"}, "", "InvalidInput", `dns_domain="exa mple"`},
		"a domain":         {neutron.Network{DNSDomain: "Example.org."}, "vxlan  6 1450 3", "", ""},
		"tags twice":       {neutron.Network{Tags: []string{"a", "a"}}, "", "InvalidInput", `tags="a"`},
		"too many tags":    {neutron.Network{Tags: make([]string, 51)}, "", "InvalidInput", "tags: 51 are more than 50"},
		"an empty tag":     {neutron.Network{Tags: []string{""}}, "", "InvalidInput", "tags"},
		"default inside":   {neutron.Network{Default: true}, "", "InvalidInput", "is_default"},
	} {
		err := p.Complete(&c.n, others)
		refused(t, name, err, c.class, c.words)
		if got := fmt.Sprint(c.n.Type, c.n.Physical, c.n.Segment, c.n.MTU, c.n.Zone); err == nil && strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	full := neutron.Provider{}
	var zones []neutron.Network
	for z := 1; z < 1<<16; z++ {
		zones = append(zones, neutron.Network{Zone: uint16(z)})
	}
	refused(t, "no zone left", full.Complete(&neutron.Network{}, zones), "CTZoneExhaustedError", "no conntrack zone is left")
}

func TestSubnetChecks(t *testing.T) {
	base := neutron.Network{ID: "n", MTU: 1500}
	siblings := []neutron.Subnet{{ID: "other", CIDR: prefix("10.9.0.0/16")}}
	r := func(first, last string) neutron.Range { return neutron.Range{First: addr(first), Last: addr(last)} }
	with := func(cidr string, change func(*neutron.SubnetRequest)) neutron.SubnetRequest {
		r := neutron.SubnetRequest{Subnet: neutron.Subnet{ID: "s", NetworkID: "n", CIDR: prefix(cidr)}}
		if change != nil {
			change(&r)
		}
		return r
	}
	many := func(n int) (list []netip.Addr) {
		a := addr("192.0.2.1")
		for range n {
			list, a = append(list, a), a.Next()
		}
		return list
	}
	for name, c := range map[string]struct {
		r            neutron.SubnetRequest
		want         string // gateway pools
		class, words string
	}{
		"IPv4":          {with("10.0.0.0/24", nil), "10.0.0.1 [10.0.0.2-10.0.0.254]", "", ""},
		"IPv6":          {with("2001:db8::/64", nil), "2001:db8::1 [2001:db8::2-2001:db8::ffff:ffff:ffff:ffff]", "", ""},
		"no gateway":    {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.NoGateway = true }), "invalid IP [10.0.0.1-10.0.0.254]", "", ""},
		"in the middle": {with("10.0.0.0/29", func(r *neutron.SubnetRequest) { r.Gateway = addr("10.0.0.3") }), "10.0.0.3 [10.0.0.1-10.0.0.2 10.0.0.4-10.0.0.6]", "", ""},
		"last":          {with("10.0.0.0/30", func(r *neutron.SubnetRequest) { r.Gateway = addr("10.0.0.2") }), "10.0.0.2 [10.0.0.1-10.0.0.1]", "", ""},
		"outside":       {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.Gateway = addr("192.0.2.1") }), "192.0.2.1 [10.0.0.1-10.0.0.254]", "", ""},
		"two":           {with("10.0.0.0/31", nil), "10.0.0.1 [10.0.0.0-10.0.0.0]", "", ""},
		"one":           {with("10.0.0.7/32", nil), "invalid IP [10.0.0.7-10.0.0.7]", "", ""},
		"pools": {with("10.0.0.0/24", func(q *neutron.SubnetRequest) {
			q.Pools = []neutron.Range{r("10.0.0.9", "10.0.0.9"), r("10.0.0.20", "10.0.0.30")}
		}), "10.0.0.1 [10.0.0.9-10.0.0.9 10.0.0.20-10.0.0.30]", "", ""},
		"no pools":         {with("10.0.0.0/24", func(q *neutron.SubnetRequest) { q.Pools = []neutron.Range{} }), "10.0.0.1 []", "", ""},
		"no CIDR":          {neutron.SubnetRequest{}, "", "InvalidCIDR", "cidr"},
		"host bits":        {with("10.0.0.5/24", nil), "", "InvalidInput", `cidr="10.0.0.5/24": it is not a recognized CIDR: 10.0.0.0/24 is`},
		"all":              {with("0.0.0.0/0", nil), "", "InvalidInput", "0 is not allowed as CIDR prefix length"},
		"from 0":           {with("0.0.0.0/8", nil), "", "InvalidInput", "cannot begin with 0.0.0.0"},
		"multicast":        {with("224.0.0.0/8", nil), "", "InvalidInput", "multicast"},
		"loopback":         {with("127.0.0.0/8", nil), "", "InvalidInput", "loopback"},
		"link-local":       {with("169.254.0.0/16", nil), "", "InvalidInput", "link-local"},
		"link-local 6":     {with("fe80::/64", nil), "", "InvalidInput", "link-local"},
		"4 in 6":           {with("::ffff:10.0.0.0/120", nil), "", "InvalidInput", "IPv6's form"},
		"overlap":          {with("10.9.1.0/24", nil), "", "InvalidInput", "overlaps with another subnet of network n"},
		"overlap, larger":  {with("10.0.0.0/8", nil), "", "InvalidInput", "overlaps"},
		"gateway first":    {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.Gateway = addr("10.0.0.0") }), "", "InvalidInput", `gateway_ip="10.0.0.0"`},
		"gateway last":     {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.Gateway = addr("10.0.0.255") }), "", "InvalidInput", "broadcast"},
		"gateway 6":        {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.Gateway = addr("2001:db8::1") }), "", "InvalidInput", "not of the IP version"},
		"gateway in pool":  {with("10.0.0.0/24", func(q *neutron.SubnetRequest) { q.Pools = []neutron.Range{r("10.0.0.1", "10.0.0.9")} }), "", "GatewayConflictWithAllocationPools", "10.0.0.1"},
		"pool outside":     {with("10.0.0.0/24", func(q *neutron.SubnetRequest) { q.Pools = []neutron.Range{r("10.0.0.9", "10.0.1.9")} }), "", "OutOfBoundsAllocationPool", `allocation_pools="10.0.0.9-10.0.1.9"`},
		"pool to the last": {with("10.0.0.0/24", func(q *neutron.SubnetRequest) { q.Pools = []neutron.Range{r("10.0.0.9", "10.0.0.255")} }), "", "OutOfBoundsAllocationPool", "255"},
		"pool backwards":   {with("10.0.0.0/24", func(q *neutron.SubnetRequest) { q.Pools = []neutron.Range{r("10.0.0.9", "10.0.0.8")} }), "", "InvalidAllocationPool", "from a lower to a higher"},
		"pool of nothing":  {with("10.0.0.0/24", func(q *neutron.SubnetRequest) { q.Pools = []neutron.Range{{}} }), "", "InvalidAllocationPool", "allocation_pools"},
		"pool 6":           {with("10.0.0.0/24", func(q *neutron.SubnetRequest) { q.Pools = []neutron.Range{r("::1", "::2")} }), "", "InvalidAllocationPool", "IP version"},
		"pools overlap": {with("10.0.0.0/24", func(q *neutron.SubnetRequest) {
			q.Pools = []neutron.Range{r("10.0.0.9", "10.0.0.20"), r("10.0.0.20", "10.0.0.21")}
		}), "", "OverlappingAllocationPools", "10.0.0.20"},
		"DHCP of two":     {with("10.0.0.0/31", func(r *neutron.SubnetRequest) { r.DHCP = true }), "", "InvalidInput", "too long for DHCP"},
		"DHCP of /48":     {with("2001:db8::/48", func(r *neutron.SubnetRequest) { r.DHCP = true }), "", "InvalidInput", "too short for DHCPv6"},
		"a mode of 4":     {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.DHCP = true; slaac(r) }), "", "InvalidInput", "it is not for IPv4"},
		"SLAAC of /80":    {with("2001:db8::/80", func(r *neutron.SubnetRequest) { r.DHCP = true; slaac(r) }), "", "InvalidInput", "only of a prefix of 64 bits"},
		"stateful of /80": {with("2001:db8::/80", func(r *neutron.SubnetRequest) { r.DHCP = true; r.RAMode = neutron.Stateful }), "2001:db8::1 [2001:db8::2-2001:db8::ffff:ffff:ffff]", "", ""},
		"without DHCP":    {with("2001:db8::/64", func(r *neutron.SubnetRequest) { slaac(r) }), "", "InvalidInput", "enable_dhcp is false"},
		"no such mode":    {with("2001:db8::/64", func(r *neutron.SubnetRequest) { r.DHCP = true; r.RAMode = "magic" }), "", "InvalidInput", `ipv6_ra_mode="magic"`},
		"two modes":       {with("2001:db8::/64", func(r *neutron.SubnetRequest) { r.DHCP = true; slaac(r); r.RAMode = neutron.Stateful }), "", "InvalidInput", "must be the same"},
		"DNS 6":           {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.DNS = []netip.Addr{addr("::1")} }), "", "InvalidInput", "dns_nameservers"},
		"DNS twice":       {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.DNS = append(many(1), many(1)...) }), "", "InvalidInput", "twice"},
		"six DNS":         {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.DNS = many(6) }), "", "DNSNameServersExhausted", "6 are more than 5"},
		"route, host bits": {with("10.0.0.0/24", func(r *neutron.SubnetRequest) {
			r.Routes = []neutron.Route{{To: prefix("10.1.0.1/16"), Via: addr("10.0.0.9")}}
		}), "", "InvalidInput", `host_routes="10.1.0.1/16"`},
		"route to 6": {with("10.0.0.0/24", func(r *neutron.SubnetRequest) {
			r.Routes = []neutron.Route{{To: prefix("2001:db8::/32"), Via: addr("10.0.0.9")}}
		}), "", "InvalidInput", "not of one IP version"},
		"route by none":   {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.Routes = []neutron.Route{{To: prefix("10.1.0.0/16")}} }), "", "InvalidInput", "must be an IP address"},
		"many routes":     {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.Routes = make([]neutron.Route, 21) }), "", "HostRoutesExhausted", "21 are more than 20"},
		"no such service": {with("10.0.0.0/24", func(r *neutron.SubnetRequest) { r.ServiceTypes = []string{"mine"} }), "", "InvalidSubnetServiceType", "mine"},
	} {
		got, err := c.r.Complete(base, siblings)
		refused(t, name, err, c.class, c.words)
		if text := fmt.Sprintf("%v %v", got.Gateway, got.Pools); err == nil && text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
	_, err := with("2001:db8::/64", nil).Complete(neutron.Network{ID: "n", MTU: 1279}, nil)
	refused(t, "MTU", err, "NetworkMTUSubnetConflict", `mtu="1279"`)
}

func TestPortChecks(t *testing.T) {
	pair := func(p, mac string) neutron.AddressPair { return neutron.AddressPair{Prefix: prefix(p), MAC: mac} }
	for name, c := range map[string]struct {
		p            neutron.Port
		class, words string
	}{
		"nothing":        {neutron.Port{}, "", ""},
		"much":           {neutron.Port{MAC: "FA-16-3E-00-00-01", DNSName: "web-1", PortSecurity: true, AddressPairs: []neutron.AddressPair{pair("10.0.0.0/24", "FA:16:3E:00:00:02")}, VNICType: "direct", ExtraDHCP: []neutron.DHCPOption{{Name: "tftp-server", Value: "10.0.0.1,10.0.0.2"}, {Name: "150"}, {Name: "150", IPv6: true}}}, "", ""},
		"no MAC":         {neutron.Port{MAC: "fa:16:3e"}, "InvalidInput", `mac_address="fa:16:3e": it is no MAC address`},
		"long MAC":       {neutron.Port{MAC: "00:00:00:00:fe:80:00:00"}, "InvalidInput", "it is no MAC address"},
		"multicast MAC":  {neutron.Port{MAC: "01:00:5e:00:00:01"}, "InvalidInput", "a group's address"},
		"nobody's MAC":   {neutron.Port{MAC: "00:00:00:00:00:00"}, "InvalidInput", "nobody's"},
		"no label":       {neutron.Port{DNSName: "a.b"}, "InvalidInput", `dns_name="a.b"`},
		"name":           {neutron.Port{Name: "\x1b[31m"}, "InvalidInput", "name="},
		"device":         {neutron.Port{DeviceID: strings.Repeat("x", 256)}, "InvalidInput", "device_id="},
		"VNIC":           {neutron.Port{VNICType: "magic"}, "InvalidInput", `binding:vnic_type="magic"`},
		"pairs, open":    {neutron.Port{AddressPairs: []neutron.AddressPair{pair("10.0.0.0/24", "")}}, "AddressPairAndPortSecurityRequired", "port security off"},
		"pair, no bits":  {neutron.Port{PortSecurity: true, AddressPairs: []neutron.AddressPair{pair("10.0.0.1/24", "")}}, "InvalidInput", `allowed_address_pairs="10.0.0.1/24"`},
		"pair, MAC":      {neutron.Port{PortSecurity: true, AddressPairs: []neutron.AddressPair{pair("10.0.0.1/32", "ff:ff:ff:ff:ff:ff")}}, "InvalidInput", "a group's address"},
		"pair, nothing":  {neutron.Port{PortSecurity: true, AddressPairs: make([]neutron.AddressPair, 1)}, "InvalidCIDR", "allowed_address_pairs"},
		"pairs twice":    {neutron.Port{PortSecurity: true, AddressPairs: []neutron.AddressPair{pair("10.0.0.1/32", "fa:16:3e:00:00:0a"), pair("10.0.0.1/32", "FA:16:3E:00:00:0A")}}, "DuplicateAddressPairInRequest", "twice"},
		"eleven pairs":   {neutron.Port{PortSecurity: true, AddressPairs: make([]neutron.AddressPair, 11)}, "AddressPairExhausted", "11 are more than 10"},
		"option name":    {neutron.Port{ExtraDHCP: []neutron.DHCPOption{{Name: "a,b"}}}, "InvalidInput", `extra_dhcp_opts="a,b"`},
		"option value":   {neutron.Port{ExtraDHCP: []neutron.DHCPOption{{Name: "150", Value: "a\ndhcp-script=x"}}}, "InvalidInput", `extra_dhcp_opts="150"`},
		"option unknown": {neutron.Port{ExtraDHCP: []neutron.DHCPOption{{Name: "magic", Value: "x"}}}, "InvalidInput", `extra_dhcp_opts="magic"`},
		"options twice":  {neutron.Port{ExtraDHCP: []neutron.DHCPOption{{Name: "150"}, {Name: "150"}}}, "InvalidInput", "twice"},
		"33 of them":     {neutron.Port{ExtraDHCP: make([]neutron.DHCPOption, 33)}, "InvalidInput", "33 are more than 32"},
	} {
		err := c.p.Check()
		refused(t, name, err, c.class, c.words)
		if name == "much" && (c.p.MAC != "fa:16:3e:00:00:01" || c.p.AddressPairs[0].MAC != "fa:16:3e:00:00:02") {
			t.Errorf("%+v", c.p)
		}
	}
	p := neutron.Port{PortSecurity: true}
	refused(t, "kinds", p.CheckGroups([]neutron.SecurityGroup{{ID: "a"}, {ID: "b", Stateless: true}}), "SecurityGroupConflict", `security_groups="b"`)
	refused(t, "twice", p.CheckGroups([]neutron.SecurityGroup{{ID: "a"}, {ID: "a"}}), "InvalidInput", "twice")
	p.PortSecurity = false
	refused(t, "open", p.CheckGroups([]neutron.SecurityGroup{{ID: "a"}}), "PortSecurityAndIPRequiredForSecurityGroups", "port security off")
}

func TestRuleChecks(t *testing.T) {
	n := func(i int) *int { return &i }
	for name, c := range map[string]struct {
		r            neutron.Rule
		class, words string
	}{
		"all":          {neutron.Rule{Ethertype: "IPv4"}, "", ""},
		"TCP":          {neutron.Rule{Ethertype: "IPv4", Protocol: "TCP", PortMin: n(22), PortMax: n(22), Remote: prefix("10.0.0.1/8")}, "", ""},
		"by number":    {neutron.Rule{Ethertype: "IPv6", Protocol: "006", PortMin: n(1), PortMax: n(65535)}, "", ""},
		"ping":         {neutron.Rule{Ethertype: "IPv6", Protocol: "icmp", PortMin: n(128), PortMax: n(0)}, "", ""},
		"direction":    {neutron.Rule{Direction: "sideways", Ethertype: "IPv4"}, "InvalidInput", `direction="sideways"`},
		"ethertype":    {neutron.Rule{Ethertype: "IPX"}, "SecurityGroupRuleInvalidEtherType", `ethertype="IPX"`},
		"protocol":     {neutron.Rule{Ethertype: "IPv4", Protocol: "tcpp"}, "SecurityGroupRuleInvalidProtocol", `protocol="tcpp"`},
		"256":          {neutron.Rule{Ethertype: "IPv4", Protocol: "256"}, "SecurityGroupRuleInvalidProtocol", `protocol="256"`},
		"-1":           {neutron.Rule{Ethertype: "IPv4", Protocol: "-1"}, "SecurityGroupRuleInvalidProtocol", `protocol="-1"`},
		"6 of 4":       {neutron.Rule{Ethertype: "IPv4", Protocol: "ipv6-icmp"}, "SecurityGroupEthertypeConflictWithProtocol", "ipv6-icmp"},
		"58 of 4":      {neutron.Rule{Ethertype: "IPv4", Protocol: "58"}, "SecurityGroupEthertypeConflictWithProtocol", "58"},
		"ports of all": {neutron.Rule{Ethertype: "IPv4", PortMin: n(1), PortMax: n(2)}, "SecurityGroupProtocolRequiredWithPorts", "protocol"},
		"ports of ESP": {neutron.Rule{Ethertype: "IPv4", Protocol: "esp", PortMin: n(1), PortMax: n(2)}, "SecurityGroupInvalidProtocolForPort", "esp"},
		"port 0":       {neutron.Rule{Ethertype: "IPv4", Protocol: "udp", PortMin: n(0), PortMax: n(2)}, "SecurityGroupInvalidPortValue", `port_range_min="0"`},
		"port 65536":   {neutron.Rule{Ethertype: "IPv4", Protocol: "udp", PortMin: n(1), PortMax: n(65536)}, "SecurityGroupInvalidPortValue", `port_range_max="65536"`},
		"half a range": {neutron.Rule{Ethertype: "IPv4", Protocol: "udp", PortMin: n(1)}, "SecurityGroupInvalidPortRange", "both ends"},
		"backwards":    {neutron.Rule{Ethertype: "IPv4", Protocol: "sctp", PortMin: n(3), PortMax: n(2)}, "SecurityGroupInvalidPortRange", "the lower one first"},
		"type 256":     {neutron.Rule{Ethertype: "IPv4", Protocol: "icmp", PortMin: n(256)}, "SecurityGroupInvalidIcmpValue", `port_range_min="256"`},
		"any type":     {neutron.Rule{Ethertype: "IPv4", Protocol: "icmp", PortMin: n(255)}, "SecurityGroupInvalidIcmpValue", "any type"},
		"code alone":   {neutron.Rule{Ethertype: "IPv4", Protocol: "1", PortMax: n(1)}, "SecurityGroupMissingIcmpType", "needs its type"},
		"two remotes":  {neutron.Rule{Ethertype: "IPv4", Remote: prefix("10.0.0.0/8"), RemoteGroup: "g"}, "SecurityGroupMultipleRemoteEntites", "only one"},
		"remote 6":     {neutron.Rule{Ethertype: "IPv4", Remote: prefix("2001:db8::/32")}, "SecurityGroupRuleParameterConflict", "not of ethertype IPv4"},
		"no remote":    {neutron.Rule{Ethertype: "IPv4", Remote: netip.PrefixFrom(addr("10.0.0.1"), 99)}, "InvalidCIDR", "remote_ip_prefix"},
		"long words":   {neutron.Rule{Ethertype: "IPv4", Description: strings.Repeat("x", 256)}, "InvalidInput", "description"},
	} {
		if c.r.Direction == "" {
			c.r.Direction = "ingress"
		}
		refused(t, name, c.r.Check(), c.class, c.words)
		switch name {
		case "TCP":
			if c.r.Protocol != "tcp" || c.r.Remote != prefix("10.0.0.0/8") {
				t.Errorf("%+v", c.r)
			}
		case "by number":
			if c.r.Protocol != "6" || c.r.PortMin != nil || c.r.PortMax != nil {
				t.Errorf("%+v", c.r)
			}
		case "ping":
			if c.r.Protocol != "ipv6-icmp" {
				t.Errorf("%+v", c.r)
			}
		}
	}
}

func TestSameRulesAreRefused(t *testing.T) {
	n := func(i int) *int { return &i }
	g := neutron.SecurityGroup{ID: "g", Rules: neutron.DefaultRules("g", func() string { return "id" }, time.Time{})}
	if len(g.Rules) != 4 || g.Rules[0].RemoteGroup != "" || g.Rules[2].RemoteGroup != "g" || g.Rules[2].Direction != "ingress" || g.Rules[1].Ethertype != "IPv6" {
		t.Errorf("%+v", g.Rules)
	}
	add := func(r neutron.Rule) error {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		return g.Add(r)
	}
	ssh := neutron.Rule{ID: "ssh", Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(22)}
	for name, c := range map[string]struct {
		r    neutron.Rule
		same bool
	}{
		"itself":        {ssh, true},
		"by number":     {neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "6", PortMin: n(22), PortMax: n(22)}, true},
		"from everyone": {neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(22), Remote: prefix("0.0.0.0/0")}, true},
		"other words":   {neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(22), Description: "d"}, true},
		"egress of all": {neutron.Rule{Direction: "egress", Ethertype: "IPv4", Protocol: "any"}, true},
		"the other way": {neutron.Rule{Direction: "egress", Ethertype: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(22)}, false},
		"IPv6":          {neutron.Rule{Direction: "ingress", Ethertype: "IPv6", Protocol: "tcp", PortMin: n(22), PortMax: n(22)}, false},
		"more ports":    {neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(23)}, false},
		"all ports":     {neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp"}, false},
		"from some":     {neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(22), Remote: prefix("10.0.0.0/8")}, false},
		"from a group":  {neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(22), RemoteGroup: "g"}, false},
	} {
		g.Rules = g.Rules[:4]
		if err := add(ssh); err != nil {
			t.Fatal(err)
		}
		words, class := "", ""
		if c.same {
			class, words = "SecurityGroupRuleExists", "already exists"
		}
		refused(t, name, add(c.r), class, words)
	}
}
