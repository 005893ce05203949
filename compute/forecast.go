package compute

import (
	"compute-agent/configdrive"
	"compute-agent/guest"
	"compute-agent/image"
	"compute-agent/internal/command"
	"compute-agent/numa"
	"compute-agent/virt"
)

// Proposal is a server that somebody thinks of making.
type Proposal struct {
	Request CreateRequest // its FlavorID and ImageID say nothing
	Flavor  Flavor
	Image   Image
	Ports   []guest.Port
	// ID is the server's; one is made up where it is empty.
	ID string
}

// unmadeID is the ID of a server that is not made.
const unmadeID = "00000000-0000-0000-0000-000000000000"

// Forecast is what would come of a Proposal. What lies behind a refusal is not known and left out.
type Forecast struct {
	Server Server
	Claim  Claim // with the place that it would get
	Rows   []ForecastRow
	Cells  numa.Host // of the host, with what is in use before
	Spec   virt.Spec
	// Commands are the programs that would be run, each with its arguments.
	Commands [][]string
	// Sizes are those of the drives that have one, in bytes, by their files.
	Sizes map[string]int64
	// Refused says why the server would not be made; nil if it would.
	Refused error
	// Misfit says why no place is found in the host's cells; nil when that is not the reason.
	Misfit *numa.Explanation
}

// ForecastRow is one resource that a server claims.
type ForecastRow struct {
	Name, Unit  string
	Asked, Free int
}

// Outlook is what a forecast depends on beside the node.
type Outlook struct {
	Guests   GuestOptions
	Version  string // of the agent
	Dir      string // of the servers' files
	ImageDir string
	// Ephemeral is the file system of ephemeral disks (default_ephemeral_format); empty leaves it to the
	// guest's operating system.
	Ephemeral image.FileSystem
}

// Forecast says what making a server would do on a node, without doing any of it. It is pure. The error is that of a host
// which contradicts itself.
func (c Capacity) Forecast(f NodeFacts, o Outlook, p Proposal) (Forecast, error) {
	l, err := c.ledgerOf(f)
	if err != nil {
		return Forecast{}, err
	}
	out := Forecast{Server: p.server(f, o.Guests), Cells: l.balance().cells}
	out.Refused = out.fill(l, f, o, p)
	return out, nil
}

// server is the proposed one as it would be stored.
func (p Proposal) server(f NodeFacts, guests GuestOptions) Server {
	s := newServer(p.Request, guests)
	s.ID, s.Number = orUnmade(p.ID), 1
	for _, other := range f.Servers {
		s.Number = max(s.Number, other.Number+1)
	}
	s.Flavor, s.Image, s.ImageID = p.Flavor, imageRef(p.Image), p.Image.ID
	return s
}

func orUnmade(id string) string {
	if id == "" {
		return unmadeID
	}
	return id
}

// fill goes the way of CreateServer.
func (out *Forecast) fill(l *ledger, f NodeFacts, o Outlook, p Proposal) error {
	if err := p.Request.validate(); err != nil {
		return err
	}
	if err := validateSize(p.Flavor, p.Image); err != nil {
		return err
	}
	files := FilesIn(o.Dir, o.ImageDir, out.Server)
	on := (machine{host: f.Host, storage: f.Storage, guests: o.Guests, version: o.Version, numa: l.capacity.NUMA, cells: l.host.cells, ports: p.Ports}).limited()
	var err error
	if out.Server.Hardware, err = on.settle(out.Server); err != nil {
		return err
	}
	if _, err := on.check(out.Server, files); err != nil {
		return err
	}
	wanted := claimOf(out.Server.ID, p.Flavor, p.Image)
	claim, err := l.take(wanted, numaRequest(out.Server))
	if err != nil {
		out.Rows = l.forecastRows(l.capacity.certain(wanted, numaRequest(out.Server)))
		out.Misfit, _ = numa.Explain(out.Cells, numaRequest(out.Server), l.capacity.fitOptions(), l.placed()) // its error is err
		return err
	}
	l.abort(claim.Key())
	out.Claim, out.Rows = claim, l.forecastRows(l.capacity.amountsOf(claim))
	on.placed, on.devices = claim.NUMA, guestDevices(claim.PCI)
	if out.Spec, err = buildSpec(out.Server, files, on); err != nil {
		return err
	}
	size := int64(p.Flavor.DiskGiB) << 30
	if size == 0 {
		size = p.Image.VirtualSize
	}
	blanks := blanksOf(out.Server, files, o.Ephemeral)
	out.Sizes = map[string]int64{files.Root: size}
	for _, b := range blanks {
		out.Sizes[b.path] = b.size
	}
	out.Commands = commandsFor(out.Server, files, size, blanks)
	return nil
}

// certain is what a claim without a place would take in any case: of one that asks for cells it is the place that says
// whether its memory is in huge pages, and whether its vCPUs are pinned.
func (c Capacity) certain(claim Claim, r numa.Request) amounts {
	asked := c.amountsOf(claim)
	if cells, err := r.Constraints(); err != nil || cells == nil {
		return asked
	}
	asked[rowSmallMemory] = 0
	if c.NUMA.DedicatedSet != nil {
		asked[rowVCPU] = 0
	}
	return asked
}

// forecastRows are the rows that a claim takes something of.
func (l *ledger) forecastRows(asked amounts) []ForecastRow {
	var list []ForecastRow
	for i, r := range l.capacity.resources(l.host) {
		if asked[i] > 0 {
			list = append(list, ForecastRow{r.name, r.unit, asked[i], r.limit() - l.used[i]})
		}
	}
	return list
}

// commandsFor are the programs that FileDisks runs to make a server's drives.
func commandsFor(s Server, files Files, size int64, blanks []blank) [][]string {
	programs := []command.Cmd{image.OverlayCommand(files.Root, image.Base{Path: files.Base, Format: s.Image.Format}, size)}
	for _, b := range blanks {
		programs = append(programs, image.BlankCommand(b.path, b.format, b.label))
	}
	if s.ConfigDrive {
		programs = append(programs, configdrive.Commands(files.ConfigDrive, s.driveFormat())...)
	}
	list := make([][]string, len(programs))
	for i, p := range programs {
		list[i] = append([]string{p.Name}, p.Args...)
	}
	return list
}
