package console

import (
	"context"
	"fmt"
	"sync"
)

// serialPorts are the serial ports that are open, by address. A port of QEMU has room for one client, and lets others wait without a word: the newest takes
// it from the one before, who may be a browser that is no more.
type serialPorts struct {
	mu   sync.Mutex
	open map[string]*serialPort
}

// serialPort is held by one client. For consoles of other protocols there is nothing to hold.
type serialPort struct {
	taken chan struct{} // closed when another wants it; nil if nobody can
	gone  chan struct{} // closed when the guest's side is closed
	leave func()        // may be called more than once
}

// take waits until whoever has the port has left it.
func (p *serialPorts) take(ctx context.Context, g Grant) (*serialPort, error) {
	if g.Protocol != Serial {
		return &serialPort{leave: func() {}}, nil
	}
	port := &serialPort{taken: make(chan struct{}), gone: make(chan struct{})}
	port.leave = sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		close(port.gone)
		if p.open[g.Address] == port {
			delete(p.open, g.Address)
		}
	})
	p.mu.Lock()
	before := p.open[g.Address]
	if p.open == nil {
		p.open = map[string]*serialPort{}
	}
	p.open[g.Address] = port
	p.mu.Unlock()
	if before == nil {
		return port, nil
	}
	close(before.taken)
	select {
	case <-before.gone:
		return port, nil
	case <-ctx.Done():
		port.leave()
		return nil, fmt.Errorf("serial port %s: its client before does not leave: %w", g.Address, context.Cause(ctx))
	}
}
