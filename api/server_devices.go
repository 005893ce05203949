package api

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"compute-agent/cinder"
	"compute-agent/compute"
)

// blockDevice is an entry of a new server's block_device_mapping_v2, or of the older block_device_mapping, which has a part of the fields.
type blockDevice struct {
	Source              string   `json:"source_type"`
	Destination         string   `json:"destination_type"`
	UUID                string   `json:"uuid"`
	VolumeID            string   `json:"volume_id"`
	SnapshotID          string   `json:"snapshot_id"`
	BootIndex           *text    `json:"boot_index"`
	Size                *integer `json:"volume_size"` // GiB; of swap MiB
	DeleteOnTermination boolean  `json:"delete_on_termination"`
	Device              string   `json:"device_name"`
	Bus                 string   `json:"disk_bus"`
	Kind                string   `json:"device_type"`
	GuestFormat         string   `json:"guest_format"`
	NoDevice            boolean  `json:"no_device"`
	VirtualName         string   `json:"virtual_name"`
	Tag                 string   `json:"tag"`
	VolumeType          string   `json:"volume_type"`
}

// The words of block device mappings.
const (
	sourceImage    = "image"
	sourceVolume   = "volume"
	sourceSnapshot = "snapshot"
	sourceBlank    = "blank"

	destinationLocal  = "local"
	destinationVolume = "volume"

	formatSwap = "swap"
)

// rootName is what the first disk is called where nobody says otherwise: Nova's, when it reads the older mappings.
const rootName = "vda"

// maxLocalDevices is how many disks on the host a request may map: Nova's max_local_block_devices.
const maxLocalDevices = 3

func invalidMapping(format string, args ...any) error {
	return badRequest("Block Device Mapping is Invalid: "+format, args...)
}

// drives are what a new server has for disks: an image to copy, or none, and volumes.
type drives struct {
	image   string
	volumes []compute.BlockDeviceRequest
}

// drives reads a request's image and mappings by Nova's rules, and finds what they refer to.
func (a *api) drives(c *call, in newServer, flavor compute.Flavor) (drives, error) {
	none := drives{}
	devices, err := in.mappings(c)
	if err != nil {
		return none, err
	}
	if in.ImageRef == "" && len(devices) == 0 {
		return none, badRequest("Invalid imageRef provided.")
	}
	if err := checkBootOrder(devices); err != nil {
		return none, err
	}
	if err := checkLocal(devices, flavor); err != nil {
		return none, err
	}
	var found drives
	for _, d := range devices {
		switch {
		case d.Destination == destinationVolume:
			want, err := a.wantedVolume(c, d, in.ImageRef != "" && d.index() != 0)
			if err != nil {
				return none, err
			}
			found.volumes = append(found.volumes, want)
		case d.Source == sourceImage:
			found.image = d.UUID
		}
	}
	return found, nil
}

// mappings are a request's devices in the newer form, the image that it boots from among them.
func (in newServer) mappings(c *call) ([]blockDevice, error) {
	if len(in.Mapping) > 0 && len(in.Devices) > 0 {
		return nil, badRequest("Using different block_device_mapping syntaxes is not allowed in the same request.")
	}
	if len(in.Mapping) > 0 {
		return fromLegacy(in.Mapping, in.ImageRef)
	}
	if len(in.Devices) == 0 && in.ImageRef != "" {
		return []blockDevice{imageDevice(in.ImageRef)}, nil
	}
	var devices []blockDevice
	for _, d := range in.Devices {
		if bool(d.NoDevice) {
			continue // maps away what an image maps; ours map nothing
		}
		d, err := d.settled(c, in.ImageRef)
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

func imageDevice(image string) blockDevice {
	zero := text("0")
	return blockDevice{Source: sourceImage, Destination: destinationLocal, UUID: image, BootIndex: &zero, DeleteOnTermination: true}
}

// fromLegacy translates mappings of the older kind, in which the root disk is the one of that name. Without it the image is.
func fromLegacy(old []blockDevice, image string) ([]blockDevice, error) {
	var devices []blockDevice
	root := false
	for _, d := range old {
		switch {
		case bool(d.NoDevice):
			continue
		case d.VirtualName == formatSwap:
			d.Source, d.Destination, d.GuestFormat = sourceBlank, destinationLocal, formatSwap
		case strings.HasPrefix(d.VirtualName, "ephemeral"):
			d.Source, d.Destination = sourceBlank, destinationLocal
		case d.SnapshotID != "":
			d.Source, d.Destination, d.UUID = sourceSnapshot, destinationVolume, d.SnapshotID
		case d.VolumeID != "":
			d.Source, d.Destination, d.UUID = sourceVolume, destinationVolume, d.VolumeID
		default:
			return nil, invalidMapping("Unrecognized legacy format.")
		}
		if d.Destination == destinationVolume && strings.TrimPrefix(d.Device, "/dev/") == rootName {
			if image != "" {
				return nil, sameNameAsRoot()
			}
			zero := text("0")
			d.BootIndex, root = &zero, true
		}
		devices = append(devices, d)
	}
	if !root && image != "" {
		devices = append([]blockDevice{imageDevice(image)}, devices...)
	}
	return devices, nil
}

func sameNameAsRoot() error {
	return badRequest("The volume cannot be assigned the same device name as the root device %s", rootName)
}

// settled is a mapping with its destination, checked as far as that goes without a look at what it refers to.
func (d blockDevice) settled(c *call, image string) (blockDevice, error) {
	if d.Destination == "" {
		d.Destination = map[string]string{sourceVolume: destinationVolume, sourceSnapshot: destinationVolume}[d.Source]
		if d.Destination == "" {
			d.Destination = destinationLocal
		}
	}
	if d.Tag != "" && !c.since(tagsAgain) && c.version != firstTags {
		return d, badRequest("Invalid input for field/attribute block_device_mapping_v2. Additional properties are not allowed ('tag' was unexpected)")
	}
	return d, cmp.Or(d.checkSource(image), d.checkType(), d.checkHardware())
}

// checkSource says whether what a device is made of goes with where it is to be.
func (d blockDevice) checkSource(image string) error {
	local := d.Destination == destinationLocal
	switch {
	case d.Source == "":
		return invalidMapping("source_type is missing.")
	case d.Source == sourceBlank && d.UUID != "":
		return invalidMapping("Invalid device UUID.")
	case d.Source != sourceBlank && d.UUID == "":
		return invalidMapping("Missing device UUID.")
	case d.Source == sourceImage && local && (image == "" || d.index() != 0):
		return invalidMapping("Mapping image to local is not supported.")
	case d.Source == sourceImage && local && d.UUID != image:
		return invalidMapping("the image to boot from is %s by imageRef, and %s by block_device_mapping_v2.", image, shorten(d.UUID))
	case (d.Source == sourceVolume || d.Source == sourceSnapshot) && local:
		return invalidMapping("destination_type local is not possible with source_type %s.", d.Source)
	}
	return nil
}

// checkType says whether a volume that is asked for by its type is one that is to be made.
func (d blockDevice) checkType() error {
	switch {
	case d.Destination == destinationLocal && d.VolumeType != "":
		return invalidMapping("Specifying a volume_type with destination_type=local is not supported.")
	case d.Source == sourceVolume && d.VolumeType != "":
		return invalidMapping("Specifying volume type to existing volume is not supported.")
	}
	return nil
}

// checkHardware refuses names, buses and kinds that Nova does not know. Which of them the guest can have the core says.
func (d blockDevice) checkHardware() error {
	buses := []string{"", "fdc", "ide", "sata", "scsi", "usb", "virtio", "xen", "lxc", "uml"}
	kinds := []string{"", "cdrom", "disk", "floppy", "fs", "lun"}
	switch {
	case strings.Contains(d.Device, " "):
		return invalidMapping("Device name contains spaces.")
	case !slices.Contains(buses, d.Bus):
		return badRequest("Block Device Mapping is invalid: The provided disk bus %s is not valid.", shorten(d.Bus))
	case !slices.Contains(kinds, d.Kind):
		return invalidMapping("device_type %s is not valid.", quoted(d.Kind))
	}
	return nil
}

// index is the place in the boot order; -1 for what the server does not boot from. The schema has checked that it is a number.
func (d blockDevice) index() int {
	if d.BootIndex == nil || *d.BootIndex == "" {
		return -1
	}
	n, err := strconv.Atoi(string(*d.BootIndex))
	if err != nil {
		return -1
	}
	return max(n, -1)
}

func (d blockDevice) size() int { return int(deref(d.Size)) }

// checkBootOrder says that the boot indexes are 0, 1, 2 and so on.
func checkBootOrder(devices []blockDevice) error {
	var indexes []int
	for _, d := range devices {
		if i := d.index(); i >= 0 {
			indexes = append(indexes, i)
		}
	}
	slices.Sort(indexes)
	for want, got := range indexes {
		if got != want {
			indexes = nil
		}
	}
	if len(indexes) == 0 {
		return invalidMapping("Boot sequence for the instance and image/block device mapping combination is not valid.")
	}
	return nil
}

// checkLocal says that disks on the host are within what the flavor has. A server here gets the flavor's ephemeral disk and swap as they are, so what
// asks for less is refused rather than given more.
func checkLocal(devices []blockDevice, f compute.Flavor) error {
	var ephemeral, swap []blockDevice
	local, total := 0, 0
	for _, d := range devices {
		switch {
		case d.Destination != destinationLocal:
			continue
		case d.Source == sourceBlank && d.GuestFormat == formatSwap:
			swap = append(swap, d)
		case d.Source == sourceBlank:
			ephemeral = append(ephemeral, d)
			total += orSize(d, f.EphemeralGiB)
		}
		local++
	}
	switch {
	case total > f.EphemeralGiB:
		return badRequest("Ephemeral disks requested are larger than the instance type allows. If no size is given in one block device mapping, " +
			"flavor ephemeral size will be used.")
	case len(swap) > 1:
		return invalidMapping("More than one swap drive requested.")
	case len(swap) == 1 && swap[0].size() > f.SwapMiB:
		return badRequest("Swap drive requested is larger than instance type allows.")
	case local > maxLocalDevices:
		return invalidMapping("You specified more local devices than the limit allows")
	}
	if err := checkWhole("ephemeral disk", "GiB", ephemeral, f.EphemeralGiB); err != nil {
		return err
	}
	return checkWhole("swap", "MiB", swap, f.SwapMiB)
}

// orSize is a device's size, or the flavor's if it says none.
func orSize(d blockDevice, flavor int) int {
	if d.size() > 0 {
		return d.size()
	}
	return flavor
}

func checkWhole(what, unit string, asked []blockDevice, flavor int) error {
	for _, d := range asked {
		switch {
		case orSize(d, flavor) != flavor, len(asked) > 1:
			return invalidMapping("volume_size: a server of this host has one %s, of the flavor's %d %s.", what, flavor, unit)
		case d.GuestFormat != "" && d.GuestFormat != formatSwap:
			return invalidMapping("guest_format: the host chooses the file system of ephemeral disks.")
		case d.Bus != "" || d.Kind != "" || d.Tag != "" || d.Device != "":
			return invalidMapping("disk_bus, device_type, device_name and tag are not supported for the flavor's %s.", what)
		}
	}
	return nil
}

// wantedVolume finds what a volume of a new server is, or is to be made of. besideRoot is whether another disk has the root's name.
func (a *api) wantedVolume(c *call, d blockDevice, besideRoot bool) (compute.BlockDeviceRequest, error) {
	want := compute.BlockDeviceRequest{
		SizeGiB: d.size(), Device: d.Device, Bus: d.Bus, Kind: d.Kind, DeleteOnTermination: bool(d.DeleteOnTermination), Tag: d.Tag,
	}
	if i := d.index(); i >= 0 {
		want.BootIndex = &i
	}
	if besideRoot && strings.TrimPrefix(d.Device, "/dev/") == rootName {
		return want, sameNameAsRoot()
	}
	if err := a.setVolumeType(c, d, &want); err != nil {
		return want, err
	}
	return want, a.setSource(c, d, &want)
}

// setVolumeType finds the type of a volume that is to be made.
func (a *api) setVolumeType(c *call, d blockDevice, want *compute.BlockDeviceRequest) error {
	if d.VolumeType == "" {
		return nil
	}
	types, err := a.Backend.VolumeTypes(c.Context())
	if err != nil {
		return err
	}
	t, err := cinder.FindType(types, d.VolumeType, "", c.caller.ProjectID)
	if err != nil {
		return badRequest("Volume type %s could not be found.", shorten(d.VolumeType))
	}
	want.Source.TypeID = t.ID
	return nil
}

func (a *api) setSource(c *call, d blockDevice, want *compute.BlockDeviceRequest) error {
	switch d.Source {
	case sourceVolume:
		return a.setExisting(c, d, want)
	case sourceSnapshot:
		s, err := a.ownSnapshot(c, d.UUID)
		if isNotFound(err) {
			return invalidMapping("failed to get snapshot %s.", shorten(d.UUID))
		}
		want.Source.SnapshotID = s.ID
		if want.SizeGiB == 0 {
			want.SizeGiB = s.SizeGiB
		}
		return err
	case sourceImage:
		return a.setImage(c, d, want)
	default:
		want.Source.Blank = true
		if want.SizeGiB == 0 {
			return badRequest("Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size")
		}
		return nil
	}
}

func (a *api) setExisting(c *call, d blockDevice, want *compute.BlockDeviceRequest) error {
	v, err := a.ownVolume(c, d.UUID)
	if isNotFound(err) {
		return invalidMapping("failed to get volume %s.", shorten(d.UUID))
	}
	if err != nil {
		return err
	}
	if err := refuseOldMultiattach(c, v); err != nil {
		return err
	}
	if d.index() == 0 && !v.Bootable {
		return badRequest("Block Device %s is not bootable.", v.ID)
	}
	want.VolumeID, want.SizeGiB = v.ID, v.SizeGiB
	return nil
}

func (a *api) setImage(c *call, d blockDevice, want *compute.BlockDeviceRequest) error {
	img, err := a.Backend.Image(c.Context(), d.UUID)
	switch {
	case isMissing(err), err == nil && !visibleImage(c, img):
		return invalidMapping("failed to get image %s.", shorten(d.UUID))
	case err != nil:
		return err
	case want.SizeGiB == 0:
		return badRequest("Images with destination_type 'volume' need to have a non-zero size specified")
	case want.SizeGiB < img.MinDiskGiB:
		return badRequest("Volume is smaller than the minimum size specified in image metadata. Volume size is %s, minimum size is %s.",
			gibInBytes(want.SizeGiB), gibInBytes(img.MinDiskGiB))
	}
	want.Source.ImageID = img.ID
	return nil
}

func gibInBytes(gib int) string { return fmt.Sprintf("%d bytes", int64(gib)<<30) }
