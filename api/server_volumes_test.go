package api_test

import (
	"fmt"
	"strings"
	"testing"

	"compute-agent/compute"
	"compute-agent/internal/golden"
	"compute-agent/virt/fake"
)

// serverTalk is a conversation with the compute API about servers with volumes, in which what takes time has been done before the next step.
type serverTalk struct{ *conversation }

// volumeSite is a site with bob's server "server" on which are his volumes "v" and "x" of 1 GiB, "w", which is bootable and has 2 GiB, and "multi", of a type that several
// servers may have; eve has "hers". "snap" is a snapshot of w.
func volumeSite(t *testing.T) serverTalk {
	t.Helper()
	s := newSite(t)
	c := s.volumeTalk("3.67")
	s.addFlavor("1")
	s.want(200, request{as: admin, method: "POST", path: "/compute/v2.1/flavors",
		body: `{"flavor": {"id": "2", "name": "roomy", "ram": 64, "vcpus": 1, "disk": 1, "OS-FLV-EXT-DATA:ephemeral": 2, "swap": 16}}`})
	c.ids["image"] = s.addImage(admin, "tiny", "public")
	c.ids["private"] = s.addImage(eve, "hers", "private")
	c.ids["server"] = s.addServer(bob, "web", c.ids["image"], "1")
	c.ids["other"] = s.addServer(bob, "db", c.ids["image"], "1")
	c.say(
		step{admin, "POST", "/types", `{"volume_type": {"name": "shared", "extra_specs": {"multiattach": "<is> True"}}}`, "type"},
		step{bob, "POST", "/volumes", `{"volume": {"name": "v", "size": 1}}`, "v"},
		step{bob, "POST", "/volumes", `{"volume": {"name": "x", "size": 1}}`, "x"},
		step{bob, "POST", "/volumes", `{"volume": {"name": "w", "size": 2, "imageRef": "{image}"}}`, "w"},
		step{bob, "POST", "/volumes", `{"volume": {"name": "multi", "size": 1, "volume_type": "shared"}}`, "multi"},
		step{eve, "POST", "/volumes", `{"volume": {"name": "hers", "size": 1}}`, "hers"},
		step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "{w}"}}`, "snap"},
	)
	for _, name := range []string{"type", "v", "w", "multi", "hers", "snap"} {
		if c.ids[name] == "" {
			t.Fatalf("no %s:\n%s", name, c.out.String())
		}
	}
	c.out.Reset()
	c.base, c.version = "/compute/v2.1", ""
	return serverTalk(c)
}

func (c serverTalk) at(version string, steps ...step) {
	c.t.Helper()
	c.version = version
	for _, st := range steps {
		fmt.Fprintf(&c.out, "%s ", version)
		c.say(st)
		for _, name := range []string{"server", "other"} {
			c.settle(c.ids[name])
		}
		c.must(c.core.Idle(c.t.Context()))
	}
}

// A volume's way to a server and back, in the shapes of the microversions.
func TestServerVolumes(t *testing.T) {
	c := volumeSite(t)
	const all = "/servers/{server}/os-volume_attachments"
	c.at("2.1", step{bob, "GET", all, "", ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{v}"}}`, ""},
		step{bob, "GET", all, "", ""},
		step{bob, "GET", all + "/{v}", "", ""})
	c.at("2.79", step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{w}", "device": null, "tag": "blue", "delete_on_termination": true}}`, ""})
	c.at("2.60", step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{multi}"}}`, ""},
		step{bob, "POST", "/servers/{other}/os-volume_attachments", `{"volumeAttachment": {"volumeId": "{multi}"}}`, ""})
	for _, version := range []string{"2.69", "2.70", "2.78", "2.79", "2.88", "2.89"} {
		c.at(version, step{bob, "GET", all + "/{w}", "", ""})
	}
	c.at("2.75", step{bob, "GET", all + "?limit=1&offset=1", "", ""}, step{bob, "GET", all + "?limit=0&offset=9", "", ""})
	for _, version := range []string{"2.1", "2.3"} {
		view := c.show(bob, c.ids["server"], version)
		fmt.Fprintf(&c.out, "%s %v\n", version, c.told(fmt.Sprint(view["os-extended-volumes:volumes_attached"])))
	}
	c.at("2.85", step{bob, "PUT", all + "/{w}", `{"volumeAttachment": {"volumeId": "{w}", "delete_on_termination": false, "device": "/dev/vdc", "id": "{w}"}}`, ""},
		step{bob, "GET", all + "/{w}", "", ""},
		step{bob, "DELETE", all + "/{v}", "", ""},
		step{bob, "GET", all + "/{v}", "", ""},
		step{admin, "PUT", all + "/{w}", `{"volumeAttachment": {"volumeId": "{v}"}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{v}"}}`, ""})
	c.at("2.1", step{admin, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{x}"}}`, ""}, step{bob, "GET", all, "", ""})
	c.at("2.1", step{bob, "DELETE", all + "/{multi}", "", ""}, step{bob, "GET", all, "", ""})
	golden.Assert(t, "testdata/server_volumes.golden", c.out.String())
}

// What Nova refuses is refused with its words.
func TestServerVolumesRefused(t *testing.T) {
	c := volumeSite(t)
	const (
		all    = "/servers/{server}/os-volume_attachments"
		absent = "00000000-0000-4000-8000-000000000000"
	)
	c.at("2.79", step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{v}"}}`, ""})
	c.out.Reset()
	c.at("2.1",
		step{bob, "POST", all, `{}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "../x"}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{w}", "device": "vdb; reboot"}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{w}", "host": "x"}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{v}"}}`, ""},
		step{bob, "POST", "/servers/{other}/os-volume_attachments", `{"volumeAttachment": {"volumeId": "{v}"}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{multi}"}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{hers}"}}`, ""},
		step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "` + absent + `"}}`, ""},
		step{bob, "GET", all + "/{w}", "", ""},
		step{bob, "DELETE", all + "/{w}", "", ""},
		step{bob, "DELETE", all + "/nonsense", "", ""},
		step{bob, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{w}"}}`, ""},
		step{admin, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "` + absent + `"}}`, ""},
		step{admin, "PUT", all + "/{w}", `{"volumeAttachment": {"volumeId": "{v}"}}`, ""},
		step{admin, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{v}", "delete_on_termination": true}}`, ""},
		step{eve, "GET", all, "", ""},
		step{eve, "POST", all, `{"volumeAttachment": {"volumeId": "{hers}"}}`, ""},
		step{eve, "DELETE", all + "/{v}", "", ""},
	)
	c.at("2.48", step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{w}", "tag": "x"}}`, ""})
	c.at("2.49", step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{w}", "tag": "x/y"}}`, ""})
	c.at("2.78", step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{w}", "delete_on_termination": true}}`, ""})
	c.at("2.75", step{bob, "GET", all + "?colour=red", "", ""})
	c.at("2.85",
		step{bob, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{v}", "device": "/dev/vdq"}}`, ""},
		step{bob, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{v}", "tag": "new"}}`, ""},
		step{bob, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{v}", "id": "{w}"}}`, ""},
		step{bob, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{v}", "serverId": "{other}"}}`, ""},
		step{bob, "PUT", all + "/{w}", `{"volumeAttachment": {"volumeId": "{w}", "delete_on_termination": true}}`, ""},
	)
	golden.Assert(t, "testdata/server_volumes_refused.golden", c.out.String())
	if answer := c.want(200, request{as: bob, path: c.base + c.fill(all)}); len(answer["volumeAttachments"].([]any)) != 1 {
		t.Errorf("the server has %v", answer)
	}
}

// Servers that boot from volumes, or have them from the start.
func TestServersOfVolumes(t *testing.T) {
	for _, b := range []struct {
		name, version, server string
		image                 bool
		volumes               int
	}{
		{name: "a volume", server: `"block_device_mapping_v2": [{"boot_index": "0", "uuid": "{w}", "source_type": "volume", "destination_type": "volume"}]`, volumes: 1},
		{name: "a volume of an image", server: `"block_device_mapping_v2": [{"boot_index": 0, "uuid": "{image}", "source_type": "image", "destination_type": "volume",
			"volume_size": "3", "delete_on_termination": true}]`, volumes: 1},
		{name: "a volume of a snapshot", version: "2.67", server: `"imageRef": "", "block_device_mapping_v2": [{"boot_index": 0, "uuid": "{snap}", "source_type": "snapshot",
			"volume_type": "__DEFAULT__", "tag": "root"}]`, volumes: 1},
		{name: "an image and volumes", server: `"imageRef": "{image}", "block_device_mapping_v2": [
			{"boot_index": 0, "uuid": "{image}", "source_type": "image", "destination_type": "local", "delete_on_termination": true},
			{"uuid": "{v}", "source_type": "volume", "destination_type": "volume", "disk_bus": "scsi", "device_type": "disk", "boot_index": null, "device_name": "/dev/sda"},
			{"source_type": "blank", "destination_type": "volume", "volume_size": 1, "boot_index": -1, "delete_on_termination": true}]`, image: true, volumes: 2},
		{name: "the flavor's own disks", server: `"imageRef": "{image}", "block_device_mapping_v2": [
			{"boot_index": 0, "uuid": "{image}", "source_type": "image", "destination_type": "local"},
			{"source_type": "blank", "destination_type": "local", "volume_size": 2},
			{"source_type": "blank", "destination_type": "local", "volume_size": 16, "guest_format": "swap"}]`, image: true},
		{name: "legacy root", server: `"block_device_mapping": [{"device_name": "vda", "volume_id": "{w}"}, {"device_name": "vdb", "volume_id": "{v}"}]`, volumes: 2},
		{name: "legacy beside an image", server: `"imageRef": "{image}", "block_device_mapping": [{"device_name": "/dev/vdb", "snapshot_id": "{snap}", "delete_on_termination": "1"}]`,
			image: true, volumes: 1},
	} {
		t.Run(b.name, func(t *testing.T) {
			c := volumeSite(t)
			body := c.fill(`{"server": {"name": "new", "flavorRef": "2", "networks": [], ` + b.server + `}}`)
			answer := c.want(202, request{as: bob, method: "POST", path: "/compute/v2.1/servers", version: b.version, body: body})
			id := text(t, answer, "server", "id")
			c.settle(id)
			view := c.show(bob, id, "2.79")
			_, hasImage := view["image"].(map[string]any)
			if attached := view["os-extended-volumes:volumes_attached"].([]any); view["status"] != "ACTIVE" || hasImage != b.image || len(attached) != b.volumes {
				t.Errorf("%v %v image %v volumes %v", view["status"], view["fault"], view["image"], attached)
			}
			root := ""
			for _, at := range c.want(200, request{as: bob, path: "/compute/v2.1/servers/" + id + "/os-volume_attachments"})["volumeAttachments"].([]any) {
				if text(t, at, "device") == "/dev/vda" {
					root = text(t, at, "volumeId")
				}
			}
			if b.image == (root != "") {
				t.Errorf("the root disk is %q", root)
			}
			if root != "" {
				refused := c.want(400, request{as: bob, method: "DELETE", path: "/compute/v2.1/servers/" + id + "/os-volume_attachments/" + root})
				if text(t, refused, "badRequest", "message") != "Cannot detach a root device volume" {
					t.Errorf("%v", refused)
				}
			}
			c.want(204, request{as: bob, method: "DELETE", path: "/compute/v2.1/servers/" + id})
			c.settle(id)
			c.must(c.core.Idle(t.Context()))
			for _, v := range c.want(200, request{as: bob, path: "/volume/v3/volumes/detail"})["volumes"].([]any) {
				if text(t, v, "status") != "available" {
					t.Errorf("after the server's end: %v", v)
				}
			}
		})
	}
}

// Every wrong mapping is refused in Nova's words, and nothing is made or reserved.
func TestMappingsRefused(t *testing.T) {
	c := volumeSite(t)
	c.base, c.version = "/volume/v3", "3.67"
	volumeTalk(c).say(step{bob, "POST", "/snapshots", `{"snapshot": {"volume_id": "{v}"}}`, "plain"})
	c.base, c.version = "/compute/v2.1", ""
	c.must(c.core.Idle(t.Context()))
	var out strings.Builder
	count := func() string {
		servers, err := c.core.Servers(t.Context())
		c.must(err)
		volumes, err := c.core.Volumes(t.Context())
		c.must(err)
		attachments, err := c.core.VolumeAttachments(t.Context())
		c.must(err)
		var devices []compute.BlockDevice
		devices, err = c.core.AllBlockDevices(t.Context())
		c.must(err)
		return fmt.Sprintf("%d servers %d volumes %d attachments %d devices", len(servers), len(volumes), len(attachments), len(devices))
	}
	before := count()
	const image = `"imageRef": "{image}", `
	root := func(more string) string {
		return image + `"block_device_mapping_v2": [{"boot_index": 0, "uuid": "{image}", "source_type": "image", "destination_type": "local"}, ` + more + `]`
	}
	alone := func(device string) string { return `"block_device_mapping_v2": [` + device + `]` }
	for _, w := range []struct{ about, version, server string }{
		{"neither image nor mapping", "", `"imageRef": ""`},
		{"both syntaxes", "", image + `"block_device_mapping": [{"volume_id": "{v}"}], "block_device_mapping_v2": [{"uuid": "{v}", "source_type": "volume"}]`},
		{"nothing boots", "", alone(`{"uuid": "{w}", "source_type": "volume", "destination_type": "volume"}`)},
		{"an image and nothing at 0", "", image + alone(`{"uuid": "{w}", "source_type": "volume", "destination_type": "volume"}`)},
		{"two at 0", "", root(`{"boot_index": 0, "uuid": "{w}", "source_type": "volume", "destination_type": "volume"}`)},
		{"a gap in the order", "", root(`{"boot_index": 2, "uuid": "{w}", "source_type": "volume", "destination_type": "volume"}`)},
		{"boot_index is no number", "", alone(`{"boot_index": "first", "uuid": "{w}", "source_type": "volume"}`)},
		{"no UUID", "", root(`{"source_type": "volume", "destination_type": "volume"}`)},
		{"a blank with a UUID", "", root(`{"source_type": "blank", "destination_type": "volume", "uuid": "{v}", "volume_size": 1}`)},
		{"no source", "", root(`{"destination_type": "volume", "uuid": "{v}"}`)},
		{"an unknown source", "", root(`{"source_type": "tape", "uuid": "{v}"}`)},
		{"an unknown destination", "", root(`{"source_type": "volume", "destination_type": "cloud", "uuid": "{v}"}`)},
		{"an unknown field", "", root(`{"source_type": "volume", "uuid": "{v}", "colour": "red"}`)},
		{"a second image to the host", "", root(`{"source_type": "image", "destination_type": "local", "uuid": "{image}", "boot_index": 1}`)},
		{"an image to the host alone", "", alone(`{"boot_index": 0, "source_type": "image", "destination_type": "local", "uuid": "{image}"}`)},
		{"a volume to the host", "", root(`{"source_type": "volume", "destination_type": "local", "uuid": "{v}"}`)},
		{"a blank without a size", "", root(`{"source_type": "blank", "destination_type": "volume"}`)},
		{"an image without a size", "", alone(`{"boot_index": 0, "source_type": "image", "destination_type": "volume", "uuid": "{image}"}`)},
		{"a size that is no number", "", root(`{"source_type": "blank", "destination_type": "volume", "volume_size": "big"}`)},
		{"a size below a snapshot's", "", root(`{"source_type": "snapshot", "destination_type": "volume", "uuid": "{snap}", "volume_size": 1}`)},
		{"no such volume", "", root(`{"source_type": "volume", "destination_type": "volume", "uuid": "00000000-0000-4000-8000-000000000000"}`)},
		{"another's volume", "", root(`{"source_type": "volume", "destination_type": "volume", "uuid": "{hers}"}`)},
		{"a path for a volume", "", root(`{"source_type": "volume", "destination_type": "volume", "uuid": "../../etc"}`)},
		{"no such snapshot", "", root(`{"source_type": "snapshot", "destination_type": "volume", "uuid": "{v}"}`)},
		{"another's image", "", alone(`{"boot_index": 0, "source_type": "image", "destination_type": "volume", "uuid": "{private}", "volume_size": 1}`)},
		{"a volume that does not boot", "", alone(`{"boot_index": 0, "source_type": "volume", "destination_type": "volume", "uuid": "{v}"}`)},
		{"a snapshot of one that does not boot", "", alone(`{"boot_index": 0, "source_type": "snapshot", "destination_type": "volume", "uuid": "{plain}"}`)},
		{"the same volume twice", "", root(`{"source_type": "volume", "destination_type": "volume", "uuid": "{v}"}, {"source_type": "volume", "destination_type": "volume", "uuid": "{v}"}`)},
		{"a volume for several, too early", "2.59", root(`{"source_type": "volume", "destination_type": "volume", "uuid": "{multi}"}`)},
		{"a type too early", "2.66", root(`{"source_type": "blank", "destination_type": "volume", "volume_size": 1, "volume_type": "__DEFAULT__"}`)},
		{"no such type", "2.67", root(`{"source_type": "blank", "destination_type": "volume", "volume_size": 1, "volume_type": "gold"}`)},
		{"a type of a volume that is there", "2.67", root(`{"source_type": "volume", "destination_type": "volume", "uuid": "{v}", "volume_type": "__DEFAULT__"}`)},
		{"a type of a disk of the host", "2.67", root(`{"source_type": "blank", "destination_type": "local", "volume_type": "__DEFAULT__"}`)},
		{"a tag too early", "2.41", root(`{"source_type": "volume", "uuid": "{v}", "tag": "x"}`)},
		{"a bus that there is not", "", root(`{"source_type": "volume", "uuid": "{v}", "disk_bus": "isa"}`)},
		{"a bus that the guest has not", "", root(`{"source_type": "volume", "uuid": "{v}", "disk_bus": "fdc"}`)},
		{"a kind that there is not", "", root(`{"source_type": "volume", "uuid": "{v}", "device_type": "tape"}`)},
		{"a name with a space", "", root(`{"source_type": "volume", "uuid": "{v}", "device_name": "vdb c"}`)},
		{"the root's name", "", root(`{"source_type": "volume", "uuid": "{v}", "device_name": "/dev/vda"}`)},
		{"an ephemeral disk larger than the flavor's", "", root(`{"source_type": "blank", "destination_type": "local", "volume_size": 3}`)},
		{"two ephemeral disks", "", root(`{"source_type": "blank", "destination_type": "local", "volume_size": 1}, {"source_type": "blank", "destination_type": "local", "volume_size": 1}`)},
		{"an ephemeral disk with a file system", "", root(`{"source_type": "blank", "destination_type": "local", "guest_format": "ext4"}`)},
		{"an ephemeral disk on a bus", "", root(`{"source_type": "blank", "destination_type": "local", "disk_bus": "scsi"}`)},
		{"swap larger than the flavor's", "", root(`{"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 17}`)},
		{"swap smaller than the flavor's", "", root(`{"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 1}`)},
		{"swap twice", "", root(`{"source_type": "blank", "destination_type": "local", "guest_format": "swap"}, {"source_type": "blank", "destination_type": "local", "guest_format": "swap"}`)},
		{"legacy of nothing", "", image + `"block_device_mapping": [{"device_name": "vdb"}]`},
		{"legacy with the root's name", "", image + `"block_device_mapping": [{"device_name": "vda", "volume_id": "{w}"}]`},
		{"legacy without a root", "", `"block_device_mapping": [{"device_name": "vdb", "volume_id": "{w}"}]`},
	} {
		body := c.fill(`{"server": {"name": "new", "flavorRef": "2", "networks": [], ` + w.server + `}}`)
		res := c.send(request{as: bob, method: "POST", path: "/compute/v2.1/servers", version: w.version, body: body})
		if res.status < 400 {
			t.Errorf("%s: answered with %d %s", w.about, res.status, res.body)
		}
		fmt.Fprintf(&out, "%s: %d\n  %s\n", w.about, res.status, c.told(res.body))
	}
	golden.Assert(t, "testdata/mappings_refused.golden", out.String())
	if after := count(); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
}

// Nobody ends, or leads elsewhere, the attachment of a volume that a server has or is copied to, but the Compute API.
func TestAttachmentsOfServers(t *testing.T) {
	c := volumeSite(t)
	const all = "/servers/{server}/os-volume_attachments"
	c.at("2.89", step{bob, "POST", all, `{"volumeAttachment": {"volumeId": "{v}"}}`, ""})
	refused := func() {
		list, err := c.core.VolumeAttachments(t.Context())
		c.must(err)
		for _, at := range list {
			path := "/volume/v3/attachments/" + at.ID
			for _, r := range []request{{as: admin, method: "DELETE", path: path},
				{as: admin, method: "PUT", path: path, body: `{"attachment": {"connector": {"host": "other"}}}`}} {
				r.version = "3.67"
				if res := c.send(r); res.status != 409 || !strings.Contains(res.body, "using the Compute API") {
					t.Errorf("%s of an attachment of volume %s: %d %s", r.method, at.VolumeID, res.status, res.body)
				}
			}
		}
	}
	copied := false
	c.hv.Inject(fake.Fault{Method: "CopyDisk", Do: fake.Pass, OnStrike: func() { refused(); copied = true }})
	refused()
	c.at("2.89", step{admin, "PUT", all + "/{v}", `{"volumeAttachment": {"volumeId": "{x}"}}`, ""})
	if !copied {
		t.Errorf("nothing was copied:\n%s", c.out.String())
	}
}
