package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"compute-agent/internal/command"
	"compute-agent/internal/golden"

	"golang.org/x/sys/unix"
)

// openSwitch runs Open vSwitch in the thread's namespace, with the bridges br-int and br-ex in user space, and returns a Host that
// speaks to it.
func openSwitch(t testing.TB) Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovs") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, db := filepath.Join(dir, "db.sock"), filepath.Join(dir, "conf.db")
	run(t, "ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema")
	daemon := func(name string, args ...string) {
		c := exec.Command(name, append(args, "--unixctl="+filepath.Join(dir, name+".ctl"), "--pidfile="+filepath.Join(dir, name+".pid"))...)
		c.Env = append(os.Environ(), "OVS_RUNDIR="+dir)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it ends with the test's thread, whatever ends that
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	}
	daemon("ovsdb-server", db, "--remote=punix:"+socket)
	h := testHost
	h.Run, h.Switch = command.Exec{}, socket
	if _, err := h.vsctl(t.Context(), "--retry", "--no-wait", "init"); err != nil {
		t.Fatal(err)
	}
	daemon("ovs-vswitchd", "unix:"+socket)
	for _, bridge := range []string{"br-int", "br-ex"} {
		if _, err := h.vsctl(t.Context(), "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev"); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// vsctl is what ovs-vsctl prints.
func vsctl(t testing.TB, h Host, args ...string) string {
	t.Helper()
	out, err := h.vsctl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestHostSwitch: Open vSwitch has each port as Neutron's agent wants it; frames pass from one guest to another, directly and by way
// of a bridge; what others plugged in stays.
func TestHostSwitch(t *testing.T) {
	inNamespace(t)
	h := openSwitch(t)
	ip(t, "tuntap", "add", "tapother", "mode", "tap")
	vsctl(t, h, "add-port", "br-int", "tapother", "--", "set", "Interface", "tapother", "external_ids:iface-id=other")
	ports := []Port{
		{ID: one, MAC: mac(1), VIF: VIFOVS, Server: netA},
		{ID: two, MAC: mac(2), VIF: VIFOVS, Hybrid: true, MTU: 1450},
		{ID: tri, MAC: mac(3), VIF: VIFVHostUser, Socket: "/run/vhost/3", MTU: 9000, Bridge: "br-ex"},
	}
	applied(t, h, mustWant(t, nil, ports))
	direct, hybrid, socket := TapName(one), "qvo"+two[:11], "vhu"+tri[:11]
	for _, c := range []struct{ got, want string }{
		{vsctl(t, h, "iface-to-br", direct), "br-int"},
		{vsctl(t, h, "get", "Interface", direct, "external_ids"),
			`{attached-mac="fa:16:3e:00:00:01", compute-agent="` + one + `", iface-id="` + one + `", iface-status=active, vm-uuid="` + netA + `"}`},
		{vsctl(t, h, "get", "Interface", hybrid, "external_ids:attached-mac"), `"fa:16:3e:00:00:02"`},
		{vsctl(t, h, "iface-to-br", socket), "br-ex"},
		{vsctl(t, h, "get", "Interface", socket, "type", "options", "mtu_request"), "dpdkvhostuserclient\n{vhost-server-path=\"/run/vhost/3\"}\n9000"},
	} {
		if c.got != c.want {
			t.Errorf("it has %s\nwant   %s", c.got, c.want)
		}
	}
	text := ip(t, "-d", "link", "show", "dev", HybridBridgeName(two))
	for _, part := range []string{"mtu 1450", "ageing_time 0 ", "mcast_snooping 0 ", "stp_state 0", "forward_delay 0"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
	from, endFrom := openTap(t, direct)
	defer endFrom()
	to, endTo := openTap(t, TapName(two))
	defer endTo()
	for arrived := false; !arrived; { // Open vSwitch does it in its own time
		if _, err := unix.Write(from, append(make([]byte, vnetHeader), frame(0x88b5, make([]byte, 50))...)); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}}, 50); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		arrived = len(waiting(t, to, vnetHeader)) > 0
	}
	ports[0].Server, ports[0].Bridge, ports[2].MTU, ports[1].MAC = "", "br-ex", 0, mac(4)
	applied(t, h, mustWant(t, nil, ports))
	for _, c := range []struct{ got, want string }{
		{vsctl(t, h, "iface-to-br", direct), "br-ex"},
		{vsctl(t, h, "--if-exists", "get", "Interface", direct, "external_ids:vm-uuid"), ""},
		{vsctl(t, h, "get", "Interface", socket, "mtu_request"), "[]"},
		{vsctl(t, h, "get", "Interface", hybrid, "external_ids:attached-mac"), `"fa:16:3e:00:00:04"`},
	} {
		if c.got != c.want {
			t.Errorf("it has %s\nwant   %s", c.got, c.want)
		}
	}
	vsctl(t, h, "del-port", hybrid)
	ip(t, "link", "del", "qvb"+two[:11])
	applied(t, h, mustWant(t, nil, ports))
	if got := vsctl(t, h, "iface-to-br", hybrid); got != "br-int" {
		t.Errorf("what was taken out by hand is in %q", got)
	}
	applied(t, h, State{})
	if got := vsctl(t, h, "list-ports", "br-int") + vsctl(t, h, "list-ports", "br-ex"); got != "tapother" {
		t.Errorf("left are %s", got)
	}
}

// TestHostSwitchLimits: what Open vSwitch takes away of a link's limits, when it takes the link or hears that it changed, is there again
// when Apply has ended.
func TestHostSwitchLimits(t *testing.T) {
	inNamespace(t)
	h := openSwitch(t)
	port := Port{ID: one, MAC: mac(1), VIF: VIFOVS, QoS: QoS{ToGuest: Rate{Kbit: 100}, SetDSCP: true, DSCP: 46}}
	for i := range 8 {
		port.Bridge = []string{"br-int", "br-ex"}[i/2%2]
		port.MTU, port.MAC = 1400+i%2, mac(byte(i))
		want := mustWant(t, nil, []Port{port})
		applied(t, h, want)
		vsctl(t, h, "set", "Interface", TapName(one), fmt.Sprintf("external_ids:test=%d", i)) // a change that it has to heed
		if made, err := apply(t.Context(), h, want); err != nil || len(made) > 0 {
			t.Errorf("step %d: a moment later it lacks %v, %v", i, made, err)
		}
	}
	if ids := vsctl(t, h, "get", "Interface", TapName(one), "external_ids"); strings.Contains(ids, calmKey) {
		t.Errorf("left is %s", ids)
	}
}

// TestHostSwitchTaken: a device that somebody else plugged in stays where it is.
func TestHostSwitchTaken(t *testing.T) {
	inNamespace(t)
	h := openSwitch(t)
	vsctl(t, h, "add-port", "br-ex", TapName(one))
	want := mustWant(t, nil, []Port{{ID: one, MAC: mac(1), VIF: VIFOVS}, {ID: two, MAC: mac(2), VIF: VIFOVS, Bridge: "br-none"}})
	err := Apply(t.Context(), h, want)
	for _, says := range []string{"name is taken: in br-ex, and not by the agent", "no bridge named br-none"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("it says %v, not %s", err, says)
		}
	}
	if err := Apply(t.Context(), h, State{}); err != nil {
		t.Error(err)
	}
	if got := vsctl(t, h, "list-ports", "br-ex"); got != TapName(one) {
		t.Errorf("left are %s", got)
	}
}

// TestHostNoSwitch: without Open vSwitch its ports are told of, each by itself, and all else is done.
func TestHostNoSwitch(t *testing.T) {
	inNamespace(t)
	for _, h := range []Host{{}, {Run: command.Exec{}, Switch: "/nonexistent/db.sock"}} {
		want := mustWant(t, []Network{{ID: netA, Type: Local}}, []Port{
			{ID: one, MAC: mac(1), VIF: VIFOVS}, {ID: two, MAC: mac(2), VIF: VIFOVS, Hybrid: true}, {ID: tri, Network: netA, MAC: mac(3), VIF: VIFTap},
		})
		err := Apply(t.Context(), h, want)
		for _, says := range []string{TapName(one) + ": port " + one + ": no Open vSwitch: ", "qvo22222222-22: port " + two + ": no Open vSwitch: "} {
			if !errors.Is(err, ErrNoSwitch) || !strings.Contains(err.Error(), says) {
				t.Errorf("it says %v", err)
			}
		}
		have, err := h.Links(t.Context())
		if err != nil || have.Links[TapName(tri)].Master != BridgeName(netA) {
			t.Errorf("the other port is not there: %v\n%s", err, have)
		}
		applied(t, h, State{})
	}
}

// TestParseSwitch reads what ovs-vsctl says of each kind of value, and refuses what it never says.
func TestParseSwitch(t *testing.T) {
	text, err := os.ReadFile("testdata/ovs-vsctl.json")
	if err != nil {
		t.Fatal(err)
	}
	ports, err := parseSwitch(text)
	if err != nil {
		t.Fatal(err)
	}
	golden.Assert(t, "testdata/ovs-vsctl.txt", State{Switched: ports}.String())
	for _, bad := range []string{
		``, `{}`, `[]`, `{"headings":["name"],"data":[["a","b"]]} {} {}`, `{"headings":["name"],"data":[[["what",1]]]} {} {}`,
		`{"headings":["name"],"data":[[["map",[1]]]]} {} {}`, `{"headings":["name"],"data":[[[]]]} {} {}`, `{"headings":["name"],"data":[[["uuid",1]]]} {} {}`,
	} {
		if got, err := parseSwitch([]byte(bad)); err == nil {
			t.Errorf("%s is read as %v", bad, got)
		}
	}
}
