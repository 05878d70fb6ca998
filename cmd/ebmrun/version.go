package main

import (
	"fmt"
	goruntime "runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// devVersion is the version of builds that no module version was stamped on.
const devVersion = "0.1.0-dev"

func versionCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and how it was built",
		Long: `Print the version, the commit it was built from where the build knows it, the Go
version and system, and whether cgo, which ONNX Runtime needs, is on.`,
		Example: example("ebmrun version"),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(c.out, "ebmrun %s, %s\n", version(), buildText())
			return err
		},
	}
}

// version is the module's version, or devVersion with the commit if known.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return devVersion
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" && buildSetting(info, "vcs.revision") == "" {
		return v
	}
	v := devVersion
	if rev := buildSetting(info, "vcs.revision"); len(rev) >= 12 {
		v += "+" + rev[:12]
		if buildSetting(info, "vcs.modified") == "true" {
			v += ".modified"
		}
	}
	return v
}

func buildSetting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// buildText is the Go version, the system and whether cgo is on.
func buildText() string {
	cgo := "off"
	if cgoOn {
		cgo = "on"
	}
	return fmt.Sprintf("%s %s/%s, cgo %s", goruntime.Version(), goruntime.GOOS, goruntime.GOARCH, cgo)
}
