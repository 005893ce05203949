package network

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// How the agent's own rules of tc are known: the handle of a queue, and the priorities of filters, of which the policing one is Neutron's.
const (
	queueHandle    = 0xca << 16
	ingressHandle  = 0xffff << 16
	dscpPriority   = 48
	policePriority = 49
	dscpName       = "cagent-dscp-"
	largestFrame   = 64 << 10 // with segmentation offload
)

// addQoS adds the limits of the agent's that links have.
func addQoS(s State, names map[int]string) error {
	queues, err := list(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(nil) })
	if err != nil {
		return fmt.Errorf("queues: %w", err)
	}
	for _, q := range queues {
		l, there := s.Links[names[q.Attrs().LinkIndex]]
		if !there {
			continue
		}
		switch q := q.(type) {
		case *netlink.Tbf:
			if q.Handle == queueHandle {
				l.QoS.ToGuest = toRate(q.Rate, float64(q.Buffer)/netlink.TickInUsec())
			}
		case *netlink.Ingress:
			if err := l.addFilters(q.LinkIndex); err != nil {
				return err
			}
		}
		s.Links[l.Name] = l
	}
	return nil
}

func toRate(bytes uint64, microseconds float64) Rate {
	burst := float64(bytes) * microseconds / 1e6
	return Rate{int(math.Round(float64(bytes) / bytesPerKbit)), int(math.Round(burst / bytesPerKbit))}
}

func (l *Link) addFilters(index int) error {
	filters, err := ingressFilters(index)
	if err != nil {
		return fmt.Errorf("filters of %s: %w", l.Name, err)
	}
	for _, f := range filters {
		switch f := f.(type) {
		case *netlink.BpfFilter:
			value, ours := strings.CutPrefix(f.Name, dscpName)
			if n, err := strconv.ParseUint(value, 10, 6); ours && err == nil {
				l.QoS.SetDSCP, l.QoS.DSCP = true, uint8(n)
			}
		case *netlink.MatchAll:
			for _, a := range f.Actions {
				if p, ok := a.(*netlink.PoliceAction); ok && f.Priority == policePriority {
					l.QoS.FromGuest = toRate(uint64(p.Rate), float64(p.Burst)*1e6/float64(p.Rate))
				}
			}
		}
	}
	return nil
}

func ingressFilters(index int) ([]netlink.Filter, error) {
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}
	out, err := list(func() ([]netlink.Filter, error) { return netlink.FilterList(link, ingressHandle) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || gone(err) {
		return nil, nil // the queue or the link is gone
	}
	return out, err
}

func changeQoS(link netlink.Link, c Change) error {
	switch q := c.New.QoS; c.Op {
	case OpToGuest:
		return queue(link, q.ToGuest)
	case OpDSCP:
		if !q.SetDSCP {
			return removeFilter(link, dscpPriority)
		}
		return markDSCP(link, q.DSCP)
	default:
		if q.FromGuest.Kbit == 0 {
			return removeFilter(link, policePriority)
		}
		return police(link, q.FromGuest)
	}
}

// queue makes what goes to the guest wait in a token bucket, for at most the 50 ms that Neutron lets it.
func queue(link netlink.Link, r Rate) error {
	attrs := netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: queueHandle, Parent: netlink.HANDLE_ROOT}
	rate, burst := uint64(r.Kbit)*bytesPerKbit, uint64(r.BurstKbit)*bytesPerKbit
	if rate == 0 {
		return ignore(netlink.QdiscDel(&netlink.Tbf{QdiscAttrs: attrs}), unix.ENOENT, unix.EINVAL)
	}
	ticks := float64(burst) / float64(rate) * 1e6 * netlink.TickInUsec()
	return netlink.QdiscReplace(&netlink.Tbf{QdiscAttrs: attrs, Rate: rate, Limit: uint32(rate/20 + burst), Buffer: uint32(math.Ceil(ticks))})
}

// police drops what the guest sends beyond the rate.
func police(link netlink.Link, r Rate) error {
	action := netlink.NewPoliceAction()
	action.Rate, action.Burst, action.Mtu = uint32(r.Kbit*bytesPerKbit), uint32(r.BurstKbit*bytesPerKbit), largestFrame
	action.ExceedAction = netlink.TC_POLICE_SHOT
	return addFilter(link, &netlink.MatchAll{FilterAttrs: filterAttrs(link, policePriority), Actions: []netlink.Action{action}})
}

func filterAttrs(link netlink.Link, priority uint16) netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: link.Attrs().Index, Parent: ingressHandle, Handle: 1, Priority: priority, Protocol: unix.ETH_P_ALL,
	}
}

// addFilter puts a filter in the place of the one that was there.
func addFilter(link netlink.Link, f netlink.Filter) error {
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: ingressHandle, Parent: netlink.HANDLE_INGRESS,
	}}
	if err := ignore(netlink.QdiscAdd(ingress), unix.EEXIST); err != nil {
		return err
	}
	if err := removeAt(link, f.Attrs().Priority); err != nil {
		return err
	}
	err := netlink.FilterAdd(f)
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("this kernel lacks a part of tc: %w", err)
	}
	if err != nil {
		err = errors.Join(err, removeFilter(link, f.Attrs().Priority))
	}
	return err
}

func removeAt(link netlink.Link, priority uint16) error {
	filters, err := ingressFilters(link.Attrs().Index)
	if err != nil {
		return err
	}
	for _, f := range filters {
		if f.Attrs().Priority != priority {
			continue
		}
		if err := ignore(netlink.FilterDel(f), unix.ENOENT, unix.EINVAL); err != nil {
			return err
		}
	}
	return nil
}

// removeFilter takes a filter away, and with the last one what they are in.
func removeFilter(link netlink.Link, priority uint16) error {
	if err := removeAt(link, priority); err != nil {
		return err
	}
	left, err := ingressFilters(link.Attrs().Index)
	if err != nil || len(left) > 0 {
		return err
	}
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: ingressHandle, Parent: netlink.HANDLE_INGRESS,
	}}
	return ignore(netlink.QdiscDel(ingress), unix.ENOENT, unix.EINVAL)
}

func ignore(err error, harmless ...unix.Errno) error {
	for _, e := range harmless {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// markDSCP marks what the guest sends. What else tc could do it with, pedit, not every kernel has, and no library speaks to.
func markDSCP(link netlink.Link, dscp uint8) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: dscpProgram(int32(dscp)), License: "Apache-2.0"})
	if err != nil {
		return fmt.Errorf("dscp %d: %w", dscp, err)
	}
	defer func() { _ = program.Close() }() // the filter has it
	return addFilter(link, &netlink.BpfFilter{
		FilterAttrs: filterAttrs(link, dscpPriority), Fd: program.FD(), Name: dscpName + strconv.Itoa(int(dscp)), DirectAction: true,
	})
}

// dscpProgram writes the DSCP into the header of an IPv4 or IPv6 packet, and leaves ECN and flow label as they are. Whatever it
// does, the next filter is asked.
func dscpProgram(dscp int32) asm.Instructions {
	const (
		protocol  = 16 // in __sk_buff, in network byte order
		header    = 14 // of Ethernet
		checksum  = header + 10
		word      = int16(-8) // on the stack, the first two bytes of the IP header: in which version, length and DSCP are
		goOn      = -1        // TC_ACT_UNSPEC
		typeIPv4  = 0x0800
		typeIPv6  = 0x86dd
		lowNibble = 0x0f
	)
	start := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, protocol, asm.Word),
		asm.HostTo(asm.BE, asm.R7, asm.Half),
		asm.JEq.Imm(asm.R7, typeIPv4, "read"),
		asm.JNE.Imm(asm.R7, typeIPv6, "end"),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("read"),
		asm.Mov.Imm(asm.R2, header),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(word)),
		asm.Mov.Imm(asm.R4, 2),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "end"),
		asm.LoadMem(asm.R8, asm.RFP, word, asm.Half), // as it was
		asm.JEq.Imm(asm.R7, typeIPv6, "ipv6"),
	}
	ipv4 := asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, word+1, asm.Byte),
		asm.And.Imm(asm.R1, 3),
		asm.Or.Imm(asm.R1, dscp<<2),
		asm.StoreMem(asm.RFP, word+1, asm.R1, asm.Byte),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, checksum),
		asm.Mov.Reg(asm.R3, asm.R8),
		asm.LoadMem(asm.R4, asm.RFP, word, asm.Half),
		asm.Mov.Imm(asm.R5, 2),
		asm.FnL3CsumReplace.Call(),
		asm.JNE.Imm(asm.R0, 0, "end"),
		asm.Ja.Label("write"),
	}
	ipv6 := asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, word, asm.Byte).WithSymbol("ipv6"),
		asm.And.Imm(asm.R1, ^lowNibble&0xff),
		asm.Or.Imm(asm.R1, dscp>>2),
		asm.StoreMem(asm.RFP, word, asm.R1, asm.Byte),
		asm.LoadMem(asm.R1, asm.RFP, word+1, asm.Byte),
		asm.And.Imm(asm.R1, 0x3f),
		asm.Or.Imm(asm.R1, dscp&3<<6),
		asm.StoreMem(asm.RFP, word+1, asm.R1, asm.Byte),
	}
	end := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("write"),
		asm.Mov.Imm(asm.R2, header),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(word)),
		asm.Mov.Imm(asm.R4, 2),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.Mov.Imm(asm.R0, goOn).WithSymbol("end"),
		asm.Return(),
	}
	var out asm.Instructions
	for _, part := range []asm.Instructions{start, ipv4, ipv6, end} {
		out = append(out, part...)
	}
	return out
}
