package firewall_test

import (
	"encoding/binary"
	"net"
	"net/netip"

	"compute-agent/network/firewall/eval"
)

// frameOf writes a packet as it is on the wire, with good checksums, to a MAC.
func frameOf(p eval.Packet, dst net.HardwareAddr) []byte {
	payload := layer4Of(p)
	if p.Src.Is4() {
		return ethernet(dst, p.SrcMAC, 0x0800, ipv4(p, 0, payload), payload)
	}
	return ethernet(dst, p.SrcMAC, 0x86dd, ipv6(p, p.Protocol, payload), payload)
}

func ipv4(p eval.Packet, fragment uint16, payload []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, p.Protocol, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	binary.BigEndian.PutUint16(b[6:], fragment)
	b = append(append(b, p.Src.AsSlice()...), p.Dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return b
}

func ipv6(p eval.Packet, next uint8, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	return append(append(b, p.Src.AsSlice()...), p.Dst.AsSlice()...)
}

// tcpFlags are those of the segments that are sent: a SYN begins a connection, a reset of none is invalid.
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

func layer4Of(p eval.Packet) []byte {
	switch p.Protocol {
	case 6:
		flags := byte(tcpSYN)
		if p.State == eval.Invalid {
			flags = tcpRST
		}
		return segment(p, flags, 1, 0)
	case 17:
		body := []byte("0123456789abcdef")
		b := ports(p)
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(body)))
		b = append(append(b, 0, 0), body...)
		binary.BigEndian.PutUint16(b[6:], pseudo(p, b))
		return b
	case 1:
		b := append([]byte{p.ICMPType, p.ICMPCode, 0, 0}, ports(p)...)
		b = append(b, "0123456789abcdef"...)
		binary.BigEndian.PutUint16(b[2:], checksum(b))
		return b
	case 58:
		b := append([]byte{p.ICMPType, p.ICMPCode, 0, 0}, ports(p)...)
		b = append(b, "0123456789abcdef"...)
		binary.BigEndian.PutUint16(b[2:], pseudo(p, b))
		return b
	}
	return []byte("0123456789abcdef")
}

func ports(p eval.Packet) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.SrcPort), p.DstPort)
}

func segment(p eval.Packet, flags byte, seq, ack uint32) []byte {
	b := ports(p)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[16:], pseudo(p, b))
	return b
}

func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudo is a checksum over the addresses too.
func pseudo(p eval.Packet, b []byte) uint16 {
	head := append(append([]byte{}, p.Src.AsSlice()...), p.Dst.AsSlice()...)
	head = binary.BigEndian.AppendUint32(head, uint32(len(b)))
	head = append(head, 0, 0, 0, p.Protocol)
	return checksum(head, b)
}

func arp(op uint16, senderMAC net.HardwareAddr, sender netip.Addr, target netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, senderMAC...), sender.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	return append(b, make([]byte, 18)...)
}

// advertisement is a neighbour advertisement of an address, with its hop limit of 255.
func advertisement(src, dst net.HardwareAddr, from, to, target netip.Addr) []byte {
	b := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice()...)
	b = append(append(b, 2, 1), src...)
	p := eval.Packet{Src: from, Dst: to, Protocol: 58}
	binary.BigEndian.PutUint16(b[2:], pseudo(p, b))
	return ethernet(dst, src, 0x86dd, ipv6(p, 58, b), b)
}
