package guest

import (
	"cmp"
	"slices"

	"compute-agent/virt"
)

// firmware is UEFI where the image says so, and on aarch64 where it says nothing.
func (d *definition) firmware() error {
	hw := &d.hw
	f := virt.Firmware{BootMenu: hw.BootMenu}
	f.UEFI = hw.Firmware == "uefi" || hw.Firmware == "" && d.arch == "aarch64"
	f.Stateless = hw.Stateless && hw.Firmware == "uefi"
	switch hw.SecureBoot {
	case "required":
		if err := d.secureBootable(f.UEFI); err != nil {
			return err
		}
		f.SecureBoot = true
	case "optional":
		f.SecureBoot = d.secureBootable(f.UEFI) == nil && d.caps.SecureBoot != virt.No
	}
	d.spec.Firmware = f
	return nil
}

func (d *definition) secureBootable(uefi bool) error {
	switch {
	case !uefi:
		return failed("SecureBootNotSupported", "os_secure_boot", d.hw.SecureBoot, "needs hw_firmware_type=uefi")
	case d.arch == "x86_64" && !d.isQ35():
		return failed("SecureBootNotSupported", "os_secure_boot", d.hw.SecureBoot, "needs a q35 machine type, not %s", d.machine)
	}
	return nil
}

// kernelConsole makes a kernel that is booted directly show its messages wherever somebody may look.
const kernelConsole = "console=tty0 console=ttyS0 console=hvc0"

// boot is what the guest boots: the rescue kernel, the server's kernel, or its drives in their order. A rescued
// guest without a kernel boots its rescue disk: the first, or the one that says so itself.
func (d *definition) boot() {
	b := &d.spec.Boot
	switch rescue := d.r.Rescue; {
	case rescue != nil && rescue.Kernel != "":
		b.Kernel, b.Initrd, b.CommandLine = rescue.Kernel, rescue.Initrd, d.commandLine()
	case rescue != nil:
	case d.r.Server.Kernel != "":
		b.Kernel, b.Initrd = d.r.Server.Kernel, d.r.Server.Initrd
		b.CommandLine = cmp.Or(d.hw.CommandLine, d.commandLine())
	default:
		b.Devices = bootDevices(d.r.Drives)
	}
}

func (d *definition) commandLine() string {
	line := kernelConsole
	if root := rootDrive(d.r.Drives); root != nil {
		line = "root=/dev/" + root.Target + " " + line
	}
	if d.r.Host.VirtType == "qemu" {
		line += " no_timer_check"
	}
	return line
}

// rootDrive is the drive that the server's system, or a rescuer's, is on; nil for none.
func rootDrive(drives []Drive) *Drive {
	for _, is := range []func(*Drive) bool{
		func(d *Drive) bool { return d.Boot == 1 },
		func(d *Drive) bool { return d.Role == RoleRoot },
	} {
		for i := range drives {
			if is(&drives[i]) {
				return &drives[i]
			}
		}
	}
	return nil
}

var bootDevice = map[string]string{"": "hd", "disk": "hd", "lun": "hd", "cdrom": "cdrom", "floppy": "fd"}

// bootDevices are the kinds of drive that the firmware tries, each once.
func bootDevices(drives []Drive) []string {
	var bootable []*Drive
	for i := range drives {
		if drives[i].Boot > 0 {
			bootable = append(bootable, &drives[i])
		}
	}
	slices.SortStableFunc(bootable, func(a, b *Drive) int { return cmp.Compare(a.Boot, b.Boot) })
	var devices []string
	for _, d := range bootable {
		if kind := bootDevice[d.Kind]; !slices.Contains(devices, kind) {
			devices = append(devices, kind)
		}
	}
	return devices
}
