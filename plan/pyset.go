package plan

// pySet is a set of small numbers that is walked in the order in which CPython 3 walks its own: the order of the
// slots of a hash table, which depends on the order of insertion where numbers collide. Which of
// two sibling threads Nova pins first depends on it. The rules are those of CPython's
// Objects/setobject.c, and the test holds them against lists that Python printed.
type pySet struct {
	slots []int // number + 1, 0 for empty, or pyRemoved; the length is a power of 2
	used  int
}

const (
	pyMinSize      = 8
	pyLinearProbes = 9
	pyPerturbShift = 5
	pyRemoved      = -1
)

// pySetOf adds the numbers one by one.
func pySetOf(numbers []int) *pySet {
	s := &pySet{slots: make([]int, pyMinSize)}
	for _, n := range numbers {
		s.add(n)
	}
	return s
}

func (s *pySet) add(n int) {
	slot := s.find(n)
	if s.slots[slot] != 0 {
		return
	}
	s.slots[slot] = n + 1
	s.used++
	if mask := len(s.slots) - 1; s.used*5 >= mask*3 {
		s.resize(s.used * 4)
	}
}

// find returns the slot that n is in, or the one that it goes to.
func (s *pySet) find(n int) int {
	mask := len(s.slots) - 1
	i, perturb := n&mask, n
	for {
		probes := 0
		if i+pyLinearProbes <= mask {
			probes = pyLinearProbes
		}
		for slot := i; slot <= i+probes; slot++ {
			if s.slots[slot] == 0 || s.slots[slot] == n+1 {
				return slot
			}
		}
		perturb >>= pyPerturbShift
		i = (i*5 + 1 + perturb) & mask
	}
}

// resize moves to the smallest table of more than minimum slots.
func (s *pySet) resize(minimum int) {
	size := pyMinSize
	for size <= minimum {
		size *= 2
	}
	old := s.slots
	s.slots = make([]int, size)
	for _, entry := range old {
		if entry > 0 {
			s.slots[s.find(entry-1)] = entry
		}
	}
}

// copied is what an empty set becomes when it is updated with this one: room is made first, and a table of the
// same size is copied as it is.
func (s *pySet) copied() *pySet {
	c := &pySet{slots: make([]int, pyMinSize)}
	if s.used*5 >= (pyMinSize-1)*3 {
		c.resize(s.used * 2)
	}
	c.used = s.used
	if len(c.slots) == len(s.slots) {
		copy(c.slots, s.slots)
		return c
	}
	for _, n := range s.list() {
		c.slots[c.find(n)] = n + 1
	}
	return c
}

// list returns the numbers in the order of Python.
func (s *pySet) list() []int {
	numbers := make([]int, 0, s.used)
	for _, entry := range s.slots {
		if entry > 0 {
			numbers = append(numbers, entry-1)
		}
	}
	return numbers
}

func (s *pySet) has(n int) bool { return s.slots[s.find(n)] == n+1 }

// and is the intersection, which walks the smaller set: the left one only when the right is larger.
func (s *pySet) and(o *pySet) *pySet {
	if o.used > s.used {
		s, o = o, s
	}
	both := pySetOf(nil)
	for _, n := range o.list() {
		if s.has(n) {
			both.add(n)
		}
	}
	return both
}

// minus is the difference: a copy from which is removed when there is little to remove, else what is left is
// added one by one.
func (s *pySet) minus(o *pySet) *pySet {
	if s.used/4 > o.used {
		left := s.copied()
		for _, n := range o.list() {
			left.remove(n)
		}
		return left
	}
	left := pySetOf(nil)
	for _, n := range s.list() {
		if !o.has(n) {
			left.add(n)
		}
	}
	return left
}

// remove leaves a mark, so that what collided with n is still found behind it.
func (s *pySet) remove(n int) {
	if slot := s.find(n); s.slots[slot] == n+1 {
		s.slots[slot] = pyRemoved
		s.used--
	}
}
