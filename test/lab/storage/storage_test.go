//go:build lab

// Package storage tests on a full kernel what the connectors do: against LIO's iSCSI and Fibre Channel targets, an NVMe target over TCP, an NFS server,
// with multipathd and cryptsetup.
package storage

import (
	"os/exec"
	"testing"
)

// TestKernel says that the lab's kernel has what the tests here need.
func TestKernel(t *testing.T) {
	for _, module := range []string{
		"iscsi_target_mod", "target_core_file", "iscsi_tcp", "dm_multipath", "dm_crypt", "scsi_dh_alua", "nvmet_tcp", "nvme_tcp", "fcoe", "tcm_fc", "nfsd",
	} {
		if out, err := exec.Command("modprobe", module).CombinedOutput(); err != nil {
			t.Errorf("modprobe %s: %v: %s", module, err, out)
		}
	}
}
