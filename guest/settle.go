package guest

import (
	"maps"

	"compute-agent/blockdev"
)

// The image properties that a server keeps for as long as it lives, as in Nova. A later version of the agent or of the
// hypervisor, or another configuration, may choose otherwise for new servers.
const (
	propMachineType  = "hw_machine_type"
	propVideoModel   = "hw_video_model"
	propVIFModel     = "hw_vif_model"
	propPointerModel = "hw_pointer_model"
	propInputBus     = "hw_input_bus"
)

// Settle decides what the guests of a new server keep: by image property, what Define chooses now; places are where its
// drives go. The machine type is the one behind an alias, where the host tells it: pc-i440fx-7.2 for pc. A property that
// is there and empty is kept too: no pointer, or a NIC that is left to the hypervisor.
func (r *Request) Settle(places blockdev.Mapping) (map[string]string, error) {
	d, err := begin(r)
	if err != nil {
		return nil, err
	}
	settled := map[string]string{
		propMachineType:       r.Host.CanonicalMachine(d.arch, d.machine),
		blockdev.PropDiskBus:  string(places.DiskBus),
		blockdev.PropCDROMBus: string(places.CDROMBus),
		propVideoModel:        d.videoModel(),
		propVIFModel:          d.nicModel(),
		propPointerModel:      "",
		propInputBus:          d.pointerBus(),
	}
	if settled[propInputBus] != "" {
		settled[propPointerModel] = "usbtablet"
	}
	return settled, nil
}

// Properties are the image properties that the guest is defined by: those settled for the server come before the
// image's own.
func (r *Request) Properties() map[string]string {
	if r.Settled == nil {
		return r.Image.Properties
	}
	properties := maps.Clone(r.Image.Properties)
	if properties == nil {
		properties = map[string]string{}
	}
	for key, value := range r.Settled {
		// An image that names the bus of its inputs asks for a keyboard on it; a pointer alone does not.
		if value != "" && key != propPointerModel && key != propInputBus {
			properties[key] = value
		}
	}
	return properties
}
