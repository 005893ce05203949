package libvirt

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"strconv"
)

var errNoPPM = errors.New("the hypervisor sent no picture of a kind that is known: neither PNG nor PPM with 8 bits")

// pixmap is a binary PPM with 8 bits per sample, the one kind that QEMU writes. It refers to the bytes that it was read from.
type pixmap struct {
	width, height int
	rgb           []byte
}

// decodePPM reads such a file and nothing else of the format: no comments, one character of white space between the words of its head.
func decodePPM(file []byte) (*pixmap, error) {
	var words [4]string
	for i := range words {
		const longest = 6 // digits of a size that could be allowed
		end := bytes.IndexAny(file[:min(len(file), longest+1)], " \n")
		if end < 0 {
			return nil, errNoPPM
		}
		words[i], file = string(file[:end]), file[end+1:]
	}
	width, widthErr := strconv.ParseUint(words[1], 10, 31)
	height, heightErr := strconv.ParseUint(words[2], 10, 31)
	if words[0] != "P6" || words[3] != "255" || widthErr != nil || heightErr != nil {
		return nil, errNoPPM
	}
	p := &pixmap{width: int(width), height: int(height), rgb: file}
	if err := checkScreenSize(p.width, p.height); err != nil {
		return nil, err
	}
	if len(file) != 3*p.width*p.height {
		return nil, errNoPPM
	}
	return p, nil
}

// ColorModel implements image.Image.
func (p *pixmap) ColorModel() color.Model { return color.RGBAModel }

// Bounds implements image.Image.
func (p *pixmap) Bounds() image.Rectangle { return image.Rect(0, 0, p.width, p.height) }

// At implements image.Image.
func (p *pixmap) At(x, y int) color.Color {
	if !image.Pt(x, y).In(p.Bounds()) {
		return color.RGBA{}
	}
	i := 3 * (y*p.width + x)
	return color.RGBA{p.rgb[i], p.rgb[i+1], p.rgb[i+2], 255}
}

// Opaque tells the encoder that there is no transparency, so that it writes none.
func (p *pixmap) Opaque() bool { return true }
