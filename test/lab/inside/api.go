package inside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	images  = "/image/v2/images"
	compute = "/compute/v2.1"
	every   = 300 * time.Millisecond // how often the API is asked for what it cannot wait for
)

// Server is a server as the API shows it.
type Server struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Domain  string `json:"OS-EXT-SRV-ATTR:instance_name"` // libvirt's name of it
	Failure struct {
		Message string `json:"message"`
	} `json:"fault"`
}

// refused is an answer that says no.
type refused struct {
	status  int
	message string
}

func (e *refused) Error() string { return fmt.Sprintf("%d: %s", e.status, e.message) }

// request sends body, JSON unless it is a reader, and decodes the answer into out unless that is nil.
func (a *Agent) request(method, path string, body, out any) (http.Header, error) {
	kind, in := "application/octet-stream", io.Reader(nil)
	if body != nil {
		var ok bool
		if in, ok = body.(io.Reader); !ok {
			data, err := json.Marshal(body)
			if err != nil {
				return nil, err
			}
			kind, in = "application/json", bytes.NewReader(data)
		}
	}
	// Not the test's context: that has ended when the test cleans up.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+listen+path, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("X-Auth-Token", a.token)
	req.Header.Set("OpenStack-API-Version", "compute 2.79, volume 3.59")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close() //nolint:errcheck // nothing was written to it
	data, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode >= 300:
		return nil, &refused{answer.StatusCode, string(data)}
	case out == nil:
		return answer.Header, nil
	}
	return answer.Header, json.Unmarshal(data, out)
}

// call is a request that must succeed.
func (a *Agent) call(method, path string, body, out any) http.Header {
	a.t.Helper()
	header, err := a.request(method, path, body, out)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	return header
}

// logIn gets a token with what the agent wrote for its admin.
func (a *Agent) logIn() {
	a.t.Helper()
	text, err := os.ReadFile(a.dir + "/state/clouds.yaml")
	if err != nil {
		a.t.Fatal(err)
	}
	var file struct {
		Clouds map[string]struct{ Auth map[string]string }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		a.t.Fatal(err)
	}
	auth := file.Clouds["compute-agent"].Auth
	user := map[string]any{"name": auth["username"], "password": auth["password"], "domain": map[string]string{"name": auth["user_domain_name"]}}
	project := map[string]any{"name": auth["project_name"], "domain": map[string]string{"name": auth["project_domain_name"]}}
	a.token = a.call(http.MethodPost, "/identity/v3/auth/tokens", map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": user}},
		"scope":    map[string]any{"project": project},
	}}, nil).Get("X-Subject-Token")
}

// upload makes an image out of a qcow2 file and returns its ID.
func (a *Agent) upload(path string) string {
	a.t.Helper()
	var image struct{ ID string }
	a.call(http.MethodPost, images, map[string]string{"name": "tiny", "disk_format": "qcow2", "container_format": "bare"}, &image)
	file, err := os.Open(path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	a.call(http.MethodPut, images+"/"+image.ID+"/file", file, nil)
	return image.ID
}

// Size is what a flavor gives its servers.
type Size struct {
	VCPUs, MemoryMiB int
	ExtraSpecs       map[string]string
}

// Boot makes a server of that size and returns it when it is active. It is deleted with the test.
func (a *Agent) Boot(size Size) Server {
	a.t.Helper()
	server, err := a.TryBoot(size)
	if err != nil {
		a.t.Fatalf("boot %+v: %v", size, err)
	}
	return server
}

// TryBoot is Boot for servers that may be refused or fail.
func (a *Agent) TryBoot(size Size) (Server, error) {
	a.t.Helper()
	return a.boot(size, map[string]any{"imageRef": a.image})
}

// boot makes a server; from has what it boots from.
func (a *Agent) boot(size Size, from map[string]any) (Server, error) {
	a.t.Helper()
	name := strings.ReplaceAll(a.t.Name(), "/", " ") + " " + strconv.Itoa(rand.Int())
	var flavor struct{ Flavor struct{ ID string } }
	a.call(http.MethodPost, compute+"/flavors", map[string]any{"flavor": map[string]any{
		"name": name, "vcpus": size.VCPUs, "ram": size.MemoryMiB, "disk": 1}}, &flavor)
	if len(size.ExtraSpecs) > 0 {
		a.call(http.MethodPost, compute+"/flavors/"+flavor.Flavor.ID+"/os-extra_specs", map[string]any{"extra_specs": size.ExtraSpecs}, nil)
	}
	var made struct{ Server Server }
	server := map[string]any{"name": name, "flavorRef": flavor.Flavor.ID, "networks": "none"}
	maps.Copy(server, from)
	if _, err := a.request(http.MethodPost, compute+"/servers", map[string]any{"server": server}, &made); err != nil {
		return Server{}, err
	}
	a.t.Cleanup(func() { a.Delete(made.Server.ID) })
	return a.await(made.Server.ID)
}

// await returns the server when it is made or has failed.
func (a *Agent) await(id string) (Server, error) {
	for limit := time.Now().Add(patience); ; time.Sleep(every) {
		var answer struct{ Server Server }
		a.call(http.MethodGet, compute+"/servers/"+id, nil, &answer)
		switch s := answer.Server; {
		case s.Status == "ACTIVE":
			return s, nil
		case s.Status == "ERROR":
			return s, fmt.Errorf("server %s failed: %s", id, s.Failure.Message)
		case time.Now().After(limit):
			return s, fmt.Errorf("server %s is %s after %v", id, s.Status, patience)
		}
	}
}

// Delete deletes a server, unless that has been done, and returns when it is gone.
func (a *Agent) Delete(id string) {
	a.t.Helper()
	path := compute + "/servers/" + id
	if _, err := a.request(http.MethodDelete, path, nil, nil); isGone(err) {
		return
	} else if err != nil {
		a.t.Errorf("delete server %s: %v", id, err)
	}
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(every) {
		if _, err := a.request(http.MethodGet, path, nil, nil); isGone(err) {
			return
		}
	}
	a.t.Errorf("server %s is still there %v after it was deleted", id, patience)
}

func isGone(err error) bool {
	var no *refused
	return errors.As(err, &no) && no.status == http.StatusNotFound
}

// BootPaused is Boot for who looks at the host only: the guest costs it nothing any more.
func (a *Agent) BootPaused(size Size) Server {
	a.t.Helper()
	s := a.Boot(size)
	a.call(http.MethodPost, compute+"/servers/"+s.ID+"/action", map[string]any{"pause": nil}, nil)
	return s
}

// Console returns what the server's guest has written to its serial console.
func (a *Agent) Console(id string) string {
	a.t.Helper()
	var answer struct{ Output string }
	a.call(http.MethodPost, compute+"/servers/"+id+"/action", map[string]any{"os-getConsoleOutput": map[string]any{}}, &answer)
	return answer.Output
}

// Said returns the rest of the first line that the tiny guest began with "TINY: WORD", and waits for it.
func (a *Agent) Said(id, word string, limit time.Duration) string {
	a.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * every) {
		console := a.Console(id)
		for line := range strings.Lines(console) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "TINY: "+word); ok {
				return strings.TrimSpace(rest)
			}
		}
		if time.Now().After(end) {
			a.t.Fatalf("the guest does not say %q in %v; its console:\n%s", word, limit, console)
		}
	}
}
