package dhcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"compute-agent/internal/command"
	"compute-agent/network"
)

const program = "dnsmasq"

// Options say where a Supervisor's servers run, and how.
type Options struct {
	// Dir is for the servers' files. All users must be able to enter it: dnsmasq is not root.
	Dir  string
	Run  command.Runner
	Host network.Host // whose named namespaces the servers are in
	// User is whom dnsmasq becomes: empty for Debian's dnsmasq, or nobody when the host has none.
	User string
	// Report is told what became of a server that ended by itself: nil when it runs again. It must not call the Supervisor.
	Report func(network string, err error)
	// Backoff is how long to wait before a server is started again that ended or did not start so often in a row; nil for none before
	// the first, and then from one second to a minute.
	Backoff func(failures int) time.Duration
}

// Supervisor keeps one dnsmasq running for each Server. They outlive it and the agent: the next Supervisor with the same Dir takes them
// over. Its methods may be called at the same time.
type Supervisor struct {
	opt  Options
	uid  int
	ctx  context.Context // ends with Close
	end  context.CancelFunc
	busy sync.WaitGroup

	mu       sync.Mutex // held while servers are changed
	adopted  bool
	servers  map[string]*instance // by network
	restarts atomic.Uint64
}

// instance is one network's server.
type instance struct {
	want     Server
	conf     string   // the path of its configuration
	process  *process // nil when none runs
	wanted   bool
	fresh    bool // the process is known to have read the files that are there
	failures int  // in a row
	since    time.Time
	timer    *time.Timer // of the next attempt
}

// New makes a Supervisor. It touches nothing before the first Apply.
func New(opt Options) (*Supervisor, error) {
	if opt.User == "" {
		opt.User = "nobody"
		if _, err := user.Lookup(program); err == nil {
			opt.User = program
		}
	}
	u, err := user.Lookup(opt.User)
	if err != nil {
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("dhcp: user %s: %w", opt.User, err)
	}
	if opt.Backoff == nil {
		opt.Backoff = backoff
	}
	if opt.Report == nil {
		opt.Report = func(string, error) {}
	}
	opt.Dir = filepath.Clean(opt.Dir)
	s := &Supervisor{opt: opt, uid: uid, servers: map[string]*instance{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s, nil
}

const (
	longestBackoff = time.Minute
	steady         = time.Minute // who ran so long did not fail to start
)

func backoff(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	return min(time.Second<<min(failures-2, 10), longestBackoff)
}

// Restarts counts the servers that were started again because they had ended by themselves.
func (s *Supervisor) Restarts() uint64 { return s.restarts.Load() }

// Close ends the supervision. The servers run on.
func (s *Supervisor) Close() {
	s.end()
	s.mu.Lock()
	for _, i := range s.servers {
		s.unwatch(i)
	}
	s.mu.Unlock()
	s.busy.Wait()
}

func (s *Supervisor) unwatch(i *instance) {
	if i.timer != nil {
		i.timer.Stop()
	}
	if i.process != nil {
		i.process.letGo()
		i.process = nil
	}
}

// Apply makes the servers of the host those that are wanted: the namespaces and devices are there already, and no server is in a namespace
// that is about to go. What only concerns hosts is told to a running server; for all else it is started anew. What is wrong with one server
// is in the error, with its network and dnsmasq's own words, and is tried again later; all others are as they are wanted. Apply may end at any
// line, and its process be killed: the next one completes it. No servers end and remove all.
func (s *Supervisor) Apply(ctx context.Context, want []Server) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("dhcp: closed: %w", err)
	}
	if err := s.adopt(ctx, want); err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	var errs []error
	wanted := map[string]bool{}
	for _, w := range want {
		wanted[w.Network] = true
	}
	for id, i := range s.servers {
		if !wanted[id] {
			errs = append(errs, s.named(id, s.remove(ctx, id, i)))
		}
	}
	for _, w := range slices.SortedStableFunc(slices.Values(want), func(a, b Server) int { return cmp.Compare(a.Network, b.Network) }) {
		errs = append(errs, s.named(w.Network, s.serve(ctx, w)))
	}
	return errors.Join(errs...)
}

func (s *Supervisor) named(id string, err error) error {
	if err == nil || errors.Is(err, ErrInvalid) {
		return err
	}
	return fmt.Errorf("dhcp of network %.40q: %w", id, err)
}

// adopt finds what an earlier Supervisor left: servers that run, and files.
func (s *Supervisor) adopt(ctx context.Context, want []Server) error {
	if s.adopted {
		return nil
	}
	if len(want) > 0 {
		if err := os.MkdirAll(s.opt.Dir, 0o755); err != nil {
			return err
		}
		if err := readable(s.opt.Dir); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(s.opt.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	running, err := find(s.proc(), s.opt.Dir, s.uid)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && validID(e.Name()) {
			s.servers[e.Name()] = &instance{}
		}
	}
	for _, p := range running {
		id := filepath.Base(filepath.Dir(p.conf))
		if i := s.servers[id]; i == nil {
			s.servers[id] = &instance{}
		} else if i.process != nil {
			s.busy.Go(func() { p.wait() })
			err := p.stop(ctx)
			_ = p.fd.Close()
			if err != nil { // two of one network: an older agent was killed between the end of one and the start of the next
				return err
			}
			continue
		}
		s.watch(id, s.servers[id], p)
	}
	s.adopted = true
	return nil
}

func (s *Supervisor) proc() string { return cmp.Or(s.opt.Host.Proc, "/proc") }

func (s *Supervisor) place(id string) Place {
	return Place{Dir: filepath.Join(s.opt.Dir, id), User: s.opt.User}
}

// watch has the server started again when it ends.
func (s *Supervisor) watch(id string, i *instance, p *process) {
	i.process, i.since = p, time.Now()
	s.busy.Go(func() {
		ended := p.wait()
		if !ended {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = p.fd.Close()
		if i.process != p {
			return // it was to end
		}
		i.process = nil
		if !i.wanted || s.ctx.Err() != nil {
			return
		}
		if time.Since(i.since) > steady {
			i.failures = 0
		}
		i.failures++
		s.later(id, i)
	})
}

// later starts the server after a while. There is one next attempt, whoever asked for the last one.
func (s *Supervisor) later(id string, i *instance) {
	if i.timer != nil {
		i.timer.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(s.opt.Backoff(i.failures), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i.timer != timer || !i.wanted || i.process != nil || s.ctx.Err() != nil {
			return
		}
		err := s.start(s.ctx, id, i)
		if err == nil {
			s.restarts.Add(1)
		}
		s.opt.Report(id, s.named(id, err))
	})
	i.timer = timer
}

// remove ends a network's server and removes its files.
func (s *Supervisor) remove(ctx context.Context, id string, i *instance) error {
	i.wanted = false
	if err := s.stop(ctx, i); err != nil {
		return err
	}
	if err := os.RemoveAll(s.place(id).Dir); err != nil {
		return err
	}
	delete(s.servers, id)
	return nil
}

func (s *Supervisor) stop(ctx context.Context, i *instance) error {
	if i.timer != nil {
		i.timer.Stop()
	}
	p := i.process
	if p == nil {
		return nil
	}
	i.process = nil
	if err := p.stop(ctx); err != nil {
		i.process = p
		return err
	}
	return nil
}

// serve makes one server what is wanted. What is invalid in it is told after the rest was done.
func (s *Supervisor) serve(ctx context.Context, w Server) error {
	at := s.place(w.Network)
	namespace, device, err := s.look(w)
	if err != nil {
		return err
	}
	at.Device = device
	files, invalid := Render(at, w)
	if files.Conf == "" {
		return invalid
	}
	i := s.servers[w.Network]
	if i == nil {
		i = &instance{}
		s.servers[w.Network] = i
	}
	i.want, i.wanted, i.conf = w, true, filepath.Join(at.Dir, files.confName())
	return errors.Join(invalid, s.update(ctx, i, at, files, namespace))
}

func (s *Supervisor) update(ctx context.Context, i *instance, at Place, files Files, namespace inode) error {
	before, err := readFiles(at.Dir)
	if err != nil {
		return err
	}
	leases, err := read(filepath.Join(at.Dir, leasesFile))
	if err != nil {
		return err
	}
	kept, stale := prune(leases, before.Hosts, files.Hosts)
	if stale || i.process == nil || i.process.conf != i.conf || !s.within(i.process, namespace) || !there(at.Dir) {
		if err := s.stop(ctx, i); err != nil {
			return err
		}
		if stale {
			if err := writeFile(filepath.Join(at.Dir, leasesFile), kept); err != nil {
				return err
			}
		}
		if err := files.write(at.Dir); err != nil {
			return err
		}
		return s.start(ctx, i.want.Network, i)
	}
	before.Conf = files.Conf
	if i.fresh && before == files {
		return nil
	}
	i.fresh = false
	if err := files.write(at.Dir); err != nil {
		return err
	}
	if err := i.process.signal(unix.SIGHUP); err != nil {
		return err
	}
	i.fresh = true
	return nil
}

// there says whether the leases have a file: a server whose file somebody removed writes to one without a name.
func there(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, leasesFile))
	return err == nil
}

// look finds the namespace that has the name now, and the number of the device in it.
func (s *Supervisor) look(w Server) (namespace inode, device int, err error) {
	err = s.opt.Host.InNamespace(w.Namespace, func() (err error) {
		if namespace, err = inodeOf(filepath.Join(s.proc(), "thread-self/ns/net")); err != nil {
			return err
		}
		link, err := net.InterfaceByName(w.Device)
		if err != nil {
			return fmt.Errorf("device %.40q in %s: %w", w.Device, w.Namespace, err)
		}
		device = link.Index
		return nil
	})
	return namespace, device, err
}

// within says whether a process is in the namespace.
func (s *Supervisor) within(p *process, namespace inode) bool {
	is, err := inodeOf(filepath.Join(s.proc(), strconv.Itoa(p.pid), "ns/net"))
	return err == nil && is == namespace
}

const startWithin = 30 * time.Second

// start starts a server with the files that are there. dnsmasq tells whether it could, and goes into the background.
func (s *Supervisor) start(ctx context.Context, id string, i *instance) error {
	err := s.launch(ctx, id, i)
	if err == nil {
		i.fresh = true
		return nil
	}
	i.failures++
	s.later(id, i)
	return err
}

func (s *Supervisor) launch(ctx context.Context, id string, i *instance) error {
	limited, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	err := s.opt.Host.InNamespace(i.want.Namespace, func() error {
		_, err := s.opt.Run.Run(limited, command.Cmd{Name: program, Args: []string{confArgument + i.conf}})
		return err
	})
	if err != nil {
		return err
	}
	running, err := find(s.proc(), s.place(id).Dir, s.uid)
	if err != nil {
		return err
	}
	if len(running) == 0 {
		return fmt.Errorf("%s ended at once", program)
	}
	for _, other := range running[1:] {
		_ = other.fd.Close()
	}
	s.watch(id, i, running[0])
	return nil
}

// Running are the networks whose servers run, whoever started them.
func (s *Supervisor) Running() (networks []string, err error) {
	running, err := find(s.proc(), s.opt.Dir, s.uid)
	for _, p := range running {
		_ = p.fd.Close()
		networks = append(networks, filepath.Base(filepath.Dir(p.conf)))
	}
	slices.Sort(networks)
	return networks, err
}

// Leases are the addresses that guests of a network were given.
func (s *Supervisor) Leases(network string) ([]Lease, error) {
	if !validID(network) {
		return nil, fmt.Errorf("%w: network %.40q", ErrInvalid, network)
	}
	text, err := read(filepath.Join(s.place(network).Dir, leasesFile))
	if err != nil {
		return nil, fmt.Errorf("dhcp of network %s: leases: %w", network, err)
	}
	return parseLeases(text), nil
}
