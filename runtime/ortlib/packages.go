package ortlib

// A Package is one file that a package client serves, and what is taken from it.
type Package struct {
	Name, Version string
	Client        string // pip or npm
	GOOS, GOARCH  string
	Platform      string // pip's name of the system
	File          string // name of the file served
	Size          int64  // of the file, in bytes
	SHA256        string
	Members       []string // paths in the file; the first is the library

	CUDA string // the major version that its CUDA provider is built for, "" if it has none

	// OnRequest is set for a package that is obtained only if it is asked for by name.
	OnRequest bool
}

// Packages lists the files that Obtain knows, by preference. Each hash was taken
// from the file served for that system.
var Packages = []Package{
	{
		Name: "onnxruntime-openvino", Version: "1.24.1", Client: "pip",
		GOOS: "linux", GOARCH: "amd64", Platform: "manylinux_2_28_x86_64",
		File:   "onnxruntime_openvino-1.24.1-cp312-cp312-manylinux_2_28_x86_64.whl",
		Size:   84433207,
		SHA256: "d617fac2f59a6ab5ea59a788c3e1592240a129642519aaeaa774761dfe35150e",
		Members: wheel("libonnxruntime.so.1.24.1", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_openvino.so",
			"libopenvino.so.2541", "libopenvino_onnx_frontend.so.2541", "libopenvino_intel_cpu_plugin.so", "libtbb.so.12"),
	},
	{
		Name: "onnxruntime", Version: "1.24.4", Client: "pip",
		GOOS: "linux", GOARCH: "amd64", Platform: "manylinux_2_28_x86_64",
		File:    "onnxruntime-1.24.4-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
		Size:    17244912,
		SHA256:  "0d640eb9f3782689b55cfa715094474cd5662f2f137be6a6f847a594b6e9705c",
		Members: wheel("libonnxruntime.so.1.24.4", "libonnxruntime_providers_shared.so"),
	},
	{
		Name: "onnxruntime", Version: "1.24.4", Client: "pip",
		GOOS: "linux", GOARCH: "arm64", Platform: "manylinux_2_28_aarch64",
		File:    "onnxruntime-1.24.4-cp312-cp312-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
		Size:    15172485,
		SHA256:  "1a5c5a544b22f90859c88617ecb30e161ee3349fcc73878854f43d77f00558b5",
		Members: wheel("libonnxruntime.so.1.24.4", "libonnxruntime_providers_shared.so"),
	},
	{
		Name: "onnxruntime", Version: "1.24.4", Client: "pip",
		GOOS: "darwin", GOARCH: "arm64", Platform: "macosx_14_0_arm64",
		File:    "onnxruntime-1.24.4-cp312-cp312-macosx_14_0_arm64.whl",
		Size:    17341875,
		SHA256:  "cad1c2b3f455c55678ab2a8caa51fb420c25e6e3cf10f4c23653cdabedc8de78",
		Members: wheel("libonnxruntime.1.24.4.dylib"),
	},
	{
		Name: "onnxruntime", Version: "1.24.4", Client: "pip",
		GOOS: "windows", GOARCH: "amd64", Platform: "win_amd64",
		File:    "onnxruntime-1.24.4-cp312-cp312-win_amd64.whl",
		Size:    12596856,
		SHA256:  "535b29475ca42b593c45fbb2152fbf1cdf3f287315bf650e6a724a0a1d065cdb",
		Members: wheel("onnxruntime.dll", "onnxruntime_providers_shared.dll"),
	},
	{
		Name: "onnxruntime-gpu", Version: "1.27.0", CUDA: "13", Client: "pip", OnRequest: true,
		GOOS: "linux", GOARCH: "amd64", Platform: "manylinux_2_28_x86_64",
		File:   "onnxruntime_gpu-1.27.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
		Size:   220305746,
		SHA256: "b2b8d6afabf3c23c2c698639a16388816dc7298f388a9ddddf504b283990ea01",
		Members: wheel("libonnxruntime.so.1.27.0", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so",
			"libonnxruntime_providers_tensorrt.so"),
	},
	{
		Name: "onnxruntime-gpu", Version: "1.24.4", CUDA: "12", Client: "pip", OnRequest: true,
		GOOS: "linux", GOARCH: "amd64", Platform: "manylinux_2_28_x86_64",
		File:   "onnxruntime_gpu-1.24.4-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
		Size:   252765531,
		SHA256: "eb0e38f0c1ef3b76ae0081c8e51eed20dd8925aa916f0fc6f9b8b17d05610e99",
		Members: wheel("libonnxruntime.so.1.24.4", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so",
			"libonnxruntime_providers_tensorrt.so"),
	},
	node("linux", "amd64", "linux/x64/libonnxruntime.so.1"),
	node("linux", "arm64", "linux/arm64/libonnxruntime.so.1"),
	node("darwin", "arm64", "darwin/arm64/libonnxruntime.1.24.3.dylib"),
	node("windows", "amd64", "win32/x64/onnxruntime.dll"),
	node("windows", "arm64", "win32/arm64/onnxruntime.dll"),
}

// wheel lists libraries of a wheel, and its licences.
func wheel(libs ...string) []string {
	var members []string
	for _, l := range libs {
		members = append(members, "onnxruntime/capi/"+l)
	}
	return append(members, "onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt")
}

// node is the package for Node.js, one file for all systems.
func node(goos, goarch, lib string) Package {
	return Package{
		Name: "onnxruntime-node", Version: "1.24.3", Client: "npm", GOOS: goos, GOARCH: goarch,
		File: "onnxruntime-node-1.24.3.tgz", Size: 85987774,
		SHA256:  "aa1bb5fa261ea68de05dd53efbba210cd7adf2d2850f4c3a201054c74cc78040",
		Members: []string{"package/bin/napi-v6/" + lib},
	}
}

func (p Package) fits(goos, goarch string) bool { return p.GOOS == goos && p.GOARCH == goarch }

// dir is the folder, below Root, that the package is unpacked to.
func (p Package) dir() string { return p.Name + "-" + p.Version }
