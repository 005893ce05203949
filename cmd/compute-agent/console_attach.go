package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"compute-agent/console/terminal"

	"github.com/spf13/cobra"
)

// attachment is what `console attach` is told.
type attachment struct {
	server       string
	port, escape int
	key          string // the escape key in words
}

func newConsoleAttachCommand() *cobra.Command {
	var a attachment
	cmd := &cobra.Command{
		Use:   "attach SERVER",
		Short: "Join this terminal with a serial console of a server",
		Long: "Asks the API for the serial console of a server and joins this terminal with it, through the same proxy and with a token as\n" +
			"browsers do. SERVER is an ID or a name. Asks the running agent, with clouds.yaml in the state directory. The escape key ends\n" +
			"it; if the input is no terminal, that byte in it does, and the end of the input does not.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if a.escape, err = terminal.ParseEscape(a.key); err != nil {
				return fmt.Errorf("--escape: %w", err)
			}
			c, err := configOf(cmd)
			if err != nil {
				return err
			}
			a.server = args[0]
			if err := a.run(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr()); err != nil {
				return exitError{exitFailed, err}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&a.port, "port", 0, "`number` of the serial port, from 0, of those that take a client")
	cmd.Flags().StringVar(&a.key, "escape", "^]", "`key` that ends it: ^] or ^A for a key with Ctrl, a single character, or none")
	addConfigFlags(cmd.Flags())
	return cmd
}

// run attaches until one side ends it. A signal that asks the program to end is one too: the terminal is to be left as it was.
func (a *attachment) run(ctx context.Context, c *Config, out, errOut io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	defer stop()
	address, err := a.ask(ctx, c)
	if err != nil {
		return err
	}
	client, err := consoleClient(c.Console.TLSCert)
	if err != nil {
		return err
	}
	ending, err := terminal.Attach(ctx, terminal.Options{URL: address, Client: client, In: os.Stdin, Out: out, Escape: a.escape}, func() {
		_, _ = fmt.Fprintf(errOut, "Connected to serial port %d of %s; the escape key is %s.\n", a.port, a.server, a.key) // nobody to tell when nobody listens
	})
	switch {
	case err != nil:
		return err
	case !ending.Orderly():
		return errors.New("the console ended: " + ending.String())
	}
	_, _ = fmt.Fprintf(errOut, "\nThe console ended: %s.\n", ending)
	return nil
}

// ask is the address of the console, with a token.
func (a *attachment) ask(ctx context.Context, c *Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tellPatience)
	defer cancel()
	api, err := openAPI(ctx, c)
	if err != nil {
		return "", err
	}
	id, err := api.server(ctx, a.server)
	if err != nil {
		return "", err
	}
	wanted := map[string]any{"protocol": "serial", "type": "serial"}
	if a.port != 0 {
		wanted["port"] = a.port
	}
	var answer struct {
		Console struct{ URL string } `json:"remote_console"`
	}
	err = api.do(ctx, http.MethodPost, "/servers/"+id+"/remote-consoles", map[string]any{"remote_console": wanted}, &answer)
	return answer.Console.URL, err
}

// consoleClient trusts the agent's own certificate for consoles, too, if it has one.
func consoleClient(certificate string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if certificate != "" {
		text, err := os.ReadFile(certificate)
		if err != nil {
			return nil, fmt.Errorf("the certificate of consoles: %w", err)
		}
		trusted, err := x509.SystemCertPool()
		if err != nil {
			trusted = x509.NewCertPool()
		}
		trusted.AppendCertsFromPEM(text)
		transport.TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}, nil
}
