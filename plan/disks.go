package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"compute-agent/blockdev"
)

// Disks answers where a guest's drives go, as Nova decides it: a line {"id", "input"} whose input.op is one of disk_info
// (buses, names, boot order), default_names (the names that block device mappings get when a server is built),
// attach_name (the name of one more volume), next_device_name (the API's guess at it), string (what the parts of
// a device name are) and bdm_dict (the forms of block device mappings). The answer is {"id", "output"}, with {"error"} in
// place of what Nova refuses. It is master's answer where its releases differ, and Nova's even where the agent does
// better with its own guests: see blockdev.Request.
func Disks(line []byte) ([]byte, error) {
	return reply(line, (*disksQuestion).answer)
}

type disksQuestion struct {
	Op             string                     `json:"op"`
	VirtType       string                     `json:"virt_type"`
	DiskFormat     string                     `json:"disk_format"`
	ImageProps     map[string]string          `json:"image_props"`
	EphemeralGiB   int                        `json:"ephemeral_gb"`
	SwapMiB        int                        `json:"swap"`
	ConfigDrive    bool                       `json:"config_drive"`
	BDMs           *[]bdm                     `json:"bdms"` // nil: nothing is said of block devices
	RootDeviceName *string                    `json:"root_device_name"`
	Conf           map[string]json.RawMessage `json:"conf"`
	Rescue         bool                       `json:"rescue"`
	RescueImage    *struct {
		ImageProps map[string]string `json:"image_props"`
	} `json:"rescue_image"`
	New              bdm     `json:"new"`                      // of attach_name
	Device           *string `json:"device"`                   // of next_device_name
	DefaultEphemeral *string `json:"default_ephemeral_device"` // likewise
	DefaultSwap      *string `json:"default_swap_device"`      // likewise
	bdmQuestion
}

// form is a JSON object of an answer.
type form = map[string]any

func (q *disksQuestion) answer() (any, error) {
	switch q.Op {
	case "string", "bdm_dict":
		return q.bdmQuestion.answer(q.Op, orEmpty(q.RootDeviceName))
	case "next_device_name":
		return q.nextName()
	}
	if fault := q.objectFault(); fault != "" {
		return form{"error": form{"class": "ValueError", "message": fault}, "stage": "building nova objects from the input"}, nil
	}
	switch q.Op {
	case "disk_info":
		return q.diskInfo()
	case "default_names":
		return q.defaultNames()
	case "attach_name":
		return q.attachName()
	}
	return nil, fmt.Errorf("op %q is not known", q.Op)
}

// diskInfo is the drives of a guest, and the block device mappings before and after they got their places.
func (q *disksQuestion) diskInfo() (any, error) {
	info := infoOf(q.bdms(), q.RootDeviceName)
	out := form{}
	if q.BDMs != nil {
		out["block_device_info"] = info.form()
	}
	r, err := q.request(info)
	if err != nil {
		return nil, err
	}
	m, err := blockdev.Plan(r)
	if err != nil {
		out["error"], err = q.refusal(err)
		return out, err
	}
	out["disk_info"] = form{"disk_bus": m.DiskBus, "cdrom_bus": m.CDROMBus, "mapping": q.mappingForm(m, info)}
	out["boot_order"] = bootOrder(m)
	if q.BDMs != nil {
		if !q.legacyRescue() {
			info.update(m)
		}
		out["block_device_info_after"] = info.form()
	}
	return out, nil
}

// legacyRescue is the older kind of rescue, which looks at no block device mapping.
func (q *disksQuestion) legacyRescue() bool { return q.Rescue && q.RescueImage == nil }

func (q *disksQuestion) bdms() []bdm {
	if q.BDMs == nil {
		return nil
	}
	return *q.BDMs
}

// request is the question in the words of package blockdev.
func (q *disksQuestion) request(info blockInfo) (r blockdev.Request, err error) {
	r = blockdev.Request{AsNova: true, Properties: properties(q.ImageProps), ISO: q.DiskFormat == "iso"}
	if r.Arch, r.Machine, err = q.platform(r.Properties); err != nil {
		return r, err
	}
	if q.RootDeviceName != nil && q.BDMs != nil {
		r.RootName = *q.RootDeviceName
	}
	info.want(&r, q.EphemeralGiB > 0, q.SwapMiB > 0)
	if q.Rescue {
		r.Rescue = &blockdev.RescueImage{}
		if q.RescueImage != nil {
			image := properties(q.RescueImage.ImageProps)
			r.Rescue = &blockdev.RescueImage{Stable: true, Properties: image}
			if r.Rescue.Arch, r.Rescue.Machine, err = q.platform(image); err != nil {
				return r, err
			}
		}
	}
	return r, q.configure(&r)
}

// configure reads nova.conf's part of the question.
func (q *disksQuestion) configure(r *blockdev.Request) error {
	limit, force, form := -1, false, blockdev.ISO9660
	for key, value := range map[string]any{
		"compute.max_disk_devices_to_attach": &limit, "libvirt.disk_prefix": &r.Prefix,
		"libvirt.virt_type": &q.VirtType, "force_config_drive": &force, "config_drive_format": &form,
	} {
		if err := q.option(key, value); err != nil {
			return err
		}
	}
	r.VirtType = q.VirtType
	if limit >= 0 {
		r.MaxDrives = &limit
	}
	if q.ConfigDrive || force || r.Properties["img_config_drive"] == "mandatory" {
		r.ConfigDrive = form
	}
	return nil
}

// option reads an option, if it is there, into value. Those of the section DEFAULT may say so.
func (q *disksQuestion) option(key string, value any) error {
	raw, set := q.Conf[key]
	if !set {
		raw, set = q.Conf["DEFAULT."+key]
	}
	if !set {
		return nil
	}
	if err := json.Unmarshal(raw, value); err != nil {
		return fmt.Errorf("conf: %s: %w", key, err)
	}
	return nil
}

// platform is the architecture and the machine type of guests with an image. The host is an x86_64.
func (q *disksQuestion) platform(image map[string]string) (arch, machine string, err error) {
	arch = "x86_64"
	if v := image["hw_architecture"]; v != "" {
		arch = canonicalArch(v)
	}
	if v := image["hw_machine_type"]; v != "" {
		return arch, v, nil
	}
	var machines []string
	if err := q.option("libvirt.hw_machine_type", &machines); err != nil {
		return "", "", err
	}
	for _, entry := range machines {
		if of, machine, _ := strings.Cut(entry, "="); of == arch && machine != "" {
			return arch, machine, nil
		}
	}
	return arch, "", nil
}

// mappingForm is a mapping under Nova's names of drives; a volume is named by its device.
func (q *disksQuestion) mappingForm(m blockdev.Mapping, info blockInfo) form {
	mapping := form{}
	for _, d := range novaOrder(m) {
		device := driveForm(d)
		if b := info.of(d); b != nil && !q.legacyRescue() {
			b.describe(device)
		}
		mapping[q.keyOf(d, info)] = device
		if d == m.Root {
			mapping["root"] = device
		}
	}
	return mapping
}

// novaOrder is the drives in the order in which Nova comes by them: a volume that is the root device is in its turn.
func novaOrder(m blockdev.Mapping) []blockdev.Drive {
	if m.Root.Role != blockdev.Volume {
		return m.Drives
	}
	rest := m.Drives[1:]
	i := slices.IndexFunc(rest, func(d blockdev.Drive) bool {
		return d.Role == blockdev.Volume && d.Index > m.Root.Index || d.Role == blockdev.ConfigDrive || d.Role == blockdev.Rescue
	})
	if i < 0 {
		i = len(rest)
	}
	return slices.Insert(slices.Clone(rest), i, m.Root)
}

func driveForm(d blockdev.Drive) form {
	f := form{"bus": d.Bus, "dev": orNull(d.Name), "type": d.Type}
	if d.BootIndex > 0 {
		f["boot_index"] = strconv.Itoa(d.BootIndex)
	}
	return f
}

func (q *disksQuestion) keyOf(d blockdev.Drive, info blockInfo) string {
	switch d.Role {
	case blockdev.Root:
		return "disk"
	case blockdev.Ephemeral:
		if len(info.ephemerals) == 0 {
			return "disk.local" // the flavor's, with no mapping of its own
		}
		return "disk.eph" + strconv.Itoa(d.Index)
	case blockdev.Swap:
		return "disk.swap"
	case blockdev.Rescue:
		return "disk.rescue"
	case blockdev.ConfigDrive:
		if q.legacyRescue() {
			return "disk.config.rescue"
		}
		return "disk.config"
	}
	if d.Name == "" {
		return "null"
	}
	return blockdev.Path(d.Name)
}

// bootOrder is the classes of device that Nova has the guest boot. It knows a volume by its name alone, so of two with
// the same it sees the second, and it sorts boot indexes as text, so that 10 is before 2; the agent does neither.
func bootOrder(m blockdev.Mapping) []string {
	var seen []blockdev.Drive
	for _, d := range novaOrder(m) {
		same := func(o blockdev.Drive) bool { return o.Role == blockdev.Volume && o.Role == d.Role && o.Name == d.Name }
		if i := slices.IndexFunc(seen, same); i >= 0 {
			seen[i] = d
		} else {
			seen = append(seen, d)
		}
	}
	seen = slices.DeleteFunc(seen, func(d blockdev.Drive) bool { return d.BootIndex == 0 })
	slices.SortStableFunc(seen, func(a, b blockdev.Drive) int {
		return strings.Compare(strconv.Itoa(a.BootIndex), strconv.Itoa(b.BootIndex))
	})
	classes := []string{}
	for _, d := range seen {
		if class := d.Type.BootClass(); !slices.Contains(classes, class) {
			classes = append(classes, class)
		}
	}
	return classes
}

// defaultNames gives names to the block devices of a server that is built. The root device's name is found first and
// kept; all others that were asked for are passed over.
func (q *disksQuestion) defaultNames() (any, error) {
	all := q.bdms()
	out := form{"root_device_name": q.RootDeviceName}
	root := slices.IndexFunc(all, func(b bdm) bool { return b.BootIndex != nil && *b.BootIndex == 0 })
	if root >= 0 {
		name, err := q.rootName(all[root])
		if err != nil {
			return q.refused(err)
		}
		out["root_device_name"] = orNull(name)
		q.RootDeviceName = &name
		for i := range all {
			all[i].DeviceName = nil
		}
		info := infoOf(all, q.RootDeviceName)
		r, err := q.request(info)
		if err != nil {
			return nil, err
		}
		m, err := blockdev.Plan(r)
		if err != nil {
			return q.refused(err)
		}
		info.update(m)
	}
	named := make([]form, len(all))
	for i, b := range all {
		named[i] = form{"boot_index": b.BootIndex, "device_name": b.DeviceName, "disk_bus": b.DiskBus, "device_type": b.DeviceType}
	}
	out["bdms"] = named
	return out, nil
}

// rootName is the name of the root device: what it has, or the first of its bus.
func (q *disksQuestion) rootName(root bdm) (string, error) {
	switch {
	case orEmpty(root.DeviceName) != "":
		return *root.DeviceName, nil
	case orEmpty(q.RootDeviceName) != "":
		return *q.RootDeviceName, nil
	}
	wanted := root.wanted()
	r, err := q.request(blockInfo{})
	if err != nil {
		return "", err
	}
	r.Image, r.Ephemerals, r.Swap, r.ConfigDrive, r.Rescue = &wanted, nil, nil, "", nil
	m, err := blockdev.Plan(r)
	return blockdev.Path(m.Root.Name), err
}

func (q *disksQuestion) attachName() (any, error) {
	r, err := q.request(infoOf(q.bdms(), q.RootDeviceName))
	if err != nil {
		return nil, err
	}
	d, err := blockdev.Attach(r, q.New.wanted())
	if err != nil {
		return q.refused(err)
	}
	return form{"device_name": orNull(blockdev.Path(d.Name))}, nil
}

func (q *disksQuestion) refused(err error) (any, error) {
	refusal, err := q.refusal(err)
	return form{"error": refusal}, err
}

// refusal is an error of package blockdev as Nova says it; any other error is handed back.
func (q *disksQuestion) refusal(err error) (form, error) {
	var e *blockdev.Error
	if !errors.As(err, &e) {
		return nil, err
	}
	return form{"class": e.Class, "message": novaMessage(e, q.VirtType)}, nil
}

func novaMessage(e *blockdev.Error, virtType string) string {
	if virtType == "" {
		virtType = "kvm"
	}
	switch e.Class {
	case blockdev.UnsupportedHardware:
		return fmt.Sprintf("Requested hardware '%s' is not supported by the '%s' virt driver", e.Value, virtType)
	case blockdev.UnsupportedVirtType:
		return fmt.Sprintf("Virtualization type '%s' is not supported by this compute driver", e.Value)
	case blockdev.UnsupportedRescueBus:
		return fmt.Sprintf("Requested rescue bus '%s' is not supported by the '%s' virt driver", e.Value, virtType)
	case blockdev.UnsupportedRescueDevice:
		return fmt.Sprintf("Requested rescue device '%s' is not supported", e.Value)
	case blockdev.ConfigDriveUnknownFormat:
		return fmt.Sprintf("Unknown config drive format %s. Select one of iso9660 or vfat.", e.Value)
	case blockdev.TooManyDiskDevices:
		return tooManyMessage(e.Limit)
	case blockdev.AttributeError:
		return "ImageMetaProps object has no attribute 'hw_lun_bus'"
	case blockdev.InternalError:
		if e.Key == "device_name" {
			return fmt.Sprintf("Unable to determine disk bus for '%.1s'", e.Value)
		}
		if e.Value == "" {
			return "Unable to determine disk prefix for None"
		}
		return "Unable to determine disk prefix for " + e.Value
	}
	return e.Error()
}

func tooManyMessage(limit int) string {
	return fmt.Sprintf("The maximum allowed number of disk devices (%d) to attach to a single instance has been exceeded.", limit)
}
