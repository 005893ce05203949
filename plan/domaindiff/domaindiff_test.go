package domaindiff

import (
	"slices"
	"testing"
)

func parse(t *testing.T, text string) Domain {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDifferences(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		want []string
	}{
		"order of attributes and children": {
			`<domain type="kvm"><cpu mode="custom"><topology cores="1" sockets="2"/><feature name="vmx"/></cpu></domain>`,
			`<domain type="kvm"><cpu mode="custom" match="exact"><feature policy="require" name="vmx"/><topology sockets="2" cores="1"/></cpu></domain>`, nil},
		"units":          {`<domain><memory unit="MiB">2048</memory></domain>`, `<domain><memory>2097152</memory></domain>`, nil},
		"another size":   {`<domain><memory unit="MiB">2048</memory></domain>`, `<domain><memory>2048</memory></domain>`, []string{"memory"}},
		"size of a cell": {`<domain><cpu><numa><cell id="0" memory="2" unit="GiB"/></numa></cpu></domain>`, `<domain><cpu><numa><cell id="0" memory="2097152"/></numa></cpu></domain>`, nil},
		"what libvirt adds": {
			`<domain><on_crash>destroy</on_crash><devices><controller type="usb" index="0"/><memballoon model="virtio"/></devices></domain>`,
			`<domain><devices/></domain>`, nil},
		"what is not libvirt's own":  {`<domain><on_crash>restart</on_crash></domain>`, `<domain/>`, []string{"on_crash"}},
		"no USB":                     {`<domain><devices><controller type="usb" index="0" model="none"/></devices></domain>`, `<domain/>`, []string{"devices/controller"}},
		"order of drives":            {`<domain><devices><disk><target dev="vda"/></disk><disk><target dev="vdb"/></disk></devices></domain>`, `<domain><devices><disk><target dev="vdb"/></disk><disk><target dev="vda"/></disk></devices></domain>`, []string{"devices/disk"}},
		"order of kinds of devices":  {`<domain><devices><sound model="ich6"/><video/></devices></domain>`, `<domain><devices><video/><sound model="ich6"/></devices></domain>`, nil},
		"where a screen listens":     {`<domain><devices><graphics type="vnc" listen="::1"/></devices></domain>`, `<domain><devices><graphics type="vnc"><listen type="address" address="::1"/></graphics></devices></domain>`, nil},
		"generated and users' names": {`<domain><devices><disk><alias name="virtio-disk0"/></disk></devices></domain>`, `<domain><devices><disk/></devices></domain>`, nil},
		"a user's name":              {`<domain><devices><disk><alias name="ua-1"/></disk></devices></domain>`, `<domain><devices><disk/></devices></domain>`, []string{"devices/disk"}},
		"the domain's type":          {`<domain type="kvm"/>`, `<domain type="qemu"/>`, []string{"domain"}},
		"the maker's version": {
			`<domain><metadata>a</metadata><sysinfo><system><entry name="version">1</entry></system></sysinfo></domain>`,
			`<domain><sysinfo><system><entry name="version">2</entry></system></sysinfo></domain>`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Differences(parse(t, c.a), parse(t, c.b)); !slices.Equal(got, c.want) {
				t.Errorf("%v differ, want %v", got, c.want)
			}
		})
	}
}

const acceptedList = `
- {section: features, nova: '<smm><state>on</state></smm>', ours: '<smm state="on"/>', why: it is valid}
- {section: devices/disk, in: disk, ours: '<driver type="raw"/>', why: it is stated}
- {section: devices/rng, nova: '<rng/>', why: there is none}
- {section: os, cases: [b], ours: '<boot/>', why: there is another}
- {cases: [b, c], refused: Invalid, why: it is wrong}
- {section: clock, ours: '<clock offset="utc"/>', why: there is one}
`

func TestJudge(t *testing.T) {
	list, err := ReadAccepted([]byte(acceptedList))
	if err != nil {
		t.Fatal(err)
	}
	old := parse(t, `<domain><features><acpi/><smm><state>on</state></smm></features><devices><rng/><disk><target/></disk></devices></domain>`)
	newer := parse(t, `<domain><iothreads>1</iothreads><devices/></domain>`)
	for name, c := range map[string]struct {
		got    string
		differ []string
		used   []int
	}{
		"accepted":              {`<domain><clock offset="utc"/><features><acpi/><smm state="on"/></features><devices><disk><target/><driver type="raw"/></disk></devices></domain>`, nil, []int{5, 1, 0}},
		"of either":             {`<domain><iothreads>1</iothreads><devices><rng/></devices></domain>`, nil, nil},
		"too much is like none": {`<domain><features><acpi/><smm state="on"/><pae/></features></domain>`, []string{"features"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			differ, used := Judge("a", parse(t, c.got), []Domain{old, newer}, list)
			if !slices.Equal(differ, c.differ) || !slices.Equal(used, c.used) {
				t.Errorf("%v differ, %v were used; want %v and %v", differ, used, c.differ, c.used)
			}
		})
	}
}

func TestRefusalOf(t *testing.T) {
	list, err := ReadAccepted([]byte(acceptedList))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[[2]string]int{{"c", "Invalid"}: 4, {"a", "Invalid"}: -1, {"b", "Other"}: -1, {"b", ""}: -1} {
		if got := RefusalOf(name[0], name[1], list); got != want {
			t.Errorf("%v: %d, want %d", name, got, want)
		}
	}
	got := parse(t, `<domain><os><type/></os><boot/></domain>`)
	if differ, _ := Judge("a", got, []Domain{parse(t, `<domain><os><type/></os></domain>`)}, list); len(differ) != 1 {
		t.Errorf("%v differ", differ)
	}
}

func TestReadAcceptedRefuses(t *testing.T) {
	for _, text := range []string{
		`- {section: os, nova: '<a/>'}`,
		`- {refused: Invalid, why: because}`,
		`- {refused: Invalid, cases: [a], section: os, why: because}`,
		`- {nova: '<a/>', why: because}`,
		`- {section: os, why: because}`,
		`- {section: os, nova: '<a/>', in: b, why: because}`,
		`- {section: os, nova: '<a>', why: because}`,
		`- {section: os, ours: '<a/><b/>', why: because}`,
		`- {section: os, other: 1, ours: '<a/>', why: because}`,
	} {
		if _, err := ReadAccepted([]byte(text)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "<domain>", "text", "<a/><b/>"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
