package plan

import (
	"cmp"
	"strconv"

	"compute-agent/blockdev"
	"compute-agent/guest"
)

// places are the guest's drives by Nova's names for them: as the question has them, else as they are decided here.
func (f *domainForm) places(r *guest.Request, conf *reader) (map[string]placeForm, error) {
	if f.Derived.Disks != nil {
		return f.Derived.Disks.Mapping, nil
	}
	wanted, err := f.wantedDrives(r, conf)
	if err != nil {
		return nil, err
	}
	mapping, err := blockdev.Plan(wanted)
	if err != nil {
		return nil, err
	}
	places := placesOf(mapping, f.Input.Volumes)
	if len(wanted.Ephemerals) == 1 && wanted.Ephemerals[0].Implied { // which has a name of its own
		places["disk.local"] = places["disk.eph0"]
		delete(places, "disk.eph0")
	}
	return places, nil
}

// wantedDrives is what the question asks for in package blockdev's words.
func (f *domainForm) wantedDrives(r *guest.Request, conf *reader) (blockdev.Request, error) {
	q := &f.Input
	arch, machine, err := r.Machine()
	if err != nil {
		return blockdev.Request{}, err
	}
	w := blockdev.Request{
		VirtType: r.Host.VirtType, Arch: arch, Machine: machine, Properties: r.Image.Properties, ISO: q.Image.Format == "iso",
		RootName: q.Instance.RootDevice, Prefix: conf.text("libvirt.disk_prefix", ""), AsNova: true,
	}
	if q.Instance.ConfigDrive.yes() || conf.yes("DEFAULT.force_config_drive", false) {
		w.ConfigDrive = conf.text("DEFAULT.config_drive_format", blockdev.ISO9660)
	}
	if q.Rescue != nil {
		w.Rescue = &blockdev.RescueImage{Stable: r.Image.Properties[blockdev.PropRescueBus] != "" || r.Image.Properties[blockdev.PropRescueDevice] != "", Properties: r.Image.Properties}
	}
	for i := range q.Volumes {
		b := &q.Volumes[i]
		want := blockdev.Wanted{Name: cmp.Or(b.MountDevice, b.DeviceName), Bus: blockdev.Bus(b.DiskBus), Type: blockdev.Type(b.DeviceType)}
		if b.BootIndex != nil {
			want.BootIndex = new(int(*b.BootIndex))
		}
		switch {
		case b.isVolume():
			w.Volumes = append(w.Volumes, want)
		case b.GuestFormat == "swap":
			w.Swap = &want
		case b.Source == "blank":
			w.Ephemerals = append(w.Ephemerals, want)
		case b.Source == "image":
			w.Image = &want
		}
	}
	if q.Flavor.EphemeralGB > 0 && len(w.Ephemerals) == 0 {
		w.Ephemerals = []blockdev.Wanted{{Implied: true}}
	}
	if q.Flavor.SwapMiB > 0 && w.Swap == nil {
		w.Swap = &blockdev.Wanted{Implied: true}
	}
	return w, conf.err
}

// placesOf names a guest's drives as Nova does.
func placesOf(m blockdev.Mapping, volumes []bdmForm) map[string]placeForm {
	places := map[string]placeForm{"root": placeOf(m.Root)}
	for _, d := range m.Drives {
		switch d.Role {
		case blockdev.Root:
			places["disk"] = placeOf(d)
		case blockdev.Ephemeral:
			places["disk.eph"+strconv.Itoa(d.Index)] = placeOf(d)
		case blockdev.Swap:
			places["disk.swap"] = placeOf(d)
		case blockdev.ConfigDrive:
			places["disk.config"] = placeOf(d)
			places["disk.config.rescue"] = placeOf(d)
		case blockdev.Rescue:
			places["disk.rescue"] = placeOf(d)
		case blockdev.Volume:
			seen := 0
			for i := range volumes {
				if !volumes[i].isVolume() {
					continue
				}
				if seen == d.Index {
					volumes[i].DeviceName, volumes[i].MountDevice = blockdev.Path(d.Name), ""
					places[volumes[i].device()] = placeOf(d)
				}
				seen++
			}
		}
	}
	return places
}

func placeOf(d blockdev.Drive) placeForm {
	p := placeForm{Bus: string(d.Bus), Dev: d.Name, Type: string(d.Type)}
	if d.BootIndex > 0 {
		p.Boot = scalar(strconv.Itoa(d.BootIndex))
	}
	return p
}
