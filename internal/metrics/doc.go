// Package metrics tells Prometheus what scopereapd sees and does.
//
// [List] is what there is; docs/metrics.md shows the same table, and a test
// holds the two equal. The metrics can be had on a Unix socket, on a TCP address
// and as a file for node_exporter, each as the policy says ([Metrics.Run]).
//
// Asking costs the machine little, however often and by whomever: answers are
// a second old at most unless somebody asks again, the census behind them is
// cached for longer ([census]), and a client that does not read holds up nobody
// else. The engine is never waited for.
//
// Everyone on the machine may read them. So they name cgroups, which everyone
// can see, and never users, sessions or cron entries, which the ledger knows.
package metrics
