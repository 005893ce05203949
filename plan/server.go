package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"compute-agent/compute"
	"compute-agent/numa"
	"compute-agent/virt"
	"compute-agent/virt/libvirt"
)

// ServerPlan is what would come of making a server, for people and programs to read.
type ServerPlan struct {
	ID       string      `json:"id"`
	Server   string      `json:"server"`
	Guest    string      `json:"guest"` // its name at the hypervisor
	Accepted bool        `json:"accepted"`
	Refused  string      `json:"refused,omitempty"`     // why it would not be made
	Misfit   string      `json:"explanation,omitempty"` // what stands in the way in the host's cells
	Place    *guestForm  `json:"placement"`             // null: the guest may run anywhere
	Claim    []planClaim `json:"claim"`
	Disks    []planDisk  `json:"disks"`
	Network  []planNIC   `json:"network"`
	Programs [][]string  `json:"commands"` // each with its arguments
	Domain   string      `json:"domain"`   // libvirt's XML

	asked, placed *numa.Guest
}

type planClaim struct {
	Resource string `json:"resource"`
	Unit     string `json:"unit"`
	Asked    int    `json:"asked"`
	Free     int    `json:"free"`
}

type planDisk struct {
	Target string `json:"target"`
	Bus    string `json:"bus"`
	Kind   string `json:"kind"`
	Format string `json:"format"`
	Bytes  int64  `json:"bytes,omitempty"` // as the guest sees it; 0 for what is as large as its contents
	File   string `json:"file"`
	Base   string `json:"base,omitempty"` // what the file begins as a copy of
}

type planNIC struct {
	MAC    string `json:"mac_address"`
	Model  string `json:"model"`
	Type   string `json:"type"`
	To     string `json:"to"`     // bridge, interface, socket or device that it is plugged into
	Target string `json:"target"` // on the host
	Queues int    `json:"queues,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
}

// Server puts a forecast into a readable form.
func Server(f compute.Forecast) (ServerPlan, error) {
	p := ServerPlan{ID: f.Server.ID, Server: f.Server.Name, Guest: f.Server.GuestName(), Accepted: f.Refused == nil,
		Claim: []planClaim{}, Disks: []planDisk{}, Network: []planNIC{}, Programs: append([][]string{}, f.Commands...)}
	for _, r := range f.Rows {
		p.Claim = append(p.Claim, planClaim{r.Name, r.Unit, r.Asked, r.Free})
	}
	if f.Refused != nil {
		p.Refused = f.Refused.Error()
		if f.Misfit != nil {
			p.Misfit = explained(f.Misfit)
		}
		return p, nil
	}
	if f.Claim.NUMA != nil {
		form := guestFormOf(*f.Claim.NUMA)
		p.Place, p.placed = &form, f.Claim.NUMA
		asked, err := numa.Request{VCPUs: f.Server.Flavor.VCPUs, MemoryMiB: f.Server.Flavor.MemoryMiB,
			ExtraSpecs: f.Server.Flavor.ExtraSpecs, Properties: f.Server.Image.Properties}.Constraints()
		if err != nil {
			return p, err
		}
		p.asked = asked
	}
	for i := range f.Spec.Disks {
		p.Disks = append(p.Disks, diskOf(&f.Spec.Disks[i], f.Sizes))
	}
	for i := range f.Spec.NICs {
		p.Network = append(p.Network, nicOf(&f.Spec.NICs[i]))
	}
	var err error
	p.Domain, err = libvirt.Render(f.Spec)
	return p, err
}

func diskOf(d *virt.Disk, sizes map[string]int64) planDisk {
	disk := planDisk{Target: d.Target, Bus: d.Bus, Kind: cmp.Or(d.Kind, "disk"), Format: d.Format, File: d.Path(), Bytes: sizes[d.Path()]}
	if len(d.Backing) > 0 {
		disk.Base = d.Backing[0].Path
	}
	return disk
}

func nicOf(n *virt.NIC) planNIC {
	a := &n.Attach
	return planNIC{MAC: n.MAC, Model: n.Model, Type: a.Type, To: cmp.Or(a.Bridge, a.Device, a.Socket, a.Address), Target: n.Target, Queues: n.Queues, MTU: n.MTU}
}

// WriteJSON writes the plan as JSON.
func (p ServerPlan) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(p)
}

// WriteText writes the plan for people.
func (p ServerPlan) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Server %q would be guest %s. Nothing is done.\n\n", p.Server, p.Guest)
	if p.Accepted {
		b.WriteString("Validation: accepted\n")
	} else {
		b.WriteString("Validation: refused: " + p.Refused + "\n")
	}
	if p.Misfit != "" {
		b.WriteString("\n" + p.Misfit)
	}
	if len(p.Claim) > 0 {
		b.WriteString("\nClaim\n" + p.claimTable())
	}
	if p.Accepted {
		p.writeGuest(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p ServerPlan) claimTable() string {
	t := plainTable(table.Row{"Resource", "Asked", "Free", "Unit"})
	for _, c := range p.Claim {
		t.AppendRow(table.Row{c.Resource, c.Asked, c.Free, c.Unit})
	}
	return t.Render() + "\n"
}

// writeGuest tells of the guest that would be made.
func (p ServerPlan) writeGuest(b *strings.Builder) {
	if p.placed == nil {
		b.WriteString("\nPlacement: anywhere on the host\n")
	} else {
		b.WriteString("\nPlacement\n" + placement(*p.asked, *p.placed))
	}
	t := plainTable(table.Row{"Disk", "Bus", "Kind", "Format", "Size", "File"})
	for _, d := range p.Disks {
		t.AppendRow(table.Row{d.Target, d.Bus, d.Kind, d.Format, gibibytes(d.Bytes), d.File})
	}
	b.WriteString("\nDisks\n" + t.Render() + "\n")
	if len(p.Network) == 0 {
		b.WriteString("\nNetwork: none\n")
	} else {
		t := plainTable(table.Row{"MAC", "Model", "Queues", "MTU", "Type", "To", "Target"})
		for _, n := range p.Network {
			t.AppendRow(table.Row{n.MAC, n.Model, max(1, n.Queues), orWord(n.MTU, "default"), n.Type, n.To, n.Target})
		}
		b.WriteString("\nNetwork\n" + t.Render() + "\n")
	}
	b.WriteString("\nPrograms that would be run\n")
	for _, argv := range p.Programs {
		b.WriteString("  " + commandLine(argv) + "\n")
	}
	b.WriteString("\nDomain that libvirt would define\n" + p.Domain + "\n")
}

// gibibytes is empty for a drive that is as large as its contents.
func gibibytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%g GiB", float64(n)/(1<<30))
}

var plainArgument = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// commandLine quotes what a shell would take apart, so that it can be copied. The agent runs programs without one.
func commandLine(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = a
		if !plainArgument.MatchString(a) {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
