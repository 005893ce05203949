package metadata

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits are what one guest may take of the service. The zero Limits are the defaults.
type Limits struct {
	Concurrent  int           // requests of a port at a time; default 8
	Burst       int           // requests of a port at once after a pause; default 200
	PerSecond   float64       // requests of a port for as long as it likes; default 20
	Connections int           // from one address at a time; default 16
	InPlace     int           // connections of a namespace at a time; default 1024
	Timeout     time.Duration // for reading a request, for writing its answer, and that a connection may idle; default 10 s
}

func (l Limits) withDefaults() Limits {
	for n, def := range map[*int]int{&l.Concurrent: 8, &l.Burst: 200, &l.Connections: 16, &l.InPlace: 1024} {
		if *n == 0 {
			*n = def
		}
	}
	if l.PerSecond == 0 {
		l.PerSecond = 20
	}
	if l.Timeout == 0 {
		l.Timeout = 10 * time.Second
	}
	return l
}

// limiter counts the requests of the ports of a place.
type limiter struct {
	limits Limits
	now    func() time.Time

	mu    sync.Mutex
	ports map[string]*allowance
}

// allowance is what a port has left.
type allowance struct {
	left   float64 // requests
	at     time.Time
	inside int
}

// enter says whether a port may make a request now, and what to call when it is answered.
func (l *limiter) enter(port string) (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, most := l.now(), float64(l.limits.Burst)
	a := l.ports[port]
	if a == nil {
		a = &allowance{left: most, at: now}
		l.ports[port] = a
	}
	a.left = min(most, a.left+max(0, now.Sub(a.at).Seconds())*l.limits.PerSecond)
	a.at = now
	if a.left < 1 || a.inside >= l.limits.Concurrent {
		return nil, false
	}
	a.left--
	a.inside++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.inside--
	}, true
}

// forget drops the ports that are no more there, so that what is kept does not grow.
func (l *limiter) forget(gone func(port string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for port := range l.ports {
		if gone(port) {
			delete(l.ports, port)
		}
	}
}

// gate counts the connections of a place. Those that are too many are closed before a byte of them is read.
type gate struct {
	limits Limits

	mu   sync.Mutex
	open map[netip.Addr]int
	all  int
}

func (g *gate) enter(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.limits.InPlace || g.open[from] >= g.limits.Connections {
		return false
	}
	g.all++
	g.open[from]++
	return true
}

func (g *gate) leave(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.open[from]--; g.open[from] == 0 {
		delete(g.open, from)
	}
}

// gated is a listener behind a gate.
type gated struct {
	net.Listener
	gate   *gate
	device string // that it listens on; empty for all of the namespace
}

// Accept returns the next connection that the gate lets in.
func (l *gated) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(c.RemoteAddr())
		if l.gate.enter(from) {
			return &conn{Conn: c, from: from, device: l.device, leave: sync.OnceFunc(func() { l.gate.leave(from) })}, nil
		}
		_ = c.Close()
	}
}

// addressOf is who is at the other end. The zone is left out: the standard library names it by the devices of the agent's own
// namespace.
func addressOf(a net.Addr) netip.Addr {
	tcp, is := a.(*net.TCPAddr)
	if !is {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// conn is a connection that the gate has let in.
type conn struct {
	net.Conn
	from   netip.Addr
	device string
	leave  func()
}

// Close closes the connection, once or more often.
func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
