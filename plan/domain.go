package plan

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"strings"

	"compute-agent/blockdev"
	"compute-agent/guest"
	"compute-agent/hwprops"
	"compute-agent/numa"
	"compute-agent/virt"
	"compute-agent/virt/libvirt"
)

// Domain answers how libvirt is to define a guest: from one question in Nova's form (what its libvirt driver is given, and
// what has been decided of the guest before) the domain's XML. The paths in it are those of Nova's hosts. libvirt's
// capabilities, where they are not empty, say which machine types the host has. The error is a *Refusal when the guest
// cannot be defined.
func Domain(question []byte, capabilities string) (string, error) {
	var f domainForm
	if err := json.Unmarshal(question, &f); err != nil {
		return "", &Refusal{Class: "Invalid", Message: "question: " + err.Error()}
	}
	request, err := f.request(capabilities)
	if err != nil {
		return "", refusalOf(err)
	}
	spec, err := guest.Define(request)
	if err != nil {
		return "", refusalOf(err)
	}
	if err := f.complete(&spec); err != nil {
		return "", refusalOf(err)
	}
	xml, err := libvirt.Render(spec)
	if err != nil {
		return "", refusalOf(err)
	}
	return strings.ReplaceAll(xml, ` dev="`+unknownInterface+`"`, ` dev="`+recordedInterface+`"`), nil
}

// Refusal is why a guest cannot be defined, with the name of the exception that Nova would raise.
type Refusal struct {
	Class, Message string
}

// Error returns class and message.
func (r *Refusal) Error() string { return r.Class + ": " + r.Message }

// JSON is the refusal in the form {"error": {"class", "message"}}.
func (r *Refusal) JSON() string {
	text, err := json.Marshal(map[string]any{"error": map[string]string{"class": r.Class, "message": r.Message}})
	if err != nil {
		return "{}" // cannot happen: strings
	}
	return string(text)
}

func refusalOf(err error) error {
	var ofGuest *guest.Error
	var ofNUMA *numa.Error
	var ofHardware *hwprops.Error
	var ofDrive *blockdev.Error
	class := "Invalid"
	switch {
	case errors.As(err, &ofGuest):
		class = ofGuest.Class
	case errors.As(err, &ofNUMA):
		class = ofNUMA.Class
	case errors.As(err, &ofHardware):
		class = ofHardware.Class
	case errors.As(err, &ofDrive):
		class = ofDrive.Class
	}
	return &Refusal{Class: class, Message: err.Error()}
}

// request is the question in the words of package guest.
func (f *domainForm) request(capabilities string) (guest.Request, error) {
	q := &f.Input
	conf := &reader{options: q.Conf}
	r := guest.Request{
		Server: q.server(q.Instance.name(f.Derived.Name)), Flavor: q.Flavor.flavor(),
		Image: guest.Image{Format: q.Image.Format, Properties: q.properties()},
		NUMA:  conf.numa(), Options: conf.guests(), DirectIO: true,
		Ports: q.ports(), PCI: q.pciDevices(), Mediated: q.mediated(), PMEM: q.nvdimms(),
		Host: q.Host.host(conf), TPMSecret: string(q.Instance.SystemMetadata["vtpm_secret_uuid"]),
	}
	if !q.Host.sev {
		maps.DeleteFunc(r.Flavor.ExtraSpecs, encrypts)
	}
	if err := setMachines(&r.Host, cmp.Or(capabilities, f.Derived.Capabilities)); err != nil {
		return r, err
	}
	if err := checkMachine(&r, q.Host.sev); err != nil {
		return r, err
	}
	s := conf.storage(q.Instance.UUID)
	r.ConsoleLog, r.SerialPorts = path.Join(s.instance, "console.log"), conf.serialPorts()
	f.kernels(&r, s.instance)
	if conf.err != nil {
		return r, conf.err
	}
	var err error
	if r.Cells, err = f.cells(r.NUMA); err != nil {
		return r, err
	}
	if r.Placed, err = f.placed(r.Cells, numa.Request{VCPUs: r.Flavor.VCPUs, MemoryMiB: r.Flavor.MemoryMiB, ExtraSpecs: r.Flavor.ExtraSpecs, Properties: r.Image.Properties}); err != nil {
		return r, err
	}
	places, err := f.places(&r, conf)
	if err != nil {
		return r, err
	}
	r.Drives, err = s.drives(places, q.Volumes)
	return r, err
}

// complete adds what Nova's driver looks up on a host.
func (f *domainForm) complete(s *virt.Spec) error {
	if s.Channels.GuestAgent {
		s.Channels.GuestAgentSocket = "/var/lib/libvirt/qemu/org.qemu.guest_agent.0." + s.Name + ".sock"
	}
	if s.TPM != nil && s.TPM.Secret == "" {
		return &guest.Error{Class: "Invalid", Key: "vtpm_secret_uuid", Rule: "a TPM needs a secret that encrypts its state"}
	}
	return f.Input.Host.check(s)
}

// kernels names the files of what is booted directly.
func (f *domainForm) kernels(r *guest.Request, folder string) {
	in := func(name, id, suffix string) string {
		if id == "" {
			return ""
		}
		return path.Join(folder, name+suffix)
	}
	i := &f.Input.Instance
	r.Server.Kernel, r.Server.Initrd = in("kernel", i.KernelID, ""), in("ramdisk", i.RamdiskID, "")
	if rescue := f.Input.Rescue; rescue != nil {
		p := r.Image.Properties
		r.Rescue = &guest.Rescue{Stable: p[blockdev.PropRescueBus] != "" || p[blockdev.PropRescueDevice] != "", Kernel: in("kernel", rescue.KernelID, ".rescue"), Initrd: in("ramdisk", rescue.RamdiskID, ".rescue")}
	}
}
