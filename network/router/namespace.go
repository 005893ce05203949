package router

import (
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
)

// namespaces is where they have their names, as iproute2 has it.
const namespaces = "/run/netns"

// within calls f on a thread that is in a namespace and ends with f. It is told the namespace's identity, which no other that is there at the
// same time has.
func within(namespace string, f func(identity string) error) error {
	ns, err := netns.GetFromPath(filepath.Join(namespaces, namespace))
	if err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	defer func() { _ = ns.Close() }()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: nobody else may have this thread
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("namespace %s: %w", namespace, err)
			return
		}
		done <- f(ns.UniqueId())
	}()
	return <-done
}
