package network

import (
	"context"
	"errors"
	"fmt"
)

// OS is the links of a host.
type OS interface {
	// Links are all links and named namespaces of the host, with their addresses and, but for the kernel's own, their routes.
	Links(ctx context.Context) (State, error)
	// Do makes one change. It may be done already; then it is no error. An error leaves the link as it was before or as it is
	// after, or a half-made one, that the next Apply takes away.
	Do(ctx context.Context, c Change) error
}

// Read is what of the host's links the agent made, and what else the wanted ones need or are to be.
func Read(ctx context.Context, os OS, want State) (State, error) {
	all, err := os.Links(ctx)
	if err != nil {
		return State{}, fmt.Errorf("read the host's links: %w", err)
	}
	out := State{Links: map[string]Link{}, Spaces: map[string]Space{}}
	keep := func(name string) {
		if l, there := all.Links[name]; there {
			out.Links[name] = l
		}
	}
	keep(halfMade)
	for name := range want.Links {
		keep(name)
	}
	for name, l := range all.Links {
		if l.owned() {
			keep(name)
			keep(l.Parent)
			keep(l.Mark.Uplink)
		}
	}
	for name, space := range all.Spaces {
		if _, wanted := want.Spaces[name]; wanted || !space.Taken {
			out.Spaces[name] = space
		}
	}
	out.Switched, out.SwitchErr = map[string]SwitchPort{}, all.SwitchErr
	for name, p := range all.Switched {
		if _, wanted := want.Switched[name]; wanted || p.Owned {
			out.Switched[name] = p
		}
	}
	out.Functions = map[string]Function{}
	for pci, f := range all.Functions {
		if _, wanted := want.Functions[pci]; wanted || f.Owned {
			out.Functions[pci] = f
		}
	}
	return out, nil
}

// Apply makes the host's links what is wanted, and says what could not be done; all the rest is. It may end at any
// change: the next Apply completes it. The zero State takes away all that the agent made.
func Apply(ctx context.Context, os OS, want State) error {
	_, err := apply(ctx, os, want)
	return err
}

// apply returns the changes that it made too.
func apply(ctx context.Context, os OS, want State) (made []Change, err error) {
	have, err := Read(ctx, os, want)
	if err != nil {
		return nil, err
	}
	changes, problems := Diff(have, want)
	errs := []error{problems}
	failed := map[string]bool{}
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return made, errors.Join(append(errs, fmt.Errorf("apply links: %w", err))...)
		}
		if failsWith(failed, c) {
			failed[c.subject()] = true // nothing that a change was to be before is done without it
			continue
		}
		if err := os.Do(ctx, c); err != nil {
			failed[c.subject()] = true
			errs = append(errs, fmt.Errorf("%s: %w", c, err))
			continue
		}
		made = append(made, c)
	}
	return made, errors.Join(errs...)
}

// failsWith says whether something that the change needs has failed.
func failsWith(failed map[string]bool, c Change) bool {
	for _, name := range c.needs() {
		if failed[name] {
			return true
		}
	}
	return false
}
