package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// fakeOS is a host's links in memory, as strict as the kernel. It dies when it has done so many steps as it may: an
// addition is two, and leaves a link without a mark between them.
type fakeOS struct {
	t        testing.TB
	state    State
	steps    int // until it dies; -1 lives on
	precious []netip.Prefix
	broken   map[Op]error
}

var errDead = errors.New("killed")

func (f *fakeOS) step() error {
	if f.steps == 0 {
		return errDead
	}
	f.steps--
	return nil
}

func (f *fakeOS) Links(context.Context) (State, error) { return f.state.clone(), nil }

func (f *fakeOS) Do(_ context.Context, c Change) error {
	if err := f.step(); err != nil {
		return err
	}
	if err := f.broken[c.Op]; err != nil {
		return err
	}
	if err := f.refuse(c); err != nil {
		return err
	}
	if c.Op == OpFunction {
		if err := f.step(); err != nil { // it is written down what it was
			is := f.state.Functions[c.Link].FunctionSettings
			f.state.do(Change{Op: OpFunction, Link: c.Link, Function: Function{FunctionSettings: is}})
			return err
		}
	}
	if c.Op == OpSwitchIn {
		f.unlimit(c.Link)
	}
	if c.Op == OpSwitchIn || c.Op == OpSwitchOut || c.Op == OpFunction || c.Op == OpFunctionBack {
		f.state.do(c)
		return nil
	}
	if c.Op == OpAdd {
		if err := f.step(); err != nil {
			f.state.do(Change{Op: OpAdd, Link: halfMade, New: Link{Shape: c.New.Shape}})
			return err
		}
	}
	if c.Op == OpAddSpace {
		if err := f.step(); err != nil {
			f.state.Spaces[c.Space] = Space{Name: c.Space, Half: true}
			return err
		}
	}
	f.effects(c)
	f.state.do(c)
	if c.Op == OpUp && c.Space != "" {
		for _, r := range f.state.Spaces[c.Space].Links[c.Link].Routes {
			f.t.Fatalf("%s: route %s was there while it was down", c, r)
		}
	}
	if c.Op == OpAdd && c.New.Kind != KindTap && c.New.MAC == "" {
		l := f.state.Links[c.Link]
		l.MAC = "02:00:00:00:00:00"
		f.state.Links[c.Link] = l
	}
	for _, a := range f.precious {
		if !f.has(a) {
			f.t.Fatalf("%s: address %s is on no link any more:\n%s", c, a, f.state)
		}
	}
	return nil
}

func (f *fakeOS) has(a netip.Prefix) bool {
	for _, l := range f.state.Links {
		if slices.Contains(l.Addresses, a) {
			return true
		}
	}
	return false
}

// refuse is what the kernel refuses.
func (f *fakeOS) refuse(c Change) error {
	if c.Space != "" {
		return f.refuseInside(c)
	}
	if c.Op == OpSwitchIn || c.Op == OpSwitchOut {
		return f.refuseSwitched(c)
	}
	if c.Op == OpFunction || c.Op == OpFunctionBack {
		return nil
	}
	l, there := f.state.Links[c.Link]
	to, toThere := f.state.Links[c.To]
	parent, parentThere := f.state.Links[cmpOr(c.New.Parent, l.Parent)]
	switch {
	case c.Op == OpAdd && there:
		return ErrTaken
	case c.Op == OpAdd && c.New.Space != "" && (f.state.Spaces[c.New.Space].Name == "" || f.state.Spaces[c.New.Space].Half):
		return ErrMissing
	case c.Op == OpAdd && f.state.Spaces[c.New.Space].Links[c.New.Peer].Name != "":
		return ErrTaken
	case c.Op == OpAdd && c.New.Parent != "" && !parentThere:
		return ErrMissing
	case c.Op == OpAdd && c.New.Kind == KindMacvtap && parent.Master != "":
		return errors.New("macvtap on what is in a bridge")
	case c.Op == OpAdd && f.state.Links[halfMade].Name != "":
		return errors.New("a half-made link is in the way")
	case c.Op != OpAdd && !there, c.To != "" && !toThere:
		return ErrMissing
	case c.Op == OpRemove && !l.owned():
		return errors.New("removes what is not the agent's")
	case c.Op == OpMaster && c.To != "" && to.Kind != KindBridge:
		return errors.New("no bridge")
	case (c.Op == OpAddVLAN || c.Op == OpDropVLAN) && !l.Filtering && !f.state.Links[l.Master].Filtering:
		return errors.New("in no filtering bridge")
	case c.Op == OpUp && l.Parent != "" && !parent.Up:
		return errors.New("what it is on is down")
	case c.Op == OpMoveRoute && (!to.Up || !reaches(to, c.Route)):
		return fmt.Errorf("next hop %s has no way on %s", c.Route.Via, to.Name)
	case c.Op == OpMTU && parentThere && c.New.MTU > parent.MTU:
		return errors.New("mtu is more than that of what it is on")
	}
	return nil
}

// refuseInside is what the kernel refuses of a namespace.
func (f *fakeOS) refuseInside(c Change) error {
	space, there := f.state.Spaces[c.Space]
	l, deviceThere := space.Links[c.Link]
	switch {
	case space.Taken, c.Op == OpAddSpace && there && !space.Half:
		return ErrTaken
	case c.Op == OpAddSpace:
		return nil
	case !there, c.Link != "" && !deviceThere:
		return ErrMissing
	case c.Op == OpAddRoute && (!l.Up || !reaches(l, c.Route)):
		return fmt.Errorf("next hop %s has no way on %s", c.Route.Via, l.Name)
	}
	return nil
}

// unlimit takes a link's limits away, as Open vSwitch does: that of what waits for the guest only when it takes the link.
func (f *fakeOS) unlimit(name string) {
	l, there := f.state.Links[name]
	if !there {
		return
	}
	l.QoS.FromGuest, l.QoS.SetDSCP, l.QoS.DSCP = Rate{}, false, 0
	if _, already := f.state.Switched[name]; !already {
		l.QoS.ToGuest = Rate{}
	}
	f.state.Links[name] = l
}

// refuseSwitched is what Open vSwitch refuses.
func (f *fakeOS) refuseSwitched(c Change) error {
	have, there := f.state.Switched[c.Link]
	switch {
	case f.state.SwitchErr != nil:
		return f.state.SwitchErr
	case c.Op == OpSwitchIn && c.Port.Type == "" && f.state.Links[c.Link].Name == "":
		return errors.New("no such device")
	case c.Op == OpSwitchIn && there && have.Bridge != c.Port.Bridge:
		return errors.New("it is in another bridge")
	case there && !have.Owned:
		return errors.New("changes what is not the agent's")
	}
	return nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func reaches(l Link, r Route) bool {
	return slices.ContainsFunc(l.Addresses, func(a netip.Prefix) bool { return !r.Via.IsValid() || a.Masked().Contains(r.Via) })
}

// effects are what the kernel does besides.
func (f *fakeOS) effects(c Change) {
	l := f.state.Links[c.Link]
	switch c.Op {
	case OpRemove:
		for name, other := range f.state.Links {
			if other.Parent == c.Link {
				f.state.remove(name)
			}
		}
	case OpDropAddress:
		first := slices.IndexFunc(l.Addresses, func(a netip.Prefix) bool { return a.Masked() == c.Address.Masked() })
		if c.Address.Addr().Is4() && !l.owned() && first >= 0 && l.Addresses[first] == c.Address {
			l.Addresses = slices.DeleteFunc(slices.Clone(l.Addresses), func(a netip.Prefix) bool { return a.Masked() == c.Address.Masked() })
			f.state.Links[c.Link] = l
		}
	}
}

// newHost is a fake host with two interfaces, a bridge of somebody else's, and a guest's tap that somebody made.
func newHost(t testing.TB) *fakeOS {
	p := netip.MustParsePrefix
	f := &fakeOS{t: t, steps: -1, state: State{Links: map[string]Link{}, Switched: map[string]SwitchPort{}, Functions: map[string]Function{}, Spaces: map[string]Space{}}}
	for _, l := range []Link{
		{
			Name: "eth0", Up: true, MTU: 9000, MAC: "52:54:00:00:00:01",
			Addresses: []netip.Prefix{p("fe80::5054:ff:fe00:1/64"), p("192.0.2.5/24"), p("192.0.2.6/24"), p("2001:db8::5/64")},
			Routes: []Route{
				{To: p("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1"), Table: mainTable, Protocol: 3},
				{To: p("::/0"), Via: netip.MustParseAddr("2001:db8::1"), Metric: 1024, Table: mainTable, Protocol: 3},
				{To: p("198.51.100.0/24"), Via: netip.MustParseAddr("192.0.2.9"), Metric: 50, Table: 100, Protocol: 4},
			},
		},
		{Name: "eth1", Up: true, MTU: 1600, MAC: "52:54:00:00:00:02"},
		{Name: "br-other", Shape: Shape{Kind: KindBridge}, Up: true, MTU: 1500, MAC: "52:54:00:00:00:03"},
		{Name: "tapguest0000-0", Shape: Shape{Kind: KindTap}, Up: true, MTU: 1500, Master: "br-other"},
	} {
		f.state.Links[l.Name] = l
	}
	for _, pci := range []string{"0000:81:00.1", "0000:81:00.2"} {
		f.state.Functions[pci] = Function{PCI: pci, FunctionSettings: FunctionSettings{MAC: "00:00:00:00:00:00", SpoofCheck: true}}
	}
	f.precious = append(f.precious, f.state.Links["eth0"].Addresses...)
	return f
}
