package libvirt

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// TestConsolesOfDomain reads devices as libvirt describes those of running guests.
func TestConsolesOfDomain(t *testing.T) {
	vnc := func(network, address string) virt.Console {
		return virt.Console{Type: virt.ConsoleVNC, Network: network, Address: address}
	}
	serial := func(port int, network, address string) virt.Console {
		return virt.Console{Type: virt.ConsoleSerial, Port: port, Network: network, Address: address}
	}
	for name, c := range map[string]struct {
		devices string
		want    []virt.Console
	}{
		"none": {"", nil},
		"a screen": {`<graphics type='vnc' port='5901' autoport='yes' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>`,
			[]virt.Console{vnc("tcp", "127.0.0.1:5901")}},
		"a screen everywhere": {`<graphics type='vnc' port='5901' listen='0.0.0.0'><listen type='address' address='0.0.0.0'/></graphics>`,
			[]virt.Console{vnc("tcp", "127.0.0.1:5901")}},
		"a screen everywhere, IPv6": {`<graphics type='vnc' port='5901' listen='::'/>`, []virt.Console{vnc("tcp", "[::1]:5901")}},
		"a screen on a network": {`<graphics type='vnc' port='5902'><listen type='network' network='x' address='10.0.0.1'/></graphics>`,
			[]virt.Console{vnc("tcp", "10.0.0.1:5902")}},
		"a screen on a socket": {`<graphics type='vnc' socket='/run/v'><listen type='socket' socket='/run/v'/></graphics>`, []virt.Console{vnc("unix", "/run/v")}},
		"a screen not yet":     {`<graphics type='vnc' port='-1' autoport='yes'/>`, nil},
		"SPICE": {`<graphics type='spice' port='5900' tlsPort='5903' listen='10.0.0.1'><listen type='address' address='10.0.0.1'/></graphics>`,
			[]virt.Console{{Type: virt.ConsoleSPICE, Network: "tcp", Address: "10.0.0.1:5900", TLSAddress: "10.0.0.1:5903"}}},
		"SPICE over TLS alone": {`<graphics type='spice' tlsPort='5903' listen='10.0.0.1'/>`,
			[]virt.Console{{Type: virt.ConsoleSPICE, TLSAddress: "10.0.0.1:5903"}}},
		"SPICE on a socket": {`<graphics type='spice'><listen type='socket' socket='/run/s'/></graphics>`,
			[]virt.Console{{Type: virt.ConsoleSPICE, Network: "unix", Address: "/run/s"}}},
		"SPICE without a port": {`<graphics type='spice' port='-1' tlsPort='-1'/>`, nil},
		"serial ports, in their own order": {`<serial type='pty'><source path='/dev/pts/1'/></serial>
			<serial type='unix'><source mode='bind' path='/run/0'/></serial><serial type='tcp'><source mode='bind' host='127.0.0.1' service='10000'/></serial>`,
			[]virt.Console{serial(0, "unix", "/run/0"), serial(1, "tcp", "127.0.0.1:10000")}},
		"serial ports that connect": {`<serial type='unix'><source mode='connect' path='/run/0'/></serial>
			<serial type='tcp'><source mode='connect' host='10.0.0.1' service='22'/></serial><serial type='tcp'><source mode='bind' host='::' service='0'/></serial>`, nil},
		"all, in the order of the contract": {`<serial type='unix'><source mode='bind' path='/run/0'/></serial>
			<graphics type='spice' port='5900' listen='::1'/><graphics type='vnc' port='5901' listen='::1'/>`,
			[]virt.Console{vnc("tcp", "[::1]:5901"), {Type: virt.ConsoleSPICE, Network: "tcp", Address: "[::1]:5900"}, serial(0, "unix", "/run/0")}},
	} {
		var domain libvirtxml.Domain
		must(t, domain.Unmarshal("<domain type='qemu' id='1'><devices>"+c.devices+"</devices></domain>"))
		if diff := cmp.Diff(c.want, Consoles(&domain)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
