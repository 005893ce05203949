package main

import (
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// timeVolumes prints how long volumes take to be attached and detached: one in a file, and bare libvirt with the same file; LUNs by iSCSI, one, ten and all
// at a time.
func timeVolumes(a *agent, uri string, count int) error {
	w, err := watch(uri)
	if err != nil {
		return err
	}
	defer w.conn.Close() //nolint:errcheck // the program ends
	const hosts = 10
	servers := make([]string, hosts)
	for i := range servers {
		if servers[i], err = a.create(fmt.Sprintf("volumes-%d", i)); err != nil {
			return err
		}
		if err := a.waitActive(servers[i], 20*time.Millisecond); err != nil {
			return err
		}
	}
	if err := timeOne(a, w, servers[0]); err != nil {
		return err
	}
	luns := make([]string, count)
	for i := range luns {
		if luns[i], err = a.createVolume("array"); err != nil {
			return err
		}
	}
	if _, _, err := a.together(servers, luns[:1]); err != nil { // caches are cold
		return err
	}
	for _, n := range []int{1, 10, count} {
		attach, detach, err := a.together(servers, luns[:n])
		if err != nil {
			return err
		}
		fmt.Printf("attach%d_ms=%.1f\ndetach%d_ms=%.1f\n", n, ms(attach), n, ms(detach))
	}
	for _, id := range servers {
		if err := a.remove(id); err != nil {
			return err
		}
	}
	return nil
}

// timeOne prints the medians for a volume in a file, by the agent and by bare libvirt in turns.
func timeOne(a *agent, w *watcher, server string) error {
	volume, err := a.createVolume("file")
	if err != nil {
		return err
	}
	domain, err := w.conn.LookupDomainByUUIDString(server)
	if err != nil {
		return err
	}
	defer domain.Free() //nolint:errcheck // the program ends soon
	var attach, detach, bareAttach, bareDetach []time.Duration
	for i := range 11 {
		up, err := a.attach(server, volume)
		if err != nil {
			return err
		}
		disk, err := w.lastDisk(server)
		if err != nil {
			return err
		}
		down, err := a.detach(server, volume)
		if err != nil {
			return err
		}
		bareUp, bareDown, err := plugBare(domain, disk)
		if err != nil {
			return err
		}
		if i > 0 { // caches are cold
			attach, detach = append(attach, up), append(detach, down)
			bareAttach, bareDetach = append(bareAttach, bareUp), append(bareDetach, bareDown)
		}
	}
	fmt.Printf("file_attach_ms=%.1f\nfile_detach_ms=%.1f\nbare_attach_ms=%.1f\nbare_detach_ms=%.1f\n",
		ms(median(attach)), ms(median(detach)), ms(median(bareAttach)), ms(median(bareDetach)))
	return nil
}

// lastDisk is the newest disk of a domain, as an element.
func (w *watcher) lastDisk(id string) (string, error) {
	d, err := w.describe(id)
	if err != nil {
		return "", err
	}
	disk := d.Devices.Disks[len(d.Devices.Disks)-1]
	disk.Address, disk.Alias = nil, nil
	return (&disk).Marshal()
}

const liveAndDefined = libvirt.DOMAIN_DEVICE_MODIFY_LIVE | libvirt.DOMAIN_DEVICE_MODIFY_CONFIG

// plugBare plugs a disk in and out by libvirt alone.
func plugBare(domain *libvirt.Domain, disk string) (attach, detach time.Duration, err error) {
	begin := time.Now()
	if err := domain.AttachDeviceFlags(disk, liveAndDefined); err != nil {
		return 0, 0, err
	}
	attach = time.Since(begin)
	begin = time.Now()
	if err := domain.DetachDeviceFlags(disk, liveAndDefined); err != nil {
		return 0, 0, err
	}
	target := &libvirtxml.DomainDisk{}
	if err := target.Unmarshal(disk); err != nil {
		return 0, 0, err
	}
	for gone := false; !gone; {
		text, err := domain.GetXMLDesc(0)
		if err != nil {
			return 0, 0, err
		}
		live := &libvirtxml.Domain{}
		if err := live.Unmarshal(text); err != nil {
			return 0, 0, err
		}
		gone = true
		for _, d := range live.Devices.Disks {
			gone = gone && d.Target.Dev != target.Target.Dev
		}
	}
	return attach, time.Since(begin), nil
}

// together attaches volumes to the servers, all at once, and then detaches them.
func (a *agent) together(servers, volumes []string) (attach, detach time.Duration, err error) {
	each := func(do func(server, volume string) (time.Duration, error)) (time.Duration, error) {
		var group errgroup.Group
		begin := time.Now()
		for i, volume := range volumes {
			group.Go(func() error {
				_, err := do(servers[i%len(servers)], volume)
				return err
			})
		}
		err := group.Wait()
		return time.Since(begin), err
	}
	if attach, err = each(a.attach); err != nil {
		return 0, 0, err
	}
	detach, err = each(a.detach)
	return attach, detach, err
}

func (a *agent) attach(server, volume string) (time.Duration, error) {
	begin := time.Now()
	request := map[string]any{"volumeAttachment": map[string]any{"volumeId": volume}}
	if err := a.call(http.MethodPost, "/servers/"+server+"/os-volume_attachments", request, nil); err != nil {
		return 0, err
	}
	err := a.volumeIs(volume, "in-use")
	return time.Since(begin), err
}

func (a *agent) detach(server, volume string) (time.Duration, error) {
	begin := time.Now()
	if err := a.call(http.MethodDelete, "/servers/"+server+"/os-volume_attachments/"+volume, nil, nil); err != nil {
		return 0, err
	}
	err := a.volumeIs(volume, "available")
	return time.Since(begin), err
}

// storage is the same agent's block storage API.
func (a *agent) storage() *agent { return &agent{client: a.client, url: a.volumes, token: a.token} }

// createVolume makes a volume of 1 GiB, of a type.
func (a *agent) createVolume(kind string) (string, error) {
	want := map[string]any{"size": 1, "name": "bench", "volume_type": kind}
	var answer struct{ Volume server }
	if err := a.storage().call(http.MethodPost, "/volumes", map[string]any{"volume": want}, &answer); err != nil {
		return "", err
	}
	return answer.Volume.ID, a.volumeIs(answer.Volume.ID, "available")
}

// volumeIs asks until a volume has a status.
func (a *agent) volumeIs(id, status string) error {
	var answer struct{ Volume server }
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err := a.storage().call(http.MethodGet, "/volumes/"+id, nil, &answer); err != nil {
			return err
		}
		if answer.Volume.Status == status {
			return nil
		}
	}
	return fmt.Errorf("volume %s is %s, not %s", id, answer.Volume.Status, status)
}
