package numa

import (
	"regexp"
	"strconv"
	"strings"
)

// PageSize reads hw:mem_page_size: a size in KiB, PageSmall, PageLarge, PageAny, or 0 for nothing asked.
// The image may narrow a flavor that says large or any, and nothing else.
func (r Request) PageSize() (int, error) {
	flavor, image := r.pair("mem_page_size")
	if flavor == "" && image == "" {
		return 0, nil
	}
	if flavor == "" {
		return 0, failed("MemoryPageSizeForbidden", "hw_mem_page_size", image, "the image may choose a page size only where the flavor says large or any")
	}
	size, err := ParsePageSize("hw:mem_page_size", flavor)
	switch {
	case err != nil:
		return 0, err
	case image == "":
		return size, nil
	case size == PageAny || size == PageLarge:
		return ParsePageSize("hw_mem_page_size", image)
	}
	return 0, failed("MemoryPageSizeForbidden", "hw_mem_page_size", image, "the image may not override hw:mem_page_size=%s of the flavor", flavor)
}

// ParsePageSize reads small, large, any, a number of KiB, or a size with a unit (2MB, 1GiB). key
// is named in the error.
func ParsePageSize(key, text string) (int, error) {
	switch text {
	case "small":
		return PageSmall, nil
	case "large":
		return PageLarge, nil
	case "any":
		return PageAny, nil
	}
	kib, err := strconv.Atoi(text)
	if err != nil {
		kib = bytesOf(text) / 1024
	}
	if kib <= 0 {
		return 0, failed("MemoryPageSizeInvalid", key, text, "must be small, large, any, a number of KiB, or a size such as 2MB")
	}
	return kib, nil
}

var sizeWithUnit = regexp.MustCompile(`^(\d*\.?\d+)(?:([KMGT])i?)?(b|bit|B)$`)

// bytesOf reads a size with a binary unit as oslo.utils does; 0 if it is none. "b" and "bit" are bits.
func bytesOf(text string) int {
	m := sizeWithUnit.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0
	}
	if m[3] != "B" {
		n /= 8
	}
	shift := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[m[2]]
	return int(n * float64(int(1)<<shift))
}

// LockedMemory reads hw:locked_memory: whether the guest's memory may not be swapped. It needs a page
// size; the flavor and the image must agree. set is false when neither says anything.
func (r Request) LockedMemory() (locked, set bool, err error) {
	encrypted, err := r.MemoryEncryption()
	if err != nil {
		return false, false, err
	}
	flavor, inFlavor := r.ExtraSpecs["hw:locked_memory"]
	image, inImage := r.Properties["hw_locked_memory"]
	if inFlavor && inImage && isTrue(flavor) != isTrue(image) {
		return false, false, failed("FlavorImageLockedMemoryConflict", "hw_locked_memory", image, "the flavor says hw:locked_memory=%s", flavor)
	}
	locked = isTrue(flavor) || isTrue(image)
	if flavorModel, imageModel := r.pair("mem_encryption_model"); encrypted && flavorModel != "amd-sev-snp" && imageModel != "amd-sev-snp" {
		// Memory that is encrypted so cannot be moved, and is locked whatever is said.
		return true, true, nil
	}
	pageFlavor, pageImage := r.pair("mem_page_size")
	if locked && pageFlavor == "" && pageImage == "" {
		return false, false, failed("LockMemoryForbidden", "hw:locked_memory", "", "needs hw:mem_page_size")
	}
	return locked, inFlavor || inImage, nil
}

// MemoryEncryption says whether the flavor or the image asks for encrypted memory (AMD SEV), with
// Nova's conditions on firmware and machine type.
func (r Request) MemoryEncryption() (bool, error) {
	flavor, inFlavor := r.ExtraSpecs["hw:mem_encryption"]
	image, inImage := r.Properties["hw_mem_encryption"]
	switch {
	case inFlavor && inImage && isTrue(flavor) != isTrue(image):
		return false, failed("FlavorImageConflict", "hw_mem_encryption", image, "the flavor says hw:mem_encryption=%s", flavor)
	case !isTrue(flavor) && !isTrue(image):
		return false, nil
	}
	if firmware := r.Properties["hw_firmware_type"]; firmware != "uefi" {
		return false, failed("FlavorImageConflict", "hw_firmware_type", firmware, "memory encryption needs hw_firmware_type=uefi")
	}
	if machine, set := r.Properties["hw_machine_type"]; set && !strings.Contains(machine, "q35") {
		return false, failed("InvalidMachineType", "hw_machine_type", machine, "memory encryption needs a q35 machine type")
	}
	return true, nil
}

// Huge says whether pages of this size are huge: set aside before they are used. Ordinary pages
// are of 4 KiB to 64 KiB, by the architecture.
func Huge(pageKiB int) bool { return pageKiB > 64 }
