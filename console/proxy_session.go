package console

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// session is one open console. Its two copiers hold a buffer only while they have bytes in it, and read no further while they cannot write: a client or guest
// that does not read stops the other, and costs no memory.
type session struct {
	client *client
	guest  net.Conn
	limits Limits

	copiers                     sync.WaitGroup
	toClientDone                chan struct{}
	toClientBytes, toGuestBytes atomic.Int64

	began     time.Time
	lastByte  atomic.Int64 // nanoseconds after began, as lastSign
	lastSign  atomic.Int64 // that the client lives: it sent or took something
	over      atomic.Bool  // it ends: no new frame is begun
	toldGuest atomic.Bool  // the client's bytes wait for the guest, so that nothing more is read of the client
	pinging   atomic.Bool
}

func newSession(c *client, guest net.Conn, l Limits) *session {
	s := &session{client: c, guest: guest, limits: l, began: time.Now(), toClientDone: make(chan struct{})}
	c.pong = s.sign
	return s
}

func (s *session) sign() { s.lastSign.Store(int64(time.Since(s.began))) }

func (s *session) moved(n int, total *atomic.Int64) {
	now := int64(time.Since(s.began))
	s.lastByte.Store(now)
	s.lastSign.Store(now)
	total.Add(int64(n))
}

// since is how long ago one of the moments was.
func (s *session) since(moment *atomic.Int64) time.Duration {
	return time.Since(s.began) - time.Duration(moment.Load())
}

// run copies until something ends the console, and says what.
func (s *session) run(ended, taken, stopping <-chan struct{}) *ending {
	done := make(chan *ending, 2)
	s.copiers.Go(func() {
		defer close(s.toClientDone)
		done <- s.copyToClient()
	})
	s.copiers.Go(func() { done <- s.copyToGuest() })
	idle, total, ping := timer(s.limits.Idle), timer(s.limits.Total), timer(s.limits.Ping)
	defer idle.Stop()
	defer total.Stop()
	defer ping.Stop()
	for {
		select {
		case e := <-done:
			return e
		case <-ended:
			return &ending{CloseEnded, "the console ended: the token was revoked, or the server went"}
		case <-taken:
			return &ending{CloseTaken, "another client has opened this serial port"}
		case <-stopping:
			return &ending{int(websocket.StatusGoingAway), "the agent stops"}
		case <-total.C:
			return &ending{CloseTimeLimit, "the console was open for as long as consoles may be"}
		case <-idle.C:
			left := s.limits.Idle - s.since(&s.lastByte)
			if left <= 0 {
				return &ending{CloseIdle, "nothing was sent for too long"}
			}
			idle.Reset(left)
		case <-ping.C:
			if !s.alive() {
				return &ending{CloseIdle, "the client does not answer"}
			}
			ping.Reset(s.limits.Ping)
		}
	}
}

// end ends the copiers and the connection to the guest, with no frame torn that the client still takes, so that a close frame can follow.
func (s *session) end() {
	_ = s.client.conn.SetWriteDeadline(time.Now().Add(closeLimit))
	s.over.Store(true)
	if half, ok := s.guest.(interface{ CloseRead() error }); ok { // what has come can still be read
		_ = half.CloseRead()
		_ = s.guest.SetWriteDeadline(time.Unix(1, 0))
	} else {
		s.guest.Close() //nolint:errcheck // what was read and written counts
	}
	<-s.toClientDone
	s.guest.Close() //nolint:errcheck // as above
}

// timer fires after d, or never if d is below 0.
func timer(d time.Duration) *time.Timer {
	t := time.NewTimer(max(d, 0))
	if d < 0 {
		t.Stop()
	}
	return t
}

// alive asks a client that has been silent for a sign, and gives it up after three times without one. A client that takes what is sent to it lives, and it is
// not asked, since the question would be behind all that. One whose bytes wait for the guest is not heard.
func (s *session) alive() bool {
	silent := s.since(&s.lastSign)
	if silent < s.limits.Ping || s.toldGuest.Load() {
		return true
	}
	if silent > 4*s.limits.Ping {
		return false
	}
	if s.pinging.CompareAndSwap(false, true) {
		s.copiers.Go(func() {
			defer s.pinging.Store(false)
			ctx, cancel := context.WithTimeout(context.Background(), s.limits.Ping)
			defer cancel()
			_ = s.client.ws.Ping(ctx) // the pong is what counts
		})
	}
	return true
}

func (s *session) copyToClient() *ending {
	from := newSource(s.guest)
	socket, _ := s.client.conn.Conn.(*net.TCPConn) // none if it is TLS
	for !s.over.Load() {
		buf, n, err := from.next()
		if err != nil {
			return endingOfGuest(err)
		}
		err = s.client.conn.writeData(buf)
		from.done()
		s.moved(n, &s.toClientBytes)
		for err == nil && socket != nil && from.waiting >= much && !s.over.Load() {
			err = s.client.conn.moveData(socket, s.guest, from.waiting)
			s.moved(from.waiting, &s.toClientBytes)
			from.look()
		}
		if err != nil {
			return endingOfClient(err)
		}
	}
	return nil
}

func (s *session) copyToGuest() *ending {
	for {
		if err := s.client.next(); err != nil {
			return endingOfClient(err)
		}
		if e := s.passMessage(); e != nil {
			return e
		}
	}
}

// passMessage passes on what is left of the client's message.
func (s *session) passMessage() *ending {
	buf := toGuestBuffers.get()
	defer toGuestBuffers.put(buf)
	for s.client.message != nil {
		n, err := s.client.readMessage(*buf)
		if err != nil {
			return endingOfClient(err)
		}
		s.toldGuest.Store(true)
		_, err = s.guest.Write((*buf)[:n])
		s.moved(n, &s.toGuestBytes)
		s.toldGuest.Store(false)
		if err != nil {
			return endingOfGuest(err)
		}
	}
	return nil
}

func endingOfGuest(err error) *ending {
	if errors.Is(err, io.EOF) {
		return &ending{int(websocket.StatusNormalClosure), "the guest has closed the console"}
	}
	return &ending{CloseUnreachable, "the connection to the guest was lost"}
}

func endingOfClient(err error) *ending {
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig):
		return &ending{int(websocket.StatusMessageTooBig), "a message of the client was too long"}
	case websocket.CloseStatus(err) != -1:
		return &ending{int(websocket.StatusNormalClosure), "the client has closed the console"}
	}
	return &ending{int(websocket.StatusProtocolError), "the connection to the client was lost"}
}
