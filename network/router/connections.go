package router

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// flow is a tracked connection: who began it and to whom, and between whom the answers go.
type flow struct{ src, dst, replySrc, replyDst netip.Addr }

// stale says whether a connection is translated as the router does not do, or not any longer. What is not translated is not.
func (r *Router) stale(f flow) bool {
	return f.replySrc != f.dst && !r.leads(f.dst, f.replySrc) || f.replyDst != f.src && !r.lends(f)
}

// leads says whether an address is a floating IP of another.
func (r *Router) leads(address, fixed netip.Addr) bool {
	for _, f := range r.FloatingIPs {
		if f.Address == address {
			return f.Fixed == fixed
		}
	}
	return false
}

// lends says whether the address that a connection's other end sees may be its source's.
func (r *Router) lends(f flow) bool {
	if r.SNAT.IsValid() {
		return f.replyDst == r.SNAT || r.leads(f.replyDst, f.src)
	}
	if r.leads(f.replyDst, f.src) {
		return true
	}
	for _, p := range r.inside() { // masqueraded on its way to a floating IP
		if p.Contains(f.replyDst) {
			return f.replySrc != f.dst
		}
	}
	return false
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (r *Router) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	addr := func(ip []byte) netip.Addr { a, _ := netip.AddrFromSlice(ip); return a.Unmap() }
	return r.stale(flow{addr(c.Forward.SrcIP), addr(c.Forward.DstIP), addr(c.Reverse.SrcIP), addr(c.Reverse.DstIP)})
}

// dumps are how often the list of connections is read that changes meanwhile.
const dumps = 10

// cut makes the kernel forget the connections of the calling thread's namespace that the router does not translate so. They may
// go on only by its rules.
func (r *Router) cut() error {
	for n := 1; ; n++ {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, r)
		if err == nil || !errors.Is(err, netlink.ErrDumpInterrupted) || n == dumps {
			if err != nil {
				err = fmt.Errorf("conntrack: %w", err)
			}
			return err
		}
	}
}
