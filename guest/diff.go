package guest

import (
	"slices"

	"compute-agent/virt"
)

// Change is a difference between two guests that their operating system would notice.
type Change struct {
	Part     string `json:"part"`               // as it was called before, if it was there
	Property string `json:"property,omitempty"` // empty when the whole part came or went
	// Was and Is are the property's values, or all of the part's; empty for what is not set, or not there.
	Was string `json:"was"`
	Is  string `json:"is"`
}

// String says the change in a line: disk vda: bus virtio -> scsi.
func (c Change) String() string {
	unset := func(text string) string {
		if text == "" {
			return "unset"
		}
		return text
	}
	switch {
	case c.Property != "":
		return c.Part + ": " + c.Property + " " + unset(c.Was) + " -> " + unset(c.Is)
	case c.Is == "":
		return "gone: " + c.Was
	}
	return "new: " + c.Is
}

// Changes is what a guest's operating system would find changed if the guest were made anew: of one Spec before, of
// another now. It is in the order of Hardware, with parts that are new at the end.
func Changes(was, is virt.Spec) []Change {
	old, now := Hardware(was), Hardware(is)
	partners := pair(old, now)
	var changes []Change
	for i, p := range old {
		if partners[i] < 0 {
			changes = append(changes, Change{Part: p.Name, Was: p.String()})
			continue
		}
		changes = append(changes, compare(p, now[partners[i]])...)
	}
	for j, p := range now {
		if !slices.Contains(partners, j) {
			changes = append(changes, Change{Part: p.Name, Is: p.String()})
		}
	}
	return changes
}

// pair finds for each part the one that it has become, -1 for none: the one with its identity, else the one with its
// name.
func pair(old, now []Part) []int {
	partners := slices.Repeat([]int{-1}, len(old))
	taken := make([]bool, len(now))
	match := func(same func(a, b Part) bool) {
		for i, p := range old {
			for j := range now {
				if partners[i] < 0 && !taken[j] && same(p, now[j]) {
					partners[i], taken[j] = j, true
				}
			}
		}
	}
	match(func(a, b Part) bool { return a.identity != "" && a.identity == b.identity })
	match(func(a, b Part) bool { return a.Name == b.Name })
	return partners
}

// compare is the properties in which a part has changed. Those that only one of the two has are not set in the other.
func compare(was, is Part) []Change {
	var changes []Change
	add := func(property, before, after string) {
		if before != after {
			changes = append(changes, Change{Part: was.Name, Property: property, Was: before, Is: after})
		}
	}
	for _, p := range was.Properties {
		add(p.Name, p.Value, is.value(p.Name))
	}
	for _, p := range is.Properties {
		if !was.has(p.Name) {
			add(p.Name, "", p.Value)
		}
	}
	return changes
}

func (p Part) has(property string) bool {
	return slices.ContainsFunc(p.Properties, func(q Property) bool { return q.Name == property })
}

func (p Part) value(property string) string {
	for _, q := range p.Properties {
		if q.Name == property {
			return q.Value
		}
	}
	return ""
}
