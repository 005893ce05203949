package metadata

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"compute-agent/network"
)

// Service answers in the places that it is told of. Its methods may be called concurrently.
type Service struct {
	source Source
	host   network.Host
	log    *slog.Logger
	limits Limits
	now    func() time.Time
	watch  func(net.Conn, http.ConnState)

	mu     sync.Mutex
	places map[string]*place // by namespace
}

// Options are what a Service works with; only Source is required.
type Options struct {
	Source Source
	Host   network.Host // whose named namespaces the places are
	Logger *slog.Logger // default: nothing is logged
	Limits Limits
	Clock  func() time.Time // default time.Now

	watch func(net.Conn, http.ConnState) // told of each connection, in tests
}

// New returns a service that listens nowhere.
func New(o Options) *Service {
	s := &Service{source: o.Source, host: o.Host, log: o.Logger, limits: o.Limits.withDefaults(), now: o.Clock, watch: o.watch, places: map[string]*place{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Release ends the service everywhere but in these places, so that namespaces can go: open sockets keep one in being.
func (s *Service) Release(places []Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(places)
}

func (s *Service) release(places []Place) {
	want := map[string]bool{}
	for _, p := range places {
		want[p.Namespace] = true
	}
	for name, p := range s.places {
		if !want[name] || !p.in.current() {
			p.close()
			delete(s.places, name)
		}
	}
}

// Apply makes the service answer in these places and nowhere else; what is as it is wanted stays open. The namespaces are there before.
// What cannot be had of one place leaves the others as they are wanted; the next Apply tries again.
func (s *Service) Apply(places []Place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(places)
	var all error
	for _, p := range places {
		if err := s.applyPlace(p); err != nil {
			all = errors.Join(all, fmt.Errorf("metadata service in namespace %s: %w", p.Namespace, err))
		}
	}
	return all
}

func (s *Service) applyPlace(want Place) error {
	p := s.places[want.Namespace]
	if p == nil {
		var err error
		if p, err = s.open(want.Namespace); err != nil {
			return err
		}
		s.places[want.Namespace] = p
	}
	return p.apply(want)
}

// Close ends the service everywhere.
func (s *Service) Close() { s.Release(nil) }
