package network

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guestEnd opens a tap as QEMU does, and waits until its bridge lets its frames pass. What is written to it comes from the guest.
func guestEnd(t testing.TB, name string) (fd int, end func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	events, err := Host{}.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fd, end = openTap(t, name)
	for !strings.Contains(run(t, "bridge", "link", "show", "dev", name), "state forwarding") {
		if _, more := <-events; !more {
			t.Fatalf("%s carries nothing:\n%s", name, run(t, "bridge", "link"))
		}
	}
	return fd, end
}

func openTap(t testing.TB, name string) (fd int, end func()) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	return fd, func() { _ = unix.Close(fd) }
}

// wire is a packet socket on a link: what is written to it leaves by the link.
func wire(t testing.TB, name string) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// waiting are the frames of the tests that can be read at once.
func waiting(t testing.TB, fd, skip int) [][]byte {
	t.Helper()
	var out [][]byte
	for {
		buffer := make([]byte, 4096)
		n, err := unix.Read(fd, buffer)
		if errors.Is(err, unix.EAGAIN) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if f := buffer[skip:n]; string(f[6:12]) == string(mac(9)) {
			out = append(out, f)
		}
	}
}

const vnetHeader = 10 // of a tap's frame

func frame(kind uint16, payload []byte) []byte {
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac(9)...)
	return append(binary.BigEndian.AppendUint16(f, kind), payload...)
}

// TestHostQueue: of what is sent to a guest at once, as much comes through as its burst, and all of it when it has no limit.
func TestHostQueue(t *testing.T) {
	inNamespace(t)
	networks := []Network{{ID: netA, Type: Local}}
	port := Port{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap, QoS: QoS{ToGuest: Rate{Kbit: 100, BurstKbit: 50}}}
	sent := func() int {
		guest, end := guestEnd(t, TapName(one))
		defer end()
		out := wire(t, TapName(one))
		for range 50 {
			if _, err := unix.Write(out, frame(0x88b5, make([]byte, 1250-14))); err != nil && !errors.Is(err, unix.ENOBUFS) {
				t.Fatal(err)
			}
		}
		return len(waiting(t, guest, vnetHeader))
	}
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	// 5 frames are the burst, 5 wait; then one comes each 100 ms, and those 50 would take 4 seconds.
	if n := sent(); n == 0 || n >= 50 {
		t.Errorf("with the limit %d frames of 50 come at once", n)
	}
	if text := tc(t, "qdisc", "show", "dev", TapName(one)); !strings.Contains(text, "tbf ca: root") || !strings.Contains(text, "rate 100Kbit burst 6250b") {
		t.Errorf("tc shows %s", text)
	}
	port.QoS = QoS{}
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	if n := sent(); n != 50 {
		t.Errorf("without the limit %d frames of 50 come at once", n)
	}
}

// TestHostDSCP: what a guest sends is marked, with a good checksum, its ECN and flow label as they were; other frames are as they were.
func TestHostDSCP(t *testing.T) {
	inNamespace(t)
	networks := []Network{{ID: netA, Type: Local}}
	port := Port{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap}
	ipv4 := []byte{0x45, 0x1e, 0, 20, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
	binary.BigEndian.PutUint16(ipv4[10:], internetChecksum(ipv4))
	ipv6 := append([]byte{0x61, 0xe5, 0x43, 0x21, 0, 0, 59, 64}, make([]byte, 32)...)
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	guest, end := guestEnd(t, TapName(one))
	defer end()
	seen := wire(t, BridgeName(netA))
	for _, c := range []struct {
		qos        QoS
		tos, first byte // of the IPv4 header, and of the IPv6 one
		second     byte
	}{
		{QoS{}, 0x1e, 0x61, 0xe5},
		{QoS{SetDSCP: true, DSCP: 46}, 0xba, 0x6b, 0xa5},
		{QoS{SetDSCP: true, DSCP: 1}, 0x06, 0x60, 0x65},
		{QoS{SetDSCP: true}, 0x02, 0x60, 0x25},
		{QoS{}, 0x1e, 0x61, 0xe5},
	} {
		port.QoS = c.qos
		applied(t, Host{}, mustWant(t, networks, []Port{port}))
		for _, f := range [][]byte{frame(0x0800, ipv4), frame(0x86dd, ipv6), frame(0x88b5, ipv4)} {
			if _, err := unix.Write(guest, append(make([]byte, vnetHeader), f...)); err != nil {
				t.Fatal(err)
			}
		}
		got := waiting(t, seen, 0)
		if len(got) != 3 {
			t.Fatalf("%v: %d frames come to the bridge", c.qos, len(got))
		}
		four, six, other := got[0][14:], got[1][14:], got[2][14:]
		if four[1] != c.tos || internetChecksum(four[:20]) != 0 || string(four[12:20]) != string(ipv4[12:]) {
			t.Errorf("%v: IPv4 is %x, checksum %x", c.qos, four, internetChecksum(four[:20]))
		}
		if six[0] != c.first || six[1] != c.second || string(six[2:40]) != string(ipv6[2:]) {
			t.Errorf("%v: IPv6 is %x", c.qos, six)
		}
		if string(other[:20]) != string(ipv4) {
			t.Errorf("%v: what is no IP is %x", c.qos, other)
		}
	}
	if text := tc(t, "qdisc", "show", "dev", TapName(one)); strings.Contains(text, "ingress") {
		t.Errorf("left is %s", text)
	}
}

// TestHostPolice: of what a guest sends at once, as much passes as its burst. A kernel without policing says so, and the port is
// plugged in with all else.
func TestHostPolice(t *testing.T) {
	inNamespace(t)
	networks := []Network{{ID: netA, Type: Local}}
	port := Port{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap, QoS: QoS{
		FromGuest: Rate{Kbit: 100, BurstKbit: 50}, ToGuest: Rate{Kbit: 1000}, SetDSCP: true, DSCP: 8,
	}}
	sent := func() int {
		guest, end := guestEnd(t, TapName(one))
		defer end()
		seen := wire(t, BridgeName(netA))
		for range 50 {
			if _, err := unix.Write(guest, append(make([]byte, vnetHeader), frame(0x88b5, make([]byte, 1250-14))...)); err != nil {
				t.Fatal(err)
			}
		}
		return len(waiting(t, seen, 0))
	}
	err := Apply(t.Context(), Host{}, mustWant(t, networks, []Port{port}))
	if err != nil {
		t.Logf("this kernel has no policing: %v", err)
		if want := TapName(one) + ": limit from guest 100 kbit/s burst 50 kbit: "; !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("it says %v", err)
		}
		have, err := Host{}.Links(t.Context())
		if l := have.Links[TapName(one)]; err != nil || l.Master != BridgeName(netA) || l.QoS.ToGuest.Kbit != 1000 || l.QoS.DSCP != 8 {
			t.Errorf("all else is not there: %s, %v", l, err)
		}
	} else {
		if n := sent(); n == 0 || n >= 50 {
			t.Errorf("with the limit %d frames of 50 pass at once", n)
		}
		applied(t, Host{}, mustWant(t, networks, []Port{port}))
	}
	port.QoS = QoS{}
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	if n := sent(); n != 50 {
		t.Errorf("without the limit %d frames of 50 pass at once", n)
	}
}

// TestHostLimitsOfOthers: what somebody else queues and filters stays.
func TestHostLimitsOfOthers(t *testing.T) {
	inNamespace(t)
	networks := []Network{{ID: netA, Type: Local}}
	port := Port{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap}
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	tap := TapName(one)
	tc(t, "qdisc", "add", "dev", tap, "root", "handle", "7:", "tbf", "rate", "1mbit", "burst", "10k", "latency", "50ms")
	tc(t, "qdisc", "add", "dev", tap, "ingress")
	tc(t, "filter", "add", "dev", tap, "ingress", "prio", "5", "protocol", "ip", "u32", "match", "u32", "0", "0")
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	port.QoS = QoS{SetDSCP: true}
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	port.QoS = QoS{}
	applied(t, Host{}, mustWant(t, networks, []Port{port}))
	if text := tc(t, "qdisc", "show", "dev", tap) + tc(t, "filter", "show", "dev", tap, "ingress"); !strings.Contains(text, "tbf 7: root") ||
		!strings.Contains(text, "pref 5 u32") || strings.Contains(text, "bpf") {
		t.Errorf("left is %s", text)
	}
}

func internetChecksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// TestRates: what the kernel makes of a limit is the limit, for the slowest and the fastest.
func TestRates(t *testing.T) {
	inNamespace(t)
	networks := []Network{{ID: netA, Type: Local}}
	for _, r := range []Rate{{minKbit, 0}, {minKbit, 1000}, {33, 3300}, {1_000_000, 800_001}, {maxKbit, 1}, {maxKbit, maxBurst}, {12_345_678, 0}} {
		port := Port{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap, QoS: QoS{ToGuest: r}}
		applied(t, Host{}, mustWant(t, networks, []Port{port}))
	}
}

func tc(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "tc", args...)
}
