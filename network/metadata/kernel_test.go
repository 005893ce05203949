package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"compute-agent/network"
)

// remembered is a source of documents that name their port.
type remembered struct {
	mu        sync.Mutex
	passwords map[string]string
	asked     []Asker
	userData  []byte
	gone      map[string]bool // ports without a server
}

func (r *remembered) Documents(_ context.Context, who Asker) (Documents, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, who)
	if r.gone[who.Port] {
		return Documents{}, ErrNotFound
	}
	return Documents{Password: r.passwords[who.Port], Files: map[string][]byte{
		"openstack/latest/meta_data.json": []byte(`{"uuid":"` + who.Port + `"}`), "openstack/latest/user_data": r.userData,
	}}, nil
}

func (r *remembered) KeepPassword(_ context.Context, who Asker, password string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.passwords[who.Port] != "" {
		return ErrPasswordSet
	}
	r.passwords[who.Port] = password
	return nil
}

// network is a namespace of the service with a bridge, into which guests are plugged.
type testNetwork struct {
	t      *testing.T
	name   string
	ns     netns.NsHandle
	guests int
}

// namespace makes one with a name of this test's own.
func namespace(t *testing.T, name string) *testNetwork {
	t.Helper()
	n := &testNetwork{t: t, name: fmt.Sprintf("qdhcp-test-%d-%s", os.Getpid(), name)}
	n.make()
	t.Cleanup(n.remove)
	return n
}

func (n *testNetwork) make() {
	n.t.Helper()
	done := make(chan error)
	go func() { // on a thread that ends
		runtime.LockOSThread()
		ns, err := netns.NewNamed(n.name)
		n.ns = ns
		done <- err
	}()
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
	n.do(func() error { return up("lo") })
}

func (n *testNetwork) remove() {
	_ = n.ns.Close()
	if err := netns.DeleteNamed(n.name); err != nil {
		n.t.Error(err)
	}
}

// do runs fn in the namespace.
func (n *testNetwork) do(fn func() error) {
	n.t.Helper()
	if err := network.InNamespace(n.name, fn); err != nil {
		n.t.Fatal(err)
	}
}

// device makes a bridge with the service's addresses and one of a subnet; what is said of DAD is so that addresses count at once.
func (n *testNetwork) device(name, subnet string) {
	n.t.Helper()
	n.do(func() error {
		for _, of := range []string{"all", "default"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+of+"/accept_dad", []byte("0"), 0); err != nil {
				return err
			}
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		bridge.Name = name
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		return configure(name, subnet, Address4.String()+"/32", Address6.String()+"/64")
	})
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func configure(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// testGuest is a machine on a network: a namespace with one interface.
type testGuest struct {
	*testNetwork
	mac   net.HardwareAddr
	index int
}

// guest plugs a machine with a MAC and an address into a device of the network. It knows a route to the service.
func (n *testNetwork) guest(device, mac, address string) *testGuest {
	n.t.Helper()
	n.guests++
	g := &testGuest{testNetwork: namespace(n.t, fmt.Sprintf("%s-%d", n.name[len(n.name)-1:], n.guests))}
	g.mac, _ = net.ParseMAC(mac)
	g.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	})
	n.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("tap%d", n.guests)
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(g.ns), PeerHardwareAddr: g.mac}); err != nil {
			return err
		}
		tap, err := netlink.LinkByName(attrs.Name)
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(tap, bridge); err != nil {
			return err
		}
		return netlink.LinkSetUp(tap)
	})
	g.do(func() error {
		// The kernel makes the link-local one itself, but only when it has seen that the link is up.
		if err := configure("eth0", address, network.LinkLocal(g.mac).String()+"/64"); err != nil {
			return err
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		g.index = link.Attrs().Index
		to := netlink.NewIPNet(Address4.AsSlice())
		return netlink.RouteAdd(&netlink.Route{LinkIndex: g.index, Dst: to, Scope: netlink.SCOPE_LINK})
	})
	return g
}

// port is the guest's as the network service has it.
func (g *testGuest) port(id, address string) Port {
	return Port{ID: id, MAC: g.mac, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
}

// dial opens a connection to the service from the guest, by IPv4 or IPv6.
func (g *testGuest) dial(ctx context.Context, v6 bool, from string) (c net.Conn, err error) {
	to := netip.AddrPortFrom(Address4, port)
	if v6 {
		to = netip.AddrPortFrom(Address6.WithZone(strconv.Itoa(g.index)), port)
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		addr := netip.MustParseAddr(from)
		if v6 {
			addr = addr.WithZone(strconv.Itoa(g.index))
		}
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
	}
	err = network.InNamespace(g.name, func() (err error) {
		c, err = dialer.DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

// request is what a guest asks.
type request struct {
	v6           bool
	from         string // address; empty for what the kernel chooses
	method, path string
	header       map[string]string
	body         string
}

// ask returns status and body of an answer.
func (g *testGuest) ask(r request) (int, string) {
	g.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return g.dial(ctx, r.v6, r.from)
	}}}
	if r.path == "" {
		r.path = "/openstack/latest/meta_data.json"
	}
	req, err := http.NewRequestWithContext(g.t.Context(), r.method, "http://metadata"+r.path, strings.NewReader(r.body))
	if err != nil {
		g.t.Fatal(err)
	}
	for key, value := range r.header {
		req.Header.Set(key, value)
	}
	res, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// is sees that a guest gets what is a port's.
func (g *testGuest) is(what string, r request, port string) {
	g.t.Helper()
	want, wantBody := http.StatusOK, `{"uuid":"`+port+`"}`
	if port == "" {
		want, wantBody = http.StatusNotFound, "404 Not Found\n\nThe resource could not be found.\n\n"
	}
	if status, body := g.ask(r); status != want || body != wantBody {
		g.t.Errorf("%s: %d %q, want %d %q", what, status, body, want, wantBody)
	}
}

func start(t *testing.T, o Options) (*Service, *remembered) {
	t.Helper()
	source := &remembered{passwords: map[string]string{}, gone: map[string]bool{}}
	o.Source = source
	s := New(o)
	t.Cleanup(func() {
		s.Close()
		goleak.VerifyNone(t, goleak.IgnoreAnyFunction("testing.(*T).Parallel"))
	})
	return s, source
}

func (s *Service) must(t *testing.T, places ...Place) {
	t.Helper()
	if err := s.Apply(places); err != nil {
		t.Fatal(err)
	}
}

const (
	macOne   = "fa:16:3e:00:00:01"
	macTwo   = "fa:16:3e:00:00:02"
	macThree = "fa:16:3e:00:00:03"
)

// TestGuestsGetTheirOwn has two networks with the same addresses and MACs, and guests who would like to be others.
func TestGuestsGetTheirOwn(t *testing.T) {
	s, source := start(t, Options{})
	a, b := namespace(t, "a"), namespace(t, "b")
	a.device("ns-a", "10.0.0.2/24")
	b.device("ns-b", "10.0.0.2/24")
	one, two, three := a.guest("ns-a", macOne, "10.0.0.5/24"), a.guest("ns-a", macTwo, "10.0.0.6/24"), a.guest("ns-a", macThree, "10.0.0.7/24")
	other := b.guest("ns-b", macOne, "10.0.0.5/24")
	six := one.port("one", "10.0.0.5")
	six.Addresses = append(six.Addresses, netip.MustParseAddr("2001:db8::5"))
	s.must(t, Place{Namespace: a.name, Devices: []string{"ns-a"}, Ports: []Port{six, two.port("two", "10.0.0.6"), two.port("two's second", "10.0.0.8")}},
		Place{Namespace: b.name, Devices: []string{"ns-b"}, Ports: []Port{other.port("other", "10.0.0.5")}})

	one.is("by IPv4", request{}, "one")
	one.is("by IPv6", request{v6: true}, "one")
	two.is("the neighbour", request{}, "two")
	two.is("two ports with a MAC and a link-local address", request{v6: true}, "")
	other.is("the same address elsewhere", request{}, "other")
	other.is("the same by IPv6", request{v6: true}, "other")
	for _, header := range []string{"X-Forwarded-For", "X-Instance-ID", "X-Tenant-ID", "X-Real-IP", "Forwarded", "X-Metadata-Provider", "Host"} {
		for _, value := range []string{"10.0.0.6", "two", "for=10.0.0.6"} {
			one.is(header, request{header: map[string]string{header: value}}, "one")
			three.is(header, request{header: map[string]string{header: value}}, "")
		}
	}
	three.is("an unknown address", request{}, "")
	three.is("an unknown link-local address", request{v6: true}, "")
	three.is("an unknown address and the list", request{path: "/"}, "")
	two.do(func() error { return configure("eth0", "10.0.0.8/24", "10.0.0.9/24", "2001:db8::6/64") })
	two.is("its second port", request{from: "10.0.0.8"}, "two's second")
	two.is("an address of nobody", request{from: "10.0.0.9"}, "")

	// One guest takes the address of another: the kernel sees it at its own MAC.
	three.do(func() error { return configure("eth0", "10.0.0.5/24", network.LinkLocal(one.mac).String()+"/64") })
	one.do(func() error { // so that it does not answer
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
	a.do(func() error {
		link, err := netlink.LinkByName("ns-a")
		if err != nil {
			return err
		}
		for _, addr := range []netip.Addr{netip.MustParseAddr("10.0.0.5"), network.LinkLocal(one.mac)} {
			if err := netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: addr.AsSlice()}); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		return nil
	})
	three.is("another's address", request{from: "10.0.0.5"}, "")
	three.is("another's link-local address", request{v6: true, from: network.LinkLocal(one.mac).String()}, "")

	source.gone["two"] = true
	two.is("a port without a server", request{}, "")
	for _, who := range source.asked {
		if who.Namespace != a.name && who.Namespace != b.name || !who.Addr.IsValid() {
			t.Errorf("asked of %+v", who)
		}
	}
}

// TestRouter has one namespace with devices to two networks, whose guests have the same MAC.
func TestRouter(t *testing.T) {
	s, _ := start(t, Options{})
	r := namespace(t, "r")
	r.device("qr-1", "10.0.1.1/24")
	r.do(func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		bridge.Name = "qr-2"
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		return configure("qr-2", "10.0.2.1/24", Address6.String()+"/64")
	})
	one, two := r.guest("qr-1", macOne, "10.0.1.5/24"), r.guest("qr-2", macOne, "10.0.2.5/24")
	place := Place{Namespace: r.name, Devices: []string{"qr-1", "qr-2"}, Ports: []Port{one.port("one", "10.0.1.5"), two.port("two", "10.0.2.5")}}
	place.Ports[0].Device, place.Ports[1].Device = "qr-1", "qr-2"
	s.must(t, place)
	one.is("by IPv4", request{}, "one")
	two.is("by IPv4", request{}, "two")
	one.is("by IPv6", request{v6: true}, "one")
	two.is("by IPv6", request{v6: true}, "two")

	// A guest of one network with an address of the other is told nothing.
	two.do(func() error { return configure("eth0", "10.0.1.5/32") })
	place.Ports[0].Device, place.Ports[1].Device = "", ""
	s.must(t, place)
	two.is("ports that do not say where", request{v6: true}, "")
}

func TestPassword(t *testing.T) {
	s, source := start(t, Options{})
	a := namespace(t, "a")
	a.device("ns-a", "10.0.0.2/24")
	g := a.guest("ns-a", macOne, "10.0.0.5/24")
	s.must(t, Place{Namespace: a.name, Devices: []string{"ns-a"}, Ports: []Port{g.port("one", "10.0.0.5")}})
	const path = "/openstack/latest/password"
	secret := strings.Repeat("Kx+/=", MaxPassword/5)
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"GET", path, "", 200, ""},
		{"POST", path, secret + "x", 400, "400 Bad Request\n\nRequest is too large.\n\n"},
		{"POST", path, "\xff", 400, "400 Bad Request\n\nThe password is not UTF-8.\n\n"},
		{"POST", path, "", 200, ""},
		{"PUT", path, "x", 400, "400 Bad Request\n\nGET and POST only are supported.\n\n"},
		{"POST", "/openstack/2012-08-10/password", "x", 404, "404 Not Found\n\nThe resource could not be found.\n\n"},
		{"POST", path, secret, 200, ""},
		{"POST", path, "another", 409, "409 Conflict\n\nThere was a conflict when trying to complete your request.\n\n"},
		{"GET", path, "", 200, secret},
		{"GET", "/openstack/2013-04-04/password", "", 404, "404 Not Found\n\nThe resource could not be found.\n\n"}, // no such version here
		{"HEAD", path, "", 200, ""},
		{"POST", "/openstack/latest/meta_data.json", "x", 405, "405 Method Not Allowed\n\nGET and HEAD only are supported.\n\n"},
		{"DELETE", "/openstack/latest", "", 405, "405 Method Not Allowed\n\nGET and HEAD only are supported.\n\n"},
		{"PUT", "/latest/api/token", "", 404, "404 Not Found\n\nThe resource could not be found.\n\n"}, // of EC2's second version
	} {
		if status, body := g.ask(request{method: c.method, path: c.path, body: c.body}); status != c.status || body != c.answer {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, status, body, c.status, c.answer)
		}
	}
	if source.passwords["one"] != secret {
		t.Errorf("kept %q", source.passwords["one"])
	}
}

// listeners are the open ones of a place.
func (s *Service) listeners(name string) map[string]*listening {
	p := s.places[name]
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.listening)
}

func TestApply(t *testing.T) {
	s, _ := start(t, Options{})
	a := namespace(t, "a")
	a.device("ns-a", "10.0.0.2/24")
	g := a.guest("ns-a", macOne, "10.0.0.5/24")
	place := Place{Namespace: a.name, Devices: []string{"ns-a"}, Ports: []Port{g.port("one", "10.0.0.5")}}
	s.must(t, place)
	open := s.listeners(a.name)
	if len(open) != 2 {
		t.Fatalf("%d listeners", len(open))
	}
	s.must(t, place)
	if again := s.listeners(a.name); !maps.Equal(open, again) {
		t.Error("what was wanted already was opened again")
	}
	g.is("a port", request{}, "one")
	place.Ports[0].ID = "two"
	s.must(t, place)
	g.is("another port with its address", request{}, "two")
	place.Ports = nil
	s.must(t, place)
	g.is("a port that is no more", request{}, "")

	missing := Place{Namespace: a.name, Devices: []string{"ns-b", "ns-a"}, Ports: []Port{g.port("one", "10.0.0.5")}}
	err := s.Apply([]Place{{Namespace: "qdhcp-nowhere"}, missing})
	if err == nil || !strings.Contains(err.Error(), "ns-b") || !strings.Contains(err.Error(), "qdhcp-nowhere") {
		t.Errorf("what is not there: %v", err)
	}
	g.is("beside what is not there", request{v6: true}, "one")

	// The device, then the whole namespace, is another of the same name.
	a.do(func() error {
		link, err := netlink.LinkByName("ns-a")
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	a.device("ns-a", "10.0.0.2/24")
	g = a.guest("ns-a", macOne, "10.0.0.5/24")
	place = Place{Namespace: a.name, Devices: []string{"ns-a"}, Ports: []Port{g.port("one", "10.0.0.5")}}
	s.must(t, place)
	g.is("another device", request{v6: true}, "one")
	a.remove()
	a.make()
	a.device("ns-a", "10.0.0.2/24")
	g = a.guest("ns-a", macOne, "10.0.0.5/24")
	s.must(t, place)
	g.is("another namespace", request{}, "one")

	s.Release([]Place{place})
	g.is("a place that stays", request{}, "one")
	s.Release(nil)
	if c, err := g.dial(t.Context(), false, ""); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
}

// TestLimits has guests who ask too often, open too many connections, and do not read what they asked for.
func TestLimits(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	closed := make(chan string, 100)
	watch := func(c net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- c.RemoteAddr().String()
		}
	}
	s, source := start(t, Options{Clock: clock, watch: watch, Limits: Limits{Burst: 3, PerSecond: 1, Connections: 2, Timeout: 300 * time.Millisecond}})
	source.userData = make([]byte, 32<<20) // more than the kernel takes
	a := namespace(t, "a")
	a.device("ns-a", "10.0.0.2/24")
	one, two := a.guest("ns-a", macOne, "10.0.0.5/24"), a.guest("ns-a", macTwo, "10.0.0.6/24")
	s.must(t, Place{Namespace: a.name, Devices: []string{"ns-a"}, Ports: []Port{one.port("one", "10.0.0.5"), two.port("two", "10.0.0.6")}})
	for range 3 {
		one.is("within the limit", request{}, "one")
	}
	if status, body := one.ask(request{}); status != http.StatusTooManyRequests {
		t.Errorf("beyond the limit: %d %q", status, body)
	}
	two.is("another port", request{}, "two")
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	one.is("after a while", request{}, "one")
	if status, _ := one.ask(request{}); status != http.StatusTooManyRequests {
		t.Errorf("beyond the limit again: %d", status)
	}

	// Two connections that say nothing; the third is closed at once. The silent ones are closed when their time is over.
	var silent []net.Conn
	for range 3 {
		c, err := one.dial(t.Context(), false, "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		silent = append(silent, c)
	}
	for _, i := range []int{2, 0, 1} {
		if n, err := silent[i].Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("connection %d: %d bytes, %v", i, n, err)
		}
	}
	two.is("while others are silent", request{}, "two")

	// Who does not read loses the connection: the end comes before what was asked for is all there.
	c, err := two.dial(t.Context(), false, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /openstack/latest/user_data HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for <-closed != c.LocalAddr().String() {
	}
	if n, err := io.Copy(io.Discard, c); err == nil && n >= int64(len(source.userData)) {
		t.Errorf("%d bytes came to who did not read", n)
	}
}
