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
	until  microversion // the last that knows it; zero: no bound
}

// actions are the ones that there are. Nova's others are answered as an unknown one.
var actions = map[string]action{
	"os-start":            {schema: "action_os-start", do: accepted(Backend.StartServer)},
	"os-stop":             {schema: "action_os-stop", do: accepted(Backend.StopServer)},
	"pause":               {schema: "action_pause", do: accepted(Backend.PauseServer)},
	"unpause":             {schema: "action_unpause", do: accepted(Backend.UnpauseServer)},
	"forceDelete":         {schema: "action_forceDelete", do: accepted(Backend.DeleteServer)},
	"reboot":              {schema: "action_reboot", do: (*api).reboot},
	"rebuild":             {schema: "action_rebuild", do: (*api).rebuild},
	"rescue":              {schema: "action_rescue", do: (*api).rescue},
	"unrescue":            {schema: "action_unrescue", do: accepted(Backend.UnrescueServer)},
	"addSecurityGroup":    {schema: "action_addSecurityGroup", do: groupAction("addSecurityGroup", withGroup)},
	"removeSecurityGroup": {schema: "action_removeSecurityGroup", do: groupAction("removeSecurityGroup", withoutGroup)},
	"addFloatingIp":       {schema: "action_addFloatingIp", do: (*api).addFloatingIP},
	"removeFloatingIp":    {schema: "action_removeFloatingIp", do: (*api).removeFloatingIP},
	"os-getConsoleOutput": {schema: "action_os-getConsoleOutput", do: (*api).consoleOutput},
	"os-getVNCConsole":    {schema: "action_os-getVNCConsole", do: consoleAction("os-getVNCConsole", "vnc"), until: 5},
	"os-getSPICEConsole":  {schema: "action_os-getSPICEConsole", do: consoleAction("os-getSPICEConsole", "spice"), until: 5},
	"os-getRDPConsole":    {schema: "action_os-getRDPConsole", do: consoleAction("os-getRDPConsole", "rdp"), until: 5},
	"os-getSerialConsole": {schema: "action_os-getSerialConsole", do: consoleAction("os-getSerialConsole", "serial"), until: 5},
}

func (a *api) serverAction(c *call) (*answer, error) {
	body, _ := c.value.(map[string]any) // the schema has checked that it has exactly one key
	for name := range body {
		act, known := actions[name]
		if !known {
			return nil, badRequest("There is no such action: %s", shorten(name))
		}
		if act.until > 0 && c.version > act.until {
			return nil, notFound("API version %s is not supported on this method.", computeMicroversions.text(c.version))
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
