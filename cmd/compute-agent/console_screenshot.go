package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// stdoutName is the --output that is no file.
const stdoutName = "-"

func newConsoleScreenshotCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "screenshot SERVER --output FILE",
		Short: "Write a picture of a server's screen into a file",
		Long: "Writes what the first screen of a running server shows now into a file, as a PNG that only its owner can read. SERVER is an ID or a\n" +
			"name. A file of that name is replaced when the picture is whole. Asks the running agent, with clouds.yaml in the state directory.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			if output == stdoutName && isTerminal(cmd.OutOrStdout()) {
				return errors.New("--output -: this is a terminal, which shows no pictures: name a file")
			}
			picture, err := screenshotOf(cmd.Context(), c, args[0])
			if err == nil {
				err = putPicture(output, cmd.OutOrStdout(), picture)
			}
			if err != nil {
				return exitError{exitFailed, err}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` that the picture is written into; - for standard output")
	_ = cmd.MarkFlagRequired("output") // there is such a flag
	addConfigFlags(cmd.Flags())
	return cmd
}

// screenshotOf asks for the whole screen, as a PNG.
func screenshotOf(ctx context.Context, c *Config, server string) ([]byte, error) {
	cl, err := openAPI(ctx, c)
	if err != nil {
		return nil, err
	}
	id, err := cl.server(ctx, server)
	if err != nil {
		return nil, err
	}
	var answer struct{ Screenshot []byte }
	if err := cl.do(ctx, http.MethodGet, "/servers/"+id+"/diagnostics?screenshot=full", nil, &answer); err != nil {
		return nil, err
	}
	if len(answer.Screenshot) == 0 {
		return nil, fmt.Errorf("server %s has no screen", server)
	}
	return answer.Screenshot, nil
}

// putPicture leaves no half of a picture under the file's name.
func putPicture(name string, out io.Writer, picture []byte) error {
	if name == stdoutName {
		_, err := out.Write(picture)
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	_, err = f.Write(picture)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("--output: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
