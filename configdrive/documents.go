// Package configdrive makes the documents that a guest configures itself with, and the small
// CD-ROM or disk that carries them: OpenStack's config drive, version 2, as cloud-init and its like read it.
package configdrive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Drive is what a guest is told about itself.
type Drive struct {
	ID               string // the server's UUID
	Number           int64  // the server's number on this host: EC2's instance-id is made of it
	Name             string // the user's name for the server
	Hostname         string // fully qualified, valid as a host name
	AvailabilityZone string
	ProjectID        string
	Flavor           string // its name: EC2's instance-type
	RootDevice       string // vda
	Ephemeral        string // vdb: the ephemeral disk; empty for none
	Swap             string // vdc: the swap disk; empty for none
	Volumes          []Volume
	LaunchIndex      int
	Key              *Key // nil for none
	Metadata         map[string]string
	UserData         []byte // as the user gave it, decoded; nil for none
	AdminPassword    string // empty for none
	DedicatedCPUs    []int  // the vCPUs that have a pCPU for themselves
	Interfaces       []Interface
	SecurityGroups   []string // names, of all interfaces
	// Seed is what the guest feeds its random number generator with; Nova gives 512 bytes. Write
	// makes one if there is none.
	Seed []byte
}

// Volume is a volume that the guest has.
type Volume struct {
	ID   string // the serial that the disk shows
	Name string // vdd
	Bus  string // pci, scsi, ide, usb; empty for one that the documents have no name for
	Tag  string // the user's; empty for none
}

// Key is a public key that may log in.
type Key struct {
	Name      string
	Type      string // ssh
	PublicKey string
}

// The versions of OpenStack's documents, named by date as Nova names them (nova.api.metadata.base).
// Each has what the ones before it had.
const (
	folsom    = "2012-08-10" // meta_data.json, user_data
	grizzly   = "2013-04-04" // + random_seed
	havana    = "2013-10-17" // + vendor_data.json
	liberty   = "2015-10-15" // + network_data.json, project_id
	newtonOne = "2016-06-30" // + devices
	newtonTwo = "2016-10-06" // + vendor_data2.json
	ocata     = "2017-02-22" // devices tell their VLAN
	rocky     = "2018-08-27" // devices tell whether they are trusted
	victoria  = "2020-10-14" // + dedicated_cpus
	latest    = "latest"
)

var openStackVersions = []string{folsom, grizzly, havana, liberty, newtonOne, newtonTwo, ocata, rocky, victoria, latest}

// ec2Versions are the versions of Amazon's documents that Nova puts on a config drive.
var ec2Versions = []string{"2009-04-04", latest}

// The directories at the top of the drive.
const (
	openStackDir = "openstack"
	ec2Dir       = "ec2"
)

// Documents are the drive's files by their path on it. It is pure.
func Documents(d Drive) map[string][]byte {
	files := map[string][]byte{}
	put := func(path string, document any) { files[path] = encode(document) }
	for _, version := range openStackVersions {
		dir := openStackDir + "/" + version + "/"
		since := func(first string) bool {
			return slices.Index(openStackVersions, version) >= slices.Index(openStackVersions, first)
		}
		put(dir+"meta_data.json", d.metaData(since))
		if d.UserData != nil {
			files[dir+"user_data"] = d.UserData
		}
		if since(havana) {
			put(dir+"vendor_data.json", struct{}{})
		}
		if since(liberty) {
			put(dir+"network_data.json", d.networkData())
		}
		if since(newtonTwo) {
			put(dir+"vendor_data2.json", map[string]struct{}{"static": {}}) // by the name of Nova's provider of it
		}
	}
	for _, version := range ec2Versions {
		put(ec2Dir+"/"+version+"/meta-data.json", d.ec2())
		if d.UserData != nil {
			files[ec2Dir+"/"+version+"/user-data"] = d.UserData
		}
	}
	return files
}

// metaData is OpenStack's meta_data.json.
type metaData struct {
	AdminPass        string            `json:"admin_pass,omitempty"`
	AvailabilityZone string            `json:"availability_zone"`
	DedicatedCPUs    *[]int            `json:"dedicated_cpus,omitempty"`
	Devices          *[]deviceData     `json:"devices,omitempty"`
	Hostname         string            `json:"hostname"`
	Keys             []keyData         `json:"keys,omitempty"`
	LaunchIndex      int               `json:"launch_index"`
	Meta             map[string]string `json:"meta,omitempty"`
	Name             string            `json:"name"`
	ProjectID        string            `json:"project_id,omitempty"`
	PublicKeys       map[string]string `json:"public_keys,omitempty"`
	RandomSeed       []byte            `json:"random_seed,omitempty"` // base64 in JSON
	UUID             string            `json:"uuid"`
}

type keyData struct {
	Data string `json:"data"`
	Name string `json:"name"`
	Type string `json:"type"`
}

func (d Drive) metaData(since func(string) bool) metaData {
	m := metaData{
		AdminPass:        d.AdminPassword,
		AvailabilityZone: d.AvailabilityZone,
		Hostname:         d.Hostname,
		LaunchIndex:      d.LaunchIndex,
		Meta:             d.Metadata,
		Name:             d.Name,
		UUID:             d.ID,
	}
	if d.Key != nil {
		m.Keys = []keyData{{Data: d.Key.PublicKey, Name: d.Key.Name, Type: d.Key.Type}}
		m.PublicKeys = map[string]string{d.Key.Name: d.Key.PublicKey}
	}
	if since(grizzly) {
		m.RandomSeed = d.Seed
	}
	if since(liberty) {
		m.ProjectID = d.ProjectID
	}
	if since(newtonOne) {
		m.Devices = d.devices(since)
	}
	if since(victoria) {
		cpus := append([]int{}, d.DedicatedCPUs...) // never null
		m.DedicatedCPUs = &cpus
	}
	return m
}

// ec2Data is Amazon's meta-data, with the values that Nova gives where it has none.
type ec2Data struct {
	AMIID              string               `json:"ami-id"`
	AMILaunchIndex     int                  `json:"ami-launch-index"`
	AMIManifestPath    string               `json:"ami-manifest-path"`
	BlockDeviceMapping map[string]string    `json:"block-device-mapping"`
	Hostname           string               `json:"hostname"`
	InstanceAction     string               `json:"instance-action"`
	InstanceID         string               `json:"instance-id"`
	InstanceType       string               `json:"instance-type"`
	LocalHostname      string               `json:"local-hostname"`
	LocalIPv4          *string              `json:"local-ipv4"`
	Placement          map[string]string    `json:"placement"`
	PublicHostname     string               `json:"public-hostname"`
	PublicIPv4         string               `json:"public-ipv4"`
	PublicKeys         map[string]ec2Public `json:"public-keys,omitempty"`
	ReservationID      string               `json:"reservation-id"`
	SecurityGroups     []string             `json:"security-groups"`
}

type ec2Public struct {
	Name       string `json:"_name"` // as the metadata service lists it; Nova has it on the drive too
	OpenSSHKey string `json:"openssh-key"`
}

func (d Drive) ec2() ec2Data {
	out := ec2Data{
		AMIID:              fmt.Sprintf("ami-%08x", 0),
		AMILaunchIndex:     d.LaunchIndex,
		AMIManifestPath:    "FIXME", // Nova's value, which guests have come to see
		BlockDeviceMapping: d.blockDevices(),
		Hostname:           d.Hostname,
		InstanceAction:     "none",
		InstanceID:         fmt.Sprintf("i-%08x", d.Number),
		InstanceType:       d.Flavor,
		LocalHostname:      d.Hostname,
		LocalIPv4:          d.localIPv4(),
		Placement:          map[string]string{"availability-zone": d.AvailabilityZone},
		PublicHostname:     d.Hostname,
		PublicIPv4:         d.publicIPv4(),
		SecurityGroups:     append([]string{}, d.SecurityGroups...), // never null
	}
	if d.Key != nil {
		out.PublicKeys = map[string]ec2Public{"0": {Name: "0=" + d.Key.Name, OpenSSHKey: d.Key.PublicKey}}
	}
	return out
}

// blockDevices are the server's disks under EC2's names (nova.block_device.instance_block_mapping).
func (d Drive) blockDevices() map[string]string {
	devices := map[string]string{"ami": d.RootDevice, "root": "/dev/" + d.RootDevice}
	if d.Ephemeral != "" {
		devices["ephemeral0"] = "/dev/" + d.Ephemeral
	}
	if d.Swap != "" {
		devices["swap"] = "/dev/" + d.Swap
	}
	var volumes []string
	for _, v := range d.Volumes {
		volumes = append(volumes, "/dev/"+v.Name)
	}
	slices.Sort(volumes) // as Nova numbers them
	for i, name := range volumes {
		devices["ebs"+strconv.Itoa(i)] = name
	}
	return devices
}

// encode writes JSON as other makers of config drives do: markup characters as they are. The
// documents hold only strings, numbers and lists of them, which always encode.
func encode(document any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(document); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
