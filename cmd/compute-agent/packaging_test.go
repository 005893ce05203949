package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

// The unit and the program agree on what one knows of the other.
func TestUnitFitsTheProgram(t *testing.T) {
	f, err := os.Open("../../packaging/systemd/compute-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	options, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) string {
		for _, o := range options {
			if o.Section == "Service" && o.Name == name {
				return o.Value
			}
		}
		t.Fatalf("the unit has no %s", name)
		return ""
	}
	if got := value("Type"); got != "notify" {
		t.Errorf("Type=%s: the agent says when it is ready", got)
	}
	if got, want := value("ExecStart"), "/usr/bin/compute-agent serve --config "+defaultConfigFile; got != want {
		t.Errorf("ExecStart=%s, want %s", got, want)
	}
	codes := strings.Fields(value("RestartPreventExitStatus"))
	if want := []string{strconv.Itoa(exitUsage), strconv.Itoa(exitState)}; !slices.Equal(codes, want) {
		t.Errorf("RestartPreventExitStatus=%s, want %s", codes, want)
	}
	c := newConfig()
	if stop, err := strconv.ParseFloat(value("TimeoutStopSec"), 64); err != nil || stop <= c.StopTimeout.Seconds() {
		t.Errorf("TimeoutStopSec=%v is not longer than stop_timeout %s", stop, c.StopTimeout)
	}
	if start, err := strconv.ParseFloat(value("TimeoutStartSec"), 64); err != nil || start <= connectLimit.Seconds() {
		t.Errorf("TimeoutStartSec=%v is not longer than the connection to libvirt may take, %s", start, connectLimit)
	}
	if got, want := "/var/lib/"+value("StateDirectory"), c.StateDir; got != want {
		t.Errorf("StateDirectory is %s, the default state_dir %s", got, want)
	}
	// With mounts of the unit's own, the named network namespaces would be nobody else's, and gone with the agent.
	for _, o := range options {
		if strings.HasPrefix(o.Name, "Protect") || strings.HasPrefix(o.Name, "Private") {
			t.Errorf("%s gives the unit mounts of its own", o.Name)
		}
	}
	if got := value("KillMode"); got != "process" {
		t.Errorf("KillMode=%s: DHCP servers run on", got)
	}
	if value("StateDirectoryMode") != "0711" {
		t.Error("QEMU's user must be able to pass through the state directory")
	}
}
