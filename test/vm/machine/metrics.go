package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metricsSocket is where scopereapd tells its metrics.
const metricsSocket = "/run/scopereap/metrics.sock"

// Metrics are samples of Prometheus' text format: by name with labels, as they stand there.
type Metrics map[string]float64

// Metrics asks the daemon for its metrics, as Prometheus would through a proxy of the socket.
func (m *Machine) Metrics(ctx context.Context) (Metrics, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", metricsSocket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: time.Minute}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: %s", resp.Status)
	}
	return parseMetrics(resp.Body)
}

// parseMetrics reads the text format without timestamps.
func parseMetrics(r io.Reader) (Metrics, error) {
	out := Metrics{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		l := lines.Text()
		if l == "" || l[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(l, ' ')
		v, err := strconv.ParseFloat(l[i+1:], 64)
		if i <= 0 || err != nil {
			return nil, fmt.Errorf("metrics: bad line %q", l)
		}
		out[l[:i]] = v
	}
	return out, lines.Err()
}

// Sum adds up all series of a metric.
func (m Metrics) Sum(name string) float64 {
	sum := m[name]
	for series, v := range m {
		if strings.HasPrefix(series, name+"{") {
			sum += v
		}
	}
	return sum
}

// Entry is one entry of the journal.
type Entry map[string]any

// Int returns a field that holds a number.
func (e Entry) Int(field string) (int64, error) {
	s, _ := e[field].(string)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("journal: %s=%q: %w", field, s, err)
	}
	return n, nil
}

// Journal returns the entries of this boot that match, such as "MESSAGE_ID=…".
func (m *Machine) Journal(ctx context.Context, match ...string) ([]Entry, error) {
	out, err := Run(ctx, "journalctl", append([]string{"-b", "-q", "-o", "json", "--no-pager"}, match...)...)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for line := range strings.Lines(out) {
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("journalctl: %w: %.200q", err, line)
		}
		entries = append(entries, e)
	}
	return entries, nil
}
