// Package result is the form in which benchmarks leave what they measured: one JSON file a run, which test/bench/report
// makes tables and plots of. Ratios are made within one run alone: two runs saw two machines.
package result

import "time"

// Run is one run of a benchmark on one machine, and the content of one file.
type Run struct {
	Machine  string    // short and fit for a file's name: "bookworm", "native"
	Suite    string    // the same: "bench", "growth", "storm", "scale"
	Hardware string    // the CPU's model, and what runs it, for people
	Kernel   string    // uname -r
	OS       string    // PRETTY_NAME of os-release
	Mode     string    // of cgroups: "v1", "v2", "hybrid"
	Date     time.Time // when the run began, UTC
	Commit   string    // of the code measured; ends in "-dirty" where files were changed
	Emulated bool      // the CPUs are emulated: times compare within the run, and say nothing of real machines
	Load     string    // what else ran on the machine, for people; empty if nothing is known
	CPUs     int
	MemBytes int64  // of the machine
	Command  string // that repeats the run

	Contenders []Contender `json:",omitempty"`
	Growth     []Growth    `json:",omitempty"`
	Storm      *Storm      `json:",omitempty"`
	Scale      *Scale      `json:",omitempty"`
}

// Contender is what one way to be rid of dying memcgs did to the same leak.
type Contender struct {
	Name              string
	DyingBefore       int64            // dying memcgs that the leak made
	DyingLeft         int64            // of those, after it and some seconds
	LeftWhy           map[string]int64 `json:",omitempty"` // of those left, how many for which reason; by scopereapctl
	LeftUnexcused     int64            // of those left, what another reclaim could still free; by the test's own count
	LiveCacheLost     int64            // bytes of the neighbours' file cache that were thrown out, read back meanwhile or not
	LiveRefaulted     int64            // pages of it that were read back (workingset_refault_file)
	Latency           Phases           // the neighbours' reads
	CPUSeconds        float64          // of what reclaimed; the median where it was measured several times
	CPUSamples        []float64        `json:",omitempty"` // all of those, in their order
	ReapingCPUSeconds float64          `json:",omitempty"` // of that, the thread that reclaims; the median likewise
	WallSeconds       float64          // until it returned
	CPUPerReaped      float64          // seconds of CPU a memcg that went; 0 if none went
	RatioToFloor      float64          // CPUPerReaped in units of the floor's; 0 where there is nothing to compare
	ReapingToFloor    float64          `json:",omitempty"` // the same of ReapingCPUSeconds
	Floor             bool             `json:",omitempty"` // this is the floor
	Ours              bool             `json:",omitempty"` // this is scopereap
	Timeline          []Point          `json:",omitempty"`
}

// Point is what was there at one moment.
type Point struct {
	Seconds        float64 // since the contender began; below 0 before
	Dying          int64   // memcgs of the leak
	LiveCacheBytes int64   // of the neighbours' file cache, what is cached
}

// Phases are latencies before, while and after something is reclaimed.
type Phases struct{ Before, During, After Latency }

// Latency sums up how long reads, logins or the like took, in microseconds.
type Latency struct {
	N             int     // how many there were; the others are 0 if none
	P50, P99, Max float64 // µs
}

// Growth is the cost of a sweep at one size of one thing, all else alike.
type Growth struct {
	Axis              string // what grows: "dying memcgs", "live siblings", "ancestors"
	N                 int64  // its size
	Reaped            int64  // dying memcgs that went
	CPUSeconds        float64
	ReapingCPUSeconds float64 `json:",omitempty"` // of that, the thread that reclaims
	WallSeconds       float64
	CPUPerReaped      float64 // seconds
	FloorCPUSeconds   float64 `json:",omitempty"` // a bare shielded write's, of the same leak
}

// Storm is many logins at once.
type Storm struct {
	Asked          float64 // logins a second
	Reached        float64 // logins a second that the machine made of it
	Seconds        float64 // how long, with and without it
	Logins         int64   // with it
	How            string  // what counts as a login here, for people
	LeftWithout    int64   // dying memcgs after it without scopereapd
	LeftWith       int64
	EventToFreed   Latency // from a teardown's signal to the memcg seen gone
	LoginWithout   Latency // one login's time, of pairs that were taken in turn
	LoginWith      Latency
	BusPerLogin    float64 // D-Bus messages that scopereapd read or sent, a login
	WritesPerLogin float64 // reclaiming writes, a login
	CPUSeconds     float64 // of scopereapd, for all of it
}

// Scale is a sweep of very many dying memcgs, and of one very large.
type Scale struct {
	Asked         int64   // dying memcgs
	Made          int64   // of those, what was there to sweep
	WhyFewer      string  `json:",omitempty"`
	MakingSeconds float64 // wall
	MakingRate    float64 // dying memcgs a second
	BytesTaken    int64   // MemAvailable before making less after

	How                string  // what the sweep does on this machine, for people
	Budget             float64 // share of one CPU that scopereapd may take, over any minute
	SweepWallSeconds   float64 // until it returned
	SettledSeconds     float64 // until the kernel had let go of what it would; counts from the sweep's begin
	SweepCPUSeconds    float64 // of the whole daemon, from the sweep's begin until it was settled
	KworkerCPUSeconds  float64 // in the same time, of all the kernel's workers, who free the emptied objects; in steps of 10 ms
	CPUPerReaped       float64 // seconds, of SweepCPUSeconds
	MaxShareOverSecond float64 // of one CPU, the most over any second
	MeanShare          float64 // of one CPU, until it was settled
	DyingLeft          int64
	BytesGivenBack     int64            // MemAvailable after it less before
	KernelGivenBack    map[string]int64 `json:",omitempty"` // bytes, by line of /proc/meminfo: Slab, Percpu, …

	ShareTimeline []Share `json:",omitempty"` // ten times a second
	DyingTimeline []Count `json:",omitempty"`
	Neighbour     Phases  // reads by a live process of its own cgroup

	Big *Big `json:",omitempty"`
}

// Share is how much of one CPU was taken since the point before; over a second it may be summed up.
type Share struct {
	Seconds float64 // since the sweep began, at the end of the stretch
	Share   float64 // 1 is a whole CPU
}

// Count is how many dying memcgs there were.
type Count struct {
	Seconds float64 // since the sweep began
	Dying   int64
}

// Big is one memcg that holds much cache, while it is emptied.
type Big struct {
	Asked        int64  // bytes of cache
	Bytes        int64  // that it held
	WhyFewer     string `json:",omitempty"`
	Left         int64  // bytes it held afterwards
	WallSeconds  float64
	CPUSeconds   float64
	Writes       int64   // into the kernel, that it took
	LongestWrite float64 // seconds, the longest stretch in the kernel without coming back
	Write        Latency // of the writes
	Neighbour    Phases  // reads by a live process of its own cgroup
}
