package reclaim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestBudgetAnyMinute: whatever the pattern of spending, no window of a minute
// holds more than a minute's share and one overdraw.
func TestBudgetAnyMinute(t *testing.T) {
	const slice = 50 * time.Millisecond
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		share := []float64{0.001, 0.01, 0.05, 0.5, 1}[r.IntN(5)]
		burst := []time.Duration{0, slice, 250 * time.Millisecond, 3 * time.Second, time.Hour}[r.IntN(5)]
		now := time.Unix(1000, 0)
		b := NewBudget(share, burst, now)
		type spend struct {
			at time.Time
			d  time.Duration
		}
		var spent []spend
		var sum time.Duration
		allowed := time.Duration(share*float64(time.Minute)) + slice
		for range 3000 {
			if r.IntN(20) == 0 {
				now = now.Add(time.Duration(r.Int64N(int64(2 * time.Minute)))) // idle
			}
			want := time.Duration(r.Int64N(int64(300 * time.Millisecond)))
			if wait := b.Wait(want, now); wait > 0 {
				now = now.Add(wait)
				if again := b.Wait(want, now); again > 0 {
					t.Fatalf("share %v, burst %v: after waiting %v for %v, %v more", share, burst, wait, want, again)
				}
			}
			// Up to what is there, and a write that was under way.
			level := max(b.Level(now), 0)
			d := time.Duration(r.Int64N(int64(level)+1)) + time.Duration(r.Int64N(int64(slice)+1))
			b.Spend(d, now)
			spent = append(spent, spend{now, d})
			sum += d
			for len(spent) > 0 && now.Sub(spent[0].at) >= time.Minute {
				sum -= spent[0].d
				spent = spent[1:]
			}
			if sum > allowed+time.Millisecond {
				t.Fatalf("seed %d, share %v, burst %v: %v in a minute, allowed %v", seed, share, burst, sum, allowed)
			}
		}
	}
}

func TestBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := NewBudget(0.05, 250*time.Millisecond, now)
	if got := b.Level(now); got != 250*time.Millisecond {
		t.Errorf("begins with %v", got)
	}
	b.Spend(300*time.Millisecond, now)
	if got := b.Level(now); got != -50*time.Millisecond {
		t.Errorf("a debt of %v", got)
	}
	if got := b.Wait(0, now); got <= 0 {
		t.Errorf("a debt is waited off: %v", got)
	}
	// A share of 5 % less the burst fills 3 s - 250 ms in a minute.
	if got := b.Level(now.Add(2 * time.Second)); got < 41*time.Millisecond || got > 42*time.Millisecond {
		t.Errorf("after 2 s: %v", got)
	}
	now = now.Add(time.Hour)
	if got := b.Level(now); got != 250*time.Millisecond {
		t.Errorf("never more than the burst: %v", got)
	}
	if got := b.Level(now.Add(-time.Minute)); got != 250*time.Millisecond {
		t.Errorf("a clock that goes back: %v", got)
	}
	if got := b.Wait(time.Hour, now); got != 0 {
		t.Errorf("more than the bucket holds: %v", got)
	}
	b.Spend(time.Second, now)
	b.Set(0.5, time.Second, now)
	if got := b.Level(now); got != -750*time.Millisecond {
		t.Errorf("debts stay: %v", got)
	}
	if got := b.Level(now.Add(2 * time.Second)); got < 200*time.Millisecond || got > 250*time.Millisecond {
		t.Errorf("filled by the new share: %v", got)
	}
	b.Set(0.5, time.Millisecond, now.Add(2*time.Second))
	if got := b.Level(now.Add(2 * time.Second)); got != time.Millisecond {
		t.Errorf("a smaller bucket: %v", got)
	}
	b.Set(0, 0, now.Add(2*time.Second))
	b.Spend(time.Second, now.Add(2*time.Second))
	if got := b.Wait(time.Millisecond, now.Add(2*time.Second)); got != longestWait {
		t.Errorf("nothing fills it: %v", got)
	}
}

func TestTurnShare(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		share                 float64
		overhead, burst, want time.Duration
	}{
		{0.05, 0, 250 * ms, 40 * ms},
		{0.05, 10 * ms, 250 * ms, 40 * ms},
		{0.05, 20 * ms, 250 * ms, overheadPart * 20 * ms},
		{0.05, time.Second, 250 * ms, 125 * ms}, // the rest of the burst is the next teardown's
		{0.05, time.Second, 10 * ms, 10 * ms},   // a whole turn would never be there
		{1, 0, 250 * ms, 250 * ms},
	} {
		if got := turnShare(tt.share, tt.overhead, tt.burst); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestPace: no second takes more than the share, unless one turn alone does, and
// then they take no more in all.
func TestPace(t *testing.T) {
	const ms, share, turns = time.Millisecond, 0.05, 200
	for _, turn := range []time.Duration{ms, 7 * ms, 20 * ms, 26 * ms, 37 * ms, 50 * ms, 75 * ms, 125 * ms} {
		var p pace
		now := time.Unix(0, 0)
		var spent []spending
		for len(spent) < turns {
			wait := p.wait(share, turn, now)
			if wait < 0 || wait > paceMemory {
				t.Fatalf("turns of %s: waits %s", turn, wait)
			}
			began := now.Add(wait)
			now = began.Add(turn)
			p.spend(turn, began, now)
			spent = append(spent, spending{turn, began, now})
		}
		// Every second that ends with a turn: in none is there more.
		room := time.Duration(share * float64(paceSecond))
		for _, last := range spent {
			from, sum := last.end.Add(-paceSecond), time.Duration(0)
			for _, s := range spent {
				if s.end.After(from) && !s.end.After(last.end) {
					sum += min(s.end.Sub(from), s.cpu)
				}
			}
			if sum > max(room, turn) {
				t.Fatalf("turns of %s: %s in a second", turn, sum)
			}
		}
		took := spent[turns-1].end.Sub(spent[0].began)
		if most := time.Duration(share * float64(took)); turn > room && turn < 100*ms && turns*turn > most+turn {
			t.Errorf("turns of %s: %s in %s", turn, turns*turn, took)
		}
		if turn == 7*ms && took > 35*time.Second {
			t.Errorf("200 turns of 7 ms, 7 of which fit in a second, took %s", took)
		}
	}
	if wait := (&pace{}).wait(0, ms, time.Unix(0, 0)); wait != 0 {
		t.Errorf("with nothing spent it waits %s", wait)
	}
}

func TestPaceRoom(t *testing.T) {
	const ms, share = time.Millisecond, 0.05
	var p pace
	at := func(d time.Duration) time.Time { return time.Unix(100, 0).Add(d) }
	if got := p.room(share, at(0)); got != 50*ms {
		t.Errorf("with nothing spent: %s", got)
	}
	p.spend(10*ms, at(0), at(12*ms))
	p.spend(25*ms, at(20*ms), at(50*ms))
	for _, tt := range []struct{ now, want time.Duration }{
		{50 * ms, 15 * ms},
		{12*ms + paceWindow, 25 * ms}, // the first is out of it
		{50*ms + paceWindow, 50 * ms},
	} {
		if got := p.room(share, at(tt.now)); got != tt.want {
			t.Errorf("at %s: %s, want %s", tt.now, got, tt.want)
		}
	}
	p.spend(70*ms, at(2*time.Second), at(3*time.Second))
	if got := p.room(share, at(3*time.Second)); got != 0 {
		t.Errorf("after more than a second's share: %s", got)
	}
}

// TestExpect: what the pace keeps room for.
func TestExpect(t *testing.T) {
	const ms, share = time.Millisecond, 40 * time.Millisecond
	now := time.Unix(100, 0)
	turns, none := newQueue(), newQueue()
	turns.sweep("/due", now)
	none.sweep("/later", now.Add(time.Second))
	none.teardown("/fresh", now, now, 0)
	for _, tt := range []struct {
		name  string
		en    entry
		going bool
		queue *queue
		want  time.Duration
	}{
		{"a first turn after other work", entry{}, true, turns, 3*ms + share/firstPart},
		{"one after a wait", entry{}, false, turns, share},
		{"one that goes on with a rest", entry{rest: &rest{}}, true, turns, 50 * ms},
		{"the same after a wait", entry{rest: &rest{}}, false, turns, 50 * ms},
		{"a look after other work", entry{phase: phaseSettle}, true, turns, 2 * ms},
		{"a look at what is left", entry{phase: phaseSettle, rest: &rest{}}, true, turns, 2 * ms},
		{"a look after a wait, before a turn", entry{phase: phaseSettle}, false, turns, share},
		{"a look that no turn follows", entry{phase: phaseSettle}, false, none, 2 * ms},
		{"v1, of which nothing is known", entry{phase: phaseForce}, true, none, share},
	} {
		e := &Engine{beside: 3 * ms, queue: tt.queue}
		e.took[phaseSettle], e.took[phaseTurn] = 2*ms, 50*ms
		if got := e.expect(&tt.en, share, tt.going, now); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestPlanManyAncestors: a sweep of many places with a few dying each takes
// several at a time, wakes up for each time once, and keeps to the share.
func TestPlanManyAncestors(t *testing.T) {
	const ms, ancestors, share, waking = time.Millisecond, 100, 0.05, time.Millisecond
	for _, tt := range []struct {
		turn, look time.Duration
		wakes      int
		wall       time.Duration
	}{
		{ms, ms / 2, 20, 5 * time.Second},              // 200 ms in all, 5 % of 4 s
		{15 * ms, 4 * ms, ancestors, 60 * time.Second}, // 2 s: 5 % of 40 s
	} {
		now := time.Unix(100, 0)
		began, cpu, wakes := now, time.Duration(0), 0
		e := &Engine{queue: newQueue(), budget: NewBudget(share, time.Second, now)}
		for i := range ancestors {
			e.queue.sweep(fmt.Sprintf("/a%d", i), now)
		}
		var spent []spending
		for going := false; len(e.queue.entries) > 0; {
			en, grant, wait := e.plan(Config{Share: share, Burst: time.Second}, going, now)
			if going = wait == 0; wait > 0 {
				now = now.Add(wait)
				cpu += waking
				wakes++
				continue
			}
			used, before, phase := tt.look, cpu, en.phase
			if phase == phaseTurn {
				if used = tt.turn; grant <= 0 {
					t.Fatal("a turn of nothing")
				}
				en.settle(now.Add(used))
			} else {
				e.queue.remove(en)
			}
			s := spending{used, now, now.Add(used)}
			now, cpu = s.end, cpu+used
			e.worked(en, phase, s, before, cpu)
			spent = append(spent, s)
		}
		for _, last := range spent {
			sum := time.Duration(0)
			for _, s := range spent {
				if s.began.After(last.end.Add(-paceSecond)) && !s.end.After(last.end) {
					sum += s.cpu
				}
			}
			if room := time.Duration(share * float64(paceSecond)); sum > room {
				t.Errorf("%v: %s within a second", tt, sum)
			}
		}
		if wall := now.Sub(began); wakes > tt.wakes || wall > tt.wall {
			t.Errorf("%v: %d wake-ups in %s", tt, wakes, wall)
		}
	}
}
