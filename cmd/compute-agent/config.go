package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"

	"github.com/spf13/pflag"
)

const (
	// defaultConfigFile is read when --config is not given and it is there.
	defaultConfigFile = "/etc/compute-agent/compute-agent.yaml"
	maxSize           = 1 << 60 // bytes; more than any host has
	envPrefix         = "COMPUTE_AGENT_"
	configEnv         = envPrefix + "CONFIG"
)

// Config is what an operator can choose. Only this package reads it; other packages get the values
// that they need.
type Config struct {
	StateDir string
	RunDir   string

	Listen          string
	PublicURL       string
	TLSCert, TLSKey string
	AdminPassword   string
	TokenExpiry     time.Duration
	RequestRate     float64
	MetricsListen   string

	LogLevel, LogFormat string
	ReportDir           string
	MemoryLimit         int64
	StopTimeout         time.Duration

	Driver           string
	LibvirtURI       string
	VirtType         string
	CPUMode          string
	CPUModel         string
	GuestNames       string
	RNGDevice        string
	MemStatsPeriod   time.Duration
	VNCListen        string
	ForceConfigDrive bool
	Hardware         guestHardware
	Network          networkOptions
	Volume           volumeOptions
	Console          consoleOptions
	ConfigDriveForm  string
	EphemeralFormat  string

	CPURatio, RAMRatio, DiskRatio float64
	ReservedCPUs                  int
	ReservedMemoryMiB             int
	ReservedDiskMiB               int
	CPUSharedSet, CPUDedicatedSet *cpuset.Set // nil: not set
	ReservedHugePages             []map[string]string
	PackNUMACells                 bool
	PCIDeviceSpecs, PCIAliases    []string // JSON objects
	MaxConcurrentBuilds           int

	ShutdownTimeout       time.Duration
	ShutdownRetryInterval time.Duration
	DetachAttempts        int
	DetachTimeout         time.Duration
	HardwareChanges       string
	PowerSyncPolicy       string
	PowerSyncInterval     time.Duration

	ImageMaxSize int64

	origin map[string]string // key to where its value came from
}

// key is one line of the configuration. Its flag, its environment variable, its documentation and
// the printed file all come from here.
type key struct {
	name    string // in the file; Nova's spelling where Nova has it
	initial string // default
	value   setting
	doc     string // a line or more
	secret  bool   // masked in print, and without a flag: arguments can be read by every user of the host
}

func (k key) flag() string { return strings.ReplaceAll(k.name, "_", "-") }
func (k key) env() string  { return envPrefix + strings.ToUpper(k.name) }

// section is a group of keys under one heading.
type section struct {
	title string
	keys  []key
}

// sections is the table of all keys, each bound to its field in c.
func (c *Config) sections() []section {
	return []section{
		{"Service", c.serviceKeys()},
		{"OpenStack API", c.apiKeys()},
		{"Hypervisor and guests", c.guestKeys()},
		{"Hardware of guests", c.Hardware.keys()},
		{"Networks", c.Network.keys()},
		{"Volumes", c.Volume.keys()},
		{"Consoles", c.Console.keys()},
		{"Resources of this host", c.resourceKeys()},
		{"Operations", c.operationKeys()},
	}
}

func (c *Config) serviceKeys() []key {
	return []key{
		{name: "state_dir", initial: "/var/lib/compute-agent", value: text(&c.StateDir, absolutePath),
			doc: "Directory of the database, the disks of the servers and the images. One agent at a time uses it."},
		{name: "run_dir", initial: "/run/compute-agent", value: text(&c.RunDir, absolutePath),
			doc: "Directory for what is true only until the host starts again: what of the host's storage and network devices is in use."},
		{name: "log_level", initial: "info", value: choice(&c.LogLevel, "debug", "info", "warn", "error"),
			doc: "Least severe level that is logged: debug, info, warn or error."},
		{name: "log_format", initial: "auto", value: choice(&c.LogFormat, "auto", "text", "json"),
			doc: "text, json, or auto: text on a terminal and JSON elsewhere. Logs go to standard error."},
		{name: "metrics_listen", initial: "127.0.0.1:9774", value: text(&c.MetricsListen, orEmpty(hostPort)),
			doc: "Address of the Prometheus metrics (path /metrics), without login. Empty: none."},
		{name: "report_dir", initial: "", value: text(&c.ReportDir, orEmpty(absolutePath)),
			doc: "Directory in which SIGUSR1 writes a report of the running agent to a file. Empty: to standard error."},
		{name: "stop_timeout", initial: "30", value: seconds(&c.StopTimeout, 0, time.Hour),
			doc: "After SIGTERM: seconds in which operations under way may finish. What has not finished then is\n" +
				"taken up again by the next start. Guests run on."},
		{name: "memory_limit", initial: "48MiB", value: size(&c.MemoryLimit, 16<<20, maxSize),
			doc: "Soft limit of the agent's own heap: near it memory is given back more eagerly, at a cost in CPU."},
	}
}

func (c *Config) apiKeys() []key {
	return []key{
		{name: "listen", initial: "127.0.0.1:8774", value: text(&c.Listen, hostPort),
			doc: "Address of the API. Beyond loopback, give it a certificate."},
		{name: "public_url", initial: "", value: text(&c.PublicURL, orEmpty(httpURL)),
			doc: "URL under which clients reach the API, for the catalog and clouds.yaml. Empty: made from listen."},
		{name: "tls_cert", initial: "", value: text(&c.TLSCert, orEmpty(absolutePath)),
			doc: "File with the certificate chain in PEM. Together with tls_key it turns TLS on."},
		{name: "tls_key", initial: "", value: text(&c.TLSKey, orEmpty(absolutePath)),
			doc: "File with the certificate's private key in PEM."},
		{name: "admin_password", initial: "", value: text(&c.AdminPassword, orEmpty(password)), secret: true,
			doc: "Password of the user admin, applied at each start. Empty: the first start makes a random one. Either\n" +
				"way it is written to clouds.yaml in state_dir and otherwise kept only as a hash. It has no flag."},
		{name: "token_expiry", initial: "3600", value: seconds(&c.TokenExpiry, time.Minute, 30*24*time.Hour),
			doc: "Seconds that a token is good for."},
		{name: "request_rate", initial: "200.0", value: number(&c.RequestRate, 0, 1e6),
			doc: "Requests a second that one client address may make on average. 0: no limit."},
		{name: "image_max_size", initial: "100GiB", value: size(&c.ImageMaxSize, 1<<20, maxSize),
			doc: "Largest image that is taken in, in bytes uploaded."},
	}
}

func (c *Config) guestKeys() []key {
	return []key{
		{name: "driver", initial: "libvirt", value: choice(&c.Driver, "libvirt", "fake"),
			doc: "libvirt, or fake: a driver for trying out the API, whose guests exist only in the agent's memory."},
		{name: "libvirt_uri", initial: "qemu:///system", value: text(&c.LibvirtURI),
			doc: "libvirt connection."},
		{name: "virt_type", initial: "auto", value: choice(&c.VirtType, "auto", "kvm", "qemu"),
			doc: "kvm, qemu (emulation), or auto: kvm where the host offers it."},
		{name: "cpu_mode", initial: "auto", value: choice(&c.CPUMode, "auto", "host-model", "host-passthrough", "maximum", "custom", "none"),
			doc: "CPU that guests see: host-model, host-passthrough, maximum, custom (see cpu_model), none (the\n" +
				"hypervisor's default), or auto: host-model under kvm, " + compute.DefaultEmulatedCPU + " under qemu."},
		{name: "cpu_model", initial: "", value: text(&c.CPUModel, orEmpty(plainWord)),
			doc: "libvirt's name of the CPU model for cpu_mode custom."},
		{name: "instance_name_template", initial: compute.DefaultGuestNames, value: text(&c.GuestNames, guestNames),
			doc: "What libvirt calls guests: a format of the server's number. Agents that share a libvirtd need\n" +
				"different ones. Servers that are there keep their names."},
		{name: "rng_dev_path", initial: "/dev/urandom", value: text(&c.RNGDevice, absolutePath),
			doc: "Host device that feeds the guests' random number generator."},
		{name: "mem_stats_period_seconds", initial: "10", value: seconds(&c.MemStatsPeriod, 0, time.Hour),
			doc: "Interval at which guests report the use of their memory. 0: they do not."},
		{name: "vnc_listen", initial: "127.0.0.1", value: text(&c.VNCListen, orEmpty(ipAddress)),
			doc: "Address of the guests' VNC servers, which have no password. Empty: guests have no screen."},
		{name: "force_config_drive", initial: "false", value: truth(&c.ForceConfigDrive),
			doc: "Give every server a config drive, also those that do not ask for one. Until there is a metadata\n" +
				"service it is the only way for keys and user data into a guest."},
		{name: "config_drive_format", initial: "iso9660", value: choice(&c.ConfigDriveForm, "iso9660", "vfat"),
			doc: "What a config drive is: iso9660, a CD-ROM, or vfat, a disk. Servers that are there keep theirs."},
		{name: "default_ephemeral_format", initial: "auto", value: choice(&c.EphemeralFormat, "auto", "ext2", "ext3", "ext4", "xfs", "vfat", "ntfs"),
			doc: "File system of ephemeral disks: ext2, ext3, ext4, xfs, vfat, ntfs, or auto: by the image's property\n" +
				"os_type ext4 for linux, ntfs for windows, and vfat where it says nothing."},
	}
}

func (c *Config) resourceKeys() []key {
	return []key{
		{name: "cpu_allocation_ratio", initial: "4.0", value: number(&c.CPURatio, 0.01, 1000),
			doc: "vCPUs that may be claimed for each CPU that they may float on. Pinned vCPUs have a CPU each."},
		{name: "ram_allocation_ratio", initial: "1.0", value: number(&c.RAMRatio, 0.01, 1000),
			doc: "Memory that may be claimed, as a multiple of the host's."},
		{name: "disk_allocation_ratio", initial: "1.0", value: number(&c.DiskRatio, 0.01, 1000),
			doc: "Disk that may be claimed, as a multiple of the file system that holds state_dir."},
		{name: "reserved_host_cpus", initial: "0", value: whole(&c.ReservedCPUs, 0, 1<<16),
			doc: "CPUs kept back for the host."},
		{name: "reserved_host_memory_mb", initial: "512", value: whole(&c.ReservedMemoryMiB, 0, 1<<30),
			doc: "MiB of memory kept back for the host."},
		{name: "reserved_host_disk_mb", initial: "0", value: whole(&c.ReservedDiskMiB, 0, 1<<40),
			doc: "MiB of disk kept back for the host."},
		{name: "cpu_shared_set", initial: "", value: cpuSet(&c.CPUSharedSet),
			doc: "CPUs that vCPUs float on, and emulator threads with hw:emulator_threads_policy=share: 4-12,^8,15.\n" +
				"Empty: all, or none if cpu_dedicated_set is given."},
		{name: "cpu_dedicated_set", initial: "", value: cpuSet(&c.CPUDedicatedSet),
			doc: "CPUs that vCPUs are pinned to, one to one (hw:cpu_policy=dedicated). Empty: guests are pinned to any CPU\n" +
				"that others float on too, or to none if cpu_shared_set is given."},
		{name: "reserved_huge_pages", initial: "", value: reservedPages(&c.ReservedHugePages),
			doc: "Huge pages kept back from guests, of each node and size: node:0,size:2048,count:64; more after a\n" +
				"semicolon. The size is in KiB or has a unit (2MB, 1GB)."},
		{name: "packing_host_numa_cells_allocation_strategy", initial: "false", value: truth(&c.PackNUMACells),
			doc: "Fill the host's NUMA cells one after the other. Otherwise guests are spread over them."},
		{name: "pci_device_spec", initial: "", value: objects(&c.PCIDeviceSpecs, checkDeviceSpecs),
			doc: "PCI devices of the host that servers may get: a list of entries with Nova's keys ([pci]device_spec): vendor_id,\n" +
				"product_id, address (with wildcards, or regular expressions by part) or devname, physical_network,\n" +
				"resource_class, traits, managed, remote_managed and tags of your own. In the file:\n" +
				"pci_device_spec: [{vendor_id: 10de, product_id: 20b5}, {address: \"0000:3b:02.*\"}]; elsewhere as JSON."},
		{name: "pci_alias", initial: "", value: objects(&c.PCIAliases, checkAliases),
			doc: "Names by which flavors ask for these devices (pci_passthrough:alias=NAME:COUNT): a list of entries with Nova's\n" +
				"keys ([pci]alias): name, vendor_id, product_id, device_type (type-PCI, type-PF, type-VF), numa_policy\n" +
				"(required, legacy, preferred, socket), resource_class, traits. In the file:\n" +
				"pci_alias: [{name: gpu, vendor_id: 10de, product_id: 20b5, device_type: type-PCI}]; elsewhere as JSON."},
	}
}

func (c *Config) operationKeys() []key {
	return []key{
		{name: "max_concurrent_builds", initial: "10", value: whole(&c.MaxConcurrentBuilds, 1, 1000),
			doc: "Servers that are built at the same time; more wait."},
		{name: "shutdown_timeout", initial: "60", value: seconds(&c.ShutdownTimeout, 0, 24*time.Hour),
			doc: "Seconds that a guest gets to shut itself down before it is forced. 0: at once."},
		{name: "shutdown_retry_interval", initial: "10", value: seconds(&c.ShutdownRetryInterval, time.Second, time.Hour),
			doc: "Seconds after which a guest is asked again to shut down."},
		{name: "device_detach_attempts", initial: "8", value: whole(&c.DetachAttempts, 1, 1000),
			doc: "How often a guest is asked to let go of a device. One that does not keeps it."},
		{name: "device_detach_timeout", initial: "20", value: seconds(&c.DetachTimeout, time.Second, time.Hour),
			doc: "Seconds after which a guest is asked again to let go of a device."},
		{name: "hard_reboot_hardware_changes", initial: "refuse", value: choice(&c.HardwareChanges, "refuse", "accept"),
			doc: "When a hard reboot would change what a guest sees of its hardware, after an upgrade or another\n" +
				"configuration: refuse it, unless the request says accept_hardware_changes, or accept it."},
		{name: "sync_power_state_policy", initial: "observe", value: choice(&c.PowerSyncPolicy, "observe", "enforce"),
			doc: "When a guest is not in the state that its server should be in: observe records it, enforce also\n" +
				"stops guests that should be stopped, as Nova does."},
		{name: "sync_power_state_interval", initial: "3600", value: seconds(&c.PowerSyncInterval, 10*time.Second, 24*time.Hour),
			doc: "Seconds between full comparisons of servers and guests. Changes in between arrive as events."},
	}
}

// keys is the table without its headings.
func (c *Config) keys() []key {
	var all []key
	for _, s := range c.sections() {
		all = append(all, s.keys...)
	}
	return all
}

// newConfig returns the defaults.
func newConfig() *Config {
	c := &Config{origin: map[string]string{}}
	for _, k := range c.keys() {
		if err := k.value.Set(k.initial); err != nil {
			panic(fmt.Sprintf("default of %s: %v", k.name, err))
		}
		c.origin[k.name] = "default"
	}
	return c
}

// addConfigFlags gives flags one flag for each key, and --config.
func addConfigFlags(flags *pflag.FlagSet) {
	flags.String("config", "", "configuration `file` (default "+defaultConfigFile+" if it is there)")
	for _, k := range newConfig().keys() {
		if !k.secret {
			f := flags.VarPF(&flagText{text: k.initial, kind: k.value.Type()}, k.flag(), "", k.doc)
			if k.value.Type() == "bool" {
				f.NoOptDefVal = "true"
			}
		}
	}
}

// flagText keeps a flag's text until the configuration is read.
type flagText struct{ text, kind string }

func (f *flagText) Set(s string) error { f.text = s; return nil }
func (f *flagText) String() string     { return f.text }
func (f *flagText) Type() string       { return f.kind }

// loadConfig reads the configuration: flags win over environment over file over defaults. The
// error tells of everything that is wrong, not only of the first thing.
func loadConfig(flags *pflag.FlagSet, environ []string) (*Config, error) {
	c := newConfig()
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	err := errors.Join(
		c.readFile(configFile(flags, env)),
		c.readEnv(env),
		c.readFlags(flags),
	)
	if err == nil {
		err = c.check()
	}
	return c, err
}

// configFile returns the file to read, and whether it must be there.
func configFile(flags *pflag.FlagSet, env map[string]string) (path string, must bool) {
	if flags.Changed("config") {
		return flags.Lookup("config").Value.String(), true
	}
	if path = env[configEnv]; path != "" {
		return path, true
	}
	return defaultConfigFile, false
}

func (c *Config) readFile(path string, must bool) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !must {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return c.readYAML(path, data)
}

func (c *Config) readEnv(env map[string]string) error {
	var errs []error
	for _, k := range c.keys() {
		if value, ok := env[k.env()]; ok {
			errs = append(errs, c.set(k, value, "environment "+k.env()))
			delete(env, k.env())
		}
	}
	delete(env, configEnv)
	for name := range env {
		errs = append(errs, fmt.Errorf("environment %s: no such key", name))
	}
	return errors.Join(errs...)
}

func (c *Config) readFlags(flags *pflag.FlagSet) error {
	var errs []error
	for _, k := range c.keys() {
		if f := flags.Lookup(k.flag()); f != nil && f.Changed {
			errs = append(errs, c.set(k, f.Value.String(), "flag --"+k.flag()))
		}
	}
	return errors.Join(errs...)
}

// set gives a key its value and remembers where it came from. The error holds no value of a secret.
func (c *Config) set(k key, value, origin string) error {
	if err := k.value.Set(value); err != nil {
		if k.secret {
			return fmt.Errorf("%s: %s: %w", origin, k.name, err)
		}
		return fmt.Errorf("%s: %s: %w, not %q", origin, k.name, err, value)
	}
	c.origin[k.name] = origin
	return nil
}

// check applies the rules that join keys.
func (c *Config) check() error {
	var errs []error
	rule := func(broken bool, text string) {
		if broken {
			errs = append(errs, errors.New(text))
		}
	}
	rule((c.TLSCert == "") != (c.TLSKey == ""), "tls_cert and tls_key: give both or neither")
	rule((c.CPUMode == "custom") != (c.CPUModel != ""), "cpu_model: goes with cpu_mode custom, and only with it")
	rule(c.CPUSharedSet != nil && c.CPUDedicatedSet != nil && c.CPUSharedSet.IntersectLen(*c.CPUDedicatedSet) > 0,
		"cpu_shared_set and cpu_dedicated_set: have CPUs in common")
	rule(c.Hardware.FileBackedMiB > 0 && c.RAMRatio != 1, "file_backed_memory: goes with ram_allocation_ratio 1.0 alone")
	rule(c.Listen == c.MetricsListen && !strings.HasSuffix(c.Listen, ":0"), "metrics_listen: is the same address as listen")
	rule(c.Console.Enabled && !strings.HasSuffix(c.Console.Listen, ":0") && (c.Console.Listen == c.Listen || c.Console.Listen == c.MetricsListen),
		"console_listen: is the same address as listen or metrics_listen")
	c.Console.check(rule)
	rule(c.Hardware.SerialConsole == "true" && c.Hardware.SerialPorts == compute.PortRange{} && !socketsFit(c.StateDir),
		fmt.Sprintf("serial_console_enabled: sockets in state_dir would have paths of more than %d bytes; choose a shorter one, or a serial_console_port_range", longestSocket))
	return errors.Join(errs...)
}

// publicURL is where clients reach an API that listens at addr.
func (c *Config) publicURL(addr net.Addr) string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	return urlOf(addr, c.TLSCert != "")
}

// urlOf is where clients reach a listener.
func urlOf(addr net.Addr, tls bool) string {
	scheme := "http"
	if tls {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return scheme + "://" + addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// loopbackOnly says whether only this host can reach address.
func loopbackOnly(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || (ip != nil && ip.IsLoopback()))
}
