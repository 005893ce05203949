package compute

import (
	"errors"

	"compute-agent/guest"
	"compute-agent/virt"
)

// HardwareFacts is what a server's hardware is told from: its records, and the host.
type HardwareFacts struct {
	Server  Server
	Claim   Claim      // the server's own; zero for none
	Made    *virt.Spec // nil where it is not known
	Files   Files
	Host    virt.Host
	Storage Storage
	Ports   []guest.Port
	Volumes []BlockDevice
}

// Read reads the records of a server by its ID, or by its name if no other server has that.
func (f *HardwareFacts) Read(tx Reader, server string) (err error) {
	if f.Server, err = findServer(tx, server); err != nil {
		return err
	}
	claims, err := tx.Claims()
	if err != nil {
		return err
	}
	for _, c := range claims {
		if c.ServerID == f.Server.ID && c.Kind == ClaimOwn {
			f.Claim = c
		}
	}
	if f.Ports, err = guestPorts(tx, f.Server.ID); err != nil {
		return err
	}
	if f.Volumes, err = guestVolumes(tx, f.Server.ID); err != nil {
		return err
	}
	made, err := tx.Definition(f.Server.ID)
	if err == nil {
		f.Made = &made
	}
	return ignoreMissing(err)
}

func findServer(tx Reader, name string) (found Server, err error) {
	if s, err := tx.Server(name); !errors.Is(err, ErrNotFound) {
		return s, err
	}
	all, err := tx.Servers()
	if err != nil {
		return found, err
	}
	for _, s := range all {
		if s.Name != name {
			continue
		}
		if found.ID != "" {
			return found, &Failure{Kind: ErrConflict, Subject: "server " + name, Reason: "several servers have the name: say the ID"}
		}
		found = s
	}
	if found.ID == "" {
		err = &Failure{Kind: ErrNotFound, Subject: "server " + name, Reason: "not found"}
	}
	return found, err
}

// HardwareReport is what the operating system of a server's guest sees, and what it would see of a guest that was made
// again now.
type HardwareReport struct {
	ServerID string            `json:"server"`
	Name     string            `json:"name"`
	Settled  map[string]string `json:"settled"` // image properties that stay as they were when the server was created
	Made     []guest.Part      `json:"made_of"` // null where it is not known
	Now      []guest.Part      `json:"would_be_made_of"`
	Changes  []guest.Change    `json:"changes"`
	Problem  string            `json:"problem,omitempty"` // why no guest could be made now
}

// Define says what a server's guest would be made of now. It is pure.
func (c Capacity) Define(f HardwareFacts, guests GuestOptions) (virt.Spec, error) {
	size, err := c.withDefaults().measure(f.Host, f.Storage)
	if err != nil {
		return virt.Spec{}, err
	}
	spec, err := buildSpec(f.Server, f.Files, machine{
		host: f.Host, storage: f.Storage, guests: guests, numa: c.NUMA, cells: size.cells,
		placed: f.Claim.NUMA, devices: guestDevices(f.Claim.PCI), ports: f.Ports, volumes: f.Volumes,
	})
	if f.Made != nil {
		keepUnits(*f.Made, &spec)
		keepSerialPorts(*f.Made, &spec, guests.SerialPorts)
	}
	return spec, err
}

// ReportHardware holds what a server's guest was made of against what it would be made of now. It is pure.
func (c Capacity) ReportHardware(f HardwareFacts, guests GuestOptions) HardwareReport {
	r := HardwareReport{ServerID: f.Server.ID, Name: f.Server.Name, Settled: f.Server.Hardware, Changes: []guest.Change{}}
	if f.Made != nil {
		r.Made = guest.Hardware(*f.Made)
	}
	now, err := c.Define(f, guests)
	if err != nil {
		r.Problem = err.Error()
		return r
	}
	r.Now = guest.Hardware(now)
	if f.Made != nil {
		r.Changes = append(r.Changes, guest.Changes(*f.Made, now)...)
	}
	return r
}
