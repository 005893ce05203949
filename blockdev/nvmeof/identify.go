package nvmeof

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
)

// What Identify is asked for (CNS; NVM Express Base Specification, 5.17).
const (
	cnsNamespace   = 0x00
	cnsDescriptors = 0x03
)

const identifySize = 4096

// describe reads the names that a namespace says it has of its identification descriptors, and returns the identity that the kernel makes of them
// (drivers/nvme/host/sysfs.c, wwid_show): UUID, else NGUID, else EUI-64. Empty when it has none of them.
func describe(data []byte) connector.Identity {
	const (
		eui64, nguid, id = 1, 2, 3
		head             = 4
	)
	names := map[byte][]byte{}
	for len(data) >= head && data[1] != 0 && len(data) >= head+int(data[1]) {
		names[data[0]] = data[head : head+int(data[1])]
		data = data[head+int(data[1]):]
	}
	switch {
	case full(names[id], 16):
		return connector.Identity("uuid." + uuid.UUID(names[id]).String())
	case full(names[nguid], 16):
		return connector.Identity("eui." + hex.EncodeToString(names[nguid]))
	case full(names[eui64], 8):
		return connector.Identity("eui." + hex.EncodeToString(names[eui64]))
	}
	return ""
}

// full says whether a name has its length and is not zero.
func full(name []byte, length int) bool {
	return len(name) == length && len(name) != len(zeroPrefix(name))
}

func zeroPrefix(b []byte) []byte {
	for i, x := range b {
		if x != 0 {
			return b[:i]
		}
	}
	return b
}

// geometry reads the size of a namespace, in bytes: NSZE blocks of the LBA format in use.
func geometry(data []byte) (int64, error) {
	if len(data) != identifySize {
		return 0, fmt.Errorf("the namespace describes itself in %d bytes", len(data))
	}
	blocks := binary.LittleEndian.Uint64(data)
	format := int(data[26]&0xf) | int(data[26]>>5&3)<<4
	shift := data[128+4*format+2]
	if shift < 9 || shift > 16 {
		return 0, fmt.Errorf("the namespace has blocks of 2^%d bytes", shift)
	}
	if blocks > 1<<(62-shift) {
		return 0, fmt.Errorf("the namespace has %d blocks", blocks)
	}
	return int64(blocks << shift), nil
}
