package pagewalk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// license of the programs: bpf_probe_read_kernel is for GPL-compatible programs
// only (kernel/trace/bpf_trace.c), and this is one of the strings that
// include/linux/license.h accepts.
const license = "Dual MIT/GPL"

// The map is one value: addresses to read (and each one's result), then what
// was read. The verifier wants to see that any offset it thinks possible plus
// any size it thinks possible lies within it, so there is room for both twice.
const (
	requestBytes = maxBatch * 8
	valueBytes   = requestBytes + 2*MaxRead
)

// BPF reads kernel memory by BPF programs of a few instructions, run once a
// read by BPF_PROG_TEST_RUN (raw tracepoint programs: Linux 5.10). Nothing is
// attached to anything. It needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN.
type BPF struct {
	mu     sync.Mutex
	m      *ebpf.Map
	mem    []byte
	get    *ebpf.Program
	follow *ebpf.Program
}

// OpenBPF loads the programs. Its error is an *OffError where this kernel, or
// this process's rights, do not allow it.
func OpenBPF() (*BPF, error) {
	spec := &ebpf.MapSpec{
		Name: "scopereap_walk", Type: ebpf.Array, KeySize: 4, ValueSize: valueBytes, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	}
	// Before 5.11 maps are charged to RLIMIT_MEMLOCK.
	limit := rlimit.RemoveMemlock()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		if limit != nil && errors.Is(err, unix.EPERM) && mayBPF() {
			return nil, &OffError{MemLock, limit}
		}
		return nil, bpfOff("make a map", err)
	}
	b := &BPF{m: m}
	if b.mem, err = unix.Mmap(m.FD(), 0, valueBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		m.Close()
		return nil, bpfOff("map a map", err)
	}
	if b.get, err = load("scopereap_get", b.getProgram()); err == nil {
		b.follow, err = load("scopereap_list", b.chainProgram())
	}
	if err != nil {
		b.Close()
		return nil, bpfOff("load a program", err)
	}
	// Loading proves little: lockdown lets programs load and makes the helper
	// fail. The program's own map is readable kernel memory in any case, but
	// its address is not known; the task that runs this is.
	task, err := b.CurrentTask()
	if err == nil {
		err = b.ReadKernel(task, make([]byte, 8))
	}
	if err != nil {
		b.Close()
		return nil, readOff(err)
	}
	return b, nil
}

func load(name string, ins asm.Instructions) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.RawTracepoint, Instructions: ins, License: license})
}

// Close unloads the programs.
func (b *BPF) Close() error {
	for _, p := range []*ebpf.Program{b.get, b.follow} {
		if p != nil {
			p.Close()
		}
	}
	if b.mem != nil {
		_ = unix.Munmap(b.mem)
	}
	b.mem = nil
	return b.m.Close()
}

// value puts the map's value into R8, or ends the program.
func (b *BPF) value() asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, b.m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "bad"),
		asm.Mov.Reg(asm.R8, asm.R0),
	}
}

func end() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R0, 0).WithSymbol("done"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("bad"),
		asm.Return(),
	}
}

// getProgram reads ctx[1] bytes at each of the first ctx[0] requests, and
// writes each one's result (0, or −EFAULT) in the request's place.
func (b *BPF) getProgram() asm.Instructions {
	ins := asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord),
		asm.LoadMem(asm.R7, asm.R1, 8, asm.DWord),
		asm.JGT.Imm(asm.R7, MaxRead, "bad"),
		asm.JEq.Imm(asm.R7, 0, "bad"),
	}
	ins = append(ins, b.value()...)
	ins = append(ins,
		asm.Mov.Imm(asm.R9, 0),
		asm.JGE.Reg(asm.R9, asm.R6, "done").WithSymbol("loop"),
		asm.JGE.Imm(asm.R9, maxBatch, "done"),
		asm.Mov.Reg(asm.R2, asm.R9),
		asm.LSh.Imm(asm.R2, 3),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R9),
		asm.Mul.Reg(asm.R2, asm.R7),
		asm.JGT.Imm(asm.R2, MaxRead, "bad"),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Add.Imm(asm.R1, requestBytes),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.FnProbeReadKernel.Call(),
		asm.Mov.Reg(asm.R2, asm.R9),
		asm.LSh.Imm(asm.R2, 3),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord),
		asm.Add.Imm(asm.R9, 1),
		asm.Ja.Label("loop"),
	)
	return append(ins, end()...)
}

// The context of chainProgram, and where it keeps what does not fit registers.
const (
	ctxNode, ctxStop, ctxDelta, ctxNext, ctxSize, ctxMax = 0, 8, 16, 24, 32, 40

	fpStop, fpDelta, fpNext, fpMax = -16, -24, -32, -40
)

// maxNext bounds the offset of the next pointer in an object, for the verifier.
const maxNext = 4096

// chainProgram follows a list (see batcher) and leaves how many objects it
// read, the node it stands at and the last read's result in the first three
// requests' place.
func (b *BPF) chainProgram() asm.Instructions {
	ins := asm.Instructions{
		asm.LoadMem(asm.R9, asm.R1, ctxNode, asm.DWord),
		asm.LoadMem(asm.R7, asm.R1, ctxSize, asm.DWord),
	}
	for _, s := range [][2]int16{{ctxStop, fpStop}, {ctxDelta, fpDelta}, {ctxNext, fpNext}, {ctxMax, fpMax}} {
		ins = append(ins,
			asm.LoadMem(asm.R2, asm.R1, s[0], asm.DWord),
			asm.StoreMem(asm.RFP, s[1], asm.R2, asm.DWord))
	}
	ins = append(ins,
		asm.JGT.Imm(asm.R7, MaxRead, "bad"),
		asm.JEq.Imm(asm.R7, 0, "bad"),
	)
	ins = append(ins, b.value()...)
	ins = append(ins,
		asm.Mov.Imm(asm.R6, 0),
		asm.StoreMem(asm.R8, 16, asm.R6, asm.DWord),
		asm.StoreMem(asm.R8, 8, asm.R9, asm.DWord).WithSymbol("loop"),
		asm.StoreMem(asm.R8, 0, asm.R6, asm.DWord),
		asm.JEq.Imm(asm.R9, 0, "done"),
		asm.LoadMem(asm.R2, asm.RFP, fpStop, asm.DWord),
		asm.JEq.Reg(asm.R9, asm.R2, "done"),
		asm.LoadMem(asm.R2, asm.RFP, fpMax, asm.DWord),
		asm.JGE.Reg(asm.R6, asm.R2, "done"),
		asm.JGE.Imm(asm.R6, maxBatch, "done"),
		asm.Mov.Reg(asm.R2, asm.R6),
		asm.Mul.Reg(asm.R2, asm.R7),
		asm.JGT.Imm(asm.R2, MaxRead, "bad"),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Add.Imm(asm.R1, requestBytes),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Reg(asm.R3, asm.R9),
		asm.LoadMem(asm.R4, asm.RFP, fpDelta, asm.DWord),
		asm.Sub.Reg(asm.R3, asm.R4),
		asm.FnProbeReadKernel.Call(),
		asm.StoreMem(asm.R8, 16, asm.R0, asm.DWord),
		asm.JNE.Imm(asm.R0, 0, "done"),
		asm.Mov.Reg(asm.R2, asm.R6),
		asm.Mul.Reg(asm.R2, asm.R7),
		asm.JGT.Imm(asm.R2, MaxRead, "bad"),
		asm.LoadMem(asm.R4, asm.RFP, fpNext, asm.DWord),
		asm.JGT.Imm(asm.R4, maxNext, "bad"),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Add.Imm(asm.R1, requestBytes),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.Add.Reg(asm.R1, asm.R4),
		asm.LoadMem(asm.R9, asm.R1, 0, asm.DWord),
		asm.Add.Imm(asm.R6, 1),
		asm.Ja.Label("loop"),
	)
	return append(ins, end()...)
}

// run runs one program. Its context is 64-bit words.
func run(p *ebpf.Program, ctx any) error {
	rc, err := p.Run(&ebpf.RunOptions{Context: ctx})
	if err != nil {
		return err
	}
	if rc != 0 {
		return fmt.Errorf("read program refused its request (%d)", rc)
	}
	return nil
}

// ReadKernel implements Reader.
func (b *BPF) ReadKernel(addr uint64, p []byte) error {
	var ok [1]bool
	if err := b.gather([]uint64{addr}, len(p), p, ok[:]); err != nil {
		return err
	}
	if !ok[0] {
		return ErrFault
	}
	return nil
}

func (b *BPF) gather(addrs []uint64, size int, p []byte, ok []bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, a := range addrs {
		binary.LittleEndian.PutUint64(b.mem[i*8:], a)
	}
	if err := run(b.get, [2]uint64{uint64(len(addrs)), uint64(size)}); err != nil {
		return err
	}
	copy(p, b.mem[requestBytes:requestBytes+len(addrs)*size])
	for i := range addrs {
		ok[i] = binary.LittleEndian.Uint64(b.mem[i*8:]) == 0
	}
	return nil
}

func (b *BPF) chain(c chain, p []byte) (int, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	most := min(len(p)/c.size, maxBatch)
	ctx := [6]uint64{c.node, c.stop, uint64(c.delta), uint64(c.next), uint64(c.size), uint64(most)}
	if err := run(b.follow, ctx); err != nil {
		return 0, c.node, err
	}
	n := min(int(binary.LittleEndian.Uint64(b.mem)), most)
	node := binary.LittleEndian.Uint64(b.mem[8:])
	copy(p, b.mem[requestBytes:requestBytes+n*c.size])
	if binary.LittleEndian.Uint64(b.mem[16:]) != 0 {
		return n, node, ErrFault
	}
	return n, node, nil
}

// CurrentTask is the address of the task_struct of the thread that calls.
func (b *BPF) CurrentTask() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ins := append(b.value(),
		asm.FnGetCurrentTask.Call(),
		asm.StoreMem(asm.R8, 0, asm.R0, asm.DWord),
		asm.Ja.Label("done"),
	)
	p, err := load("scopereap_task", append(ins, end()...))
	if err != nil {
		return 0, err
	}
	defer p.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := run(p, [2]uint64{}); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b.mem), nil
}
