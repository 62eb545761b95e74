package pagewalk

import "unsafe"

// addressOf is where memory lies that the garbage collector does not move: a
// mapping of mmap(2).
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
