package nvmeof

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/uevent"
	"compute-agent/internal/command"
)

// prepare checks an info and finds the addresses of its portals. Fibre Channel asks for one connection by each port of this host.
func (c *Connector) prepare(ctx context.Context, info connector.Info) (subsystem, []portal, error) {
	s, err := c.subsystem(info)
	if err != nil {
		return subsystem{}, nil, err
	}
	if info.EnforceMultipath && !NativeMultipath(c.System.Sys) {
		return subsystem{}, nil, &connector.Error{Reason: connector.NoMultipath, Rule: "multipath is enforced and the kernel's NVMe multipath (nvme_core.multipath) is off"}
	}
	var portals []portal
	for _, p := range info.NVMe.Portals {
		switch p.Transport {
		case "fc":
			if !fcTraddr.MatchString(p.Address) {
				return subsystem{}, nil, invalid("portals", p.Address, "an address on Fibre Channel is nn-0x...:pn-0x...")
			}
			p.Address, p.Port = strings.ToLower(p.Address), 0
			for _, from := range fcPorts(c.System.Sys) {
				portals = append(portals, portal{p, from})
			}
		case "tcp", "rdma":
			if p.Address, err = resolve(ctx, p.Address); err != nil {
				return subsystem{}, nil, err
			}
			portals = append(portals, portal{p, ""})
		default:
			return subsystem{}, nil, invalid("transport_type", p.Transport, "it must be tcp, rdma or fc")
		}
	}
	if len(portals) == 0 {
		return subsystem{}, nil, &connector.Error{Reason: connector.Unreachable, Field: "portals", Rule: "there is no portal, or no Fibre Channel port of this host that is online"}
	}
	return s, portals, nil
}

// resolve returns the address of a host: the kernel takes no names.
func resolve(ctx context.Context, host string) (string, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String(), nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(found) == 0 {
		return "", &connector.Error{Reason: connector.Unreachable, Field: "portals", Value: short(host), Rule: "the portal's name has no address", Err: err}
	}
	return found[0].Unmap().String(), nil
}

// reach sees to it that there is a live connection to the subsystem: with native multipath by each portal, without it by one, because each further one would
// be another disk. Connections that are there are used. It is called under the subsystem's lock.
func (c *Connector) reach(ctx context.Context, s subsystem, portals []portal) error {
	there, err := c.of(s)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(portals), func(p portal) bool {
		return slices.ContainsFunc(there, func(k Controller) bool { return k.leads(p) })
	})
	multipath := NativeMultipath(c.System.Sys)
	if !multipath && slices.ContainsFunc(there, func(k Controller) bool { return k.State == Live }) {
		return nil
	}
	failures := c.connect(ctx, s, missing, multipath)
	if there, err = c.of(s); err != nil {
		return err
	}
	if !slices.ContainsFunc(there, func(k Controller) bool { return k.State != "" }) {
		return unreachable(ctx, failures)
	}
	return c.awaitLive(ctx, s, failures)
}

// connect makes connections, all at once or, where one is enough, one after the other.
func (c *Connector) connect(ctx context.Context, s subsystem, portals []portal, all bool) []error {
	if !all {
		var failures []error
		for _, p := range portals {
			err := c.connectTo(ctx, s, p)
			if err == nil {
				return nil
			}
			failures = append(failures, err)
		}
		return failures
	}
	results := make(chan error, len(portals))
	for _, p := range portals {
		go func() { results <- c.connectTo(ctx, s, p) }()
	}
	var failures []error
	for range portals {
		if err := <-results; err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

// connectTo makes one connection. The kernel cannot be told to stop trying: see tooLate.
func (c *Connector) connectTo(ctx context.Context, s subsystem, p portal) error {
	note := made + p.key()
	if err := c.notes(s).add(s, note); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Options.ConnectWait)
	defer cancel()
	if err := c.load(ctx, p.Transport); err != nil {
		return errors.Join(err, c.notes(s).drop(note))
	}
	done := make(chan error)
	go func() {
		_, err := c.Kernel.Connect(c.Options.line(s, p))
		select {
		case done <- err:
		case <-ctx.Done():
			c.tooLate(s, note, err)
		}
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return &connector.Error{Reason: connector.Unreachable, Field: "portal", Value: p.String(), Rule: "the portal does not answer in time", Err: context.Cause(ctx)}
	}
	if err == nil {
		return nil
	}
	drop := c.notes(s).drop(note)
	if errors.Is(err, unix.EALREADY) {
		return drop // somebody else was faster
	}
	return errors.Join(refused(p, err), drop)
}

// tooLate is the end of a connection that nobody waited for: it stays when a namespace of the subsystem is wanted by then, and is taken away when
// none is.
func (c *Connector) tooLate(s subsystem, note string, failure error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Options.FlushWait)
	defer cancel()
	unlock, err := c.subsystems.Lock(ctx, s.key())
	if err != nil {
		return
	}
	defer unlock()
	if failure != nil {
		there, err := c.of(s)
		again := slices.ContainsFunc(there, func(k Controller) bool { return made+k.asPortal().key() == note })
		if err == nil && !again { // another attempt may have made the same connection since
			_ = c.notes(s).drop(note) // one too many does no harm
		}
		return
	}
	if c.notes(s).add(s, note) == nil {
		_ = c.release(ctx, s) // what does not go is in Leftovers
	}
}

// String is the portal for people.
func (p portal) String() string {
	if p.Transport == "fc" {
		return p.Transport + " " + p.Address
	}
	return p.Transport + " " + net.JoinHostPort(p.Address, strconv.Itoa(p.Port))
}

// line is a connection in the words of the kernel (drivers/nvme/host/fabrics.c, opt_tokens). No value can hold a comma: names and addresses are checked
// before.
func (o Options) line(s subsystem, p portal) string {
	options := []string{"nqn=" + s.NQN, "transport=" + p.Transport, "traddr=" + p.Address}
	add := func(key, value string) { options = append(options, key+"="+value) }
	if p.Port != 0 {
		add("trsvcid", strconv.Itoa(p.Port))
	}
	if p.hostAddr != "" {
		add("host_traddr", p.hostAddr)
	}
	add("hostnqn", s.Host.NQN)
	add("hostid", s.Host.ID)
	if o.QueueSize > 0 {
		add("queue_size", strconv.Itoa(o.QueueSize))
	}
	for _, t := range []struct {
		key   string
		value time.Duration
	}{{"keep_alive_tmo", o.KeepAlive}, {"reconnect_delay", o.ReconnectDelay}, {"ctrl_loss_tmo", o.ControllerLoss}, {"fast_io_fail_tmo", o.FastIOFail}} {
		switch {
		case t.value < 0:
			add(t.key, "-1")
		case t.value > 0:
			add(t.key, strconv.Itoa(int((t.value+time.Second-1)/time.Second)))
		}
	}
	return strings.Join(options, ",")
}

// load loads the transport's module when the control device is not there; the kernel loads transports itself after that.
func (c *Connector) load(ctx context.Context, transport string) error {
	if _, err := os.Stat(filepath.Join(c.System.Dev, "nvme-fabrics")); err == nil {
		return nil
	}
	module := "nvme-" + transport
	if _, err := c.Modules.Run(ctx, command.Cmd{Name: "modprobe", Args: []string{"--", module}}); err != nil {
		return unsupported("transport_type", transport, "the kernel's module "+module+" cannot be loaded", err)
	}
	return nil
}

// refused says why there is no connection.
func refused(p portal, err error) error {
	e := &connector.Error{Field: "portal", Value: p.String(), Err: err}
	switch {
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOKEY):
		e.Reason, e.Rule = connector.AuthFailed, "there is no such subsystem at the portal, or it does not let this host in"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		e.Reason, e.Rule = connector.Unsupported, "the kernel does not make such a connection"
	default:
		e.Reason, e.Rule = connector.Unreachable, "the portal cannot be reached"
	}
	return e
}

// unreachable is one error of all that failed: with the reason of the first, and each with its portal.
func unreachable(ctx context.Context, failures []error) error {
	if len(failures) == 1 {
		return failures[0]
	}
	e := &connector.Error{Reason: connector.Unreachable, Field: "portals", Rule: "there is no connection to the subsystem", Err: errors.Join(failures...)}
	if len(failures) > 0 && reasonOf(failures[0]) != "" {
		e.Reason = reasonOf(failures[0])
	} else if len(failures) == 0 {
		e.Err = context.Cause(ctx)
	}
	return e
}

// awaitLive waits until a controller of the subsystem is live: one that was there may have lost its target and be about to get it back.
func (c *Connector) awaitLive(ctx context.Context, s subsystem, failures []error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Options.ConnectWait+c.Options.ReconnectDelay)
	defer cancel()
	watch, err := c.System.Kernel.Watch()
	if err != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	watch.Only(uevent.Subsystem("nvme"))
	watch.Glance(unasked) // kernels before 5.18 tell nobody that a controller is live
	var states []string
	err = watch.Until(ctx, func() (bool, error) {
		controllers, err := c.of(s)
		states = nil
		for _, k := range controllers {
			if k.State == Live {
				return true, nil
			}
			states = append(states, fmt.Sprintf("%s by %s is %s", k.Name, k.portal(), k.State))
		}
		return false, err
	})
	if err != nil && ctx.Err() != nil {
		err = unreachable(ctx, append(failures, &connector.Error{Reason: connector.Unreachable, Field: "nqn", Value: s.NQN,
			Rule: "no connection to the subsystem is live: " + strings.Join(states, ", "), Err: err}))
	}
	return err
}

// release removes the connections to a subsystem that were made here, when no namespace of it is wanted and nobody holds one. It is called under the
// subsystem's lock.
func (c *Connector) release(ctx context.Context, s subsystem) error {
	notes := c.notes(s)
	if wanted, err := notes.any(used); wanted || err != nil {
		return err
	}
	controllers, err := c.spaces(s)
	if err != nil {
		return err
	}
	for _, n := range disks(controllers, func(Namespace) bool { return true }) {
		if err := c.System.CheckFree(n.Disk); reasonOf(err) == connector.InUse {
			return nil // by somebody whose namespace it is
		} else if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Options.FlushWait)
	defer cancel()
	var failures []error
	for _, k := range controllers {
		note := made + k.asPortal().key()
		if !notes.has(note) {
			continue
		}
		err := c.remove(ctx, k)
		if err == nil {
			err = notes.drop(note)
		}
		failures = append(failures, err)
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	return notes.end()
}

func (c Controller) asPortal() portal {
	port, _ := strconv.Atoi(c.Service)
	p := portal{connector.NVMePortal{Transport: c.Transport, Address: c.Address, Port: port}, ""}
	if c.Transport == "fc" {
		p.hostAddr = c.HostAddr
	}
	return p
}

// remove removes a controller. Its number may become another's at any moment: what is read and written is the directory of the one that was opened.
func (c *Connector) remove(ctx context.Context, k Controller) error {
	dir, err := os.Open(c.sys("class/nvme", k.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer dir.Close() //nolint:errcheck // only read
		pinned := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
		now, err := readConnection(pinned)
		switch {
		case gone(err) || err == nil && (now.NQN != k.NQN || now.HostNQN != k.HostNQN || now.asPortal() != k.asPortal()):
			err = nil
		case err == nil:
			err = c.Kernel.Write(pinned+"/delete_controller", "1")
		}
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("removal of NVMe controller %s (%s): %w", k.Name, k.portal(), err)
	}
	return nil
}

// gone says whether an error is that of a device that went while it was used.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}
