package neutron

import "net/netip"
import "compute-agent/network/fabric"
import "compute-agent/network"

// Site is what Plan has to know of the host.
type Site struct{ Interfaces map[string]string; Domain string; FilteringBridge bool; VXLANLocal, VXLANGroup netip.Addr; VXLANPeers []netip.Addr }

// Plan says what a host must have.
func Plan(r Records, s Site) (out fabric.State, err error) {
	for _, p := range r.Ports {
		if p.OfServer() {
			out.Ports = append(out.Ports, network.Port{ID: p.ID})
		}
	}
	return out, nil
}
