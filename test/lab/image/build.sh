#!/bin/bash
# build.sh makes the lab's disk image: Debian 12 with its full kernel and what a compute node needs.
#
#   build.sh DIRECTORY    writes vmlinuz, initrd, root.img and host_key.pub into it
#
# It needs root (chroot), a Debian mirror, mmdebstrap, mke2fs and cpio. The image is a sparse file
# and is made without a mount or a loop device.
set -euo pipefail
[ $# = 1 ] || {
	sed -n '4s/^# *//p' "${BASH_SOURCE[0]}" >&2
	exit 2
}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "$1" && pwd)
suite=bookworm

work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root

# sources: this machine's own entries for the release, if it has any; they may be a mirror near it.
# Without any mmdebstrap takes Debian's.
sources() {
	# shellcheck disable=SC2016 # apt-get puts in the values
	apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) main' 'Created-By: Packages' 'Component: main' |
		grep -E " $suite(-updates|-security)? main$" | sort -u || true
}

# What guests, documentation readers and machines with screens need is left out.
without() {
	local path
	for path in /usr/share/{doc,man,locale,info,icons,zoneinfo,applications}/ /usr/share/qemu/{edk2,opensbi,hppa,s390,u-boot,openbios,skiboot,palcode,slof}; do
		printf -- '--dpkgopt=path-exclude=%s*\n' "$path"
	done
}
mapfile -t without < <(without)

packages=$(sed 's/#.*//; /^[[:space:]]*$/d' "$here/packages.txt" | paste -sd,)
mapfile -t mirrors < <(sources)
# The kernel is unpacked, not installed: its package would bring the tools for an initrd of their own.
# shellcheck disable=SC2016 # $1 is for mmdebstrap's shell
mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
	--aptopt='Apt::Install-Recommends "false"' "${without[@]}" --include="$packages" \
	--customize-hook='chroot "$1" sh -euc "
		cd /var/tmp
		kernel=\$(apt-cache depends --important linux-image-amd64 | sed -n \"s/^ *Depends: *//p\" | head -1)
		apt-get download -qq -o APT::Sandbox::User=root \$kernel
		mv \${kernel}_*.deb kernel.deb"' \
	"$suite" "$root" "${mirrors[@]}"

# Drivers that no lab machine has use for are most of the kernel's package.
drivers=(gpu media net/wireless staging iio infiniband hwmon usb input isdn bluetooth mmc mtd leds power regulator video)
dpkg-deb --fsys-tarfile "$root/var/tmp/kernel.deb" | tar -x -C "$root" --keep-directory-symlink \
	--exclude='./usr/share' --exclude='*/kernel/sound' --exclude='*/kernel/fs/ocfs2' \
	--exclude='*/kernel/net/bluetooth' --exclude='*/kernel/net/mac80211' \
	"${drivers[@]/#/--exclude=*/kernel/drivers/}"
rm "$root/var/tmp/kernel.deb"
release=$(basename "$root"/lib/modules/*)
mv "$root/boot/vmlinuz-$release" "$out/vmlinuz"
rm -f "$root"/boot/*
chroot "$root" depmod "$release"

cp -rT "$here/files" "$root"
rm -f "$root"/etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -C lab -f "$root/etc/ssh/ssh_host_ed25519_key"
cp "$root/etc/ssh/ssh_host_ed25519_key.pub" "$out/host_key.pub"
systemd-machine-id-setup --root="$root" >/dev/null 2>&1 || head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/etc/machine-id"
# No profiles are loaded, so that nothing has to be compiled under emulation.
sed -i 's/^#\?security_driver.*/security_driver = "none"/' "$root/etc/libvirt/qemu.conf"
# files/etc/systemd/system-preset says which units start; these start without being enabled.
chroot "$root" systemctl --quiet preset-all
xargs -a "$here/units-masked" chroot "$root" systemctl --quiet mask

# initrd: what mounts the root from a virtio disk, and what the first second needs.
initrd=$work/initrd
mkdir -p "$initrd"/{bin,modules,proc,sys,dev,root}
cp "$root/bin/busybox" "$initrd/bin/"
cp "$here/init" "$initrd/init"
chmod 755 "$initrd/init"
chroot "$root" modprobe -S "$release" -a --show-depends virtio_pci virtio_blk ext4 crc32c_generic |
	awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
	while read -r module; do
		cp "$root$module" "$initrd/modules/"
		basename "$module" >>"$initrd/modules/order"
	done
(cd "$initrd" && find . | cpio --quiet -o -H newc -R 0:0) >"$out/initrd"

truncate -s 8G "$work/root.img"
mke2fs -q -t ext4 -L lab -O ^has_journal -E lazy_itable_init=1,nodiscard -m 0 -d "$root" "$work/root.img"
mv "$work/root.img" "$out/root.img"
