package fabric

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"compute-agent/internal/command"
	"compute-agent/network"
)

func (s *site) closed() bool {
	return strings.Contains(output(s.t, "nft", "list", "ruleset", "bridge"), `iifname "`+tap+`" drop`)
}

// Who flushes the rules while they are loaded leaves no port without a filter: what the kernel tells then is taken for the agent's own.
func TestFlushWhileLoading(t *testing.T) {
	s := open(t)
	s.must(s.Apply(t.Context(), one()))
	want := one()
	want.Firewall.Groups[0].Rules[0].Protocol = "tcp"
	var once sync.Once
	s.runner.then(func(c command.Cmd) {
		if c.Name == "iptables-restore" {
			once.Do(func() { output(t, "iptables", "-F") })
		}
	})
	s.must(s.Apply(t.Context(), want))
	if rules := output(t, "iptables-save"); !strings.Contains(rules, "-A FORWARD -j cagent-") || !strings.Contains(rules, portID) {
		t.Errorf("the port is not filtered:\n%s", rules)
	}
}

// A port that goes is out of its bridge before its filter is gone, whether the agent knows it or one before it.
func TestPortGoesBeforeItsFilter(t *testing.T) {
	for name, restart := range map[string]bool{"of this agent": false, "of an agent before": true} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			s.must(s.Apply(t.Context(), one()))
			if restart {
				s.Close()
				next, err := Open(s.opt)
				s.must(err)
				s.Fabric = next
			}
			want := one()
			want.Ports, want.Firewall.Ports = nil, nil
			looked := false
			s.runner.then(func(c command.Cmd) {
				if c.Stdin == nil {
					return
				}
				looked = true
				if in := s.master(tap); in != "" {
					t.Errorf("%s ran while the port is in %s", c.Name, in)
				}
			})
			s.must(s.Apply(t.Context(), want))
			s.runner.then(nil)
			if s.filtered() || !looked {
				t.Errorf("filtered %v, looked %v", s.filtered(), looked)
			}
			if links, _, _ := s.Repairs(); links != 0 {
				t.Errorf("%d links were put right that the agent took away", links)
			}
		})
	}
}

// A port that was plugged in, and then makes no sense any more, is closed.
func TestPluggedPortThatMakesNoSense(t *testing.T) {
	s := open(t)
	s.must(s.Apply(t.Context(), one()))
	want := one()
	want.Firewall.Ports[0].Groups = []string{"no such group"}
	if ports := PortErrors(s.Apply(t.Context(), want)); len(ports) != 1 || ports[0].Port != portID {
		t.Errorf("errors of ports: %v", ports)
	}
	if s.master(tap) == bridge && !s.closed() {
		t.Error("it is plugged in, and not closed")
	}
	s.must(s.Apply(t.Context(), one()))
	if s.master(tap) != bridge || s.closed() {
		t.Errorf("it is in %q, closed %v", s.master(tap), s.closed())
	}
}

// A tap that is there already is not plugged in without its filter.
func TestTapWithoutFilterIsNotPluggedIn(t *testing.T) {
	s := open(t)
	down := one()
	down.Ports[0].Network, down.Ports[0].MTU = "", 1500
	p := &down.Firewall.Ports[0]
	p.Bridge, p.Zone, p.Groups = "", 0, nil
	s.must(s.Apply(t.Context(), down))
	for _, program := range []string{"iptables", "*"} {
		s.runner.fail(program)
		if err := s.Apply(t.Context(), one()); len(PortErrors(err)) != 1 {
			t.Errorf("error %v", err)
		}
		if in := s.master(tap); in != "" {
			t.Errorf("it is in %s", in)
		}
	}
	s.runner.fail("")
	s.must(s.Apply(t.Context(), one()))
	if s.master(tap) != bridge {
		t.Error("it is not plugged in when it can be")
	}
}

// Whoever flushes the rules when they cannot be loaded again has the ports unplugged, until they can be.
func TestFlushThatCannotBePutRight(t *testing.T) {
	s := open(t)
	s.must(s.Apply(t.Context(), one()))
	s.runner.fail("*")
	output(t, "iptables", "-F")
	s.until("the port is unplugged", func() bool { return s.master(tap) == "" })
	s.runner.fail("")
	s.until("the port is back, with its filter", func() bool { return s.master(tap) == bridge && s.filtered() })
}

// An audit that asks for all to be looked at does not wait for what is under way, which may take long.
func TestResyncDoesNotWait(t *testing.T) {
	s := open(t)
	asked := false
	s.runner.then(func(c command.Cmd) {
		if c.Name == "iptables-restore" {
			s.Resync()
			asked = true
		}
	})
	s.must(s.Apply(t.Context(), one()))
	looked := false
	s.runner.then(func(c command.Cmd) { looked = looked || c.Name == "iptables-save" })
	s.must(s.Apply(t.Context(), one()))
	s.runner.then(nil)
	if !asked || !looked {
		t.Errorf("asked %v; the next round looks: %v", asked, looked)
	}
}

// hangingRunner waits for the end of its context.
type hangingRunner struct{}

func (hangingRunner) Run(ctx context.Context, _ command.Cmd) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestHangingProgramEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := (limited{hangingRunner{}}).Run(t.Context(), command.Cmd{}); !errors.Is(err, errHangs) {
			t.Errorf("error %v", err)
		}
	})
}

func TestLeaving(t *testing.T) {
	mark := network.Mark{ID: "x"}
	have := network.State{Links: map[string]network.Link{}}
	for _, l := range []network.Link{
		{Name: tap, Mark: mark, Shape: network.Shape{Kind: network.KindTap}}, {Name: "tapgone", Mark: mark, Shape: network.Shape{Kind: network.KindTap}},
		{Name: "tapother", Shape: network.Shape{Kind: network.KindTap}}, {Name: "tapveth", Mark: mark, Shape: network.Shape{Kind: network.KindVeth}},
	} {
		have.Links[l.Name] = l
	}
	if got := leaving(have, one()); !slices.Equal(got, []string{"tapgone"}) {
		t.Errorf("leaving: %q", got)
	}
}
