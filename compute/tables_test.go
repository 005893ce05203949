package compute

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"time"

	"compute-agent/internal/golden"
	"compute-agent/virt"
)

var vmStates = []VMState{Building, Active, Paused, Suspended, Stopped, Rescued, Resized, SoftDeleted, Deleted, Error, Shelved, ShelvedOffloaded}

var powerStates = []virt.PowerState{virt.PowerNoState, virt.PowerRunning, virt.PowerPaused, virt.PowerShutdown, virt.PowerCrashed, virt.PowerSuspended}

func TestTransitionTable(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-19s %-62s %s\n", "COMMAND", "REQUIRED VM STATE", "TARGET")
	for _, r := range rules {
		from, target := make([]string, len(r.from)), string(r.target)
		for i, s := range r.from {
			from[i] = string(s)
		}
		if r.any {
			from = []string{"any"}
		}
		if target == "" {
			target = "(unchanged)"
		}
		line := fmt.Sprintf("%-19s %-62s %s", r.command, strings.Join(from, ", "), target)
		if r.overAny {
			line += "; whatever is under way"
		}
		if len(r.over) > 0 {
			line += fmt.Sprintf("; over %q", r.over)
		}
		if r.launched {
			line += "; once it was active"
		}
		b.WriteString(line + "\n")
	}
	b.WriteString("\nA VM STATE MAY BECOME\n")
	for _, from := range vmStates {
		var to []string
		for _, s := range vmStates {
			if s != from && mayBecome(from, s) {
				to = append(to, string(s))
			}
		}
		fmt.Fprintf(&b, "%-19s %s\n", from, strings.Join(to, ", "))
	}
	golden.Assert(t, "testdata/transitions.golden", b.String())
}

func TestPowerTables(t *testing.T) {
	var b strings.Builder
	for _, policy := range []PowerPolicy{PolicyObserve, PolicyEnforce} {
		fmt.Fprintf(&b, "POLICY %s\n", policy)
		for _, vm := range vmStates {
			for _, power := range powerStates {
				out := policy.decide(vm, power)
				line := fmt.Sprintf("%-18s %-10s", vm, power)
				switch {
				case out.stop:
					line += " stop the guest"
				case out.vm != "":
					line += " -> " + string(out.vm)
				default:
					line += " -"
				}
				if out.warn != "" {
					line += " (warn: " + out.warn + ")"
				}
				b.WriteString(line + "\n")
			}
		}
	}
	golden.Assert(t, "testdata/power.golden", b.String())
}

// The promise of the default policy.
func TestObserveNeverStopsAGuest(t *testing.T) {
	for vm, row := range observed {
		for power, out := range row {
			if out.stop {
				t.Errorf("%s with %s guest: the guest is stopped", vm, power)
			}
			if out.vm != "" && !mayBecome(vm, out.vm) {
				t.Errorf("%s with %s guest: no transition to %s", vm, power, out.vm)
			}
		}
	}
}

func TestAdmit(t *testing.T) {
	launched := time.Unix(1, 0)
	for _, c := range []struct {
		cmd  Command
		s    Server
		want string
	}{
		{CmdPause, Server{VM: Active}, ""},
		{CmdPause, Server{VM: Paused}, "cannot pause while it is in vm_state paused"},
		{CmdPause, Server{VM: Active, Task: TaskRebooting}, "cannot pause while it is in task_state rebooting"},
		{CmdStart, Server{VM: Active}, "cannot start while it is in vm_state active"},
		{CmdDelete, Server{VM: Building, Task: TaskSpawning}, ""},
		{CmdReboot, Server{VM: Active, Task: TaskRebooting}, "cannot reboot while it is in task_state rebooting"},
		{CmdRebootHard, Server{VM: Active, Task: TaskRebooting, Launched: launched}, ""},
		{CmdRebootHard, Server{VM: Active, Task: TaskRebootStarted, Launched: launched}, ""},
		{CmdRebootHard, Server{VM: Active, Task: TaskRebootingHard, Launched: launched}, "cannot reboot hard while it is in task_state rebooting_hard"},
		{CmdRebootHard, Server{VM: Error}, "cannot reboot hard while it was never active"},
		{CmdRebootHard, Server{VM: Error, Launched: launched}, ""},
		{"dance", Server{VM: Active}, "cannot dance while it is in vm_state active"},
	} {
		got := ""
		var failure *Failure
		if errors.As(admit(c.cmd, c.s), &failure) {
			got = failure.Reason
		}
		if got != c.want {
			t.Errorf("%s on %s/%s: %q, want %q", c.cmd, c.s.VM, c.s.Task, got, c.want)
		}
	}
}

// TestOneFunctionAssignsVMState reads the package's own source: only become may write a server's VM.
func TestOneFunctionAssignsVMState(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !assignsVM(fn) {
				continue
			}
			found++
			if fn.Name.Name != "become" {
				t.Errorf("%s: %s assigns a server's VM state; only become may", e.Name(), fn.Name.Name)
			}
		}
	}
	if found == 0 {
		t.Error("not even become was found to assign a VM state: the test does not see")
	}
}

func assignsVM(fn *ast.FuncDecl) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if sel, ok := left.(*ast.SelectorExpr); ok && sel.Sel.Name == "VM" {
					found = true
				}
			}
		case *ast.CompositeLit:
			if name, ok := n.Type.(*ast.Ident); ok && name.Name == "NodeShare" {
				return false // a copy for counting, no server
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "VM" {
				found = true
			}
		}
		return true
	})
	return found
}

func TestPlan(t *testing.T) {
	server := func(id string, vm VMState, power virt.PowerState) Server {
		return Server{ID: id, Number: 1, VM: vm, Power: power}
	}
	guest := func(id string, state virt.PowerState) virt.Guest {
		return virt.Guest{ID: id, Name: "guest-" + id, State: state}
	}
	in := inventory{
		listed: true,
		servers: []Server{
			server("runs", Active, virt.PowerRunning),
			server("stopped", Stopped, virt.PowerShutdown),
			server("started-by-hand", Stopped, virt.PowerShutdown),
			server("paused-by-hand", Active, virt.PowerRunning),
			server("shut-down", Active, virt.PowerRunning),
			server("host-rebooted", Paused, virt.PowerPaused),
			server("undefined", Active, virt.PowerRunning),
			server("stopped-and-undefined", Stopped, virt.PowerNoState),
			server("failed-build", Error, virt.PowerNoState),
			server("error-but-runs", Error, virt.PowerNoState),
			server("building", Building, virt.PowerNoState),
			server("building-not-begun", Building, virt.PowerNoState),
			server("undoing", Building, virt.PowerNoState),
			server("deleting", Active, virt.PowerRunning),
			server("stopping", Active, virt.PowerRunning),
		},
		operations: []Operation{
			{ServerID: "building", Kind: OpCreate, Step: "guest"},
			{ServerID: "building-not-begun", Kind: OpCreate},
			{ServerID: "undoing", Kind: OpCreate, Step: "files", Undoing: true, Cause: "no space"},
			{ServerID: "deleting", Kind: OpDelete, Step: "files"},
			{ServerID: "stopping", Kind: OpStop, Step: "stop"},
		},
		guests: []virt.Guest{
			guest("runs", virt.PowerRunning), guest("stopped", virt.PowerShutdown), guest("started-by-hand", virt.PowerRunning),
			guest("paused-by-hand", virt.PowerPaused), guest("shut-down", virt.PowerShutdown), guest("host-rebooted", virt.PowerShutdown),
			guest("error-but-runs", virt.PowerRunning), guest("stopping", virt.PowerRunning), guest("somebody-elses", virt.PowerRunning),
		},
		files: []string{"runs", "nobodys"},
	}
	var b strings.Builder
	for _, policy := range []PowerPolicy{PolicyObserve, PolicyEnforce} {
		fmt.Fprintf(&b, "POLICY %s\n", policy)
		printPlan(&b, plan(in, policy))
	}
	in.listed, in.guests = false, nil
	b.WriteString("THE HYPERVISOR DOES NOT ANSWER\n")
	printPlan(&b, plan(in, PolicyObserve))
	golden.Assert(t, "testdata/plan.golden", b.String())
}

func printPlan(b *strings.Builder, verdicts []verdict) {
	for _, v := range verdicts {
		line := fmt.Sprintf("%-22s %s", v.id, v.does)
		if v.does == resume || v.does == undoing {
			line += fmt.Sprintf(" %s at %q", v.op.Kind, v.step)
		} else if v.sees != virt.PowerNoState || v.does == missing {
			line += " " + v.sees.String()
		}
		if v.out.vm != "" {
			line += " -> " + string(v.out.vm)
		}
		if v.out.stop {
			line += " and stop it"
		}
		if v.out.warn != "" {
			line += " (" + v.out.warn + ")"
		}
		b.WriteString(line + "\n")
	}
}

// TestJournalNames pins what is in journals on disk: an agent of a later version must find it.
func TestJournalNames(t *testing.T) {
	m := &Manager{opt: Options{}.withDefaults()}
	var b strings.Builder
	for _, kind := range []OperationKind{OpCreate, OpDelete, OpStart, OpStop, OpRebootSoft, OpRebootHard, OpPause, OpUnpause,
		OpRebuild, OpRescue, OpUnrescue,
		OpAttachInterface, OpDetachInterface, OpAttachVolume, OpDetachVolume, OpSwapVolume, OpExtendVolume} {
		p, known := m.procedure(kind)
		if !known {
			t.Fatalf("no procedure for %s", kind)
		}
		fmt.Fprintf(&b, "%s -> %s (accepted: %s)\n", kind, cmp.Or(string(p.target), "(unchanged)"), acceptedTask[kind])
		for _, s := range p.steps {
			fmt.Fprintf(&b, "  %-10s task %-22s undo %v\n", s.name, s.task, s.undo != nil)
		}
	}
	golden.Assert(t, "testdata/operations.golden", b.String())
}
