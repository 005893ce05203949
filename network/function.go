package network

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Function is a virtual function of a network interface (SR-IOV), by its PCI address. What it is set to, its physical function enforces,
// whatever the guest that has it does.
type Function struct {
	PCI string
	FunctionSettings
	// Owned says that the agent set it, and that Before is what it was.
	Owned  bool
	Before FunctionSettings
}

// FunctionSettings are what a physical function says of a virtual one.
type FunctionSettings struct {
	MAC        string
	VLAN       int  // its frames have this tag on the wire, and the guest sees none; 0 for none
	SpoofCheck bool // it may only send from its MAC
	Trusted    bool // it may change its MAC and be promiscuous
}

// String is the settings in words.
func (f FunctionSettings) String() string {
	return fmt.Sprintf("mac %s vlan %d spoof check %v trusted %v", f.MAC, f.VLAN, f.SpoofCheck, f.Trusted)
}

// String is the function in one line.
func (f Function) String() string {
	out := f.PCI + " " + f.FunctionSettings.String()
	if f.Owned {
		out += ", before " + f.Before.String()
	}
	return out
}

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)

func (p *Port) validateFunction() error {
	hardware := p.VIF == VIFHardware || p.VIF == VIFPhysical
	switch {
	case !hardware && (p.PCI != "" || p.VLAN != 0 || p.Trusted || p.NoSpoofCheck):
		return fmt.Errorf("pci, vlan, trusted, spoof check: vif type %s has none", p.VIF)
	case !hardware:
		return nil
	case !pciAddress.MatchString(p.PCI):
		return fmt.Errorf("pci: %.40q is no address like 0000:81:00.1", p.PCI)
	case p.VLAN < 0 || p.VLAN > 4094:
		return fmt.Errorf("vlan: %d is not from 0 to 4094", p.VLAN)
	case p.VIF == VIFPhysical && (p.VLAN != 0 || p.Trusted || p.NoSpoofCheck):
		return errors.New("vlan, trusted, spoof check: nobody can say them of a whole interface that a guest has")
	case p.Network != "":
		return fmt.Errorf("network: vif type %s is on its interface's", p.VIF)
	case p.QoS != QoS{}:
		return fmt.Errorf("qos: vif type %s has none", p.VIF)
	}
	return nil
}

// function adds the virtual function of a port. A whole interface goes to its guest as it is.
func (p *plan) function(port *Port) error {
	if other, taken := p.pci[port.PCI]; taken {
		return fmt.Errorf("pci: %s is that of port %s", port.PCI, other)
	}
	p.pci[port.PCI] = port.ID
	if port.VIF == VIFHardware {
		p.functions[port.PCI] = Function{PCI: port.PCI, FunctionSettings: FunctionSettings{
			MAC: port.MAC.String(), VLAN: port.VLAN, SpoofCheck: !port.NoSpoofCheck, Trusted: port.Trusted,
		}}
	}
	return nil
}

// giveBack makes the functions that nobody is to have any longer what they were.
func (d *differ) giveBack(want State) {
	for _, pci := range slices.Sorted(maps.Keys(d.now.Functions)) {
		if _, wanted := want.Functions[pci]; d.now.Functions[pci].Owned && !wanted {
			d.emit(Change{Op: OpFunctionBack, Link: pci, Function: d.now.Functions[pci]})
		}
	}
}

// setFunctions makes functions what they are to be.
func (d *differ) setFunctions(want State) {
	for _, pci := range slices.Sorted(maps.Keys(want.Functions)) {
		w := want.Functions[pci]
		have, there := d.now.Functions[pci]
		if !there || have.MAC == "" {
			d.errs = append(d.errs, fmt.Errorf("virtual function %s: %w that has it", pci, ErrMissing))
			continue
		}
		if !have.Owned || have.FunctionSettings != w.FunctionSettings {
			d.emit(Change{Op: OpFunction, Link: pci, Function: w})
		}
	}
}

// doFunction makes the change, as the physical function would.
func (s State) doFunction(c Change) {
	f := s.Functions[c.Link]
	if c.Op == OpFunctionBack {
		f = Function{PCI: f.PCI, FunctionSettings: f.Before}
	} else {
		if !f.Owned {
			f.Owned, f.Before = true, f.FunctionSettings
		}
		f.FunctionSettings = c.Function.FunctionSettings
	}
	s.Functions[c.Link] = f
}
