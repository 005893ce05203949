package console

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
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

var toClientBuffers, toGuestBuffers = newBuffers(toClientSize), newBuffers(toGuestSize)

// source reads a connection without holding a buffer while there is nothing to read.
type source struct {
	conn net.Conn
	raw  syscall.RawConn // nil for TLS, which has bytes of its own that the socket does not show, and holds a small buffer
	held []byte

	try func(fd uintptr) bool // tryRead, made once
	buf *[]byte
	n   int
	err error
}

func newSource(conn net.Conn) *source {
	s := &source{conn: conn}
	if socket, ok := conn.(syscall.Conn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			s.raw, s.try = raw, s.tryRead
			return s
		}
	}
	s.held = make([]byte, tlsSize)
	return s
}

// next waits for bytes. They are the caller's until done, which must be called if there are any.
func (s *source) next() ([]byte, error) {
	if s.raw == nil {
		n, err := s.conn.Read(s.held)
		return s.held[:n], err
	}
	if err := s.raw.Read(s.try); err != nil {
		return nil, err
	}
	switch {
	case s.err != nil:
		return nil, s.err
	case s.n == 0:
		return nil, io.EOF
	}
	return (*s.buf)[:s.n], nil
}

// tryRead says whether there was something: bytes, the end, or an error.
func (s *source) tryRead(fd uintptr) bool {
	s.buf = toClientBuffers.get()
	for {
		s.n, s.err = syscall.Read(int(fd), *s.buf)
		if !errors.Is(s.err, syscall.EINTR) {
			break
		}
	}
	if s.n > 0 && s.err == nil {
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
