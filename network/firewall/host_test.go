package firewall_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"compute-agent/network/firewall/eval"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace with a bridge, and devices in it whose other ends are in a second namespace, where packets are
// made and caught. The test's goroutine keeps its thread, which is in the first.
type host struct {
	t      testing.TB
	probes map[string]*probe // by the device in the bridge
	guests netns.NsHandle
	here   netns.NsHandle
	bridge net.HardwareAddr
}

// probe is the far end of a device.
type probe struct {
	fd  int
	dev string
}

const testBridge = "br0"

func newHost(t testing.TB, devices ...string) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	h := &host{t: t, probes: map[string]*probe{}}
	var err error
	h.guests, err = netns.New()
	h.must(err)
	quiet(h)
	h.here, err = netns.New()
	h.must(err)
	quiet(h)
	t.Cleanup(func() { _ = h.guests.Close(); _ = h.here.Close() })
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: testBridge}}
	h.must(netlink.LinkAdd(br))
	h.must(netlink.LinkSetUp(br))
	for _, setting := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
		h.set(setting, "1")
	}
	for _, d := range devices {
		h.connect(d, true)
	}
	link, err := netlink.LinkByName(testBridge)
	h.must(err)
	h.bridge = link.Attrs().HardwareAddr
	return h
}

// quiet keeps the kernel from sending what no test asked for.
func quiet(h *host) {
	h.set("ipv6/conf/default/disable_ipv6", "1")
	h.set("ipv6/conf/all/disable_ipv6", "1")
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) set(setting, value string) {
	h.t.Helper()
	h.must(os.WriteFile("/proc/sys/net/"+setting, []byte(value), 0o644))
}

// connect makes a device whose other end is with the guests.
func (h *host) connect(name string, bridged bool) {
	h.t.Helper()
	far := "g-" + name
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: far, PeerNamespace: netlink.NsFd(int(h.guests))}
	h.must(netlink.LinkAdd(veth))
	if bridged {
		br, err := netlink.LinkByName(testBridge)
		h.must(err)
		h.must(netlink.LinkSetMaster(veth, br))
		h.must(netlink.LinkSetLearning(veth, false)) // what is spoofed must not move an address to another device
	}
	h.must(netlink.LinkSetUp(veth))
	h.must(netns.Set(h.guests))
	defer func() { h.must(netns.Set(h.here)) }()
	peer, err := netlink.LinkByName(far)
	h.must(err)
	h.must(netlink.LinkSetUp(peer))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	h.must(err)
	h.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: peer.Attrs().Index}))
	h.must(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	timeout := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
	h.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	h.t.Cleanup(func() { _ = unix.Close(fd) })
	h.probes[name] = &probe{fd, far}
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// learn tells the bridge where a MAC is.
func (h *host) learn(device string, mac net.HardwareAddr) {
	h.t.Helper()
	link, err := netlink.LinkByName(device)
	h.must(err)
	h.must(netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP, // static: NUD_PERMANENT would be the host's own
		Flags: netlink.NTF_MASTER, HardwareAddr: mac}))
}

// marks are of an ethertype for experiments, which no filter looks at, and numbered.
const markType = 0x88b5

var markNumber uint64

// passes sends frames from a device to another and says whether the last of them gets there; nil for it is any frame. A mark that is sent
// behind it on the same way says when to stop waiting.
func (h *host) passes(from, to string, fromMAC, toMAC net.HardwareAddr, frames ...[]byte) bool {
	h.t.Helper()
	return h.passesAs(from, to, fromMAC, toMAC, frames[len(frames)-1], frames...)
}

// passesAs is passes for a frame that gets there as another: a packet socket sees no tag.
func (h *host) passesAs(from, to string, fromMAC, toMAC net.HardwareAddr, wanted []byte, frames ...[]byte) bool {
	h.t.Helper()
	for _, f := range frames {
		if f == nil {
			continue
		}
		if _, err := unix.Write(h.probes[from].fd, f); err != nil {
			h.t.Fatalf("%s: %v", from, err)
		}
	}
	markNumber++
	mark := ethernet(toMAC, fromMAC, markType, binary.BigEndian.AppendUint64(nil, markNumber), make([]byte, 46))
	if _, err := unix.Write(h.probes[from].fd, mark); err != nil {
		h.t.Fatal(err)
	}
	return h.caught(to, wanted, mark)
}

// caught reads what comes to a device until the mark.
func (h *host) caught(device string, wanted, mark []byte) (seen bool) {
	h.t.Helper()
	buffer := make([]byte, 65536)
	for {
		n, err := unix.Read(h.probes[device].fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			h.t.Fatalf("%s: no mark came: %v", device, err)
		}
		got := buffer[:n]
		if len(got) >= 22 && string(got[12:22]) == string(mark[12:22]) {
			return seen
		}
		seen = seen || sameFrame(got, wanted)
	}
}

// sameFrame compares without the Ethernet header, which routing changes, and the fields that it changes in IP.
func sameFrame(got, wanted []byte) bool {
	return wanted == nil || len(got) >= len(wanted) && len(wanted) > 34 && string(got[26:len(wanted)]) == string(wanted[26:]) ||
		string(got) == string(wanted)
}

func ethernet(dst, src net.HardwareAddr, kind uint16, parts ...[]byte) []byte {
	f := append(append([]byte{}, dst...), src...)
	f = binary.BigEndian.AppendUint16(f, kind)
	for _, p := range parts {
		f = append(f, p...)
	}
	return f
}

func mac(n int) net.HardwareAddr {
	m, err := net.ParseMAC("fa:16:3e:00:00:" + fmt.Sprintf("%02x", n))
	if err != nil {
		panic("a MAC of " + strconv.Itoa(n))
	}
	return m
}

// sentTo sends a frame from the far end of a device and says whether another sends anything on: veth, bridge and routing are
// passed in the sender's call.
func (h *host) sentTo(to, from string, frame []byte) bool {
	h.t.Helper()
	before := h.sentBy(to)
	_, err := unix.Write(h.probes[from].fd, frame)
	h.must(err)
	return h.sentBy(to) > before
}

func (h *host) sentBy(device string) uint64 {
	h.t.Helper()
	link, err := netlink.LinkByName(device)
	h.must(err)
	return link.Attrs().Statistics.TxPackets
}

// received sends a datagram from its PhysIn to a socket of the host and says whether it is there.
func (h *host) received(p eval.Packet) bool {
	h.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	h.must(err)
	defer func() { _ = unix.Close(fd) }()
	h.must(unix.Bind(fd, &unix.SockaddrInet4{Port: int(p.DstPort), Addr: p.Dst.As4()}))
	_, err = unix.Write(h.probes[p.PhysIn].fd, frameOf(p, h.bridge))
	h.must(err)
	_, _, err = unix.Recvfrom(fd, make([]byte, 2048), 0)
	return err == nil
}
