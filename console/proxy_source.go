package console

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// toClientSize is what is read of a guest at once: large enough that system calls are few. toGuestSize is smaller, since people type.
const (
	toClientSize = 64 << 10
	toGuestSize  = 16 << 10
	tlsSize      = 16 << 10 // a record
)

// buffers are shared by all consoles.
type buffers struct{ pool sync.Pool }

func newBuffers(size int) *buffers {
	return &buffers{sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

func (b *buffers) get() *[]byte  { return b.pool.Get().(*[]byte) }
func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

var toClientBuffers, toGuestBuffers = newBuffers(frameRoom + toClientSize), newBuffers(toGuestSize)

// source reads a connection without holding a buffer while there is nothing to read.
type source struct {
	conn net.Conn
	raw  syscall.RawConn // nil for TLS, which has bytes of its own that the socket does not show, and holds a small buffer
	held []byte

	try     func(fd uintptr) bool // tryRead, made once
	buf     *[]byte
	n       int
	waiting int // bytes that are there, after a whole buffer was read
	err     error
}

func newSource(conn net.Conn) *source {
	s := &source{conn: conn}
	if socket, ok := conn.(syscall.Conn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			if sized, ok := conn.(interface{ SetReadBuffer(int) error }); ok {
				_ = sized.SetReadBuffer(guestBuffer) // the kernel's default does as well
			}
			s.raw, s.try = raw, s.tryRead
			return s
		}
	}
	s.held = make([]byte, frameRoom+tlsSize)
	return s
}

const (
	// much is how many bytes must be there for them to be moved within the kernel, without being read: below it the calls that this takes cost more than it
	// saves.
	much = 2 * toClientSize
	// most is how many are moved in one message, which clients keep whole.
	most = 1 << 20
	// guestBuffer is what the kernel keeps of a guest's bytes for a client that does not take them. It would grow to megabytes by itself.
	guestBuffer = 1 << 20
)

// next waits for n bytes, which are behind frameRoom bytes in a buffer. It is the caller's until done, which must be called if there are any.
func (s *source) next() (buf []byte, n int, err error) {
	if s.raw == nil {
		n, err := s.conn.Read(s.held[frameRoom:])
		if n > 0 {
			err = nil // it comes again
		}
		return s.held[:frameRoom+n], n, err
	}
	if err := s.raw.Read(s.try); err != nil {
		return nil, 0, err
	}
	switch {
	case s.err != nil:
		return nil, 0, s.err
	case s.n == 0:
		return nil, 0, io.EOF
	}
	return (*s.buf)[:frameRoom+s.n], s.n, nil
}

// look sees how much is there.
func (s *source) look() {
	s.waiting = 0
	_ = s.raw.Control(s.count)
}

func (s *source) count(fd uintptr) {
	waiting, _ := unix.IoctlGetInt(int(fd), unix.SIOCINQ) // 0 if that fails
	s.waiting = min(waiting, most)
}

// tryRead says whether there was something: bytes, the end, or an error.
func (s *source) tryRead(fd uintptr) bool {
	s.buf = toClientBuffers.get()
	for {
		s.n, s.err = syscall.Read(int(fd), (*s.buf)[frameRoom:])
		if !errors.Is(s.err, syscall.EINTR) {
			break
		}
	}
	if s.n > 0 && s.err == nil {
		if s.waiting = 0; s.n == toClientSize {
			s.count(fd)
		}
		return true
	}
	s.done()
	if s.err != nil {
		s.err = os.NewSyscallError("read", s.err)
	}
	return !errors.Is(s.err, syscall.EAGAIN)
}

// done gives the buffer back.
func (s *source) done() {
	if s.buf != nil {
		toClientBuffers.put(s.buf)
		s.buf = nil
	}
}
