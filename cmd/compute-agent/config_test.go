package main

import (
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"compute-agent/internal/cpuset"
	"compute-agent/internal/golden"
	"compute-agent/numa"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// load reads a configuration as the commands do, from a file's text, an environment and arguments.
func load(t *testing.T, file string, env, args []string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addConfigFlags(flags)
	if err := flags.Parse(append([]string{"--config", path}, args...)); err != nil {
		t.Fatal(err)
	}
	return loadConfig(flags, env)
}

func TestFlagsWinOverEnvironmentOverFileOverDefaults(t *testing.T) {
	const file, env, flag = "log_level: error", "COMPUTE_AGENT_LOG_LEVEL=warn", "--log-level=debug"
	for _, c := range []struct {
		file      string
		env, args []string
		want      string
		origin    string
	}{
		{"", nil, nil, "info", "default"},
		{file, nil, nil, "error", "test.yaml:1"},
		{file, []string{env}, nil, "warn", "environment COMPUTE_AGENT_LOG_LEVEL"},
		{file, []string{env}, []string{flag}, "debug", "flag --log-level"},
		{"", nil, []string{flag}, "debug", "flag --log-level"},
	} {
		got, err := load(t, c.file, c.env, c.args)
		if err != nil {
			t.Fatal(err)
		}
		if got.LogLevel != c.want || !strings.HasSuffix(got.origin["log_level"], c.origin) {
			t.Errorf("file %q, environment %q, flags %q: %s from %s, want %s from %s",
				c.file, c.env, c.args, got.LogLevel, got.origin["log_level"], c.want, c.origin)
		}
	}
}

func TestConfigErrorsNameKeyLineAndRule(t *testing.T) {
	for _, c := range []struct {
		name      string
		file      string
		env, args []string
		want      []string
	}{
		{name: "unknown key", file: "listen: 127.0.0.1:1\nlistne: x\n", want: []string{"test.yaml:2: listne: no such key"}},
		{name: "unknown variable", env: []string{"COMPUTE_AGENT_LISTNE=x"}, want: []string{"COMPUTE_AGENT_LISTNE: no such key"}},
		{name: "word for number", file: "max_concurrent_builds: ten", want: []string{"test.yaml:1: max_concurrent_builds: must be a whole number from 1 to 1000, not \"ten\""}},
		{name: "number too small", file: "max_concurrent_builds: 0", want: []string{"from 1 to 1000"}},
		{name: "fraction for whole", file: "reserved_host_cpus: 1.5", want: []string{"reserved_host_cpus: must be a whole number"}},
		{name: "not a number", file: "cpu_allocation_ratio: .nan", want: []string{"cpu_allocation_ratio: must be a number"}},
		{name: "wrong device", file: "pci_device_spec:\n- {vendor_id: 10de}\n- {vendor_id: nvidia}\n",
			want: []string{"test.yaml:1: pci_device_spec: vendor_id=\"nvidia\": must be up to four hexadecimal digits or *"}},
		{name: "unknown key of an alias", file: "pci_alias: [{name: gpu, colour: red}]", want: []string{"pci_alias: colour=\"red\": is not a key of an alias"}},
		{name: "alias without a name", env: []string{`COMPUTE_AGENT_PCI_ALIAS={"vendor_id": "10de"}`}, want: []string{"COMPUTE_AGENT_PCI_ALIAS: pci_alias: name: an alias needs a name"}},
		{name: "no object", file: "pci_device_spec: [10de]", want: []string{"pci_device_spec: must be a list of JSON objects"}},
		{name: "no JSON", args: []string{"--pci-device-spec={"}, want: []string{"flag --pci-device-spec: pci_device_spec: must be a list of JSON objects"}},
		{name: "twice in a device", file: "pci_device_spec: [{vendor_id: 10de, vendor_id: 10de}]", want: []string{"vendor_id is there twice"}},
		{name: "list for value", file: "listen: [a, b]", want: []string{"test.yaml:1: listen: must be a single value"}},
		{name: "map for value", file: "listen:\n  host: x\n", want: []string{"listen: must be a single value"}},
		{name: "no value", file: "public_url:\n", want: []string{"test.yaml:1: public_url: has no value"}},
		{name: "twice", file: "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", want: []string{"test.yaml:2: listen: is also on line 1"}},
		{name: "alias", file: "listen: &a 127.0.0.1:1\nmetrics_listen: *a\n", want: []string{"metrics_listen: must be a single value"}},
		{name: "not a map", file: "- listen\n", want: []string{"must be lines of key: value"}},
		{name: "two documents", file: "listen: 127.0.0.1:1\n---\nlisten: x\n", want: []string{"more than one YAML document"}},
		{name: "not YAML", file: "listen: [", want: []string{"test.yaml"}},
		{name: "guest names without a number", file: "instance_name_template: vm-%s\n", want: []string{"instance_name_template: must be letters"}},
		{name: "no choice", args: []string{"--sync-power-state-policy=kill"}, want: []string{"flag --sync-power-state-policy: sync_power_state_policy: must be one of observe, enforce"}},
		{name: "no port", args: []string{"--listen=localhost"}, want: []string{"listen: must be host:port"}},
		{name: "named port", args: []string{"--listen=localhost:http"}, want: []string{"listen: must be host:port"}},
		{name: "relative path", args: []string{"--state-dir=state"}, want: []string{"state_dir: must be an absolute path"}},
		{name: "path with dots", args: []string{"--state-dir=/a/../b"}, want: []string{"state_dir: must be an absolute path"}},
		{name: "URL with user", args: []string{"--public-url=http://u:p@h"}, want: []string{"public_url: must be an http or https URL"}},
		{name: "negative duration", args: []string{"--shutdown-timeout=-1"}, want: []string{"shutdown_timeout: must be a number of seconds"}},
		{name: "huge size", args: []string{"--image-max-size=99999999TiB"}, want: []string{"image_max_size: must be a size"}},
		{name: "certificate without key", args: []string{"--tls-cert=/c"}, want: []string{"tls_cert and tls_key: give both or neither"}},
		{name: "model without mode", args: []string{"--cpu-model=Nehalem"}, want: []string{"cpu_model: goes with cpu_mode custom"}},
		{name: "mode without model", args: []string{"--cpu-mode=custom"}, want: []string{"cpu_model: goes with cpu_mode custom"}},
		{name: "no CPUs", args: []string{"--cpu-shared-set=1,^1"}, want: []string{"flag --cpu-shared-set: cpu_shared_set: must be CPU numbers and ranges"}},
		{name: "reversed CPUs", args: []string{"--cpu-dedicated-set=4-2"}, want: []string{"cpu_dedicated_set: must be CPU numbers and ranges"}},
		{name: "CPUs for both", args: []string{"--cpu-shared-set=0-2", "--cpu-dedicated-set=2-3"}, want: []string{"cpu_shared_set and cpu_dedicated_set: have CPUs in common"}},
		{name: "pages without a count", file: "reserved_huge_pages: node:0,size:2048", want: []string{"test.yaml:1: reserved_huge_pages: must be entries such as"}},
		{name: "pages twice", file: "reserved_huge_pages: node:0,node:1,size:2048,count:1", want: []string{"reserved_huge_pages: must be entries"}},
		{name: "pages of no size", file: "reserved_huge_pages: node:0,size:large,count:1", want: []string{"reserved_huge_pages: must be entries"}},
		{name: "pages of something", file: "reserved_huge_pages: node:0,size:2048,count:1,colour:red", want: []string{"reserved_huge_pages: must be entries"}},
		{name: "memory in files, twice over", args: []string{"--file-backed-memory=1024", "--ram-allocation-ratio=1.5"}, want: []string{"file_backed_memory: goes with ram_allocation_ratio 1.0"}},
		{name: "machine of nothing", args: []string{"--hw-machine-type=x86_64="}, want: []string{"hw_machine_type: must be machine types by architecture"}},
		{name: "machine twice", args: []string{"--hw-machine-type=pc,x86_64=q35"}, want: []string{"hw_machine_type: must have one entry for x86_64"}},
		{name: "machine with markup", args: []string{"--hw-machine-type=x86_64=<q35>"}, want: []string{"hw_machine_type: must be machine types"}},
		{name: "unknown cache mode", args: []string{"--disk-cachemodes=file=fast"}, want: []string{"disk_cachemodes: must be entries such as file=writeback"}},
		{name: "unknown source", args: []string{"--disk-cachemodes=tape=none"}, want: []string{"disk_cachemodes: must be entries"}},
		{name: "two signs", args: []string{"--cpu-model-extra-flags=+-pcid"}, want: []string{"cpu_model_extra_flags: must be CPU flags"}},
		{name: "queue of any size", args: []string{"--rx-queue-size=300"}, want: []string{"rx_queue_size: must be 256, 512, 1024 or 0"}},
		{name: "too many ports", args: []string{"--num-pcie-ports=29"}, want: []string{"num_pcie_ports: must be a whole number from 0 to 28"}},
		{name: "discard", args: []string{"--hw-disk-discard=on"}, want: []string{"hw_disk_discard: must be one of , ignore, unmap"}},
		{name: "no drives", args: []string{"--max-disk-devices-to-attach=0"}, want: []string{"max_disk_devices_to_attach: must be -1 or a whole number from 1"}},
		{name: "fewer drives", args: []string{"--max-disk-devices-to-attach=-2"}, want: []string{"max_disk_devices_to_attach: must be -1"}},
		{name: "priority", args: []string{"--realtime-scheduler-priority=100"}, want: []string{"realtime_scheduler_priority: must be a whole number from 1 to 99"}},
		{name: "same address", args: []string{"--listen=[::1]:1", "--metrics-listen=[::1]:1"}, want: []string{"metrics_listen: is the same address"}},
		{name: "serial ports backwards", args: []string{"--serial-console-port-range=20000:10000"}, want: []string{"serial_console_port_range: must be two TCP ports", `"20000:10000"`}},
		{name: "serial ports beyond", args: []string{"--serial-console-port-range=1:65537"}, want: []string{"serial_console_port_range: must be two TCP ports"}},
		{name: "one serial port", args: []string{"--serial-console-port-range=10000"}, want: []string{"serial_console_port_range: must be two TCP ports"}},
		{name: "sockets too deep", args: []string{"--serial-console-enabled=true", "--state-dir=/" + strings.Repeat("d", 58)}, want: []string{"serial_console_enabled: sockets in state_dir", "107 bytes"}},
		{name: "consoles at the address of the API", args: []string{"--listen=[::1]:1", "--console-listen=[::1]:1"}, want: []string{"console_listen: is the same address as listen"}},
		{name: "consoles at the address of the metrics", args: []string{"--console-listen=127.0.0.1:9774"}, want: []string{"console_listen: is the same address"}},
		{name: "consoles at no port", file: "console_listen: localhost", want: []string{"test.yaml:1: console_listen: must be host:port", `"localhost"`}},
		{name: "consoles at a WebSocket", args: []string{"--console-base-url=ws://h"}, want: []string{"console_base_url: must be an http or https URL", `"ws://h"`}},
		{name: "console certificate without key", args: []string{"--console-tls-cert=/c"}, want: []string{"console_tls_cert and console_tls_key: give both or neither"}},
		{name: "relative console key", args: []string{"--console-tls-key=k"}, want: []string{"console_tls_key: must be an absolute path", `"k"`}},
		{name: "origin with a path", args: []string{"--console-allowed-origins=a.example,https://b.example/x"}, want: []string{"console_allowed_origins: must be hosts such as", "https://b.example/x"}},
		{name: "any origin", args: []string{"--console-allowed-origins=*"}, want: []string{"console_allowed_origins: must be hosts such as"}},
		{name: "frame with a directive", args: []string{"--console-frame-ancestors=https://a; script-src *"}, want: []string{"console_frame_ancestors:"}},
		{name: "token for ever", args: []string{"--console-token-ttl=86401"}, want: []string{"console_token_ttl: must be a number of seconds from 1 to 86400", `"86401"`}},
		{name: "token for no time", args: []string{"--console-token-ttl=0"}, want: []string{"console_token_ttl: must be a number of seconds from 1"}},
		{name: "no tokens", args: []string{"--console-tokens-per-server=0"}, want: []string{"console_tokens_per_server: must be a whole number from 1"}},
		{name: "no connections", args: []string{"--console-max-connections=0"}, want: []string{"console_max_connections: must be a whole number from 1"}},
		{name: "more connections than there are", args: []string{"--console-max-connections=10"}, want: []string{"console_max_connections_per_server: must be at most console_max_connections, 10, not 40"}},
		{name: "more connections than a server's", args: []string{"--console-max-connections-per-server=10"}, want: []string{"console_max_connections_per_token: must be at most console_max_connections_per_server, 10, not 20"}},
		{name: "never idle", args: []string{"--console-idle-timeout=-1"}, want: []string{"console_idle_timeout: must be a number of seconds"}},
		{name: "never ending", args: []string{"--console-session-timeout=-1"}, want: []string{"console_session_timeout: must be a number of seconds"}},
		{name: "VNC scheme", args: []string{"--vnc-auth-schemes=vencrypt,tls"}, want: []string{"vnc_auth_schemes: must be none, vencrypt, or both"}},
		{name: "relative authority", args: []string{"--vencrypt-ca-certs=ca.pem"}, want: []string{"vencrypt_ca_certs: must be an absolute path"}},
		{name: "client certificate without key", args: []string{"--vencrypt-client-cert=/c"}, want: []string{"vencrypt_client_cert and vencrypt_client_key: give both or neither"}},
		{name: "console switch", args: []string{"--console-enabled=yes"}, want: []string{"console_enabled: must be true or false"}},
		{name: "all at once", file: "a: 1\nlisten: x\n", env: []string{"COMPUTE_AGENT_DRIVER=xen"},
			want: []string{"a: no such key", "listen: must be", "driver: must be one of libvirt, fake"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.file, c.env, c.args)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestConfigAccepts(t *testing.T) {
	c, err := load(t, "# only a comment\n", nil, []string{
		"--shutdown-timeout=1m30s", "--stop-timeout=2.5", "--image-max-size=3 GiB", "--request-rate=0",
		"--metrics-listen=", "--cpu-mode=custom", "--cpu-model=Skylake-Server-v4", "--listen=[::]:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.ShutdownTimeout != 90*time.Second || c.StopTimeout != 2500*time.Millisecond || c.ImageMaxSize != 3<<30 || c.MetricsListen != "" {
		t.Errorf("read %+v", c)
	}
}

func TestNUMAConfig(t *testing.T) {
	c, err := load(t, "cpu_shared_set: 0-3,^1\ncpu_dedicated_set: \"8\"\n", []string{"COMPUTE_AGENT_RESERVED_HUGE_PAGES=node:0,size:2048,count:64; node:1, size:1GB, count:1"},
		[]string{"--packing-host-numa-cells-allocation-strategy"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := capacity(c)
	if err != nil {
		t.Fatal(err)
	}
	shared, dedicated := cpuset.Of(0, 2, 3), cpuset.Of(8)
	want := numa.Config{SharedSet: &shared, DedicatedSet: &dedicated, Reserved: map[int]map[int]int{0: {2048: 64}, 1: {1048576: 1}}}
	if diff := cmp.Diff(want, got.NUMA); diff != "" || !got.PackCells {
		t.Errorf("(-want +got)\n%s, packing %v", diff, got.PackCells)
	}
	none, err := capacity(newConfig())
	if err != nil || none.NUMA.SharedSet != nil || none.NUMA.DedicatedSet != nil || len(none.NUMA.Reserved) > 0 || none.PackCells {
		t.Errorf("the defaults are %+v, %v", none, err)
	}
}

func TestSecretsAreMaskedAndHaveNoFlag(t *testing.T) {
	const secret = "correct horse"
	c, err := load(t, "", []string{"COMPUTE_AGENT_ADMIN_PASSWORD=" + secret}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := c.printEffective(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), secret) || !strings.Contains(b.String(), `admin_password: "********"`) {
		t.Errorf("printed:\n%s", b.String())
	}
	_, err = load(t, "", []string{"COMPUTE_AGENT_ADMIN_PASSWORD=" + secret[:3]}, nil)
	if err == nil || strings.Contains(err.Error(), secret[:3]) {
		t.Errorf("a short password gives error %v, want one without it", err)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addConfigFlags(flags)
	if flags.Lookup("admin-password") != nil {
		t.Error("a secret has a flag: every user of the host can read it")
	}
}

// What config prints can be read again and gives the same values.
func TestPrintedConfigReadsBack(t *testing.T) {
	args := []string{"--cpu-allocation-ratio=16", "--listen=[::1]:5000", "--image-max-size=1234567", "--shutdown-timeout=1.5",
		"--cpu-shared-set=0-3,^2", "--cpu-dedicated-set=8", "--reserved-huge-pages=node:0,size:2MB,count:1;node:1,size:2048,count:2",
		"--libvirt-uri=qemu+unix:///system?socket=/run/x # y: z"}
	first, err := load(t, "", nil, args)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := first.printEffective(&b); err != nil {
		t.Fatal(err)
	}
	second, err := load(t, b.String(), nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	ignoreOrigin := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "origin" }, cmp.Ignore())
	if diff := cmp.Diff(first, second, cmp.AllowUnexported(Config{}), ignoreOrigin); diff != "" {
		t.Error(diff)
	}
}

func TestPackagedConfigIsTheDefaults(t *testing.T) {
	var b strings.Builder
	if err := printDefaults(&b); err != nil {
		t.Fatal(err)
	}
	golden.Assert(t, "../../packaging/compute-agent.yaml", b.String())
	// With its comments taken off it says the defaults.
	var live []string
	for line := range strings.Lines(b.String()) {
		if name, found := strings.CutPrefix(line, "#"); found && name[0] != ' ' && name[0] != '#' {
			live = append(live, name)
		}
	}
	c, err := load(t, strings.Join(live, ""), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range c.keys() {
		if !strings.Contains(c.origin[k.name], "test.yaml") || k.value.String() != k.initial {
			t.Errorf("%s: %q from %s, want the default %q", k.name, k.value.String(), c.origin[k.name], k.initial)
		}
	}
}

// A field without a key could be set by nobody.
func TestEveryFieldHasOneKey(t *testing.T) {
	c := newConfig()
	fields := reflect.TypeFor[Config]().NumField() - 5 // without origin, and those that are groups of fields
	fields += reflect.TypeFor[guestHardware]().NumField() + reflect.TypeFor[networkOptions]().NumField() + reflect.TypeFor[volumeOptions]().NumField() + reflect.TypeFor[consoleOptions]().NumField()
	if n := len(c.keys()); n != fields {
		t.Errorf("%d keys for %d fields", n, fields)
	}
	seen := map[string]bool{}
	for _, k := range c.keys() {
		if seen[k.name] {
			t.Errorf("key %s is there twice", k.name)
		}
		seen[k.name] = true
		if k.doc == "" {
			t.Errorf("key %s has no documentation", k.name)
		}
	}
}

func TestPublicURL(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		ip     string
		want   string
	}{
		{Config{}, "127.0.0.1", "http://127.0.0.1:8774"},
		{Config{TLSCert: "/c"}, "127.0.0.1", "https://127.0.0.1:8774"},
		{Config{}, "::1", "http://[::1]:8774"},
		{Config{}, "0.0.0.0", "http://" + hostname + ":8774"},
		{Config{PublicURL: "https://cloud.example/compute"}, "0.0.0.0", "https://cloud.example/compute"},
	} {
		if got := c.config.publicURL(&net.TCPAddr{IP: net.ParseIP(c.ip), Port: 8774}); got != c.want {
			t.Errorf("%+v on %s: %s, want %s", c.config, c.ip, got, c.want)
		}
	}
}

// TestPCISettings reads the same devices from every form that they may be written in.
func TestPCISettings(t *testing.T) {
	const object = `{"product_id":"0443","vendor_id":"8086"}`
	for name, c := range map[string]struct {
		file      string
		env, args []string
	}{
		"YAML":             {file: "pci_device_spec:\n- vendor_id: 8086\n  product_id: 0443\n"},
		"YAML in one line": {file: "pci_device_spec: [{vendor_id: 8086, product_id: 0443}]\n"},
		"YAML, one":        {file: "pci_device_spec: {vendor_id: 8086, product_id: 0443}\n"},
		"texts":            {file: "pci_device_spec:\n- '" + object + "'\n"},
		"a text":           {file: "pci_device_spec: '[" + object + "]'\n"},
		"environment":      {env: []string{"COMPUTE_AGENT_PCI_DEVICE_SPEC= [" + object + "]"}},
		"flag":             {args: []string{"--pci-device-spec", object}},
	} {
		got, err := load(t, c.file, c.env, c.args)
		if err != nil || len(got.PCIDeviceSpecs) != 1 || got.PCIDeviceSpecs[0] != object {
			t.Errorf("%s: %q, %v", name, got.PCIDeviceSpecs, err)
			continue
		}
		var printed strings.Builder
		if err := got.printEffective(&printed); err != nil {
			t.Fatal(err)
		}
		again, err := load(t, printed.String(), nil, nil)
		if err != nil || !reflect.DeepEqual(again.PCIDeviceSpecs, got.PCIDeviceSpecs) {
			t.Errorf("%s: printed and read again: %q, %v", name, again.PCIDeviceSpecs, err)
		}
	}
	none, err := load(t, "pci_device_spec: []\npci_alias: \"\"\n", nil, nil)
	if err != nil || none.PCIDeviceSpecs != nil || none.PCIAliases != nil {
		t.Errorf("none: %q, %v", none.PCIDeviceSpecs, err)
	}
}
