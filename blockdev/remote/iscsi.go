package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// ISCSI connects LUNs that QEMU reaches by its own initiator (libiscsi), for hosts without one. QEMU logs in to one portal, so there is one path.
//
// Who the disk is and how large is asked for before a guest has it, by the programs of libiscsi (iscsi-inq, iscsi-readcapacity16), which log in as
// QEMU will. Its name is the one that the kernel would give it (naa.6...) where the programs print that whole: they print text, and stop at a zero byte.
// Otherwise it is the disk's T10 designator, or its serial number, with vendor and product before it.
type ISCSI struct {
	Run command.Runner
	// Initiator is the name that QEMU logs in by, an IQN.
	Initiator string
	Dial      Dial // nil for this host's
}

// Connect implements connector.Connector.
func (c ISCSI) Connect(ctx context.Context, info connector.Info, known connector.Identity) (connector.Device, error) {
	if err := checkRoad(info); err != nil {
		return connector.Device{}, err
	}
	target, err := c.choose(ctx, info.ISCSI.Targets)
	if err != nil {
		return connector.Device{}, err
	}
	lun := unit{ISCSI: c, target: target, auth: info.ISCSI.Auth}
	lun.number = encodedLUN(target.LUN, info.ISCSI.AddressingMode)
	dev, err := lun.device(ctx)
	if err == nil {
		err = connector.CheckIdentity(target.IQN+" LUN "+strconv.Itoa(target.LUN), dev.Identity, known)
	}
	if err != nil {
		return connector.Device{}, err
	}
	return dev, nil
}

// Disconnect implements connector.Connector: the session was QEMU's. A device that the host's initiator made, before the operator chose this road, is not for
// this one to take away, and is not forgotten either.
func (c ISCSI) Disconnect(_ context.Context, _ connector.Info, dev connector.Device) error {
	if dev.Path == "" {
		return nil
	}
	return &connector.Error{Reason: connector.Unsupported, Field: "device", Value: dev.Path, Rule: "it was connected by the host's initiator, and this host is set to QEMU's"}
}

// Extend implements connector.Connector. The portal stays that which the hypervisor is logged in to.
func (c ISCSI) Extend(ctx context.Context, info connector.Info, old connector.Device) (connector.Device, error) {
	dev, err := c.Connect(ctx, info, old.Identity)
	if err == nil && old.Network != nil {
		dev.Network = old.Network
	}
	return dev, err
}

func checkRoad(info connector.Info) error {
	switch {
	case info.Type != connector.ISCSI:
		return &connector.Error{Reason: connector.Unsupported, Field: "driver_volume_type", Value: string(info.Type), Rule: "QEMU's own initiator has no iSER here"}
	case info.EnforceMultipath:
		return &connector.Error{Reason: connector.NoMultipath, Field: "data.enforce_multipath", Rule: "QEMU's own initiator has one path"}
	}
	return nil
}

// choose returns the path whose portal answers first.
func (c ISCSI) choose(ctx context.Context, targets []connector.ISCSITarget) (connector.ISCSITarget, error) {
	servers := make([]connector.Address, len(targets))
	for i, t := range targets {
		var err error
		if servers[i], err = splitPortal(t.Portal); err != nil {
			return connector.ISCSITarget{}, err
		}
	}
	answers, err := reachable(ctx, c.Dial, "data.target_portal", servers)
	if err != nil {
		return connector.ISCSITarget{}, err
	}
	for i, s := range servers {
		if s == answers {
			return targets[i], nil
		}
	}
	return connector.ISCSITarget{}, fmt.Errorf("portal %v is none of the volume's", answers)
}

func splitPortal(portal string) (connector.Address, error) {
	host, port, err := net.SplitHostPort(portal)
	if err != nil {
		return connector.Address{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return connector.Address{Host: host, Port: int(n)}, err
}

// flatSpace marks a LUN in flat space addressing (SAM-3, 4.6.8).
const flatSpace = 0x4000

// encodedLUN is how a LUN is written into a command: libiscsi writes the number that it is given as the first level. See os-brick's lun_for_addressing.
func encodedLUN(lun int, mode string) int {
	if mode == "SAM3-flat" || mode == "SAM2" && lun > 255 {
		return lun | flatSpace
	}
	return lun
}

// unit is a LUN to be asked.
type unit struct {
	ISCSI
	target connector.ISCSITarget
	number int
	auth   *connector.CHAP
}

func (u unit) device(ctx context.Context) (connector.Device, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	identity, err := u.identity(within)
	if err != nil {
		return connector.Device{}, u.outOf(ctx, err)
	}
	size, err := u.capacity(within)
	if err != nil {
		return connector.Device{}, u.outOf(ctx, err)
	}
	server, err := splitPortal(u.target.Portal)
	if err != nil {
		return connector.Device{}, err
	}
	network := &connector.Network{
		Protocol: "iscsi", Name: u.target.IQN + "/" + strconv.Itoa(u.number), Hosts: []connector.Address{server}, Initiator: u.Initiator,
	}
	if u.auth != nil {
		network.User, network.Usage = u.auth.User, "iscsi"
	}
	return connector.Device{Network: network, Format: "raw", Identity: identity, Bytes: size}, nil
}

// outOf tells a target that took too long from a caller who has no more time.
func (u unit) outOf(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return &connector.Error{Reason: connector.Unreachable, Field: "data.target_portal", Value: u.target.Portal, Rule: fmt.Sprintf("the target does not answer within %v", limit), Err: err}
	}
	return err
}

// ask runs a program of libiscsi on the LUN. The password is in the program's environment, where its arguments would show it to everybody.
func (u unit) ask(ctx context.Context, program string, args ...string) (string, error) {
	if u.Initiator != "" {
		args = append(args, "--initiator-name="+u.Initiator)
	}
	args = append(args, (&url.URL{Scheme: "iscsi", Host: u.target.Portal, Path: "/" + u.target.IQN + "/" + strconv.Itoa(u.number)}).String())
	cmd := command.Cmd{Name: program, Args: args, MaxOutput: 64 << 10}
	if u.auth != nil {
		cmd.Env = []string{"LIBISCSI_CHAP_USERNAME=" + u.auth.User, "LIBISCSI_CHAP_PASSWORD=" + string(u.auth.Password)}
	}
	out, err := u.Run.Run(ctx, cmd)
	if err != nil {
		return "", u.refused(err)
	}
	return string(out), nil
}

// errNoPage is a disk that has no such page of vital product data.
var errNoPage = errors.New("the disk does not have the page")

// refused says what libiscsi's words mean. None of them, which a target may choose, gets into the error.
func (u unit) refused(err error) error {
	var failed *command.Error
	if !errors.As(err, &failed) || failed.ExitCode < 0 {
		return err
	}
	e := &connector.Error{Reason: connector.Unreachable, Field: "data.target_portal", Value: u.target.Portal, Rule: "the target does not let in, or breaks off"}
	switch said := failed.Stderr; {
	case strings.Contains(said, "INVALID_FIELD_IN_CDB"):
		return errNoPage
	case strings.Contains(said, "Authentication failure"), strings.Contains(said, "Authorization failure"):
		e.Reason, e.Field, e.Value, e.Rule = connector.AuthFailed, "data.auth_method", "", "the target refuses who logs in: user or password are wrong or missing"
		if u.auth != nil {
			e.Field, e.Value, e.Rule = "data.auth_username", u.auth.User, "the target refuses the user or the password"
		}
	case strings.Contains(said, "Target not found"), strings.Contains(said, "Target removed"):
		e.Reason, e.Field, e.Value, e.Rule = connector.NoDevice, "data.target_iqn", u.target.IQN, "the portal has no such target"
	case strings.Contains(said, "LOGICAL_UNIT_NOT_SUPPORTED"):
		e.Reason, e.Field, e.Value, e.Rule = connector.NoDevice, "data.target_lun", strconv.Itoa(u.target.LUN), "the target has no such LUN"
	case strings.Contains(said, "LOGICAL_UNIT_NOT_READY"), strings.Contains(said, "MEDIUM_NOT_PRESENT"):
		e.Reason, e.Field, e.Value, e.Rule = connector.NoDevice, "data.target_lun", strconv.Itoa(u.target.LUN), "the LUN is not ready"
	}
	return e
}

// capacity is the LUN's size in bytes.
func (u unit) capacity(ctx context.Context) (int64, error) {
	out, err := u.ask(ctx, "iscsi-readcapacity16", "--size")
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil || size <= 0 {
		return 0, &connector.Error{Reason: connector.BadSize, Field: "data.target_lun", Value: strconv.Itoa(u.target.LUN), Rule: "the LUN is empty", Err: err}
	}
	return size, nil
}

// identity asks for page 83h, and where that names nobody for the serial number. A disk that says nothing has no identity.
func (u unit) identity(ctx context.Context) (connector.Identity, error) {
	page, err := u.ask(ctx, "iscsi-inq", "--evpd=1", "--pagecode=131")
	if err == nil {
		if err := u.mustBeDisk(page); err != nil {
			return "", err
		}
		if name := bestDesignator(page); name != "" {
			return name, nil
		}
	} else if !errors.Is(err, errNoPage) {
		return "", err
	}
	return u.serialNumber(ctx)
}

// mustBeDisk looks at what all pages begin with.
func (u unit) mustBeDisk(page string) error {
	fields := inquiryFields(page)
	if fields["Peripheral Device Type"] != "DIRECT_ACCESS" || fields["Peripheral Qualifier"] != "CONNECTED" {
		return &connector.Error{Reason: connector.NoDevice, Field: "data.target_lun", Value: strconv.Itoa(u.target.LUN), Rule: "the LUN is no disk"}
	}
	return nil
}

// serialNumber is page 80h, with vendor and product before it since a serial number is unique among those alone.
func (u unit) serialNumber(ctx context.Context) (connector.Identity, error) {
	inquiry, err := u.ask(ctx, "iscsi-inq")
	if err == nil {
		err = u.mustBeDisk(inquiry)
	}
	if err != nil {
		return "", err
	}
	page, err := u.ask(ctx, "iscsi-inq", "--evpd=1", "--pagecode=128")
	if err != nil && !errors.Is(err, errNoPage) {
		return "", err
	}
	_, serial, _ := strings.Cut(page, "Unit Serial Number:[")
	serial, _, _ = strings.Cut(serial, "]\n")
	if serial = oneLine(serial); serial == "" {
		return "", nil
	}
	fields := inquiryFields(inquiry)
	return connector.Identity("serial." + oneLine(fields["Vendor"]+" "+fields["Product"]+" "+serial)), nil
}
