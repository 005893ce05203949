package compute_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/internal/command"
	"compute-agent/store"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// world is a host that outlives the agents that run on it: a hypervisor, a state directory, and the
// agent of the moment.
type world struct {
	t       *testing.T
	hv      *fake.Hypervisor
	state   string // the state directory
	blobs   string // the image store's
	options func(*compute.Options)
	host    fake.Options
	extra   map[string]string // extra specs of the flavor
	blanks  bool              // the flavor has an ephemeral disk and swap
	vcpus   int               // of the flavor; 0 is 1
	wrote   notice            // raised after each write to the store

	otherProperties map[string]string // of the second image

	connects    bool // the agents have networks
	wires       wires
	fabric      compute.Fabric // in place of the wires
	hostNetwork *compute.HostNetwork
	networks    *compute.NetworkService

	storage *storage // nil: the agents have no volumes

	*compute.Manager // of the agent that runs
	agent            *agent
}

// agent is one incarnation of the agent, with all that dies with it.
type agent struct {
	manager *compute.Manager
	store   *store.Store
	driver  *fake.Driver
	fate    *fate
}

const (
	flavorID = "1"
	// otherImageID has the same bytes.
	otherImageID = "6b2f1a35-1f0c-4a55-8d58-0f4b3b8e4f02"
	imageID      = "6b2f1a35-1f0c-4a55-8d58-0f4b3b8e4f01"
	userID       = "user"
)

// imageBytes are a raw image of one sector, shared by all tests.
var imageBytes = bytes.Repeat([]byte("image..."), 64)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, hv: fake.NewHypervisor(), state: scratch(t), blobs: scratch(t)}
	sum := sha256.Sum256(imageBytes)
	if err := os.WriteFile(filepath.Join(w.blobs, hex.EncodeToString(sum[:])), imageBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop() })
	return w
}

// scratch is a directory in memory where there is such a thing: what is killed here is the agent, not
// the host's power, so that waiting for the disk a hundred thousand times would prove nothing.
func scratch(t *testing.T) string {
	const memory = "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "compute-agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// boot starts an agent on the world; the fate says when it dies.
func (w *world) boot(f *fate) {
	w.t.Helper()
	if f == nil {
		f = newFate()
	}
	w.prepare(f)
	if err := w.Start(w.t.Context()); err != nil && !f.dead() {
		w.t.Fatal(err)
	}
}

// prepare makes an agent that has not started.
func (w *world) prepare(f *fate) {
	w.t.Helper()
	st, err := store.Open(filepath.Join(w.state, "agent.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	driver := w.hv.Open(w.host)
	disks, err := compute.NewFileDisks(filepath.Join(w.state, "instances"), w.blobs, "", &mortalRunner{cachedPrograms, f})
	if err != nil {
		w.t.Fatal(err)
	}
	opt := compute.Options{
		Store: &mortalStore{st, f, &w.wrote}, Driver: &mortalDriver{driver, f}, Disks: &mortalDisks{disks, f}, SettleTime: -1,
	}
	if w.connects {
		w.connect(&opt, f)
	}
	if w.storage != nil {
		w.provide(&opt, st, f)
	}
	if w.options != nil {
		w.options(&opt)
	}
	m, err := compute.New(opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent, w.Manager = &agent{manager: m, store: st, driver: driver, fate: f}, m
	w.seed()
	if w.connects {
		w.lay()
	}
	if w.storage != nil {
		w.fillStorage()
	}
}

// seed puts a flavor, an image and a key into the store, past the agent's fate.
func (w *world) seed() {
	w.t.Helper()
	sum := sha256.Sum256(imageBytes)
	flavor := compute.Flavor{ID: flavorID, Name: "m1.tiny", VCPUs: max(w.vcpus, 1), MemoryMiB: 64, DiskGiB: 1, Public: true, ExtraSpecs: w.extra}
	if w.blanks {
		flavor.EphemeralGiB, flavor.SwapMiB = 1, 64
	}
	err := w.agent.store.Update(context.Background(), func(tx compute.Writer) error {
		return errors.Join(
			tx.PutFlavor(flavor),
			tx.PutImage(compute.Image{ID: imageID, Name: "tiny", Status: compute.ImageActive, DiskFormat: "raw", ContainerFormat: "bare",
				Size: int64(len(imageBytes)), VirtualSize: int64(len(imageBytes)), SHA256: hex.EncodeToString(sum[:])}),
			tx.PutImage(compute.Image{ID: otherImageID, Name: "other", Status: compute.ImageActive, DiskFormat: "raw", ContainerFormat: "bare",
				Size: int64(len(imageBytes)), VirtualSize: int64(len(imageBytes)), SHA256: hex.EncodeToString(sum[:]), Properties: w.otherProperties}),
			tx.PutKeypair(compute.Keypair{UserID: userID, Name: "key", Type: "ssh", PublicKey: "ssh-ed25519 AAAA"}),
		)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// kill ends the agent without letting it finish anything: nothing that it still does has an effect. It
// returns what the store then holds.
func (w *world) kill() (remains remains) {
	w.t.Helper()
	w.agent.fate.die()
	w.agent.driver.Kill()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	w.must(w.agent.manager.Close(ended))
	remains.servers, remains.operations = w.servers(), w.operations()
	w.end(ended)
	return remains
}

// remains is what a killed agent left in the store.
type remains struct {
	servers    []compute.Server
	operations []compute.Operation
}

// stop ends the agent after it has done everything that is under way.
func (w *world) stop() { w.end(context.Background()) }

func (w *world) end(ctx context.Context) {
	if w.agent == nil {
		return
	}
	err := w.agent.manager.Close(ctx)
	if w.hostNetwork != nil {
		w.hostNetwork.Close()
	}
	if err := errors.Join(err, w.agent.driver.Close(), w.agent.store.Close()); err != nil {
		w.t.Error(err)
	}
	w.agent = nil
}

// waitAll waits until nothing is under way, or the agent is dead.
func (w *world) waitAll() {
	w.t.Helper()
	_ = w.Idle(w.agent.fate.life) // its error is that the agent is dead
}

func request() compute.CreateRequest {
	return compute.CreateRequest{
		UserID: userID, ProjectID: "project", Name: "web <1>", FlavorID: flavorID, ImageID: imageID, KeyName: "key",
		UserData: []byte("#!/bin/sh\n"), ConfigDrive: true, AdminPassword: "secret",
	}
}

// create makes a server and waits until it is built.
func (w *world) create() compute.Server {
	w.t.Helper()
	s, err := w.CreateServer(w.t.Context(), request())
	if err != nil {
		w.t.Fatal(err)
	}
	return w.await(s.ID)
}

// await waits for a server's operations and returns it.
func (w *world) await(id string) compute.Server {
	w.t.Helper()
	if err := w.Wait(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
	s, err := w.Server(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// servers reads the store past the agent's fate.
func (w *world) servers() []compute.Server {
	w.t.Helper()
	var all []compute.Server
	err := w.agent.store.View(context.Background(), func(tx compute.Reader) (err error) {
		all, err = tx.Servers()
		return err
	})
	w.must(err)
	return all
}

func (w *world) operations() []compute.Operation {
	w.t.Helper()
	var all []compute.Operation
	err := w.agent.store.View(context.Background(), func(tx compute.Reader) (err error) {
		all, err = tx.Operations()
		return err
	})
	w.must(err)
	return all
}

func (w *world) claims() map[string]compute.Claim {
	w.t.Helper()
	all := map[string]compute.Claim{}
	err := w.agent.store.View(context.Background(), func(tx compute.Reader) error {
		claims, err := tx.Claims()
		for _, c := range claims {
			all[c.ServerID] = c
		}
		return err
	})
	w.must(err)
	return all
}

// guests are the hypervisor's, by ID, seen through a driver of their own.
func (w *world) guests() map[string]virt.Guest {
	w.t.Helper()
	driver := w.hv.Open(fake.Options{})
	defer func() { _ = driver.Close() }()
	list, err := driver.Guests(context.Background())
	w.must(err)
	all := map[string]virt.Guest{}
	for _, g := range list {
		all[g.ID] = g
	}
	return all
}

// files are the IDs of the servers' directories, and anything else that is in their place.
func (w *world) files() []string {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.state, "instances"))
	w.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// promised is the power state that a server's VM state promises of its guest.
var promised = map[compute.VMState][]virt.PowerState{
	compute.Active:  {virt.PowerRunning},
	compute.Paused:  {virt.PowerPaused},
	compute.Rescued: {virt.PowerRunning},
	compute.Stopped: {virt.PowerShutdown, virt.PowerCrashed, virt.PowerNoState},
}

// audit compares store and host: no operation is left, every server is what its guest is, and nothing
// is on the host, in the claims or among the files that no server has.
func (w *world) audit() {
	w.t.Helper()
	if ops := w.operations(); len(ops) > 0 {
		w.t.Errorf("operations are left: %+v", ops)
	}
	servers, guests, claims := w.servers(), w.guests(), w.claims()
	var withFiles []string
	used := compute.Claim{}
	for _, s := range servers {
		g, there := guests[s.ID]
		if s.Task != compute.TaskNone || s.Power != g.State {
			w.t.Errorf("server in %s has task %q and power %s; its guest is %s", s.VM, s.Task, s.Power, g.State)
		}
		if want, ok := promised[s.VM]; ok && !slices.Contains(want, g.State) {
			w.t.Errorf("server is %s, its guest %s", s.VM, g.State)
		}
		if there {
			w.auditSystem(s)
		}
		built := !s.Launched.IsZero()
		if _, claimed := claims[s.ID]; claimed != built || (there && !built) {
			w.t.Errorf("server in %s: built %v, claimed %v, guest %v", s.VM, built, claimed, there)
		}
		if (s.VM == compute.Error) != (s.Fault != nil) {
			w.t.Errorf("server in %s has fault %+v", s.VM, s.Fault)
		}
		if built {
			withFiles = append(withFiles, s.ID)
		}
		if there {
			w.auditDefinition(s.ID)
		}
		c := claims[s.ID]
		used.VCPUs, used.MemoryMiB, used.DiskGiB = used.VCPUs+c.VCPUs, used.MemoryMiB+c.MemoryMiB, used.DiskGiB+c.DiskGiB
		delete(guests, s.ID)
		delete(claims, s.ID)
	}
	if len(guests) > 0 || len(claims) > 0 {
		w.t.Errorf("leaked: guests %v, claims %v", guests, claims)
	}
	slices.Sort(withFiles)
	if files := w.files(); !slices.Equal(files, withFiles) {
		w.t.Errorf("files of %v; servers that have some: %v", files, withFiles)
	}
	w.auditLedger(used)
	w.auditPorts()
	if found := w.Differences(); len(found) > 0 {
		w.t.Errorf("the agent's own audit finds %q", found)
	}
}

// auditSystem compares what a server says that it boots with its guest, and with the disks that there are.
func (w *world) auditSystem(s compute.Server) {
	w.t.Helper()
	spec, err := w.hv.Spec(s.ID)
	w.must(err)
	rescued := slices.ContainsFunc(spec.Disks, func(d virt.Disk) bool { return strings.HasSuffix(d.Source.File, "disk.rescue") })
	if rescued != (s.Rescue != nil) {
		w.t.Errorf("server in %s is rescued: %v; its guest has a rescue disk: %v", s.VM, s.Rescue != nil, rescued)
	}
}

// auditExtra says which disks of a rebuild or a rescue are left.
func (w *world) auditExtra() {
	w.t.Helper()
	for _, s := range w.servers() {
		for _, name := range []string{"rebuild", "disk.rescue", "disk.config.rescue"} {
			_, err := os.Lstat(filepath.Join(w.state, "instances", s.ID, name))
			if err == nil && (name == "rebuild" || s.Rescue == nil) {
				w.t.Errorf("server in %s has files left: %q", s.VM, name)
			}
		}
	}
}

// auditDefinition compares what the store says that a guest was made of with what it was made of.
func (w *world) auditDefinition(id string) {
	w.t.Helper()
	made, err := w.hv.Spec(id)
	w.must(err)
	if diff := cmp.Diff(made, w.definition(id)); diff != "" {
		w.t.Errorf("the guest is not made of what is stored (-guest +stored)\n%s", diff)
	}
}

// definition is what a server's guest was last made of; nothing where that is not known.
func (w *world) definition(id string) (spec virt.Spec) {
	w.t.Helper()
	w.must(w.agent.store.View(context.Background(), func(tx compute.Reader) (err error) {
		if spec, err = tx.Definition(id); errors.Is(err, compute.ErrNotFound) {
			return nil
		}
		return err
	}))
	return spec
}

func (w *world) auditLedger(stored compute.Claim) {
	w.t.Helper()
	n, err := w.Node(context.Background())
	w.must(err)
	if n.CPUsUsed != stored.VCPUs || n.MemoryMiBUsed != stored.MemoryMiB || n.DiskGiBUsed != stored.DiskGiB {
		w.t.Errorf("the ledger has %d, %d, %d; the store %+v", n.CPUsUsed, n.MemoryMiBUsed, n.DiskGiBUsed, stored)
	}
}

// until waits until the server is as the condition wants it; it looks after each write to the store.
func (w *world) until(id string, condition func(compute.Server) bool) compute.Server {
	w.t.Helper()
	for {
		written := w.wrote.next()
		s, err := w.Server(w.t.Context(), id)
		w.must(err)
		if condition(s) {
			return s
		}
		select {
		case <-written:
		case <-w.t.Context().Done():
			w.t.Fatalf("the server stays %+v", s)
		}
	}
}

func (w *world) untilVM(id string, want compute.VMState) compute.Server {
	w.t.Helper()
	return w.until(id, func(s compute.Server) bool { return s.VM == want && s.Task == compute.TaskNone })
}

// notice wakes all who wait for something to happen next.
type notice struct {
	mu sync.Mutex
	ch chan struct{}
}

func (n *notice) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *notice) raise() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}

// fate decides at which point an agent dies or something fails. A point is a moment before or after an
// effect on store, hypervisor or files.
type fate struct {
	dieAt    int   // from 1; 0 never
	failAt   int   // from 1; 0 never. Only what has not happened can fail: an "after" passes it on
	failWith error // what it fails with

	life context.Context // ends at death
	end  context.CancelFunc

	mu     sync.Mutex
	asleep bool // nothing is counted yet
	seen   int
	struck []string // the points that dieAt and failAt hit
}

var errKilled = fmt.Errorf("%w: the agent was killed", virt.ErrUnavailable)

func newFate() *fate {
	f := &fate{}
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

// pass is called at a point. An error takes the place of what would have come next.
func (f *fate) pass(where string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead() {
		return errKilled
	}
	if f.asleep {
		return nil
	}
	f.seen++
	switch {
	case f.seen == f.dieAt:
		f.struck = append(f.struck, "death "+where)
		f.die()
		return errKilled
	case f.seen == f.failAt && strings.HasPrefix(where, "after"):
		f.failAt++
	case f.seen == f.failAt:
		f.struck = append(f.struck, "failure "+where)
		return f.failWith
	}
	return nil
}

func (f *fate) sleep(asleep bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asleep = asleep
}

func (f *fate) die() { f.end() }

func (f *fate) dead() bool { return f.life.Err() != nil }

// hits are the points at which it struck.
func (f *fate) hits() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.struck)
}

// around makes an effect with a point before and after it.
func (f *fate) around(what string, effect func() error) error {
	if err := f.pass("before " + what); err != nil {
		return err
	}
	if err := effect(); err != nil {
		return err
	}
	return f.pass("after " + what)
}

// mortalStore, mortalDriver, mortalDisks and mortalRunner are the real things for as long as their
// agent lives. The dead neither read nor write.
type mortalStore struct {
	*store.Store
	fate  *fate
	wrote *notice
}

func (s *mortalStore) Update(ctx context.Context, fn func(compute.Writer) error) error {
	defer s.wrote.raise()
	return s.fate.around("a store write", func() error { return s.Store.Update(ctx, fn) })
}

func (s *mortalStore) View(ctx context.Context, fn func(compute.Reader) error) error {
	if s.fate.dead() {
		return errKilled
	}
	return s.Store.View(ctx, fn)
}

type mortalDriver struct {
	*fake.Driver
	fate *fate
}

func (d *mortalDriver) Create(ctx context.Context, spec virt.Spec) error {
	return d.fate.around("Create", func() error { return d.Driver.Create(ctx, spec) })
}

func (d *mortalDriver) Start(ctx context.Context, id string) error {
	return d.fate.around("Start", func() error { return d.Driver.Start(ctx, id) })
}

func (d *mortalDriver) Stop(ctx context.Context, id string, opt virt.StopOptions) error {
	return d.fate.around("Stop", func() error { return d.Driver.Stop(ctx, id, opt) })
}

func (d *mortalDriver) Destroy(ctx context.Context, id string) error {
	return d.fate.around("Destroy", func() error { return d.Driver.Destroy(ctx, id) })
}

func (d *mortalDriver) Pause(ctx context.Context, id string) error {
	return d.fate.around("Pause", func() error { return d.Driver.Pause(ctx, id) })
}

func (d *mortalDriver) Unpause(ctx context.Context, id string) error {
	return d.fate.around("Unpause", func() error { return d.Driver.Unpause(ctx, id) })
}

func (d *mortalDriver) PlugNIC(ctx context.Context, id string, nic virt.NIC) error {
	return d.fate.around("PlugNIC", func() error { return d.Driver.PlugNIC(ctx, id, nic) })
}

func (d *mortalDriver) UnplugNIC(ctx context.Context, id, mac string, opt virt.UnplugOptions) error {
	return d.fate.around("UnplugNIC", func() error { return d.Driver.UnplugNIC(ctx, id, mac, opt) })
}

func (d *mortalDriver) PlugDisk(ctx context.Context, id string, disk virt.Disk) error {
	return d.fate.around("PlugDisk", func() error { return d.Driver.PlugDisk(ctx, id, disk) })
}

func (d *mortalDriver) UnplugDisk(ctx context.Context, id, target string, opt virt.UnplugOptions) error {
	return d.fate.around("UnplugDisk", func() error { return d.Driver.UnplugDisk(ctx, id, target, opt) })
}

func (d *mortalDriver) CopyDisk(ctx context.Context, id, target string, to virt.Disk, progress func(done, total uint64)) error {
	return d.fate.around("CopyDisk", func() error { return d.Driver.CopyDisk(ctx, id, target, to, progress) })
}

func (d *mortalDriver) ResizeDisk(ctx context.Context, id, target string, bytes uint64) error {
	return d.fate.around("ResizeDisk", func() error { return d.Driver.ResizeDisk(ctx, id, target, bytes) })
}

func (d *mortalDriver) PutSecret(ctx context.Context, s virt.Secret) error {
	return d.fate.around("PutSecret", func() error { return d.Driver.PutSecret(ctx, s) })
}

func (d *mortalDriver) DeleteSecret(ctx context.Context, uuid string) error {
	return d.fate.around("DeleteSecret", func() error { return d.Driver.DeleteSecret(ctx, uuid) })
}

func (d *mortalDriver) Remake(ctx context.Context, spec virt.Spec) error {
	return d.fate.around("Remake", func() error { return d.Driver.Remake(ctx, spec) })
}

type mortalDisks struct {
	*compute.FileDisks
	fate *fate
}

func (d *mortalDisks) Make(ctx context.Context, s compute.Server, on compute.Attached, secret compute.Secrets) error {
	return d.fate.around("making files", func() error { return d.FileDisks.Make(ctx, s, on, secret) })
}

func (d *mortalDisks) Remove(ctx context.Context, id string) error {
	return d.fate.around("removing files", func() error { return d.FileDisks.Remove(ctx, id) })
}

func (d *mortalDisks) Prepare(ctx context.Context, s compute.Server, on compute.Attached, secret compute.Secrets) error {
	return d.fate.around("preparing files", func() error { return d.FileDisks.Prepare(ctx, s, on, secret) })
}

func (d *mortalDisks) Replace(ctx context.Context, s compute.Server) error {
	return d.fate.around("replacing files", func() error { return d.FileDisks.Replace(ctx, s) })
}

func (d *mortalDisks) Discard(ctx context.Context, id string) error {
	return d.fate.around("discarding files", func() error { return d.FileDisks.Discard(ctx, id) })
}

func (d *mortalDisks) MakeRescue(ctx context.Context, s compute.Server, on compute.Attached, secret compute.Secrets) error {
	return d.fate.around("making rescue files", func() error { return d.FileDisks.MakeRescue(ctx, s, on, secret) })
}

func (d *mortalDisks) RemoveRescue(ctx context.Context, id string) error {
	return d.fate.around("removing rescue files", func() error { return d.FileDisks.RemoveRescue(ctx, id) })
}

type mortalRunner struct {
	command.Runner
	fate *fate
}

func (r *mortalRunner) Run(ctx context.Context, c command.Cmd) (out []byte, err error) {
	err = r.fate.around("running "+c.Name, func() error {
		out, err = r.Runner.Run(ctx, c)
		return err
	})
	return out, err
}

// cachedPrograms runs qemu-img and genisoimage once for all tests that ask for the same, and copies
// what came out afterwards: a thousand restarts need a thousand disks. Programs that format a file run once, too; the
// later ones stay as they were made, for nobody reads them.
var cachedPrograms = &programCache{files: map[string][]byte{}}

type programCache struct {
	mu    sync.Mutex
	files map[string][]byte
}

func (p *programCache) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	key, output := cacheKey(c)
	if key == "" {
		return nil, fmt.Errorf("a program that the tests do not know: %s %q", c.Name, c.Args)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if data, ok := p.files[key]; ok {
		if output == "" {
			return nil, nil
		}
		return nil, os.WriteFile(output, data, 0o644)
	}
	out, err := command.Exec{}.Run(ctx, c)
	if err == nil && output == "" {
		p.files[key] = nil
	} else if err == nil {
		p.files[key], err = os.ReadFile(output)
	}
	return out, err
}

// cacheKey is the command without its output, which is the second last argument of qemu-img create and
// what follows -o for genisoimage; there is none to copy of a program that formats a file. Config drives differ, but
// nobody here reads one.
func cacheKey(c command.Cmd) (key, output string) {
	switch {
	case c.Name == "qemu-img" && len(c.Args) > 2 && c.Args[0] == "create":
		at := len(c.Args) - 2
		return strings.Join(slices.Concat(c.Args[:at], c.Args[at+1:]), " "), c.Args[at]
	case c.Name == "genisoimage":
		if at := slices.Index(c.Args, "-o"); at >= 0 {
			return c.Name, c.Args[at+1]
		}
	case c.Name == "mkswap" || strings.HasPrefix(c.Name, "mkfs."):
		return c.Name, ""
	}
	return "", ""
}
