package metadata

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// ec2Versions are the versions of Amazon's documents that Nova knows.
var ec2Versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", latest,
}

// ec2Since is the version in which a key of Amazon's meta-data came; all others were there from the first.
var ec2Since = map[string]string{
	"local-hostname": "2007-01-19", "public-hostname": "2007-01-19", "public-ipv4": "2007-01-19",
	"instance-type":        "2007-08-29",
	"block-device-mapping": "2007-12-15", "kernel-id": "2007-12-15", "ramdisk-id": "2007-12-15",
	"placement":       "2008-02-01",
	"instance-action": "2008-09-01",
}

const (
	metaData  = "meta-data"
	userData  = "user-data"
	localIPv4 = "local-ipv4"
	// listedName is the key of what stands for a branch in the list that it is in.
	listedName = "_name"
)

// ec2 is what steps lead to in Amazon's tree: the versions, meta-data and user-data, and what is below meta-data.
func (d Documents) ec2(steps []string, addr netip.Addr) (item, bool) {
	if len(steps) == 0 {
		return listing(ec2Versions), true
	}
	since := slices.Index(ec2Versions, steps[0])
	user, hasUser := d.Files[ec2+"/"+latest+"/"+userData]
	switch {
	case since < 0:
		return item{}, false
	case len(steps) == 1 && hasUser:
		return listing([]string{metaData + "/", userData}), true
	case len(steps) == 1:
		return listing([]string{metaData + "/"}), true
	case len(steps) == 2 && steps[1] == userData && hasUser:
		return item{body: user, kind: textType}, true
	case steps[1] == metaData:
		return walk(d.tree(since, addr), steps[2:])
	}
	return item{}, false
}

// tree is Amazon's meta-data in a version, by its index in ec2Versions.
func (d Documents) tree(version int, addr netip.Addr) map[string]any {
	var root map[string]any
	decoder := json.NewDecoder(bytes.NewReader(d.Files[ec2+"/"+latest+"/meta-data.json"]))
	decoder.UseNumber()
	if decoder.Decode(&root) != nil {
		return nil // it is not there
	}
	maps.DeleteFunc(root, func(key string, _ any) bool { return slices.Index(ec2Versions, ec2Since[key]) > version })
	if root[localIPv4] == nil {
		root[localIPv4] = addr.String() // as Nova does for who has no IPv4 address
	}
	return root
}

// walk goes down a tree of keys.
func walk(tree map[string]any, steps []string) (item, bool) {
	var node any = tree
	for _, step := range steps {
		branch, is := node.(map[string]any)
		if !is {
			return item{}, false
		}
		if node, is = branch[step]; !is {
			return item{}, false
		}
	}
	if branch, is := node.(map[string]any); is {
		return listing(keys(branch)), len(branch) > 0
	}
	return item{body: []byte(text(node)), kind: textType}, true
}

// keys are a branch's keys as they are listed: with a slash where more is below, or by the name that is there for it.
func keys(branch map[string]any) (names []string) {
	for _, key := range slices.Sorted(maps.Keys(branch)) {
		below, more := branch[key].(map[string]any)
		name, named := below[listedName]
		switch {
		case key == listedName:
		case named:
			names = append(names, text(name))
		case more:
			names = append(names, key+"/")
		default:
			names = append(names, key)
		}
	}
	return names
}

// text is a leaf as guests read it: a list has a line for each.
func text(leaf any) string {
	switch leaf := leaf.(type) {
	case string:
		return leaf
	case json.Number:
		return leaf.String()
	case []any:
		lines := make([]string, len(leaf))
		for i, line := range leaf {
			lines[i] = text(line)
		}
		return strings.Join(lines, "\n")
	}
	return ""
}
