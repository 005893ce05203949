package api

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"path"
	"strings"

	"compute-agent/compute"
	"compute-agent/neutron"
)

// maxMetadata is how many metadata items a server may have: Nova's default quota.
const maxMetadata = 128

// serverRequest is the body of POST /servers.
type serverRequest struct {
	Server    newServer      `json:"server"`
	Hints     map[string]any `json:"os:scheduler_hints"`
	HintsLong map[string]any `json:"OS-SCH-HNT:scheduler_hints"`
}

type newServer struct {
	Name        string            `json:"name"`
	Description *string           `json:"description"`
	ImageRef    string            `json:"imageRef"`
	FlavorRef   text              `json:"flavorRef"`
	AdminPass   string            `json:"adminPass"`
	Metadata    map[string]string `json:"metadata"`
	Networks    networksAsked     `json:"networks"`
	Personality []any             `json:"personality"`
	accessAddresses
	Zone              string              `json:"availability_zone"`
	ConfigDrive       boolean             `json:"config_drive"`
	KeyName           string              `json:"key_name"`
	MinCount          *integer            `json:"min_count"`
	MaxCount          *integer            `json:"max_count"`
	ReturnReservation boolean             `json:"return_reservation_id"`
	SecurityGroups    []map[string]string `json:"security_groups"`
	UserData          string              `json:"user_data"`
	Mapping           []blockDevice       `json:"block_device_mapping"`
	Devices           []blockDevice       `json:"block_device_mapping_v2"`
	Tags              []string            `json:"tags"`
	Certificates      []string            `json:"trusted_image_certificates"`
	Host              string              `json:"host"`
	Hypervisor        string              `json:"hypervisor_hostname"`
}

// networksAsked is a list of networks or a word for them.
type networksAsked struct {
	word string
	list []requestedNetwork
}

// UnmarshalJSON reads both.
func (n *networksAsked) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &n.word)
	}
	return json.Unmarshal(data, &n.list)
}

// askedGroups are the security groups that a new server's view names before it has its ports.
func askedGroups(in newServer) []map[string]string {
	if len(in.SecurityGroups) == 0 {
		return []map[string]string{{"name": neutron.DefaultGroup}}
	}
	return in.SecurityGroups
}

func (a *api) createServer(c *call) (*answer, error) {
	var req serverRequest
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Server
	if len(req.Hints) > 0 || len(req.HintsLong) > 0 {
		return nil, badRequest("Scheduler hints are not supported: there is only one host.")
	}
	if err := a.refuseAbsent(c, in); err != nil {
		return nil, err
	}
	create, err := a.createRequest(c, in)
	if err != nil {
		return nil, err
	}
	s, err := a.Backend.CreateServer(c.Context(), create)
	if err != nil {
		return nil, missingParts(err)
	}
	if in.ReturnReservation {
		return &answer{status: http.StatusAccepted, body: map[string]any{"reservation_id": reservationID(s)}}, nil
	}
	links := serverLinks(c, s.ID)
	view := map[string]any{"id": s.ID, "links": links, "OS-DCF:diskConfig": "MANUAL", "security_groups": askedGroups(in)}
	if create.AdminPassword != "" {
		view["adminPass"] = create.AdminPassword
	}
	ans := &answer{status: http.StatusAccepted, body: map[string]any{"server": view}}
	return ans.with("Location", links[0].Href), nil
}

// createRequest translates what was asked and finds out what it refers to.
func (a *api) createRequest(c *call, in newServer) (compute.CreateRequest, error) {
	userData, err := base64.StdEncoding.DecodeString(in.UserData)
	if err != nil { // the schema has checked it
		return compute.CreateRequest{}, badRequest("Invalid input for field/attribute user_data.")
	}
	flavor, err := a.flavorToUse(c, path.Base(string(in.FlavorRef))) // Nova takes a link, too
	if err != nil {
		return compute.CreateRequest{}, err
	}
	disks, err := a.drives(c, in, flavor)
	if err != nil {
		return compute.CreateRequest{}, err
	}
	if err := a.mayUseImage(c, disks.image); err != nil {
		return compute.CreateRequest{}, err
	}
	v4, v6, err := in.read()
	if err != nil {
		return compute.CreateRequest{}, err
	}
	req := compute.CreateRequest{
		AccessIPv4: deref(v4), AccessIPv6: deref(v6),
		UserID: c.caller.UserID, ProjectID: c.caller.ProjectID,
		Name: in.Name, Description: a.description(c, in), FlavorID: flavor.ID, ImageID: disks.image, BlockDevices: disks.volumes,
		KeyName: in.KeyName, UserData: userData, Metadata: in.Metadata, ConfigDrive: bool(in.ConfigDrive),
		AdminPassword: adminPassword(in),
		UserName:      c.caller.user.Name, ProjectName: c.caller.user.ProjectName,
	}
	return req, a.askNetworks(c, in, &req)
}

// adminPassword is the one that was asked for, or with a config drive a random one as in Nova. A
// password without a way into the guest would only look like one.
func adminPassword(in newServer) string {
	if in.AdminPass == "" && in.ConfigDrive {
		return randomPassword()
	}
	return in.AdminPass
}

// description was the name before 2.19.
func (a *api) description(c *call, in newServer) string {
	if !c.since(19) {
		return in.Name
	}
	return deref(in.Description)
}

// flavorToUse keeps private flavors from those whose they are not.
func (a *api) flavorToUse(c *call, id string) (compute.Flavor, error) {
	flavor, err := a.Backend.Flavor(c.Context(), id)
	if errors.Is(err, compute.ErrNotFound) || (err == nil && !flavor.Public && !c.caller.admin) {
		return flavor, badRequest("Flavor %s could not be found.", shorten(id))
	}
	return flavor, err
}

// mayUseImage keeps private images from those whose they are not; a server that boots from a volume has none.
func (a *api) mayUseImage(c *call, imageID string) error {
	if imageID == "" {
		return nil
	}
	image, err := a.Backend.Image(c.Context(), imageID)
	if errors.Is(err, compute.ErrNotFound) || (err == nil && !visibleImage(c, image)) {
		return badRequest("Can not find requested image")
	}
	return err
}

// missingParts turns "not found" into a bad request: the thing that was asked for, a server, is not
// what is missing.
func missingParts(err error) error {
	if errors.Is(err, compute.ErrNotFound) {
		return &fault{status: http.StatusBadRequest, message: userMessage(err, compute.ErrNotFound), err: err}
	}
	return err
}

// refuseAbsent refuses what the API has words for and this host does not have: better than a
// server that lacks what it was asked to have.
func (a *api) refuseAbsent(c *call, in newServer) error {
	switch {
	case in.MinCount != nil && *in.MinCount != 1, in.MaxCount != nil && *in.MaxCount != 1:
		return badRequest("min_count and max_count must be 1: this API creates one server at a time.")
	case len(in.Personality) > 0:
		return badRequest("Personality files are not supported; use user data.")
	case len(in.Tags) > 0:
		return badRequest("Server tags are not supported; use metadata.")
	case len(in.Certificates) > 0:
		return badRequest("Trusted image certificates are not supported.")
	case len(in.Metadata) > maxMetadata:
		return faultf(http.StatusForbidden, "Maximum number of metadata items exceeds %d", maxMetadata)
	}
	return a.checkPlace(c, in)
}

// checkPlace accepts the words for this host: a zone "nova", or for an admin "nova:host", or the
// host itself.
func (a *api) checkPlace(c *call, in newServer) error {
	zone, place, forced := strings.Cut(in.Zone, ":")
	if in.Zone != "" && zone != availabilityZone && zone != "" {
		return badRequest("The requested availability zone is not available")
	}
	hosts := []string{in.Host, in.Hypervisor}
	if forced {
		host, node, _ := strings.Cut(place, ":")
		hosts = append(hosts, host, node)
	}
	for _, host := range hosts {
		if host == "" {
			continue
		}
		if !c.caller.admin {
			return faultf(http.StatusForbidden, "Policy doesn't allow a host to be named.")
		}
		if host != a.Hostname {
			return badRequest("Compute host %s could not be found.", shorten(host))
		}
	}
	return nil
}

// passwordAlphabet leaves out what is easily mistaken, as Nova does.
const passwordAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// randomPassword makes a password of 12 characters, Nova's password_length.
func randomPassword() string {
	var b strings.Builder
	for range 12 {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(len(passwordAlphabet))))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		b.WriteByte(passwordAlphabet[i.Int64()])
	}
	return b.String()
}
