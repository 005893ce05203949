package compute

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"compute-agent/configdrive"
	"compute-agent/internal/cpuset"
	"compute-agent/network"
	"compute-agent/network/metadata"
	"compute-agent/neutron"
)

// Attached is what a server's guest is told of its network interfaces and its volumes.
type Attached struct {
	Interfaces     []configdrive.Interface
	Volumes        []BlockDevice
	SecurityGroups []string // names
}

// driveOf is what a server's guest is told: by its config drive, and, without the secrets, by the metadata service.
func driveOf(s Server, on Attached, secret Secrets) configdrive.Drive {
	root, ephemeral, swap := devices(s, on.Volumes)
	drive := configdrive.Drive{
		ID: s.ID, Number: s.Number, Name: s.Name, Hostname: hostname(s), AvailabilityZone: "nova",
		ProjectID: s.ProjectID, Flavor: s.Flavor.Name, RootDevice: root, Ephemeral: ephemeral, Swap: swap,
		Metadata: s.Metadata, UserData: s.UserData, AdminPassword: secret.AdminPassword,
		DedicatedCPUs: dedicatedCPUs(s), Interfaces: on.Interfaces, SecurityGroups: on.SecurityGroups,
	}
	for _, d := range on.Volumes {
		drive.Volumes = append(drive.Volumes, configdrive.Volume{ID: d.VolumeID, Name: d.Name, Bus: documentedBus(d.Bus), Tag: d.Tag})
	}
	if s.Keypair != nil {
		drive.Key = &configdrive.Key{Name: s.Keypair.Name, Type: s.Keypair.Type, PublicKey: s.Keypair.PublicKey}
	}
	return drive
}

// documentedBus is how the documents call the bus that a disk is found on.
func documentedBus(bus string) string {
	switch bus {
	case "virtio":
		return "pci"
	case "scsi", "ide", "usb":
		return bus
	}
	return ""
}

// dedicatedCPUs are the vCPUs of a server that have a pCPU for themselves.
func dedicatedCPUs(s Server) []int {
	var all cpuset.Set
	if asks, err := numaRequest(s).Constraints(); err == nil && asks != nil {
		for i := range asks.Cells {
			all = all.Union(asks.Cells[i].Dedicated)
		}
	}
	return all.Slice()
}

// attachedTo reads what a server's guest is told of its interfaces and volumes.
func (m *Manager) attachedTo(ctx context.Context, s Server) (on Attached, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		on, err = readAttached(tx, s, m.nicBus(s))
		return err
	})
	return on, err
}

func readAttached(r Reader, s Server, bus string) (on Attached, err error) {
	if on.Volumes, err = guestVolumes(r, s.ID); err != nil {
		return on, err
	}
	ports, err := r.PortsOf(s.ID)
	if err != nil {
		return on, err
	}
	for i := range ports {
		nic, err := readInterface(r, &ports[i])
		if err != nil {
			return on, err
		}
		nic.Bus = bus
		on.Interfaces = append(on.Interfaces, nic)
		for _, id := range ports[i].SecurityGroups {
			g, err := r.SecurityGroup(id)
			if err != nil {
				return on, err
			}
			if !slices.Contains(on.SecurityGroups, g.Name) {
				on.SecurityGroups = append(on.SecurityGroups, g.Name)
			}
		}
	}
	return on, nil
}

func readInterface(r Reader, p *neutron.Port) (configdrive.Interface, error) {
	on, err := r.Network(p.NetworkID)
	if err != nil {
		return configdrive.Interface{}, err
	}
	nic := configdrive.Interface{
		ID: p.ID, Name: network.TapName(p.ID), Type: p.VIFType, MAC: p.MAC, MTU: on.MTU, Network: on.ID, Tag: p.Tag,
	}
	if nic.Subnets, err = readSubnets(r, p.FixedIPs); err != nil {
		return nic, err
	}
	floating, err := r.FloatingIPsOf(p.ID)
	for _, f := range floating {
		nic.Floating = append(nic.Floating, f.Address)
	}
	return nic, err
}

// readSubnets are those of a port's addresses, each with all that it has of it.
func readSubnets(r Reader, fixed []neutron.FixedIP) (all []configdrive.Subnet, err error) {
	at := map[string]int{}
	for _, ip := range fixed {
		i, is := at[ip.SubnetID]
		if !is {
			s, err := r.Subnet(ip.SubnetID)
			if err != nil {
				return nil, err
			}
			i, at[ip.SubnetID] = len(all), len(all)
			all = append(all, subnetTold(s))
		}
		all[i].Addresses = append(all[i].Addresses, ip.Address)
	}
	return all, nil
}

func subnetTold(s neutron.Subnet) configdrive.Subnet {
	told := configdrive.Subnet{CIDR: s.CIDR, Gateway: s.Gateway, DNS: s.DNS, DHCP: s.DHCP, AddressMode: string(s.AddressMode)}
	for _, r := range s.Routes {
		told.Routes = append(told.Routes, configdrive.Route(r))
	}
	return told
}

// nicBus is the bus on which a server's guest finds its interfaces, as its documents call it; empty for one that they have no name for:
// those of s390x have channels, and POWER's own interface is on none. Their addresses are chosen when the guest is made.
func (m *Manager) nicBus(s Server) string {
	m.mu.Lock()
	arch := m.host.Arch
	m.mu.Unlock()
	if hw, err := hardwareOf(s); err == nil && hw.Architecture != "" {
		arch = hw.Architecture
	}
	if arch == "s390x" || s.properties()["hw_vif_model"] == "spapr-vlan" {
		return ""
	}
	return "pci"
}

// Bounds of what is remembered of guests' documents.
const (
	documentsAge  = 15 * time.Second // Nova's metadata_cache_expiration
	documentsKept = 64               // guests
	guestSeedSize = 512              // bytes, as Nova's
)

// documentCache remembers the documents of guests that ask: one that starts asks for some dozens within seconds.
type documentCache struct {
	mu   sync.Mutex
	last map[string]remembered // by server
}

// remembered are the documents of a server as it was updated at a time.
type remembered struct {
	files    map[string][]byte
	updated  time.Time
	rendered time.Time
}

func (r remembered) fresh(s Server, now time.Time) bool {
	return r.updated.Equal(s.Updated) && now.Sub(r.rendered) < documentsAge
}

func (c *documentCache) get(s Server, now time.Time) (map[string][]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.last[s.ID]
	return r.files, r.files != nil && r.fresh(s, now)
}

// put remembers a server's documents, and forgets those that are old, or, of too many, those of anybody.
func (c *documentCache) put(s Server, files map[string][]byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]remembered{}
	}
	maps.DeleteFunc(c.last, func(_ string, r remembered) bool { return now.Sub(r.rendered) >= documentsAge })
	for id := range c.last {
		if len(c.last) < documentsKept {
			break
		}
		delete(c.last, id)
	}
	c.last[s.ID] = remembered{files: files, updated: s.Updated, rendered: now}
}

var _ metadata.Source = (*Manager)(nil)

// Documents implements metadata.Source: a guest is told by the metadata service what is on its config drive, but for the admin password.
// A change of its server shows at once, one of its networks after a few seconds.
func (m *Manager) Documents(ctx context.Context, who metadata.Asker) (docs metadata.Documents, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		s, err := serverOf(tx, who)
		if err != nil {
			return err
		}
		docs.Password = s.GuestPassword
		var known bool
		if docs.Files, known = m.documents.get(s, m.now()); known {
			return nil
		}
		on, err := readAttached(tx, s, m.nicBus(s))
		if err != nil {
			return err
		}
		drive := driveOf(s, on, Secrets{})
		drive.Seed = make([]byte, guestSeedSize)
		_, _ = rand.Read(drive.Seed) // never fails
		docs.Files = configdrive.Documents(drive)
		m.documents.put(s, docs.Files, m.now())
		return nil
	})
	return docs, err
}

// serverOf is the server whose guest asks; metadata.ErrNotFound if its port is no server's.
func serverOf(r Reader, who metadata.Asker) (Server, error) {
	p, err := r.Port(who.Port)
	if err == nil {
		var s Server
		if s, err = r.Server(p.DeviceID); err == nil {
			return s, nil
		}
	}
	if errors.Is(err, ErrNotFound) {
		return Server{}, metadata.ErrNotFound
	}
	return Server{}, err
}

// KeepPassword implements metadata.Source: the server keeps what its guest has posted.
func (m *Manager) KeepPassword(ctx context.Context, who metadata.Asker, password string) error {
	return m.store.Update(ctx, func(tx Writer) error {
		s, err := serverOf(tx, who)
		if err != nil {
			return err
		}
		if s.GuestPassword != "" {
			return metadata.ErrPasswordSet
		}
		s.GuestPassword, s.Updated = password, m.now()
		return tx.UpdateServer(s)
	})
}
