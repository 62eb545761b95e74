package reclaim

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachKeyed(t *testing.T) {
	type pair struct {
		Key   string
		Value int64
	}
	for _, c := range []struct {
		name, data string
		want       []pair
		bad        string // the line the error quotes
	}{
		{name: "empty"},
		{name: "two", data: "anon 1\nfile 20\n", want: []pair{{"anon", 1}, {"file", 20}}},
		{name: "blank line", data: "anon 1\n\nfile 2\n", want: []pair{{"anon", 1}, {"file", 2}}},
		{name: "too large", data: "anon 18446744073709551615\n", want: []pair{{"anon", math.MaxInt64}}},
		{name: "far too large", data: "anon 99999999999999999999999999\n", want: []pair{{"anon", math.MaxInt64}}},
		{name: "largest", data: "anon 9223372036854775807\n", want: []pair{{"anon", math.MaxInt64}}},
		{name: "cut in a number", data: "anon 1\nfile 2", want: []pair{{"anon", 1}}, bad: "file 2"},
		{name: "cut in a key", data: "anon 1\nfi", want: []pair{{"anon", 1}}, bad: "fi"},
		{name: "negative", data: "anon -1\n", bad: "anon -1"},
		{name: "no value", data: "anon\n", bad: "anon"},
		{name: "empty value", data: "anon \n", bad: "anon "},
		{name: "no key", data: " 7\n", bad: " 7"},
		{name: "three words", data: "anon 1 2\n", bad: "anon 1 2"},
		{name: "hex", data: "anon 0x10\n", bad: "anon 0x10"},
		{name: "long", data: strings.Repeat("x", 500) + "\n", bad: strings.Repeat("x", quotedLine)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []pair
			err := eachKeyed("memory.stat", []byte(c.data), func(k []byte, v int64) { got = append(got, pair{string(k), v}) })
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			var pe *ParseError
			switch {
			case c.bad == "" && err != nil:
				t.Error(err)
			case c.bad != "" && (!errors.As(err, &pe) || pe.Line != c.bad || !strings.Contains(err.Error(), "memory.stat")):
				t.Errorf("error %v, want one that names memory.stat and %q", err, c.bad)
			}
		})
	}
}

func FuzzEachKeyed(f *testing.F) {
	f.Add([]byte("anon 1\nfile 20\n"))
	f.Add([]byte("a 99999999999999999999\n\n"))
	f.Add([]byte("a -1\nb"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		err := eachKeyed("x", data, func(k []byte, v int64) {
			if v < 0 || len(k) == 0 {
				t.Errorf("%q %d", k, v)
			}
			fmt.Fprintf(&again, "%s %d\n", k, v)
		})
		var pe *ParseError
		if err != nil && (!errors.As(err, &pe) || pe.File != "x" || !bytes.Contains(data, []byte(pe.Line))) {
			t.Errorf("error %v does not name the file and one of its lines", err)
		}
		// What was taken in reads the same once more.
		var third bytes.Buffer
		if err := eachKeyed("x", again.Bytes(), func(k []byte, v int64) { fmt.Fprintf(&third, "%s %d\n", k, v) }); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(again.String(), third.String()); d != "" {
			t.Error(d)
		}
	})
}

func TestParseLimitFile(t *testing.T) {
	for _, c := range []struct {
		data string
		want int64
		bad  bool
	}{
		{data: "0\n"},
		{data: "max\n", want: Unlimited},
		{data: "4096\n", want: 4096},
		{data: "9223372036854771712\n", want: 9223372036854771712},
		{data: "18446744073709551615\n", want: math.MaxInt64},
		{data: "", bad: true},
		{data: "\n", bad: true},
		{data: "40", bad: true},
		{data: "ma", bad: true},
		{data: "-1\n", bad: true},
		{data: "1 2\n", bad: true},
		{data: "1\n2\n", bad: true},
		{data: "max\nmax\n", bad: true},
	} {
		got, err := parseLimitFile("memory.max", []byte(c.data))
		var pe *ParseError
		if errors.As(err, &pe) != c.bad || got != c.want {
			t.Errorf("%q: %d, %v", c.data, got, err)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"max\n", "0\n", "123", "99999999999999999999\n", "-1\n", "1\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseLimitFile("memory.max", data)
		if err != nil {
			if v != 0 || !strings.HasPrefix(err.Error(), "memory.max: ") {
				t.Errorf("%d, %v", v, err)
			}
			return
		}
		if v < 0 {
			t.Errorf("%q gives %d", data, v)
		}
		if again, err := parseLimit("memory.max", []byte(formatLimit(v))); err != nil || again != v {
			t.Errorf("%d reads back as %d, %v", v, again, err)
		}
	})
}

func TestSaturation(t *testing.T) {
	for _, c := range [][3]int64{ // a, b, a-b
		{3, 5, -2}, {0, math.MaxInt64, -math.MaxInt64}, {-math.MaxInt64, math.MaxInt64, math.MinInt64},
		{math.MinInt64, 1, math.MinInt64}, {math.MinInt64, 0, math.MinInt64},
	} {
		if got := minus(c[0], c[1]); got != c[2] {
			t.Errorf("minus(%d, %d) = %d", c[0], c[1], got)
		}
	}
	for _, c := range [][3]int64{{3, 5, 8}, {math.MaxInt64, 1, math.MaxInt64}, {math.MaxInt64, 0, math.MaxInt64}} {
		if got := plus(c[0], c[1]); got != c[2] {
			t.Errorf("plus(%d, %d) = %d", c[0], c[1], got)
		}
	}
}

func TestHasWord(t *testing.T) {
	for data, want := range map[string]bool{
		"": false, "\n": false, "memory\n": true, "cpu memory pids\n": true, "memory_foo cpu\n": false, "xmemory\n": false,
	} {
		if hasWord([]byte(data), "memory") != want {
			t.Errorf("%q", data)
		}
	}
}
