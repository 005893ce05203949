package blockdev

import "fmt"

// kinds says how the drives of a bus are named and how many a guest may have. SATA and SCSI share
// their names. IDE has two channels of two drives; the others' limit is that of names with two letters.
var kinds = map[Bus]struct {
	prefix string
	limit  int
}{
	Virtio: {"vd", maxLetters},
	IDE:    {"hd", 4},
	SATA:   {"sd", maxLetters},
	SCSI:   {"sd", maxLetters},
}

const maxLetters = 26 + 26*26 // a to zz

// letters is the suffix of the drive with this index, from 0: a to z, then aa, as Linux counts.
func letters(index int) string {
	var out string
	for n := index + 1; n > 0; n = (n - 1) / 26 {
		out = string(rune('a'+(n-1)%26)) + out
	}
	return out
}

// names gives out each name once.
type names struct {
	taken map[string]bool
}

// next is the first free name on a bus.
func (n *names) next(property string, bus Bus) (string, error) {
	kind := kinds[bus]
	for i := range kind.limit {
		name := kind.prefix + letters(i)
		if !n.taken[name] {
			n.take(name)
			return name, nil
		}
	}
	return "", &PropertyError{property, string(bus), fmt.Sprintf("all %d places of this bus are taken", kind.limit)}
}

func (n *names) take(name string) {
	if n.taken == nil {
		n.taken = map[string]bool{}
	}
	n.taken[name] = true
}
