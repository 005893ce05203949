package image

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The qcow2 header, as QEMU's docs/interop/qcow2.txt describes it. All numbers are big-endian.
const (
	qcow2Magic        = "QFI\xfb"
	qcow2HeaderV2     = 72
	qcow2HeaderV3     = 104
	qcow2HeaderV3Full = 112 // with the compression type

	// The limits of QEMU's own reader, and a lower one for what the header's extensions may take.
	minClusterBits    = 9
	maxClusterBits    = 21
	maxL1Bytes        = 32 << 20
	maxRefcountBytes  = 8 << 20
	maxExtensionsEnd  = 64 << 10
	maxSnapshots      = 128
	minSnapshotBytes  = 40
	maxRefcountOrder  = 6
	maxBackingNameLen = 1023

	featureDirty       = 1 << 0
	featureCompression = 1 << 3
	autoclearRawData   = 1 << 1
)

// incompatible names the feature bits of which a reader must know every one that is set.
var incompatible = map[int]string{1: "corrupt", 2: "external data file", 4: "extended L2 entries"}

// The types of header extension.
const (
	extEnd           = 0
	extBackingFormat = 0xE2792ACA
	extFeatureNames  = 0x6803F857
	extBitmaps       = 0x23852875
	extEncryption    = 0x0537BE77
	extDataFile      = 0x44415441
)

// qcow2 is a header as it is written, before any judgement on it.
type qcow2 struct {
	version                   uint32
	backingOffset             uint64
	backingSize               uint32
	clusterBits               uint32
	size                      uint64
	encryption                uint32
	l1Entries                 uint32
	l1Offset                  uint64
	refcountOffset            uint64
	refcountClusters          uint32
	snapshots                 uint32
	snapshotsOffset           uint64
	incompatible, autoclear   uint64
	refcountOrder, headerSize uint32
	compression               byte

	backingFile string
	extensions  []extension
}

type extension struct {
	kind uint32
	data []byte
}

// parseQCOW2 reads a header from the first bytes of a file. Its errors are clauses for a Refusal.
func parseQCOW2(head []byte) (qcow2, error) {
	if !bytes.HasPrefix(head, []byte(qcow2Magic)) {
		return qcow2{}, errors.New("it does not begin as qcow2 does")
	}
	if len(head) < qcow2HeaderV2 {
		return qcow2{}, errors.New("its header is cut off")
	}
	be := binary.BigEndian
	h := qcow2{
		version:          be.Uint32(head[4:]),
		backingOffset:    be.Uint64(head[8:]),
		backingSize:      be.Uint32(head[16:]),
		clusterBits:      be.Uint32(head[20:]),
		size:             be.Uint64(head[24:]),
		encryption:       be.Uint32(head[32:]),
		l1Entries:        be.Uint32(head[36:]),
		l1Offset:         be.Uint64(head[40:]),
		refcountOffset:   be.Uint64(head[48:]),
		refcountClusters: be.Uint32(head[56:]),
		snapshots:        be.Uint32(head[60:]),
		snapshotsOffset:  be.Uint64(head[64:]),
		refcountOrder:    4,
		headerSize:       qcow2HeaderV2,
	}
	switch {
	case h.version != 2 && h.version != 3:
		return h, fmt.Errorf("version %d of qcow is not known, only 2 and 3 are", h.version)
	case h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits:
		return h, fmt.Errorf("its clusters have 2^%d bytes", h.clusterBits)
	}
	if h.version == 3 {
		if err := h.parseV3(head); err != nil {
			return h, err
		}
	}
	return h, h.parseVariable(head)
}

// parseV3 reads the fields that version 3 added.
func (h *qcow2) parseV3(head []byte) error {
	if len(head) < qcow2HeaderV3 {
		return errors.New("its header is cut off")
	}
	be := binary.BigEndian
	h.incompatible = be.Uint64(head[72:])
	h.autoclear = be.Uint64(head[88:])
	h.refcountOrder = be.Uint32(head[96:])
	h.headerSize = be.Uint32(head[100:])
	switch {
	case h.headerSize != qcow2HeaderV3 && h.headerSize != qcow2HeaderV3Full:
		return fmt.Errorf("its header has %d bytes, a length that is not known", h.headerSize)
	case int(h.headerSize) > len(head) || uint64(h.headerSize) > h.cluster():
		return errors.New("its header is cut off")
	case h.headerSize == qcow2HeaderV3Full:
		h.compression = head[104]
	}
	return nil
}

// parseVariable reads what follows the fixed fields: extensions, then the backing file's name.
func (h *qcow2) parseVariable(head []byte) error {
	end := min(h.cluster(), maxExtensionsEnd, uint64(len(head)))
	if h.backingOffset != 0 {
		if h.backingSize > maxBackingNameLen || h.backingOffset < uint64(h.headerSize) ||
			h.backingOffset > end || end-h.backingOffset < uint64(h.backingSize) {
			return errors.New("the name of its backing file is outside its header")
		}
		h.backingFile = string(head[h.backingOffset : h.backingOffset+uint64(h.backingSize)])
		end = h.backingOffset
	}
	if uint64(h.headerSize) > end {
		return errors.New("its header is cut off")
	}
	return h.parseExtensions(head[h.headerSize:end])
}

func (h *qcow2) parseExtensions(area []byte) error {
	for len(area) > 0 {
		if len(area) < 8 {
			return errors.New("its header extensions are cut off")
		}
		kind, size := binary.BigEndian.Uint32(area), binary.BigEndian.Uint32(area[4:])
		area = area[8:]
		if kind == extEnd {
			return nil
		}
		padded := (uint64(size) + 7) &^ 7
		if padded > uint64(len(area)) {
			return fmt.Errorf("header extension %#x has %d bytes, more than there is room for", kind, size)
		}
		h.extensions = append(h.extensions, extension{kind, area[:size]})
		area = area[padded:]
	}
	return nil
}

func (h *qcow2) cluster() uint64 { return 1 << h.clusterBits }

// check judges a header that came from outside, in a file of fileSize bytes.
func (h *qcow2) check(fileSize int64) error {
	for _, judge := range []func() error{h.checkAlone, h.checkFeatures, h.checkExtensions, h.checkSizes} {
		if err := judge(); err != nil {
			return err
		}
	}
	return h.checkLayout(uint64(fileSize))
}

// checkAlone refuses what points outside the file or cannot be read without a key.
func (h *qcow2) checkAlone() error {
	switch {
	case h.backingOffset != 0 || h.backingSize != 0:
		return errors.New("it has a backing file")
	case h.encryption != 0:
		return errors.New("it is encrypted")
	}
	return nil
}

func (h *qcow2) checkFeatures() error {
	for bit := range 64 {
		mask := uint64(1) << bit
		if h.incompatible&mask == 0 || mask == featureDirty || mask == featureCompression {
			continue
		}
		if name, ok := incompatible[bit]; ok {
			return fmt.Errorf("it has the feature %q (incompatible feature bit %d), which is not allowed", name, bit)
		}
		return fmt.Errorf("it needs a feature that is not known (incompatible feature bit %d)", bit)
	}
	switch {
	case h.autoclear&autoclearRawData != 0:
		return errors.New("it has an external data file")
	case h.compression > 1:
		return fmt.Errorf("its compression type %d is not known", h.compression)
	case (h.compression != 0) != (h.incompatible&featureCompression != 0):
		return errors.New("its compression type contradicts its features")
	}
	return nil
}

func (h *qcow2) checkExtensions() error {
	for _, e := range h.extensions {
		switch e.kind {
		case extFeatureNames, extBitmaps:
		case extBackingFormat:
			return errors.New("it names the format of a backing file")
		case extDataFile:
			return errors.New("it names an external data file")
		case extEncryption:
			return errors.New("it is encrypted")
		default:
			return fmt.Errorf("its header extension %#x is not known", e.kind)
		}
	}
	return nil
}

func (h *qcow2) checkSizes() error {
	perL1 := h.cluster() * (h.cluster() / 8) // bytes of the disk under one entry
	switch {
	case h.size == 0:
		return errors.New("its disk has no bytes")
	case h.size%512 != 0:
		return fmt.Errorf("its disk has %d bytes, not a multiple of 512", h.size)
	case uint64(h.l1Entries)*8 > maxL1Bytes:
		return fmt.Errorf("its L1 table has %d entries, more than any disk needs", h.l1Entries)
	case (h.size-1)/perL1 >= uint64(h.l1Entries):
		return fmt.Errorf("its L1 table of %d entries is too small for its disk", h.l1Entries)
	case h.refcountOrder > maxRefcountOrder:
		return fmt.Errorf("its reference counts have 2^%d bits", h.refcountOrder)
	case h.refcountClusters == 0:
		return errors.New("it has no reference count table")
	case uint64(h.refcountClusters)<<h.clusterBits > maxRefcountBytes:
		return errors.New("its reference count table is larger than any disk needs")
	case h.snapshots > maxSnapshots:
		return fmt.Errorf("it has %d internal snapshots, more than %d", h.snapshots, maxSnapshots)
	}
	return nil
}

// region is a part of the file that a table takes.
type region struct {
	name        string
	start, size uint64
}

// checkLayout sees that the tables lie inside the file, begin at clusters, and do not overlap.
func (h *qcow2) checkLayout(fileSize uint64) error {
	regions := []region{
		{"header", 0, h.cluster()},
		{"L1 table", h.l1Offset, uint64(h.l1Entries) * 8},
		{"reference count table", h.refcountOffset, uint64(h.refcountClusters) << h.clusterBits},
	}
	if h.snapshots > 0 {
		regions = append(regions, region{"snapshot table", h.snapshotsOffset, uint64(h.snapshots) * minSnapshotBytes})
	}
	for _, r := range regions {
		switch {
		case r.start%h.cluster() != 0:
			return fmt.Errorf("its %s does not begin at a cluster", r.name)
		case r.start > fileSize || r.size > fileSize-r.start:
			return fmt.Errorf("it is cut off: its %s ends after the last of its %d bytes", r.name, fileSize)
		}
	}
	slices.SortStableFunc(regions, func(a, b region) int { return cmp.Compare(a.start, b.start) })
	for i, r := range regions[1:] {
		if before := regions[i]; r.start < before.start+before.size {
			return fmt.Errorf("its %s and its %s overlap", before.name, r.name)
		}
	}
	return nil
}
