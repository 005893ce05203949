package eval

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUnknownIsRefused: what the evaluator does not know it does not pass over.
func TestUnknownIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"*filter\n-A INPUT -m owner --uid-owner 0 -j ACCEPT":      "match owner is not known",
		"*filter\n-A INPUT --dst-type LOCAL -j ACCEPT":            "--dst-type is not known",
		"*filter\n-A INPUT -j TEE":                                "target TEE is not known",
		"*filter\n-A nowhere -j DROP":                             "chain nowhere is not there",
		"*filter\n-A INPUT -m set --match-set nobody src -j DROP": "set nobody is not there",
		"*filter\n-A INPUT -s 10.0.0.0/33 -j DROP":                "netip.ParsePrefix",
		"*filter\n-A INPUT -p tpc -j DROP":                        "protocol tpc is not known",
		"*filter\n-A INPUT -p tcp -m tcp --dport http -j DROP":    "invalid syntax",
		"*filter\n-A INPUT -s":                                    "ends too early",
		"*filter\n-A INPUT -m comment --comment \"open -j DROP":   "not closed",
		"*filter\n-D INPUT -j DROP":                               "no such rule",
		"*filter\n-I INPUT 3 -j DROP":                             "no place 3",
		"*filter\n:mine - [0:0]\n-A mine -j DROP\n-X mine":        "has rules",
		"*filter\n-Z INPUT x":                                     "command -Z is not known",
		"*raw\n-A PREROUTING -j CT --helper ftp":                  "--zone or --notrack is wanted",
	} {
		if err := NewRuleset(Sets{}).Restore(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: err = %v, want %s", text, err, want)
		}
	}
}

// TestWay: RETURN goes on where the jump was, a goto goes on where the last jump was, and counters and other tables are passed over.
func TestWay(t *testing.T) {
	r := NewRuleset(Sets{})
	if err := r.Restore(`# a comment
*nat
-A POSTROUTING -j MASQUERADE --random
COMMIT
*filter
:FORWARD DROP [1:2]
:a - [0:0]
:b - [0:0]
:c - [0:0]
[3:4] -A FORWARD -j a
-A FORWARD ! -s 10.0.0.0/8 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -j ACCEPT
-A a -g b
-A a -j DROP
-A b -p tcp -j c
-A b -j LOG --log-prefix "after c"
-A c -m conntrack ! --ctstate NEW,RELATED -j DROP
-A c -j RETURN
-A c -j DROP
COMMIT
`); err != nil {
		t.Fatal(err)
	}
	p := Packet{Src: netip.MustParseAddr("10.1.1.1"), Dst: netip.MustParseAddr("10.1.1.2"), Protocol: 6, State: New}
	v := r.Forward(p)
	var way []string
	for _, s := range v.Path {
		way = append(way, s.Chain+" "+s.Rule)
	}
	want := []string{"FORWARD -j a", "a -g b", "b -p tcp -j c", "c -j RETURN", `b -j LOG --log-prefix "after c"`, "FORWARD -j ACCEPT"}
	if diff := cmp.Diff(want, way); diff != "" || !v.Accept {
		t.Errorf("accept %v (-want +got):\n%s", v.Accept, diff)
	}
	p.State = Established
	if v := r.Forward(p); v.Accept || v.Decider().Chain != "c" {
		t.Errorf("an established packet: %v", v)
	}
	p.State, p.Src = New, netip.MustParseAddr("192.0.2.1")
	if v := r.Forward(p); v.Accept || v.Decider().Number != 2 {
		t.Errorf("a stranger's packet: %v", v)
	}
}

// TestSets: adding, deleting, swapping; the longest prefix does not matter, any that contains the address does.
func TestSets(t *testing.T) {
	s := Sets{}
	if err := s.Restore("create a hash:net family inet\nadd a 10.0.0.0/8\nadd -exist a 192.0.2.1\ncreate b hash:net\nadd b 203.0.113.0/24\ndel a 192.0.2.1\nswap a b\n"); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"203.0.113.9": true, "10.1.1.1": false} {
		if got := s.has("a", netip.MustParseAddr(address)); got != want {
			t.Errorf("a has %s: %v", address, got)
		}
	}
	if err := s.Restore("add c 10.0.0.1"); err == nil {
		t.Error("a set that is not there takes a member")
	}
}
