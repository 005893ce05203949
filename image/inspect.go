package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	sectorSize = 512
	// headSize covers every signature that is looked for, and a qcow2 header with its extensions.
	headSize = maxExtensionsEnd
)

// inspect judges a file by its own header first, and has qemu-img look at it only when that
// passed.
func (s *Store) inspect(ctx context.Context, file *os.File, format string) (Info, error) {
	stat, err := file.Stat()
	if err != nil {
		return Info{}, fmt.Errorf("inspect image: %w", err)
	}
	info, err := inspectBytes(file, stat.Size(), format)
	if err == nil && info.VirtualSize > s.opt.MaxVirtualSize {
		err = &Refusal{format, fmt.Sprintf("its disk has %d bytes, more than the %d that are allowed", info.VirtualSize, s.opt.MaxVirtualSize)}
	}
	if err == nil {
		err = s.secondOpinion(ctx, file, info)
	}
	if err != nil {
		return Info{}, fmt.Errorf("inspect image: %w", err)
	}
	return info, nil
}

// inspectPath is the check of the header alone, for a file that once passed inspect.
func inspectPath(path, format string) (Info, error) {
	file, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = file.Close() }()
	stat, err := file.Stat()
	if err != nil {
		return Info{}, err
	}
	return inspectBytes(file, stat.Size(), format)
}

// inspectBytes says what size bytes declared to be in format describe, or refuses them.
func inspectBytes(r io.ReaderAt, size int64, format string) (Info, error) {
	head, err := readAt(r, 0, min(size, headSize))
	if err != nil {
		return Info{}, err
	}
	tail, err := readAt(r, max(0, size-sectorSize), min(size, sectorSize))
	if err != nil {
		return Info{}, err
	}
	var info Info
	switch format {
	case FormatRaw:
		info, err = inspectRaw(head, tail, size)
	case FormatQCOW2:
		info, err = inspectQCOW2(head, tail, size)
	default:
		err = errors.New("the format is not one of raw and qcow2")
	}
	if err != nil {
		return Info{}, &Refusal{format, err.Error()}
	}
	return info, nil
}

func readAt(r io.ReaderAt, offset, length int64) ([]byte, error) {
	buf := make([]byte, length)
	if n, err := r.ReadAt(buf, offset); n < len(buf) {
		return nil, err
	}
	return buf, nil
}

func inspectQCOW2(head, tail []byte, size int64) (Info, error) {
	if !bytes.HasPrefix(head, []byte(qcow2Magic)) {
		return Info{}, fmt.Errorf("it is %s", orUnknown(recognise(head, tail)))
	}
	h, err := parseQCOW2(head)
	if err != nil {
		return Info{}, err
	}
	if err := h.check(size); err != nil {
		return Info{}, err
	}
	return Info{Format: FormatQCOW2, VirtualSize: int64(h.size)}, nil
}

// inspectRaw takes any bytes that are not known to be something else. A partition table or a boot
// sector is what a raw disk begins with; an ISO 9660 image that has a boot sector too can be booted
// as a disk, one without is a CD.
func inspectRaw(head, tail []byte, size int64) (Info, error) {
	if size == 0 {
		return Info{}, errors.New("it has no bytes")
	}
	if found := recognise(head, tail); found != "" {
		return Info{}, fmt.Errorf("it is %s", found)
	}
	return Info{Format: FormatRaw, VirtualSize: (size + sectorSize - 1) / sectorSize * sectorSize}, nil
}

// signature is how a format is known.
type signature struct {
	name   string
	offset int
	magic  string
}

var headSignatures = []signature{
	{"a qcow or qcow2 image", 0, qcow2Magic},
	{"a QED image", 0, "QED\x00"},
	{"a VMDK image", 0, "KDMV"},
	{"a VMDK image", 0, "COWD"},
	{"a VMDK descriptor", 0, "# Disk DescriptorFile"},
	{"a VDI image", 0x40, "\x7f\x10\xda\xbe"},
	{"a VHD image", 0, "conectix"},
	{"a VHDX image", 0, "vhdxfile"},
	{"a LUKS volume", 0, "LUKS\xba\xbe"},
	{"a Parallels image", 0, "WithoutFreeSpace"},
	{"a Parallels image", 0, "WithouFreSpacExt"},
	{"a Bochs image", 0, "Bochs Virtual HD Image"},
	{"a cloop image", 0, "#!/bin/sh\n#V2.0 Format"},
	{"a gzip file", 0, "\x1f\x8b\x08"},
	{"an xz file", 0, "\xfd7zXZ\x00"},
	{"a zstd file", 0, "\x28\xb5\x2f\xfd"},
}

// tailSignatures are in the last sector.
var tailSignatures = []signature{
	{"a VHD image", 0, "conectix"},
	{"a DMG image", 0, "koly"},
}

// recognise names what bytes are that should not be given to a guest as a raw disk; empty if they
// may be one.
func recognise(head, tail []byte) string {
	for _, s := range headSignatures {
		if s.in(head) {
			return s.name
		}
	}
	if len(tail) == sectorSize {
		for _, s := range tailSignatures {
			if s.in(tail) {
				return s.name
			}
		}
	}
	iso := signature{magic: "CD001", offset: 0x8001}
	bootSector := signature{magic: "\x55\xaa", offset: 510}
	if iso.in(head) && !bootSector.in(head) {
		return "an ISO 9660 image: a CD, not a disk"
	}
	return ""
}

func (s signature) in(data []byte) bool {
	return len(data) > s.offset && bytes.HasPrefix(data[s.offset:], []byte(s.magic))
}

func orUnknown(name string) string {
	if name == "" {
		return "something else"
	}
	return name
}
