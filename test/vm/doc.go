// Package vm runs scopereap end to end on real distributions in QEMU: see README.md.
//
// The tests have the build tag vm, because they need root, QEMU and about 20 minutes:
//
//	go test -tags vm -timeout 90m ./test/vm
package vm
