package console

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Counts are what a Proxy has done since it began.
type Counts struct {
	Open    map[string]int64 // consoles that are open now, by protocol
	Opened  map[string]int64 // in all, by protocol
	Refused map[string]int64 // by why: one of RefusedFor

	ToClients, ToGuests int64 // bytes of consoles that have ended
}

// RefusedFor lists why requests are refused, as in Counts.Refused: what the request is, that TLS is missing, where the page came from, too many wrong
// tokens, a wrong token, a token for another console, limits of open consoles, a guest that cannot be reached.
var RefusedFor = []string{"request", "tls", "origin", "guesses", "token", "other", "limit", "unreachable"}

var refusedBy = map[int]string{CloseNoToken: "token", CloseOtherConsole: "other", CloseTooMany: "limit", CloseUnreachable: "unreachable"}

type counts struct {
	toClients, toGuests atomic.Int64

	mu                    sync.Mutex
	open, opened, refused map[string]int64
}

func (c *counts) refuse(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[string]int64{}
	}
	c.refused[why]++
}

func (c *counts) begin(protocol string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open, c.opened = map[string]int64{}, map[string]int64{}
	}
	c.open[protocol]++
	c.opened[protocol]++
}

func (c *counts) end(protocol string, s *session) {
	c.toClients.Add(s.toClientBytes.Load())
	c.toGuests.Add(s.toGuestBytes.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[protocol]--
}

// Counts returns them as they are now.
func (p *Proxy) Counts() Counts {
	c := &p.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counts{
		Open: maps.Clone(c.open), Opened: maps.Clone(c.opened), Refused: maps.Clone(c.refused),
		ToClients: c.toClients.Load(), ToGuests: c.toGuests.Load(),
	}
}
