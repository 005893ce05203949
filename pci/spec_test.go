package pci_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"compute-agent/pci"
)

// allowed lists the addresses of the server's devices that the specs mean.
func allowed(t testing.TB, values ...string) ([]string, []pci.Allowed, error) {
	t.Helper()
	specs, err := pci.ParseSpecs(values)
	if err != nil {
		return nil, nil, err
	}
	list, err := pci.Allow(specs, discover(t, "server"))
	var addresses []string
	for _, a := range list {
		addresses = append(addresses, strings.TrimPrefix(a.Address.String(), "0000:"))
	}
	return addresses, list, err
}

func TestSpecs(t *testing.T) {
	vfs := []string{"3b:02.0", "3b:02.1", "3b:02.2", "3b:02.3"}
	for spec, want := range map[string][]string{
		`{"vendor_id": "10de", "product_id": "20b5"}`:       {"86:00.0"},
		`{"vendor_id": "10DE"}`:                             {"86:00.0"},
		`{"vendor_id": "0x144d"}`:                           {"18:00.0"},
		`{"vendor_id": "144d", "product_id": "*"}`:          {"18:00.0"},
		`{"vendor_id": "144d", "product_id": "0001"}`:       nil,
		`{"address": "0000:18:00.0"}`:                       {"18:00.0"},
		`{"address": "0000:3b:02.*"}`:                       vfs,
		`{"address": "*:3b:02.*"}`:                          vfs,
		`{"address": "3b:02."}`:                             vfs,
		`{"address": "02.1"}`:                               {"3b:02.1"},
		`{"address": ":02.1"}`:                              {"3b:02.1"},
		`{"address": "0000:3b:00.0"}`:                       append([]string{"3b:00.0"}, vfs...), // and its virtual functions
		`{"address": "0000:3b:00.0", "product_id": "154c"}`: vfs,
		`{"address": "*:3b:00.0"}`:                          {"3b:00.0"},
		`{"address": {"domain": ".*", "bus": "3b", "slot": "02", "function": "[0-1]"}}`: {"3b:02.0", "3b:02.1"},
		`{"address": {"bus": "3", "function": "1"}}`:                                    {"3b:00.1", "3b:02.1"},
		`{"address": {}}`:                                {"18:00.0", "3b:00.0", "3b:00.1", "3b:02.0", "3b:02.1", "3b:02.2", "3b:02.3", "86:00.0", "af:00.0", "af:00.2"},
		`{"devname": "ens1f0"}`:                          append([]string{"3b:00.0"}, vfs...),
		`{"devname": "ens1f0v2"}`:                        {"3b:02.2"},
		`{"devname": "ens9"}`:                            nil,
		`{"address": "0000:00:00.0"}`:                    nil, // a bridge
		`[{"vendor_id": "10de"}, {"vendor_id": "144d"}]`: {"18:00.0", "86:00.0"},
		`{"vendor_id": "15b3", "product_id": "101e", "remote_managed": "true"}`: {"af:00.2"},
	} {
		got, _, err := allowed(t, spec)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", spec, got, err, want)
		}
	}
}

func TestFirstSpecCounts(t *testing.T) {
	_, list, err := allowed(t,
		`{"address": "0000:3b:02.0", "physical_network": "left", "trusted": true, "resource_class": "CUSTOM_VF", "traits": "CUSTOM_A, HW_NIC_X", "managed": "no"}`,
		`{"devname": "ens1f0", "product_id": "154c", "physical_network": null}`)
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	first := list[0].Spec
	if first.Tags["physical_network"] != "left" || first.Tags["trusted"] != "true" || len(first.Tags) != 2 ||
		first.ResourceClass != "CUSTOM_VF" || !slices.Equal(first.Traits, []string{"CUSTOM_A", "HW_NIC_X"}) || first.Managed {
		t.Errorf("first: %+v", first)
	}
	if second := list[1].Spec; len(second.Tags) != 0 || !second.Managed {
		t.Errorf("second: %+v", second)
	}
}

// wrongSpecs are specs with the key that the error names and the class of Nova's exception.
var wrongSpecs = map[string][2]string{
	`{"devname": "ens1f0", "address": "0000:18:00.0"}`: {"devname", "PciDeviceInvalidDeviceName"},
	`{"vendor_id": "10000"}`:                           {"vendor_id", "PciConfigInvalidSpec"},
	`{"product_id": "xyz"}`:                            {"product_id", "PciConfigInvalidSpec"},
	`{"vendor_id": []}`:                                {"vendor_id", "PciConfigInvalidSpec"},
	`{"address": "0:0000:18:00.0"}`:                    {"address", "PciDeviceWrongAddressFormat"},
	`{"address": "0000:18:20.0"}`:                      {"address", "PciDeviceWrongAddressFormat"},
	`{"address": "0000:18:00.8"}`:                      {"address", "PciDeviceWrongAddressFormat"},
	`{"address": "10000:18:00.0"}`:                     {"address", "PciDeviceWrongAddressFormat"},
	`{"address": "0000:1g:00.0"}`:                      {"address", "PciDeviceWrongAddressFormat"},
	`{"address": 5}`:                                   {"address", "PciDeviceWrongAddressFormat"},
	`{"address": {"bus": "("}}`:                        {"address.bus", "PciDeviceWrongAddressFormat"},
	`{"address": {"bus": "a)|(b"}}`:                    {"address.bus", "PciDeviceWrongAddressFormat"},
	`{"address": {"device": "0"}}`:                     {"address", "PciDeviceWrongAddressFormat"},
	`{"managed": "perhaps"}`:                           {"managed", "PciConfigInvalidSpec"},
	`{"remote_managed": "perhaps"}`:                    {"remote_managed", "PciConfigInvalidSpec"},
	`{"physical_network": {}}`:                         {"physical_network", "PciConfigInvalidSpec"},
	`{"devname": "ens1f0", "remote_managed": "yes"}`:   {"remote_managed", "PciDeviceInvalidPFRemoteManaged"},
	`null`:             {"device_spec", "PciConfigInvalidSpec"},
	`["0000:18:00.0"]`: {"device_spec", "PciConfigInvalidSpec"},
	`{`:                {"device_spec", "PciConfigInvalidSpec"},
	``:                 {"device_spec", "PciConfigInvalidSpec"},
}

func TestWrongSpecs(t *testing.T) {
	for spec, want := range wrongSpecs {
		_, _, err := allowed(t, spec)
		checkError(t, spec, err, want[0], want[1])
	}
}

func checkError(t *testing.T, input string, err error, key, class string) {
	t.Helper()
	var named *pci.Error
	if !errors.As(err, &named) || named.Key != key || named.Class != class || named.Rule == "" {
		t.Errorf("%s: error %v (%+v), want key %s and class %s", input, err, named, key, class)
	}
}

// FuzzSpecs wants a named error of every text that is refused, and no harm from one that is accepted.
func FuzzSpecs(f *testing.F) {
	for spec := range wrongSpecs {
		f.Add(spec)
	}
	f.Add(`{"address": {"domain": ".*", "bus": "3b", "slot": "02", "function": "[0-1]"}}`)
	f.Add(`{"vendor_id": "8086", "address": "*:3b:02.*", "physical_network": "left", "traits": "A,B"}`)
	devices := discover(f, "server")
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := pci.ParseSpecs([]string{text})
		if err == nil {
			_, err = pci.Allow(specs, devices)
		}
		var named *pci.Error
		if err != nil && (!errors.As(err, &named) || named.Class == "" || named.Key == "" || named.Rule == "") {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestAliases(t *testing.T) {
	aliases, err := pci.ParseAliases([]string{
		`{"name": "gpu", "vendor_id": "10de", "product_id": "20b5", "device_type": "type-PCI", "numa_policy": "preferred", "resource_class": "CUSTOM_GPU", "traits": "CUSTOM_BIG"}`,
		`[{"name": "nic", "vendor_id": "8086", "device_type": "type-VF"}, {"name": "nic", "vendor_id": "15b3", "device_type": "type-VF", "live_migratable": "yes"}]`,
	})
	if err != nil {
		t.Fatal(err)
	}
	requests, err := aliases.Requests("gpu:1, nic:2", "")
	if err != nil || len(requests) != 2 {
		t.Fatal(requests, err)
	}
	gpu, nic := requests[0], requests[1]
	if gpu.Alias != "gpu" || gpu.Count != 1 || gpu.Affinity != pci.AffinityPreferred || len(gpu.Specs) != 1 || len(gpu.Specs[0]) != 3 {
		t.Errorf("gpu: %+v", gpu)
	}
	if nic.Count != 2 || nic.Affinity != "" || len(nic.Specs) != 2 || nic.Specs[1]["live_migratable"] != "true" || nic.Specs[0]["dev_type"] != pci.TypeVF {
		t.Errorf("nic: %+v", nic)
	}
	requests, err = aliases.Requests("gpu:1", pci.AffinityRequired)
	if err != nil || requests[0].Affinity != pci.AffinityRequired {
		t.Errorf("the flavor's policy does not go first: %+v, %v", requests, err)
	}
	for text, class := range map[string]string{
		"": "PciRequestAliasNotDefined", "fpga:1": "PciRequestAliasNotDefined", "gpu": "PciInvalidAlias", "gpu:": "PciInvalidAlias",
		"gpu:0": "PciInvalidAlias", "gpu:-1": "PciInvalidAlias", "gpu:one": "PciInvalidAlias", "gpu:1:2": "PciInvalidAlias", "gpu:1,": "PciRequestAliasNotDefined",
	} {
		_, err := aliases.Requests(text, "")
		checkError(t, text, err, "pci_passthrough:alias", class)
	}
}

func TestWrongAliases(t *testing.T) {
	for text, key := range map[string]string{
		`{"vendor_id": "10de"}`:                                    "name",
		`{"name": ""}`:                                             "name",
		`{"name": "a:b"}`:                                          "name",
		`{"name": "a", "vendor_id": "10d"}`:                        "vendor_id",
		`{"name": "a", "product_id": 5}`:                           "product_id",
		`{"name": "a", "device_type": "type-XX"}`:                  "device_type",
		`{"name": "a", "numa_policy": "near"}`:                     "numa_policy",
		`{"name": "a", "capability_type": "usb"}`:                  "capability_type",
		`{"name": "a", "traits": ""}`:                              "traits",
		`{"name": "a", "live_migratable": "perhaps"}`:              "live_migratable",
		`{"name": "a", "colour": "blue"}`:                          "colour",
		`[{"name": "a", "numa_policy": "legacy"}, {"name": "a"}]`:  "numa_policy",
		`[{"name": "a", "device_type": "type-VF"}, {"name": "a"}]`: "device_type",
		`"a"`: "alias",
	} {
		_, err := pci.ParseAliases([]string{text})
		checkError(t, text, err, key, "PciInvalidAlias")
	}
}
