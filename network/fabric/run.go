package fabric

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/firewall"
)

// Options are what a Fabric works with.
type Options struct {
	// OS is the links of the host; network.Host is the real ones.
	OS       network.OS
	Firewall *firewall.Firewall
	// Services run in namespaces of the host; nil for none of them.
	Services Services
	Runner   command.Runner
	Proc     string       // /proc
	Logger   *slog.Logger // default: nothing is logged
}

// Services are what runs for networks: their namespaces with DHCP servers, routers and the metadata service.
type Services interface {
	Apply(ctx context.Context, want State) error
}

// Fabric makes a host's networks what is wanted. Its methods may be called at the same time.
type Fabric struct {
	opt   Options
	links *network.Keeper
	mu    sync.Mutex // held while something is changed
}

// New returns the Fabric of the network namespace in which it is called. Nothing is touched yet.
func New(opt Options) *Fabric {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fabric{opt: opt}
	f.links = network.NewKeeper(opt.OS, f.report)
	return f
}

func (f *Fabric) report(made []network.Change, err error) {
	for _, c := range made {
		f.opt.Logger.Warn("a link of the host was changed by somebody else; it is put right", "change", c.String())
	}
	if err != nil {
		f.opt.Logger.Error("a link of the host cannot be put right", "error", err)
	}
}

// Resync makes the next Apply read what it else remembers of the host.
func (f *Fabric) Resync() { f.opt.Firewall.Resync() }

// Repairs counts the changes of links that were made because somebody else had changed something.
func (f *Fabric) Repairs() uint64 { return f.links.Repairs() }

// Keep repairs links that somebody else changes, at each event of network.Host.Watch, until ctx ends.
func (f *Fabric) Keep(ctx context.Context, events <-chan struct{}) error {
	return f.links.Run(ctx, events)
}

// serve makes what runs for networks.
func (f *Fabric) serve(ctx context.Context, want State) error {
	if f.opt.Services == nil {
		return nil
	}
	return f.opt.Services.Apply(ctx, want)
}

// filterBridges makes the kernel show bridged packets to iptables.
func (f *Fabric) filterBridges(ctx context.Context) error {
	for _, family := range []string{"iptables", "ip6tables"} {
		path := filepath.Join(f.opt.Proc, "sys/net/bridge/bridge-nf-call-"+family)
		if err := f.turnOn(ctx, path); err != nil {
			return fmt.Errorf("bridged packets do not pass %s: %w", family, err)
		}
	}
	return nil
}

func (f *Fabric) turnOn(ctx context.Context, path string) error {
	is, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // the module is not there, and comes with nobody who needs it
		if _, err := f.opt.Runner.Run(ctx, command.Cmd{Name: "modprobe", Args: []string{"br_netfilter"}}); err != nil {
			return err
		}
		is, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	if len(is) > 0 && is[0] == '1' {
		return nil
	}
	return os.WriteFile(path, []byte("1\n"), 0) // which is there
}
