package inside

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

const blockStorage = "/volume/v3"

// Volume is a volume as the API shows it.
type Volume struct {
	ID          string `json:"id"`
	Status      string `json:"status"`
	Size        int    `json:"size"` // in GiB
	Attachments []struct {
		ServerID string `json:"server_id"`
	} `json:"attachments"`
}

// Of says that the volume is in use by a server.
func (v Volume) Of(server string) bool {
	return v.Status == "in-use" && len(v.Attachments) == 1 && v.Attachments[0].ServerID == server
}

// VolumeType makes a volume type, encrypted as LUKS or not.
func (a *Agent) VolumeType(name string, encrypted bool) string {
	a.t.Helper()
	var made struct {
		Type struct{ ID string } `json:"volume_type"`
	}
	a.call(http.MethodPost, blockStorage+"/types", map[string]any{"volume_type": map[string]any{"name": name, "extra_specs": map[string]string{"volume_backend_name": "fixed"}}}, &made)
	if encrypted {
		a.call(http.MethodPost, blockStorage+"/types/"+made.Type.ID+"/encryption", map[string]any{"encryption": map[string]any{
			"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}}, nil)
	}
	return made.Type.ID
}

// Volume makes a volume and returns its ID when it is available. It is deleted with the test. Fields are those of the API besides name and size.
func (a *Agent) Volume(gib int, fields map[string]any) string {
	a.t.Helper()
	var made struct{ Volume Volume }
	body := map[string]any{"name": "lab", "size": gib}
	for key, value := range fields {
		body[key] = value
	}
	a.call(http.MethodPost, blockStorage+"/volumes", map[string]any{"volume": body}, &made)
	id := made.Volume.ID
	a.t.Cleanup(func() { a.DeleteVolume(id) })
	a.Settled(id, "available")
	return id
}

// VolumeOfImage makes a volume that servers can boot from.
func (a *Agent) VolumeOfImage(gib int, fields map[string]any) string {
	a.t.Helper()
	with := map[string]any{"imageRef": a.image}
	for key, value := range fields {
		with[key] = value
	}
	return a.Volume(gib, with)
}

// ShowVolume returns the volume as it is now.
func (a *Agent) ShowVolume(id string) Volume {
	a.t.Helper()
	var answer struct{ Volume Volume }
	a.call(http.MethodGet, blockStorage+"/volumes/"+id, nil, &answer)
	return answer.Volume
}

// Settled waits until the volume has one of these statuses.
func (a *Agent) Settled(id string, statuses ...string) Volume {
	a.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(every) {
		v := a.ShowVolume(id)
		if slices.Contains(statuses, v.Status) {
			return v
		}
		if time.Now().After(limit) {
			a.t.Fatalf("volume %s is %s after %v, not %s", id, v.Status, patience, strings.Join(statuses, " or "))
		}
	}
}

// DeleteVolume deletes a volume and returns when it is gone.
func (a *Agent) DeleteVolume(id string) {
	a.t.Helper()
	path := blockStorage + "/volumes/" + id
	for limit := time.Now().Add(patience); ; time.Sleep(every) {
		_, err := a.request(http.MethodDelete, path, nil, nil)
		if isGone(err) {
			return
		}
		if time.Now().After(limit) {
			a.t.Errorf("volume %s is still there %v after it was deleted: %v", id, patience, err)
			return
		}
	}
}

func volumesOf(server string) string {
	return compute + "/servers/" + server + "/os-volume_attachments"
}

// InTurn asks again for what a server refuses because others were asked for before: the agent lets them wait for a minute, in which this machine does few.
func InTurn(try func() error) error {
	for limit := time.Now().Add(booting); ; time.Sleep(every) {
		err := try()
		var no *refused
		if !errors.As(err, &no) || no.status != http.StatusConflict || time.Now().After(limit) {
			return err
		}
	}
}

// TryAttach asks for a volume to be attached. How it ends the volume's status says.
func (a *Agent) TryAttach(server, volume string) error {
	_, err := a.request(http.MethodPost, volumesOf(server), map[string]any{"volumeAttachment": map[string]string{"volumeId": volume}}, nil)
	return err
}

// Attach attaches a volume and returns when the server has it.
func (a *Agent) Attach(server, volume string) {
	a.t.Helper()
	if err := a.TryAttach(server, volume); err != nil {
		a.t.Fatalf("attach volume %s: %v", volume, err)
	}
	if v := a.Settled(volume, "in-use", "available", "error"); !v.Of(server) {
		a.t.Fatalf("volume %s is not attached: %+v", volume, v)
	}
}

// TryDetach asks for a volume to be detached.
func (a *Agent) TryDetach(server, volume string) error {
	_, err := a.request(http.MethodDelete, volumesOf(server)+"/"+volume, nil, nil)
	return err
}

// Detach detaches a volume and returns when the server has it no more.
func (a *Agent) Detach(server, volume string) {
	a.t.Helper()
	if err := a.TryDetach(server, volume); err != nil {
		a.t.Fatalf("detach volume %s: %v", volume, err)
	}
	if v := a.Settled(volume, "in-use", "available", "error"); v.Status != "available" {
		a.t.Fatalf("volume %s is not detached: %+v", volume, v)
	}
}

// TryExtend asks for a volume to be made larger.
func (a *Agent) TryExtend(volume string, gib int) error {
	_, err := a.request(http.MethodPost, blockStorage+"/volumes/"+volume+"/action", map[string]any{"os-extend": map[string]int{"new_size": gib}}, nil)
	return err
}

// TrySwap asks for what is on a server's volume to be moved to another one, which takes its place.
func (a *Agent) TrySwap(server, volume, other string) error {
	_, err := a.request(http.MethodPut, volumesOf(server)+"/"+volume, map[string]any{"volumeAttachment": map[string]string{"volumeId": other}}, nil)
	return err
}

// BootGuest boots a server whose guest runs commands.
func (a *Agent) BootGuest() *Guest {
	a.t.Helper()
	return a.guest(a.Boot(Size{VCPUs: 1, MemoryMiB: 128}))
}

// BootFromVolume boots a server from a volume that holds the tiny guest.
func (a *Agent) BootFromVolume(volume string) *Guest {
	a.t.Helper()
	server, err := a.boot(Size{VCPUs: 1, MemoryMiB: 128}, map[string]any{"block_device_mapping_v2": []any{map[string]any{
		"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": 0, "delete_on_termination": false}}})
	if err != nil {
		a.t.Fatal(err)
	}
	return a.guest(server)
}

// Guest is a booted guest that runs commands, typed into the shell on its serial console.
type Guest struct {
	Server
	a *Agent
	*terminal
}

type terminal struct {
	log   string // file with what the guest writes
	tty   net.Conn
	typed int // commands
}

// In is the same guest for a subtest.
func (g *Guest) In(a *Agent) *Guest { return &Guest{g.Server, a, g.terminal} }

// booting is for guests that are emulated by an emulated machine.
const booting = 10 * time.Minute

func (a *Agent) guest(s Server) *Guest {
	a.t.Helper()
	a.Said(s.ID, "ready", booting)
	console := Domain(a.t, s.Domain).Devices.Serials[0]
	if console.Log == nil || console.Source == nil || console.Source.UNIX == nil {
		a.t.Fatalf("the guest's console is %+v", console)
	}
	tty, err := net.Dial("unix", console.Source.UNIX.Path)
	if err != nil {
		a.t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() { // else the guest would wait for somebody to read
		defer close(drained)
		_, _ = io.Copy(io.Discard, tty) // until it is closed
	}()
	a.t.Cleanup(func() {
		_ = tty.Close()
		<-drained
	})
	g := &Guest{s, a, &terminal{log: console.Log.File, tty: tty}}
	g.logIn()
	g.Run("dmesg -n 1") // its kernel does not write between the lines
	return g
}

// logIn has the guest's getty start a shell.
func (g *Guest) logIn() {
	g.a.t.Helper()
	for _, login := range []struct{ prompt, answer string }{{"tiny login: ", "root\n"}, {"Password: ", "tiny\n"}, {"tiny# ", ""}} {
		for limit := time.Now().Add(booting); ; time.Sleep(every) {
			said, err := os.ReadFile(g.log)
			if err != nil {
				g.a.t.Fatal(err)
			}
			if strings.Contains(string(said), login.prompt) {
				break
			}
			if time.Now().After(limit) {
				g.a.t.Fatalf("the guest does not say %q in %v; its console:\n%s", login.prompt, booting, said)
			}
		}
		if _, err := io.WriteString(g.tty, login.answer); err != nil {
			g.a.t.Fatal(err)
		}
	}
}

// Await waits until a command succeeds in the guest.
func (g *Guest) Await(command string) {
	g.a.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(every) {
		out, err := g.Try(command)
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			g.a.t.Fatalf("not in %v in the guest: %s: %v: %s", patience, command, err, out)
		}
	}
}

// Run runs a command of the guest's shell, which must succeed, and returns what it wrote.
func (g *Guest) Run(command string) string {
	g.a.t.Helper()
	out, err := g.Try(command)
	if err != nil {
		g.a.t.Fatalf("in the guest: %s: %v: %s", command, err, out)
	}
	return out
}

// Try is Run for commands that may fail. They must be one line of no more than the shell reads, which is 1023 characters.
func (g *Guest) Try(command string) (string, error) {
	g.typed++
	// What is typed is echoed: only what echo writes has the words in one.
	if _, err := fmt.Fprintf(g.tty, "echo BE''GIN-%d; ( %s ); echo =$?=E''ND-%d\n", g.typed, command, g.typed); err != nil {
		return "", err
	}
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(every / 3) {
		said, err := os.ReadFile(g.log)
		if err != nil {
			return "", err
		}
		if out, code, ended := answered(string(said), g.typed); ended && code == "0" {
			return out, nil
		} else if ended {
			return out, fmt.Errorf("exit code %q", code)
		}
	}
	return "", fmt.Errorf("it does not end in %v", patience)
}

// answered finds what the nth command wrote, and its exit code, in what a guest's console has.
func answered(console string, n int) (out, code string, ended bool) {
	text, _, ended := strings.Cut(console, fmt.Sprintf("=END-%d\r\n", n))
	if !ended {
		return "", "", false
	}
	if i := strings.LastIndex(text, "="); i >= 0 {
		text, code = text[:i], text[i+1:]
	}
	if _, after, found := strings.Cut(text, fmt.Sprintf("BEGIN-%d", n)); found {
		text = after
	}
	return strings.TrimSpace(strings.ReplaceAll(text, "\r", "")), code, true
}

// Disk waits for the disk of a volume and returns its name in the guest, such as vdb.
func (g *Guest) Disk(volume string) string {
	g.a.t.Helper()
	var name string
	find := fmt.Sprintf(`for d in /sys/block/vd*; do [ "$(cat $d/serial)" != %s ] || echo ${d##*/}; done`, volume[:20])
	for limit := time.Now().Add(patience); name == ""; time.Sleep(every) {
		if name = g.Run(find); name == "" && time.Now().After(limit) {
			g.a.t.Fatalf("the guest does not see volume %s in %v", volume, patience)
		}
	}
	return name
}

// Disks are the names of the guest's disks.
func (g *Guest) Disks() []string { return strings.Fields(g.Run("cd /sys/block; ls -d vd*")) }

// Fill writes random bytes to a disk, the first quarter of a MiB of it, and returns their MD5 sum.
func (g *Guest) Fill(disk string) string {
	g.a.t.Helper()
	return g.Run("head -c 262144 /dev/urandom >/run/bytes && dd if=/run/bytes of=/dev/" + disk + " bs=64k conv=fsync 2>/dev/null && md5sum </run/bytes")
}

// Sum is the MD5 sum of the first quarter of a MiB of a disk, as it is behind the guest's cache.
func (g *Guest) Sum(disk string) string {
	g.a.t.Helper()
	return g.Run("sync; echo 3 >/proc/sys/vm/drop_caches; head -c 262144 /dev/" + disk + " | md5sum")
}

// Load writes to a disk until it is ended.
type Load struct {
	g    *Guest
	disk string
}

// Load begins to write to the first quarter of a MiB of a disk, one of two random texts at a time, each block past all caches.
func (g *Guest) Load(disk string) *Load {
	g.a.t.Helper()
	g.Run("rm -f /run/stop /run/count /run/failed /run/last /run/goal; for n in 0 1; do head -c 262144 /dev/urandom >/run/text$n; done")
	// Between two blocks it rests: nested emulation has no time for more.
	g.Run("echo 'n=0; pass=0; while [ ! -e /run/stop ]; do pass=$((pass + 1)); block=0; while [ $block -lt 4 ]; do " +
		"dd if=/run/text$((pass % 2)) of=/dev/$1 bs=64k skip=$block seek=$block count=1 conv=fsync,notrunc 2>/run/error || { cp /run/error /run/failed; exit 1; }; " +
		"block=$((block + 1)); n=$((n + 1)); echo $n >/run/count; usleep 200000; done; done; md5sum </run/text$((pass % 2)) >/run/last' >/run/load")
	g.Run("setsid sh /run/load " + disk + " </dev/null >/dev/null 2>&1 &")
	l := &Load{g, disk}
	l.More(1)
	return l
}

// More waits until so many further blocks are written.
func (l *Load) More(blocks int) {
	l.g.a.t.Helper()
	l.g.Await(fmt.Sprintf(`[ ! -e /run/failed ] || exit 0; read -r count </run/count && [ -n "$count" ] || exit 1; `+
		`[ -e /run/goal ] || echo $((count + %d)) >/run/goal; read -r goal </run/goal; [ $count -ge $goal ] && rm /run/goal`, blocks))
	if failed, err := l.g.Try("cat /run/failed"); err == nil {
		l.g.a.t.Fatalf("the guest's write failed: %s", failed)
	}
}

// End ends the load; the disk must hold what was written last, whose sum is returned.
func (l *Load) End() string {
	l.g.a.t.Helper()
	l.g.Run("touch /run/stop")
	l.g.Await("[ -s /run/last ] || [ -e /run/failed ]")
	last := l.g.Run("cat /run/last")
	if sum := l.g.Sum(l.disk); sum != last {
		l.g.a.t.Errorf("%s has the sum %s, the guest wrote %s", l.disk, sum, last)
	}
	return last
}
