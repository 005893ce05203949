package firewall

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"compute-agent/internal/command"
)

// Variant is which of a host's two implementations of iptables is used.
type Variant string

// The variants, as Debian names the programs. The default is what the host calls iptables.
const (
	VariantDefault Variant = ""
	VariantNFT     Variant = "nft"
	VariantLegacy  Variant = "legacy"
)

// Firewall loads States on a host. It remembers what it loaded, so that a change costs what is changed; what it does not
// know it reads. Its methods may be called at the same time.
type Firewall struct {
	run         command.Runner
	variant     Variant
	connections Connections

	commits atomic.Uint32

	mu     sync.Mutex
	loaded *RuleSet // nil when it has to be read
	state  *State   // what was applied last; nil at the start
}

// New returns a firewall of the host. connections may be nil; then none is ever cut.
func New(run command.Runner, variant Variant, connections Connections) *Firewall {
	return &Firewall{run: run, variant: variant, connections: connections}
}

// ErrNotFiltered is in the chain of an error after which the host may not filter as it should: ports that are not connected yet must not be.
var ErrNotFiltered = errors.New("not filtered")

// ClosedError says that a port's rules could not be loaded, and that nothing passes it, neither way.
type ClosedError struct {
	Port string
	Err  error
}

// Error names the port and the cause.
func (e *ClosedError) Error() string { return fmt.Sprintf("port %s is closed: %v", e.Port, e.Err) }

// Unwrap returns the cause.
func (e *ClosedError) Unwrap() error { return e.Err }

// Apply makes the host's firewall what a State asks for and changes only what differs, each table at once. Then it cuts
// the connections that are no longer allowed. What an earlier Apply left half done is completed. A port of which something cannot be
// loaded is closed, and the error has a *ClosedError for each; every other port has what it asked for. With any other error the
// host may have its earlier rules for some families and the new ones for others; it is always safe to Apply again. The
// error wraps ErrInvalid, and nothing was changed, if the State makes no sense.
//
// The State is kept: it is not to be changed afterwards. A port is to be connected to its bridge only after an Apply that had it, and without error.
func (f *Firewall) Apply(ctx context.Context, s State) error {
	wanted, err := Generate(s)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err = f.load(ctx, wanted); err != nil {
		s.closed, err = f.isolate(ctx, s, err)
		var closed *ClosedError
		if err != nil && !errors.As(err, &closed) {
			return err // what the last State allowed is still to be cut
		}
	}
	return errors.Join(err, f.cut(s))
}

// Resync forgets what was loaded, so that the next Apply reads it anew and repairs what others have changed.
func (f *Firewall) Resync() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded = nil
}

// load brings the host from what is loaded to what is wanted. If what was remembered turns out not to be so, it is read.
func (f *Firewall) load(ctx context.Context, wanted RuleSet) error {
	remembered := f.loaded != nil
	for {
		if f.loaded == nil {
			if err := f.read(ctx, wanted); err != nil {
				return err
			}
		}
		err := f.change(ctx, wanted)
		if err == nil {
			f.loaded = &wanted
			return nil
		}
		f.loaded = nil
		if !remembered || ctx.Err() != nil {
			return err
		}
		remembered = false
	}
}

// isolate finds the ports that cannot be loaded, closes them and loads the others. The error is what was wrong with
// them, or, if it was not a port's, what stays wrong. Ports that are as they were are closed meanwhile only if it must be.
func (f *Firewall) isolate(ctx context.Context, s State, cause error) (map[string]bool, error) {
	closed := s.since(f.state)
	try := func() error {
		s.closed = closed
		wanted, err := Generate(s)
		if err == nil {
			err = f.load(ctx, wanted)
		}
		return err
	}
	err := cause
	if len(closed) > 0 && ctx.Err() == nil {
		err = try()
	}
	if err != nil && len(closed) < len(s.Ports) && ctx.Err() == nil && !isHeld(err) {
		closed = s.since(nil)
		err = try()
	}
	if err != nil {
		return nil, fmt.Errorf("firewall: %w: %w", ErrNotFiltered, err)
	}
	var errs []error
	for _, p := range s.Ports {
		if !closed[p.ID] {
			continue
		}
		delete(closed, p.ID)
		if err := try(); err != nil {
			closed[p.ID] = true
			errs = append(errs, &ClosedError{p.ID, err})
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("firewall: %w: %w", ErrNotFiltered, errors.Join(errs...))
		}
	}
	if err := try(); err != nil {
		return nil, fmt.Errorf("firewall: %w: %w", ErrNotFiltered, err)
	}
	return closed, errors.Join(errs...)
}

// isHeld says whether another iptables had the lock for so long that nothing could be done.
func isHeld(err error) bool {
	failed, is := errors.AsType[*command.Error](err)
	return is && strings.Contains(failed.Stderr, "xtables lock")
}

// since are the ports that are not what they were in an earlier State: all if there was none.
func (s *State) since(before *State) map[string]bool {
	changed := map[string]bool{}
	if before == nil {
		before = &State{}
	}
	was := make(map[string]*Port, len(before.Ports))
	for i := range before.Ports {
		if p := &before.Ports[i]; !before.closed[p.ID] {
			was[p.ID] = p
		}
	}
	same := map[string]bool{} // groups
	for i := range s.Groups {
		g := &s.Groups[i]
		same[g.ID] = slices.ContainsFunc(before.Groups, func(o Group) bool { return o.ID == g.ID && reflect.DeepEqual(o, *g) })
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		old := was[p.ID]
		if old == nil || !reflect.DeepEqual(old, p) || slices.ContainsFunc(p.Groups, func(id string) bool { return !same[id] }) {
			changed[p.ID] = true
		}
	}
	return changed
}

// change runs the programs that make the difference. The guard is first, because it closes; sets are there before the rules that ask
// them, and go after them.
func (f *Firewall) change(ctx context.Context, wanted RuleSet) error {
	if wanted.Guard != f.loaded.Guard {
		if err := f.loadGuard(ctx, wanted.Guard); err != nil {
			return err
		}
	}
	before, after := setChanges(f.loaded.Sets, wanted.Sets)
	if err := f.restore(ctx, "ipset", before, "restore", "-exist"); err != nil {
		return err
	}
	for _, family := range []struct {
		program        string
		loaded, wanted []Table
	}{{"iptables", f.loaded.IPv4, wanted.IPv4}, {"ip6tables", f.loaded.IPv6, wanted.IPv6}} {
		var lines []string
		for _, t := range family.wanted {
			lines = append(lines, Changes(tableOf(family.loaded, t.Name), t)...)
		}
		// Ten seconds are for another iptables that holds the lock.
		if err := f.restore(ctx, f.program(family.program, "restore"), lines, "--noflush", "--wait=10"); err != nil {
			return err
		}
	}
	return f.restore(ctx, "ipset", after, "restore", "-exist")
}

func tableOf(tables []Table, name string) Table {
	for _, t := range tables {
		if t.Name == name {
			return t
		}
	}
	return Table{Name: name}
}

func (f *Firewall) program(family, action string) string { return f.variant.Program(family, action) }

// Program is the name of the variant's program of a family, iptables or ip6tables, for an action, save or restore.
func (v Variant) Program(family, action string) string {
	if v == VariantDefault {
		return family + "-" + action
	}
	return family + "-" + string(v) + "-" + action
}

// Commits counts the changes of nftables that this Firewall has asked for, each of which is one Generation, if it changed anything.
func (f *Firewall) Commits() uint32 { return f.commits.Load() }

// restore gives lines to a program, if there are any.
func (f *Firewall) restore(ctx context.Context, program string, lines []string, args ...string) error {
	if len(lines) == 0 {
		return nil
	}
	f.commits.Add(commitsOf(program, lines))
	text := strings.Join(lines, "\n") + "\n"
	if _, err := f.run.Run(ctx, command.Cmd{Name: program, Args: args, Stdin: strings.NewReader(text)}); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	return nil
}

// commitsOf is how many changes of nftables a program makes of lines.
func commitsOf(program string, lines []string) (n uint32) {
	switch program {
	case "nft":
		return 1
	case "ipset":
		return 0
	}
	for _, line := range lines {
		if line == "COMMIT" { // a table's end
			n++
		}
	}
	return n
}

func (f *Firewall) loadGuard(ctx context.Context, guard string) error {
	// One transaction: the table is made anew, and there is no moment without it.
	text := "add table bridge " + guardTable + "\ndelete table bridge " + guardTable + "\n" + guard
	return f.restore(ctx, "nft", []string{text}, "-f", "-")
}

func (f *Firewall) listGuard(ctx context.Context) (string, error) {
	out, err := f.run.Run(ctx, command.Cmd{Name: "nft", Args: []string{"-s", "list", "table", "bridge", guardTable}, MaxOutput: maxSave})
	var failed *command.Error
	if errors.As(err, &failed) && failed.ExitCode == 1 {
		return "", nil // there is no such table
	}
	return string(out), err
}

// maxSave bounds what is read of what is loaded, in bytes.
const maxSave = 256 << 20

// read finds out what is loaded, and whether nft has what is wanted, which is not to be seen from its words.
func (f *Firewall) read(ctx context.Context, wanted RuleSet) error {
	var r RuleSet
	for program, tables := range map[string]*[]Table{"iptables": &r.IPv4, "ip6tables": &r.IPv6} {
		out, err := f.run.Run(ctx, command.Cmd{Name: f.program(program, "save"), MaxOutput: maxSave})
		if err != nil {
			return fmt.Errorf("firewall: %w", err)
		}
		if *tables, err = ParseSave(strings.NewReader(string(out))); err != nil {
			return fmt.Errorf("firewall: %w", err)
		}
	}
	out, err := f.run.Run(ctx, command.Cmd{Name: "ipset", Args: []string{"save"}, MaxOutput: maxSave})
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	if r.Sets, err = parseSets(string(out)); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	guard, err := f.listGuard(ctx)
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	r.Guard = guard
	if sameGuard(guard, wanted.Guard) {
		r.Guard = wanted.Guard
	}
	f.loaded = &r
	return nil
}

// sameGuard says whether what nft lists is the text: by the hash in its comment and the number of its lines, since nft has words of
// its own.
func sameGuard(listed, text string) bool {
	_, hash, _ := strings.Cut(text, "comment ")
	hash, _, _ = strings.Cut(hash, "\n")
	return hash != "" && strings.Contains(listed, "comment "+hash+"\n") && countLines(listed) == countLines(text)
}

// countLines counts those that say something: nft sets chains apart by empty ones.
func countLines(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			n++
		}
	}
	return n
}
