//go:build lab

package storage

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/luks"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/command"
)

const luksKey = "3ba1f2c0d4e5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff"

func luksID(n int) string { return fmt.Sprintf("6c756b73-0000-4000-8000-%012d", n) }

// luksCiphers are the ways in which the host decrypts.
func luksCiphers() map[string]connector.Cipher {
	return map[string]connector.Cipher{
		"luks":         {Format: luks.FormatLUKS, Key: luksKey},
		"luks2":        {Format: luks.FormatLUKS2, Cipher: "aes-xts-plain64", KeySize: 256, Key: luksKey},
		"luks by name": {Format: luks.FormatLUKS, Cipher: "aes-cbc-essiv:sha256", KeySize: 256, Key: luksKey},
		"plain":        {Format: luks.FormatPlain, Cipher: "aes-xts-plain64", KeySize: 256, Key: luksKey},
	}
}

// newLUKS is a host on which no volume is open, now and when the test ends.
func newLUKS(t testing.TB) *luks.Host {
	t.Helper()
	run(t, "modprobe", "dm_crypt")
	h := &luks.Host{System: scsi.Host(), Run: command.Exec{}}
	t.Cleanup(func() {
		maps, err := h.Maps()
		if err != nil || len(maps) != 0 {
			t.Errorf("left over: %+v, %v", maps, err)
		}
		for _, m := range maps {
			_ = exec.Command("cryptsetup", "close", m.Name).Run()
		}
	})
	return h
}

// luksDisk is a blank block device.
func luksDisk(t testing.TB, size int64) (file string, dev connector.Device) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(run(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { run(t, "losetup", "--detach", loop) })
	return file, connector.Device{Path: loop, Format: "raw", Bytes: size}
}

func luksOpen(t testing.TB, h *luks.Host, id string, dev connector.Device, c connector.Cipher) connector.Device {
	t.Helper()
	got, err := h.Open(t.Context(), id, dev, c)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func luksClose(t testing.TB, h *luks.Host, id string) {
	t.Helper()
	if err := h.Close(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestLUKSVolumes(t *testing.T) {
	h := newLUKS(t)
	for name, cipher := range luksCiphers() {
		t.Run(name, func(t *testing.T) {
			file, disk := luksDisk(t, 64<<20)
			began := time.Now()
			if err := luks.Format(t.Context(), command.Exec{}, disk.Path, cipher); err != nil {
				t.Fatal(err)
			}
			formatted := time.Since(began)
			began = time.Now()
			dev := luksOpen(t, h, luksID(1), disk, cipher)
			t.Logf("format %.2f s, open %.2f s, %d bytes of %d", formatted.Seconds(), time.Since(began).Seconds(), dev.Bytes, disk.Bytes)
			if dev.Path != "/dev/mapper/crypt-"+luksID(1) || dev.Crypt != "crypt-"+luksID(1) || dev.Below != disk.Path || dev.Bytes > disk.Bytes || dev.Bytes < disk.Bytes/2 {
				t.Errorf("%+v", dev)
			}
			data := make([]byte, 4<<20)
			_, _ = rand.Read(data)
			if err := os.WriteFile(dev.Path, data, 0); err != nil {
				t.Fatal(err)
			}
			luksClose(t, h, luksID(1))
			if raw, err := os.ReadFile(file); err != nil || bytes.Contains(raw, data[:512]) {
				t.Errorf("the disk has plain text: %v", err)
			}

			wrong := cipher
			wrong.Key = cipher.Key[:len(cipher.Key)-1] + "0"
			if cipher.Format != luks.FormatPlain { // which cannot tell
				_, err := h.Open(t.Context(), luksID(1), disk, wrong)
				wantRefusal(t, err, connector.AuthFailed, "key does not open")
				if strings.Contains(err.Error(), string(wrong.Key)) {
					t.Error("the error has the key")
				}
			}
			dev = luksOpen(t, h, luksID(1), disk, cipher)
			back := make([]byte, len(data))
			f, err := os.Open(dev.Path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(f, back); err != nil || !bytes.Equal(back, data) {
				t.Errorf("what was written does not come back: %v", err)
			}
			_ = f.Close()

			before := dev.Bytes
			if err := os.Truncate(file, 96<<20); err != nil {
				t.Fatal(err)
			}
			run(t, "losetup", "--set-capacity", disk.Path)
			if dev, err = h.Resize(t.Context(), luksID(1), dev, cipher); err != nil || dev.Bytes != before+32<<20 {
				t.Errorf("%+v, %v", dev, err)
			}
			luksClose(t, h, luksID(1))
			luksClose(t, h, luksID(1))
		})
	}
}

// TestLUKSForQEMU: a volume that cryptsetup formats as LUKS1 is what QEMU opens too, and a LUKS2 one is not: the header says which.
func TestLUKSForQEMU(t *testing.T) {
	for format, native := range map[string]bool{luks.FormatLUKS: true, luks.FormatLUKS2: false} {
		_, disk := luksDisk(t, 64<<20)
		if err := luks.Format(t.Context(), command.Exec{}, disk.Path, connector.Cipher{Format: format, Key: luksKey}); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(disk.Path)
		if err != nil {
			t.Fatal(err)
		}
		found, err := luks.Header(f)
		_ = f.Close()
		if err != nil || found.Native() != native {
			t.Errorf("%s: %+v, %v", format, found, err)
		}
		cmd := exec.Command("qemu-img", "info", "--object", "secret,id=k,file=/dev/stdin,format=raw", "--image-opts", "driver=luks,key-secret=k,file.driver=host_device,file.filename="+disk.Path)
		cmd.Stdin = strings.NewReader(luksKey)
		if out, err := cmd.CombinedOutput(); (err == nil) != native {
			t.Errorf("%s: QEMU: %v: %s", format, err, out)
		}
	}
}

func TestLUKSBusy(t *testing.T) {
	h := newLUKS(t)
	cipher := connector.Cipher{Format: luks.FormatLUKS2, Key: luksKey}
	_, disk := luksDisk(t, 64<<20)
	if err := luks.Format(t.Context(), command.Exec{}, disk.Path, cipher); err != nil {
		t.Fatal(err)
	}
	dev := luksOpen(t, h, luksID(2), disk, cipher)
	guest := exec.Command("sh", "-c", `exec 3<>"$0"; echo; read x`, dev.Path) // has it open, as QEMU has
	in, err1 := guest.StdinPipe()
	out, err2 := guest.StdoutPipe()
	if err := errors.Join(err1, err2, guest.Start()); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 1))
	wantRefusal(t, h.Close(t.Context(), luksID(2)), connector.InUse, "process sh")
	_ = in.Close()
	_ = guest.Wait()

	run(t, "mkfs.ext4", "-q", dev.Path)
	dir := t.TempDir()
	run(t, "mount", dev.Path, dir)
	wantRefusal(t, h.Close(t.Context(), luksID(2)), connector.InUse, "mount "+dir)
	run(t, "umount", dir)

	// The disk below is held by the map: nobody else opens or formats it.
	_, err := h.Open(t.Context(), luksID(3), disk, cipher)
	wantRefusal(t, err, connector.InUse, "crypt-"+luksID(2))
	wantRefusal(t, luks.Reformat(t.Context(), command.Exec{}, disk.Path, cipher), connector.InUse)
	luksClose(t, h, luksID(2))
}

// TestLUKSAfterCrash: the map that an agent left is used again above the right disk, and replaced when its name stands above another.
func TestLUKSAfterCrash(t *testing.T) {
	h := newLUKS(t)
	cipher := connector.Cipher{Format: luks.FormatLUKS, Key: luksKey}
	_, one := luksDisk(t, 64<<20)
	_, two := luksDisk(t, 64<<20)
	for _, disk := range []connector.Device{one, two} {
		if err := luks.Format(t.Context(), command.Exec{}, disk.Path, cipher); err != nil {
			t.Fatal(err)
		}
	}
	luksOpen(t, h, luksID(4), one, cipher)
	maps, err := h.Maps()
	if err != nil || len(maps) != 1 || maps[0].VolumeID != luksID(4) || "/dev/"+maps[0].Below != one.Path {
		t.Fatalf("%+v, %v", maps, err)
	}
	next := newLUKS(t)
	luksOpen(t, next, luksID(4), one, cipher)
	if again, err := next.Maps(); err != nil || len(again) != 1 || again[0] != maps[0] {
		t.Errorf("it was opened again: %+v, %v", again, err)
	}
	luksOpen(t, next, luksID(4), two, cipher)
	if again, err := next.Maps(); err != nil || len(again) != 1 || "/dev/"+again[0].Below != two.Path {
		t.Errorf("it is above the other disk still: %+v, %v", again, err)
	}
	luksClose(t, next, luksID(4))
}

func TestLUKSRefusals(t *testing.T) {
	h := newLUKS(t)
	cipher := connector.Cipher{Format: luks.FormatLUKS2, Key: luksKey}
	_, disk := luksDisk(t, 64<<20)
	_, err := h.Open(t.Context(), luksID(5), disk, cipher)
	wantRefusal(t, err, connector.InvalidInfo, "blank")
	run(t, "mkfs.ext4", "-q", disk.Path)
	_, err = h.Open(t.Context(), luksID(5), disk, cipher)
	wantRefusal(t, err, connector.InvalidInfo, "foreign")
	wantRefusal(t, luks.Format(t.Context(), command.Exec{}, disk.Path, cipher), connector.HasData, "not blank")
	dir := t.TempDir()
	run(t, "mount", disk.Path, dir) // it is a file system still
	wantRefusal(t, luks.Reformat(t.Context(), command.Exec{}, disk.Path, cipher), connector.InUse)
	run(t, "umount", dir)
	if err := luks.Reformat(t.Context(), command.Exec{}, disk.Path, cipher); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, luks.Format(t.Context(), command.Exec{}, disk.Path, cipher), connector.HasData, "luks2 header")
	_, err = h.Open(t.Context(), luksID(5), disk, connector.Cipher{Format: luks.FormatPlain, Key: luksKey})
	wantRefusal(t, err, connector.InvalidInfo, "LUKS header")
}

// TestLUKSFile: a file is decrypted by the host too, where QEMU cannot.
func TestLUKSFile(t *testing.T) {
	h := newLUKS(t)
	cipher := connector.Cipher{Format: luks.FormatLUKS2, Key: luksKey}
	file := filepath.Join(t.TempDir(), "volume")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := luks.Format(t.Context(), command.Exec{}, file, cipher); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		luksOpen(t, h, luksID(6), connector.Device{Path: file}, cipher)
	}
	if maps, err := h.Maps(); err != nil || len(maps) != 1 || !strings.HasPrefix(maps[0].Below, "loop") {
		t.Errorf("%+v, %v", maps, err)
	}
	luksClose(t, h, luksID(6))
}

func TestLUKSManyAtOnce(t *testing.T) {
	h := newLUKS(t)
	const all = 20
	cipher := connector.Cipher{Format: luks.FormatLUKS2, Key: luksKey}
	disks := make([]connector.Device, all)
	for i := range disks {
		_, disks[i] = luksDisk(t, 32<<20)
		if err := luks.Format(t.Context(), command.Exec{}, disks[i].Path, cipher); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	luksOpen(t, h, luksID(100), disks[0], cipher)
	single := time.Since(began)
	luksClose(t, h, luksID(100))
	began = time.Now()
	var wait sync.WaitGroup
	for i := range disks {
		wait.Go(func() {
			if _, err := h.Open(t.Context(), luksID(100+i), disks[i], cipher); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	opened := time.Since(began)
	began = time.Now()
	for i := range disks {
		wait.Go(func() {
			if err := h.Close(t.Context(), luksID(100+i)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	t.Logf("one %.2f s; %d at once: open %.2f s, close %.2f s", single.Seconds(), all, opened.Seconds(), time.Since(began).Seconds())
}
