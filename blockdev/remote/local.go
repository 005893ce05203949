package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
)

// Local connects block devices that this host has: disks, logical volumes of LVM.
type Local struct {
	nobody
	System scsi.System
}

// Connect implements connector.Connector. A device that the host itself uses, by a mount, swap or a map, is refused with InUse.
func (c Local) Connect(_ context.Context, info connector.Info, known connector.Identity) (connector.Device, error) {
	dev, name, err := c.device(info)
	if err == nil {
		err = connector.CheckIdentity(info.Path, dev.Identity, known)
	}
	if err == nil {
		err = c.free(info.Path, name)
	}
	if err != nil {
		return connector.Device{}, err
	}
	return dev, nil
}

// Extend implements connector.Connector.
func (c Local) Extend(_ context.Context, info connector.Info, old connector.Device) (connector.Device, error) {
	dev, _, err := c.device(info)
	if err == nil {
		err = connector.CheckIdentity(info.Path, dev.Identity, old.Identity)
	}
	return dev, err
}

const pathField = "data.device_path"

// device reads a block device, by whichever of its names below /dev, and returns its name in the kernel.
func (c Local) device(info connector.Info) (connector.Device, string, error) {
	fault := func(reason connector.Reason, rule string, err error) (connector.Device, string, error) {
		return connector.Device{}, "", &connector.Error{Reason: reason, Field: pathField, Value: info.Path, Rule: rule, Err: err}
	}
	below, found := strings.CutPrefix(info.Path, "/dev/")
	if !found {
		return fault(connector.InvalidInfo, "a local volume is a device below /dev", nil)
	}
	path, err := filepath.EvalSymlinks(filepath.Join(c.System.Dev, below))
	if errors.Is(err, fs.ErrNotExist) {
		return fault(connector.NoDevice, "the device is not there", err)
	}
	if err != nil {
		return connector.Device{}, "", err
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return connector.Device{}, "", fmt.Errorf("%s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fault(connector.InvalidInfo, "it is not a block device", nil)
	}
	name, err := c.kernelName(stat.Rdev)
	if err != nil {
		return connector.Device{}, "", err
	}
	size, err := c.bytes(stat.Rdev)
	if err != nil {
		return connector.Device{}, "", err
	}
	if size == 0 {
		return fault(connector.BadSize, "the device is empty", nil)
	}
	return connector.Device{Path: path, Format: "raw", Bytes: size, Identity: c.identity(name)}, name, nil
}

// kernelName finds a device by its number: the file may have any name.
func (c Local) kernelName(number uint64) (string, error) {
	target, err := os.Readlink(filepath.Join(c.System.Sys, "dev/block", numbers(number)))
	if err != nil {
		return "", fmt.Errorf("block device %s: %w", numbers(number), err)
	}
	return filepath.Base(target), nil
}

func numbers(n uint64) string { return fmt.Sprintf("%d:%d", unix.Major(n), unix.Minor(n)) }

// sectorSize is the unit of sizes in sysfs, whatever the device's own blocks are.
const sectorSize = 512

func (c Local) bytes(number uint64) (int64, error) {
	file := filepath.Join(c.System.Sys, "dev/block", numbers(number), "size")
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || sectors < 0 || sectors > (1<<63-1)/sectorSize {
		return 0, fmt.Errorf("%s is not a number of sectors", file)
	}
	return sectors * sectorSize, nil
}

// identity is who a device says it is: SCSI's name, NVMe's, or of a map its UUID, which LVM makes for each logical volume. Other devices have none.
func (c Local) identity(name string) connector.Identity {
	if d, found, err := c.System.Block(name); err == nil && found {
		return d.Identity
	}
	for _, file := range []string{"wwid", "device/wwid"} {
		if text := c.attribute(name, file); text != "" {
			return connector.Identity(text)
		}
	}
	if text := c.attribute(name, "dm/uuid"); text != "" {
		if wwid, multipath := strings.CutPrefix(text, "mpath-3"); multipath {
			return connector.Identity("naa." + wwid)
		}
		return connector.Identity("dm." + text)
	}
	return ""
}

func (c Local) attribute(name, file string) string {
	text, err := os.ReadFile(filepath.Join(c.System.Sys, "block", name, file))
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "?")), " ")
}

// volumeMap is the name of a map that decrypts a volume: see blockdev/luks.
var volumeMap = regexp.MustCompile(`^crypt-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// free refuses a device that the host itself uses. A process that has it open may be the volume's guest, or another that shares it.
func (c Local) free(path, name string) error {
	if _, err := os.Stat(filepath.Join(c.System.Sys, "block", name)); err != nil { // a partition
		return c.claimable(path, name)
	}
	holders, err := c.System.Holders(name)
	if err != nil {
		return err
	}
	for _, h := range holders {
		decrypts := h.Kind == scsi.HeldByMap && volumeMap.MatchString(h.Name)
		if h.Kind != scsi.HeldByProcess && !decrypts {
			return inUse(path, h.String())
		}
	}
	return nil
}

func (c Local) claimable(path, name string) error {
	err := c.System.Kernel.Exclusive(c.System.Node(name))
	if errors.Is(err, scsi.ErrHeld) {
		return inUse(path, "it is mounted or part of a map")
	}
	return err
}

func inUse(path, who string) error {
	return &connector.Error{Reason: connector.InUse, Field: pathField, Value: path, Rule: "the host itself uses the device: " + who}
}
