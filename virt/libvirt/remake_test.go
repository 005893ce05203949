package libvirt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// TestRemakeKeepsWhatTheFirmwareKnows marks the firmware's variables and the directory of the TPM: when the guest is
// made again the marks are there, also when somebody has undefined it meanwhile; when it is destroyed nothing is.
func TestRemakeKeepsWhatTheFirmwareKnows(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	s := smallSpec(t)
	s.Machine, s.Firmware, s.TPM = "q35", virt.Firmware{UEFI: true}, &virt.TPM{Version: "2.0", Model: "tpm-crb"}
	destroyAtEnd(t, d, s.ID)
	must(t, d.Create(within(t), s))
	variables, tpm := keptFiles(t, s.ID)
	must(t, os.WriteFile(filepath.Join(tpm, "mark"), nil, 0o600))
	must(t, d.Stop(within(t), s.ID, virt.StopOptions{}))
	const mark = "marked variables"
	content, err := os.ReadFile(variables)
	must(t, err)
	must(t, os.WriteFile(variables, append(content[:len(content)-len(mark)], mark...), 0o600))

	s.MemoryMiB += 32
	for _, step := range []func(){
		func() {},
		func() { must(t, d.Start(within(t), s.ID)) },
		func() { run(t, "virsh", "-c", testURI(), "undefine", "--keep-nvram", s.ID) },
	} {
		step()
		must(t, d.Remake(within(t), s))
		if content, err := os.ReadFile(variables); err != nil || !strings.HasSuffix(string(content), mark) {
			t.Errorf("the firmware's variables have lost their mark: %v", err)
		}
		if _, err := os.Stat(filepath.Join(tpm, "mark")); err != nil {
			t.Error(err)
		}
	}
	must(t, d.Destroy(within(t), s.ID))
	for _, path := range []string{variables, filepath.Dir(tpm)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// keptFiles are what libvirt has beside a guest: where it says, and where it always has the state of a TPM 2.0.
func keptFiles(t testing.TB, id string) (variables, tpm string) {
	t.Helper()
	var domain libvirtxml.Domain
	must(t, domain.Unmarshal(run(t, "virsh", "-c", testURI(), "dumpxml", id)))
	return domain.OS.NVRam.NVRam, filepath.Join("/var/lib/libvirt/swtpm", id, "tpm2")
}
