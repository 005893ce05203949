package cinder_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"compute-agent/cinder"
)

// refused checks an error's words and its class.
func refused(t *testing.T, name string, err error, class, words string) {
	t.Helper()
	var why *cinder.Refusal
	switch {
	case words == "" && err == nil:
	case !errors.As(err, &why) || why.Class != class || words == "" || !strings.Contains(err.Error(), words):
		t.Errorf("%s: %v, want %s with %q", name, err, class, words)
	}
}

func many(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprint("k", i)] = "v"
	}
	return all
}

func TestVolumeRequests(t *testing.T) {
	for name, c := range map[string]struct {
		r            cinder.VolumeRequest
		class, words string
	}{
		"plain":             {cinder.VolumeRequest{SizeGiB: 1, Name: "data ü", Metadata: map[string]string{"a:b.c-d e": "v"}}, "", ""},
		"of an image":       {cinder.VolumeRequest{ImageID: "i"}, "", ""},
		"the largest":       {cinder.VolumeRequest{SizeGiB: 1<<31 - 1}, "", ""},
		"too large":         {cinder.VolumeRequest{SizeGiB: 1 << 31}, "InvalidInput", `size="2147483648"`},
		"negative":          {cinder.VolumeRequest{SizeGiB: -1}, "InvalidInput", `size="-1"`},
		"of nothing":        {cinder.VolumeRequest{}, "InvalidInput", "needs a size"},
		"two sources":       {cinder.VolumeRequest{ImageID: "i", SourceID: "v"}, "InvalidInput", "at most one of imageRef"},
		"a long name":       {cinder.VolumeRequest{SizeGiB: 1, Name: strings.Repeat("ü", 256)}, "InvalidInput", "256 characters"},
		"as long":           {cinder.VolumeRequest{SizeGiB: 1, Name: strings.Repeat("ü", 255)}, "", ""},
		"a name on lines":   {cinder.VolumeRequest{SizeGiB: 1, Name: "a\nb"}, "InvalidInput", "cannot be printed"},
		"lines":             {cinder.VolumeRequest{SizeGiB: 1, Description: "a\nb"}, "", ""},
		"not UTF-8":         {cinder.VolumeRequest{SizeGiB: 1, Name: "\xff"}, "InvalidInput", "not UTF-8"},
		"a key":             {cinder.VolumeRequest{SizeGiB: 1, Metadata: map[string]string{"a/b": "v"}}, "InvalidVolumeMetadata", `metadata="a/b"`},
		"an empty key":      {cinder.VolumeRequest{SizeGiB: 1, Metadata: map[string]string{"": "v"}}, "InvalidVolumeMetadata", "a key has"},
		"a long value":      {cinder.VolumeRequest{SizeGiB: 1, Metadata: map[string]string{"k": strings.Repeat("x", 256)}}, "InvalidVolumeMetadataSize", "metadata.k="},
		"as many metadata":  {cinder.VolumeRequest{SizeGiB: 1, Metadata: many(128)}, "", ""},
		"too many metadata": {cinder.VolumeRequest{SizeGiB: 1, Metadata: many(129)}, "InvalidVolumeMetadata", "129 are more than 128"},
	} {
		refused(t, name, c.r.Check(), c.class, c.words)
	}
}

func TestDrafts(t *testing.T) {
	luks := &cinder.Encryption{ID: "e", Provider: "luks", KeySize: 256}
	plain, secret := cinder.Type{ID: "t", Name: "plain"}, cinder.Type{ID: "s", Name: "secret", Encryption: luks}
	shared := cinder.Type{ID: "m", Name: "shared", ExtraSpecs: map[string]string{"multiattach": "<is> True"}}
	elsewhere := cinder.Type{ID: "x", Name: "elsewhere", ExtraSpecs: map[string]string{"volume_backend_name": "lvm"}}
	img := &cinder.Image{ID: "i", Active: true, SHA256: "sum", MinDiskGiB: 2, Bytes: 3<<30 + 1, Metadata: map[string]string{"k": "v"}}
	whole := &cinder.Image{ID: "i", Active: true, Bytes: 1 << 30}
	v := &cinder.Volume{ID: "v", Status: cinder.Available, SizeGiB: 4, Backend: "local", Bootable: true, ImageMetadata: map[string]string{"k": "v"}}
	hidden := &cinder.Volume{ID: "h", Status: cinder.Available, SizeGiB: 4, Encryption: &cinder.Encryption{ID: "other", Provider: "luks", KeySize: 256}}
	snap := &cinder.Snapshot{ID: "n", Status: cinder.Available, SizeGiB: 3}
	busy := &cinder.Volume{ID: "v", Status: cinder.Extending, SizeGiB: 4}
	for name, c := range map[string]struct {
		r            cinder.VolumeRequest
		t            cinder.Type
		from         cinder.Sources
		want         string // size bootable backend
		class, words string
	}{
		"blank":             {cinder.VolumeRequest{SizeGiB: 5}, plain, cinder.Sources{}, "5 false ", "", ""},
		"of an image":       {cinder.VolumeRequest{ImageID: "i"}, plain, cinder.Sources{Image: img}, "4 true ", "", ""},
		"not active":        {cinder.VolumeRequest{ImageID: "i"}, plain, cinder.Sources{Image: &cinder.Image{}}, "", "InvalidInput", "not active"},
		"below min_disk":    {cinder.VolumeRequest{ImageID: "i", SizeGiB: 1}, plain, cinder.Sources{Image: img}, "", "InvalidInput", "minDisk size 2GB"},
		"below the disk":    {cinder.VolumeRequest{ImageID: "i", SizeGiB: 3}, plain, cinder.Sources{Image: img}, "", "InvalidInput", "size of specified image 4GB is larger"},
		"no header's room":  {cinder.VolumeRequest{ImageID: "i", SizeGiB: 1}, secret, cinder.Sources{Image: whole}, "", "InvalidInput", "ask for 2 GiB"},
		"a header's room":   {cinder.VolumeRequest{ImageID: "i", SizeGiB: 2}, secret, cinder.Sources{Image: whole}, "2 true ", "", ""},
		"not to be written": {cinder.VolumeRequest{ImageID: "i", SizeGiB: 2}, cinder.Type{Encryption: &cinder.Encryption{Provider: "luks2"}}, cinder.Sources{Image: whole}, "", "InvalidInput", "luks only, not luks2"},
		"clone":             {cinder.VolumeRequest{SourceID: "v"}, plain, cinder.Sources{Volume: v}, "4 true local", "", ""},
		"larger clone":      {cinder.VolumeRequest{SourceID: "v", SizeGiB: 9}, plain, cinder.Sources{Volume: v}, "9 true local", "", ""},
		"smaller clone":     {cinder.VolumeRequest{SourceID: "v", SizeGiB: 3}, plain, cinder.Sources{Volume: v}, "", "InvalidInput", "smaller than original volume size 4GB"},
		"busy":              {cinder.VolumeRequest{SourceID: "v"}, plain, cinder.Sources{Volume: busy}, "", "InvalidVolume", "current status is extending"},
		"elsewhere":         {cinder.VolumeRequest{SourceID: "v"}, elsewhere, cinder.Sources{Volume: v}, "", "InvalidInput", "on backend lvm"},
		"to encrypt a copy": {cinder.VolumeRequest{SourceID: "v"}, secret, cinder.Sources{Volume: v}, "", "InvalidInput", "encryption"},
		"to decrypt a copy": {cinder.VolumeRequest{SourceID: "v"}, plain, cinder.Sources{Volume: hidden}, "", "InvalidInput", "encryption"},
		"encrypted as it":   {cinder.VolumeRequest{SourceID: "v"}, secret, cinder.Sources{Volume: hidden}, "4 false ", "", ""},
		"of a snapshot":     {cinder.VolumeRequest{SnapshotID: "n"}, plain, cinder.Sources{Volume: v, Snapshot: snap}, "3 true local", "", ""},
		"below it":          {cinder.VolumeRequest{SnapshotID: "n", SizeGiB: 2}, plain, cinder.Sources{Volume: v, Snapshot: snap}, "", "InvalidInput", "smaller than the snapshot size 3GB"},
		"of none yet":       {cinder.VolumeRequest{SnapshotID: "n"}, plain, cinder.Sources{Volume: v, Snapshot: &cinder.Snapshot{Status: cinder.Creating}}, "", "InvalidSnapshot", "current status is creating"},
		"multiattach":       {cinder.VolumeRequest{SizeGiB: 1, Multiattach: true}, shared, cinder.Sources{}, "1 false ", "", ""},
		"by word of mouth":  {cinder.VolumeRequest{SizeGiB: 1, Multiattach: true}, plain, cinder.Sources{}, "", "InvalidInput", "only a volume type"},
	} {
		got, err := cinder.Draft(c.r, c.t, c.from)
		refused(t, name, err, c.class, c.words)
		if text := fmt.Sprint(got.SizeGiB, " ", got.Bootable, " ", got.Backend); err == nil && (text != c.want || got.Status != cinder.Creating || got.TypeID != c.t.ID) {
			t.Errorf("%s: %q of %+v, want %q", name, text, got, c.want)
		}
	}
	got, _ := cinder.Draft(cinder.VolumeRequest{SizeGiB: 1}, secret, cinder.Sources{})
	if got.Encryption.Provider = "changed"; luks.Provider != "luks" {
		t.Error("the volume shares its encryption with its type")
	}
}

func TestTypes(t *testing.T) {
	encryption := func(change func(*cinder.Encryption)) cinder.Type {
		e := cinder.Encryption{Provider: "luks", Location: "front-end", Cipher: "aes-xts-plain64", KeySize: 256}
		change(&e)
		return cinder.Type{Name: "n", Encryption: &e}
	}
	specs := func(key, value string) cinder.Type {
		return cinder.Type{Name: "n", ExtraSpecs: map[string]string{key: value}}
	}
	both := encryption(func(*cinder.Encryption) {})
	both.ExtraSpecs = map[string]string{"multiattach": "<is> True"}
	for name, c := range map[string]struct {
		t            cinder.Type
		class, words string
	}{
		"plain":               {cinder.Type{Name: "n"}, "", ""},
		"no name":             {cinder.Type{Name: " "}, "InvalidInput", "cannot be empty"},
		"a name taken":        {cinder.Type{Name: "taken"}, "VolumeTypeExists", "already exists"},
		"a backend":           {specs("volume_backend_name", "local"), "", ""},
		"no backend":          {specs("volume_backend_name", "ceph"), "InvalidVolumeType", `volume_backend_name="ceph": there is no such backend: local, lvm`},
		"multiattach":         {specs("multiattach", "<is> True"), "", ""},
		"in other words":      {specs("multiattach", "true"), "InvalidVolumeType", `"<is> True" or "<is> False"`},
		"another's spec":      {specs("vendor:tier", "gold"), "", ""},
		"a key":               {specs("a/b", "v"), "InvalidVolumeType", "extra_specs"},
		"a value":             {specs("k", "a\nb"), "InvalidInput", "extra_specs.k"},
		"encrypted":           {encryption(func(*cinder.Encryption) {}), "", ""},
		"encrypted, shared":   {both, "InvalidVolumeType", "cannot be encrypted"},
		"no such provider":    {encryption(func(e *cinder.Encryption) { e.Provider = "nova.volume.encryptors" }), "VolumeTypeEncryptionInvalid", "provider"},
		"by the backend":      {encryption(func(e *cinder.Encryption) { e.Location = "back-end" }), "VolumeTypeEncryptionInvalid", "control_location"},
		"a cipher's option":   {encryption(func(e *cinder.Encryption) { e.Cipher = "--x" }), "VolumeTypeEncryptionInvalid", "cipher"},
		"a key of odd length": {encryption(func(e *cinder.Encryption) { e.KeySize = 255 }), "VolumeTypeEncryptionInvalid", "key_size"},
	} {
		refused(t, name, c.t.Check([]cinder.Type{{ID: "o", Name: "taken"}}, []string{"local", "lvm"}), c.class, c.words)
	}
}

func TestTypesChangeAndGo(t *testing.T) {
	volumes := []cinder.Volume{{ID: "v", TypeID: "t"}}
	before := cinder.Type{ID: "t", Name: "n", ExtraSpecs: map[string]string{"volume_backend_name": "local"}}
	for name, c := range map[string]struct {
		change       func(*cinder.Type)
		class, words string
	}{
		"its name":       {func(t *cinder.Type) { t.Name = "m" }, "", ""},
		"another spec":   {func(t *cinder.Type) { t.ExtraSpecs = map[string]string{"volume_backend_name": "local", "x": "y"} }, "", ""},
		"its backend":    {func(t *cinder.Type) { t.ExtraSpecs = nil }, "VolumeTypeInUse", "volume_backend_name"},
		"its encryption": {func(t *cinder.Type) { t.Encryption = &cinder.Encryption{} }, "VolumeTypeInUse", "encryption"},
	} {
		after := before
		c.change(&after)
		refused(t, name, after.CheckChange(before, volumes), c.class, c.words)
		refused(t, name+", unused", after.CheckChange(before, nil), "", "")
	}
	refused(t, "in use", before.CheckDelete("d", volumes), "VolumeTypeInUse", "like v")
	refused(t, "the default", before.CheckDelete("n", nil), "VolumeTypeDefaultDeletionError", "default volume type")
	refused(t, "unused", before.CheckDelete("d", nil), "", "")
}

func TestFindType(t *testing.T) {
	types := []cinder.Type{{ID: "1", Name: "__DEFAULT__", Public: true}, {ID: "2", Name: "gold", Projects: []string{"p"}}, {ID: "3", Name: "1", Public: true}}
	for _, c := range []struct{ word, project, want string }{
		{"", "p", "1"}, {"gold", "p", "2"}, {"2", "p", "2"}, {"gold", "q", ""}, {"2", "q", ""}, {"silver", "p", ""}, {"1", "q", "1"},
	} {
		got, err := cinder.FindType(types, c.word, "__DEFAULT__", c.project)
		if got.ID != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q of %s: %q, %v, want %q", c.word, c.project, got.ID, err, c.want)
		}
	}
}

func TestQoS(t *testing.T) {
	front := func(specs ...string) cinder.QoS {
		q := cinder.QoS{Name: "n", Consumer: "front-end", Specs: map[string]string{}}
		for i := 0; i < len(specs); i += 2 {
			q.Specs[specs[i]] = specs[i+1]
		}
		return q
	}
	back := front("vendor", "anything")
	back.Consumer = "back-end"
	for name, c := range map[string]struct {
		q            cinder.QoS
		class, words string
	}{
		"a limit":            {front("total_iops_sec", "100"), "", ""},
		"per GiB":            {front("read_bytes_sec_per_gb", "100", "read_bytes_sec_per_gb_min", "1000"), "", ""},
		"a burst":            {front("write_iops_sec", "10", "write_iops_sec_max", "20"), "", ""},
		"no such limit":      {front("iops", "100"), "InvalidQoSSpecs", `iops="100"`},
		"a burst per GiB":    {front("total_iops_sec_max_per_gb", "1"), "InvalidQoSSpecs", "knows no such limit"},
		"no number":          {front("total_iops_sec", "fast"), "InvalidQoSSpecs", "whole number"},
		"negative":           {front("total_iops_sec", "-1"), "InvalidQoSSpecs", "whole number"},
		"total and read":     {front("total_iops_sec", "1", "read_iops_sec", "1"), "InvalidQoSSpecs", "cannot stand beside read_iops_sec"},
		"per GiB and write":  {front("total_bytes_sec_per_gb", "1", "write_bytes_sec", "1"), "InvalidQoSSpecs", "cannot stand beside write_bytes_sec"},
		"burst, no limit":    {front("read_iops_sec_max", "1"), "InvalidQoSSpecs", "read_iops_sec_max"},
		"burst below":        {front("read_iops_sec", "2", "read_iops_sec_max", "1"), "InvalidQoSSpecs", "below"},
		"size without limit": {front("size_iops_sec", "4096"), "InvalidQoSSpecs", "size_iops_sec"},
		"size and a limit":   {front("size_iops_sec", "4096", "read_iops_sec", "5"), "", ""},
		"a backend's":        {back, "", ""},
		"nobody's":           {cinder.QoS{Name: "n", Consumer: "x"}, "InvalidQoSSpecs", "consumer"},
		"a name taken":       {cinder.QoS{Name: "taken", Consumer: "both"}, "QoSSpecsExists", "already exists"},
		"no name":            {cinder.QoS{Consumer: "both"}, "InvalidInput", "cannot be empty"},
	} {
		refused(t, name, c.q.Check([]cinder.QoS{{ID: "o", Name: "taken"}}), c.class, c.words)
	}
	q := front("total_iops_sec_per_gb", "3", "total_iops_sec_per_gb_min", "10", "total_bytes_sec", "0", "size_iops_sec", "512")
	for gib, want := range map[int]string{1: "10", 3: "10", 4: "12", 1 << 31: "6442450944"} {
		if got := fmt.Sprint(q.Limits(gib)); got != "map[size_iops_sec:512 total_iops_sec:"+want+"]" {
			t.Errorf("%d GiB: %s, want %s", gib, got, want)
		}
	}
	q = front("read_bytes_sec_per_gb", "281474976710655", "read_bytes_sec_max", "0", "read_iops_sec_per_gb", "10", "read_iops_sec_max", "50", "write_iops_sec", "7", "write_iops_sec_max", "8")
	refused(t, "a burst above what a small volume has", q.Check(nil), "", "")
	for gib, want := range map[int]string{
		1: "map[read_bytes_sec:281474976710655 read_iops_sec:10 read_iops_sec_max:50 write_iops_sec:7 write_iops_sec_max:8]",
		6: "map[read_bytes_sec:1000000000000000 read_iops_sec:60 read_iops_sec_max:60 write_iops_sec:7 write_iops_sec_max:8]",
	} {
		if got := fmt.Sprint(q.Limits(gib)); got != want {
			t.Errorf("%d GiB: %s, want %s", gib, got, want)
		}
	}
	if got := back.Limits(1); got != nil {
		t.Errorf("the hypervisor keeps %v", got)
	}
	refused(t, "in use", cinder.QoS{ID: "q"}.CheckDelete([]cinder.Type{{QoSID: "q", Name: "gold"}}), "QoSSpecsInUse", "gold")
}

func TestQuotas(t *testing.T) {
	volumes := []cinder.Volume{{ProjectID: "p", SizeGiB: 5}, {ProjectID: "p", SizeGiB: 5, NewGiB: 7}, {ProjectID: "q", SizeGiB: 100}}
	has := cinder.UsageOf("p", volumes, []cinder.Snapshot{{ProjectID: "p", SizeGiB: 1}, {ProjectID: "q", SizeGiB: 1}})
	if has != (cinder.Usage{Volumes: 2, Snapshots: 1, Gigabytes: 13}) {
		t.Errorf("%+v", has)
	}
	none := cinder.Quotas{Volumes: -1, Snapshots: -1, Gigabytes: -1}
	for name, c := range map[string]struct {
		err          error
		class, words string
	}{
		"one more":           {cinder.Quotas{Volumes: 3, Gigabytes: 14}.CheckVolume(has, 1), "", ""},
		"too many":           {cinder.Quotas{Volumes: 2, Gigabytes: 100}.CheckVolume(has, 1), "VolumeLimitExceeded", "(2)"},
		"too large":          {cinder.Quotas{Volumes: 3, Gigabytes: 13}.CheckVolume(has, 1), "VolumeSizeExceedsAvailableQuota", "requested 1G, quota is 13G and 13G has been consumed"},
		"no snapshot":        {cinder.Quotas{Snapshots: 1, Gigabytes: 100}.CheckSnapshot(has, 1), "SnapshotLimitExceeded", "(1)"},
		"a snapshot's size":  {cinder.Quotas{Snapshots: 2, Gigabytes: 13}.CheckSnapshot(has, 1), "VolumeSizeExceedsAvailableQuota", "gigabytes"},
		"no limit":           {none.CheckVolume(has, 1<<31-1), "", ""},
		"no limit, snapshot": {none.CheckSnapshot(has, 1<<31-1), "", ""},
	} {
		refused(t, name, c.err, c.class, c.words)
	}
}

func TestSchedule(t *testing.T) {
	pools := []cinder.Pool{
		{Backend: "local", Kind: "local", FreeGiB: 10, Up: true, Copies: true, Encryption: []string{"luks"}}, {Backend: "lvm", FreeGiB: 20, Up: true, Multiattach: true},
		{Backend: "down", FreeGiB: 999, Problem: "no such group"}, {Backend: "luns", FreeGiB: 30, LargestGiB: 5, Up: true},
	}
	named := cinder.Type{Name: "t", ExtraSpecs: map[string]string{"volume_backend_name": "local"}}
	for name, c := range map[string]struct {
		v           cinder.Volume
		t           cinder.Type
		want, words string
	}{
		"the most room":  {cinder.Volume{SizeGiB: 6}, cinder.Type{}, "lvm", ""},
		"fits a LUN":     {cinder.Volume{SizeGiB: 5}, cinder.Type{}, "luns", ""},
		"the type's":     {cinder.Volume{SizeGiB: 1}, named, "local", ""},
		"its source's":   {cinder.Volume{SizeGiB: 1, Backend: "local", SourceID: "v"}, cinder.Type{}, "local", ""},
		"shared":         {cinder.Volume{SizeGiB: 1, Multiattach: true}, cinder.Type{}, "lvm", ""},
		"encrypted":      {cinder.Volume{SizeGiB: 1, Encryption: &cinder.Encryption{Provider: "luks"}}, cinder.Type{}, "local", ""},
		"no room":        {cinder.Volume{SizeGiB: 21}, cinder.Type{}, "", "local: 10 GiB are free; lvm: 20 GiB are free; down: it is down; luns: the largest that is free has 5 GiB"},
		"no room there":  {cinder.Volume{SizeGiB: 11}, named, "", "lvm: the volume type asks for local"},
		"not encrypted":  {cinder.Volume{SizeGiB: 1, Encryption: &cinder.Encryption{Provider: "plain"}}, cinder.Type{}, "", "cannot make volumes with encryption plain"},
		"no copies":      {cinder.Volume{SizeGiB: 1, Backend: "lvm", SnapshotID: "s"}, cinder.Type{}, "", "lvm: it cannot copy volumes"},
		"several of one": {cinder.Volume{SizeGiB: 1, Multiattach: true}, named, "", "several servers"},
	} {
		p, err := cinder.Schedule(c.v, c.t, pools)
		refused(t, name, err, "NoValidBackend", c.words)
		if p.Backend != c.want {
			t.Errorf("%s: %s, want %s", name, p.Backend, c.want)
		}
	}
	_, err := cinder.Schedule(cinder.Volume{}, cinder.Type{}, nil)
	refused(t, "no backend", err, "NoValidBackend", "there is none")
}

// An image may say more than a volume's user: what it said stands in the way of no change.
func TestImageMetadataChanges(t *testing.T) {
	image := many(136)
	image["a/b"], image["long"] = "v", strings.Repeat("x", 65535)
	with := func(change func(map[string]string)) map[string]string {
		all := maps.Clone(image)
		change(all)
		return all
	}
	before := cinder.Volume{ID: "v", Status: cinder.Available, ImageMetadata: image}
	for name, c := range map[string]struct {
		after        map[string]string
		class, words string
	}{
		"none":          {image, "", ""},
		"one goes":      {with(func(m map[string]string) { delete(m, "long") }), "", ""},
		"one changes":   {with(func(m map[string]string) { m["long"] = "short" }), "", ""},
		"one more":      {with(func(m map[string]string) { m["more"] = "v" }), "InvalidVolumeMetadata", "139 are more than 128"},
		"one is longer": {with(func(m map[string]string) { m["k1"] = strings.Repeat("x", 256) }), "InvalidVolumeMetadataSize", "volume_image_metadata.k1="},
		"a bad key":     {with(func(m map[string]string) { delete(m, "a/b"); m["b/c"] = "v" }), "InvalidVolumeMetadata", "b/c"},
	} {
		after := before
		after.Name, after.ImageMetadata = "renamed", c.after
		refused(t, name, after.CheckChange(before, nil), c.class, c.words)
	}
}

func TestExtensions(t *testing.T) {
	v := cinder.Volume{ID: "v", Status: cinder.Available, SizeGiB: 2}
	for gib, words := range map[int]string{3: "", 1<<31 - 1: "", 2: "greater than current size (current: 2)", -1: "greater than current size", 1 << 31: "at most 2147483647"} {
		refused(t, fmt.Sprint(gib), v.CheckExtend(gib), "InvalidInput", words)
	}
}
