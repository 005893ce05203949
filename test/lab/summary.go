package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// summary is the program test/summary, which prints tests and counts out of what tests say in JSON.
type summary struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

func newSummary(ctx context.Context, chosen []group) *summary {
	args := []string{"run", "./test/summary", "-v", "-all", "lab tests"}
	for _, g := range chosen {
		args = append(args, fmt.Sprintf("lab, %s on machine %s=%s Test", g.name, g.profile, g.pkg()))
	}
	s := &summary{cmd: exec.CommandContext(ctx, "go", args...)}
	s.cmd.Stdout, s.cmd.Stderr = os.Stdout, os.Stderr
	return s
}

func (s *summary) start() (err error) {
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	return s.cmd.Start()
}

// finish prints the counts. Its error says that a test failed or that there were none.
func (s *summary) finish() error {
	_ = s.in.Close()
	var exit *exec.ExitError
	switch err := s.cmd.Wait(); {
	case errors.As(err, &exit):
		return errors.New("not all tests passed")
	default:
		return err
	}
}
