package nvmeof

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/uevent"
	"compute-agent/internal/command"
)

// world is a host with a kernel that connects to subsystems, and keeps sysfs as the real one does (the trees in testdata). It is stricter where it
// can be: it refuses a second connection of the same kind, and to take away a disk that somebody has open.
type world struct {
	t    *testing.T
	root string

	mu        sync.Mutex
	multipath bool
	subs      map[string]*fakeSubsystem
	ctrls     map[int]*fakeController
	disks     map[string]bool
	watchers  []func()
	held      map[string]bool
	fails     map[string]error         // by traddr
	hangs     map[string]chan struct{} // by traddr: Connect waits for it
	ignoring  bool                     // rescans do nothing
	silent    bool                     // Identify has no descriptors
	log       []string                 // connect and delete, by traddr
}

type fakeSubsystem struct {
	number int
	hosts  []string // that it lets in; all when there are none
	spaces map[int]*fakeNamespace
	heads  map[string]int // instance of a head by UUID
	ana    map[string]string
}

type fakeNamespace struct {
	uuid  string
	bytes int64
}

type fakeController struct {
	number          int
	nqn, host, addr string
	seen            map[int]fakeNamespace
}

func newWorld(t *testing.T) (*world, *Connector) {
	w := &world{t: t, root: t.TempDir(), multipath: true, subs: map[string]*fakeSubsystem{}, ctrls: map[int]*fakeController{}, disks: map[string]bool{},
		held: map[string]bool{}, fails: map[string]error{}, hangs: map[string]chan struct{}{}}
	plant(t, w.root, "sys/module/nvme_core/parameters/multipath = Y\nsys/block/\nsys/class/block/\nsys/class/nvme/\nproc/self/mountinfo =\nproc/swaps =\n"+
		"dev/nvme-fabrics =\netc/nvme/hostnqn = "+ownNQN+"\netc/nvme/hostid = "+ownID)
	o := Defaults
	o.ConnectWait, o.DeviceWait = 2*time.Minute, 2*time.Minute
	return w, w.agent(o)
}

// agent is one that has just been started.
func (w *world) agent(o Options) *Connector {
	return &Connector{System: scsi.System{Sys: w.path("sys"), Dev: w.path("dev"), Proc: w.path("proc"), RunUdev: w.path("run"), Kernel: w}, Kernel: w,
		Modules: command.Exec{}, Etc: w.path("etc"), Run: w.path("run/nvmeof"), Options: o}
}

const (
	ownID  = "01234567-89ab-4cde-8f01-23456789abcd"
	ownNQN = uuidNQN + ownID
)

func (w *world) path(p string) string { return filepath.Join(w.root, p) }

func (w *world) subsystem(nqn string) *fakeSubsystem {
	s := &fakeSubsystem{number: len(w.subs), spaces: map[int]*fakeNamespace{}, heads: map[string]int{}, ana: map[string]string{}}
	w.subs[nqn] = s
	return s
}

func (w *world) singlePath() {
	w.multipath = false
	_ = os.WriteFile(w.path("sys/module/nvme_core/parameters/multipath"), []byte("N\n"), 0o600)
}

// Connect implements Kernel.
func (w *world) Connect(options string) (int, error) {
	o := map[string]string{}
	for opt := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(opt, "=")
		o[key] = value
	}
	w.mu.Lock()
	hang := w.hangs[o["traddr"]]
	w.mu.Unlock()
	if hang != nil {
		<-hang
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fails[o["traddr"]]; err != nil {
		return 0, err
	}
	s := w.subs[o["nqn"]]
	if s == nil || len(s.hosts) > 0 && !slices.Contains(s.hosts, o["hostnqn"]) {
		return 0, unix.EIO
	}
	c := &fakeController{nqn: o["nqn"], host: o["hostnqn"], addr: o["traddr"], seen: map[int]fakeNamespace{}}
	for _, other := range w.ctrls {
		if other.nqn == c.nqn && other.host == c.host && other.addr == c.addr {
			return 0, unix.EALREADY
		}
	}
	for w.ctrls[c.number] != nil {
		c.number++
	}
	w.ctrls[c.number] = c
	dir := c.dir()
	plant(w.t, w.root, fmt.Sprintf("%s/address = traddr=%s,trsvcid=%s,src_addr=127.0.0.1\n%[1]s/hostnqn = %[4]s\n%[1]s/state = live\n%[1]s/subsysnqn = %[5]s\n%[1]s/transport = %[6]s\n",
		dir, c.addr, o["trsvcid"], c.host, c.nqn, o["transport"])+
		fmt.Sprintf("sys/class/nvme/nvme%d -> ../../devices/virtual/nvme-fabrics/ctl/nvme%[1]d", c.number))
	w.log = append(w.log, "connect "+c.addr)
	w.scan(c)
	return c.number, nil
}

func (c *fakeController) dir() string {
	return fmt.Sprintf("sys/devices/virtual/nvme-fabrics/ctl/nvme%d", c.number)
}

// scan makes sysfs show what a controller's subsystem has.
func (w *world) scan(c *fakeController) {
	s := w.subs[c.nqn]
	for nsid, seen := range c.seen {
		if now := s.spaces[nsid]; now == nil || now.uuid != seen.uuid {
			w.removeSpace(c, nsid)
		}
	}
	for nsid, n := range s.spaces {
		w.addSpace(c, nsid, *n)
	}
	w.wake()
}

func (w *world) pathOf(c *fakeController, uuid string) (path, disk string) {
	s := w.subs[c.nqn]
	if !w.multipath {
		name := fmt.Sprintf("nvme%dn%d", c.number, s.heads[uuid])
		return name, name
	}
	return fmt.Sprintf("nvme%dc%dn%d", s.number, c.number, s.heads[uuid]), fmt.Sprintf("nvme%dn%d", s.number, s.heads[uuid])
}

func (w *world) addSpace(c *fakeController, nsid int, n fakeNamespace) {
	s := w.subs[c.nqn]
	if s.heads[n.uuid] == 0 {
		s.heads[n.uuid] = len(s.heads) + 1
	}
	c.seen[nsid] = n
	path, disk := w.pathOf(c, n.uuid)
	dir := c.dir() + "/" + path
	w.write(dir+"/nsid", strconv.Itoa(nsid))
	w.write(dir+"/uuid", n.uuid)
	w.write(dir+"/wwid", "uuid."+n.uuid)
	ana := cmp.Or(s.ana[c.addr], Optimized)
	if w.multipath {
		w.write(dir+"/ana_state", ana)
		dir = fmt.Sprintf("sys/devices/virtual/nvme-subsystem/nvme-subsys%d/%s", s.number, disk)
	}
	if w.multipath && !w.disks[disk] && ana != Optimized && ana != NonOptimized {
		return // the head comes with its first path that can be used
	}
	w.write(dir+"/size", strconv.FormatInt(n.bytes/512, 10))
	if !w.disks[disk] {
		w.disks[disk] = true
		w.write(dir+"/stat", "0 0 0 0 1 0 0 0")
		w.write(dir+"/dev", "259:"+strconv.Itoa(len(w.disks)))
		w.write("dev/"+disk, "")
		plant(w.t, w.root, "sys/block/"+disk+" -> "+w.path(dir)+"\nsys/class/block/"+disk+" -> "+w.path(dir))
	}
}

func (w *world) removeSpace(c *fakeController, nsid int) {
	path, disk := w.pathOf(c, c.seen[nsid].uuid)
	uuid := c.seen[nsid].uuid
	delete(c.seen, nsid)
	_ = os.RemoveAll(w.path(c.dir() + "/" + path))
	for _, other := range w.ctrls {
		for _, n := range other.seen {
			if w.multipath && other.nqn == c.nqn && n.uuid == uuid {
				return
			}
		}
	}
	if w.held[disk] {
		w.t.Errorf("%s is taken away and somebody has it open", disk)
	}
	target, _ := filepath.EvalSymlinks(w.path("sys/block/" + disk))
	delete(w.disks, disk)
	_ = os.Remove(w.path("dev/" + disk))
	_ = os.Remove(w.path("sys/block/" + disk))
	_ = os.Remove(w.path("sys/class/block/" + disk))
	_ = os.RemoveAll(target)
}

func (w *world) write(path, text string) {
	path = w.path(path)
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		w.t.Error(err)
	}
}

func (w *world) state(addr, state string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.ctrls {
		if c.addr == addr {
			w.write(c.dir()+"/state", state)
		}
	}
	w.wake()
}

// Write implements both kernels: rescan_controller and delete_controller.
func (w *world) Write(path, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return err
	}
	for n, c := range w.ctrls {
		switch {
		case filepath.Base(dir) != fmt.Sprintf("nvme%d", n):
		case filepath.Base(path) == "delete_controller":
			w.log = append(w.log, "delete "+c.addr)
			delete(w.ctrls, n)
			for nsid := range c.seen {
				w.removeSpace(c, nsid)
			}
			_ = os.Remove(w.path(fmt.Sprintf("sys/class/nvme/nvme%d", n)))
			_ = os.RemoveAll(w.path(c.dir()))
			w.wake()
			return nil
		default:
			if !w.ignoring {
				w.scan(c)
			}
			return nil
		}
	}
	return fs.ErrNotExist
}

// Identify implements Kernel.
func (w *world) Identify(node string, nsid int, cns uint8) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	number, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(node), "nvme"))
	c := w.ctrls[number]
	if c == nil {
		return nil, fs.ErrNotExist
	}
	n := w.subs[c.nqn].spaces[nsid]
	if n == nil {
		return nil, StatusError(0x400b)
	}
	if cns == cnsNamespace {
		data := make([]byte, identifySize)
		binary.LittleEndian.PutUint64(data, uint64(n.bytes/512))
		data[130] = 9
		return data, nil
	}
	if w.silent {
		return nil, StatusError(0x4002)
	}
	id := uuid.MustParse(n.uuid)
	return append(append([]byte{3, 16, 0, 0}, id[:]...), make([]byte, identifySize-20)...), nil
}

func (w *world) wake() {
	for _, event := range w.watchers {
		event()
	}
}

// Watch, Flush, Exclusive and Number implement scsi.Kernel.
func (w *world) Watch() (*uevent.Watch, error) {
	watch, event := uevent.Fed()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watchers = append(w.watchers, event)
	return watch, nil
}

func (w *world) Flush(node string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, "flush "+filepath.Base(node))
	return nil
}

func (w *world) Exclusive(node string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[filepath.Base(node)] {
		return scsi.ErrHeld
	}
	return nil
}

func (w *world) Number(string) string { return "" }

func (w *world) happened() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.log)
	out := strings.Join(w.log, ", ")
	w.log = nil
	return out
}

// left is what is there of connections and notes.
func (w *world) left() string {
	ctrls, _ := filepath.Glob(w.path("sys/class/nvme/*"))
	notes, _ := filepath.Glob(w.path("run/nvmeof/*/*"))
	var out []string
	for _, f := range append(ctrls, notes...) {
		out = append(out, filepath.Base(f))
	}
	return strings.Join(out, " ")
}

// Info of a namespace at the portals 127.0.2.2 and 127.0.2.3, or those that are given.
func infoOf(nqn, uuid string, nsid int, addresses ...string) connector.Info {
	if len(addresses) == 0 {
		addresses = []string{"127.0.2.2", "127.0.2.3"}
	}
	n := &connector.NVMeInfo{NQN: nqn, UUID: uuid, NSID: nsid}
	for _, a := range addresses {
		n.Portals = append(n.Portals, connector.NVMePortal{Transport: "tcp", Address: a, Port: 4420})
	}
	return connector.Info{Type: connector.NVMeoF, NVMe: n}
}
