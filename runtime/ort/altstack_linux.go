//go:build cgo

package ort

import (
	goruntime "runtime"
	"syscall"
	"unsafe"
)

// keepSignalStack runs f on one thread and then gives the thread back the
// alternate signal stack that it had.
//
// OpenVINO's processor plug-in gives the thread that loads it a signal stack of
// its own and unmaps that when it is unloaded, often from another thread. The
// signals that the Go scheduler sends to the first thread would then kill the
// process.
func keepSignalStack(f func() error) error {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	var s signalStack
	if err := sigaltstack(nil, &s); err != nil {
		return err
	}
	err := f()
	if serr := sigaltstack(&s, nil); err == nil {
		err = serr
	}
	return err
}

// A signalStack is C's stack_t.
type signalStack struct {
	sp    uintptr
	flags int32
	size  uintptr
}

func sigaltstack(set, get *signalStack) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SIGALTSTACK, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
