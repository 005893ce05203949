package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
)

// way is one way to a volume: a path and the LUN that the target shows it as there.
type way struct {
	path
	lun uint64 // as the kernel has it
}

// key is what the volume is at its target, whatever the portal.
func (w way) key() string { return fmt.Sprintf("%s %d", w.iqn, w.lun) }

// volume is an Info that was looked at.
type volume struct {
	info connector.Info
	ways []way // that were told; there may be more (Discover)
}

func (c *Connector) parse(info connector.Info) (volume, error) {
	if info.ISCSI == nil || len(info.ISCSI.Targets) == 0 {
		return volume{}, refuse("target_portal", "", "it is missing")
	}
	v := volume{info: info}
	for _, t := range info.ISCSI.Targets {
		p, err := newPath(t, c.interfaceFor(info.Type))
		if err != nil {
			return volume{}, err
		}
		lun, err := scsi.LUN(t.LUN, info.ISCSI.AddressingMode)
		if err != nil {
			return volume{}, refuse("target_lun", fmt.Sprint(t.LUN), err.Error())
		}
		if w := (way{p, lun}); !slices.Contains(v.ways, w) {
			v.ways = append(v.ways, w)
		}
	}
	return v, nil
}

func (c *Connector) interfaceFor(t connector.Type) string {
	if t == connector.ISER && c.Interface == defaultInterface {
		return iserInterface
	}
	return c.Interface
}

// targets are the ways without those that have the target and the LUN of one before.
func (v volume) targets() []way {
	var found []way
	for _, w := range v.ways {
		if !slices.ContainsFunc(found, func(other way) bool { return other.key() == w.key() }) {
			found = append(found, w)
		}
	}
	return found
}

// at says whether the volume's connection_info has the session, with that LUN: by its portal, or by any of the target's when that tells of them.
func (v volume) at(s Session, lun uint64) bool {
	return slices.ContainsFunc(v.ways, func(w way) bool {
		return w.iqn == s.IQN && w.lun == lun && (v.info.ISCSI.Discover || w.portal() == s.Portal)
	})
}

// lock keeps others from the same volume, by whatever portal they know it.
func (c *Connector) lock(ctx context.Context, v volume) (unlock func(), err error) {
	var keys []string
	for _, w := range v.targets() {
		keys = append(keys, w.key())
	}
	slices.Sort(keys) // so that two who want several never wait for each other
	var held []func()
	unlock = func() {
		for _, give := range held {
			give()
		}
	}
	for _, key := range keys {
		give, err := c.volumes.Lock(ctx, key)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, give)
	}
	return unlock, nil
}

// complete adds the ways that the target itself tells of, where all are wanted. That it cannot be asked is no reason to go without the one that is
// known.
func (c *Connector) complete(ctx context.Context, v volume) ([]way, error) {
	if !c.Multipath || !v.info.ISCSI.Discover {
		return v.ways, nil
	}
	ways := slices.Clone(v.ways)
	for _, w := range v.ways {
		if err := c.probe(ctx, w.path); err != nil {
			c.Log.WarnContext(ctx, "An iSCSI portal cannot be asked for others", "portal", w.portal(), "cause", err)
			continue
		}
		paths, err := c.discover(ctx, w.path, v.info.ISCSI.DiscoveryAuth)
		var refused *connector.Error
		if errors.As(err, &refused) && refused.Reason != connector.Unreachable || ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			c.Log.WarnContext(ctx, "An iSCSI portal does not tell of others", "portal", w.portal(), "cause", err)
		}
		for _, p := range paths {
			if other := (way{p, w.lun}); !slices.Contains(ways, other) {
				ways = append(ways, other)
			}
		}
	}
	return ways, nil
}

func address(s Session, lun uint64) scsi.Address {
	return scsi.Address{Host: s.Host, Channel: 0, Target: s.Target, LUN: lun}
}

// disks are the addresses of all that the kernel shows of a session's target, disks or not.
func (c *Connector) disks(s Session) ([]scsi.Address, error) {
	entries, err := os.ReadDir(filepath.Join(c.SCSI.Sys, "bus/scsi/devices"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("disks of iSCSI session %d: %w", s.ID, err)
	}
	prefix := strings.TrimSuffix(address(s, 0).String(), "0")
	var found []scsi.Address
	for _, e := range entries {
		if a, err := scsi.ParseAddress(e.Name()); err == nil && strings.HasPrefix(e.Name(), prefix) {
			found = append(found, a)
		}
	}
	return found, nil
}
