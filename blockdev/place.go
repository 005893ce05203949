package blockdev

import "strconv"

// placer gives drives their places, one after the other.
type placer struct {
	Request
	on                platform
	diskBus, cdromBus Bus
	root              Drive
	rootVolume        int // -1 if the root device is no volume
	drives            []Drive
	taken             map[string]bool // names of the drives so far
	promised          map[string]bool // names that drives to come have had
}

func newPlacer(r Request) (*placer, error) {
	p := &placer{Request: r, on: r.platform(), rootVolume: -1, taken: map[string]bool{}, promised: map[string]bool{}}
	if v := p.on.virtType; !r.AsNova && v != "kvm" && v != "qemu" {
		return nil, p.on.unknown()
	}
	var err error
	if p.diskBus, err = p.on.busFor(Disk, r.Properties); err != nil {
		return nil, err
	}
	p.cdromBus, err = p.on.busFor(CDROM, r.Properties)
	return p, err
}

// planRescue is Nova's older rescue: the rescue disk comes first, the root disk second, and nothing of the rest is
// there but a config drive.
func (p *placer) planRescue() error {
	name, err := p.free(p.diskBus)
	if err != nil {
		return err
	}
	p.root = Drive{Role: Rescue, Name: name, Bus: p.diskBus, Type: Disk, BootIndex: 1}
	p.put(p.root)
	if err := p.next(Root, Disk, p.diskBus); err != nil {
		return err
	}
	return p.planConfigDrive()
}

// planAll places the root device, ephemeral disks, swap, volumes, config drive and the disk of a stable
// rescue.
func (p *placer) planAll() error {
	for _, step := range []func() error{p.planRoot, p.planEphemerals, p.planSwap, p.planVolumes, p.planConfigDrive, p.planStableRescue} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// planRoot places the root device. Nova gives one without a name the first name of its bus, even when another drive
// has that.
func (p *placer) planRoot() error {
	p.promise()
	wanted := p.wantedRoot()
	wanted.BootIndex = new(int)
	if p.ISO {
		wanted.Bus, wanted.Type = p.cdromBus, CDROM
	}
	if wanted.Name == "" {
		wanted.Name = p.RootName
	}
	avoid := p.promised
	if p.AsNova {
		avoid = nil
	}
	d, err := p.locate(wanted, p.diskBus, avoid)
	if err != nil {
		return err
	}
	d.Role = Root
	if p.rootVolume >= 0 {
		d.Role, d.Index = Volume, p.rootVolume
	}
	p.root = d
	p.put(d)
	return nil
}

// wantedRoot is what was said of the root device.
func (p *placer) wantedRoot() Wanted {
	if p.Image != nil {
		return *p.Image
	}
	for i, v := range p.Volumes {
		if v.BootIndex != nil && *v.BootIndex == 0 {
			p.rootVolume = i
			return v
		}
	}
	return Wanted{}
}

// promise notes the names that drives have had, so that no drive without one gets them.
func (p *placer) promise() {
	all := append(append([]Wanted{}, p.Ephemerals...), p.Volumes...)
	for _, w := range []*Wanted{p.Image, p.Swap} {
		if w != nil {
			all = append(all, *w)
		}
	}
	for _, w := range all {
		if w.Name != "" {
			p.promised[Strip(w.Name)] = true
		}
	}
}

func (p *placer) planEphemerals() error {
	for i, w := range p.Ephemerals {
		avoid := p.promised
		if p.AsNova && w.Implied {
			avoid = nil
		}
		d, err := p.locate(w, p.diskBus, avoid)
		if err != nil {
			return err
		}
		if p.AsNova && w.Implied && p.promised[d.Name] {
			continue // the guest goes without it
		}
		d.Role, d.Index, d.BootIndex = Ephemeral, i, 0
		p.put(d)
	}
	return nil
}

// planSwap places the swap disk. Nova gives one that was asked for without a name the first free name, even when a
// volume to come has that.
func (p *placer) planSwap() error {
	if p.Swap == nil {
		return nil
	}
	avoid := p.promised
	if p.AsNova && !p.Swap.Implied {
		avoid = nil
	}
	d, err := p.locate(*p.Swap, p.diskBus, avoid)
	if err != nil {
		return err
	}
	d.Role, d.BootIndex = Swap, 0
	p.put(d)
	return nil
}

func (p *placer) planVolumes() error {
	for i, w := range p.Volumes {
		if i == p.rootVolume {
			continue
		}
		d, err := p.locate(w, "", p.promised)
		if err != nil {
			return err
		}
		d.Role, d.Index = Volume, i
		p.put(d)
	}
	return nil
}

func (p *placer) planConfigDrive() error {
	var t Type
	switch p.ConfigDrive {
	case "":
		return nil
	case ISO9660:
		t = CDROM
	case VFAT:
		t = Disk
	default:
		return failed(ConfigDriveUnknownFormat, "config_drive_format", p.ConfigDrive, "it is not %s or %s", ISO9660, VFAT)
	}
	bus, err := p.on.busFor(t, p.Properties)
	if err != nil {
		return err
	}
	return p.next(ConfigDrive, t, bus)
}

// planStableRescue adds the rescue disk behind the others. The guest boots from it alone; Nova says so when it
// makes the domain, not here.
func (p *placer) planStableRescue() error {
	if p.Rescue == nil {
		return nil
	}
	t, bus, err := p.rescueDevice()
	if err != nil {
		return err
	}
	if err := p.next(Rescue, t, bus); err != nil || p.AsNova {
		return err
	}
	for i := range p.drives {
		p.drives[i].BootIndex = 0
	}
	p.drives[len(p.drives)-1].BootIndex = 1
	p.root.BootIndex = 0
	return nil
}

func (p *placer) rescueDevice() (Type, Bus, error) {
	image := p.Rescue.Properties
	t := Type(image[PropRescueDevice])
	if t == "" {
		t = Disk
	}
	if !t.known() {
		return "", "", failed(UnsupportedRescueDevice, PropRescueDevice, string(t), "it is not disk, cdrom, floppy or lun")
	}
	if bus := Bus(image[PropRescueBus]); bus != "" {
		has, err := p.on.has(bus)
		if err == nil && !has {
			err = failed(UnsupportedRescueBus, PropRescueBus, string(bus), "%s has no such bus; there are %s", p.on.virtType, words(supported[p.on.virtType]))
		}
		return t, bus, err
	}
	on := p.on
	if p.AsNova {
		on = Request{VirtType: p.VirtType, Arch: p.Rescue.Arch, Machine: p.Rescue.Machine, AsNova: true}.platform()
	}
	bus, err := on.busFor(t, image)
	return t, bus, err
}

func (t Type) known() bool { return t == Disk || t == CDROM || t == Floppy || t == LUN }

// locate finds the place of a drive: on its own bus, on the given one or on its type's, under its own name or the
// first that is free of those so far and those to avoid.
func (p *placer) locate(w Wanted, bus Bus, avoid map[string]bool) (Drive, error) {
	d := Drive{Name: Strip(w.Name), Bus: w.Bus, Type: w.Type}
	if !d.Type.known() {
		d.Type = Disk
	}
	if d.Bus == "" {
		d.Bus = bus
	}
	has, err := p.on.has(d.Bus)
	if err == nil && !has {
		d.Bus, err = p.otherBus(d, w)
	}
	if err == nil && d.Name == "" {
		d.Name, err = p.free(d.Bus, p.taken, avoid)
	}
	if w.BootIndex != nil && *w.BootIndex >= 0 {
		d.BootIndex = *w.BootIndex + 1
	}
	return d, err
}

// otherBus is where a drive goes whose bus the hypervisor has not or that says none. Nova passes over a bus
// that the hypervisor has not.
func (p *placer) otherBus(d Drive, w Wanted) (Bus, error) {
	switch {
	case w.Bus != "" && !p.AsNova:
		return "", failed(UnsupportedHardware, keyBus, string(w.Bus), "%s has no such bus; there are %s", p.on.virtType, words(supported[p.on.virtType]))
	case d.Name != "":
		return p.busOf(d.Name)
	}
	return p.on.busFor(d.Type, p.Properties)
}

// next puts a drive under the first free name of a bus.
func (p *placer) next(role Role, t Type, bus Bus) error {
	name, err := p.free(bus, p.taken)
	if err != nil {
		return err
	}
	p.put(Drive{Role: role, Name: name, Bus: bus, Type: t})
	return nil
}

func (p *placer) put(d Drive) {
	p.drives = append(p.drives, d)
	p.taken[d.Name] = true
}

// check holds the drives against what a machine has and what names and boot indexes promise.
func (p *placer) check() error {
	if p.MaxDrives != nil && len(p.drives) > *p.MaxDrives {
		return p.beyond(len(p.drives))
	}
	names, boots := map[string]bool{}, map[int]bool{}
	buses := map[Bus]int{}
	for _, d := range p.drives {
		buses[d.Bus]++
		switch fault, bad := p.on.fault(d), p.nameFault(d.Name, d.Bus); {
		case fault != "":
			return failed(UnsupportedHardware, p.keyOf(d), string(d.Bus), "%s", fault)
		case bad != "":
			return failed(InvalidDevicePath, keyName, Path(d.Name), "%s", bad)
		case names[d.Name]:
			return failed(DevicePathInUse, keyName, Path(d.Name), "two drives have it")
		case d.BootIndex > 0 && boots[d.BootIndex]:
			return failed(InvalidBDMBootSequence, "boot_index", strconv.Itoa(d.BootIndex-1), "two drives have it")
		case buses[d.Bus] > p.places(d.Bus):
			return tooMany(keyBus, string(d.Bus), p.places(d.Bus), "the bus has %d places")
		}
		names[d.Name], boots[d.BootIndex] = true, true
	}
	return nil
}

// beyond is that a guest would have more drives than the operator allows.
func (r Request) beyond(drives int) error {
	return tooMany(KeyMaxDrives, strconv.Itoa(drives), *r.MaxDrives, "a guest has at most %d drives here")
}

// keyOf is what the bus of a drive came from: the image's property, unless a block device mapping named it.
func (p *placer) keyOf(d Drive) string {
	key := propOf(d.Type)
	switch {
	case d.Role == Rescue && p.Rescue.Properties[PropRescueBus] != "":
		return PropRescueBus
	case d.Role == Volume && p.Volumes[d.Index].Bus != "", p.Properties[key] == "":
		return keyBus
	}
	return key
}
