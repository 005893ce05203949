package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"compute-agent/internal/command"
)

// What qemu-img may use while it reads hostile bytes: Nova's limits (1 GiB, 30 s of CPU) for the
// look at the header, more time for the walk through all tables of a large image.
var (
	infoLimits  = command.Limits{AddressSpace: 1 << 30, CPU: 30 * time.Second}
	checkLimits = command.Limits{AddressSpace: 1 << 30, CPU: 3 * time.Minute}
)

// The exit codes of qemu-img check (qemu-img(1)).
const (
	checkCorrupt = 2
	checkLeaks   = 3 // clusters that nothing uses: room lost, nothing wrong
)

const stdin = "/dev/stdin"

// secondOpinion asks qemu-img whether it agrees with what was found in the header, and whether
// the tables of a qcow2 image are sound all the way down.
func (s *Store) secondOpinion(ctx context.Context, file *os.File, want Info) error {
	if err := s.readers.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for other images to be inspected: %w", err)
	}
	defer s.readers.Release(1)
	out, err := s.qemuImg(ctx, file, want.Format, "info", infoLimits)
	if err != nil {
		return unreadable(want.Format, err)
	}
	if err := agree(out, want); err != nil {
		return err
	}
	if want.Format != FormatQCOW2 {
		return nil
	}
	_, err = s.qemuImg(ctx, file, want.Format, "check", checkLimits)
	var failure *command.Error
	if errors.As(err, &failure) && failure.ExitCode == checkCorrupt {
		return &Refusal{want.Format, "its tables are damaged or the file is cut off"}
	}
	if errors.As(err, &failure) && failure.ExitCode == checkLeaks {
		return nil
	}
	return unreadable(want.Format, err)
}

// qemuImg runs a reading command of qemu-img. The program gets the open file and neither a name
// nor a right to open any other: nothing in the image can make it read one.
func (s *Store) qemuImg(ctx context.Context, file *os.File, format, verb string, limits command.Limits) ([]byte, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return s.opt.Runner.Run(ctx, command.Cmd{
		Name: "qemu-img",
		Args: []string{verb, "--output=json", "--image-opts",
			"driver=" + format + ",file.driver=file,file.filename=" + stdin},
		Stdin:  file,
		Nobody: true,
		Limits: limits,
	})
}

// unreadable is a refusal if the program ran and failed: whatever it stumbled over is in the image.
func unreadable(format string, err error) error {
	var exit *exec.ExitError
	var failure *command.Error
	if !errors.As(err, &exit) || !errors.As(err, &failure) {
		return err
	}
	reason := failure.Stderr
	if _, cause, found := strings.Cut(reason, stdin+"': "); found {
		reason = cause // without the words for a file that has no name
	}
	if reason == "" {
		reason = exit.Error()
	}
	return &Refusal{format, "qemu-img cannot read it: " + reason}
}

// agree compares qemu-img's account of an image with ours.
func agree(out []byte, want Info) error {
	var got struct {
		Format      string `json:"format"`
		VirtualSize int64  `json:"virtual-size"`
		Backing     string `json:"backing-filename"`
		Encrypted   bool   `json:"encrypted"`
		Specific    struct {
			Data struct {
				DataFile string `json:"data-file"`
				Corrupt  bool   `json:"corrupt"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("qemu-img info: %w", err)
	}
	switch {
	case got.Format != want.Format:
		return &Refusal{want.Format, "qemu-img takes it for " + got.Format}
	case got.VirtualSize != want.VirtualSize:
		return &Refusal{want.Format, fmt.Sprintf("qemu-img reads a disk of %d bytes, its header says %d", got.VirtualSize, want.VirtualSize)}
	case got.Backing != "" || got.Specific.Data.DataFile != "":
		return &Refusal{want.Format, "qemu-img finds another file in it"}
	case got.Encrypted:
		return &Refusal{want.Format, "it is encrypted"}
	case got.Specific.Data.Corrupt:
		return &Refusal{want.Format, "it is marked as corrupt"}
	}
	return nil
}
