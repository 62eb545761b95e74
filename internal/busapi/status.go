package busapi

import (
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Status is what GetStatus answers: a dictionary with the names of these fields. Times are µs since 1970 and durations
// µs. A dictionary, and not one property each: it is of one moment, most of it changes all the time, which nobody
// should be told of, and it can grow without a client noticing.
type Status struct {
	Version     string
	PID         uint32
	Since       uint64
	CgroupMode  string
	Abilities   map[string]Ability
	MonitorOnly string

	Reaped, ReapedBytes uint64
	Turns, Batches      uint64
	Teardowns, Sweeps   uint64
	CPUTimeUSec         uint64
	LastReap            uint64
	LastSweep           uint64
	TeardownToFreed     Latency
	Pinned              []PinnedBelow // of the ancestors with most, see PinnedMore
	PinnedMore          uint64        // ancestors that are not listed
	PinnedBy            []PinnedSum   // over all of them
	Held                Held
	HeldUp              uint32 // of Held.Ended, by a disk
	GivingWay           GivingWay

	BusConnected  bool
	BusStatistics map[string]uint64
	PolicyFiles   []string
	PolicyError   string
}

// Ability is what the kernel can do: (ss).
type Ability struct {
	State string // yes, no or unknown
	Why   string
}

// Latency is how long it took from a teardown to its memcg gone: (ttt).
type Latency struct{ Count, P50, P99 uint64 }

// PinnedBelow is what stays below an ancestor although it was reclaimed: (stta(st)).
type PinnedBelow struct {
	Ancestor string
	Dying    uint64
	Since    uint64
	Pins     []Pin
}

// PinnedSum is what a reason pins below all ancestors: (stt).
type PinnedSum struct {
	Reason        string
	Memcgs, Bytes uint64
}

// Held is what cgroup v1's hold has: (uuu).
type Held struct{ Live, Ended, Threads uint32 }

// GivingWay is the pressure that reaping has met: (sttdbs). Without any, Why is empty.
type GivingWay struct {
	Why          string
	Since, Until uint64
	Part         float64 // of its budget that reaping has
	Idle         bool    // no disk is busy, so it is not given way to
	Disk         string  // the busiest
}

// dictionary is a status as GetStatus answers it.
func (s Status) dictionary() map[string]dbus.Variant {
	v := reflect.ValueOf(cleaned(s))
	out := make(map[string]dbus.Variant, v.NumField())
	for i := range v.NumField() {
		out[v.Type().Field(i).Name] = dbus.MakeVariant(v.Field(i).Interface())
	}
	return out
}

// ParseStatus reads what GetStatus has answered. What is not there stays zero; an error means a value of another type.
func ParseStatus(d map[string]dbus.Variant) (Status, error) {
	var s Status
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if value, ok := d[name]; ok {
			if err := dbus.Store([]any{value.Value()}, v.Field(i).Addr().Interface()); err != nil {
				return s, fmt.Errorf("%s in the answer of GetStatus: %w", name, err)
			}
		}
	}
	return s, nil
}

// statusCache keeps an answer for as long as the properties are kept.
type statusCache struct {
	mu   sync.Mutex
	last map[string]dbus.Variant
	at   time.Time
}

func (c *statusCache) get(read func() Status, fresh bool) map[string]dbus.Variant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if fresh || time.Since(c.at) >= freshFor {
		c.last, c.at = read().dictionary(), time.Now()
	}
	return c.last
}
