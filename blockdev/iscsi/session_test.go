package iscsi

import (
	"fmt"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi/scsitest"
	"compute-agent/internal/golden"
)

// TestSessions reads a host's sessions: one logged in, one by IPv6 whose connection is lost, one of another interface, one that has no connection
// yet.
func TestSessions(t *testing.T) {
	system, _ := scsitest.New(t, "testdata/sessions.txtar")
	c := New(Options{SCSI: system})
	logins, err := c.Sessions()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range logins {
		fmt.Fprintf(&b, "%+v\n", l.Session)
		for _, d := range l.Disks {
			fmt.Fprintf(&b, "    %+v\n", d)
		}
	}
	golden.Assert(t, "testdata/sessions.golden", b.String())

	info := connector.Info{Type: connector.ISCSI, ISCSI: &connector.ISCSIInfo{
		Targets: []connector.ISCSITarget{{Portal: portal1, IQN: "iqn.2024-01.lab:t1", LUN: 300}},
	}}
	for _, l := range logins {
		for _, d := range l.Disks {
			owns, err := c.Owns(info, l.Session, d.Address)
			if want := d.Address.LUN == 300; err != nil || owns != want {
				t.Errorf("%v: %v, %v", d.Address, owns, err)
			}
		}
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct{ portal, iqn, want string }{
		{"192.0.2.1:3260", iqnA, "192.0.2.1:3260 " + iqnA},
		{"192.0.2.1", iqnA, "192.0.2.1:3260 " + iqnA},
		{"[2001:DB8:0::1]:3261", iqnA, "[2001:db8::1]:3261 " + iqnA},
		{"[::ffff:192.0.2.1]:3260", iqnA, "192.0.2.1:3260 " + iqnA},
		{"Array.example:3260", "eui.02004567A425678D", "array.example:3260 eui.02004567A425678D"},
		{"../..:3260", iqnA, `target_portal="../..:3260": it must be an address or a host name, a colon and a port`},
		{"192.0.2.1:0", iqnA, `target_portal="192.0.2.1:0": it must be an address or a host name, a colon and a port`},
		{"fe80::1%eth0", iqnA, `target_portal="fe80::1%eth0": it must be an address or a host name, a colon and a port`},
		{"a,b:3260", iqnA, `target_portal="a,b:3260": it must be an address or a host name, a colon and a port`},
		{"-p:3260", iqnA, `target_portal="-p:3260": it must be an address or a host name, a colon and a port`},
		{"192.0.2.1:3260", "iqn.2026-11.lab:a/../../b", `target_iqn="iqn.2026-11.lab:a/../../b": it must be an iSCSI name: iqn., eui. or naa., and letters, digits, dots, colons and dashes`},
		{"192.0.2.1:3260", "--logout", `target_iqn="--logout": it must be an iSCSI name: iqn., eui. or naa., and letters, digits, dots, colons and dashes`},
	} {
		p, err := newPath(connector.ISCSITarget{Portal: c.portal, IQN: c.iqn}, "default")
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %s: %s\nwant %s", c.portal, c.iqn, got, c.want)
		}
	}
}
