package remote

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
	"compute-agent/internal/target"
)

func nbdInfo(server connector.Address, export string) connector.Info {
	return connector.Info{Type: connector.NBD, NBD: &connector.NBDInfo{Server: server, Export: export}}
}

func TestNBD(t *testing.T) {
	file := target.Blank(t, testSize)
	at := target.StartNBD(t, file, "disk-1")
	server := connector.Address{Host: "127.0.0.1", Port: at.Port}
	c := NBD{Run: command.Exec{}}
	dev, err := c.Connect(t.Context(), nbdInfo(server, "disk-1"), "")
	want := connector.Device{
		Network: &connector.Network{Protocol: "nbd", Name: "disk-1", Hosts: []connector.Address{server}}, Format: "raw", Bytes: testSize,
	}
	if diff := cmp.Diff(want, dev); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	_, err = c.Connect(t.Context(), nbdInfo(server, "another"), "")
	isReason(t, err, connector.NoDevice, "another")

	empty := target.StartNBD(t, target.Blank(t, 0), "none")
	_, err = c.Connect(t.Context(), nbdInfo(connector.Address{Host: "127.0.0.1", Port: empty.Port}, "none"), "")
	isReason(t, err, connector.BadSize, "none")

	nobody, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closed := nobody.Addr().(*net.TCPAddr).Port
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Connect(t.Context(), nbdInfo(connector.Address{Host: "127.0.0.1", Port: closed}, "disk-1"), "")
	isReason(t, err, connector.Unreachable, "data.host")
}

func TestRBD(t *testing.T) {
	monitor, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = monitor.Close() }()
	hosts := []connector.Address{{Host: "127.0.0.1", Port: 1}, {Host: "127.0.0.1", Port: monitor.Addr().(*net.TCPAddr).Port}}
	info := func(change func(*connector.RBDInfo)) connector.Info {
		r := &connector.RBDInfo{Pool: "volumes", Image: "v", Hosts: hosts, User: "cinder"}
		change(r)
		return connector.Info{Type: connector.RBD, RBD: r}
	}
	operator := RBD{User: "nova", Secret: "operator's"}
	for _, c := range []struct {
		name string
		rbd  RBD
		info connector.Info
		want connector.Network
	}{
		{"no authentication", operator, info(func(r *connector.RBDInfo) { r.User = "" }), connector.Network{}},
		{"secret of connection_info", operator, info(func(r *connector.RBDInfo) { r.SecretUUID = "cinder's" }),
			connector.Network{User: "cinder", Usage: "ceph", Secret: "cinder's"}},
		{"keyring: the agent makes the secret", operator, info(func(r *connector.RBDInfo) { r.Keyring = "key = x" }),
			connector.Network{User: "cinder", Usage: "ceph"}},
		{"neither: the operator's", operator, info(func(*connector.RBDInfo) {}), connector.Network{User: "nova", Usage: "ceph", Secret: "operator's"}},
		{"the operator's secret, and no user", RBD{Secret: "s"}, info(func(*connector.RBDInfo) {}), connector.Network{User: "cinder", Usage: "ceph", Secret: "s"}},
	} {
		c.want.Protocol, c.want.Name, c.want.Hosts = "rbd", "volumes/v", hosts
		dev, err := c.rbd.Connect(t.Context(), c.info, "")
		if diff := cmp.Diff(connector.Device{Network: &c.want, Format: "raw"}, dev); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
	}
	_, err = RBD{}.Connect(t.Context(), info(func(*connector.RBDInfo) {}), "")
	isReason(t, err, connector.InvalidInfo, "data.secret_uuid")
	_, err = operator.Connect(t.Context(), info(func(r *connector.RBDInfo) { r.Hosts = hosts[:1] }), "")
	isReason(t, err, connector.Unreachable, "data.hosts", "127.0.0.1:1")
	// Without monitors the hypervisor's own configuration names them.
	if _, err := operator.Connect(t.Context(), info(func(r *connector.RBDInfo) { r.Hosts = nil }), ""); err != nil {
		t.Error(err)
	}
}
