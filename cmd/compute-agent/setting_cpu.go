package main

import (
	"fmt"
	"strings"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// cpuSet is a set of CPUs in Nova's syntax; an empty text is no set, which is not the same as a set without
// CPUs.
func cpuSet(field **cpuset.Set) setting {
	parse := func(s string) (*cpuset.Set, error) {
		if strings.TrimSpace(s) == "" {
			return nil, nil
		}
		set, err := cpuset.Parse(s)
		if err != nil || set.Empty() {
			return nil, fmt.Errorf("must be CPU numbers and ranges such as 4-12,^8,15")
		}
		return &set, nil
	}
	format := func(s *cpuset.Set) string {
		if s == nil {
			return ""
		}
		return s.String()
	}
	return place[*cpuset.Set]{field, "string", parse, format}
}

// reservedPages is a list of entries node:N,size:S,count:C with semicolons between them.
func reservedPages(field *[]map[string]string) setting {
	parse := func(s string) (list []map[string]string, err error) {
		for text := range strings.SplitSeq(s, ";") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			entry, ok := reservedPagesEntry(text)
			if !ok {
				return nil, fmt.Errorf("must be entries such as node:0,size:2048,count:64 with semicolons between them")
			}
			list = append(list, entry)
		}
		return list, nil
	}
	format := func(list []map[string]string) string {
		parts := make([]string, len(list))
		for i, e := range list {
			parts[i] = fmt.Sprintf("node:%s,size:%s,count:%s", e["node"], e["size"], e["count"])
		}
		return strings.Join(parts, "; ")
	}
	return place[[]map[string]string]{field, "string", parse, format}
}

func reservedPagesEntry(text string) (entry map[string]string, ok bool) {
	entry = map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(part, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || entry[name] != "" || (name != "node" && name != "size" && name != "count") {
			return nil, false
		}
		entry[name] = value
	}
	_, err := numa.ParseReservedPages([]map[string]string{entry})
	return entry, err == nil
}
