package router

import (
	"fmt"

	"github.com/vishvananda/netns"
)

// within calls f in a namespace, in a thread of its own. It is told the namespace's identity, which no other that is there at the same
// time has: one that is made anew under the same name has another.
func (rs *Routers) within(namespace string, f func(identity string) error) error {
	return rs.host.InNamespace(namespace, func() error {
		here, err := netns.Get()
		if err != nil {
			return fmt.Errorf("namespace %s: %w", namespace, err)
		}
		identity := here.UniqueId()
		if err := here.Close(); err != nil {
			return err
		}
		return f(identity)
	})
}
