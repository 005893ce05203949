// Package consolelog reads and follows the console log of a guest: a file that the hypervisor's log daemon (virtlogd) rotates, and the guest
// fills.
package consolelog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// maxRotated is how many rotated files are looked for (virtlogd's max_backups is 3 by default).
const maxRotated = 10

// blockSize bounds what of a log is in memory.
const blockSize = 32 << 10

// rotated is the name of the file that was rotated i times beyond the first: path.0 is the newest. Below 0 it is the log itself.
func rotated(path string, i int) string {
	if i < 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// part is an open file of a log, as long as it was when it was opened.
type part struct {
	file *os.File
	info fs.FileInfo
}

// open opens a file of a log, which must be a regular one: the opening of a FIFO would wait.
func open(name string) (part, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return part{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return part{}, errors.Join(err, f.Close())
	}
	return part{f, info}, nil
}

// is says whether the file is the one that has a name now.
func (p part) is(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && os.SameFile(p.info, info)
}

// parts are files of one log, the oldest first.
type parts []part

func (ps parts) close() {
	for _, p := range ps {
		_ = p.file.Close() // it was only read
	}
}

func (ps parts) has(p part) bool {
	return slices.ContainsFunc(ps, func(q part) bool { return os.SameFile(p.info, q.info) })
}

// openParts opens what there is of a log. A rotation renames from the oldest to the newest, so that a look from the newest to the oldest misses
// nothing, but may meet a file twice; and when the newest is another one at the end, the look is repeated.
func openParts(path string) (parts, error) {
	for {
		found, err := lookFor(path)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 || found[len(found)-1].is(path) || !exists(path) {
			return found, nil
		}
		found.close()
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func lookFor(path string) (found parts, err error) {
	for i := -1; i < maxRotated; i++ {
		p, err := open(rotated(path, i))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			found.close()
			return nil, err
		case found.has(p):
			_ = p.file.Close() // it was only met again
		default:
			found = append(found, p)
		}
	}
	slices.Reverse(found)
	return found, nil
}

func (ps parts) size() (sum int64) {
	for _, p := range ps {
		sum += p.info.Size()
	}
	return sum
}

// lastLines is the offset at which the last n lines begin. A line end at the end ends the last line and begins no other.
func (ps parts) lastLines(n int) (int64, error) {
	at, end := ps.size(), true
	if n == 0 {
		return at, nil
	}
	block := make([]byte, blockSize)
	for _, p := range slices.Backward(ps) {
		for left := p.info.Size(); left > 0; {
			b := block[:min(left, blockSize)]
			left -= int64(len(b))
			at -= int64(len(b))
			got, err := p.file.ReadAt(b, left)
			if err != nil && !errors.Is(err, io.EOF) { // shorter than it was: the log was emptied
				return 0, err
			}
			for i := got - 1; i >= 0; i-- {
				if b[i] == '\n' && !end {
					if n--; n == 0 {
						return at + int64(i) + 1, nil
					}
				}
				end = false
			}
		}
	}
	return 0, nil
}

// skip leaves out the files that end before an offset, and returns the rest of it.
func (ps parts) skip(offset int64) (parts, int64) {
	for len(ps) > 1 && offset >= ps[0].info.Size() {
		offset -= ps[0].info.Size()
		ps = ps[1:]
	}
	return ps, offset
}
