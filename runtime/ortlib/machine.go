package ortlib

import (
	"debug/elf"
	goruntime "runtime"
)

// machines are the processors of ELF files by the names that Go has for them.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Foreign names the processor that a library is built for where it is not this one, "" if it is or no
// ELF file.
func Foreign(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for name, m := range machines {
		if m == f.Machine && name != goruntime.GOARCH {
			return name
		}
	}
	return ""
}
