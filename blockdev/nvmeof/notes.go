package nvmeof

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
)

// A subsystem's connections belong to all of its namespaces, and some may be an administrator's own. So what cannot be seen in sysfs is noted in files: which
// connections were made here, and which namespaces are wanted. Notes are made before what they are of, and live where connections do not outlive
// them: in /run.

// subsystem is one as one host sees it: the unit of locks and notes.
type subsystem struct {
	NQN  string
	Host HostID
}

func (s subsystem) key() string { return digest(s.NQN, s.Host.NQN) }

// portal is one way to a subsystem, with the port of this host where the transport asks for one.
type portal struct {
	connector.NVMePortal
	hostAddr string
}

func (p portal) key() string {
	return digest(p.Transport, strings.ToLower(p.Address), strconv.Itoa(p.Port), p.hostAddr)
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// The kinds of notes: made-<portal> and used-<namespace>, and the subsystem's name for people.
const (
	made    = "made-"
	used    = "used-"
	aboutIt = "subsystem"
)

func usedBy(info connector.NVMeInfo) string {
	return used + digest(info.UUID, info.NGUID, strconv.Itoa(info.NSID))
}

// notes are those of one subsystem. They are changed under its lock.
type notes struct{ dir string }

func (c *Connector) notes(s subsystem) notes { return notes{filepath.Join(c.Run, s.key())} }

func (n notes) add(s subsystem, note string) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.dir, aboutIt), []byte(s.NQN+"\n"+s.Host.NQN+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.dir, note), nil, 0o600)
}

func (n notes) has(note string) bool {
	_, err := os.Stat(filepath.Join(n.dir, note))
	return err == nil
}

func (n notes) drop(note string) error {
	err := os.Remove(filepath.Join(n.dir, note))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// any says whether there is a note of the kind.
func (n notes) any(kind string) (bool, error) {
	entries, err := os.ReadDir(n.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), kind) {
			return true, nil
		}
	}
	return false, nil
}

// end forgets a subsystem of which no namespace is wanted and no connection is left that was made here: what is noted beyond that never came to be.
func (n notes) end() error { return os.RemoveAll(n.dir) }

// Leftover is a subsystem that this host was connected to for namespaces that nobody wants any more, as a crash can leave it.
type Leftover struct {
	NQN, HostNQN string
	Controllers  []string
}

// Leftovers returns them: for the doctor.
func (c *Connector) Leftovers() ([]Leftover, error) {
	all, err := c.Controllers()
	if err != nil {
		return nil, err
	}
	at := map[subsystem]int{}
	var out []Leftover
	for _, k := range all {
		s := subsystem{NQN: k.NQN, Host: HostID{NQN: k.HostNQN}}
		notes := c.notes(s)
		wanted, err := notes.any(used)
		if err != nil {
			return nil, err
		}
		if wanted || k.ending() || !notes.has(made+k.asPortal().key()) {
			continue
		}
		if _, seen := at[s]; !seen {
			at[s] = len(out)
			out = append(out, Leftover{NQN: k.NQN, HostNQN: k.HostNQN})
		}
		out[at[s]].Controllers = append(out[at[s]].Controllers, k.Name)
	}
	return out, nil
}

// Clear removes the connections of a leftover, if it is one still.
func (c *Connector) Clear(ctx context.Context, l Leftover) error {
	s := subsystem{NQN: l.NQN, Host: HostID{NQN: l.HostNQN}}
	unlock, err := c.subsystems.Lock(ctx, s.key())
	if err != nil {
		return err
	}
	defer unlock()
	return c.release(ctx, s)
}
