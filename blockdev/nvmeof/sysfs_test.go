package nvmeof

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/golden"
)

// plant makes a tree of files of a description: "file = contents", "link -> target", "directory/".
func plant(t testing.TB, root, description string) {
	t.Helper()
	for line := range strings.Lines(description) {
		line = strings.TrimSuffix(line, "\n")
		file, text, isFile := strings.Cut(line, " =")
		link, target, isLink := strings.Cut(line, " -> ")
		var err error
		switch {
		case strings.HasPrefix(line, "#") || line == "":
			continue
		case isLink:
			link = filepath.Join(root, link)
			err = errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(target, link))
		case isFile:
			file = filepath.Join(root, file)
			err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(strings.TrimPrefix(text, " ")+"\n"), 0o644))
		default:
			err = os.MkdirAll(filepath.Join(root, line), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func fixture(t testing.TB, name string) *Connector {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".sys"))
	if err != nil {
		t.Fatal(err)
	}
	sys := t.TempDir()
	plant(t, sys, string(data))
	return &Connector{System: scsi.System{Sys: sys}, Run: t.TempDir()}
}

func TestControllers(t *testing.T) {
	for _, name := range []string{"multipath", "single", "fc", "stale"} {
		t.Run(name, func(t *testing.T) {
			c := fixture(t, name)
			found, err := c.Controllers()
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			fmt.Fprintf(&out, "native multipath: %t\nports: %v\n", NativeMultipath(c.System.Sys), fcPorts(c.System.Sys))
			for _, k := range found {
				fmt.Fprintf(&out, "%s %s [%s] host %q from %q: %s, ending %t\n", k.Name, k.portal(), k.NQN, k.HostNQN, k.HostAddr, k.State, k.ending())
				for _, n := range k.Spaces {
					fmt.Fprintf(&out, "    %s of %s: %d uuid %q nguid %q identity %q ana %q usable %t\n", n.Path, n.Disk, n.NSID, n.UUID, n.NGUID, n.Identity, n.ANA, n.usable())
				}
			}
			golden.Assert(t, filepath.Join("testdata", name+".golden"), out.String())
		})
	}
}

func TestNoNVMe(t *testing.T) {
	c := &Connector{System: scsi.System{Sys: t.TempDir()}}
	if found, err := c.Controllers(); err != nil || found != nil || NativeMultipath(c.System.Sys) {
		t.Errorf("%v, %v", found, err)
	}
}

func TestMatches(t *testing.T) {
	n := Namespace{NSID: 7, UUID: "6e766d65-0000-4000-8000-000000000002", NGUID: "5a7c1d22-9e0f-4b66-8000-00a098123456"}
	for _, c := range []struct {
		info connector.NVMeInfo
		want bool
	}{
		{connector.NVMeInfo{}, true},
		{connector.NVMeInfo{NSID: 7}, true},
		{connector.NVMeInfo{NSID: 8}, false},
		{connector.NVMeInfo{UUID: strings.ToUpper(n.UUID)}, true},
		{connector.NVMeInfo{UUID: n.NGUID, NGUID: n.NGUID, NSID: 7}, false}, // the UUID counts
		{connector.NVMeInfo{NGUID: n.NGUID, NSID: 8}, true},                 // the NGUID counts
		{connector.NVMeInfo{NGUID: n.UUID, NSID: 7}, false},
	} {
		if got := n.matches(c.info); got != c.want {
			t.Errorf("%+v: %t", c.info, got)
		}
	}
}

func TestLeads(t *testing.T) {
	tcp := func(address string, port int) portal {
		return portal{connector.NVMePortal{Transport: "tcp", Address: address, Port: port}, ""}
	}
	v6 := Controller{Transport: "tcp", Address: "2001:db8:0::7", Service: "4420"}
	fc := Controller{Transport: "fc", Address: "nn-0x1:pn-0x2", HostAddr: "nn-0x3:pn-0x4"}
	for _, c := range []struct {
		controller Controller
		portal     portal
		want       bool
	}{
		{v6, tcp("2001:db8::7", 4420), true},
		{v6, tcp("2001:db8::7", 4421), false},
		{v6, tcp("2001:db8::8", 4420), false},
		{v6, portal{connector.NVMePortal{Transport: "rdma", Address: "2001:db8::7", Port: 4420}, ""}, false},
		{fc, portal{connector.NVMePortal{Transport: "fc", Address: "NN-0x1:pn-0x2"}, "nn-0x3:pn-0x4"}, true},
		{fc, portal{connector.NVMePortal{Transport: "fc", Address: "nn-0x1:pn-0x2"}, "nn-0x3:pn-0x5"}, false},
	} {
		if got := c.controller.leads(c.portal); got != c.want {
			t.Errorf("%+v, %+v: %t", c.controller, c.portal, got)
		}
	}
}

func TestLine(t *testing.T) {
	s := subsystem{"nqn.2026-11.example:a", HostID{"nqn.2026-11.example:host", "01234567-89ab-4cde-8f01-23456789abcd"}}
	tcp := portal{connector.NVMePortal{Transport: "tcp", Address: "2001:db8::7", Port: 4420}, ""}
	fc := portal{connector.NVMePortal{Transport: "fc", Address: "nn-0x1:pn-0x2"}, "nn-0x3:pn-0x4"}
	got := []string{Defaults.line(s, tcp), Options{FastIOFail: 1}.line(s, fc)}
	want := []string{
		"nqn=nqn.2026-11.example:a,transport=tcp,traddr=2001:db8::7,trsvcid=4420,hostnqn=nqn.2026-11.example:host,hostid=01234567-89ab-4cde-8f01-23456789abcd," +
			"queue_size=128,keep_alive_tmo=5,reconnect_delay=10,ctrl_loss_tmo=-1",
		"nqn=nqn.2026-11.example:a,transport=fc,traddr=nn-0x1:pn-0x2,host_traddr=nn-0x3:pn-0x4,hostnqn=nqn.2026-11.example:host,hostid=01234567-89ab-4cde-8f01-23456789abcd," +
			"fast_io_fail_tmo=1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// FuzzControllers: what a subsystem says of itself is read as it is, and leads to no panic and to no file elsewhere.
func FuzzControllers(f *testing.F) {
	f.Add("traddr=127.0.0.1,trsvcid=4420", "nqn.2026-11.example:a", "uuid.1", "7")
	f.Add(",,=,traddr", "", "\x00\n", "-1")
	f.Fuzz(func(t *testing.T, address, nqn, wwid, nsid string) {
		dir := filepath.Join(t.TempDir(), "nvme0")
		for file, text := range map[string]string{"address": address, "subsysnqn": nqn, "state": "live", "transport": "tcp", "nvme0n1/wwid": wwid, "nvme0n1/nsid": nsid} {
			file = filepath.Join(dir, file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		k, err := readController(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range k.Spaces {
			if strings.ContainsAny(string(n.Identity), "\n\t") || n.Disk != "nvme0n1" {
				t.Errorf("%+v", n)
			}
		}
		_ = k.asPortal().key()
	})
}
