package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// Bounds of a picture of a guest's screen, whose size is the guest's choice: pixels, and bytes of a format that does not compress.
const (
	maxScreenPixels = 4096 * 4096
	maxPictureBytes = 3*maxScreenPixels + 64<<10
)

// Screenshot implements virt.Screenshotter. QEMU pictures the screen, as a PNG or, before its version 7.1, as a PPM.
func (d *Driver) Screenshot(ctx context.Context, id string) ([]byte, error) {
	const op = "picture screen of guest"
	domain, err := d.live(ctx, op, id)
	if err != nil {
		return nil, err
	}
	if !hasScreen(domain) {
		return nil, failure(op, id, fmt.Errorf("%w: the guest has no screen", virt.ErrUnsupported))
	}
	pictures := make(chan []byte, 1)
	err = d.run(ctx, op, id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(conn *lv.Connect) error {
			picture, err := takePicture(conn, id)
			pictures <- picture
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	picture, err := toPNG(<-pictures)
	return picture, failure(op, id, err)
}

func hasScreen(domain *libvirtxml.Domain) bool {
	if domain.Devices == nil {
		return false
	}
	for _, v := range domain.Devices.Videos {
		if v.Model.Type != "none" {
			return true
		}
	}
	return false
}

// takePicture receives a picture in the hypervisor's format.
func takePicture(conn *lv.Connect, id string) ([]byte, error) {
	dom, err := lookup(conn, id)
	if err != nil {
		return nil, err
	}
	defer free(dom)
	stream, err := conn.NewStream(0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Free() }()
	if _, err := dom.Screenshot(stream, 0, 0); err != nil {
		return nil, err
	}
	picture, err := io.ReadAll(io.LimitReader(received{stream}, maxPictureBytes+1))
	if err == nil && len(picture) > maxPictureBytes {
		err = fmt.Errorf("the screen has too many pixels: a picture of it has more than %d bytes", maxPictureBytes)
	}
	if err != nil {
		return nil, errors.Join(err, stream.Abort())
	}
	return picture, stream.Finish()
}

// received reads what comes in a stream.
type received struct{ stream *lv.Stream }

func (r received) Read(p []byte) (int, error) {
	n, err := r.stream.Recv(p)
	if n <= 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// toPNG makes a PNG of a picture. The kind is told by the bytes, since libvirt is right about it only from 8.6 on.
func toPNG(picture []byte) ([]byte, error) {
	if bytes.HasPrefix(picture, []byte("\x89PNG\r\n\x1a\n")) {
		config, err := png.DecodeConfig(bytes.NewReader(picture))
		if err == nil {
			err = checkScreenSize(config.Width, config.Height)
		}
		return picture, err
	}
	screen, err := decodePPM(picture)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out, screen)
	return out.Bytes(), err
}

func checkScreenSize(width, height int) error {
	if width < 1 || height < 1 || width > maxScreenPixels/height {
		return fmt.Errorf("the screen is %d by %d pixels; at most %d are pictured", width, height, maxScreenPixels)
	}
	return nil
}
