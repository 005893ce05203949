package virt

import (
	"testing"
)

func TestCanonicalMachine(t *testing.T) {
	h := Host{Machines: []MachineType{
		{Arch: "aarch64", Name: "virt-7.2", Aliases: []string{"virt"}},
		{Arch: "x86_64", Name: "pc-i440fx-7.2", Aliases: []string{"pc"}},
		{Arch: "x86_64", Name: "pc-q35-7.2", Aliases: []string{"q35", "ubuntu-q35"}},
	}}
	for _, c := range []struct{ arch, machine, want string }{
		{"x86_64", "pc", "pc-i440fx-7.2"},
		{"x86_64", "q35", "pc-q35-7.2"},
		{"x86_64", "ubuntu-q35", "pc-q35-7.2"},
		{"x86_64", "pc-q35-7.2", "pc-q35-7.2"},
		{"aarch64", "virt", "virt-7.2"},
		{"x86_64", "virt", "virt"}, // of another architecture
		{"x86_64", "pc-q35-99.0", "pc-q35-99.0"},
	} {
		if got := h.CanonicalMachine(c.arch, c.machine); got != c.want {
			t.Errorf("%s %s is %s, want %s", c.arch, c.machine, got, c.want)
		}
	}
	if got := (Host{}).CanonicalMachine("x86_64", "pc"); got != "pc" {
		t.Errorf("on a host that does not tell pc is %s", got)
	}
}
