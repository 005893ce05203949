package main

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"compute-agent/virt"
)

func TestDoctorLooksAtWhatGuestsCanHave(t *testing.T) {
	for _, c := range []struct {
		name      string
		guests    *virt.Capabilities // nil: not told
		uefi, tpm status
		words     [2]string
	}{
		{"all of it", &virt.Capabilities{Firmware: virt.Offer{"efi"}, SecureBoot: virt.Yes, TPMBackends: virt.Offer{"emulator"}, TPMVersions: virt.Offer{"1.2", "2.0"}},
			statusOK, statusOK, [2]string{"with secure boot", "swtpm: 1.2, 2.0"}},
		{"nothing", &virt.Capabilities{Firmware: virt.Offer{}, TPMBackends: virt.Offer{"passthrough"}},
			statusWarning, statusWarning, [2]string{"apt-get install ovmf", "apt-get install swtpm swtpm-tools"}},
		{"no secure boot", &virt.Capabilities{Firmware: virt.Offer{"efi"}, SecureBoot: virt.No}, statusWarning, statusOK, [2]string{"without secure boot", "does not tell"}},
		{"an old libvirt", &virt.Capabilities{Firmware: virt.Offer{"efi"}}, statusOK, statusOK, [2]string{"found", "does not tell"}},
		{"an older one", nil, statusOK, statusOK, [2]string{"does not tell", "does not tell"}},
	} {
		p := &patient{root: t.TempDir(), config: newConfig(), lookupUser: noUser}
		p.hypervisor.host = virt.Host{Arch: "x86_64", VirtType: "kvm"}
		if c.guests != nil {
			c.guests.Arch, c.guests.VirtType, c.guests.Machine = "x86_64", "kvm", "q35"
			p.hypervisor.host.Capabilities = []virt.Capabilities{*c.guests}
		}
		t.Run(c.name, func(t *testing.T) {
			expect(t, p.checkUEFI(t.Context()), c.uefi, c.words[0])
			expect(t, p.checkTPM(t.Context()), c.tpm, c.words[1])
		})
	}
	p := &patient{config: newConfig(), hypervisor: hypervisor{err: errors.New("no answer")}}
	expect(t, p.checkUEFI(t.Context()), statusWarning, "unknown")
	expect(t, p.checkTPM(t.Context()), statusWarning, "unknown")
	p.config.Driver = "fake"
	expect(t, p.checkUEFI(t.Context()), statusOK, "fake")
	expect(t, p.checkTPM(t.Context()), statusOK, "fake")
}

func noUser(name string) (*user.User, []string, error) {
	return nil, nil, user.UnknownUserError(name)
}

// TestDoctorLooksAtTheTPMsAuthority takes the files of this test for made by root, before there was a user tss.
func TestDoctorLooksAtTheTPMsAuthority(t *testing.T) {
	p := &patient{root: t.TempDir(), config: newConfig(), lookupUser: func(string) (*user.User, []string, error) {
		return &user.User{Uid: "99999"}, nil, nil
	}}
	p.hypervisor.host = virt.Host{Arch: "x86_64", VirtType: "kvm", Capabilities: []virt.Capabilities{
		{Arch: "x86_64", VirtType: "kvm", Machine: "q35", TPMBackends: virt.Offer{"emulator"}, TPMVersions: virt.Offer{"2.0"}}}}
	expect(t, p.checkTPM(t.Context()), statusOK, "2.0")
	write := func(path, text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(p.path(path)), 0o755), os.WriteFile(p.path(path), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("/var/lib/swtpm-localca/signkey.pem", "")
	write("/etc/libvirt/qemu.conf", "#swtpm_user = \"tss\"\n")
	expect(t, p.checkTPM(t.Context()), statusWarning, "chown -R tss /var/lib/swtpm-localca", "signkey.pem")
	write("/etc/libvirt/qemu.conf", "swtpm_user = \"root\"\n")
	expect(t, p.checkTPM(t.Context()), statusOK, "2.0")
}
