package iscsi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"compute-agent/blockdev/connector"
)

// The agent writes open-iscsi's records itself. iscsiadm takes a setting's value, a password too, in its arguments, where every user of the host
// can read it. And iscsiadm holds a lock file while it writes: one that is killed leaves it, and each later call waits for 30 seconds.
//
// A record is lines of "name = value"; what it does not name has open-iscsi's built-in value (idbm_rec_read). So one that begins with
// iscsid.conf's lines is what "iscsiadm --op new" makes.

// mark is the first line of records that the agent made. Others are somebody else's.
const mark = "# compute-agent: removed when the last volume of the target has gone from this host\n"

// records are open-iscsi's directories.
type records struct {
	dirs  []string // where iscsid.conf, nodes, send_targets and ifaces may be, the likeliest first
	login time.Duration
}

// root is the first directory that has an entry of the name; the first, when none has.
func (r records) root(name string) string {
	for _, dir := range r.dirs {
		if file := filepath.Join(dir, name); exists(file) {
			return file
		}
	}
	return filepath.Join(r.dirs[0], name)
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

// file is where a path's record is. A record whose portal group is not known is one file and not a directory of them (idbm_rec_write_old).
func (r records) file(p path) string {
	return filepath.Join(r.root("nodes"), p.iqn, p.host+","+strconv.Itoa(p.port))
}

// write makes the record of a path that is to be logged in at. Whatever record of that portal there was is replaced: with two, iscsiadm logs in twice.
func (r records) write(p path, auth *connector.CHAP) error {
	text, err := r.render(p, auth)
	if err != nil {
		return err
	}
	file := r.file(p)
	others, err := filepath.Glob(globbed(file) + ",*")
	if err == nil {
		err = removeAll(others)
	}
	if info, stat := os.Lstat(file); err == nil && stat == nil && info.IsDir() {
		err = os.RemoveAll(file)
	}
	if err == nil {
		err = r.replace(file, text)
	}
	if err != nil {
		return fmt.Errorf("iSCSI record of %v: %w", p, err)
	}
	return nil
}

// globbed takes what a pattern would mean out of a file's name.
func globbed(file string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(file)
}

func removeAll(files []string) error {
	for _, file := range files {
		if err := os.RemoveAll(file); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a path's record away if the agent made it, and the target's directory with the last one.
func (r records) remove(p path) error {
	file := r.file(p)
	err := os.Remove(r.interim(file))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		if err = nil; ours(file) {
			err = os.Remove(file)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("iSCSI record of %v: %w", p, err)
	}
	_ = os.Remove(filepath.Dir(file)) // fails as long as there is another
	return nil
}

// paths are those that the agent has records of, of one target.
func (r records) paths(iqn, iface string) []path {
	entries, err := os.ReadDir(filepath.Join(r.root("nodes"), iqn))
	if err != nil {
		return nil
	}
	var found []path
	for _, e := range entries {
		host, port, _ := strings.Cut(e.Name(), ",")
		number, err := strconv.ParseUint(port, 10, 16)
		p := path{host: host, port: int(number), iqn: iqn, iface: iface}
		if err == nil && ours(r.file(p)) {
			found = append(found, p)
		}
	}
	return found
}

// ours says whether the agent wrote the file. One that is empty was being written when the host lost its power.
func ours(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && (len(text) == 0 || bytes.HasPrefix(text, []byte(mark)))
}

// others says whether somebody else has a record of the path's portal and target.
func (r records) others(p path) bool {
	file := r.file(p)
	if exists(file) {
		return !ours(file)
	}
	more, err := filepath.Glob(globbed(file) + ",*")
	return err == nil && len(more) > 0
}

// setting is a line of a record.
type setting struct{ name, value string }

// render makes a node record: iscsid.conf's settings, the interface's, and those that the agent must have.
func (r records) render(p path, auth *connector.CHAP) ([]byte, error) {
	iface, err := r.iface(p.iface)
	if err != nil {
		return nil, err
	}
	host := []setting{
		{"node.name", p.iqn},
		{"node.tpgt", "-1"},
		{"node.startup", "manual"}, // the agent logs in after a start of the host, and nobody else
		{"node.conn[0].startup", "manual"},
		{"node.conn[0].address", p.host},
		{"node.conn[0].port", strconv.Itoa(p.port)},
		{"node.session.scan", "manual"}, // other volumes of the target are not this host's to see
		{"node.session.nr_sessions", "1"},
		// iscsid gives up a first login after the product of the two, and the attempt that then runs. It goes on by itself when iscsiadm is killed.
		{"node.conn[0].timeo.login_timeout", strconv.Itoa(max(1, int(r.login.Seconds()/2)))},
		{"node.session.initial_login_retry_max", "1"},
	}
	chap, err := chapSettings("node.session.auth.", "auth_", auth)
	if err != nil {
		return nil, err
	}
	return renderSettings(slices.Concat(iface, host, chap), r.defaults("node.")), nil
}

func renderSettings(set, defaults []setting) []byte {
	var b bytes.Buffer
	b.WriteString(mark)
	for _, s := range defaults {
		if !slices.ContainsFunc(set, func(own setting) bool { return own.name == s.name }) {
			fmt.Fprintf(&b, "%s = %s\n", s.name, s.value)
		}
	}
	for _, s := range set {
		fmt.Fprintf(&b, "%s = %s\n", s.name, s.value)
	}
	return b.Bytes()
}

// defaults are iscsid.conf's settings whose names begin so.
func (r records) defaults(prefix string) []setting {
	return readSettings(r.root("iscsid.conf"), prefix)
}

func readSettings(file, prefix string) []setting {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // open-iscsi does without too
	}
	var found []setting
	for line := range strings.Lines(string(text)) {
		name, value, is := strings.Cut(strings.TrimSpace(line), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if is && value != "" && strings.HasPrefix(name, prefix) {
			found = append(found, setting{name, value})
		}
	}
	return found
}

// iface is how to get out by an initiator's interface. Two are built into open-iscsi, others have a file (iscsiadm -m iface).
func (r records) iface(name string) ([]setting, error) {
	if !ifaceName.MatchString(name) {
		return nil, &connector.Error{Reason: connector.Unsupported, Field: "iscsi_iface", Value: short(name), Rule: "it must be a name of open-iscsi's interfaces"}
	}
	file := filepath.Join(r.root("ifaces"), name)
	if exists(file) {
		return append([]setting{{"iface.iscsi_ifacename", name}}, without(readSettings(file, "iface."), "iface.iscsi_ifacename")...), nil
	}
	transport := map[string]string{"default": "tcp", "iser": "iser"}[name]
	if transport == "" {
		return nil, &connector.Error{Reason: connector.Unsupported, Field: "iscsi_iface", Value: name, Rule: "open-iscsi has no such interface: there is no " + file}
	}
	return []setting{{"iface.iscsi_ifacename", name}, {"iface.transport_name", transport}}, nil
}

func without(settings []setting, name string) []setting {
	return slices.DeleteFunc(settings, func(s setting) bool { return s.name == name })
}

// longest is AUTH_STR_MAX_LEN of open-iscsi, less its last byte.
const longest = 255

// chapSettings says who logs in, as settings that begin with prefix. field is how connection_info begins the same.
func chapSettings(prefix, field string, auth *connector.CHAP) ([]setting, error) {
	if auth == nil {
		return nil, nil
	}
	for name, value := range map[string]string{"method": auth.Method, "username": auth.User, "password": string(auth.Password)} {
		if !oneValue(value) {
			e := refuse(field+name, value, "it must be 1 to 255 bytes in one line, with no space at either end: open-iscsi's records hold no other")
			if name == "password" {
				e.Value = auth.Password.String()
			}
			return nil, e
		}
	}
	return []setting{
		{prefix + "authmethod", auth.Method}, {prefix + "username", auth.User}, {prefix + "password", string(auth.Password)},
	}, nil
}

// oneValue says whether a record can hold a value: it is a line, of which open-iscsi takes spaces off both ends.
func oneValue(value string) bool {
	return value != "" && len(value) <= longest && value == strings.TrimSpace(value) && !strings.ContainsFunc(value, unicode.IsControl)
}

// replace writes a file at once, readable by root only. What is half written is nowhere where open-iscsi looks for records.
func (r records) replace(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	interim := r.interim(file)
	if err := os.Remove(interim); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(interim, text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(interim, file); err != nil {
		_ = os.Remove(interim)
		return err
	}
	return nil
}

// interim is always the same for a file: what a crash leaves is replaced or removed with the record.
func (r records) interim(file string) string {
	sum := sha256.Sum256([]byte(file))
	return filepath.Join(filepath.Dir(r.root("nodes")), ".compute-agent-"+hex.EncodeToString(sum[:8]))
}
