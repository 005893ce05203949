package compute

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
)

// The size of a thumbnail, and of the largest screen that one is made of, in pixels.
const (
	thumbnailWidth  = 320
	thumbnailHeight = 240
	maxScreen       = 1 << 24
)

// thumbnail is a PNG of a screen, made so small that it fits into an answer. The pixels are the guest's: nothing is believed of them.
func thumbnail(screen []byte) ([]byte, error) {
	size, err := png.DecodeConfig(bytes.NewReader(screen))
	if err != nil {
		return nil, fmt.Errorf("read the screenshot: %w", err)
	}
	if size.Width <= 0 || size.Height <= 0 || size.Width > maxScreen/size.Height {
		return nil, fmt.Errorf("the screenshot has %d by %d pixels, more than %d", size.Width, size.Height, maxScreen)
	}
	picture, err := png.Decode(bytes.NewReader(screen))
	if err != nil {
		return nil, fmt.Errorf("read the screenshot: %w", err)
	}
	var out bytes.Buffer
	err = png.Encode(&out, shrunk(picture))
	return out.Bytes(), err
}

// shrunk fits a picture into a thumbnail: each pixel is the mean of those that it stands for.
func shrunk(from image.Image) image.Image {
	area := from.Bounds()
	w, h := fitted(area.Dx(), area.Dy())
	to := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			part := image.Rect(x*area.Dx()/w, y*area.Dy()/h, (x+1)*area.Dx()/w, (y+1)*area.Dy()/h)
			to.Set(x, y, mean(from, part.Add(area.Min)))
		}
	}
	return to
}

// fitted is a size of the same shape that is no larger than a thumbnail.
func fitted(w, h int) (int, int) {
	switch {
	case w <= thumbnailWidth && h <= thumbnailHeight:
		return w, h
	case w*thumbnailHeight >= h*thumbnailWidth:
		return thumbnailWidth, max(1, h*thumbnailWidth/w)
	default:
		return max(1, w*thumbnailHeight/h), thumbnailHeight
	}
}

func mean(from image.Image, part image.Rectangle) color.Color {
	var sum [3]uint64
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			r, g, b, _ := from.At(x, y).RGBA()
			sum[0], sum[1], sum[2] = sum[0]+uint64(r), sum[1]+uint64(g), sum[2]+uint64(b)
		}
	}
	n := uint64(part.Dx() * part.Dy())
	return color.RGBA64{R: uint16(sum[0] / n), G: uint16(sum[1] / n), B: uint16(sum[2] / n), A: 0xffff} //nolint:gosec // a mean of 16 bits
}
