package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

const (
	overheadMiB  = 900    // QEMU's own, with its buffer for translated code
	runDiskMiB   = 3_000  // what a run writes
	buildDiskMiB = 12_000 // the image, and a saved state for each profile
)

// checkMachine says what this machine lacks for a run of the groups.
func checkMachine(chosen []group) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the lab's machine is for Linux on x86-64, this is %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	if err := checkPrograms("qemu-system-x86_64", "qemu-img", "go"); err != nil {
		return err
	}
	need := 0
	for _, g := range chosen {
		need = max(need, profiles[g.profile].memoryMiB()+overheadMiB)
	}
	switch free, err := availableMiB(); {
	case err != nil:
		return err
	case free < need:
		return fmt.Errorf("the lab's machine needs %d MiB of memory, %d MiB are available", need, free)
	}
	return nil
}

// checkPrograms names those that are not there.
func checkPrograms(names ...string) error {
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing programs: %s (packages.txt and packages-lab.txt name their packages)", strings.Join(missing, ", "))
	}
	return nil
}

// checkDisk says whether the file system of dir has as much free space.
func checkDisk(dir string, needMiB int) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if free := int(fs.Bavail * uint64(fs.Bsize) >> 20); free < needMiB {
		return fmt.Errorf("%d MiB of disk are needed in %s, %d MiB are free", needMiB, dir, free)
	}
	return nil
}

// availableMiB is the memory that processes can have without anything being swapped out.
func availableMiB() (int, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer file.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == "MemAvailable:" {
			kib, err := strconv.Atoi(f[1])
			return kib / 1024, err
		}
	}
	return 0, errors.New("/proc/meminfo has no MemAvailable")
}
