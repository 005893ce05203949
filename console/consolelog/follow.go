package consolelog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// ErrNone is of a log that there is not: the server never ran, or is gone.
var ErrNone = errors.New("there is no console log")

// Options say what is read.
type Options struct {
	// Path is the log. What was rotated out of it is in Path.0, Path.1 and so on, the newest first, and is read as one text with it.
	Path string
	// Offset is the first byte to be read, from the start of the oldest file that is kept. What is beyond the end is the end.
	Offset int64
	// Lines is how many lines are read, of the last; below 0: all from Offset on.
	Lines int
	// Follow goes on with what the guest writes from then on, until the directory of the log is gone, which is that of a server.
	Follow bool
}

// Copy writes a log to w. With Follow it waits for events, follows rotation, truncation and replacement of the file, and ends without an error when the
// server is deleted; else it ends where the log ended when it was opened. What is written between a truncation and the look that it
// leads to can be lost, if it is as much as there was before.
func Copy(ctx context.Context, w io.Writer, o Options) error {
	var events *fsnotify.Watcher
	if o.Follow {
		var err error
		if events, err = watch(o.Path); err != nil { // before the first look: what happens from then on is told
			return err
		}
		defer func() { _ = events.Close() }() // nothing is lost with it
	}
	all, err := openParts(o.Path)
	if err != nil {
		return err
	}
	defer func() { all.close() }()
	if len(all) == 0 && !o.Follow {
		return fmt.Errorf("%w at %s", ErrNone, o.Path)
	}
	offset := o.Offset
	if o.Lines >= 0 {
		if offset, err = all.lastLines(o.Lines); err != nil {
			return err
		}
	}
	rest, offset := all.skip(offset)
	if o.Follow {
		c := cursor{path: o.Path, w: w, block: make([]byte, blockSize), done: all[:len(all)-len(rest)]}
		defer func() { c.close() }()
		return c.follow(ctx, events, rest, offset)
	}
	for _, p := range rest {
		if err := copyPart(ctx, w, p, offset); err != nil {
			return err
		}
		offset = 0
	}
	return nil
}

// copyPart copies a file from an offset to where it ended when it was opened.
func copyPart(ctx context.Context, w io.Writer, p part, offset int64) error {
	from := io.NewSectionReader(p.file, offset, max(0, p.info.Size()-offset))
	_, err := io.CopyBuffer(writerOnly{w}, readerUntil{ctx, from}, make([]byte, blockSize))
	return err
}

// writerOnly hides what else a writer can do, such as to choose its own buffer.
type writerOnly struct{ io.Writer }

// readerUntil fails when ctx has ended.
type readerUntil struct {
	ctx context.Context
	r   io.Reader
}

func (r readerUntil) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// watch watches the directory, in which files come and go, and the one above: a directory itself tells of its end only when the last file in it is closed.
func watch(path string) (*fsnotify.Watcher, error) {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err = events.Add(filepath.Dir(dir)); err == nil {
		err = events.Add(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w at %s", ErrNone, path)
	}
	if err != nil {
		return nil, errors.Join(err, events.Close())
	}
	return events, nil
}

// await waits until something happens to the files of the log or to its directory, and says whether that is gone. The server's disks are in it, too.
func await(ctx context.Context, events *fsnotify.Watcher, path string) (gone bool, err error) {
	dir := filepath.Dir(path)
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case err := <-events.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) { // what is lost may have been of the log
				return !exists(dir), nil
			}
			return false, fmt.Errorf("wait for the console log: %w", err)
		case e := <-events.Events:
			switch {
			case e.Name == dir && e.Op&(fsnotify.Remove|fsnotify.Rename) != 0:
				return true, nil
			case strings.HasPrefix(e.Name, path):
				return false, nil
			}
		}
	}
}

// cursor is where a log is being read.
type cursor struct {
	path   string
	w      io.Writer
	done   parts // what was read, and may still be there. They are open, so that no other file gets their inodes
	at     part  // without a file while there was none
	offset int64
	block  []byte
}

func (c *cursor) close() {
	c.done.close()
	if c.at.file != nil {
		_ = c.at.file.Close() // it was only read
	}
}

// follow reads parts, the first from an offset on, and then what comes until the directory is gone.
func (c *cursor) follow(ctx context.Context, events *fsnotify.Watcher, rest parts, offset int64) error {
	for _, p := range rest {
		c.take(p)
		c.offset, offset = min(offset, p.info.Size()), 0
		if err := c.drain(ctx); err != nil {
			return err
		}
	}
	for gone := false; ; {
		if err := c.read(ctx); err != nil || gone {
			return err
		}
		var err error
		if gone, err = await(ctx, events, c.path); err != nil {
			return err
		}
	}
}

// read reads all that there is now.
func (c *cursor) read(ctx context.Context) error {
	for {
		if err := c.drain(ctx); err != nil {
			return err
		}
		if moved, err := c.advance(); err != nil || !moved {
			return err
		}
	}
}

// drain reads to the end of the file.
func (c *cursor) drain(ctx context.Context) error {
	for c.at.file != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.at.file.ReadAt(c.block, c.offset)
		c.offset += int64(n)
		if _, err := c.w.Write(c.block[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// advance goes to where there is more to read, if there is: the start of the file if it was emptied, or the next file if it was rotated or replaced.
func (c *cursor) advance() (moved bool, err error) {
	if c.at.file == nil {
		return c.oldest()
	}
	current := c.at.is(c.path) // before the size: nobody writes to a file that was rotated
	info, err := c.at.file.Stat()
	if err != nil {
		return false, err
	}
	switch {
	case info.Size() > c.offset:
		return true, nil
	case !current:
		return c.successor()
	case info.Size() < c.offset:
		c.offset = 0
		return true, nil
	}
	return false, nil
}

// successor goes to the file that was begun when this one was rotated. The names change meanwhile: a file is what it was found as only if it still is afterwards.
func (c *cursor) successor() (moved bool, err error) {
	for i := range maxRotated {
		if !c.at.is(rotated(c.path, i)) {
			continue
		}
		next, err := open(rotated(c.path, i-1))
		if errors.Is(err, fs.ErrNotExist) {
			return !c.at.is(rotated(c.path, i)), nil // not begun yet, or renamed meanwhile
		}
		if err != nil {
			return false, err
		}
		if !c.at.is(rotated(c.path, i)) {
			return true, next.file.Close()
		}
		c.take(next)
		return true, nil
	}
	return c.oldest() // it was deleted: the log began anew, or it was rotated faster than it was read
}

// oldest goes to the oldest file that was not read.
func (c *cursor) oldest() (moved bool, err error) {
	all, err := openParts(c.path)
	if err != nil {
		return false, err
	}
	if c.at.file != nil && all.has(c.at) { // it was renamed meanwhile
		all.close()
		return true, nil
	}
	for i, p := range all {
		if !c.done.has(p) {
			c.take(p)
			all[i+1:].close()
			return true, nil
		}
		_ = p.file.Close() // it was only met again
	}
	return false, nil
}

func (c *cursor) take(p part) {
	if c.at.file != nil {
		c.done = append(slices.Clip(c.done), c.at)
	}
	if len(c.done) > maxRotated+1 { // no name is looked for that the first could have
		c.done[:1].close()
		c.done = c.done[1:]
	}
	c.at, c.offset = p, 0
}
