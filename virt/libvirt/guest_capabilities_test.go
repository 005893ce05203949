package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/internal/golden"
	"compute-agent/virt"
)

// recorded returns the files of testdata/hosts that have a name.
func recorded(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/hosts/*/" + pattern)
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("no host has %s", pattern)
	}
	return files
}

func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// TestGuestCapabilities shows what is read out of the domain capabilities of hosts, a line for each thing.
func TestGuestCapabilities(t *testing.T) {
	for _, path := range recorded(t, "*-*.xml") {
		c, err := GuestCapabilities(readText(t, path))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		golden.Assert(t, strings.TrimSuffix(path, ".xml")+".golden", capabilityLines(t, c))
	}
}

// capabilityLines writes nil as null, so that what was not told is told apart from what is not there.
func capabilityLines(t testing.TB, c virt.Capabilities) string {
	t.Helper()
	var models []string
	for _, m := range c.CPUModels {
		models = append(models, m.Name+":"+string(m.Usable))
	}
	c.CPUModels = nil
	text, err := json.Marshal(c)
	must(t, err)
	var fields map[string]json.RawMessage
	must(t, json.Unmarshal(text, &fields))
	lines := []string{"CPUModels " + strings.Join(models, " ")}
	for name, value := range fields {
		if name != "CPUModels" {
			lines = append(lines, name+" "+string(value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// TestMachines shows the machine types of hosts.
func TestMachines(t *testing.T) {
	for _, path := range recorded(t, "capabilities.xml") {
		var lines strings.Builder
		for _, m := range Machines(parseCaps(t, readText(t, path))) {
			fmt.Fprintf(&lines, "%s %s %v %d\n", m.Arch, m.Name, m.Aliases, m.MaxVCPUs)
		}
		golden.Assert(t, filepath.Join(filepath.Dir(path), "machines.golden"), lines.String())
	}
}

// TestMachinesOfDomains: a virt type with an emulator of its own has machine types of its own.
func TestMachinesOfDomains(t *testing.T) {
	got := Machines(parseCaps(t, `<capabilities><host/><guest><os_type>hvm</os_type><arch name='x86_64'>
		<machine canonical='pc-1' maxCpus='8'>pc</machine><machine maxCpus='8'>pc-1</machine>
		<domain type='kvm'><machine canonical='pc-1' maxCpus='16'>pc</machine><machine>odd</machine></domain></arch></guest></capabilities>`))
	want := []virt.MachineType{{Arch: "x86_64", Name: "odd"}, {Arch: "x86_64", Name: "pc-1", Aliases: []string{"pc"}, MaxVCPUs: 16}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("machine types %v, want %v", got, want)
	}
}

// TestWhatIsNotTold: a libvirt that says nothing of a thing does not say that it is not there.
func TestWhatIsNotTold(t *testing.T) {
	c, err := GuestCapabilities("<domainCapabilities><arch>x86_64</arch></domainCapabilities>")
	must(t, err)
	if c.Firmware.Refuses("efi") || c.VideoModels.Refuses("vga") || c.CPUModes.Refuses("custom") || c.IOThreads != virt.Untold {
		t.Errorf("silence was taken for a no: %+v", c)
	}
	c, err = GuestCapabilities(`<domainCapabilities><os supported='yes'><enum name='firmware'/></os>
		<devices><video supported='no'/><tpm supported='yes'><enum name='model'><value>tpm-tis</value></enum></tpm></devices></domainCapabilities>`)
	must(t, err)
	if !c.Firmware.Refuses("efi") || !c.VideoModels.Refuses("vga") || !c.TPMModels.Refuses("tpm-crb") || c.TPMVersions.Refuses("2.0") {
		t.Errorf("a no was not heard: %+v", c)
	}
	if _, err := GuestCapabilities("<domainCapabilities>"); err == nil {
		t.Error("half a document was read")
	}
}

// TestCapabilitiesAreKept asks libvirt again only when there is a reason to.
func TestCapabilitiesAreKept(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var known guestMemory
	asked := 0
	read := func(version int, after time.Duration, fail error) error {
		_, err := known.read(&virt.Host{HypervisorVersion: version}, start.Add(after), func() ([]virt.Capabilities, error) {
			asked++
			return []virt.Capabilities{}, fail
		})
		return err
	}
	for _, c := range []struct {
		why     string
		version int
		after   time.Duration
		want    int
	}{
		{"the first time", 7002022, 0, 1},
		{"a moment later", 7002022, capabilitiesAge - 1, 1},
		{"when it may have changed", 7002022, capabilitiesAge, 2},
		{"after an upgrade", 8000000, capabilitiesAge, 3},
	} {
		if err := read(c.version, c.after, nil); err != nil || asked != c.want {
			t.Errorf("%s: libvirt was asked %d times, want %d (%v)", c.why, asked, c.want, err)
		}
	}
	broken := errors.New("no answer")
	if err := read(9000000, capabilitiesAge, broken); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if err := read(9000000, capabilitiesAge, nil); err != nil || asked != 5 {
		t.Errorf("after a failure libvirt was asked %d times (%v)", asked, err)
	}
}

// TestHostTellsOfGuests reads the capabilities of the libvirt that is here.
func TestHostTellsOfGuests(t *testing.T) {
	needLibvirt(t)
	h, err := newDriver(t, Options{}).Host(within(t))
	must(t, err)
	for _, machine := range []string{"pc", "q35", "pc-q35-6.2"} {
		c := h.CapabilitiesOf("x86_64", "qemu", machine)
		if c == nil {
			t.Fatalf("nothing is known of machine type %s: %+v", machine, h.Capabilities)
		}
		if c.Emulator != h.Emulator || c.VideoModels.Refuses("vga") || c.DiskBuses.Refuses("virtio") || c.CPUModel("qemu64") == nil {
			t.Errorf("machine type %s: %+v", machine, c)
		}
	}
	if m := h.CapabilitiesOf("x86_64", "qemu", "pc").CPUModel("Nehalem"); m == nil || !slices.Contains(m.Features, "sse4.2") || slices.Contains(m.Features, "avx") {
		t.Errorf("Nehalem is %+v", m)
	}
	if c := h.CapabilitiesOf("x86_64", "qemu", "isapc"); c != nil {
		t.Errorf("libvirt was not asked about isapc: %+v", c)
	}
}

func FuzzGuestCapabilities(f *testing.F) {
	for _, path := range recorded(f, "*-*.xml") {
		f.Add(readText(f, path))
	}
	f.Add("<domainCapabilities><devices><tpm/><hostdev supported='no'/></devices><features><sev supported='yes'/></features></domainCapabilities>")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := GuestCapabilities(text)
		if err != nil {
			return
		}
		if c.SEV != nil && (c.SEV.MaxGuests < 0 || c.SEV.CBitPos < 0) || c.MaxVCPUs < 0 {
			t.Errorf("negative figures: %+v", c)
		}
		h := virt.Host{Capabilities: []virt.Capabilities{c}}
		if h.CapabilitiesOf(c.Arch, c.VirtType, c.Machine) == nil {
			t.Error("what was read is not found")
		}
	})
}
