package plan

import (
	"encoding/json"
	"slices"
	"strings"

	"compute-agent/blockdev"
)

// bdm is Nova's BlockDeviceMapping object.
type bdm struct {
	SourceType          *string `json:"source_type"`
	DestinationType     *string `json:"destination_type"`
	GuestFormat         *string `json:"guest_format"`
	DeviceType          *string `json:"device_type"`
	DiskBus             *string `json:"disk_bus"`
	BootIndex           *int    `json:"boot_index"`
	DeviceName          *string `json:"device_name"`
	DeleteOnTermination bool    `json:"delete_on_termination"`
	VolumeSize          *int    `json:"volume_size"`
	VolumeType          *string `json:"volume_type"`
	ImageID             *string `json:"image_id"`
	NoDevice            bool    `json:"no_device"`
	ConnectionInfo      any     `json:"connection_info"`
	AttachmentID        *string `json:"attachment_id"`
	Encrypted           bool    `json:"encrypted"`
	EncryptionSecret    *string `json:"encryption_secret_uuid"`
	EncryptionFormat    *string `json:"encryption_format"`
	EncryptionOptions   *string `json:"encryption_options"`
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (b *bdm) wanted() blockdev.Wanted {
	return blockdev.Wanted{
		Name: orEmpty(b.DeviceName), Bus: blockdev.Bus(orEmpty(b.DiskBus)), Type: blockdev.Type(orEmpty(b.DeviceType)), BootIndex: b.BootIndex,
	}
}

func (b *bdm) size() int {
	if b.VolumeSize == nil {
		return 0
	}
	return *b.VolumeSize
}

// describe adds to a drive what its mapping says of its contents.
func (b *bdm) describe(device form) {
	if f := orEmpty(b.GuestFormat); f != "" && !b.isSwap() {
		device["format"] = f
	}
	if !b.Encrypted || orEmpty(b.DestinationType) != "local" {
		return // a volume's encryption is its connection's
	}
	device["encrypted"], device["encryption_secret_uuid"], device["encryption_format"] = true, b.EncryptionSecret, b.EncryptionFormat
	var options any
	if json.Unmarshal([]byte(orEmpty(b.EncryptionOptions)), &options) == nil {
		device["encryption_options"] = options
	}
}

func (b *bdm) isSwap() bool { return b.isBlank() && orEmpty(b.GuestFormat) == "swap" }

func (b *bdm) isBlank() bool {
	return orEmpty(b.SourceType) == "blank" && orEmpty(b.DestinationType) == "local"
}

// update gives the mapping its place; a name that it has it keeps.
func (b *bdm) update(d blockdev.Drive) {
	if orEmpty(b.DeviceName) == "" {
		b.DeviceName = orNull(blockdev.Path(d.Name))
	}
	bus, t := string(d.Bus), string(d.Type)
	b.DiskBus, b.DeviceType = &bus, &t
}

// blockInfo is Nova's block_device_info: mappings by what they stand for.
type blockInfo struct {
	root       *string
	image      []*bdm
	ephemerals []*bdm
	swap       *bdm
	volumes    []*bdm
	// swapType is the type of the swap device, which is a field of no mapping: nil before it has its place.
	swapType *blockdev.Type
}

// infoOf sorts mappings. Volumes come by their source, and of several swap devices the last one counts. It refers to
// the given mappings.
func infoOf(all []bdm, root *string) blockInfo {
	info := blockInfo{root: root}
	for i := range all {
		b := &all[i]
		switch {
		case b.NoDevice:
		case orEmpty(b.SourceType) == "image" && orEmpty(b.DestinationType) == "local":
			info.image = append(info.image, b)
		case b.isSwap():
			info.swap = b
		case b.isBlank():
			info.ephemerals = append(info.ephemerals, b)
		}
	}
	for _, source := range []string{"volume", "snapshot", "image", "blank"} {
		for i := range all {
			if b := &all[i]; !b.NoDevice && orEmpty(b.SourceType) == source && orEmpty(b.DestinationType) == "volume" {
				info.volumes = append(info.volumes, b)
			}
		}
	}
	return info
}

// want says in a request what the mappings and the flavor ask for.
func (i blockInfo) want(r *blockdev.Request, ephemeral, swap bool) {
	if len(i.image) > 0 {
		w := i.image[0].wanted()
		r.Image = &w
	}
	for _, b := range i.ephemerals {
		r.Ephemerals = append(r.Ephemerals, b.wanted())
	}
	if ephemeral && len(i.ephemerals) == 0 {
		r.Ephemerals = []blockdev.Wanted{{Implied: true}}
	}
	switch {
	case i.swap != nil && i.swap.size() > 0:
		w := i.swap.wanted()
		w.Type = "" // no field of a swap device
		r.Swap = &w
	case swap:
		r.Swap = &blockdev.Wanted{Implied: true}
	}
	for _, b := range i.volumes {
		r.Volumes = append(r.Volumes, b.wanted())
	}
}

// of is the mapping of a drive; nil if it has none.
func (i *blockInfo) of(d blockdev.Drive) *bdm {
	switch {
	case d.Role == blockdev.Root && len(i.image) > 0:
		return i.image[0]
	case d.Role == blockdev.Ephemeral && len(i.ephemerals) > 0:
		return i.ephemerals[d.Index]
	case d.Role == blockdev.Swap && i.swap != nil && i.swap.size() > 0:
		return i.swap
	case d.Role == blockdev.Volume:
		return i.volumes[d.Index]
	}
	return nil
}

// update gives mappings their places. A swap device's type is not stored.
func (i *blockInfo) update(m blockdev.Mapping) {
	for _, d := range m.Drives {
		b := i.of(d)
		if b == nil {
			continue
		}
		stored := b.DeviceType
		b.update(d)
		if d.Role == blockdev.Swap {
			b.DeviceType, i.swapType = stored, &d.Type
		}
	}
}

// form is what Nova's drivers get.
func (i *blockInfo) form() form {
	image, ephemerals, volumes := []form{}, []form{}, []form{}
	for _, b := range i.image {
		f := b.localForm()
		f["image_id"], f["boot_index"] = b.ImageID, 0
		image = append(image, f)
	}
	for _, b := range i.ephemerals {
		ephemerals = append(ephemerals, b.localForm())
	}
	for _, b := range i.volumes {
		volumes = append(volumes, b.volumeForm())
	}
	out := form{"root_device_name": i.root, "image": image, "ephemerals": ephemerals, "swap": nil, "block_device_mapping": volumes}
	if i.swap != nil {
		f := i.swap.encryptionForm()
		f["device_name"], f["disk_bus"], f["swap_size"] = i.swap.DeviceName, i.swap.DiskBus, i.swap.size()
		if i.swapType != nil {
			f["device_type"] = *i.swapType
		}
		out["swap"] = f
	}
	return out
}

func (b *bdm) encryptionForm() form {
	return form{"encrypted": b.Encrypted, "encryption_secret_uuid": b.EncryptionSecret,
		"encryption_format": b.EncryptionFormat, "encryption_options": b.EncryptionOptions}
}

func (b *bdm) localForm() form {
	f := b.encryptionForm()
	f["device_name"], f["device_type"], f["disk_bus"], f["guest_format"], f["size"] = b.DeviceName, b.DeviceType, b.DiskBus, b.GuestFormat, b.size()
	return f
}

func (b *bdm) volumeForm() form {
	info := b.ConnectionInfo
	if info == nil {
		info = form{}
	}
	return form{"attachment_id": b.AttachmentID, "boot_index": b.BootIndex, "connection_info": info, "delete_on_termination": b.DeleteOnTermination,
		"device_type": b.DeviceType, "disk_bus": b.DiskBus, "guest_format": b.GuestFormat, "mount_device": b.DeviceName, "volume_type": b.VolumeType}
}

// The words that Nova's objects take in the fields that are read here.
var (
	busWords     = []string{"fdc", "ide", "sata", "scsi", "usb", "virtio", "xen", "lxc", "uml"}
	typeWords    = []string{"cdrom", "disk", "floppy", "fs", "lun"}
	imageWords   = map[string][]string{"hw_disk_bus": busWords, "hw_cdrom_bus": busWords, "hw_floppy_bus": busWords, "hw_rescue_bus": busWords, "hw_rescue_device": typeWords, "img_config_drive": {"optional", "mandatory"}}
	imageKeys    = []string{"hw_cdrom_bus", "hw_disk_bus", "hw_floppy_bus", "hw_rescue_bus", "hw_rescue_device", "img_config_drive"}
	architecture = strings.Fields("alpha armv6 armv7l armv7b aarch64 cris i686 ia64 lm32 m68k microblaze microblazeel mips mipsel mips64 mips64el " +
		"openrisc parisc parisc64 ppc ppcle ppc64 ppc64le ppcemb s390 s390x sh4 sh4eb sparc sparc64 unicore32 x86_64 xtensa xtensaeb")
)

// objectFault says why Nova cannot make its objects of the question; empty if it can.
func (q *disksQuestion) objectFault() string {
	images := []map[string]string{q.ImageProps}
	if q.RescueImage != nil {
		images = append(images, q.RescueImage.ImageProps)
	}
	for _, image := range images {
		if fault := imageFault(properties(image)); fault != "" {
			return fault
		}
	}
	for _, b := range append(slices.Clone(q.bdms()), q.New) {
		if fault := b.objectFault(); fault != "" {
			return fault
		}
	}
	return ""
}

func imageFault(image map[string]string) string {
	if v, set := image["hw_architecture"]; set && !slices.Contains(architecture, canonicalArch(v)) {
		return "Architecture name '" + v + "' is not valid"
	}
	for _, key := range imageKeys {
		if v, set := image[key]; set && !slices.Contains(imageWords[key], v) {
			return "Field value " + v + " is invalid"
		}
	}
	return ""
}

func (b *bdm) objectFault() string {
	for _, field := range []struct {
		value *string
		words []string
	}{
		{b.SourceType, []string{"blank", "image", "snapshot", "volume"}}, {b.DestinationType, []string{"local", "volume"}},
		{b.DeviceType, typeWords}, {b.EncryptionFormat, []string{"plain", "luks", "luksv2"}},
	} {
		if field.value != nil && !slices.Contains(field.words, *field.value) {
			return "Field value " + *field.value + " is invalid"
		}
	}
	return ""
}

// canonicalArch is Nova's name of an architecture.
func canonicalArch(name string) string {
	name = strings.ToLower(name)
	switch name {
	case "i386", "i486", "i586", "x86_32", "x86_32p":
		return "i686"
	case "amd64":
		return "x86_64"
	}
	return name
}

// properties are an image's under the names of today; of an old name and a new one the new one counts.
func properties(image map[string]string) map[string]string {
	out := map[string]string{}
	if v, set := image["architecture"]; set {
		out["hw_architecture"] = v
	}
	switch image["vmware_adaptertype"] {
	case "":
	case "ide":
		out["hw_disk_bus"] = "ide"
	default:
		out["hw_disk_bus"] = "scsi"
	}
	for k, v := range image {
		out[k] = v
	}
	return out
}
