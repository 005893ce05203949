package target

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestServers: what the servers export can be read by QEMU, with its password and not without.
func TestServers(t *testing.T) {
	s := StartISCSI(t)
	iqn := "iqn.2026-01.org.example:one"
	s.Add(t, LUN{IQN: iqn, Number: 1, File: Blank(t, 1<<20), SCSIID: "first", Serial: "one"})
	s.Login(t, iqn, "user", "the password")
	info := func(image string, more ...string) (string, error) {
		out, err := exec.Command("qemu-img", append(append([]string{"info"}, more...), "json:"+image)...).CombinedOutput()
		return string(out), err
	}
	drive := fmt.Sprintf(`"driver":"iscsi","transport":"tcp","portal":"%s","target":"%s","lun":1`, s.Portal, iqn)
	if out, err := info(`{"driver":"raw","file":{` + drive + `}}`); err == nil {
		t.Errorf("the target lets in whoever comes: %s", out)
	}
	out, err := info(`{"driver":"raw","file":{`+drive+`,"user":"user","password-secret":"s"}}`, "--object", "secret,id=s,data=the password")
	if err != nil || !strings.Contains(out, "(1048576 bytes)") {
		t.Errorf("%v: %s", err, out)
	}
	if list := s.Sessions(t); len(list) != 0 {
		t.Errorf("sessions are left: %v", list)
	}
	address := StartNBD(t, Blank(t, 2<<20), "disk")
	out, err = info(fmt.Sprintf(`{"driver":"raw","file":{"driver":"nbd","host":"127.0.0.1","port":"%d","export":"disk"}}`, address.Port))
	if err != nil || !strings.Contains(out, "(2097152 bytes)") {
		t.Errorf("%v: %s", err, out)
	}
}
