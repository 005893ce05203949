package main

import (
	"fmt"
	"strings"
)

// profile is the hardware of a lab machine. All of them use the same disk image.
type profile struct {
	name string
	cpu  string // QEMU's model and features
	// topology is how CPUs make up cores and sockets. No socket may lie in two nodes.
	topology  string
	nodes     []node
	distances map[[2]int]int // between two nodes, the lower one first
}

type node struct {
	cpus      string
	memoryMiB int
	hugePages int // of 2 MiB
}

var profiles = map[string]profile{
	// The host on which the seed documents show NUMA placement: 4, 2 and 2 CPUs, 4, 2 and 2 GB. Of the models
	// with nested virtualization it is the one that boots fastest.
	"seed": {
		name: "seed", cpu: "EPYC", topology: "8,sockets=4,cores=2,threads=1",
		nodes:     []node{{"0-3", 4096, 128}, {"4-5", 2048, 128}, {"6-7", 2048, 128}},
		distances: map[[2]int]int{{0, 1}: 21, {0, 2}: 31, {1, 2}: 21},
	},
	// Hardware threads. An Intel model: emulation has no threads for AMD's.
	"ht": {
		name: "ht", cpu: "Haswell-noTSX", topology: "8,sockets=2,cores=2,threads=2",
		nodes:     []node{{"0-3", 3072, 128}, {"4-7", 3072, 128}},
		distances: map[[2]int]int{{0, 1}: 21},
	},
	// Storage needs a full kernel and no nodes.
	"storage": {
		name: "storage", cpu: "EPYC", topology: "4,sockets=1,cores=4,threads=1",
		nodes: []node{{"0-3", 4096, 64}},
	},
}

func (p profile) memoryMiB() int {
	sum := 0
	for _, n := range p.nodes {
		sum += n.memoryMiB
	}
	return sum
}

// translationMiB is QEMU's buffer for translated code.
const translationMiB = 512

// hardware is the part of QEMU's command line that must be the same whenever a state is restored. The
// memory is in files in ramDir: shared while the state is made, so that they have it afterwards, and
// private copies when it is restored.
func (p profile) hardware(ramDir string, shared bool) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35,vmport=off,smbus=off", "-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", translationMiB),
		"-cpu", p.cpu, "-smp", p.topology, "-m", fmt.Sprint(p.memoryMiB()),
	}
	mode := "off"
	if shared {
		mode = "on"
	}
	for i, n := range p.nodes {
		args = append(args,
			"-object", fmt.Sprintf("memory-backend-file,id=ram%d,size=%dM,mem-path=%s,share=%s", i, n.memoryMiB, comma(fmt.Sprintf("%s/ram%d", ramDir, i)), mode),
			"-numa", fmt.Sprintf("node,nodeid=%d,cpus=%s,memdev=ram%d", i, n.cpus, i))
	}
	for i := range p.nodes {
		for j := i + 1; j < len(p.nodes); j++ {
			args = append(args, "-numa", fmt.Sprintf("dist,src=%d,dst=%d,val=%d", i, j, p.distances[[2]int{i, j}]))
		}
	}
	return append(args, "-device", "virtio-rng-pci", "-device", "virtio-blk-pci,drive=root", "-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "virtio-9p-pci,fsdev=share,mount_tag=lab")
}

// kernelLine is what the kernel is told. A panic ends the machine, and with it the run.
func (p profile) kernelLine() string {
	var pages []string
	for i, n := range p.nodes {
		pages = append(pages, fmt.Sprintf("%d:%d", i, n.hugePages))
	}
	return "console=ttyS0 quiet panic=-1 oops=panic net.ifnames=0 mitigations=off nokaslr audit=0 apparmor=0 selinux=0 tsc=reliable clocksource=tsc " +
		"nowatchdog no_timer_check random.trust_cpu=on hugepagesz=2M hugepages=" + strings.Join(pages, ",")
}

// comma escapes a path for QEMU's options.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }
