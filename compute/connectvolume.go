package compute

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/guest"
	"compute-agent/virt"
)

// canConnect says why no server of this agent can have a volume.
func (m *Manager) canConnect() error {
	if m.opt.Volumes == nil || m.opt.VolumeHost == nil || m.opt.VolumeService == nil {
		return invalid("volume", "this host has no volume service")
	}
	return nil
}

func errNoVolumes(serverID string) error {
	return &Failure{Kind: ErrUnavailable, Subject: "server " + serverID, Reason: "it has volumes, and the agent was started without a volume service"}
}

// errVolumesDown is that the volume service does not answer: trying again may help.
var errVolumesDown = errors.New("the volume service does not answer")

// volumesCall marks what may be tried again.
func volumesCall(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", errVolumesDown, err)
	}
	return err
}

// blockDevices are all of the server's, as they are stored now; those of swaps too.
func (w *work) blockDevices(ctx context.Context) (list []BlockDevice, err error) {
	err = w.m.store.View(ctx, func(tx Reader) error {
		list, err = tx.BlockDevices(w.op.ServerID)
		return err
	})
	if len(list) > 0 && (w.m.opt.Volumes == nil || w.m.opt.VolumeHost == nil) {
		return nil, errors.Join(err, errNoVolumes(w.op.ServerID))
	}
	return list, err
}

// eachVolume does the same to several volumes side by side, and returns what went wrong with the first that failed.
func eachVolume(list []BlockDevice, do func(BlockDevice) error) error {
	const sideBySide = 10
	places := make(chan struct{}, sideBySide)
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, d := range list {
		places <- struct{}{}
		wg.Go(func() {
			errs[i] = do(d)
			<-places
		})
	}
	wg.Wait()
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}

// ofGuest are those of a server's volumes that a guest which is made now gets.
func ofGuest(list []BlockDevice) []BlockDevice {
	return slices.DeleteFunc(list, func(d BlockDevice) bool { return !d.Attached || d.spare() })
}

// readyVolumes has all volumes of the server's guest on the host, and their secrets with the hypervisor, before the guest is made or started; once in an
// operation. After a restart of the host none of them is there.
func (w *work) readyVolumes(ctx context.Context) error {
	if w.ready {
		return nil
	}
	list, err := w.blockDevices(ctx)
	if err != nil {
		return err
	}
	err = eachVolume(ofGuest(list), func(d BlockDevice) error {
		_, err := w.connectVolume(ctx, d)
		return err
	})
	w.ready = err == nil
	return err
}

// connectVolume makes a volume available on the host, and its secrets to the hypervisor, and stores what it has become. It may be called again, also for one
// that is there. The record says that the host may have the volume before the host is touched.
func (w *work) connectVolume(ctx context.Context, d BlockDevice) (BlockDevice, error) {
	unlock, err := w.m.volumes.Lock(ctx, d.VolumeID)
	if err != nil {
		return d, context.Cause(ctx)
	}
	defer unlock()
	known := d.connected()
	if !known {
		if d, err = w.askWay(ctx, d); err != nil {
			return d, err
		}
	}
	on, err := w.putOnHost(ctx, d)
	if err != nil && known && outdated(err) {
		// What the service said then may not be so any more.
		if again, askErr := w.askWay(ctx, d); askErr == nil && !reflect.DeepEqual(again.Connection, d.Connection) {
			on, err = w.putOnHost(ctx, again)
		}
	}
	if err != nil {
		return d, volumeFailure(d.VolumeID, err)
	}
	return on, w.m.putSecrets(ctx, on)
}

// outdated says whether the way to a volume may be another one than it was.
func outdated(err error) bool {
	e, is := errors.AsType[*connector.Error](err)
	return is && slices.Contains([]connector.Reason{connector.Unreachable, connector.AuthFailed, connector.NoDevice, connector.InvalidInfo}, e.Reason)
}

// askWay asks the volume service for the way to a volume, and stores it.
func (w *work) askWay(ctx context.Context, d BlockDevice) (BlockDevice, error) {
	host, err := w.m.opt.VolumeHost.Properties(ctx)
	if err != nil {
		return d, err
	}
	raw, err := w.m.opt.Volumes.Connect(ctx, d.AttachmentID, host, "/dev/"+d.place())
	if err != nil {
		return d, volumesCall(err)
	}
	if _, err := connector.Parse(raw); err != nil {
		return d, volumeFailure(d.VolumeID, err)
	}
	d.Connection = raw
	return d, w.putDevice(ctx, d, nil)
}

// place is the name by which the server knows the volume; that of a swap's is not its own yet.
func (d BlockDevice) place() string { return cmp.Or(d.Name, d.Replaces) }

// putOnHost has the volume's device there, the one that it always was, and stores what it is.
func (w *work) putOnHost(ctx context.Context, d BlockDevice) (BlockDevice, error) {
	r, err := w.m.volumeRequest(ctx, d)
	if err != nil {
		return d, err
	}
	found, err := w.m.opt.VolumeHost.Connect(ctx, r)
	if err != nil {
		return d, err
	}
	if reflect.DeepEqual(found, d.Device) {
		return d, nil
	}
	d.Device = found
	return d, w.putDevice(ctx, d, func(tx Writer) error {
		if r.Known != "" || found.Identity == "" {
			return nil
		}
		return tx.PutVolumeIdentity(d.VolumeID, found.Identity)
	})
}

// putDevice stores a block device of the operation's server. Whether it goes with the server a user may have said meanwhile.
func (w *work) putDevice(ctx context.Context, d BlockDevice, also func(Writer) error) error {
	return w.save(ctx, func(*Server) {}, func(tx Writer) error {
		list, err := tx.BlockDevices(d.ServerID)
		if err != nil {
			return err
		}
		for _, o := range list {
			if o.ID == d.ID {
				d.DeleteOnTermination = o.DeleteOnTermination
			}
		}
		if err := tx.PutBlockDevice(d); err != nil || also == nil {
			return err
		}
		return also(tx)
	})
}

// volumeRequest is a volume in the terms of the host.
func (m *Manager) volumeRequest(ctx context.Context, d BlockDevice) (r VolumeConnection, err error) {
	info, err := connector.Parse(d.Connection)
	if err != nil {
		return r, err
	}
	r = VolumeConnection{VolumeID: d.VolumeID, Info: info, Device: d.Device}
	err = m.store.View(ctx, func(tx Reader) error {
		r.Known, err = tx.VolumeIdentity(d.VolumeID)
		return err
	})
	if err != nil || d.Encryption == nil || d.Encryption.Provider == "luks" {
		return r, err
	}
	r.Cipher = &connector.Cipher{Format: d.Encryption.Provider, Cipher: d.Encryption.Cipher, KeySize: d.Encryption.KeySize}
	r.Cipher.Key, err = m.opt.Volumes.Key(ctx, d.VolumeID)
	return r, volumesCall(err)
}

// putSecrets gives the hypervisor what it needs to open a volume and no definition says.
func (m *Manager) putSecrets(ctx context.Context, d BlockDevice) error {
	secrets, err := m.secretsOf(ctx, d)
	if err != nil || len(secrets) == 0 {
		return err
	}
	keeper, can := m.driver.(virt.SecretKeeper)
	if !can {
		return &Failure{Kind: ErrInvalid, Subject: "volume " + d.VolumeID, Reason: "the hypervisor keeps no secrets, and it needs one"}
	}
	for _, s := range secrets {
		if err := m.driverCall(func(ctx context.Context) error { return keeper.PutSecret(ctx, s) }); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) secretsOf(ctx context.Context, d BlockDevice) (list []virt.Secret, err error) {
	secret := func(usage string, value []byte) {
		list = append(list, virt.Secret{UUID: SecretUUID(d.VolumeID, usage), Usage: usage, For: d.VolumeID, Value: value})
	}
	if n := d.Device.Network; n != nil && n.User != "" && n.Secret == "" {
		info, err := connector.Parse(d.Connection)
		if err != nil {
			return nil, err
		}
		switch {
		case n.Usage == usageISCSI && info.ISCSI != nil && info.ISCSI.Auth != nil:
			secret(usageISCSI, []byte(info.ISCSI.Auth.Password))
		case n.Usage == usageCeph && info.RBD != nil:
			secret(usageCeph, cephKey(string(info.RBD.Keyring)))
		}
	}
	if d.hypervisorDeciphers() {
		key, err := m.opt.Volumes.Key(ctx, d.VolumeID)
		if err != nil {
			return nil, volumesCall(err)
		}
		secret(usageVolume, []byte(key))
	}
	return list, nil
}

// cephKey is the key of a Ceph keyring, a file with a line "key = ..." in base64, or the key alone.
func cephKey(keyring string) []byte {
	text := strings.TrimSpace(keyring)
	for line := range strings.Lines(keyring) {
		if name, value, is := strings.Cut(line, "="); is && strings.TrimSpace(name) == "key" {
			text = strings.TrimSpace(value)
		}
	}
	if key, err := base64.StdEncoding.DecodeString(text); err == nil {
		return key
	}
	return []byte(text)
}

// disconnectVolume takes a volume away from the host, unless another server here has it too, and from the server: the service is told, and
// the record goes. What there is not it does not miss. With the server, or with the attempt to make it, a volume may go itself.
func (w *work) disconnectVolume(ctx context.Context, d BlockDevice, dispose bool) error {
	unlock, err := w.m.volumes.Lock(ctx, d.VolumeID)
	if err != nil {
		return context.Cause(ctx)
	}
	defer unlock()
	if err := w.leaveHost(ctx, &d); err != nil {
		return err
	}
	if err := w.m.opt.Volumes.Remove(ctx, d.AttachmentID); !isGone(err) {
		return volumesCall(err)
	}
	if dispose {
		if err := w.m.opt.Volumes.Delete(ctx, d.VolumeID); errors.Is(err, ErrUnavailable) {
			return volumesCall(err)
		} else if !isGone(err) { // as in Nova, the server goes all the same
			w.log.Warn("a volume that was to go with the server stays", "volume_id", d.VolumeID, "error", err)
		}
	}
	return w.save(ctx, func(*Server) {}, func(tx Writer) error { return tx.DeleteBlockDevice(d.ID) })
}

// leaveHost takes a volume away from the host, whose lock is held, and notes that it is not there.
func (w *work) leaveHost(ctx context.Context, d *BlockDevice) error {
	if !d.connected() {
		return nil
	}
	if err := w.takeOffHost(ctx, *d); err != nil {
		return err
	}
	d.Connection, d.Device = nil, connector.Device{}
	return w.putDevice(ctx, *d, nil)
}

// renewVolume has a volume that no guest uses leave the host and come back, by the way that the service names now, and as the disk that it always was.
func (w *work) renewVolume(ctx context.Context, d BlockDevice) error {
	unlock, err := w.m.volumes.Lock(ctx, d.VolumeID)
	if err != nil {
		return context.Cause(ctx)
	}
	err = w.leaveHost(ctx, &d)
	unlock()
	if err != nil {
		return err
	}
	if _, err := w.connectVolume(ctx, d); err != nil {
		return err
	}
	return volumesCall(w.m.opt.Volumes.Complete(ctx, d.AttachmentID))
}

// isGone says that what was to go has gone.
func isGone(err error) bool {
	if refused, is := errors.AsType[*cinder.Refusal](err); is {
		return refused.Kind == cinder.NotFound
	}
	return err == nil || errors.Is(err, ErrNotFound)
}

// takeOffHost takes a volume's device away, and the hypervisor's secrets. A device that somebody holds stays, and so does the volume: it must not
// be given to anybody else. Whatever else is wrong with it keeps nobody's volume: its target may be gone for good, and the host goes on trying.
func (w *work) takeOffHost(ctx context.Context, d BlockDevice) error {
	shared, err := w.m.sharedHere(ctx, d)
	if err != nil || shared {
		return err
	}
	r, err := w.m.volumeRequest(ctx, d)
	if err != nil {
		return err
	}
	err = w.m.opt.VolumeHost.Disconnect(ctx, r)
	refused, is := errors.AsType[*connector.Error](err)
	switch {
	case err == nil:
	case is && refused.Reason != connector.InUse && ctx.Err() == nil:
		w.log.Warn("a volume is taken away that the host could not disconnect yet", "volume_id", d.VolumeID, "error", err)
	default:
		return volumeFailure(d.VolumeID, err)
	}
	return w.m.dropSecrets(d)
}

// sharedHere says whether another server of this host has the volume connected.
func (m *Manager) sharedHere(ctx context.Context, d BlockDevice) (shared bool, err error) {
	if !d.Multiattach {
		return false, nil
	}
	err = m.store.View(ctx, func(tx Reader) error {
		all, err := tx.AllBlockDevices()
		shared = slices.ContainsFunc(all, func(o BlockDevice) bool { return o.ID != d.ID && o.VolumeID == d.VolumeID && o.connected() })
		return err
	})
	return shared, err
}

func (m *Manager) dropSecrets(d BlockDevice) error {
	keeper, can := m.driver.(virt.SecretKeeper)
	if !can {
		return nil
	}
	uses := []string{}
	if n := d.Device.Network; n != nil && n.User != "" && n.Secret == "" {
		uses = append(uses, n.Usage)
	}
	if d.hypervisorDeciphers() {
		uses = append(uses, usageVolume)
	}
	for _, use := range uses {
		if err := m.driverCall(func(ctx context.Context) error { return keeper.DeleteSecret(ctx, SecretUUID(d.VolumeID, use)) }); err != nil {
			return err
		}
	}
	return nil
}

// repoint makes a guest again that is there and stopped, of what it is made of already, where its volumes are elsewhere on the host now: after a restart
// of the host a disk may have another name. It is the guest that is asked where it looks for them; where it cannot be made again, what is stored says what
// it is made of still.
func (w *work) repoint(ctx context.Context) error {
	var list []BlockDevice
	var made virt.Spec
	err := w.m.store.View(ctx, func(tx Reader) (err error) {
		if list, err = guestVolumes(tx, w.op.ServerID); err != nil || len(list) == 0 {
			return err
		}
		made, err = tx.Definition(w.op.ServerID)
		return ignoreMissing(err)
	})
	if err != nil || len(list) == 0 || made.ID == "" || w.server.inPlaceOfAll() {
		return err
	}
	disks, stopped, err := w.disks()
	if err != nil {
		return err
	}
	now, err := pointAt(made, list)
	if err != nil {
		return err
	}
	moved := slices.ContainsFunc(list, func(d BlockDevice) bool {
		at, has := slices.IndexFunc(now.Disks, hasTarget(d.Name)), slices.IndexFunc(disks, func(p virt.PluggedDisk) bool { return p.Target == d.Name })
		return at >= 0 && has >= 0 && !sameSource(disks[has].Source, now.Disks[at].Source)
	})
	switch {
	case moved && !stopped:
		return nil // it runs with what it has
	case moved:
		if err := w.m.driverCall(func(ctx context.Context) error { return w.m.driver.Remake(ctx, now) }); err != nil {
			return err
		}
	}
	return w.keepDefinition(ctx, now)
}

// pointAt is what a guest was made of, with its volumes where they are on the host now.
func pointAt(made virt.Spec, list []BlockDevice) (virt.Spec, error) {
	now := made.Clone()
	for _, d := range list {
		at := slices.IndexFunc(now.Disks, hasTarget(d.Name))
		if at < 0 {
			continue
		}
		var drive guest.Drive
		if err := d.behind(&drive); err != nil {
			return now, err
		}
		now.Disks[at].Source = drive.Source
	}
	return now, nil
}

// disks are those of the server's guest, none without one, and whether it is stopped.
func (w *work) disks() (disks []virt.PluggedDisk, stopped bool, err error) {
	plugger, can := w.m.driver.(virt.DiskPlugger)
	g, known := w.m.look(w.op.ServerID)
	if !can || !known {
		return nil, false, nil
	}
	err = w.m.driverCall(func(ctx context.Context) error {
		disks, err = plugger.Disks(ctx, w.op.ServerID)
		return err
	})
	return disks, g.State == virt.PowerShutdown || g.State == virt.PowerCrashed, ignoreNotFound(err)
}
