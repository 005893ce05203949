package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
	"compute-agent/internal/target"
)

const (
	testIQN   = "iqn.2026-01.org.example:volumes"
	testHost  = "iqn.2026-01.org.example:host"
	testSize  = 8 << 20
	rightWord = "the right password"
)

func iscsiInfo(portal string, lun int, auth *connector.CHAP) connector.Info {
	return connector.Info{Type: connector.ISCSI, ISCSI: &connector.ISCSIInfo{
		Targets: []connector.ISCSITarget{{Portal: portal, IQN: testIQN, LUN: lun}}, Auth: auth,
	}}
}

func chap(password string) *connector.CHAP {
	return &connector.CHAP{Method: "CHAP", User: "reader", Password: connector.Secret(password)}
}

func addressOf(t *testing.T, portal string) connector.Address {
	t.Helper()
	host, port, err := net.SplitHostPort(portal)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return connector.Address{Host: host, Port: n}
}

func isReason(t *testing.T, err error, reason connector.Reason, says ...string) {
	t.Helper()
	var e *connector.Error
	if !errors.As(err, &e) || e.Reason != reason {
		t.Errorf("got %v; want the reason %s", err, reason)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

// TestISCSI is a volume's whole life at a real target with a password.
func TestISCSI(t *testing.T) {
	s := target.StartISCSI(t)
	file := target.Blank(t, testSize)
	s.Add(t, target.LUN{IQN: testIQN, Number: 1, File: file, SCSIID: "volume-1", Serial: "0001"})
	s.Login(t, testIQN, "reader", rightWord)
	c := ISCSI{Run: command.Exec{}, Initiator: testHost}
	info := iscsiInfo(s.Portal, 1, chap(rightWord))

	dev, err := c.Connect(t.Context(), info, "")
	if err != nil {
		t.Fatal(err)
	}
	want := connector.Device{
		Network: &connector.Network{
			Protocol: "iscsi", Name: testIQN + "/1", Hosts: []connector.Address{addressOf(t, s.Portal)},
			User: "reader", Usage: "iscsi", Initiator: testHost,
		},
		Format: "raw", Identity: "t10.volume-1", Bytes: testSize,
	}
	if diff := cmp.Diff(want, dev); diff != "" {
		t.Errorf("device (-want +got):\n%s", diff)
	}
	if list := s.Sessions(t); len(list) != 0 {
		t.Errorf("sessions are left: %v", list)
	}
	again, err := c.Connect(t.Context(), info, dev.Identity)
	if err != nil || again.Identity != dev.Identity {
		t.Errorf("a second time: %+v, %v", again, err)
	}

	bigger := target.Blank(t, 2*testSize)
	s.Remove(t, testIQN, 1)
	s.Add(t, target.LUN{IQN: testIQN, Number: 1, File: bigger, SCSIID: "volume-1", Serial: "0001"})
	grown, err := c.Extend(t.Context(), info, dev)
	if err != nil || grown.Bytes != 2*testSize || grown.Network != dev.Network {
		t.Errorf("extended: %+v, %v", grown, err)
	}

	s.Remove(t, testIQN, 1)
	s.Add(t, target.LUN{IQN: testIQN, Number: 1, File: bigger, SCSIID: "volume-2", Serial: "0002"})
	_, err = c.Connect(t.Context(), info, dev.Identity)
	isReason(t, err, connector.IdentityMismatch, "t10.volume-1", "t10.volume-2")
	_, err = c.Extend(t.Context(), info, dev)
	isReason(t, err, connector.IdentityMismatch)
	if err := c.Disconnect(t.Context(), info, dev); err != nil {
		t.Error(err)
	}
	isReason(t, c.Disconnect(t.Context(), info, connector.Device{Path: "/dev/sdx"}), connector.Unsupported, "/dev/sdx")
}

func TestISCSIRefusals(t *testing.T) {
	s := target.StartISCSI(t)
	s.Add(t, target.LUN{IQN: testIQN, Number: 1, File: target.Blank(t, testSize)})
	s.Login(t, testIQN, "reader", rightWord)
	c := ISCSI{Run: command.Exec{}, Initiator: testHost}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	const wrong = "a wrong password"
	multipath := iscsiInfo(s.Portal, 1, chap(rightWord))
	multipath.EnforceMultipath = true
	iser := iscsiInfo(s.Portal, 1, nil)
	iser.Type = connector.ISER
	other := iscsiInfo(s.Portal, 1, chap(rightWord))
	other.ISCSI.Targets[0].IQN = testIQN + ":other"
	for _, c2 := range []struct {
		name   string
		info   connector.Info
		reason connector.Reason
		says   string
	}{
		{"wrong password", iscsiInfo(s.Portal, 1, chap(wrong)), connector.AuthFailed, `data.auth_username="reader"`},
		{"no password", iscsiInfo(s.Portal, 1, nil), connector.AuthFailed, "data.auth_method"},
		{"LUN not there", iscsiInfo(s.Portal, 2, chap(rightWord)), connector.NoDevice, `data.target_lun="2"`},
		{"LUN above 255 not there", iscsiInfo(s.Portal, 300, chap(rightWord)), connector.NoDevice, `data.target_lun="300"`},
		{"LUN is the target's controller", iscsiInfo(s.Portal, 0, chap(rightWord)), connector.NoDevice, "no disk"},
		{"target not there", other, connector.NoDevice, testIQN + ":other"},
		{"portal does not answer", iscsiInfo(closed, 1, nil), connector.Unreachable, closed},
		{"multipath", multipath, connector.NoMultipath, "one path"},
		{"iSER", iser, connector.Unsupported, "iSER"},
	} {
		t.Run(c2.name, func(t *testing.T) {
			_, err := c.Connect(t.Context(), c2.info, "")
			isReason(t, err, c2.reason, c2.says)
			for _, password := range []string{wrong, rightWord} {
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), password) {
					t.Errorf("a password is shown: %v", err)
				}
			}
		})
	}
	if list := s.Sessions(t); len(list) != 0 {
		t.Errorf("sessions are left: %v", list)
	}
}

// TestISCSITakesThePortalThatAnswers: one that is dead holds up nothing, and one that accepts and says nothing is bounded.
func TestISCSITakesThePortalThatAnswers(t *testing.T) {
	s := target.StartISCSI(t)
	s.Add(t, target.LUN{IQN: testIQN, Number: 1, File: target.Blank(t, testSize)})
	dead := connector.ISCSITarget{Portal: "192.0.2.1:3260", IQN: testIQN, LUN: 1}
	info := iscsiInfo(s.Portal, 1, nil)
	info.ISCSI.Targets = []connector.ISCSITarget{dead, info.ISCSI.Targets[0]}
	c := ISCSI{Run: command.Exec{}, Initiator: testHost, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == dead.Portal {
			<-ctx.Done() // as where packets are dropped
			return nil, ctx.Err()
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	dev, err := c.Connect(t.Context(), info, "")
	if err != nil || dev.Network.Hosts[0] != addressOf(t, s.Portal) {
		t.Errorf("got %+v, %v", dev, err)
	}

	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	asked := false
	c.Run = runner(func(ctx context.Context, cmd command.Cmd) ([]byte, error) {
		asked = true
		cancel()
		return command.Exec{}.Run(ctx, cmd)
	})
	if _, err := c.Connect(ctx, iscsiInfo(mute.Addr().String(), 1, nil), ""); !errors.Is(err, context.Canceled) || !asked {
		t.Errorf("got %v; want the caller's own end", err)
	}
	c.Run = runner(func(ctx context.Context, cmd command.Cmd) ([]byte, error) {
		return nil, &command.Error{Program: cmd.Name, ExitCode: -1, Err: context.DeadlineExceeded}
	})
	_, err = c.Connect(t.Context(), iscsiInfo(mute.Addr().String(), 1, nil), "")
	isReason(t, err, connector.Unreachable, "does not answer within")
}

type runner func(context.Context, command.Cmd) ([]byte, error)

func (r runner) Run(ctx context.Context, c command.Cmd) ([]byte, error) { return r(ctx, c) }

// TestISCSIPasswordIsInNoArgument looks at what is run.
func TestISCSIPasswordIsInNoArgument(t *testing.T) {
	s := target.StartISCSI(t)
	s.Add(t, target.LUN{IQN: testIQN, Number: 1, File: target.Blank(t, testSize)})
	var seen []string
	c := ISCSI{Initiator: testHost, Run: runner(func(ctx context.Context, cmd command.Cmd) ([]byte, error) {
		seen = append(seen, cmd.Name+" "+strings.Join(cmd.Args, " "))
		return command.Exec{}.Run(ctx, cmd)
	})}
	if _, err := c.Connect(t.Context(), iscsiInfo(s.Portal, 1, chap(rightWord)), ""); err != nil {
		t.Fatal(err)
	}
	if len(seen) == 0 || strings.Contains(strings.Join(seen, "\n"), rightWord) {
		t.Errorf("ran %q", seen)
	}
}

// TestISCSIWithoutDesignators: a disk whose page 83h names nobody, or that has none, is known by its serial number.
func TestISCSIWithoutDesignators(t *testing.T) {
	const head = "Peripheral Qualifier:CONNECTED\nPeripheral Device Type:DIRECT_ACCESS\n"
	missing := &command.Error{Program: "iscsi-inq", ExitCode: 10, Err: errors.New("exit status 10"), Stderr: "Inquiry command failed : SENSE KEY:ILLEGAL_REQUEST(5) ASCQ:INVALID_FIELD_IN_CDB(0x2400)"}
	broken := &command.Error{Program: "iscsi-inq", ExitCode: 10, Err: errors.New("exit status 10"), Stderr: "Inquiry command failed : TRANSPORT ERROR"}
	for _, c := range []struct {
		name               string
		designators        string
		noPage83, noPage80 error
		want               connector.Identity
		reason             connector.Reason
	}{
		{"names nobody", head, nil, nil, "serial.TST VIRTUAL-DISK abc1", ""},
		{"no such page", "", missing, nil, "serial.TST VIRTUAL-DISK abc1", ""},
		{"neither", "", missing, missing, "", ""},
		{"the target breaks off", "", broken, nil, "", connector.Unreachable},
		{"and later", "", missing, broken, "", connector.Unreachable},
	} {
		u := unit{target: connector.ISCSITarget{Portal: "192.0.2.1:3260", IQN: testIQN, LUN: 1}, number: 1}
		u.Run = runner(func(_ context.Context, cmd command.Cmd) ([]byte, error) {
			switch line := strings.Join(cmd.Args, " "); {
			case strings.Contains(line, "--pagecode=131"):
				return []byte(c.designators), c.noPage83
			case strings.Contains(line, "--pagecode=128"):
				return []byte("Unit Serial Number:[                abc1]\n"), c.noPage80
			}
			return []byte(head + "Vendor:TST     \nProduct:VIRTUAL-DISK    \n"), nil
		})
		got, err := u.identity(t.Context())
		if c.reason != "" {
			isReason(t, err, c.reason)
		} else if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

// page is what iscsi-inq prints of one designator.
func page(association, kind int, value string) string {
	return fmt.Sprintf("DEVICE DESIGNATOR #0\nCode Set:(1) BINARY\nPIV:0\nAssociation:(%d) LOGICAL_UNIT\nDesignator Type:(%d) X\nDesignator:[%s]\n", association, kind, value)
}

func TestBestDesignator(t *testing.T) {
	const head = "Peripheral Qualifier:CONNECTED\nPeripheral Device Type:DIRECT_ACCESS\nPage Code:(0x83) DEVICE_IDENTIFICATION\n"
	naa6 := "\x60\x01\x40\x51\x23\x45\x67]\n\x90\x12\x34\x56\x78\x9a\xbc"
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"no designator", head, ""},
		{"NAA before all", head + page(0, 1, "LIO-ORG x") + page(0, 3, naa6) + page(0, 2, "12345678"), "naa.60014051234567" + "5d0a" + "90123456789abc"},
		{"NAA with a zero byte is cut off by the program", head + page(0, 3, "\x60\x01") + page(0, 1, "IET     00010001"), "t10.IET 00010001"},
		{"NAA of 8 bytes", head + page(0, 3, "\x50\x01\x40\x51\x23\x45\x67\x89"), "naa.5001405123456789"},
		{"EUI", head + page(0, 1, "t") + page(0, 2, "\x11\x22\x33\x44\x55\x66\x77\x88"), "eui.1122334455667788"},
		{"of the port, not the LUN", head + page(1, 3, naa6) + page(2, 1, "target"), ""},
		{"T10 of control characters", head + page(0, 1, "\x01\x02"), ""},
		{"names of other kinds", head + page(0, 8, "iqn.2026-01.a:b") + page(0, 0, "vendor"), ""},
		{"T10 that looks like the next designator is cut off", head + page(0, 1, "x]\nDEVICE DESIGNATOR #7\nCode Set:(1) BINARY"), "t10.x"},
	} {
		if got := bestDesignator(c.text); string(got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// FuzzBestDesignator: whatever a disk says, its identity is a short printable line.
func FuzzBestDesignator(f *testing.F) {
	f.Add(page(0, 1, "IET     00010001"))
	f.Fuzz(func(t *testing.T, text string) {
		id := bestDesignator(text)
		if len(id) > longest+4 || strings.ContainsFunc(string(id), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("identity %q", id)
		}
	})
}

func TestEncodedLUN(t *testing.T) {
	for _, c := range []struct {
		lun  int
		mode string
		want int
	}{
		{5, "", 5}, {300, "", 300}, {300, "SAM", 300}, {300, "transparent", 300},
		{5, "SAM2", 5}, {300, "SAM2", 16684}, {5, "SAM3-flat", 16389}, {300, "SAM3-flat", 16684},
	} {
		if got := encodedLUN(c.lun, c.mode); got != c.want {
			t.Errorf("LUN %d in mode %q is %d, want %d", c.lun, c.mode, got, c.want)
		}
	}
}
