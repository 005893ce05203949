package console

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// frames is the writing side of a WebSocket. The library writes its control frames through it, one with each Write; the proxy writes data itself, so that a
// frame is one write, from the buffer that the guest's bytes were read into. A ping or pong does not wait for data that the client does not take: it is
// kept and goes out behind it.
type frames struct {
	net.Conn

	mu     sync.Mutex
	free   sync.Cond
	busy   bool
	kept   []byte // control frames for whoever is writing
	closed bool   // by a close frame, or because a frame is torn: no frame may begin
	torn   bool
}

const (
	// frameRoom is what a frame's head can take before its bytes (RFC 6455, 5.2; the server's have no mask).
	frameRoom = 10
	// maxControl is more than any control frame takes.
	maxControl = 256
	maxKept    = 2 * maxControl

	finBinary = 0x82
	opcodes   = 0x0f
	opClose   = 8
)

func newFrames(c net.Conn) *frames {
	f := &frames{Conn: c}
	f.free.L = &f.mu
	return f
}

// Write writes a control frame. It returns when a close frame is out, since the library closes the connection then; others may go out later.
func (f *frames) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0]&opcodes == opClose {
		return f.writeClose(p)
	}
	f.mu.Lock()
	if f.closed || f.busy {
		defer f.mu.Unlock()
		if f.closed {
			return 0, net.ErrClosed
		}
		if len(f.kept)+len(p) <= maxKept { // else it is one answer of many to pings
			f.kept = append(f.kept, p...)
		}
		return len(p), nil
	}
	f.busy = true
	f.mu.Unlock()
	n, err := f.Conn.Write(p)
	return n, f.release(err)
}

// writeClose lets whoever is writing finish, and nobody after that.
func (f *frames) writeClose(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for f.busy {
		f.free.Wait()
	}
	if f.torn {
		return 0, net.ErrClosed
	}
	return f.Conn.Write(p)
}

// release writes what was kept meanwhile, and lets others write.
func (f *frames) release(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for err == nil && len(f.kept) > 0 {
		kept := f.kept
		f.kept = nil
		f.mu.Unlock()
		_, err = f.Conn.Write(kept)
		f.mu.Lock()
	}
	f.busy = false
	if err != nil {
		f.closed, f.torn = true, true
	}
	f.free.Broadcast()
	return err
}

// begin waits until nobody writes, and keeps others from it until release.
func (f *frames) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.busy {
		f.free.Wait()
	}
	if f.closed {
		return net.ErrClosed
	}
	f.busy = true
	return nil
}

// writeData writes what follows frameRoom bytes of buf as one binary message. It writes the frame's head into that room.
func (f *frames) writeData(buf []byte) error {
	if err := f.begin(); err != nil {
		return err
	}
	_, err := f.Conn.Write(withHead(buf))
	return f.release(err)
}

// moveData moves n bytes that wait in a socket as one binary message, which the kernel does without showing them to anybody (splice(2), which the standard
// library uses between sockets).
func (f *frames) moveData(to *net.TCPConn, from io.Reader, n int) error {
	if err := f.begin(); err != nil {
		return err
	}
	var head [frameRoom]byte
	_, err := to.Write(headOf(head[:], n))
	if err == nil {
		var moved int64
		if moved, err = to.ReadFrom(io.LimitReader(from, int64(n))); err == nil && moved < int64(n) {
			err = io.ErrUnexpectedEOF
		}
	}
	return f.release(err)
}

// withHead writes a head right before the bytes that follow frameRoom, and returns both.
func withHead(buf []byte) []byte {
	head := headOf(buf[:frameRoom], len(buf)-frameRoom)
	return buf[frameRoom-len(head):]
}

// headOf writes a head of a frame of n bytes at the end of room.
func headOf(room []byte, n int) []byte {
	switch {
	case n < 126:
		room = room[frameRoom-2:]
		room[1] = byte(n)
	case n < 1<<16:
		room = room[frameRoom-4:]
		room[1] = 126
		binary.BigEndian.PutUint16(room[2:], uint16(n))
	default:
		room[1] = 127
		binary.BigEndian.PutUint64(room[2:], uint64(n))
	}
	room[0] = finBinary
	return room
}
