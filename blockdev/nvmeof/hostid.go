package nvmeof

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/pattern"
)

// HostID is what a host calls itself to subsystems: its qualified name and its identifier. The two belong together: the kernel refuses one name with
// two identifiers, and the other way around (since Linux 6.5).
type HostID struct {
	NQN string
	ID  string // UUID
}

const uuidNQN = "nqn.2014-08.org.nvmexpress:uuid:"

// nqnForm is the form of qualified names (NVM Express Base Specification, 4.5), without what would end an option of a connection.
var nqnForm = pattern.New(`^nqn\.[0-9]{4}-[0-9]{2}\.[!-+.-~-]{1,211}$`)

// ThisHost reads /etc/nvme/hostnqn and /etc/nvme/hostid, and makes what is missing of them, for good, as nvme-cli's package does when it is
// installed (nvme gen-hostnqn) and os-brick when it is not: of the machine's UUID where its firmware has one, else of a random one. Files that are
// there are never changed. etc is /etc, sys is /sys.
func ThisHost(etc, sys string) (HostID, error) {
	var h HostID
	var err error
	if h.NQN, err = keep(etc, "hostnqn", func() string { return uuidNQN + machineUUID(sys) }); err != nil {
		return HostID{}, err
	}
	if !nqnForm.MatchString(h.NQN) {
		return HostID{}, unsupported("hostnqn", h.NQN, "the host's NVMe name must be a qualified name, nqn.YYYY-MM.domain:name", nil)
	}
	if h.ID, err = keep(etc, "hostid", func() string { return idOf(h.NQN) }); err != nil {
		return HostID{}, err
	}
	if uuid.Validate(h.ID) != nil || len(h.ID) != 36 {
		return HostID{}, unsupported("hostid", h.ID, "the host's NVMe identifier must be a UUID", nil)
	}
	return h, nil
}

// as is the host under the name that a subsystem expects, if that is another than its own.
func (h HostID) as(nqn string) HostID {
	if nqn == "" || nqn == h.NQN {
		return h
	}
	return HostID{NQN: nqn, ID: idOf(nqn)}
}

// idOf is the identifier that goes with a name: the UUID that is in it, or one that is always the same for the name.
func idOf(nqn string) string {
	if id, err := uuid.Parse(strings.TrimPrefix(nqn, uuidNQN)); err == nil && strings.HasPrefix(nqn, uuidNQN) {
		return id.String()
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(nqn)).String()
}

// machineUUID is that of the firmware. Some fill it with the same digit, for all machines of a kind.
func machineUUID(sys string) string {
	text, err := readText(sys, "class/dmi/id/product_uuid")
	if id, bad := uuid.Parse(text); err == nil && bad == nil && strings.Trim(id.String(), id.String()[:1]+"-") != "" {
		return id.String()
	}
	return uuid.NewString()
}

// keep reads a file of /etc/nvme, or makes it. Of two who make it at the same time one wins, and both return what that wrote.
func keep(etc, name string, make func() string) (string, error) {
	path := filepath.Join(etc, "nvme", name)
	for range 2 {
		text, err := readText(path)
		if err == nil && text != "" {
			return text, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", unsupported(name, "", "the host's NVMe name cannot be read", err)
		}
		if err == nil { // empty, as a crash of another program leaves it
			if err := os.Remove(path); err != nil {
				return "", unsupported(name, "", "the host's NVMe name cannot be made", err)
			}
		}
		if err := create(path, make()+"\n"); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", unsupported(name, "", "the host's NVMe name cannot be made", err)
		}
	}
	return readText(path)
}

// create makes a file with its contents, or not at all.
func create(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // the link stays
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Link(file.Name(), path)
}

func unsupported(field, value, rule string, err error) error {
	return &connector.Error{Reason: connector.Unsupported, Field: field, Value: short(value), Rule: rule, Err: err}
}

// short cuts what others wrote.
func short(s string) string {
	const long = 80
	if s = strings.ToValidUTF8(s, "\uFFFD"); len([]rune(s)) > long {
		return fmt.Sprintf("%.80s...", s)
	}
	return s
}
