package linger

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var autoRules = Auto{TeardownsPerHour: 4, MaxUsers: 2, ForgetAfter: 24 * time.Hour}

var anybody = func(uint32) bool { return true }

// epoch is when the tests of churn begin.
var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// tear notes n teardowns, one every, the last at the time returned.
func (b churnBook) tear(uid uint32, n int, from time.Time, every time.Duration, session bool) time.Time {
	for range n {
		from = from.Add(every)
		b.note(churn{uid, from, session})
	}
	return from
}

func TestChurnEarns(t *testing.T) {
	for _, c := range []struct {
		name  string
		n     int
		every time.Duration
		auto  Auto
		want  bool
	}{
		{"more than N", 5, 10 * time.Minute, autoRules, true},
		{"just N", 4, 10 * time.Minute, autoRules, false},
		{"spread over more than an hour", 50, 16 * time.Minute, autoRules, false},
		{"off", 50, time.Minute, Auto{MaxUsers: 9, ForgetAfter: time.Hour}, false},
		{"no room", 50, time.Minute, Auto{TeardownsPerHour: 1, ForgetAfter: time.Hour}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := churnBook{}
			end := b.tear(1000, c.n, epoch, c.every, false)
			b.decide(c.auto, end, anybody)
			if got := len(b.earned()) == 1; got != c.want {
				t.Errorf("earned: %t, want %t", got, c.want)
			}
		})
	}
}

func TestSessionsEarnNobodyAnything(t *testing.T) {
	b := churnBook{}
	end := b.tear(1000, 500, epoch, 20*time.Second, true)
	b.decide(autoRules, end, anybody)
	if len(b) != 0 {
		t.Errorf("book %v", b)
	}
}

func TestNoRoomForMore(t *testing.T) {
	b := churnBook{}
	for uid := uint32(1000); uid < 1004; uid++ {
		b.tear(uid, 5+int(uid-1000), epoch, time.Minute, false)
	}
	now := epoch.Add(10 * time.Minute)
	b.decide(autoRules, now, func(uid uint32) bool { return uid != 1003 })
	if diff := cmp.Diff([]uint32{1001, 1002}, b.earned()); diff != "" {
		t.Errorf("who churns most and may (-want +got):\n%s", diff)
	}
	// One who churns more comes too late, and takes nobody's place.
	b.tear(1000, 50, now, time.Second, false)
	now = now.Add(time.Minute)
	b.decide(autoRules, now, anybody)
	if diff := cmp.Diff([]uint32{1001, 1002}, b.earned()); diff != "" {
		t.Errorf("a place was taken (-want +got):\n%s", diff)
	}
	less := autoRules
	less.MaxUsers = 1
	b.decide(less, now, anybody)
	if diff := cmp.Diff([]uint32{1001}, b.earned()); diff != "" {
		t.Errorf("MaxUsers lowered (-want +got):\n%s", diff)
	}
}

func TestKeptByItsSessionsAndForgotten(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration // between ends of sessions
		keeps bool
	}{
		{"as many as before", 10 * time.Minute, true},
		{"just half", 29 * time.Minute, true},
		{"fewer than half", 61 * time.Minute, false},
		{"so close together that the slice would have stayed", 10 * time.Second, false},
		{"quiet", 1000 * time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := churnBook{}
			now := b.tear(1000, 5, epoch, time.Minute, false)
			b.decide(autoRules, now, anybody)
			next := now.Add(c.every)
			// Three days, with a restart each hour and a decision every 5 minutes.
			for end := now.Add(72 * time.Hour); now.Before(end); now = now.Add(5 * time.Minute) {
				for ; !next.After(now); next = next.Add(c.every) {
					b.note(churn{1000, next, true})
				}
				if now.Minute() < 5 {
					text, err := json.Marshal(b)
					if err != nil {
						t.Fatal(err)
					}
					b = churnBook{}
					if err := json.Unmarshal(text, &b); err != nil {
						t.Fatal(err)
					}
				}
				b.decide(autoRules, now, anybody)
				if age := now.Sub(epoch); len(b.earned()) == 0 && age < 24*time.Hour {
					t.Fatalf("forgotten after %v", age)
				}
			}
			if got := len(b.earned()) == 1; got != c.keeps {
				t.Errorf("earned after three days: %t, want %t", got, c.keeps)
			}
		})
	}
}

// One who churns at any steady rate changes hands at most once: there is no rate at which linger
// comes and goes.
func TestNothingFlaps(t *testing.T) {
	for _, every := range []time.Duration{11 * time.Second, time.Minute, 12 * time.Minute, 14 * time.Minute, 15 * time.Minute,
		16 * time.Minute, 29 * time.Minute, 31 * time.Minute, time.Hour} {
		b := churnBook{}
		changes, was := 0, false
		for now := epoch; now.Before(epoch.Add(10 * 24 * time.Hour)); now = now.Add(every) {
			b.note(churn{1000, now, was}) // while lingering the slice stays, and sessions end
			b.decide(autoRules, now, anybody)
			if is := len(b.earned()) == 1; is != was {
				changes++
				was = is
			}
		}
		if changes > 1 {
			t.Errorf("every %v: %d changes in ten days", every, changes)
		}
	}
}

func TestClockSetBack(t *testing.T) {
	b := churnBook{}
	now := b.tear(1000, 20, epoch.Add(10000*time.Hour), time.Minute, false)
	b.decide(autoRules, now, anybody)
	now = epoch
	for range 30 {
		now = now.Add(time.Hour)
		b.decide(autoRules, now, anybody)
	}
	if len(b) != 0 {
		t.Errorf("kept for ever: %+v", b[1000])
	}
}

func TestChurnBookIsBounded(t *testing.T) {
	b := churnBook{}
	for uid := range uint32(2 * maxChurners) {
		b.note(churn{uid, epoch.Add(time.Duration(uid) * time.Second), false})
	}
	if len(b) > maxChurners {
		t.Errorf("%d users", len(b))
	}
	last := uint32(2*maxChurners - 1)
	if b[last] == nil || b[0] != nil {
		t.Error("the oldest should have made room")
	}
	b.tear(last, 10*maxChurn, epoch, time.Second, false)
	if n := len(b[last].Times); n != maxChurn {
		t.Errorf("%d times of one user, want %d", n, maxChurn)
	}
}

func TestRuleTurnedOff(t *testing.T) {
	b := churnBook{}
	now := b.tear(1000, 5, epoch, time.Minute, false)
	b.decide(autoRules, now, anybody)
	b.decide(Auto{}, now, anybody)
	if len(b.earned()) != 0 {
		t.Error("the rule is gone, what it gave is not")
	}
}
