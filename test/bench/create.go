package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// compareCreate prints the median time in which the agent creates a server, the median time in which
// the same domain is defined and started by bare libvirt calls with its disk already there, and the
// agent's CPU time for a create. The two take turns, so that the machine's moods hit both.
func compareCreate(a *agent, uri, dir string, pid, count int) error {
	watcher, err := watch(uri)
	if err != nil {
		return err
	}
	defer watcher.conn.Close() //nolint:errcheck // the program ends

	var withAgent, bare []time.Duration
	var cpu time.Duration
	for i := range count + 1 {
		took, used, domain, err := watcher.createByAgent(a, pid, fmt.Sprintf("bench-%d", i))
		if err != nil {
			return err
		}
		bareTook, err := createBare(watcher.conn, domain, dir)
		if err != nil {
			return err
		}
		if i == 0 {
			continue // caches are cold
		}
		withAgent, bare, cpu = append(withAgent, took), append(bare, bareTook), cpu+used
	}
	fmt.Printf("agent_ms=%.1f\nbare_ms=%.1f\ncpu_ms=%.1f\n",
		ms(median(withAgent)), ms(median(bare)), ms(cpu)/float64(count))
	return nil
}

// watcher tells when a domain runs, without asking for it all the time.
type watcher struct {
	conn    *libvirt.Connect
	running chan string
}

func watch(uri string) (*watcher, error) {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return nil, err
	}
	go func() {
		for libvirt.EventRunDefaultImpl() == nil {
		}
	}()
	conn, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, err
	}
	w := &watcher{conn, make(chan string, 100)}
	_, err = conn.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
		if e.Event == libvirt.DOMAIN_EVENT_RESUMED {
			if id, err := d.GetUUIDString(); err == nil {
				w.running <- id
			}
		}
	})
	return w, err
}

// createByAgent creates a server and removes it again. It returns the time from the request until the
// API says ACTIVE, the CPU time that the agent and its programs used for it, and the domain.
func (w *watcher) createByAgent(a *agent, pid int, name string) (took, used time.Duration, d *libvirtxml.Domain, err error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, 0, nil, err
	}
	begin := time.Now()
	id, err := a.create(name)
	if err != nil {
		return 0, 0, nil, err
	}
	for waiting, limit := true, time.After(time.Minute); waiting; {
		select {
		case running := <-w.running:
			waiting = running != id
		case <-limit:
			return 0, 0, nil, fmt.Errorf("server %s does not run", id)
		}
	}
	if err := a.waitActive(id, time.Millisecond); err != nil {
		return 0, 0, nil, err
	}
	took = time.Since(begin)
	after, err := cpuTime(pid)
	if err != nil {
		return 0, 0, nil, err
	}
	if d, err = w.describe(id); err != nil {
		return 0, 0, nil, err
	}
	return took, after - before, d, a.remove(id)
}

// describe returns the definition of a domain.
func (w *watcher) describe(id string) (*libvirtxml.Domain, error) {
	domain, err := w.conn.LookupDomainByUUIDString(id)
	if err != nil {
		return nil, err
	}
	defer domain.Free() //nolint:errcheck // the program ends soon
	text, err := domain.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return nil, err
	}
	d := &libvirtxml.Domain{}
	return d, d.Unmarshal(text)
}

// createBare makes the disk of a domain like d, and then measures the time in which libvirt defines
// and starts it.
func createBare(conn *libvirt.Connect, d *libvirtxml.Domain, dir string) (took time.Duration, err error) {
	rename(d, uuid.NewString(), "bench-bare")
	files, err := ownFiles(d, dir)
	defer func() {
		for _, f := range files {
			_ = os.Remove(f)
		}
	}()
	if err != nil {
		return 0, err
	}
	text, err := d.Marshal()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	domain, err := conn.DomainDefineXML(text)
	if err != nil {
		return 0, err
	}
	defer func() {
		_ = domain.Destroy()
		if undefine := domain.Undefine(); err == nil {
			err = undefine
		}
		_ = domain.Free()
	}()
	if err := domain.CreateWithFlags(libvirt.DOMAIN_START_PAUSED); err != nil {
		return 0, err
	}
	if err := domain.Resume(); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// rename gives a definition another identity, also in the place where the guest reads it.
func rename(d *libvirtxml.Domain, id, name string) {
	d.UUID, d.Name = id, name
	for _, info := range d.SysInfo {
		if info.SMBIOS == nil || info.SMBIOS.System == nil {
			continue
		}
		for i := range info.SMBIOS.System.Entry {
			if entry := &info.SMBIOS.System.Entry[i]; entry.Name == "uuid" {
				entry.Value = id
			}
		}
	}
}

// ownFiles gives the domain a disk and a console log in dir, in place of those of the server that it
// was copied from, and returns their paths. The disk is an overlay on the same image.
func ownFiles(d *libvirtxml.Domain, dir string) (files []string, err error) {
	for i := range d.Devices.Disks {
		disk := &d.Devices.Disks[i]
		path := filepath.Join(dir, fmt.Sprintf("bench-%d.qcow2", i))
		base := disk.BackingStore.Source.File.File
		make := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", disk.BackingStore.Format.Type, "-b", base, path)
		make.Stderr = os.Stderr
		if err := make.Run(); err != nil {
			return files, err
		}
		files = append(files, path)
		disk.Source.File.File = path
	}
	for i := range d.Devices.Serials {
		if log := d.Devices.Serials[i].Log; log != nil {
			log.File = filepath.Join(dir, "bench.log")
			files = append(files, log.File)
		}
	}
	d.Devices.Consoles = nil // libvirt's mirror of the first serial port
	return files, nil
}
