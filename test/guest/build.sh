#!/bin/bash
# build.sh makes the tiny guest's disk and prints its path: a qcow2 image that boots from BIOS, and
# from UEFI with and without secure boot, to a serial console in a few seconds under plain emulation. It
# holds Debian's cloud kernel, busybox and the QEMU guest agent, all from Debian packages, and needs
# neither loop devices nor mounts. Beside it lie vmlinuz and initrd, for guests whose kernel is booted directly. The result is kept under the hash of the recipe; a second call returns at once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TINY_GUEST_CACHE:-$(cd "$here/../.." && pwd)/.cache/guest}

recipe=$(cat "$here/build.sh" "$here/init" "$here/lease" /bin/busybox | sha256sum | cut -c1-16)
image=$cache/$recipe/tiny.qcow2
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -s "$image" ]; then
	echo "$image"
	exit
fi

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# Packages are unpacked, not installed: a kernel on the host would pull in a boot loader.
unpack() {
	apt-get download -qq -o APT::Sandbox::User=root "$1"
	dpkg-deb -x "$1"_*.deb "$work/packages"
	rm "$1"_*.deb
}
kernel=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/^ *Depends: *//p' | head -1)
unpack "$kernel"
unpack qemu-guest-agent
unpack shim-signed
unpack grub-efi-amd64-signed
release=${kernel#linux-image-}

# In the order of loading. SCSI drivers come before the ATA controller, whose scan binds them.
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk
virtio_console virtio_balloon virtio-rng button evdev nls_cp437 nls_ascii fat vfat cdrom isofs
scsi_common scsi_mod sr_mod sd_mod virtio_scsi libata ata_piix failover net_failover virtio_net
virtio_input efivarfs"

mkdir -p root/{bin,sbin,dev,etc,proc,sys,run,root,config,modules}
cp /bin/busybox root/bin/
for applet in $(busybox --list); do
	[ -e "root/bin/$applet" ] || ln -s busybox "root/bin/$applet"
done
cp "$here/init" root/init
cp "$here/lease" root/bin/lease
chmod 755 root/init root/bin/lease
# openssl passwd -1 -salt tinytiny tiny: MD5 since the guest checks the password under emulation; it protects nothing.
# shellcheck disable=SC2016
echo 'root:$1$tinytiny$iGgMygPiz1XoDVbyOp.l10:0:0:root:/:/bin/sh' >root/etc/passwd
printf 'export PATH=/bin:/sbin PS1="tiny# "\n' >root/etc/profile
for module in $modules; do
	file=$(find "packages/lib/modules/$release" -name "$module.ko")
	[ -n "$file" ] || continue # built into this kernel
	cp "$file" root/modules/ # as it is: under secure boot the kernel wants its signature
	echo "$module" >>root/modules/order
done
(cd root && find . | cpio --quiet -o -H newc -R 0:0) | gzip -9 >initrd

mkdir agent
cp packages/usr/sbin/qemu-ga agent/
ldd agent/qemu-ga | grep -o '/[^ ]*' | xargs cp -Lt agent/
strip agent/*.so*

parameters="console=ttyS0 quiet panic=-1 nokaslr mitigations=off cryptomgr.notests random.trust_cpu=on tsc=unstable clocksource=acpi_pm"
cat >syslinux.cfg <<CFG
default tiny
prompt 0
label tiny
  linux /vmlinuz
  initrd /initrd
  append $parameters
CFG
# Where the firmware looks on a disk that it does not know, and where the signed GRUB looks for its own.
mkdir -p EFI/BOOT EFI/debian
cp packages/usr/lib/shim/shimx64.efi.signed EFI/BOOT/BOOTX64.EFI
cp packages/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed EFI/BOOT/grubx64.efi
cat >EFI/debian/grub.cfg <<CFG
linux /vmlinuz $parameters
initrd /initrd
boot
CFG
truncate -s 64M disk
mformat -i disk -v TINY -F -h 64 -s 32 -t 64 ::
mcopy -i disk -s "packages/boot/vmlinuz-$release" ::/vmlinuz
mcopy -i disk -s initrd syslinux.cfg agent EFI ::/
syslinux --install disk
mkdir -p "$cache/$recipe"
cp "packages/boot/vmlinuz-$release" "$cache/$recipe/vmlinuz"
cp initrd "$cache/$recipe/initrd"
qemu-img convert -q -f raw -O qcow2 disk "$image.new"
mv "$image.new" "$image"
echo "$image"
