package plan

import (
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

const traceQuestion = `{
 "ports": [
  {"id": "web", "device": "tapweb", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": ["10.0.0.9", "2001:db8::9"], "security_groups": ["sg-web"]},
  {"id": "db", "device": "tapdb", "mac_address": "fa:16:3e:00:00:02", "fixed_ips": ["10.0.0.5"], "security_groups": ["sg-db"]}],
 "security_groups": {
  "sg-web": [{"id": "ssh", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "remote_group_id": "sg-db"},
             {"id": "ping6", "direction": "ingress", "ethertype": "IPv6", "protocol": "icmpv6", "port_range_min": 128}],
  "sg-db": [{"id": "out", "direction": "egress", "ethertype": "IPv4", "cidr": "10.0.0.0/24"}]}
}`

// TestTraceFirewall names the rule that decides.
func TestTraceFirewall(t *testing.T) {
	var out strings.Builder
	for _, c := range [][3]string{
		{"web", "tcp 10.0.0.5:4444 > 10.0.0.9:22", ""},
		{"db", "tcp 10.0.0.5:4444 > 10.0.0.9:22", ""},
		{"db", "tcp 10.0.0.5:4444 > 10.0.0.9:23", ""},
		{"web", "tcp 203.0.113.1:4444 > 10.0.0.9:22", ""},
		{"web", "tcp 10.0.0.9:22 > 10.0.0.5:4444 state established", ""},
		{"tapweb", "udp 10.0.0.9:67 > 10.0.0.5:68", ""},
		{"web", "tcp 10.0.0.77:1 > 10.0.0.5:80", "egress"},
		{"web", "tcp 10.0.0.9:1 > 10.0.0.5:80 mac fa:16:3e:00:00:99", ""},
		{"web", "icmp 2001:db8::1 > 2001:db8::9 type 128", ""},
		{"web", "tcp [2001:db8::1]:5 > [2001:db8::9]:22 state invalid", ""},
	} {
		trace, err := TraceFirewall([]byte(traceQuestion), c[0], c[1], c[2])
		if err != nil {
			t.Fatalf("%s: %v", c[1], err)
		}
		out.WriteString(trace.Text() + "\n")
	}
	golden.Assert(t, "testdata/firewall_trace.golden", out.String())
}

func TestTraceFirewallRefuses(t *testing.T) {
	for _, c := range [][4]string{
		{"nobody", "tcp 1.2.3.4 > 10.0.0.9", "", `port "nobody" is not known`},
		{"web", "tcp 1.2.3.4 10.0.0.9", "", "is not PROTOCOL SOURCE"},
		{"web", "quic 1.2.3.4 > 10.0.0.9", "", `protocol "quic" is not known`},
		{"web", "tcp 1.2.3 > 10.0.0.9", "", "source:"},
		{"web", "tcp 1.2.3.4 > 10.0.0.9:99999", "", "destination:"},
		{"web", "tcp 1.2.3.4 > ::1", "", "not of one family"},
		{"web", "tcp 1.2.3.4 > 5.6.7.8", "", "say whether it is ingress or egress"},
		{"web", "tcp 1.2.3.4 > 5.6.7.8", "up", `direction "up"`},
		{"web", "icmp 1.2.3.4 > 10.0.0.9 type x", "", `type "x"`},
		{"web", "tcp 1.2.3.4 > 10.0.0.9 state old", "", `state "old"`},
		{"web", "tcp 1.2.3.4 > 10.0.0.9 ttl 3", "", `"ttl" is not known`},
		{"web", "tcp 1.2.3.4 > 10.0.0.9 mac", "", `"mac" has no value`},
	} {
		if _, err := TraceFirewall([]byte(traceQuestion), c[0], c[1], c[2]); err == nil || !strings.Contains(err.Error(), c[3]) {
			t.Errorf("%s: err = %v, want %s", c[1], err, c[3])
		}
	}
}

// TestFirewallRefuses: each field that is malformed is named.
func TestFirewallRefuses(t *testing.T) {
	for _, c := range [][3]string{
		{`"mac_address": "fa:16:3e:00:00:01"`, `"mac_address": "fa:16"`, "port web: mac_address"},
		{`"10.0.0.9"`, `"10.0.0.999"`, "port web: fixed_ips"},
		{`"port_range_min": 22`, `"port_range_min": 70000`, "rule 0: port_range: 70000 is not from 0 to 65535"},
		{`"port_range_max": 22`, `"port_range_max": 21`, "rule ssh: ports: 22 is more than 21"},
		{`"port_range_min": 128`, `"port_range_min": 300`, "rule 1: port_range_min: 300 is not from 0 to 255"},
		{`"port_range_min": 22, `, ``, "port_range: only one end is given"},
		{`"10.0.0.0/24"`, `"10.0.0.0/33"`, "security group sg-db: rule 0: cidr"},
		{`"protocol": "tcp"`, `"protocol": "tpc"`, `protocol: "tpc" is neither`},
		{`"remote_group_id": "sg-db"`, `"remote_group_id": "sg-x"`, `remote group: "sg-x" is not known`},
		{`"security_groups": ["sg-db"]`, `"security_groups": ["sg-y"]`, `security group: "sg-y" is not known`},
		{`"device": "tapdb"`, `"device": "tapweb"`, "device: tapweb is port"},
	} {
		question := strings.Replace(traceQuestion, c[0], c[1], 1)
		if _, err := Firewall([]byte(question)); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: err = %v, want %s", c[1], err, c[2])
		}
	}
}
