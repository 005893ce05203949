package plan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"compute-agent/numa"
)

// ExplainNUMA says for a person whether a guest fits a host and, where it does not, what stands in the way in
// each cell and which single changes would let it in. The line is a question as NUMA takes it, with op
// numa or fit; input.placed may list guests on the host, {"id", "topology"}, of which one might be
// moved.
func ExplainNUMA(line []byte) (string, error) {
	id, q, err := read[numaQuestion](line)
	if err != nil {
		return "", err
	}
	text, err := q.explain()
	if err != nil {
		return "", fmt.Errorf("question %s: %w", id, err)
	}
	return id + ": " + text, nil
}

func (q *numaQuestion) explain() (string, error) {
	if q.Host == nil || q.Op != "numa" && (q.Op != "fit" || q.Guest == nil) {
		return "", errors.New("only a numa question with a host, or a fit question, can be explained")
	}
	host, opt := q.Host.host(), q.options()
	if q.Op == "fit" {
		return explanation(host, opt, q.Guest.guest(), numa.Diagnose(host, q.Guest.guest(), opt)), nil
	}
	if err := numa.CheckProperties(q.Properties); err != nil {
		return "refused on any host: " + err.Error() + "\n", nil
	}
	guest, err := q.request().Constraints()
	if err != nil {
		return "refused on any host: " + err.Error() + "\n", nil
	}
	if guest == nil {
		return "asks for no NUMA cells and may run anywhere on the host\n", nil
	}
	why, err := numa.Explain(host, q.request(), opt, q.others())
	return explanation(host, opt, *guest, why), err
}

func (q *numaQuestion) others() (list []numa.Placed) {
	for _, p := range q.Placed {
		list = append(list, numa.Placed{ID: p.ID, Guest: p.Topology.guest()})
	}
	return list
}

func explanation(host numa.Host, opt numa.Options, guest numa.Guest, why *numa.Explanation) string {
	if why == nil {
		placed, _ := numa.Fit(host, guest, opt)
		return "fits\n" + placement(guest, placed)
	}
	return "does not fit\n" + explained(why)
}

// explained says what stands in the way of a guest, and what would let it in.
func explained(why *numa.Explanation) string {
	var b strings.Builder
	b.WriteString(obstacles(why) + "\n")
	for _, c := range why.Conditions {
		b.WriteString(c + "\n")
	}
	for i, c := range why.Changes {
		if i == 0 {
			b.WriteString("Each of these alone would let it in:\n")
		}
		fmt.Fprintf(&b, "  %v\n", c)
	}
	if len(why.Changes) == 0 {
		b.WriteString("No single change lets it in.\n")
	}
	return b.String()
}

func obstacles(why *numa.Explanation) string {
	t := plainTable(table.Row{"Guest cells", "Host cells", "Short of", "Asked", "Free", "Why"})
	for _, g := range why.Groups() {
		o := g.Obstacle
		if o.Resource == "" {
			t.AppendRow(table.Row{g.GuestCells, g.HostCells, "", "", "", "fits"})
			continue
		}
		asked := strings.TrimSpace(fmt.Sprint(o.Asked, " ", o.Unit))
		t.AppendRow(table.Row{g.GuestCells, g.HostCells, o.Resource, asked, o.Free, o.Rule})
	}
	return t.Render()
}

func placement(guest, placed numa.Guest) string {
	t := plainTable(table.Row{"Guest cell", "Host cell", "MiB", "Page KiB", "Floating vCPUs", "Pins", "Emulator"})
	for i, c := range placed.Cells {
		pins := make([]string, len(c.Pins))
		for j, p := range c.Pins {
			pins[j] = fmt.Sprintf("%d:%d", p.VCPU, p.PCPU)
		}
		t.AppendRow(table.Row{guest.Cells[i].ID, c.ID, c.MemoryMiB, orWord(c.PageKiB, "ordinary"), c.Shared, strings.Join(pins, " "), c.Reserved})
	}
	return t.Render() + "\n"
}

// orWord is a number, or what none means.
func orWord(n int, none string) any {
	if n == 0 {
		return none
	}
	return n
}

func plainTable(header table.Row) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(header)
	return t
}
