package guest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/virt"
)

func TestDisks(t *testing.T) {
	kinds := map[string]string{"file": "writethrough", "block": "writeback", "network": "directsync", "mount": "unsafe"}
	rbd := volume("vdb", "virtio", "1")
	rbd.Source = virt.Source{Network: &virt.NetworkSource{Protocol: "rbd", Name: "pool/v"}}
	asked := volume("vdb", "virtio", "1")
	asked.IO, asked.Discard, asked.Tune, asked.Alias = "io_uring", "unmap", virt.DiskTune{ReadIOPS: 7}, "ua-mine"
	shared := volume("vdb", "virtio", "1")
	shared.Shared = true
	lun := volume("sda", "scsi", "1")
	lun.Kind = "lun"
	mounted := volume("vdb", "virtio", "1")
	mounted.Source, mounted.SourceType = virt.Source{File: "/mnt/v"}, "mount"
	type facts struct{ Cache, IO, Discard, Serial, Alias string }
	const serial, alias = "44444444-4444-4444-4444-000000000001", "ua-44444444-4444-4444-4444-000000000001"
	for name, c := range map[string]struct {
		drive Drive
		more  func(*Request)
		want  facts
	}{
		"local":                     {rootDisk(), nil, facts{Cache: "none"}},
		"local, cached":             {rootDisk(), func(r *Request) { r.DirectIO = false }, facts{Cache: "writeback"}},
		"local, native":             {rootDisk(), with(func(o *Options) { o.NativeIO = true }), facts{Cache: "none", IO: "native"}},
		"local, native, cached":     {rootDisk(), func(r *Request) { r.DirectIO, r.Options.NativeIO = false, true }, facts{Cache: "writeback", IO: "threads"}},
		"local, operator's":         {rootDisk(), with(func(o *Options) { o.CacheModes, o.Discard = kinds, "ignore" }), facts{Cache: "writethrough", Discard: "ignore"}},
		"volume":                    {volume("vdb", "virtio", "1"), with(func(o *Options) { o.Discard = "unmap" }), facts{"none", "native", "", serial, alias}},
		"volume, by default":        {volume("vdb", "virtio", "1"), with(func(o *Options) { o.DefaultVolumeIO = true }), facts{"none", "", "", serial, alias}},
		"volume, no O_DIRECT":       {volume("vdb", "virtio", "1"), func(r *Request) { r.DirectIO = false }, facts{"none", "native", "", serial, alias}},
		"volume, operator's":        {volume("vdb", "virtio", "1"), with(func(o *Options) { o.CacheModes = kinds }), facts{"writeback", "threads", "", serial, alias}},
		"volume, connection's":      {asked, nil, facts{"none", "io_uring", "unmap", serial, "ua-mine"}},
		"volume of several servers": {shared, with(func(o *Options) { o.CacheModes = kinds }), facts{"none", "native", "", serial, alias}},
		"LUN":                       {lun, nil, facts{"none", "native", "", "", alias}},
		"rbd":                       {rbd, nil, facts{"none", "", "", serial, alias}},
		"rbd, operator's":           {rbd, with(func(o *Options) { o.CacheModes = kinds }), facts{"directsync", "", "", serial, alias}},
		"mounted, operator's":       {mounted, with(func(o *Options) { o.CacheModes = kinds }), facts{"unsafe", "threads", "", serial, alias}},
	} {
		r := change("quota:disk_read_iops_sec=5 quota:disk_read_iops_sec_max=6", func(r *Request) { r.Drives = []Drive{c.drive} })
		if c.more != nil {
			c.more(&r)
		}
		d := define(t, r).Disks[0]
		if got := (facts{d.Cache, d.IO, d.Discard, d.Serial, d.Alias}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		tune := c.drive.Tune // the flavor's limits are for the server's own drives
		if c.drive.Local() {
			tune = virt.DiskTune{ReadIOPS: 5, ReadIOPSMax: 6}
		}
		if d.Tune != tune {
			t.Errorf("%s: limits %+v, want %+v", name, d.Tune, tune)
		}
	}
}

func TestUnitNumbers(t *testing.T) {
	boot := volume("sda", "scsi", "1")
	boot.Boot = 1
	local := rootDisk()
	local.Target, local.Bus = "sda", "scsi"
	config := Drive{Role: RoleConfigDrive, Target: "hda", Bus: "ide", Kind: "cdrom", Source: virt.Source{File: "/c"}, Format: "raw"}
	for name, c := range map[string]struct {
		model  string
		drives []Drive
		want   []int // -1 for none
	}{
		"image":             {"virtio-scsi", []Drive{local, config, volume("sdb", "scsi", "1"), volume("sdc", "scsi", "2")}, []int{0, -1, 1, 2}},
		"volume":            {"virtio-scsi", []Drive{volume("sdb", "scsi", "2"), boot, volume("sdc", "scsi", "3")}, []int{1, 0, 2}},
		"a volume between":  {"virtio-scsi", []Drive{local, volume("vda", "virtio", "1"), volume("sdb", "scsi", "2")}, []int{0, -1, 2}},
		"another model":     {"lsilogic", []Drive{local, volume("sdb", "scsi", "1")}, []int{-1, -1}},
		"no model is named": {"", []Drive{local}, []int{-1}},
	} {
		words := ""
		if c.model != "" {
			words = "hw_disk_bus=scsi hw_scsi_model=" + c.model
		}
		spec := define(t, change(words, func(r *Request) { r.Drives = c.drives }))
		var got []int
		for _, d := range spec.Disks {
			unit := -1
			if d.Unit != nil {
				unit = *d.Unit
			}
			got = append(got, unit)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || spec.SCSI != c.model {
			t.Errorf("%s: controller %q (-want +got)\n%s", name, spec.SCSI, diff)
		}
	}
}

func TestPlugs(t *testing.T) {
	const tap = "tapd3c1d3f0-50"
	bridge := virt.Attachment{Type: "bridge", Bridge: "br-int"}
	hybrid := virt.Attachment{Type: "bridge", Bridge: "qbrd3c1d3f0-5a"}
	function := virt.Attachment{Type: "hostdev", Address: "0000:81:10.1", Managed: true}
	socket := virt.Attachment{Type: "vhostuser", Socket: "/run/vhu", Mode: "server"}
	onFunction := virt.Attachment{Type: "direct", Device: "enp129s16f1", Mode: "passthrough", VLAN: 100}
	tapOnly := virt.Attachment{Type: "ethernet"}
	virtio := func(a virt.Attachment, target string, mtu int) virt.NIC {
		return virt.NIC{Attach: a, Target: target, Model: "virtio", MTU: mtu}
	}
	for name, c := range map[string]struct {
		port func(*Port)
		want virt.NIC
	}{
		"bridge":             {func(p *Port) { p.VIFType = "bridge" }, virtio(bridge, tap, 1450)},
		"no device":          {func(p *Port) { p.VIFType, p.Device = "bridge", "" }, virtio(bridge, "nicd3c1d3f0-5a", 1450)},
		"ovs":                {func(*Port) {}, virtio(virt.Attachment{Type: "bridge", Bridge: "br-int", Port: "d3c1d3f0-5a8b-4a53-b54e-4f3b8c6a7e10"}, tap, 1450)},
		"ovs, named":         {func(p *Port) { p.Details.InterfaceID = "11111111-1111-1111-1111-111111111111" }, virtio(virt.Attachment{Type: "bridge", Bridge: "br-int", Port: "11111111-1111-1111-1111-111111111111"}, tap, 1450)},
		"delegated":          {func(p *Port) { p.Delegated = true }, virtio(tapOnly, tap, 1450)},
		"ovs, made":          {func(p *Port) { p.Details.CreateTap = true }, virtio(virt.Attachment{Type: "ethernet", Existing: true}, tap, 1450)},
		"hybrid":             {func(p *Port) { p.Delegated, p.Details.Hybrid = true, true }, virtio(hybrid, tap, 1450)},
		"ovs, function":      {func(p *Port) { p.VNICType, p.PCISlot = "direct", "0000:81:10.1" }, virt.NIC{Attach: function}},
		"smart NIC":          {func(p *Port) { p.VNICType, p.PCISlot = "remote-managed", "0000:81:10.1" }, virt.NIC{Attach: function}},
		"vdpa":               {func(p *Port) { p.VNICType, p.PhysDev = "vdpa", "/dev/vhost-vdpa-0" }, virtio(virt.Attachment{Type: "vdpa", Device: "/dev/vhost-vdpa-0"}, "", 0)},
		"ivs":                {func(p *Port) { p.VIFType = "ivs" }, virtio(tapOnly, tap, 1450)},
		"ivs, hybrid":        {func(p *Port) { p.VIFType, p.Details.Hybrid = "ivs", true }, virtio(hybrid, tap, 1450)},
		"vrouter":            {func(p *Port) { p.VIFType = "vrouter" }, virtio(tapOnly, tap, 1450)},
		"vrouter, forwarder": {func(p *Port) { p.VIFType, p.VNICType, p.Details.Socket = "vrouter", "virtio-forwarder", "/run/vhu" }, virtio(socket, tap, 0)},
		"agilio":             {func(p *Port) { p.VIFType, p.VNICType, p.Details.Socket = "agilio_ovs", "virtio-forwarder", "/run/vhu" }, virtio(socket, tap, 0)},
		"vhost-user":         {func(p *Port) { p.VIFType, p.Details.Socket = "vhostuser", "/run/vhu" }, virtio(socket, tap, 0)},
		"vhost-user of ovs": {func(p *Port) {
			p.VIFType, p.Details = "vhostuser", PortDetails{Socket: "/run/vhu", SocketMode: "client", VhostUserOVS: true}
		}, virtio(virt.Attachment{Type: "vhostuser", Socket: "/run/vhu", Mode: "client"}, "vhud3c1d3f0-5a", 0)},
		"SR-IOV": {func(p *Port) {
			p.VIFType, p.VNICType, p.PCISlot, p.Details.VLAN = "hw_veb", "direct", "0000:81:10.1", 100
		},
			virt.NIC{Attach: virt.Attachment{Type: "hostdev", Address: "0000:81:10.1", Managed: true, VLAN: 100}}},
		"SR-IOV, macvtap": {func(p *Port) {
			p.VIFType, p.VNICType, p.PCISlot, p.PhysDev, p.Details.VLAN = "hw_veb", "macvtap", "0000:81:10.1", "enp129s16f1", 100
		}, virt.NIC{Attach: onFunction, Model: "virtio", Driver: "vhost"}},
		"802.1Qbh": {func(p *Port) {
			p.VIFType, p.VNICType, p.PCISlot, p.Details.ProfileID = "802.1qbh", "direct", "0000:81:10.1", "gold"
		},
			virt.NIC{Attach: virt.Attachment{Type: "hostdev", Address: "0000:81:10.1", Managed: true, Profile: "gold"}}},
		"macvtap": {func(p *Port) {
			p.VIFType, p.Details = "macvtap", PortDetails{MacvtapSource: "eth1.100", MacvtapMode: "bridge", PhysicalDevice: "eth1", VLAN: 100}
		}, virtio(virt.Attachment{Type: "direct", Device: "eth1.100", Mode: "bridge"}, "", 0)},
		"tap":     {func(p *Port) { p.VIFType = "tap" }, virtio(virt.Attachment{Type: "ethernet", Existing: true}, tap, 1450)},
		"midonet": {func(p *Port) { p.VIFType = "midonet" }, virtio(tapOnly, tap, 0)},
		"iovisor": {func(p *Port) { p.VIFType = "iovisor" }, virtio(tapOnly, tap, 0)},
	} {
		p := port("ovs")
		c.port(&p)
		c.want.MAC = p.MAC
		spec := define(t, change("", func(r *Request) { r.Ports = []Port{p} }))
		if diff := cmp.Diff([]virt.NIC{c.want}, spec.NICs); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	p := port("hostdev_physical")
	p.PCISlot = "0000:81:00.0"
	spec := define(t, change("", func(r *Request) { r.Ports = []Port{p} }))
	if diff := cmp.Diff([]virt.PCIDevice{{Address: "0000:81:00.0", Managed: true}}, spec.PCI); diff != "" || len(spec.NICs) > 0 {
		t.Errorf("a whole device: %+v (-want +got)\n%s", spec.NICs, diff)
	}
}

func TestPlugRefuses(t *testing.T) {
	for class, vifType := range map[string]string{
		"InternalError": "binding_failed", "NovaException": "hyperv", "VifDetailsMissingVhostuserSockPath": "vhostuser",
		"VifDetailsMissingMacvtapParameters": "macvtap",
	} {
		_, err := Define(change("", func(r *Request) { r.Ports = []Port{port(vifType)} }))
		var refused *Error
		if !errors.As(err, &refused) || refused.Class != class {
			t.Errorf("%s: %v, want %s", vifType, err, class)
		}
	}
}

func TestInterfaceModel(t *testing.T) {
	rings := with(func(o *Options) { o.RXQueueSize, o.TXQueueSize = 512, 256 })
	qemu := func(r *Request) { r.Host.VirtType = "qemu" }
	queues := "hw:vif_multiqueue_enabled=yes"
	type facts struct {
		Model, Driver  string
		Queues, RX, TX int
		Packed         bool
	}
	for name, c := range map[string]struct {
		r       Request
		vifType string
		want    facts
	}{
		"plain":                   {plain(), "ovs", facts{Model: "virtio"}},
		"qemu":                    {change("", qemu), "ovs", facts{Model: "virtio", Driver: "qemu"}},
		"image's":                 {change("hw_vif_model=e1000 "+queues, rings), "ovs", facts{Model: "e1000"}},
		"hypervisor's":            {change(queues, rings, with(func(o *Options) { o.HypervisorNICs = true })), "ovs", facts{}},
		"queues":                  {change(queues), "ovs", facts{Model: "virtio", Driver: "vhost", Queues: 2}},
		"queues, at most":         {change(queues, func(r *Request) { r.Flavor.VCPUs = 8 }, with(func(o *Options) { o.MaxQueues = 4 })), "ovs", facts{Model: "virtio", Driver: "vhost", Queues: 4}},
		"queues of Linux":         {change(queues, func(r *Request) { r.Flavor.VCPUs = 300 }), "ovs", facts{Model: "virtio", Driver: "vhost", Queues: 256}},
		"queues for one":          {change(queues, func(r *Request) { r.Flavor.VCPUs = 1 }), "ovs", facts{Model: "virtio"}},
		"queues, emulated":        {change(queues, qemu), "ovs", facts{Model: "virtio", Driver: "qemu"}},
		"rings":                   {change("", rings), "ovs", facts{Model: "virtio", Driver: "vhost", RX: 512}},
		"rings, emulated":         {change("", rings, qemu), "ovs", facts{Model: "virtio", Driver: "qemu", RX: 512}},
		"vhost-user":              {change(queues, rings), "vhostuser", facts{Model: "virtio", Queues: 2, RX: 512, TX: 256}},
		"vhost-user, not virtio":  {change("hw_vif_model=e1000", rings), "vhostuser", facts{Model: "e1000"}},
		"packed":                  {change("hw_virtio_packed_ring=yes"), "ovs", facts{Model: "virtio", Packed: true}},
		"packed, not virtio":      {change("hw_virtio_packed_ring=yes hw_vif_model=igb"), "ovs", facts{Model: "igb"}},
		"only of emulated guests": {change("hw_vif_model=lan9118", qemu), "ovs", facts{Model: "lan9118"}},
	} {
		p := port(c.vifType)
		p.Details.Socket = "/run/vhu"
		c.r.Ports = []Port{p}
		n := define(t, c.r).NICs[0]
		if got := (facts{n.Model, n.Driver, n.Queues, n.RxRing, n.TxRing, n.Packed}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestBandwidth(t *testing.T) {
	out := &virt.Bandwidth{Outbound: virt.Rate{Average: 10, Peak: 20, Burst: 30}}
	limits := "quota:vif_outbound_average=10 quota:vif_outbound_peak=20 quota:vif_outbound_burst=30 quota:vif_inbound_peak=5"
	for vifType, c := range map[string]struct {
		words string
		want  *virt.Bandwidth
	}{
		"bridge": {limits, out}, "ovs": {limits, out}, "macvtap": {limits, out}, "vhostuser": {limits, nil}, "hw_veb": {limits, nil}, "tap": {limits, nil},
		"ivs": {"quota:vif_outbound_peak=20", nil},
	} {
		p := port(vifType)
		p.Details = PortDetails{Socket: "/run/vhu", MacvtapSource: "eth1", MacvtapMode: "bridge", PhysicalDevice: "eth1"}
		if vifType == "hw_veb" {
			p.VNICType, p.PCISlot = "direct", "0000:81:10.1"
		}
		got := define(t, change(c.words, func(r *Request) { r.Ports = []Port{p} })).NICs[0].Bandwidth
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", vifType, diff)
		}
	}
}

func TestSerial(t *testing.T) {
	log := virt.SerialPort{Type: "pty", Log: "/state/1/console.log"}
	kept := log
	kept.AppendLog = true
	tcp := func(o *Options) { o.SerialConsole = "10.1.1.1" }
	ports := func(r *Request) { r.SerialPorts = []int{10000, 10001, 10002} }
	sockets := func(o *Options) { o.SerialSockets = true }
	socketAt := func(r *Request) { r.SerialSocket = "/state/1/serial" }
	first := virt.SerialPort{Type: "tcp", Host: "10.1.1.1", Port: 10000, Log: log.Log}
	for name, c := range map[string]struct {
		r    Request
		want []virt.SerialPort
	}{
		"one":     {change("hw:serial_port_count=3"), []virt.SerialPort{log}},
		"kept":    {change("", with(func(o *Options) { o.AppendConsoleLog = true })), []virt.SerialPort{kept}},
		"listens": {change("", ports, with(tcp)), []virt.SerialPort{first}},
		"several": {change("hw:serial_port_count=2", ports, with(tcp)), []virt.SerialPort{first, {Type: "tcp", Host: "10.1.1.1", Port: 10001}}},
		"sockets": {change("hw:serial_port_count=2", with(sockets), socketAt), []virt.SerialPort{
			{Type: "unix", Path: "/state/1/serial0", Log: log.Log}, {Type: "unix", Path: "/state/1/serial1"}}},
		"one socket":    {change("", with(sockets), socketAt), []virt.SerialPort{{Type: "unix", Path: "/state/1/serial0", Log: log.Log}}},
		"no log":        {change("", with(sockets), socketAt, func(r *Request) { r.ConsoleLog = "" }), []virt.SerialPort{{Type: "unix", Path: "/state/1/serial0"}}},
		"image's fewer": {change("hw:serial_port_count=3 hw_serial_port_count=1", ports, with(tcp)), []virt.SerialPort{first}},
	} {
		if diff := cmp.Diff(c.want, define(t, c.r).Serial); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestScreen(t *testing.T) {
	vnc, spice := virt.Graphics{Type: "vnc", Listen: "127.0.0.1"}, virt.Graphics{Type: "spice", Listen: "::1"}
	both := with(func(o *Options) { o.SPICE = "::1" })
	spiceOnly := with(func(o *Options) { o.VNC, o.SPICE = "", "::1" })
	noAgent := with(func(o *Options) { o.NoSPICEAgent = true })
	mouse := with(func(o *Options) { o.PointerModel = "ps2mouse" })
	dark := with(func(o *Options) { o.VNC = "" })
	tablet, virtioTablet := virt.Input{Type: "tablet", Bus: "usb"}, virt.Input{Type: "tablet", Bus: "virtio"}
	keyboard, virtioKeyboard := virt.Input{Type: "keyboard", Bus: "usb"}, virt.Input{Type: "keyboard", Bus: "virtio"}
	type facts struct {
		Graphics []virt.Graphics
		Video    *virt.Video
		Inputs   []virt.Input
		Channel  bool
		USB      string
	}
	virtio := &virt.Video{Model: "virtio"}
	for name, c := range map[string]struct {
		r    Request
		want facts
	}{
		"VNC":              {plain(), facts{[]virt.Graphics{vnc}, virtio, []virt.Input{tablet}, false, ""}},
		"both":             {change("", both), facts{[]virt.Graphics{vnc, spice}, virtio, []virt.Input{tablet}, true, ""}},
		"SPICE":            {change("", spiceOnly), facts{[]virt.Graphics{spice}, virtio, nil, true, "none"}},
		"SPICE, no agent":  {change("", spiceOnly, noAgent), facts{[]virt.Graphics{spice}, virtio, []virt.Input{tablet}, false, ""}},
		"mouse":            {change("", mouse), facts{[]virt.Graphics{vnc}, virtio, nil, false, "none"}},
		"image's pointer":  {change("hw_pointer_model=usbtablet", mouse), facts{[]virt.Graphics{vnc}, virtio, []virt.Input{tablet}, false, ""}},
		"image's bus":      {change("hw_input_bus=virtio", mouse), facts{[]virt.Graphics{vnc}, virtio, []virt.Input{virtioTablet, virtioKeyboard}, false, "none"}},
		"image's card":     {change("hw_video_model=vga hw_video_ram=16 hw_video:ram_max_mb=16"), facts{[]virt.Graphics{vnc}, &virt.Video{Model: "vga", RAMMiB: 16}, []virt.Input{tablet}, false, ""}},
		"power":            {change("hw_emulation_architecture=ppc64le"), facts{[]virt.Graphics{vnc}, &virt.Video{Model: "vga"}, []virt.Input{tablet}, false, ""}},
		"aarch64":          {change("hw_emulation_architecture=aarch64"), facts{[]virt.Graphics{vnc}, virtio, []virt.Input{tablet, keyboard}, false, ""}},
		"dark":             {change("hw_video_model=vga hw_input_bus=usb", dark), facts{USB: "none"}},
		"dark power":       {change("hw_emulation_architecture=ppc64le", dark), facts{}},
		"chosen USB":       {change("hw:usb_model=qemu-xhci", dark), facts{USB: "qemu-xhci"}},
		"USB for a tablet": {change("hw:usb_model=qemu-xhci"), facts{[]virt.Graphics{vnc}, virtio, []virt.Input{tablet}, false, ""}},
		"USB for sound":    {change("hw:sound_model=usb", dark), facts{}},
		"USB for a drive": {change("", dark, func(r *Request) {
			stick := volume("sda", "usb", "1")
			r.Drives = append(r.Drives, stick)
		}), facts{}},
		"USB for viewers": {change("hw:redirected_usb_ports=1", spiceOnly), facts{[]virt.Graphics{spice}, virtio, nil, true, ""}},
	} {
		s := define(t, c.r)
		if diff := cmp.Diff(c.want, facts{s.Graphics, s.Video, s.Inputs, s.Channels.SPICE, s.USB.Controller}); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestOtherDevices(t *testing.T) {
	virtual := virt.IOMMU{Model: "virtio"}
	for name, c := range map[string]struct {
		r    Request
		got  func(virt.Spec) any
		want any
	}{
		"RNG":               {plain(), func(s virt.Spec) any { return *s.RNG }, virt.RNG{Source: "/dev/urandom"}},
		"RNG, operator's":   {change("", with(func(o *Options) { o.RNG = "/dev/hwrng" })), func(s virt.Spec) any { return *s.RNG }, virt.RNG{Source: "/dev/hwrng"}},
		"RNG, limited":      {change("hw_rng:rate_bytes=10 hw_rng:rate_period=20"), func(s virt.Spec) any { return *s.RNG }, virt.RNG{Source: "/dev/urandom", Bytes: 10, Period: 20}},
		"RNG, period alone": {change("hw_rng:rate_period=20"), func(s virt.Spec) any { return *s.RNG }, virt.RNG{Source: "/dev/urandom"}},
		"no RNG":            {change("hw_rng:allowed=no"), func(s virt.Spec) any { return s.RNG == nil }, true},
		"balloon":           {plain(), func(s virt.Spec) any { return s.Balloon }, virt.Balloon{Period: 10 * time.Second, AutoDeflate: true, FreePageReporting: true}},
		"no balloon":        {change("", with(func(o *Options) { o.StatsPeriod = -1 })), func(s virt.Spec) any { return s.Balloon }, virt.Balloon{None: true}},
		"watchdog, image's": {change("hw:watchdog_action=reset hw_watchdog_action=pause"), func(s virt.Spec) any { return s.Watchdog }, "pause"},
		"no watchdog":       {change("hw:watchdog_action=disabled"), func(s virt.Spec) any { return s.Watchdog }, ""},
		"agent":             {change("hw_qemu_guest_agent=yes"), func(s virt.Spec) any { return s.Channels.GuestAgent }, true},
		"agent for all":     {change("", with(func(o *Options) { o.GuestAgent = true })), func(s virt.Spec) any { return s.Channels.GuestAgent }, true},
		"no agent":          {plain(), func(s virt.Spec) any { return s.Channels.GuestAgent }, false},
		"TPM":               {change("hw:tpm_version=1.2"), func(s virt.Spec) any { return *s.TPM }, virt.TPM{Version: "1.2", Model: "tpm-tis"}},
		"ports":             {change("hw_machine_type=pc-q35-7.2", with(func(o *Options) { o.RootPorts = 8 })), func(s virt.Spec) any { return s.RootPorts }, 8},
		"SPICE over TLS": {change("", with(func(o *Options) { o.VNC, o.SPICE, o.SPICEServer.Secure = "", "::1", true })),
			func(s virt.Spec) any { return s.Graphics }, []virt.Graphics{{Type: "spice", Listen: "::1", SPICE: virt.SPICE{Secure: true}}}},
		"perf events, and one of an old kernel's": {change("", with(func(o *Options) { o.PerfEvents = []string{"cache_misses", "cmt", "cpu_cycles"} })),
			func(s virt.Spec) any { return s.PerfEvents }, []string{"cpu_cycles", "cache_misses"}},
		"no ports on pc":     {change("", with(func(o *Options) { o.RootPorts = 8 })), func(s virt.Spec) any { return s.RootPorts }, 0},
		"IOMMU":              {change("hw_machine_type=q35 hw:viommu_model=auto"), func(s virt.Spec) any { return *s.IOMMU }, virtual},
		"IOMMU, old libvirt": {change("hw_machine_type=q35 hw:viommu_model=auto", func(r *Request) { r.Host.LibraryVersion = 8_002_999 }), func(s virt.Spec) any { return s.IOMMU.Model }, "intel"},
		"IOMMU, aarch64":     {change("hw_emulation_architecture=aarch64 hw:viommu_model=auto", func(r *Request) { r.Host.LibraryVersion = 8_002_999 }), func(s virt.Spec) any { return s.IOMMU.Model }, "smmuv3"},
		"serial number":      {plain(), func(s virt.Spec) any { return s.SMBIOS.Serial }, "cb6d28b6-2f1a-4d2c-a2b3-1f0c6ae6a3f4"},
		"no serial number":   {change("", with(func(o *Options) { o.Serial = "none" })), func(s virt.Spec) any { return s.SMBIOS.Serial }, ""},
		"host's number":      {change("", func(r *Request) { r.HostSerial, r.Options.Serial = "abc", "os" }), func(s virt.Spec) any { return s.SMBIOS.Serial }, "abc"},
		"NVDIMM": {change("hw:pmem=4GB hw:numa_nodes=1", twoCells, func(r *Request) { r.PMEM = []virt.NVDIMM{{Path: "/dev/dax0.0", SizeKiB: 4 << 20}} }),
			func(s virt.Spec) any { return len(s.NVDIMMs) }, 1},
	} {
		if diff := cmp.Diff(c.want, c.got(define(t, c.r))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}
