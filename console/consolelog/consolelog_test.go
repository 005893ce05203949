package consolelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long what must happen is waited for.
const patience = 2 * time.Minute

// guestLog is a log in a directory of its own, which is rotated as virtlogd does it.
type guestLog struct {
	t    *testing.T
	path string
}

func newGuestLog(t *testing.T, oldestFirst ...string) guestLog {
	l := guestLog{t, filepath.Join(t.TempDir(), "server", "console.log")}
	l.ok(os.Mkdir(filepath.Dir(l.path), 0o700))
	for i, text := range oldestFirst {
		l.ok(os.WriteFile(rotated(l.path, len(oldestFirst)-2-i), []byte(text), 0o600))
	}
	return l
}

func (l guestLog) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l guestLog) write(text string) {
	l.t.Helper()
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	l.ok(err)
	_, err = f.WriteString(text)
	l.ok(errors.Join(err, f.Close()))
}

// rotate keeps as many backups.
func (l guestLog) rotate(backups int) {
	l.t.Helper()
	for i := backups - 2; i >= -1; i-- {
		if err := os.Rename(rotated(l.path, i), rotated(l.path, i+1)); err != nil && !os.IsNotExist(err) {
			l.t.Fatal(err)
		}
	}
	if backups == 0 {
		l.ok(os.Remove(l.path))
	}
}

// reading is a log that is followed.
type reading struct {
	t      *testing.T
	mu     sync.Mutex
	more   *sync.Cond
	text   bytes.Buffer
	done   chan error
	cancel context.CancelFunc
}

func follow(t *testing.T, o Options) *reading {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := &reading{t: t, done: make(chan error, 1), cancel: cancel}
	r.more = sync.NewCond(&r.mu)
	o.Follow = true
	go func() { r.done <- Copy(ctx, r, o) }()
	return r
}

func (r *reading) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.more.Broadcast()
	return r.text.Write(p)
}

// await waits until all that was read is a text.
func (r *reading) await(want string) {
	r.t.Helper()
	late := false
	guard := time.AfterFunc(patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		r.more.Broadcast()
	})
	defer guard.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.text.String() != want {
		if late || !strings.HasPrefix(want, r.text.String()) {
			r.t.Fatalf("read %q, want %q", r.text.String(), want)
		}
		r.more.Wait()
	}
}

func (r *reading) end() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		r.t.Fatal("it goes on")
		return nil
	}
}

func TestReadsAcrossRotatedFiles(t *testing.T) {
	l := newGuestLog(t, "one\ntwo\n", "three\nfo", "ur\nfive\n")
	const all = "one\ntwo\nthree\nfour\nfive\n"
	for offset := range len(all) + 3 {
		var out bytes.Buffer
		l.ok(Copy(t.Context(), &out, Options{Path: l.path, Offset: int64(offset), Lines: -1}))
		if want := all[min(offset, len(all)):]; out.String() != want {
			t.Errorf("from %d: %q, want %q", offset, out.String(), want)
		}
	}
	for lines, want := range []string{"", "five\n", "four\nfive\n", "three\nfour\nfive\n", "two\nthree\nfour\nfive\n", all, all} {
		var out bytes.Buffer
		l.ok(Copy(t.Context(), &out, Options{Path: l.path, Lines: lines}))
		if out.String() != want {
			t.Errorf("%d lines: %q, want %q", lines, out.String(), want)
		}
	}
}

func TestLastLinesOfLongLog(t *testing.T) {
	long := strings.Repeat("x", 3*blockSize)
	for _, end := range []string{"", "\n"} {
		l := newGuestLog(t, "a\n"+long, long+"\nb\n", long+end)
		var out bytes.Buffer
		l.ok(Copy(t.Context(), &out, Options{Path: l.path, Lines: 3}))
		if want := long + long + "\nb\n" + long + end; out.String() != want {
			t.Errorf("%d bytes, want %d", out.Len(), len(want))
		}
	}
}

func TestRefuses(t *testing.T) {
	l := newGuestLog(t)
	for name, o := range map[string]Options{
		"no log":       {Path: l.path},
		"no directory": {Path: filepath.Join(l.path, "none", "console.log"), Follow: true},
	} {
		if err := Copy(t.Context(), io.Discard, o); !errors.Is(err, ErrNone) && !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := filepath.Join(filepath.Dir(l.path), "other")
	l.ok(os.WriteFile(other, []byte("secret"), 0o600))
	for name, make := range map[string]func(string) error{
		"FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink(other, path) },
	} {
		for _, at := range []string{l.path, l.path + ".0"} {
			l.ok(make(at))
			for _, follow := range []bool{false, true} {
				if err := Copy(t.Context(), io.Discard, Options{Path: at, Follow: follow}); err == nil || errors.Is(err, ErrNone) {
					t.Errorf("%s at %s: %v", name, at, err)
				}
			}
			l.ok(os.Remove(at))
		}
	}
}

func TestFollows(t *testing.T) {
	for _, backups := range []int{0, 1, 3} {
		t.Run(fmt.Sprintf("rotation with %d backups", backups), func(t *testing.T) {
			l := newGuestLog(t, "old\n", "begin\n")
			r := follow(t, Options{Path: l.path, Lines: 1})
			want := "begin\n"
			r.await(want)
			for i := range 8 {
				line := fmt.Sprintf("line %d\n", i)
				l.write(line)
				want += line
				r.await(want)
				l.rotate(backups)
			}
			l.write("end\n")
			r.await(want + "end\n")
		})
	}
	t.Run("truncation", func(t *testing.T) {
		l := newGuestLog(t, "a long first boot\n")
		r := follow(t, Options{Path: l.path, Lines: -1})
		r.await("a long first boot\n")
		l.ok(os.Truncate(l.path, 0))
		l.write("boot\n")
		r.await("a long first boot\nboot\n")
	})
	t.Run("a guest that starts anew", func(t *testing.T) {
		l := newGuestLog(t, "older\n", "first\n")
		r := follow(t, Options{Path: l.path, Lines: -1})
		r.await("older\nfirst\n")
		l.ok(os.Remove(l.path)) // virtlogd, when a log is not appended to
		l.ok(os.Remove(l.path + ".0"))
		l.write("second\n")
		r.await("older\nfirst\nsecond\n")
	})
	t.Run("a log that is not there yet", func(t *testing.T) {
		l := newGuestLog(t)
		r := follow(t, Options{Path: l.path, Lines: -1})
		l.write("first\n")
		r.await("first\n")
	})
	t.Run("from an offset in a rotated file", func(t *testing.T) {
		l := newGuestLog(t, "one\n", "two\n", "three\n")
		r := follow(t, Options{Path: l.path, Offset: 5, Lines: -1})
		r.await("wo\nthree\n")
		l.write("four\n")
		r.await("wo\nthree\nfour\n")
	})
}

// What was rotated several times between two looks is read whole.
func TestFollowsManyRotations(t *testing.T) {
	l := newGuestLog(t, "0")
	first, err := openParts(l.path)
	l.ok(err)
	var out bytes.Buffer
	c := cursor{path: l.path, w: &out, block: make([]byte, 3), at: first[0]}
	defer func() { c.close() }()
	l.ok(c.read(t.Context()))
	for _, text := range []string{"123", "4567", "8", "9"} {
		l.write(text[:1])
		l.rotate(5)
		l.write(text[1:] + ".")
	}
	l.rotate(5) // the newest is not begun yet
	l.ok(c.read(t.Context()))
	if want := "0123.4567.8.9."; out.String() != want {
		t.Errorf("read %q, want %q", out.String(), want)
	}
	for i := range 7 { // more than are kept
		l.write(fmt.Sprint(i))
		l.rotate(5)
	}
	out.Reset()
	l.ok(c.read(t.Context()))
	if out.String() != "23456" {
		t.Errorf("of what was rotated faster than it was read there is %q", out.String())
	}
}

func TestFollowEnds(t *testing.T) {
	t.Run("when the server is deleted", func(t *testing.T) {
		l := newGuestLog(t, "text\n")
		r := follow(t, Options{Path: l.path, Lines: -1})
		r.await("text\n")
		l.write("last words\n")
		l.ok(os.RemoveAll(filepath.Dir(l.path)))
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
	t.Run("when its directory is made again at once", func(t *testing.T) {
		l := newGuestLog(t, "text\n")
		r := follow(t, Options{Path: l.path, Lines: -1})
		r.await("text\n")
		l.ok(os.RemoveAll(filepath.Dir(l.path)))
		l.ok(os.Mkdir(filepath.Dir(l.path), 0o700))
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
	t.Run("with its context", func(t *testing.T) {
		r := follow(t, Options{Path: newGuestLog(t, "text\n").path, Lines: -1})
		r.await("text\n")
		r.cancel()
		if err := r.end(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("when nobody reads", func(t *testing.T) {
		l := newGuestLog(t, "text\n")
		err := Copy(t.Context(), failing{}, Options{Path: l.path, Lines: -1, Follow: true})
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
