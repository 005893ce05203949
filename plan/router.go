package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"

	"compute-agent/network/firewall"
	"compute-agent/network/router"
)

// RouterRules is what the namespace of a router holds.
type RouterRules struct{ rules router.Rules }

type routerQuestion struct {
	ID      string     `json:"id"`
	Outside string     `json:"outside"` // the device to the external network
	SNAT    netip.Addr `json:"snat"`    // its address, or none
	Inside  []struct {
		Device   string         `json:"device"`
		Prefixes []netip.Prefix `json:"prefixes"`
	} `json:"inside"`
	FloatingIPs []struct {
		Address netip.Addr `json:"address"`
		Fixed   netip.Addr `json:"fixed"`
	} `json:"floating_ips"`
}

// Router answers what would be loaded in the namespace of a router: id, outside and inside devices, snat, floating_ips.
func Router(question []byte) (RouterRules, error) {
	var q routerQuestion
	decoder := json.NewDecoder(bytes.NewReader(question))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&q); err != nil {
		return RouterRules{}, fmt.Errorf("question: %w", err)
	}
	r := router.Router{ID: q.ID, Namespace: "qrouter-" + q.ID, Outside: q.Outside, SNAT: q.SNAT}
	for _, in := range q.Inside {
		r.Inside = append(r.Inside, router.Inside{Device: in.Device, Prefixes: in.Prefixes})
	}
	for _, f := range q.FloatingIPs {
		r.FloatingIPs = append(r.FloatingIPs, router.FloatingIP{Address: f.Address, Fixed: f.Fixed})
	}
	rules, err := router.Generate(r)
	return RouterRules{rules}, err
}

// Text is the rules for a person, and for iptables-restore and ip6tables-restore, part by part.
func (r RouterRules) Text() string {
	return "# iptables-restore\n" + firewall.Text(r.rules.IPv4) + "# ip6tables-restore\n" + firewall.Text(r.rules.IPv6)
}

// MarshalJSON has each program's text as a list of lines.
func (r RouterRules) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"iptables_save": lines(firewall.Text(r.rules.IPv4)), "ip6tables_save": lines(firewall.Text(r.rules.IPv6))})
}
