package api

import (
	"context"
	"net/http"
	"strings"

	"compute-agent/compute"
)

// action is one of the things that POST /servers/{id}/action does.
type action struct {
	schema string
	do     func(a *api, c *call, s compute.Server) (*answer, error)
}

// actions are the ones that there are. Nova's others are answered as an unknown one.
var actions = map[string]action{
	"os-start":            {"action_os-start", accepted(Backend.StartServer)},
	"os-stop":             {"action_os-stop", accepted(Backend.StopServer)},
	"pause":               {"action_pause", accepted(Backend.PauseServer)},
	"unpause":             {"action_unpause", accepted(Backend.UnpauseServer)},
	"forceDelete":         {"action_forceDelete", accepted(Backend.DeleteServer)},
	"reboot":              {"action_reboot", (*api).reboot},
	"addSecurityGroup":    {"action_addSecurityGroup", groupAction("addSecurityGroup", withGroup)},
	"removeSecurityGroup": {"action_removeSecurityGroup", groupAction("removeSecurityGroup", withoutGroup)},
	"addFloatingIp":       {"action_addFloatingIp", (*api).addFloatingIP},
	"removeFloatingIp":    {"action_removeFloatingIp", (*api).removeFloatingIP},
	"os-getConsoleOutput": {"action_os-getConsoleOutput", (*api).consoleOutput},
}

func (a *api) serverAction(c *call) (*answer, error) {
	body, _ := c.value.(map[string]any) // the schema has checked that it has exactly one key
	for name := range body {
		act, known := actions[name]
		if !known {
			return nil, badRequest("There is no such action: %s", shorten(name))
		}
		if err := a.schemas.check(act.schema, c.version, c.value); err != nil {
			return nil, err
		}
		s, err := a.server(c)
		if err != nil {
			return nil, err
		}
		return act.do(a, c, s)
	}
	return nil, badRequest("Malformed request body")
}

// accepted is an action that the core begins and the client watches.
func accepted(begin func(Backend, context.Context, string) error) func(*api, *call, compute.Server) (*answer, error) {
	return func(a *api, c *call, s compute.Server) (*answer, error) {
		if err := begin(a.Backend, c.Context(), s.ID); err != nil {
			return nil, err
		}
		return status(http.StatusAccepted)
	}
}

func (a *api) reboot(c *call, s compute.Server) (*answer, error) {
	var req struct {
		Reboot struct {
			Type                  string
			AcceptHardwareChanges bool `json:"accept_hardware_changes"` // ours; Nova's API has no such thing
		}
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	how := compute.Reboot{Hard: strings.EqualFold(req.Reboot.Type, "HARD"), AcceptHardwareChanges: req.Reboot.AcceptHardwareChanges}
	if how.AcceptHardwareChanges && !how.Hard {
		return nil, badRequest("accept_hardware_changes goes with type HARD: a soft reboot changes no hardware")
	}
	if err := a.Backend.RebootServer(c.Context(), s.ID, how); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func (a *api) consoleOutput(c *call, s compute.Server) (*answer, error) {
	var req struct {
		Args struct{ Length *integer } `json:"os-getConsoleOutput"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	lines := -1
	if req.Args.Length != nil {
		lines = int(*req.Args.Length)
	}
	output, err := a.Backend.ConsoleOutput(c.Context(), s.ID, lines)
	if err != nil {
		return nil, err
	}
	return ok(map[string]string{"output": withoutControls(output)})
}

// withoutControls drops what a guest could use to command the terminal that shows its output.
func withoutControls(s string) string {
	return strings.Map(func(r rune) rune {
		if (r < ' ' && r != '\n' && r != '\r' && r != '\t') || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, s)
}
