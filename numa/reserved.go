package numa

import "strconv"

// ParseReservedPages reads [DEFAULT]reserved_huge_pages: entries of node, size and count. The result is pages
// reserved by node and by size in KiB; of two entries for one, the later counts.
func ParseReservedPages(entries []map[string]string) (map[int]map[int]int, error) {
	reserved := map[int]map[int]int{}
	for _, e := range entries {
		wrong := func(key string) error {
			return failed("InvalidReservedMemoryPagesOption", "reserved_huge_pages", e[key], "%s must be a number", key)
		}
		node, err := strconv.Atoi(e["node"])
		if err != nil || node < 0 {
			return nil, wrong("node")
		}
		count, err := strconv.Atoi(e["count"])
		if err != nil || count < 0 {
			return nil, wrong("count")
		}
		size, err := ParsePageSize("reserved_huge_pages", e["size"])
		if err != nil || size < 0 {
			return nil, wrong("size")
		}
		if reserved[node] == nil {
			reserved[node] = map[int]int{}
		}
		reserved[node][size] = count
	}
	return reserved, nil
}

// CheckProperties refuses image properties whose words are none of those that are allowed, as Nova does
// when it reads an image.
func CheckProperties(props map[string]string) error {
	r := Request{Properties: props}
	if _, err := r.CPUPolicy(); err != nil {
		return err
	}
	_, err := r.ThreadPolicy()
	return err
}
