package metadata

import (
	"net/netip"
	"path"
	"slices"
	"strings"
)

// The types of what is answered, as Nova gives them: its network_data.json is text.
const (
	textType = "text/plain; charset=UTF-8"
	jsonType = "application/json"
)

// item is what a path leads to.
type item struct {
	body []byte
	kind string // content type
	// password says that it is the password, which may be posted.
	password bool
}

// listing is a list of names as guests read it.
func listing(names []string) item {
	return item{body: []byte(strings.Join(names, "\n")), kind: textType}
}

const (
	openStack    = "openstack"
	ec2          = "ec2"
	passwordFile = "password"
	networkFile  = "network_data.json"
	// passwordSince is the first of OpenStack's versions that has the password.
	passwordSince = "2013-04-04"
	latest        = "latest"
)

// openStackFiles are OpenStack's documents in the order in which Nova lists them.
var openStackFiles = []string{"meta_data.json", "user_data", passwordFile, "vendor_data.json", networkFile, "vendor_data2.json"}

// find is what a path leads to for somebody who asks from addr, as Nova's InstanceMetadata.lookup has it: what is not under
// openstack is EC2's.
func (d Documents) find(urlPath string, addr netip.Addr) (item, bool) {
	steps := strings.Split(strings.TrimPrefix(path.Clean("/"+urlPath), "/"), "/")
	switch steps[0] {
	case "":
		return listing(ec2Versions), true
	case openStack:
		return d.openStack(steps[1:])
	case ec2:
		steps = steps[1:]
	}
	return d.ec2(steps, addr)
}

// openStack is what steps lead to below openstack: the versions, a version's documents, a document.
func (d Documents) openStack(steps []string) (item, bool) {
	if len(steps) == 0 {
		return listing(d.versions()), true
	}
	version := steps[0]
	if !slices.Contains(d.versions(), version) {
		return item{}, false
	}
	switch {
	case len(steps) == 1 || len(steps) == 2 && steps[1] == "version":
		return listing(slices.DeleteFunc(slices.Clone(openStackFiles), func(name string) bool { return !d.has(version, name) })), true
	case len(steps) == 2 && d.has(version, steps[1]):
		return d.document(version, steps[1]), true
	case len(steps) == 2 && steps[1] == networkFile && d.has(latest, networkFile): // which Nova lists later than it has it
		return d.document(latest, networkFile), true
	}
	return item{}, false
}

// versions are those of OpenStack's documents, oldest first.
func (d Documents) versions() []string {
	var all []string
	for name := range d.Files {
		steps := strings.Split(name, "/")
		if len(steps) == 3 && steps[0] == openStack && !slices.Contains(all, steps[1]) {
			all = append(all, steps[1])
		}
	}
	slices.Sort(all) // "latest" is the last
	return all
}

// has says whether a version has a document.
func (d Documents) has(version, name string) bool {
	if name == passwordFile {
		return version >= passwordSince
	}
	_, is := d.Files[openStack+"/"+version+"/"+name]
	return is && slices.Contains(openStackFiles, name)
}

func (d Documents) document(version, name string) item {
	if name == passwordFile {
		return item{body: []byte(d.Password), kind: textType, password: true}
	}
	found := item{body: d.Files[openStack+"/"+version+"/"+name], kind: textType}
	if strings.HasSuffix(name, ".json") && name != networkFile {
		found.kind = jsonType
	}
	return found
}
