package main

import (
	"os"
	"testing"
)

func TestReadMemory(t *testing.T) {
	m, err := readMemory()
	if err != nil {
		t.Fatal(err)
	}
	if m["MemTotal"] < 1<<20 || m["MemAvailable"] > m["MemTotal"] {
		t.Errorf("total %d, available %d", m["MemTotal"], m["MemAvailable"])
	}
	if _, ok := m["HugePages_Total"]; ok {
		t.Error("a count was taken for kB")
	}
}

func TestProcesses(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	own := string(comm[:len(comm)-1])
	if n := len(processes(func(c string) bool { return c == own })); n < 1 {
		t.Errorf("%s is not running", own)
	}
	if n := len(processes(func(string) bool { return false })); n != 0 {
		t.Errorf("%d processes are none", n)
	}
}
