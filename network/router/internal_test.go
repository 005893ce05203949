package router

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestStale: which connections are cut.
func TestStale(t *testing.T) {
	addr := netip.MustParseAddr
	r := Router{SNAT: addr("203.0.113.2"), Inside: []Inside{{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}},
		FloatingIPs: []FloatingIP{{addr("203.0.113.10"), addr("10.0.0.5")}}}
	routed := r
	routed.SNAT = netip.Addr{}
	for _, c := range []struct {
		name                         string
		router                       *Router
		src, dst, replySrc, replyDst string
		want                         bool
	}{
		{"not translated", &r, "10.0.0.5", "10.0.1.5", "10.0.1.5", "10.0.0.5", false},
		{"by the gateway", &r, "10.0.0.6", "198.51.100.1", "198.51.100.1", "203.0.113.2", false},
		{"by the gateway, of one who has a floating IP now", &r, "10.0.0.5", "198.51.100.1", "198.51.100.1", "203.0.113.2", false},
		{"by another gateway", &r, "10.0.0.6", "198.51.100.1", "198.51.100.1", "203.0.113.3", true},
		{"by a gateway that has gone", &routed, "10.0.0.6", "198.51.100.1", "198.51.100.1", "203.0.113.2", true},
		{"out by a floating IP", &r, "10.0.0.5", "198.51.100.1", "198.51.100.1", "203.0.113.10", false},
		{"out by another's floating IP", &r, "10.0.0.6", "198.51.100.1", "198.51.100.1", "203.0.113.10", true},
		{"out by one that has gone", &r, "10.0.0.5", "198.51.100.1", "198.51.100.1", "203.0.113.11", true},
		{"in", &r, "198.51.100.1", "203.0.113.10", "10.0.0.5", "198.51.100.1", false},
		{"in to whom it led", &r, "198.51.100.1", "203.0.113.10", "10.0.0.6", "198.51.100.1", true},
		{"in by one that has gone", &r, "198.51.100.1", "203.0.113.11", "10.0.0.5", "198.51.100.1", true},
		{"own", &r, "10.0.0.5", "203.0.113.10", "10.0.0.5", "203.0.113.10", false},
		{"from inside to it", &r, "10.0.0.6", "203.0.113.10", "10.0.0.5", "203.0.113.2", false},
		{"from inside to whom it led", &r, "10.0.0.6", "203.0.113.10", "10.0.0.7", "203.0.113.2", true},
		{"from inside, masqueraded", &routed, "10.0.0.6", "203.0.113.10", "10.0.0.5", "10.0.0.1", false},
		{"from inside, masqueraded, and now there is a gateway", &r, "10.0.0.6", "203.0.113.10", "10.0.0.5", "10.0.0.1", true},
		{"masqueraded for nothing", &routed, "10.0.0.6", "10.0.0.5", "10.0.0.5", "10.0.0.1", true},
	} {
		if got := c.router.stale(flow{addr(c.src), addr(c.dst), addr(c.replySrc), addr(c.replyDst)}); got != c.want {
			t.Errorf("%s: stale: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestMessage is an advertisement byte by byte.
func TestMessage(t *testing.T) {
	prefix := netip.MustParsePrefix
	a := advertisement{MAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 1, 2, 3}, MTU: 1450, Prefixes: []Advertisement{
		{Prefix: prefix("2001:db8:1::/64"), SLAAC: true, Other: true, DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("192.0.2.53")}},
		{Prefix: prefix("2001:db8:2::/80"), Managed: true, DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")}},
	}}
	for _, c := range []struct {
		name string
		got  []byte
		want []string
	}{
		{"all", a.message([]netip.Prefix{prefix("2001:db8:3::/64")}), []string{
			"86000000" + "40c02328" + "0000000000000000", // managed and other, 9000 seconds
			"0101fa163e010203", "05010000000005aa",
			"030440c0" + "0001518000003840" + "00000000" + "20010db8000100000000000000000000",
			"03045080" + "0001518000003840" + "00000000" + "20010db8000200000000000000000000",
			"030440c0" + "0000000000000000" + "00000000" + "20010db8000300000000000000000000", // withdrawn
			"19030000" + "00002328" + "20010db8000000000000000000000053",
		}},
		{"farewell", a.farewell(), []string{"86000000" + "40c00000" + "0000000000000000", "0101fa163e010203"}},
		{"little", (&advertisement{MAC: a.MAC, MTU: 1279}).message(nil), []string{"86000000" + "40002328" + "0000000000000000", "0101fa163e010203"}},
	} {
		want := ""
		for _, w := range c.want {
			want += w
		}
		if got := hex.EncodeToString(c.got); got != want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, want)
		}
	}
}

// TestSchedule: what RFC 4861 says of the times between advertisements, whatever is asked and when.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		s := newSchedule(now)
		s.random = func(d time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(d)-1).Draw(t, "random"))
		}
		if !s.next.Equal(now) {
			t.Fatalf("the first is to be sent at %s", s.next)
		}
		asked := time.Time{} // first, and not answered yet
		for range 30 {
			switch rapid.SampledFrom([]string{"time", "time", "ask", "change", "fail"}).Draw(t, "event") {
			case "time":
				now = s.next
				if !s.last.IsZero() && now.Sub(s.last) < minDelay {
					t.Fatalf("two within %s", now.Sub(s.last))
				}
				if !asked.IsZero() && now.Sub(asked) > minDelay+maxAnswerDelay {
					t.Fatalf("answered after %s", now.Sub(asked))
				}
				s.done(now)
				asked = time.Time{}
				wait := s.next.Sub(now)
				if wait < maxInitialInterval || wait > maxInterval || s.sent < initially && wait != maxInitialInterval {
					t.Fatalf("after number %d the next is in %s", s.sent, wait)
				}
			case "ask":
				now = now.Add(s.next.Sub(now) / 2)
				s.solicited(now)
				if asked.IsZero() {
					asked = now
				}
			case "change":
				s.begin(now)
			case "fail":
				if now.Equal(s.next) {
					asked = time.Time{} // all waits until it can be sent
					s.failed(now)
				}
			}
		}
	})
}

// TestSolicitation: only a neighbour's is heeded.
func TestSolicitation(t *testing.T) {
	hops := func(n byte) []byte {
		b := make([]byte, unix.CmsgSpace(4))
		b[0] = byte(unix.CmsgLen(4))
		b[8], b[12] = unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT
		b[16] = n
		return b
	}
	good := []byte{133, 0, 0, 0, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		message, control []byte
		want             bool
	}{
		"a solicitation": {good, hops(255), true}, "from afar": {good, hops(254), false}, "short": {good[:7], hops(255), false},
		"another type": {append([]byte{134}, good[1:]...), hops(255), false}, "a code": {[]byte{133, 1, 0, 0, 0, 0, 0, 0}, hops(255), false},
		"nothing known of hops": {good, nil, false}, "half a control message": {good, hops(255)[:10], false},
	} {
		if got := solicitation(c.message, c.control); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
