package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

const key = "6b65792d6f662d74686973207465737421000a0d"

// volume is a sparse file in a directory of the test's own.
func volume(t *testing.T, size int64, begins ...byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, begins, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func contents(t *testing.T, path string) Contents {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	got, err := Header(f)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// qemuIO runs a command on an encrypted volume as QEMU has it.
func qemuIO(path string, key connector.Secret, commands ...string) (string, error) {
	args := []string{"--object", "secret,id=k,file=/dev/stdin,format=raw", "--image-opts", "driver=luks,key-secret=k,file.driver=file,file.filename=" + path}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	cmd := exec.Command("qemu-io", args...)
	cmd.Stdin = strings.NewReader(string(key))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestFormatForQEMU: what is written here is what QEMU opens with the same key and no other, to the last byte of the volume.
func TestFormatForQEMU(t *testing.T) {
	for _, size := range []int{0, 256, 512} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			const bytesOf = 32 << 20
			path := volume(t, bytesOf)
			cipher := connector.Cipher{Format: FormatLUKS, Cipher: "aes-xts-plain64", KeySize: size, Key: key}
			if err := Format(t.Context(), command.Exec{}, path, cipher); err != nil {
				t.Fatal(err)
			}
			if got := contents(t, path); got.Kind != LUKS1 || got.Payload != Payload || got.Cipher != "aes-xts-plain64" {
				t.Errorf("%+v", got)
			}
			last := fmt.Sprintf("-P 7 %d 4096", bytesOf-Payload-4096)
			out, err := qemuIO(path, key, "length", "write "+last, "read "+last, "read -P 0 0 0")
			if err != nil || !strings.Contains(out, "30 MiB") || strings.Contains(out, "failed") {
				t.Errorf("%v: %s", err, out)
			}
			if out, err := qemuIO(path, connector.Secret(key[:len(key)-1]), "length"); err == nil || !strings.Contains(out, "Invalid password") {
				t.Errorf("a key that is one byte short: %v: %s", err, out)
			}
			if info, err := os.Stat(path); err != nil || info.Size() != bytesOf {
				t.Errorf("the size is not what it was: %v, %v", info, err)
			}
			if data, _ := os.ReadFile(path); bytes.Contains(data, bytes.Repeat([]byte{7}, 64)) || bytes.Contains(data, []byte(key)) {
				t.Error("the volume holds plain text")
			}
		})
	}
}

// TestFormatForCryptsetup: cryptsetup opens what is written here, and the other way around: what cryptsetup formats has the key that was given.
func TestFormatForCryptsetup(t *testing.T) {
	for _, c := range []connector.Cipher{
		{Format: FormatLUKS},
		{Format: FormatLUKS, Cipher: "aes-cbc-essiv:sha256", KeySize: 256},
		{Format: FormatLUKS2},
		{Format: FormatLUKS2, Cipher: "aes-xts-plain64", KeySize: 256},
	} {
		t.Run(c.Format+" "+c.Cipher, func(t *testing.T) {
			c.Key = key
			path := volume(t, 40<<20)
			if err := Format(t.Context(), command.Exec{}, path, c); err != nil {
				t.Fatal(err)
			}
			want := map[string]Kind{FormatLUKS: LUKS1, FormatLUKS2: LUKS2}[c.Format]
			if got := contents(t, path); got.Kind != want {
				t.Errorf("%+v", got)
			}
			for given, wrong := range map[connector.Secret]bool{key: false, key + "0": true} {
				_, err := command.Exec{}.Run(t.Context(), cryptsetup(given, "open", "--test-passphrase", "--key-file=-", path))
				var failed *command.Error
				if (err != nil) != wrong || errors.As(err, &failed) && failed.ExitCode != exitNoPermission {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func TestFormatRefuses(t *testing.T) {
	good := connector.Cipher{Format: FormatLUKS, Key: key}
	formatted := volume(t, 32<<20)
	if err := Format(t.Context(), command.Exec{}, formatted, good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		path   string
		cipher connector.Cipher
		reason connector.Reason
		want   string
	}{
		{"one that is formatted", formatted, good, connector.HasData, "has a luks1 header, of UUID " + contents(t, formatted).UUID},
		{"one with data", volume(t, 32<<20, 0, 0, 1), good, connector.HasData, "not blank"},
		{"plain, with data", volume(t, 32<<20, 1), connector.Cipher{Format: FormatPlain, Key: key}, connector.HasData, "not blank"},
		{"a damaged header", volume(t, 32<<20, []byte(magic+"\x00\x01")...), good, connector.HasData, "not blank"},
		{"too small", volume(t, Payload), good, connector.BadSize, "no room"},
		{"not there", "/nonexistent/volume", good, connector.NoDevice, "not there"},
		{"a relative path", "volume", good, connector.InvalidInfo, "absolute"},
		{"a device that is none", "/dev/null", good, connector.InvalidInfo, "block device"},
		{"no key", volume(t, 32<<20), connector.Cipher{Format: FormatLUKS}, connector.InvalidInfo, "key must not be empty"},
		{"unknown provider", volume(t, 32<<20), connector.Cipher{Format: "luks3", Key: key}, connector.InvalidInfo, `provider="luks3"`},
		{"an option for a cipher", volume(t, 32<<20), connector.Cipher{Format: FormatLUKS, Cipher: "--header=/x", Key: key}, connector.InvalidInfo, "cipher-mode-iv"},
		{"half a byte of key", volume(t, 32<<20), connector.Cipher{Format: FormatLUKS, KeySize: 260, Key: key}, connector.InvalidInfo, "key_size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := os.ReadFile(c.path)
			err := Format(t.Context(), command.Exec{}, c.path, c.cipher)
			var e *connector.Error
			if !errors.As(err, &e) || e.Reason != c.reason || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %s with %q", err, c.reason, c.want)
			}
			if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
				t.Error("the volume was written to")
			}
		})
	}
}

// TestReformat: nothing of what was there can be opened afterwards.
func TestReformat(t *testing.T) {
	for _, c := range []connector.Cipher{{Format: FormatLUKS}, {Format: FormatLUKS2}} {
		path := volume(t, 40<<20)
		for _, k := range []connector.Secret{"old" + key, "new" + key} {
			c.Key = k
			if err := Reformat(t.Context(), command.Exec{}, path, c); err != nil {
				t.Fatal(err)
			}
		}
		_, err := command.Exec{}.Run(t.Context(), cryptsetup("old"+key, "open", "--test-passphrase", "--key-file=-", path))
		var failed *command.Error
		if !errors.As(err, &failed) || failed.ExitCode != exitNoPermission {
			t.Errorf("the old key: %v", err)
		}
	}
}

// recorder keeps what would be run.
type recorder struct {
	calls []string
	input []string
	err   error
}

func (r *recorder) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	r.calls = append(r.calls, strings.Join(append([]string{c.Name}, c.Args...), " "))
	if !c.Secret {
		return nil, errors.New("what the program writes would be in the error")
	}
	in, _ := io.ReadAll(c.Stdin)
	r.input = append(r.input, string(in))
	return nil, r.err
}

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []string
		want string
	}{
		{"format luks2", formatArgs("/dev/x", connector.Cipher{Format: FormatLUKS2, Cipher: "aes-xts-plain64", KeySize: 512}),
			"luksFormat --batch-mode --key-file=- --pbkdf pbkdf2 --pbkdf-force-iterations 10000 --type luks2 --sector-size 512 --cipher aes-xts-plain64 --key-size 512 -- /dev/x"},
		{"format luks", formatArgs("/dev/x", connector.Cipher{Format: FormatLUKS}),
			"luksFormat --batch-mode --key-file=- --pbkdf pbkdf2 --pbkdf-force-iterations 10000 --type luks1 -- /dev/x"},
		{"open luks", openArgs("/dev/x", "crypt-1", connector.Cipher{Format: FormatLUKS, Cipher: "ignored", KeySize: 8}, LUKS1),
			"open --type luks1 --key-file=- -- /dev/x crypt-1"},
		{"open plain", openArgs("/dev/x", "crypt-1", connector.Cipher{Format: FormatPlain, Cipher: "aes-xts-plain64", KeySize: 256}, Foreign),
			"open --type plain --key-file=- --cipher aes-xts-plain64 --key-size 256 -- /dev/x crypt-1"},
	} {
		if got := strings.Join(c.got, " "); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestKeyIsInput: the key is in no argument and in no error.
func TestKeyIsInput(t *testing.T) {
	run := &recorder{err: &command.Error{Program: "cryptsetup", ExitCode: exitNoPermission, Err: errors.New("exit status 2")}}
	err := Format(t.Context(), run, volume(t, 40<<20), connector.Cipher{Format: FormatLUKS2, Key: key})
	if err == nil || strings.Contains(err.Error(), key) || len(run.calls) != 1 || strings.Contains(run.calls[0], key) || !slices.Equal(run.input, []string{key}) {
		t.Errorf("%v, %v", err, run.calls)
	}
}

func TestRefused(t *testing.T) {
	failed := func(code int) error {
		return &command.Error{Program: "cryptsetup", ExitCode: code, Err: errors.New("exit status")}
	}
	for _, c := range []struct {
		err    error
		reason connector.Reason
	}{
		{failed(1), connector.Unsupported}, {failed(exitNoPermission), connector.AuthFailed}, {failed(exitWrongDevice), connector.NoDevice},
		{failed(exitBusy), connector.InUse}, {&command.Error{Program: "cryptsetup", ExitCode: -1, Err: exec.ErrNotFound}, connector.Unsupported},
	} {
		var e *connector.Error
		if err := refused("/dev/x", c.err); !errors.As(err, &e) || e.Reason != c.reason {
			t.Errorf("%v: got %v", c.err, err)
		}
	}
	if err := refused("/dev/x", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestPassphrase(t *testing.T) {
	if got := Passphrase([]byte{0, 0xab, 10}); got != "00ab0a" {
		t.Errorf("%s", string(got))
	}
}
