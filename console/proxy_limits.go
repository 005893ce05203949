package console

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// maxAddresses bounds the memory of wrong tokens: with more addresses than that the one that was wrong longest ago is forgotten.
const maxAddresses = 4096

// guesses slows down addresses that try wrong tokens: a token bucket each, kept as the moment at which it will be full again.
type guesses struct {
	burst int
	every time.Duration
	now   func() time.Time

	mu     sync.Mutex
	full   map[netip.Prefix]*list.Element // of bucket
	recent list.List                      // the last to be wrong is first
}

type bucket struct {
	address netip.Prefix
	full    time.Time
}

func newGuesses(burst int, every time.Duration) *guesses {
	return &guesses{burst: burst, every: every, now: time.Now, full: map[netip.Prefix]*list.Element{}}
}

// guesser is whom a request's guess counts against: an IPv4 address, or the /64 of an IPv6 address, all of which one machine can have. Requests without an
// address (a unix socket's) share one.
func guesser(remoteAddr string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	address, bits := ap.Addr().Unmap().WithZone(""), 64
	if address.Is4() {
		bits = 32
	}
	prefix, _ := address.Prefix(bits) // fails only for what is no address
	return prefix
}

// take pays for one guess, or says how long to wait before the next. It is paid before the token is judged, so that many guesses at a time do not pass
// together; a right one is paid back.
func (g *guesses) take(who netip.Prefix) (wait time.Duration) {
	if g.every < 0 {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	e := g.full[who]
	if e == nil {
		e = g.recent.PushFront(&bucket{address: who, full: now})
		g.full[who] = e
		g.forget()
	}
	b := e.Value.(*bucket)
	if b.full.Before(now) {
		b.full = now
	}
	if wait = b.full.Add(g.every).Sub(now) - time.Duration(g.burst)*g.every; wait > 0 {
		return wait
	}
	b.full = b.full.Add(g.every)
	g.recent.MoveToFront(e)
	return 0
}

// giveBack takes back what a right token has paid.
func (g *guesses) giveBack(who netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.full[who]
	if e == nil {
		return
	}
	b := e.Value.(*bucket)
	if b.full = b.full.Add(-g.every); !b.full.After(g.now()) {
		g.recent.Remove(e)
		delete(g.full, who)
	}
}

// forget drops the oldest address if there are too many.
func (g *guesses) forget() {
	if len(g.full) > maxAddresses {
		oldest := g.recent.Back()
		g.recent.Remove(oldest)
		delete(g.full, oldest.Value.(*bucket).address)
	}
}

// places counts the open connections.
type places struct {
	limits Limits

	mu                  sync.Mutex
	all                 int
	perServer, perToken map[string]int
}

func newPlaces(l Limits) *places {
	return &places{limits: l, perServer: map[string]int{}, perToken: map[string]int{}}
}

// enter takes a place for a connection, or says which limit there is.
func (p *places) enter(g Grant) (leave func(), e *ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.all >= p.limits.Connections:
		return nil, &ending{CloseTooMany, "too many consoles are open in all"}
	case p.perServer[g.ServerID] >= p.limits.ConnectionsPerServer:
		return nil, &ending{CloseTooMany, "too many consoles of this server are open"}
	case p.perToken[g.TokenID] >= p.limits.ConnectionsPerToken:
		return nil, &ending{CloseTooMany, "too many consoles are open with this token"}
	}
	p.all++
	p.perServer[g.ServerID]++
	p.perToken[g.TokenID]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all--
		less(p.perServer, g.ServerID)
		less(p.perToken, g.TokenID)
	}, nil
}

// less counts down and forgets what is zero.
func less(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}
