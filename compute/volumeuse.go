package compute

import (
	"context"
	"fmt"
	"slices"

	"compute-agent/virt"
)

// VolumeUse is what a server's guest did with a volume since it was started.
type VolumeUse struct {
	ServerID, VolumeID string
	virt.DiskUse
}

// VolumeUse is what the running guests did with their volumes (Nova: get_all_volume_usage). ErrInvalid when the hypervisor does not count it.
func (m *Manager) VolumeUse(ctx context.Context) ([]VolumeUse, error) {
	meter, can := m.driver.(virt.DiskMeter)
	if !can {
		return nil, &Failure{Kind: ErrInvalid, Reason: "the hypervisor does not count what guests do with their disks"}
	}
	call, cancel := context.WithTimeout(ctx, m.opt.CallTimeout)
	defer cancel()
	counted, err := meter.DiskUse(call)
	if err != nil {
		return nil, err
	}
	var all []BlockDevice
	err = m.store.View(ctx, func(tx Reader) error {
		all, err = guestsVolumes(tx)
		return err
	})
	type place struct{ server, target string }
	volumes := map[place]string{}
	for _, d := range all {
		if !d.spare() {
			volumes[place{d.ServerID, d.Name}] = d.VolumeID
		}
	}
	var list []VolumeUse
	for _, use := range counted {
		if volume := volumes[place{use.ID, use.Target}]; volume != "" {
			list = append(list, VolumeUse{use.ID, volume, use})
		}
	}
	return list, err
}

// guestsVolumes are the block devices of all servers, but of those whose guests have none of their volumes: some are rescued without.
func guestsVolumes(tx Reader) ([]BlockDevice, error) {
	all, err := tx.AllBlockDevices()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	states, err := tx.ServerStates()
	if err != nil {
		return nil, err
	}
	without := map[string]bool{}
	for _, s := range states {
		if s.VM != Rescued && s.VM != Error {
			continue
		}
		if s, err = tx.Server(s.ID); err != nil {
			return nil, err
		}
		without[s.ID] = s.inPlaceOfAll()
	}
	return slices.DeleteFunc(all, func(d BlockDevice) bool { return without[d.ServerID] }), nil
}

// compareDisks holds the volumes of servers that nothing is under way on against the disks of their guests.
func (m *Manager) compareDisks(in inventory) (found []difference) {
	plugger, can := m.driver.(virt.DiskPlugger)
	if !can {
		return nil
	}
	var all []BlockDevice
	err := m.store.View(m.base, func(tx Reader) (err error) {
		all, err = guestsVolumes(tx)
		return err
	})
	if err != nil {
		return nil
	}
	devices, busy := map[string][]BlockDevice{}, m.underWay()
	for _, d := range all {
		devices[d.ServerID] = append(devices[d.ServerID], d)
	}
	for _, g := range in.guests {
		if len(devices[g.ID]) == 0 || busy[g.ID] {
			continue
		}
		var disks []virt.PluggedDisk
		err := m.driverCall(func(ctx context.Context) (err error) {
			disks, err = plugger.Disks(ctx, g.ID)
			return err
		})
		if err != nil || m.underWay()[g.ID] {
			continue // gone or changed meanwhile: the next audit sees
		}
		for _, what := range misplaced(devices[g.ID], disks, g.State) {
			found = append(found, difference{g.ID, what})
		}
	}
	return found
}

// misplaced says which volumes a guest has not got as it should.
func misplaced(devices []BlockDevice, disks []virt.PluggedDisk, state virt.PowerState) (found []string) {
	for _, d := range devices {
		i := slices.IndexFunc(disks, func(p virt.PluggedDisk) bool { return p.Target == d.Name })
		switch {
		case d.spare() || !d.Attached:
			found = append(found, "volume "+d.VolumeID+" is none of its guest's, and nothing is under way")
		case i < 0:
			found = append(found, "its guest has no disk "+d.Name+", which is volume "+d.VolumeID)
		case disks[i].Serial != "" && disks[i].Serial != d.VolumeID:
			found = append(found, fmt.Sprintf("its guest's disk %s is %q, not volume %s", d.Name, disks[i].Serial, d.VolumeID))
		case !disks[i].Defined:
			found = append(found, "its guest's definition has no disk "+d.Name+", which is volume "+d.VolumeID)
		case !disks[i].Live && (state == virt.PowerRunning || state == virt.PowerPaused):
			found = append(found, "its guest runs without disk "+d.Name+", which is volume "+d.VolumeID)
		}
	}
	return found
}
