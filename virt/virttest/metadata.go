package virttest

import "compute-agent/virt"

var metadataPromises = group{"Metadata", []promise{
	{"SetMetadata replaces the metadata of a guest in any state, which does not notice", setMetadata, metadataSetter},
	{"SetMetadata: ErrInvalid when they contradict themselves", setBadMetadata, metadataSetter},
	{"SetMetadata: ErrNotFound if there is none", missingGuest(func(e *env, id string) error {
		return e.metadataSetter().SetMetadata(e.within(), id, virt.Metadata{})
	}), metadataSetter},
}}

func (e *env) metadataSetter() virt.MetadataSetter { return e.Driver.(virt.MetadataSetter) }

func setMetadata(e *env) {
	for _, s := range []virt.Spec{e.created(), e.running(), e.stopped()} {
		before := e.guest(s.ID)
		for _, name := range []string{"web", "'\"<&>\x00\xff\n"} {
			e.ok(e.metadataSetter().SetMetadata(e.within(), s.ID, virt.Metadata{Name: name}))
		}
		e.state(s.ID, before.State)
		w := e.watch(s.ID)
		e.ok(e.Driver.Destroy(e.within(), s.ID))
		if before.State != virt.PowerShutdown {
			w.expect(virt.EventStopped)
		}
		w.expect(virt.EventUndefined)
	}
}

func setBadMetadata(e *env) {
	s := e.created()
	e.fails(e.metadataSetter().SetMetadata(e.within(), s.ID, virt.Metadata{RootType: "stone"}), virt.ErrInvalid)
}
