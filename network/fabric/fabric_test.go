package fabric

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/dhcp"
	"compute-agent/network/firewall"
	"compute-agent/network/metadata"

	"golang.org/x/sys/unix"
)

const insideEnv = "FABRIC_TEST_INSIDE"

// TestMain runs the tests in a network namespace: a Fabric works in that of its whole process.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()                                     // the tests end with this thread
	dir, err := os.MkdirTemp("", "compute-agent-test-fabric-") // for all that they would leave when they panic
	if err == nil {
		err = os.Chmod(dir, 0o755) // dnsmasq is not root
	}
	if err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
		os.Exit(1)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1", "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	err = cmd.Run()
	endOrphans()
	_ = os.RemoveAll(dir)
	if err != nil {
		exit, ended := errors.AsType[*exec.ExitError](err)
		if !ended {
			_, _ = io.WriteString(os.Stderr, "these tests make a network namespace, which root can: "+err.Error()+"\n")
			os.Exit(1)
		}
		os.Exit(exit.ExitCode())
	}
}

// endOrphans ends the DHCP servers that tests left because they panicked: they are this process's children since.
func endOrphans() {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// stubbornRunner runs programs, but for those that are to fail.
type stubbornRunner struct {
	mu    sync.Mutex
	fails string            // the beginning of their names; "*" is all
	after func(command.Cmd) // is called when one has run
}

func (r *stubbornRunner) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	r.mu.Lock()
	fails, after := r.fails, r.after
	r.mu.Unlock()
	if fails == "*" || fails != "" && strings.HasPrefix(c.Name, fails) {
		return nil, &command.Error{Program: c.Name, ExitCode: 1, Err: errors.New("refuses, for a test")}
	}
	out, err := command.Exec{}.Run(ctx, c)
	if after != nil {
		after(c)
	}
	return out, err
}

func (r *stubbornRunner) fail(programs string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fails = programs
}

func (r *stubbornRunner) then(after func(command.Cmd)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.after = after
}

// nobodysDocuments answers every port with its ID.
type nobodysDocuments struct{}

func (nobodysDocuments) Documents(_ context.Context, a metadata.Asker) (metadata.Documents, error) {
	return metadata.Documents{Files: map[string][]byte{"openstack/latest/meta_data.json": []byte(a.Port)}}, nil
}

func (nobodysDocuments) KeepPassword(context.Context, metadata.Asker, string) error { return nil }

type site struct {
	*Fabric
	t      testing.TB
	host   network.Host
	runner *stubbornRunner
}

func open(t testing.TB) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "compute-agent-test-fabric-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, host: network.Host{Proc: "/proc", Netns: filepath.Join(dir, "netns")}, runner: &stubbornRunner{}}
	if s.Fabric, err = Open(Options{Host: s.host, Runner: s.runner, Dir: filepath.Join(dir, "dhcp"), Metadata: nobodysDocuments{}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.runner.fail("")
		if err := s.Apply(context.Background(), State{}); err != nil {
			t.Errorf("taking all away: %v", err)
		}
		s.Close()
		if left, err := s.host.Links(context.Background()); err != nil || slices.ContainsFunc(names(left), func(n string) bool { return n != "lo" }) {
			t.Errorf("links are left: %v\n%v", err, left)
		}
		if rules := output(t, "iptables-save"); strings.Contains(rules, "cagent") {
			t.Errorf("rules are left:\n%s", rules)
		}
		_ = syscall.Unmount(s.host.Netns, syscall.MNT_DETACH)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func names(s network.State) (all []string) {
	for name := range s.Links {
		all = append(all, name)
	}
	return all
}

func output(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
	return string(out)
}

const (
	netID  = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	portID = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	tap    = "tapbbbbbbbb-bb"
	bridge = "brqaaaaaaaa-aa"
	dhcpID = "dddddddd-dddd-4ddd-8ddd-dddddddddddd"
	qdhcp  = "qdhcp-" + netID
)

func mac(text string) net.HardwareAddr {
	m, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return m
}

// one is a network with one port, its DHCP server and the metadata service.
func one() State {
	guest, guestIP := mac("fa:16:3e:00:00:05"), netip.MustParseAddr("10.0.0.5")
	serverIP := netip.MustParseAddr("10.0.0.2")
	return State{
		Networks: []network.Network{{ID: netID, Type: network.Local}},
		Ports:    []network.Port{{ID: portID, Network: netID, MAC: guest, VIF: network.VIFTap}},
		Firewall: firewall.State{
			Ports: []firewall.Port{{ID: portID, Device: tap, Bridge: bridge, Zone: 4097, MAC: guest, FixedIPs: []netip.Addr{guestIP}, Groups: []string{"g"},
				DHCPServers: []netip.Addr{serverIP}}},
			Groups: []firewall.Group{{ID: "g", Rules: []firewall.Rule{{ID: "r", Direction: firewall.Egress, Ethertype: firewall.IPv4}}}},
		},
		Namespaces: []network.Namespace{{Name: qdhcp, Devices: []network.Device{{
			Port: dhcpID, Network: netID, Name: "ns-dddddddd-dd", MAC: mac("fa:16:3e:00:00:02"),
			Addresses: []netip.Prefix{netip.PrefixFrom(serverIP, 24), netip.PrefixFrom(metadata.Address4, 32), netip.PrefixFrom(metadata.Address6, 64)},
		}}}},
		DHCP: []dhcp.Server{{Network: netID, Namespace: qdhcp, Device: "ns-dddddddd-dd",
			Subnets: []dhcp.Subnet{{ID: "s", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Server: serverIP, Addresses: true}},
			Hosts:   []dhcp.Host{{Port: portID, MAC: guest, Addresses: []netip.Addr{guestIP}, Name: "host-10-0-0-5"}}}},
		Metadata: []metadata.Place{{Namespace: qdhcp, Devices: []string{"ns-dddddddd-dd"},
			Ports: []metadata.Port{{ID: portID, MAC: guest, Addresses: []netip.Addr{guestIP}}}}},
	}
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// until waits for what a repair brings back.
func (s *site) until(what string, holds func() bool) {
	s.t.Helper()
	for ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second); ; {
		if holds() {
			cancel()
			return
		}
		select {
		case <-ctx.Done():
			cancel()
			s.t.Fatalf("%s: not within 20 s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *site) master(link string) string {
	s.t.Helper()
	have, err := s.host.Links(s.t.Context())
	s.must(err)
	return have.Links[link].Master
}

// askMetadata asks the metadata service as somebody in the DHCP server's namespace.
func (s *site) askMetadata() (status int) {
	s.t.Helper()
	var conn net.Conn
	s.must(s.host.InNamespace(qdhcp, func() (err error) {
		conn, err = net.DialTCP("tcp4", nil, &net.TCPAddr{IP: metadata.Address4.AsSlice(), Port: 80})
		return err
	}))
	defer func() { _ = conn.Close() }()
	_, err := io.WriteString(conn, "GET /openstack/latest/meta_data.json HTTP/1.0\r\n\r\n")
	s.must(err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	s.must(err)
	s.must(answer.Body.Close())
	return answer.StatusCode
}

func (s *site) filtered() bool { return strings.Contains(output(s.t, "iptables-save"), portID) }

func TestApply(t *testing.T) {
	s := open(t)
	for range 2 {
		s.must(s.Apply(t.Context(), one()))
		if s.master(tap) != bridge || !s.filtered() {
			t.Errorf("the port is in %q, filtered %v", s.master(tap), s.filtered())
		}
		if is, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil || string(is) != "1\n" {
			t.Errorf("bridged packets do not pass iptables: %q, %v", is, err)
		}
		if status := s.askMetadata(); status != http.StatusNotFound { // who asks is no port of the network
			t.Errorf("the metadata service answers the DHCP server itself with %d", status)
		}
	}
	servers := func() string { return output(t, "pgrep", "-c", "-f", "dnsmasq.*"+s.opt.Dir) }
	if n := servers(); n != "1\n" {
		t.Errorf("DHCP servers of the network: %s", n)
	}
}

func TestWhatOthersDoIsPutRight(t *testing.T) {
	s := open(t)
	s.must(s.Apply(t.Context(), one()))
	output(t, "iptables", "-F")
	output(t, "nft", "delete", "table", "bridge", "cagent")
	s.until("the rules are back", func() bool {
		return strings.Contains(output(t, "iptables-save"), "-A FORWARD -j cagent-") && strings.Contains(output(t, "nft", "list", "tables"), "bridge cagent")
	})
	output(t, "ip", "link", "del", tap)
	s.until("the tap is back in its bridge", func() bool { return s.master(tap) == bridge })
	if links, filters, _ := s.Repairs(); links == 0 || filters == 0 {
		t.Errorf("repairs that were counted: %d of links, %d of filters", links, filters)
	}
}

func TestPortWithoutFilterIsNotPluggedIn(t *testing.T) {
	s := open(t)
	for _, program := range []string{"iptables", "ip6tables", "nft"} {
		s.runner.fail(program)
		err := s.Apply(t.Context(), one())
		if ports := PortErrors(err); len(ports) != 1 || ports[0].Port != portID {
			t.Errorf("%s refuses: error %v", program, err)
		}
		if in := s.master(tap); in != "" {
			t.Errorf("%s refuses, and the port is in %s", program, in)
		}
	}
	s.runner.fail("")
	s.must(s.Apply(t.Context(), one()))
	if s.master(tap) != bridge {
		t.Error("the port is not plugged in when it can be filtered")
	}
}

func TestPortThatMakesNoSenseLeavesTheOthers(t *testing.T) {
	s := open(t)
	want := one()
	bad := want.Firewall.Ports[0]
	bad.ID, bad.Device, bad.Groups = "bad", "tapbad", []string{"no such group"}
	want.Firewall.Ports = append(want.Firewall.Ports, bad)
	want.Ports = append(want.Ports, network.Port{ID: "bad", Network: netID, MAC: bad.MAC, VIF: network.VIFTap})
	err := s.Apply(t.Context(), want)
	if ports := PortErrors(err); len(ports) != 1 || ports[0].Port != "bad" {
		t.Errorf("error %v", err)
	}
	if s.master(tap) != bridge || s.master("tapbad") != "" {
		t.Errorf("the good port is in %q, the bad one in %q", s.master(tap), s.master("tapbad"))
	}
}

func TestNameOfSomebodyElse(t *testing.T) {
	s := open(t)
	output(t, "ip", "link", "add", bridge, "type", "bridge")
	err := s.Apply(t.Context(), one())
	if ports := PortErrors(err); len(ports) != 1 || !errors.Is(err, network.ErrTaken) {
		t.Errorf("error %v", err)
	}
	output(t, "ip", "link", "del", bridge)
	s.must(s.Apply(t.Context(), one()))
	if s.master(tap) != bridge {
		t.Error("the port is not plugged in when the name is free")
	}
}

// The next agent takes over what one has left, also in the middle.
func TestNextAgent(t *testing.T) {
	s := open(t)
	s.must(s.Apply(t.Context(), one()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Apply(ctx, State{}) // which ends at once
	first := s.Fabric
	if _, err := Open(first.opt); !errors.Is(err, ErrServed) {
		t.Errorf("a second agent beside the first: error %v", err)
	}
	first.Close()
	next, err := Open(first.opt)
	s.must(err)
	s.Fabric = next
	s.must(s.Apply(t.Context(), one()))
	if s.master(tap) != bridge || !s.filtered() {
		t.Errorf("the port is in %q, filtered %v", s.master(tap), s.filtered())
	}
}
