package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set by the linker (make build), empty otherwise.
var release string

type versionCommand struct{}

// Run shows the version.
func (*versionCommand) Run(s streams) error {
	fmt.Fprintf(s.out, "posthouse %s (%s %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// version returns the release, or what Go knows of the build.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "development"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "development-" + s.Value[:12]
		}
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}
