package dhcp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// confName is the file's name: a process that was started with it has this configuration and no other.
func (f *Files) confName() string {
	sum := sha256.Sum256([]byte(f.Conf))
	return confPrefix + hex.EncodeToString(sum[:8])
}

// read is the text of a file; of one that is not there it is empty.
func read(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

// readFiles are the files that are there, of the ones that a running dnsmasq reads again.
func readFiles(dir string) (Files, error) {
	var f Files
	var errs []error
	for name, to := range map[string]*string{hostsFile: &f.Hosts, optionsFile: &f.Options, namesFile: &f.Names} {
		var err error
		*to, err = read(filepath.Join(dir, name))
		errs = append(errs, err)
	}
	return f, errors.Join(errs...)
}

// write writes all files, each whole or not at all, and removes other configurations than this one.
func (f *Files) write(dir string) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	for _, file := range [][2]string{{optionsFile, f.Options}, {namesFile, f.Names}, {hostsFile, f.Hosts}, {f.confName(), f.Conf}} {
		if err := writeFile(filepath.Join(dir, file[0]), file[1]); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		stale := strings.HasPrefix(e.Name(), confPrefix) && e.Name() != f.confName() || strings.HasSuffix(e.Name(), unfinished)
		if stale {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

const unfinished = ".new"

func writeFile(path, text string) error {
	if is, err := os.ReadFile(path); err == nil && string(is) == text {
		return nil
	}
	if err := os.WriteFile(path+unfinished, []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Chmod(path+unfinished, 0o644); err != nil { // whatever the agent's umask, and who began the file
		return err
	}
	return os.Rename(path+unfinished, path)
}

// makeDir makes a directory that dnsmasq can enter, whatever the agent's umask.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// readable says whether another user can read files below dir, which dnsmasq does when it is told to read them again.
func readable(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s has mode %04o: %s, which is not root, cannot read its files", at, info.Mode().Perm(), program)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
