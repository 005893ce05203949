// Bench measures a running agent from outside: what it adds to the creation of a guest, and how fast
// it lists many servers. The script run in this directory starts the agent and calls it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	a := &agent{client: &http.Client{Timeout: time.Minute}}
	var count, pid int
	var dir, uri string
	flag.StringVar(&a.url, "compute", "", "`URL` of the compute API")
	flag.StringVar(&a.volumes, "volume", "", "`URL` of the block storage API")
	flag.StringVar(&a.image, "image", "", "`ID` of the image")
	flag.StringVar(&a.flavor, "flavor", "", "`ID` of the flavor")
	flag.IntVar(&count, "count", 20, "how many")
	flag.IntVar(&pid, "pid", 0, "the agent's process")
	flag.StringVar(&dir, "dir", "", "directory for the disks of guests made without the agent; QEMU must be able to enter it")
	flag.StringVar(&uri, "libvirt", "qemu:///system", "libvirt connection `URI`")
	flag.Parse()
	a.token = os.Getenv("TOKEN")

	var err error
	switch flag.Arg(0) {
	case "create":
		err = compareCreate(a, uri, dir, pid, count)
	case "fill":
		err = fill(a, count)
	case "volumes":
		err = timeVolumes(a, uri, count)
	case "consoles":
		err = compareConsoles(count)
	case "proxy":
		err = serveProxy(flag.Arg(1))
	case "list":
		err = timeListing(a, count)
	default:
		err = fmt.Errorf("no such measurement: %q", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// agent is the API of a running agent.
type agent struct {
	client                             *http.Client
	url, volumes, token, image, flavor string
}

// call makes one request and decodes the answer into out, if there is one.
func (a *agent) call(method, path string, in, out any) error {
	answer, err := a.fetch(method, path, in)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// fetch makes one request and returns the answer's body.
func (a *agent) fetch(method, path string, in any) ([]byte, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequest(method, a.url+path, &body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Auth-Token", a.token)
	req.Header.Set("OpenStack-API-Version", "compute 2.79")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing was written
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}

type server struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

func (a *agent) create(name string) (string, error) {
	request := map[string]any{"server": map[string]any{
		"name": name, "imageRef": a.image, "flavorRef": a.flavor, "networks": "none",
	}}
	var answer struct{ Server server }
	err := a.call(http.MethodPost, "/servers", request, &answer)
	return answer.Server.ID, err
}

func (a *agent) status(id string) (string, error) {
	var answer struct{ Server server }
	err := a.call(http.MethodGet, "/servers/"+id, nil, &answer)
	return answer.Server.Status, err
}

// waitActive asks every interval until the server is active.
func (a *agent) waitActive(id string, interval time.Duration) error {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(interval) {
		switch status, err := a.status(id); {
		case err != nil:
			return err
		case status == "ACTIVE":
			return nil
		case status == "ERROR":
			return fmt.Errorf("server %s is in ERROR", id)
		}
	}
	return fmt.Errorf("server %s does not become ACTIVE", id)
}

// remove deletes a server and returns when it is gone.
func (a *agent) remove(id string) error {
	if err := a.call(http.MethodDelete, "/servers/"+id, nil, nil); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := a.status(id); err != nil && strings.Contains(err.Error(), "404") {
			return nil
		}
	}
	return fmt.Errorf("server %s does not go away", id)
}

// fill makes that many servers and returns when all are active.
func fill(a *agent, count int) error {
	ids := make([]string, count)
	for i := range ids {
		var err error
		if ids[i], err = a.create(fmt.Sprintf("bench-%04d", i)); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := a.waitActive(id, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// timeListing prints the median time of listing count servers with details, in milliseconds.
func timeListing(a *agent, count int) error {
	var times []time.Duration
	for range 21 {
		begin := time.Now()
		text, err := a.fetch(http.MethodGet, "/servers/detail?limit="+strconv.Itoa(count), nil)
		if err != nil {
			return err
		}
		times = append(times, time.Since(begin))
		var answer struct{ Servers []server }
		if err := json.Unmarshal(text, &answer); err != nil {
			return err
		}
		if len(answer.Servers) != count {
			return fmt.Errorf("%d servers listed, not %d", len(answer.Servers), count)
		}
	}
	fmt.Printf("list_ms=%.1f\n", ms(median(times)))
	return nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cpuTime is what a process and the children that it has waited for have used (proc(5), stat).
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, ok := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(after))
	if !ok || len(fields) < 15 {
		return 0, errors.New("/proc/PID/stat is not as expected")
	}
	var ticks int64
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // USER_HZ is 100 on Linux
}
