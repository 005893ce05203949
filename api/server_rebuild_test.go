package api_test

import (
	"testing"

	"compute-agent/compute"
	"compute-agent/internal/golden"
)

// A server is rebuilt, rescued and unrescued, in the shapes of the microversions.
func TestServerRebuild(t *testing.T) {
	c := volumeSite(t)
	const act = "/servers/{server}/action"
	c.at("2.1",
		step{bob, "POST", "/servers/{server}/os-volume_attachments", `{"volumeAttachment": {"volumeId": "{v}"}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "name": "anew", "metadata": {"a": "b"}, "accessIPv4": "192.0.2.1"}}`, ""},
		step{bob, "GET", "/servers/{server}/os-volume_attachments", "", ""})
	c.at("2.57", step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "description": "d", "key_name": null, "user_data": "YQ==", "adminPass": "secret"}}`, ""})
	c.at("2.75", step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "description": null, "user_data": null, "adminPass": "secret"}}`, ""})
	c.at("2.1", step{bob, "POST", act, `{"rescue": {"adminPass": "secret"}}`, ""},
		step{bob, "GET", "/servers/{server}", "", ""},
		step{bob, "GET", "/servers?status=RESCUE", "", ""},
		step{bob, "POST", act, `{"rescue": null}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}"}}`, ""},
		step{bob, "POST", "/servers/{server}/os-volume_attachments", `{"volumeAttachment": {"volumeId": "{x}"}}`, ""},
		step{bob, "POST", act, `{"unrescue": null}`, ""},
		step{bob, "POST", act, `{"unrescue": null}`, ""})
	golden.Assert(t, "testdata/server_rebuild.golden", c.out.String())
}

// What cannot be is refused with the field's name.
func TestServerRebuildRefused(t *testing.T) {
	c := volumeSite(t)
	const (
		act    = "/servers/{server}/action"
		absent = "00000000-0000-4000-8000-000000000000"
	)
	c.at("2.1",
		step{bob, "POST", act, `{"rebuild": {}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "../x"}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "` + absent + `"}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{private}"}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "description": "d"}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "preserve_ephemeral": true}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "personality": [{"path": "/x", "contents": "YQ=="}]}}`, ""},
		step{bob, "POST", act, `{"rescue": {"rescue_image_ref": "x"}}`, ""},
		step{bob, "POST", act, `{"rescue": {"rescue_image_ref": "` + absent + `"}}`, ""},
		step{bob, "POST", act, `{"rescue": {"rescue_image_ref": "{private}"}}`, ""},
		step{bob, "POST", act, `{"rescue": {"image": "x"}}`, ""},
		step{bob, "POST", act, `{"unrescue": null}`, ""},
		step{eve, "POST", act, `{"rescue": null}`, ""})
	c.at("2.54", step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "user_data": "YQ=="}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "key_name": "none"}}`, ""})
	c.at("2.57", step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "user_data": "!"}}`, ""},
		step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "personality": []}}`, ""})
	c.at("2.63", step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "trusted_image_certificates": ["x"]}}`, ""})
	c.at("2.89", step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}", "hostname": "x"}}`, ""})
	golden.Assert(t, "testdata/server_rebuild_refused.golden", c.out.String())
}

// A server that boots from a volume is rebuilt of the volume's image alone, and rescued from 2.87 on.
func TestServerOfAVolumeRescued(t *testing.T) {
	c := volumeSite(t)
	const act = "/servers/{booted}/action"
	c.at("2.87", step{bob, "POST", "/servers", `{"server": {"name": "booted", "flavorRef": "1", "networks": "none", "imageRef": "",
		"block_device_mapping_v2": [{"boot_index": 0, "uuid": "{w}", "source_type": "volume", "destination_type": "volume"}]}}`, "booted"})
	c.settle(c.ids["booted"])
	c.ids["rescuer"] = c.addImage(bob, "rescuer", "private")
	c.must(c.store.Update(t.Context(), func(tx compute.Writer) error {
		img, err := tx.Image(c.ids["rescuer"])
		if err != nil {
			return err
		}
		img.Properties = map[string]string{"hw_rescue_bus": "virtio", "hw_rescue_device": "disk"}
		return tx.PutImage(img)
	}))
	c.out.Reset()
	const rescue = `{"rescue": {"rescue_image_ref": "{rescuer}"}}`
	c.at("2.86", step{bob, "POST", act, rescue, ""})
	c.at("2.87", step{bob, "POST", act, `{"rescue": null}`, ""}, step{bob, "POST", act, rescue, ""})
	c.settle(c.ids["booted"])
	c.at("2.87", step{bob, "POST", act, `{"unrescue": null}`, ""})
	c.settle(c.ids["booted"])
	c.at("2.87", step{bob, "POST", act, `{"rebuild": {"imageRef": "{rescuer}"}}`, ""}, step{bob, "POST", act, `{"rebuild": {"imageRef": "{image}"}}`, ""})
	c.settle(c.ids["booted"])
	golden.Assert(t, "testdata/server_of_volume_rescued.golden", c.out.String())
}
