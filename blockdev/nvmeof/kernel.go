package nvmeof

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel is what is not files in sysfs. The real one is that of New; tests put their own in its place.
type Kernel interface {
	// Connect makes a connection to a subsystem of the options in the form of /dev/nvme-fabrics, and returns the number of the controller. It blocks until the
	// subsystem has answered or the transport has given up.
	Connect(options string) (instance int, err error)
	// Write writes an attribute of sysfs.
	Write(path, value string) error
	// Identify asks a controller (its node, /dev/nvme0) about a namespace, and returns the 4096 bytes of the answer.
	Identify(node string, nsid int, cns uint8) ([]byte, error)
}

// linux is this host's kernel.
type linux struct{ fabrics string }

// Connect writes to the control device, as nvme-cli does: of that no program is needed, no other user sees the options, which can be secret, in a process's
// arguments, and the answer says which controller it has become.
func (l linux) Connect(options string) (int, error) {
	file, err := os.OpenFile(l.fabrics, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer file.Close() //nolint:errcheck // the connection is there or not
	if _, err := file.WriteString(options); err != nil {
		return 0, err
	}
	answer := make([]byte, 4096)
	n, err := file.Read(answer)
	if err != nil {
		return 0, err
	}
	return parseInstance(string(answer[:n]))
}

// parseInstance reads "instance=0,cntlid=1".
func parseInstance(answer string) (int, error) {
	for option := range strings.SplitSeq(strings.TrimSpace(answer), ",") {
		if text, ok := strings.CutPrefix(option, "instance="); ok {
			if n, err := strconv.Atoi(text); err == nil && n >= 0 {
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("the kernel's answer %.80q names no controller", answer)
}

func (linux) Write(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}

// passthru is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type passthru struct {
	opcode, flags         uint8
	_                     uint16
	nsid, cdw2, cdw3      uint32
	metadata, addr        uint64
	metadataLen, dataLen  uint32
	cdw10, cdw11, cdw12   uint32
	cdw13, cdw14, cdw15   uint32
	timeoutMillis, result uint32
}

const (
	adminCommand  = 0xc0484e41 // NVME_IOCTL_ADMIN_CMD
	opIdentify    = 0x06
	identifyLimit = 10_000 // milliseconds
)

func (linux) Identify(node string, nsid int, cns uint8) ([]byte, error) {
	file, err := os.OpenFile(node, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	data := make([]byte, identifySize)
	var pin runtime.Pinner
	pin.Pin(&data[0])
	defer pin.Unpin()
	cmd := &passthru{opcode: opIdentify, nsid: uint32(nsid), addr: uint64(uintptr(unsafe.Pointer(&data[0]))), dataLen: identifySize,
		cdw10: uint32(cns), timeoutMillis: identifyLimit}
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), adminCommand, uintptr(unsafe.Pointer(cmd)))
	switch {
	case errno != 0:
		return nil, fmt.Errorf("identify of namespace %d by %s: %w", nsid, node, errno)
	case status != 0:
		return nil, fmt.Errorf("identify of namespace %d by %s: %w", nsid, node, StatusError(status))
	}
	return data, nil
}

// StatusError is how a subsystem refuses a command (NVM Express Base Specification, 4.6.1).
type StatusError uint16

func (e StatusError) Error() string { return fmt.Sprintf("NVMe status 0x%x", uint16(e)) }

// unknownField says whether the subsystem does not know what it was asked for.
func (e StatusError) unknownField() bool {
	const invalidField = 0x002
	return e&0x7ff == invalidField
}
