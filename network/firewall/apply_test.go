package firewall_test

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"compute-agent/internal/command"
	"compute-agent/network/firewall"
	"compute-agent/network/firewall/eval"

	goiptables "github.com/coreos/go-iptables/iptables"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// recorder runs programs and remembers what they were given; it can refuse one that is given a text.
type recorder struct {
	command.Exec
	ran    []string
	refuse func(program, input string) error
	after  int // how many programs that change something may run before none does; negative for all
}

func newRecorder() *recorder { return &recorder{after: -1} }

var errKilled = errors.New("killed")

func (r *recorder) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	changes := c.Stdin != nil
	if !changes {
		return r.Exec.Run(ctx, c)
	}
	var b strings.Builder
	buffer := make([]byte, 1<<20)
	for {
		n, err := c.Stdin.Read(buffer)
		b.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	if r.after == 0 {
		return nil, errKilled
	}
	r.after--
	if r.refuse != nil {
		if err := r.refuse(c.Name, b.String()); err != nil {
			return nil, err
		}
	}
	r.ran = append(r.ran, c.Name+"\n"+b.String())
	c.Stdin = strings.NewReader(b.String())
	return r.Exec.Run(ctx, c)
}

// held is all that the kernel has of iptables, ipset and nft, without counters.
func held(t testing.TB, v firewall.Variant) string {
	t.Helper()
	var out []string
	for _, p := range []string{"iptables-" + string(v) + "-save", "ip6tables-" + string(v) + "-save"} {
		for line := range strings.Lines(output(t, p)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " [")
			if line[0] == '-' || line[0] == ':' && strings.HasSuffix(name, " -") { // built-in chains come with their table
				out = append(out, p+" "+name)
			}
		}
	}
	sets := strings.Split(output(t, "ipset", "save"), "\n")
	for i, line := range sets {
		sets[i], _, _ = strings.Cut(line, " initval") // a random number
	}
	slices.Sort(sets)
	return strings.Join(append(out, sets...), "\n") + output(t, "nft", "-s", "list", "tables", "bridge")
}

func apply(t testing.TB, f *firewall.Firewall, s firewall.State) {
	t.Helper()
	if err := f.Apply(context.Background(), s); err != nil {
		t.Fatal(err)
	}
}

// TestApplyTwice: a second Apply runs no program, not even by an agent that has just started.
func TestApplyTwice(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		newHost(t)
		r := newRecorder()
		f := firewall.New(r, v, nil)
		apply(t, f, testState())
		r.ran = nil
		apply(t, f, testState())
		f.Resync()
		apply(t, f, testState())
		apply(t, firewall.New(r, v, nil), testState())
		if r.ran != nil {
			t.Errorf("programs ran that changed nothing: %q", r.ran)
		}
	})
}

// TestTeardown: to apply nothing removes all, and what others made stays.
func TestTeardown(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		newHost(t)
		others(t, v)
		before := held(t, v)
		f := firewall.New(command.Exec{}, v, nil)
		apply(t, f, testState())
		during := held(t, v)
		for line := range strings.Lines(before) {
			if !strings.Contains(during, line) {
				t.Errorf("%q of another is gone", line)
			}
		}
		apply(t, firewall.New(command.Exec{}, v, nil), firewall.State{})
		if diff := cmp.Diff(before, held(t, v)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	})
}

// others loads rules and a set of somebody else, with go-iptables.
func others(t testing.TB, v firewall.Variant) *goiptables.IPTables {
	t.Helper()
	ipt, err := goiptables.New(goiptables.Path("iptables-" + string(v)))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		ipt.NewChain("filter", "theirs"),
		ipt.Append("filter", "theirs", "-s", "192.0.2.1", "-j", "DROP"),
		ipt.Append("filter", "FORWARD", "-j", "theirs"),
		ipt.Append("filter", "FORWARD", "-p", "tcp", "--dport", "9", "-j", "ACCEPT"),
		ipt.Append("raw", "PREROUTING", "-d", "192.0.2.7", "-j", "CT", "--notrack"),
		ipt.Append("nat", "POSTROUTING", "-s", "198.51.100.0/24", "-j", "MASQUERADE"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	output(t, "ipset", "create", "theirs", "hash:ip")
	return ipt
}

// TestFirstInItsChain: the agent's rules come before those that others add in front of them.
func TestFirstInItsChain(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		newHost(t)
		f := firewall.New(command.Exec{}, v, nil)
		apply(t, f, testState())
		ipt := others(t, v)
		if err := ipt.Insert("filter", "FORWARD", 1, "-j", "theirs"); err != nil {
			t.Fatal(err)
		}
		f.Resync()
		apply(t, f, testState())
		rules, err := ipt.List("filter", "FORWARD")
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"-P FORWARD ACCEPT", "-A FORWARD -j cagent-forward", "-A FORWARD -j theirs", "-A FORWARD -j theirs", "-A FORWARD -p tcp -m tcp --dport 9 -j ACCEPT"}
		if diff := cmp.Diff(want, rules); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestChangeIsSmall: a rule that goes and one that comes are two lines of one program, a member is one entry of a set, and the
// counters of all other rules go on.
func TestChangeIsSmall(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h, _ := filteredHost(t, v)
		r := newRecorder()
		f := firewall.New(r, v, nil)
		p := packetOf(sent{6, 0, 80, 0, 0, eval.New}, uplink, web, true, false, 40001)
		if !h.passes(uplink, web, p.SrcMAC, endpoints[web].mac, frameOf(p, endpoints[web].mac)) {
			t.Fatal("the packet to be counted does not pass")
		}
		s := testState()
		rules := slices.Clone(s.Groups[0].Rules)
		rules = append(slices.Delete(rules, 1, 2), firewall.Rule{ID: "https", Direction: firewall.Ingress, Ethertype: firewall.IPv4, Protocol: "tcp",
			Ports: &firewall.PortRange{Min: 443, Max: 443}})
		s.Groups[0].Rules = rules
		s.Groups[1].Members = append(slices.Clone(s.Groups[1].Members), netip.MustParsePrefix("10.0.0.99/32"))
		apply(t, f, s)
		want := []string{
			"ipset\nadd cagent4-sg-admin 10.0.0.99/32\n",
			"iptables-" + string(v) + "-restore\n*filter\n" +
				`-I cagent-i-tapweb 10 -p tcp -m tcp --dport 443 -m comment --comment "port port-tapweb rule https" -j ACCEPT` + "\n" +
				`-D cagent-i-tapweb -p tcp -m tcp --dport 1000:2000 -m comment --comment "port port-tapweb rule high" -j ACCEPT` + "\nCOMMIT\n",
		}
		if diff := cmp.Diff(want, r.ran); diff != "" {
			t.Errorf("(-want +ran):\n%s", diff)
		}
		if n := countOf(t, f, "port-tapweb rule http\""); n != 1 {
			t.Errorf("the rule that counted one packet says %d", n)
		}
	})
}

// TestPortsThatCannotBeLoadedAreClosed: nothing passes them, either way, and the other ports have their rules.
func TestPortsThatCannotBeLoadedAreClosed(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		h := newHost(t, web, admin, open, uplink)
		for device, e := range endpoints {
			h.learn(device, e.mac)
		}
		r := newRecorder()
		bad := errors.New("no such match")
		r.refuse = func(program, input string) error {
			if strings.HasPrefix(program, "iptables") && strings.Contains(input, "cagent-i-tapweb") && !strings.Contains(input, "-F cagent-i-tapweb") {
				return bad
			}
			return nil
		}
		f := firewall.New(r, v, nil)
		err := f.Apply(context.Background(), testState())
		var closed *firewall.ClosedError
		if !errors.As(err, &closed) || closed.Port != "port-tapweb" || !errors.Is(err, bad) {
			t.Fatalf("err = %v, want port-tapweb closed", err)
		}
		h.set("bridge/bridge-nf-call-iptables", "0") // it is closed without iptables
		for _, c := range []struct {
			from, to string
			want     bool
		}{{uplink, web, false}, {web, uplink, false}, {open, web, false}, {admin, uplink, true}, {open, uplink, true}} {
			p := packetOf(sent{6, 0, 80, 0, 0, eval.New}, c.from, c.to, true, false, 41000)
			frame := frameOf(p, endpoints[c.to].mac)
			if got := h.sentTo(c.to, c.from, frame); got != c.want {
				t.Errorf("%s > %s passes: %v, want %v", c.from, c.to, got, c.want)
			}
		}
		h.set("bridge/bridge-nf-call-iptables", "1")
		r.refuse = nil
		apply(t, f, testState())
		p := packetOf(sent{6, 0, 80, 0, 0, eval.New}, uplink, web, true, false, 41001)
		if !h.passes(uplink, web, p.SrcMAC, endpoints[web].mac, frameOf(p, endpoints[web].mac)) {
			t.Error("the port stays closed when its rules can be loaded")
		}
	})
}

// TestPortThatCannotBeLoadedLeavesOthersOpen: those that were loaded before are not closed while the one is found that cannot be.
func TestPortThatCannotBeLoadedLeavesOthersOpen(t *testing.T) {
	newHost(t)
	r := newRecorder()
	f := firewall.New(r, firewall.VariantNFT, nil)
	whole := testState()
	fewer := whole
	fewer.Ports = slices.DeleteFunc(slices.Clone(whole.Ports), func(p firewall.Port) bool { return p.ID == "port-tapweb" })
	apply(t, f, fewer)
	runs := 0
	r.refuse = func(program, input string) error {
		runs++
		for _, p := range fewer.Ports {
			if program == "nft" && strings.Contains(input, `oifname "`+p.Device+`" drop`) {
				t.Errorf("port %s is closed", p.ID)
			}
		}
		if program == "iptables-nft-restore" && strings.Contains(input, "-A cagent-i-tapweb") {
			return errors.New("refused, for a test")
		}
		return nil
	}
	var closed *firewall.ClosedError
	if err := f.Apply(context.Background(), whole); !errors.As(err, &closed) || closed.Port != "port-tapweb" {
		t.Errorf("error %v, want port-tapweb closed", err)
	}
	if runs > 20 {
		t.Errorf("%d programs ran to find one port", runs)
	}
}

// TestHeldLockClosesNobody: as long as another holds the lock, what was loaded stays.
func TestHeldLockClosesNobody(t *testing.T) {
	newHost(t)
	r := newRecorder()
	f := firewall.New(r, firewall.VariantLegacy, nil)
	apply(t, f, testState())
	r.refuse = func(program, input string) error {
		if program == "nft" && strings.Contains(input, " drop\n") && strings.Contains(input, "oifname") {
			t.Errorf("ports are closed: %s", input)
		}
		if strings.HasSuffix(program, "-restore") {
			return &command.Error{Program: program, ExitCode: 4, Stderr: "Another app is currently holding the xtables lock. Stopped waiting after 10s."}
		}
		return nil
	}
	if err := f.Apply(context.Background(), testState()); err != nil {
		t.Error(err)
	}
	fewer := testState()
	fewer.Ports = fewer.Ports[1:]
	if err := f.Apply(context.Background(), fewer); !errors.Is(err, firewall.ErrNotFiltered) {
		t.Errorf("error %v, want ErrNotFiltered", err)
	}
	r.refuse = nil
	apply(t, f, fewer)
}

// TestUnreachablePrograms: without the programs nothing is promised.
func TestUnreachablePrograms(t *testing.T) {
	newHost(t)
	r := newRecorder()
	r.refuse = func(program, _ string) error {
		if program == "nft" {
			return &command.Error{Program: "nft", ExitCode: -1, Err: os.ErrNotExist}
		}
		return nil
	}
	f := firewall.New(r, firewall.VariantNFT, nil)
	if err := f.Apply(context.Background(), testState()); !errors.Is(err, firewall.ErrNotFiltered) {
		t.Errorf("err = %v, want ErrNotFiltered", err)
	}
}

// TestHeldLock: another that holds the lock of iptables-legacy is waited for.
func TestHeldLock(t *testing.T) {
	newHost(t)
	lock, err := unix.Open("/run/xtables.lock", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(lock) }()
	if err := unix.Flock(lock, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	f := firewall.New(r, firewall.VariantLegacy, nil)
	released := make(chan error, 1)
	var once sync.Once
	r.refuse = func(program, _ string) error {
		if program == "iptables-legacy-restore" { // it is about to wait
			once.Do(func() { time.AfterFunc(50*time.Millisecond, func() { released <- unix.Flock(lock, unix.LOCK_UN) }) })
		}
		return nil
	}
	apply(t, f, testState())
	if err := <-released; err != nil {
		t.Fatal(err)
	}
}

// TestWalk goes from State to State at random, is killed on the way now and then, and starts again. Each time the host
// has in the end what it would have if nothing had been there before.
func TestWalk(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		newHost(t)
		if testing.Short() {
			_ = flag.Set("rapid.checks", "60") // of which -short leaves a fifth
		}
		steps, kills := 0, 0
		f := firewall.New(command.Exec{}, v, nil)
		rapid.Check(t, func(rt *rapid.T) {
			s := anyState(rt)
			if rapid.Bool().Draw(rt, "killed") {
				r := newRecorder()
				r.after = rapid.IntRange(0, 4).Draw(rt, "after")
				if err := firewall.New(r, v, nil).Apply(context.Background(), s); err != nil {
					kills++
				}
				f = firewall.New(command.Exec{}, v, nil)
				s = anyState(rt)
			}
			if err := f.Apply(context.Background(), s); err != nil {
				rt.Fatal(err)
			}
			steps++
			wanted, err := firewall.Generate(s)
			if err != nil {
				rt.Fatal(err)
			}
			loadedIs(rt, v, wanted)
			guardIs(rt, wanted)
		})
		t.Logf("%d steps, %d of them after one that was killed half-way", steps, kills)
		apply(t, f, firewall.State{})
	})
}

// loadedIs compares what the programs print with what is wanted.
func loadedIs(t rapid.TB, v firewall.Variant, wanted firewall.RuleSet) {
	t.Helper()
	for program, tables := range map[string][]firewall.Table{"iptables": wanted.IPv4, "ip6tables": wanted.IPv6} {
		out, err := command.Exec{}.Run(context.Background(), command.Cmd{Name: program + "-" + string(v) + "-save"})
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := firewall.ParseSave(strings.NewReader(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tables {
			var have firewall.Table
			for _, l := range loaded {
				if l.Name == want.Name {
					have = l
				}
			}
			if lines := firewall.Changes(have, want); lines != nil {
				t.Fatalf("%s: what is loaded is not what is wanted: %q", program, lines)
			}
		}
	}
	out, err := command.Exec{}.Run(context.Background(), command.Cmd{Name: "ipset", Args: []string{"save"}})
	if err != nil {
		t.Fatal(err)
	}
	have, want := eval.Sets{}, eval.Sets{}
	if err := errors.Join(have.Restore(string(out)), want.Restore(firewall.SetsText(wanted.Sets))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Fatalf("sets (-want +loaded):\n%s", diff)
	}
}

// guardIs compares nft's table by the hash in its comment.
func guardIs(t rapid.TB, wanted firewall.RuleSet) {
	t.Helper()
	out, err := command.Exec{}.Run(context.Background(), command.Cmd{Name: "nft", Args: []string{"list", "ruleset", "bridge"}})
	if err != nil {
		t.Fatal(err)
	}
	if wanted.Guard == "" && strings.Contains(string(out), "table bridge cagent") {
		t.Fatalf("a guard that nobody wants: %s", out)
	}
	if lines := strings.Split(wanted.Guard, "\n"); len(lines) > 1 && !strings.Contains(string(out), lines[1]) {
		t.Fatalf("the guard is not there: %s", out)
	}
}

// anyState is some ports and groups.
func anyState(t *rapid.T) firewall.State {
	var s firewall.State
	ids := []string{"g0", "g1", "c0ffee00-0000-4000-8000-0000000000ab"}
	for i, id := range ids {
		g := firewall.Group{ID: id}
		for n := range rapid.IntRange(0, 5).Draw(t, "rules") {
			g.Rules = append(g.Rules, anyRule(t, "r"+string(rune('a'+n)), ids))
		}
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			a := netip.AddrFrom4([4]byte{10, byte(i), 0, byte(rapid.IntRange(1, 6).Draw(t, "member"))})
			g.Members = append(g.Members, netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 8, 24, 32}).Draw(t, "bits")))
		}
		s.Groups = append(s.Groups, g)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "ports") {
		n := i + rapid.IntRange(0, 1).Draw(t, "other")*3
		p := firewall.Port{ID: "p" + string(rune('a'+n)), Device: "tap" + string(rune('a'+n)), Bridge: testBridge, MAC: mac(n),
			Unfiltered: rapid.IntRange(0, 5).Draw(t, "unfiltered") == 0, Zone: uint16(rapid.IntRange(0, 1).Draw(t, "zone")),
			VLAN: uint16(rapid.IntRange(0, 2).Draw(t, "vlan"))}
		if rapid.Bool().Draw(t, "addressed") {
			p.FixedIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}), netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 15: byte(n + 1)})}
		}
		if rapid.Bool().Draw(t, "pair") {
			p.AddressPairs = []firewall.AddressPair{{Prefix: netip.MustParsePrefix("10.0.9.0/24"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}}
		}
		for _, id := range ids {
			if rapid.Bool().Draw(t, "in") {
				p.Groups = append(p.Groups, id)
			}
		}
		s.Ports = append(s.Ports, p)
	}
	return s
}

func anyRule(t *rapid.T, id string, groups []string) firewall.Rule {
	r := firewall.Rule{ID: id, Direction: rapid.SampledFrom([]firewall.Direction{firewall.Ingress, firewall.Egress}).Draw(t, "direction"),
		Ethertype: rapid.SampledFrom([]firewall.Ethertype{firewall.IPv4, firewall.IPv6}).Draw(t, "ethertype"),
		Protocol:  rapid.SampledFrom([]string{"", "tcp", "udp", "icmp", "vrrp", "sctp", "udplite", "47", "gre", "255", "ah", "ipip", "94"}).Draw(t, "protocol")}
	span := func(label string) *firewall.PortRange {
		if !rapid.Bool().Draw(t, label) {
			return nil
		}
		low := rapid.SampledFrom([]uint16{0, 1, 22, 80, 65535}).Draw(t, label)
		return &firewall.PortRange{Min: low, Max: max(low, rapid.SampledFrom([]uint16{22, 80, 81, 65535}).Draw(t, label))}
	}
	switch r.Protocol {
	case "tcp", "udp", "sctp", "udplite":
		r.Ports, r.SourcePorts = span("ports"), span("source ports")
	case "icmp":
		if rapid.Bool().Draw(t, "typed") {
			kind := rapid.SampledFrom([]uint8{0, 3, 8, 128}).Draw(t, "type")
			r.ICMPType = &kind
			if rapid.Bool().Draw(t, "coded") {
				code := rapid.SampledFrom([]uint8{0, 4, 255}).Draw(t, "code")
				r.ICMPCode = &code
			}
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "remote") {
	case 1:
		r.RemoteGroup = rapid.SampledFrom(groups).Draw(t, "group")
	case 2:
		r.Remote = netip.MustParsePrefix(rapid.SampledFrom([]string{"0.0.0.0/0", "10.1.2.3/8", "192.0.2.1/32"}).Draw(t, "prefix"))
		if r.Ethertype == firewall.IPv6 {
			r.Remote = netip.MustParsePrefix(rapid.SampledFrom([]string{"::/0", "2001:db8::1/32", "fe80::1/128"}).Draw(t, "prefix"))
		}
	}
	return r
}

// TestMembers: who leaves is one entry, a set that is too small gives its place to a larger one, and what was left of doing
// so goes.
func TestMembers(t *testing.T) {
	newHost(t)
	r := newRecorder()
	f := firewall.New(r, firewall.VariantNFT, nil)
	s := testState()
	s.Groups[1].Members = append(s.Groups[1].Members, netip.MustParsePrefix("10.7.0.0/16"), netip.MustParsePrefix("0.0.0.0/0"))
	apply(t, f, s)
	r.ran = nil
	s = testState()
	s.Groups[1].Members = append(s.Groups[1].Members, netip.MustParsePrefix("0.0.0.0/0"))
	apply(t, f, s)
	if diff := cmp.Diff([]string{"ipset\ndel cagent4-sg-admin 10.7.0.0/16\n"}, r.ran); diff != "" {
		t.Errorf("(-want +ran):\n%s", diff)
	}
	output(t, "ipset", "create", "cagent-swap-0123456789", "hash:net")
	for i := range 70000 {
		s.Groups[1].Members = append(s.Groups[1].Members, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 8 + byte(i>>16), byte(i >> 8), byte(i)}), 32))
	}
	f.Resync()
	apply(t, f, s)
	apply(t, f, s)
	for _, name := range strings.Fields(output(t, "ipset", "list", "-n")) {
		if strings.HasPrefix(name, "cagent-swap-") {
			t.Errorf("set %s is left", name)
		}
	}
	if got := strings.Count(output(t, "ipset", "save", "cagent4-sg-admin"), "\nadd "); got != 70003 {
		t.Errorf("the set has %d entries, want 70,000, one of before and the two halves of everything", got)
	}
}

// TestChangedByHand: a change to what somebody has changed meanwhile finds out what is there, and puts it right.
func TestChangedByHand(t *testing.T) {
	eachVariant(t, func(t *testing.T, v firewall.Variant) {
		newHost(t)
		f := firewall.New(command.Exec{}, v, nil)
		apply(t, f, testState())
		output(t, "iptables-"+string(v), "-F", "cagent-i-tapweb")
		output(t, "nft", "delete", "table", "bridge", "cagent")
		s := testState()
		s.Groups[0].Rules = s.Groups[0].Rules[1:]
		apply(t, f, s)
		wanted, err := firewall.Generate(s)
		if err != nil {
			t.Fatal(err)
		}
		loadedIs(t, v, wanted)
		guardIs(t, wanted)
	})
}
