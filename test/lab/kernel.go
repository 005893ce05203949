package main

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"
)

// checkKernel reads the messages of the machine's kernel: a machine whose kernel failed has shown nothing.
func (v *vm) checkKernel(client *ssh.Client) error {
	var log bytes.Buffer
	limit := time.AfterFunc(time.Minute, func() { v.end(fmt.Errorf("%w: it does not answer", errLab)) })
	defer limit.Stop()
	if err := v.execute(client, "dmesg", &log); err != nil {
		return fmt.Errorf("%w: %w", errLab, err)
	}
	if trouble := firstTrouble(log.String()); trouble != "" {
		return fmt.Errorf("%w: its kernel says: %s", errLab, trouble)
	}
	return nil
}
